"""Tardis `incremental_book_L2`: one row per level that changed, with its new amount; 0 removes it.

Rows of one message have one `local_timestamp`; its book is shown after the last of them. Rows marked as snapshot begin the book anew:
at the start of a file, and wherever the recorder had to connect again. What was missed there nobody knows, so the session is closed
and opened at that place. Changes before the first snapshot are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from framework.errors import ConfigError
from framework.market.formats.book import BookSide
from framework.market.formats.columns import Header, first_and_last, lot_of, numbers_in, read_columns, tick_of, times_of, to_units
from framework.market.formats.layouts import TARDIS, tardis_instrument
from framework.market.formats.lines import PlainBytes, head_of
from framework.market.formats.mapping import TimeColumn
from framework.market.formats.rows import BOOK, Books, Halts, Levels, Rows, merged, numbered
from framework.messages import BookSnapshot, MarketEvent, SessionChanged
from framework.model import Instrument
from framework.window import LEVELS, Int64Array

COLUMNS: Final = (*TARDIS, "is_snapshot", "side", "price", "amount")
_TYPES: Final = {
    "symbol": pa.string(), "timestamp": pa.int64(), "local_timestamp": pa.int64(), "is_snapshot": pa.bool_(), "side": pa.string(),
    "price": pa.float64(), "amount": pa.float64(),
}  # fmt: skip
_MICROSECONDS: Final = TimeColumn(columns=["timestamp"], unit="us")
_CROSSED: Final = "crossed books left out"
_JOINT: Final = "gap: the recorder connected again"
_SIDES: Final = pa.array(["bid", "ask"])

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

    def rows(self, first_sequence: int) -> Iterator[Rows]:
        """Yield the same events as rows, from a book that compiled code keeps."""
        # Loaded where it is used: the compiler costs 60 MB and a tenth of a second.
        from framework.market.formats.compiled_changes import CompiledChanges

        changes = CompiledChanges()
        self.next_sequence = first_sequence
        line = 0
        with PlainBytes(self.path) as content:
            for line, batch in read_columns(content, self.path, self._header, _TYPES):
                fields = self._fields(batch, line)
                books, shown, joints, refused = changes.take(fields)
                if refused >= 0:
                    self.line = line + refused
                    raise self._of_no_side(batch.column("side")[refused].as_py())
                rows = self._rows_of(books, shown, line, joints, fields[0][joints])
                self.read_share = content.share
                self.next_sequence += int((rows.kinds == BOOK).sum())
                yield rows
                self.line = line + batch.num_rows - 1
        rows = self._rows_of(*changes.last(), self.line, *[np.empty(0, np.int64)] * 2)
        self.next_sequence += len(rows)
        yield rows
        if changes.crossed:
            self.notes[_CROSSED] = self.notes.get(_CROSSED, 0) + changes.crossed
        self.read_share = 1.0

    def _fields(self, batch: pa.RecordBatch, line: int) -> Int64Array:
        times = [times_of(batch.column(name), _MICROSECONDS, self.path, line) for name in ("local_timestamp", "timestamp")]
        sides = pc.index_in(batch.column("side"), _SIDES).fill_null(-1).to_numpy(zero_copy_only=False)
        prices, amounts = (numbers_in(batch, [name])[:, 0] for name in ("price", "amount"))
        ticks, lots = to_units(prices, self._tick, self.path, line), to_units(amounts, self._lot, self.path, line)
        return np.stack([*times, np.asarray(batch.column("is_snapshot")).astype(np.int64), sides.astype(np.int64), ticks, lots])

    def _rows_of(self, books: Int64Array, shown: Int64Array, line: int, joints: Int64Array, joined_ns: Int64Array) -> Rows:
        bids, asks = (
            Levels.of(shown[:, 2 * side], shown[:, 2 * side + 1], np.arange(LEVELS) < books[1 + side][:, None]) for side in (0, 1)
        )
        # The book before the recorder lost its connection comes before the word that it did.
        at, closings = 2 * (line + books[0]), np.repeat(2 * (line + joints) + 1, 2)
        halts = Halts(closings, np.repeat(joined_ns, 2), [False, True] * len(joints), [_JOINT] * len(closings))
        rows = merged(self.instruments[0].instrument_id, "line", Books(at, books[3], books[4], bids, asks), halts=halts)
        rows = numbered(rows, self.next_sequence + np.cumsum(rows.kinds == BOOK) - 1)
        return replace(rows, numbers=rows.numbers // 2)

    def _of_no_side(self, side: str) -> ConfigError:
        return ConfigError(f"{self.path}: line {self.line} has the side {side!r}, allowed are bid and ask; fetch the file again")

    def _scan(self) -> None:
        symbols: set[str] = set()
        with PlainBytes(self.path) as content:
            self.start_ns, self.end_ns = first_and_last(self._arrivals(content, symbols), self.path)
        if len(symbols) != 1:
            raise ConfigError(f"{self.path}: holds {len(symbols)} symbols; split it by symbol")

    def _arrivals(self, content: PlainBytes, symbols: set[str]) -> Iterator[tuple[int, Int64Array]]:
        """Yield the times of each block with the line it begins at; what symbols it holds goes to `symbols`."""
        types = {name: _TYPES[name] for name in ("symbol", "local_timestamp")}
        for line, batch in read_columns(content, self.path, self._header, types, max_rows=1 << 20):
            symbols |= set(batch.column("symbol").unique().to_pylist())
            yield line, times_of(batch.column("local_timestamp"), _MICROSECONDS, self.path, line)

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
            raise self._of_no_side(row[3])
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
                reason=_JOINT,
            )
