"""Backtests of compiled strategies: market, venue, gate, orders and strategy in one compiled loop, with the fills of a lean backtest."""
