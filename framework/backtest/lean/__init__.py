"""Backtests without the trading process around them, for sweeps: the same strategies, the same fills, many times as fast."""
