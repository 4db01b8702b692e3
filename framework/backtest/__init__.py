"""Backtests: a whole trading process over recordings, and what it earned.

from framework.backtest import run

found = run("config/strategies/book_imbalance.yaml", ["rb_20250605.parquet"], ml="off")
found.facts["net"], found.trades   # plain values, polars frames
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framework.backtest.research import Backtest, run

__all__ = ["Backtest", "run"]


def __getattr__(name: str) -> Any:
    """Load what a notebook asks for when it does: its tables need polars, 30 MB that a run without tables does not pay for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from framework.backtest import research

    return getattr(research, name)
