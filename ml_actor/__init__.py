"""The ML process."""
