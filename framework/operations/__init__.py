"""Running, watching and steering the trading process."""
