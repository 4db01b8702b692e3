"""Tardis `incremental_book_L2`: one row per level that changed, with its new amount; 0 removes it.

Rows of one message have one `local_timestamp`; its book is shown after the last of them. Rows marked as snapshot begin the book anew:
at the start of a file, and wherever the recorder had to connect again. What was missed there nobody knows, so the session is closed
and opened at that place. Changes before the first snapshot are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from framework.errors import ConfigError
from framework.market.formats.book import BookSide
from framework.market.formats.columns import Header, check_order, lot_of, numbers_in, read_columns, tick_of, times_of, to_units
from framework.market.formats.layouts import TARDIS, tardis_instrument
from framework.market.formats.lines import PlainBytes, head_of
from framework.market.formats.mapping import TimeColumn
from framework.messages import BookSnapshot, MarketEvent, SessionChanged
from framework.model import Instrument

COLUMNS: Final = (*TARDIS, "is_snapshot", "side", "price", "amount")
_TYPES: Final = {
    "symbol": pa.string(), "timestamp": pa.int64(), "local_timestamp": pa.int64(), "is_snapshot": pa.bool_(), "side": pa.string(),
    "price": pa.float64(), "amount": pa.float64(),
}  # fmt: skip
_MICROSECONDS: Final = TimeColumn(columns=["timestamp"], unit="us")
_CROSSED: Final = "crossed books left out"

Row = tuple[int, int, bool, str, int, int]


def is_incremental(names: tuple[str, ...]) -> bool:
    """Return whether a file with these columns is one of these."""
    return set(COLUMNS) <= set(names)


class TardisBookSource:
    """The book changes of one symbol. Opening reads the times once; raises `ConfigError` or `IntegrityError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read_share = 0.0
        self.next_sequence = 0
        self.line = 0
        self.notes: dict[str, int] = {}
        self.holds = "books"
        head = head_of(path)
        self._header = Header.of(head)
        found = tardis_instrument(path, self._header, head)
        # The trades lie in a file of their own.
        self.instruments: tuple[Instrument, ...] = (found,)
        self._tick, self._lot = tick_of(found), lot_of(found)
        self._bids, self._asks = BookSide(-1), BookSide(1)
        self._scan()

    def where(self) -> str:
        """Return which line the last event came from."""
        return f"line {self.line}"

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield a book per message, numbered from `first_sequence`."""
        self.next_sequence = first_sequence
        is_building = has_begun = False
        before: Row | None = None
        for row in self._rows():
            if before is not None and row[0] != before[0] and has_begun:
                yield from self._show(before)
            if row[2] and not is_building:
                if has_begun:
                    yield from self._joint(row)
                self._bids, self._asks = BookSide(-1), BookSide(1)
                has_begun = True
            is_building = row[2]
            if has_begun:
                self._apply(row)
            before = row
        if before is not None and has_begun:
            yield from self._show(before)
        self.read_share = 1.0

    def _scan(self) -> None:
        first = last = None
        symbols: set[str] = set()
        with PlainBytes(self.path) as content:
            types = {name: _TYPES[name] for name in ("symbol", "local_timestamp")}
            for line, batch in read_columns(content, self.path, self._header, types, max_rows=1 << 20):
                times = times_of(batch.column("local_timestamp"), _MICROSECONDS, self.path, line)
                last = check_order(times, last, self.path, line)
                first = int(times[0]) if first is None else first
                symbols |= set(batch.column("symbol").unique().to_pylist())
        if first is None or last is None:
            raise ConfigError(f"{self.path}: holds no rows below its header")
        if len(symbols) != 1:
            raise ConfigError(f"{self.path}: holds {len(symbols)} symbols; split it by symbol")
        self.start_ns, self.end_ns = first, last

    def _rows(self) -> Iterator[Row]:
        with PlainBytes(self.path) as content:
            for line, batch in read_columns(content, self.path, self._header, _TYPES):
                ticks = to_units(numbers_in(batch, ["price"])[:, 0], self._tick, self.path, line)
                lots = to_units(numbers_in(batch, ["amount"])[:, 0], self._lot, self.path, line)
                self.line = line - 1
                for row in zip(*self._plain(batch, line), ticks.tolist(), lots.tolist(), strict=True):
                    self.line += 1
                    yield row
                self.read_share = content.share

    def _plain(self, batch: pa.RecordBatch, line: int) -> tuple[list[int], list[int], list[bool], list[str]]:
        names = ("local_timestamp", "timestamp")
        received, happened = (times_of(batch.column(name), _MICROSECONDS, self.path, line) for name in names)
        return received.tolist(), happened.tolist(), np.asarray(batch.column("is_snapshot")).tolist(), batch.column("side").to_pylist()

    def _apply(self, row: Row) -> None:
        side = self._bids if row[3] == "bid" else self._asks
        if row[3] not in ("bid", "ask"):
            raise ConfigError(f"{self.path}: line {self.line} has the side {row[3]!r}, allowed are bid and ask; fetch the file again")
        side.put(row[4], row[5])

    def _show(self, row: Row) -> Iterator[BookSnapshot]:
        bid_ticks, bid_sizes = self._bids.best()
        ask_ticks, ask_sizes = self._asks.best()
        if bid_ticks and ask_ticks and bid_ticks[0] >= ask_ticks[0]:
            self.notes[_CROSSED] = self.notes.get(_CROSSED, 0) + 1
            return
        yield BookSnapshot(
            instrument_id=self.instruments[0].instrument_id,
            ts_event=row[1],
            ts_recv=row[0],
            sequence=self.next_sequence,
            bid_ticks=bid_ticks,
            bid_sizes=bid_sizes,
            ask_ticks=ask_ticks,
            ask_sizes=ask_sizes,
        )
        self.next_sequence += 1

    def _joint(self, row: Row) -> Iterator[SessionChanged]:
        for is_open in (False, True):
            yield SessionChanged(
                instrument_id=self.instruments[0].instrument_id,
                ts_event=row[0],
                is_open=is_open,
                reason="gap: the recorder connected again",
            )
