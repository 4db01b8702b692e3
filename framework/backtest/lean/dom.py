"""The DOM buffer of a lean backtest: filled when somebody looks."""

from __future__ import annotations

import numpy as np

from framework.backtest.lean.columns import BOOK, TRADE, MarketColumns
from framework.market.dom import DomBuffer
from framework.messages import BookInvalid, BookSnapshot, SessionChanged
from framework.window import Rows, Window


class LazyDom:
    """A `DomView` on `MarketColumns`: rows of the events before `upto` are written when it is read, without those that are gone by then."""

    def __init__(self, columns: MarketColumns, max_rows: int) -> None:
        self._columns = columns
        self._buffer = DomBuffer(columns.instrument, max_rows)
        self._written = 0
        self._book_places = np.flatnonzero(columns.kinds == BOOK)
        self.instrument = columns.instrument
        self.max_rows = max_rows
        self.upto = 0
        """How many events were heard."""

    @property
    def book(self) -> BookSnapshot | None:
        """Return the newest book."""
        return self._read().book

    @property
    def row_count(self) -> int:
        """Return how many rows of the current segment are held."""
        return self._read().row_count

    @property
    def total_rows(self) -> int:
        """Return how many rows were ever appended."""
        return self._read().total_rows

    def window(self, rows: int) -> Window:
        """Return a copy of the last `rows` rows of the current segment (fewer if there are fewer), without bars."""
        return self._read().window(rows)

    def rows_since(self, total: int) -> Rows:
        """Return a copy of the rows after the first `total` ever, as far as they are still held."""
        return self._read().rows_since(total)

    def mid_ticks(self) -> float | None:
        """Return the mid of the last row in ticks, or None while a side is empty."""
        return self._read().mid_ticks()

    def _read(self) -> DomBuffer:
        if self._written < self.upto:
            self._skip()
            self._write()
        return self._buffer

    def _skip(self) -> None:
        """Leave out rows that nobody can see any more; the one before the first that can is needed for its flow."""
        first, last = np.searchsorted(self._book_places, (self._written, self.upto)).tolist()
        unseen = last - first - self.max_rows - 1
        if unseen > 0:
            self._buffer.skip(unseen)
            self._written = int(self._book_places[first + unseen - 1]) + 1

    def _write(self) -> None:
        buffer, columns = self._buffer, self._columns
        kinds, places = (column[self._written : self.upto].tolist() for column in (columns.kinds, columns.places))
        for kind, place in zip(kinds, places, strict=True):
            if kind == BOOK:
                buffer.append(columns.books(place, place + 1)[0])
            elif kind == TRADE:
                buffer.add_trade(columns.trade_ticks(place, place + 1)[0])
            elif isinstance(columns.others[place], SessionChanged | BookInvalid):
                buffer.break_segment()
        self._written = self.upto
