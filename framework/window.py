"""The window: what one prediction is made from, and the columns that the DOM buffer, the wire and the dataset share.

A *row* is one book with the order flow since the book before. Missing levels have size 0 (and tick 0): a real level
always has size > 0. The layout is the contract between both processes; `ROW_SCHEMA_HASH` names it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

LEVELS: Final = 10

FLOW_COLUMNS: Final = (
    "buy_volume",
    "sell_volume",
    "unknown_volume",
    "buy_trades",
    "sell_trades",
    "bid_events",
    "ask_events",
    *(f"ofi_{level}" for level in range(1, LEVELS + 1)),
)
"""Flow since the row before: lots by aggressor, prints by aggressor, levels that changed per side, and order-flow
imbalance per level in lots (Cont, Kukanov, Stoikov 2014; per level: Xu, Gould, Howison 2019)."""

BAR_COLUMNS: Final = ("ts_event_s", "open", "high", "low", "close", "volume")
"""Bars as float64: end time in s UTC, prices in ticks, volume in lots."""

ROW_SCHEMA_HASH: Final = hashlib.sha256(repr((1, LEVELS, FLOW_COLUMNS, BAR_COLUMNS)).encode()).hexdigest()[:16]

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """`n` consecutive DOM rows of one instrument, oldest first, as copies that nobody else writes to.

    Shapes: `ts_event`, `sequence`, `segment` int64 (n,); ticks int32 (n, 10); sizes float32 (n, 10); flow float32
    (n, 17) by `FLOW_COLUMNS`. `segment` changes at every joint (session break, gap, restart): no window and no label
    crosses one.
    """

    ts_event: Int64Array
    sequence: Int64Array
    segment: Int64Array
    bid_ticks: Int32Array
    bid_sizes: Float32Array
    ask_ticks: Int32Array
    ask_sizes: Float32Array
    flow: Float32Array

    def __len__(self) -> int:
        return len(self.ts_event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Rows, recent bars (float64 (m, 6) by `BAR_COLUMNS`, m may be 0) and the facts of the instrument."""

    instrument_id: str
    tick_size: float
    has_trades: bool
    rows: Rows
    bars: Float64Array

    @property
    def as_of_ns(self) -> int:
        """Return the market time of the last row."""
        return int(self.rows.ts_event[-1])

    @property
    def as_of_sequence(self) -> int:
        """Return the book sequence of the last row."""
        return int(self.rows.sequence[-1])


class DomView(Protocol):
    """Read-only sight of one instrument's DOM buffer. Reading never suspends; `window` and `rows_since` copy."""

    @property
    def row_count(self) -> int:
        """Return how many rows of the current segment the buffer holds (at most `max_dom_history`)."""

    @property
    def total_rows(self) -> int:
        """Return how many rows were ever appended."""

    def window(self, rows: int) -> Window:
        """Return a copy of the last `rows` rows of the current segment (fewer if there are fewer)."""

    def rows_since(self, total: int) -> Rows:
        """Return a copy of the rows appended after the first `total` ever, as far as the buffer still holds them."""

    def mid_ticks(self) -> float | None:
        """Return the mid of the last row in ticks, or None while a side is empty."""
