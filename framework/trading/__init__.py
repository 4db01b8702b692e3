"""Orders out."""
