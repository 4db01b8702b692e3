"""Backtests: a whole trading process over recordings, and what it earned.

from framework.backtest import run

found = run("config/strategies/book_imbalance.yaml", ["rb_20250605.parquet"], ml="off")
found.facts["net"], found.trades   # plain values, polars frames
"""

from __future__ import annotations

from framework.backtest.research import Backtest, run

__all__ = ["Backtest", "run"]
