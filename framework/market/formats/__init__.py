"""One file per source of recorded market data."""
