"""What `start` is asked for, and what it has to say at the end."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
from rich.table import Table

from framework.config import MainConfig

SIMULATED: Final = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """The options of `start`, checked. `market` is `("simulated",)` or the files to replay; `speed` None means as fast as possible.

    `config_path` is None when there is no file and the defaults rule.
    """

    config: MainConfig
    config_path: Path | None
    state_dir: Path
    market: tuple[str, ...] = (SIMULATED,)
    speed: float | None = 1.0
    seed: int = 7
    duration_s: float | None = None
    record_dir: Path | None = None
    is_headless: bool = False
    is_json: bool = False
    is_debug: bool = False

    @property
    def is_simulated(self) -> bool:
        """Return whether the market is the built-in simulated one."""
        return self.market == (SIMULATED,)


class LeftOpen(msgspec.Struct, frozen=True, kw_only=True):
    """A position that a run left open: signed lots, average price, and the orders that protect it, in words."""

    strategy_id: str
    instrument_id: str
    quantity: int
    average_price: Decimal
    protected_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        protection = "; ".join(self.protected_by) or "nothing"
        return f"left open: {self.strategy_id} {self.quantity:+d} {self.instrument_id} at {self.average_price:f}, protected by {protection}"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did. Positions in lots, money in the currency of the account; `position` and money are sums over strategies."""

    events: int = 0
    predictions: int = 0
    predictions_late: int = 0
    predictions_failed: int = 0
    decisions: int = 0
    orders: int = 0
    fills: int = 0
    position: int = 0
    realized_pnl: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    feedback_recorded: int = 0
    feedback_acknowledged: int = 0
    trainings: int = 0
    model_version: str | None = None
    loop_lag_ms_p99: float = 0.0
    restarts: int = 0
    exit_code: int = 0
    reason: str = ""
    unrealized_pnl: Decimal = Decimal(0)
    market_time_s: float = 0.0
    wall_time_s: float = 0.0
    left_open: tuple[LeftOpen, ...] = ()
    counters: dict[str, int] = {}

    def to_json(self) -> str:
        """Return one line of JSON; money as text."""
        return msgspec.json.encode(self).decode()


_LABELS: Final = {
    "events": "market events",
    "predictions": "predictions",
    "predictions_late": "of them too late",
    "predictions_failed": "predictions failed",
    "decisions": "decisions",
    "orders": "orders",
    "fills": "fills",
    "position": "position (lots)",
    "realized_pnl": "realized PnL",
    "unrealized_pnl": "unrealized PnL",
    "fees": "fees",
    "feedback_recorded": "feedback recorded",
    "feedback_acknowledged": "feedback acknowledged",
    "trainings": "trainings",
    "model_version": "model",
    "loop_lag_ms_p99": "loop lag p99 (ms)",
    "restarts": "restarts of the ML process",
    "market_time_s": "market time (s)",
    "wall_time_s": "wall time (s)",
}


def summary_table(summary: Summary) -> Table:
    """Return the summary as a table for a terminal."""
    table = Table(title="Summary", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for name, label in _LABELS.items():
        table.add_row(label, _cell(getattr(summary, name)))
    for one in summary.left_open:
        table.add_row(f"left open: {one.strategy_id}", f"{one.quantity:+d} {one.instrument_id} at {one.average_price:f}")
        table.add_row("  protected by", "\n".join(one.protected_by) or "nothing")
    return table


def _cell(value: object) -> str:
    if value is None:
        return "none"
    formats = ((float, ",.2f"), (Decimal, ",f"), (int, ","))
    return next((f"{value:{spec}}" for kind, spec in formats if isinstance(value, kind)), str(value))
