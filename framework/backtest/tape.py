"""What a run leaves to be measured: the touch of every book, every fill, order, decision and prediction, as they pass on the bus."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np

from framework.messages import (
    BookSnapshot,
    DecisionMade,
    Filled,
    Message,
    OrderUpdated,
    PredictionFailed,
    PredictionReceived,
)
from framework.window import Float64Array, Int32Array, Int64Array

MISSING: Final = -(1 << 31)
"""In place of the price of a side that is missing: sound prices are within 32 bits."""


class Touch(msgspec.Struct, frozen=True, kw_only=True):
    """Best prices of an instrument over time, in ticks; `MISSING` where a side is. `ts_event` (n,) ns ascends.

    `mid_ticks` (n,) is the mid; where a side is missing, the last one before (NaN before the first).
    """

    ts_event: Int64Array
    bid_ticks: Int32Array
    ask_ticks: Int32Array
    mid_ticks: Float64Array

    def is_whole(self, where: int) -> bool:
        """Return whether a book had both sides."""
        return bool(self.bid_ticks[where] != MISSING and self.ask_ticks[where] != MISSING)

    def mid_at(self, times_ns: Int64Array) -> Float64Array:
        """Return the mid of the last book at or before each time; NaN before the first."""
        where = np.searchsorted(self.ts_event, times_ns, side="right") - 1
        if not len(self.mid_ticks):
            return np.full(len(times_ns), np.nan)
        return np.asarray(np.where(where >= 0, self.mid_ticks[where], np.nan))


class _Columns:
    """Times and touch of one instrument as they come, 16 bytes a book."""

    __slots__ = ("ask", "bid", "ts")

    def __init__(self) -> None:
        self.ts, self.bid, self.ask = array("q"), array("i"), array("i")


class Tape:
    """A tap of the bus. It keeps 16 bytes a book and the messages about what the strategies did."""

    def __init__(self) -> None:
        self.fills: list[Filled] = []
        self.orders: list[OrderUpdated] = []
        self.decisions: list[DecisionMade] = []
        self.predictions: list[PredictionReceived] = []
        self.failures: list[PredictionFailed] = []
        self._books: dict[str, _Columns] = {}
        self._touches: dict[str, Touch] = {}
        self._take: dict[type, Callable[[Any], None]] = {
            BookSnapshot: self._note_book,
            OrderUpdated: self.orders.append,
            Filled: self.fills.append,
            DecisionMade: self.decisions.append,
            PredictionReceived: self.predictions.append,
            PredictionFailed: self.failures.append,
        }

    def tap_of(self, kind: type[Message]) -> Callable[[Any], None] | None:
        """Return what sees the messages of a type, None for a type that is not kept."""
        return self._take.get(kind)

    def __call__(self, message: Message) -> None:
        """See one message."""
        take = self._take.get(type(message))
        if take is not None:
            take(message)

    def touch(self, instrument_id: str) -> Touch:
        """Return the best prices of an instrument, worked out once, after the run: nothing is copied but the mids."""
        found = self._touches.get(instrument_id)
        if found is None:
            columns = self._books.get(instrument_id) or _Columns()
            bid, ask = np.frombuffer(columns.bid, np.int32), np.frombuffer(columns.ask, np.int32)
            found = Touch(ts_event=np.frombuffer(columns.ts, np.int64), bid_ticks=bid, ask_ticks=ask, mid_ticks=_mids(bid, ask))
            self._touches[instrument_id] = found
        return found

    def put_touch(self, instrument_id: str, facts: Int64Array, levels: Int64Array) -> None:
        """Take all books of an instrument at once: `facts` and `levels` as in `MarketColumns`."""
        columns = self._books[instrument_id] = _Columns()
        columns.ts.frombytes(facts[:, 0].tobytes())
        for column, side, depth in ((columns.bid, 0, facts[:, 3]), (columns.ask, 2, facts[:, 4])):
            column.frombytes(np.where(depth > 0, levels[:, side, 0], MISSING).astype(np.int32).tobytes())

    def _note_book(self, book: BookSnapshot) -> None:
        columns = self._books.get(book.instrument_id)
        if columns is None:
            columns = self._books[book.instrument_id] = _Columns()
        columns.ts.append(book.ts_event)
        columns.bid.append(book.bid_ticks[0] if book.bid_ticks else MISSING)
        columns.ask.append(book.ask_ticks[0] if book.ask_ticks else MISSING)


def _mids(bid: Int32Array, ask: Int32Array) -> Float64Array:
    # A long recording has many books: no second array of their size unless one of them lacks a side.
    mids = np.add(bid, ask, dtype=np.float64)
    mids *= 0.5
    missing = (bid == MISSING) | (ask == MISSING)
    if missing.any():
        known = np.maximum.accumulate(np.where(missing, -1, np.arange(len(mids))))
        mids = np.where(known >= 0, mids[known], np.nan)
    return mids
