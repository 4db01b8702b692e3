"""Events as rows of columns, as they lie in a recording: what an import writes, without an object for each event.

A format builds its trades and its books apart, each with the number of the row (record, line) that it came from, and `merged`
brings them into their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from framework.market.recording import BAR_SCHEMA, SCHEMA
from framework.messages import SessionChanged
from framework.model import Side
from framework.window import Int64Array

BOOK, TRADE, SESSION, BAR = 0, 1, 2, 3
KIND_NAMES: Final = pa.array(["book", "trade", "session"])
_AGGRESSORS: Final = pa.array([str(Side.BUY), str(Side.SELL)])
NOBODY, BUYER, SELLER = -1, 0, 1
"""Who began a trade."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Events of one instrument in order of arrival: a batch of `recording.SCHEMA` (bars: of `BAR_SCHEMA`).

    `numbers` says which `word` of the file ("line", "record") each event came from.
    """

    instrument_id: str
    batch: pa.RecordBatch
    arrivals: Int64Array
    kinds: Int64Array
    numbers: Int64Array
    word: str

    def __len__(self) -> int:
        return len(self.arrivals)

    @property
    def is_bars(self) -> bool:
        """Return whether these are bars."""
        return bool(len(self)) and self.kinds[0] == BAR

    def where(self, index: int) -> str:
        """Return which line, row or record of the file an event came from."""
        return f"{self.word} {self.numbers[index]}"

    def part(self, begin: int, end: int) -> Rows:
        """Return the events from `begin` to before `end`."""
        one = slice(begin, end)
        batch = self.batch.slice(begin, end - begin)
        return Rows(self.instrument_id, batch, self.arrivals[one], self.kinds[one], self.numbers[one], self.word)

    def without(self, indices: Int64Array) -> Rows:
        """Return the events but those at `indices`."""
        kept = np.ones(len(self), np.bool_)
        kept[indices] = False
        batch = self.batch.filter(pa.array(kept))
        return Rows(self.instrument_id, batch, self.arrivals[kept], self.kinds[kept], self.numbers[kept], self.word)

    def session_changes(self) -> Iterator[tuple[int, SessionChanged]]:
        """Yield the openings and closings among the events, with their indices."""
        if self.is_bars:
            return
        for index in np.flatnonzero(self.kinds == SESSION).tolist():
            is_open, reason = (self.batch.column(name)[index].as_py() for name in ("is_open", "reason"))
            yield (
                index,
                SessionChanged(instrument_id=self.instrument_id, ts_event=int(self.arrivals[index]), is_open=is_open, reason=reason),
            )

    def crossed(self) -> Int64Array:
        """Return the indices of the books that are crossed or locked."""
        books = np.flatnonzero(self.kinds == BOOK)
        if not len(books):
            return books
        bids, asks = (self.batch.column(name) for name in ("bid_ticks", "ask_ticks"))
        bid_from, ask_from = (np.asarray(side.offsets).astype(np.int64) for side in (bids, asks))
        both = books[(np.diff(bid_from)[books] > 0) & (np.diff(ask_from)[books] > 0)]
        return both[np.asarray(bids.values)[bid_from[both]] >= np.asarray(asks.values)[ask_from[both]]]


@runtime_checkable
class InRows(Protocol):
    """A source that can hand out its events as rows: the same ones in the same order as its `events`."""

    def rows(self, first_sequence: int) -> Iterator[Rows]:
        """Yield the events in blocks. Keeps `read_share` and `next_sequence` current; raises as `events`."""


class Levels(NamedTuple):
    """One side of books, best level first: how many levels each has, and the ticks and lots of all, one book behind the other."""

    counts: Int64Array
    ticks: Int64Array
    sizes: Int64Array

    @classmethod
    def of(cls, ticks: npt.NDArray[Any], sizes: npt.NDArray[Any], is_there: npt.NDArray[np.bool_]) -> Levels:
        """Take the levels that are there of matrices (books, levels)."""
        return cls(is_there.sum(axis=1), ticks[is_there].astype(np.int64), sizes[is_there].astype(np.int64))


class Books(NamedTuple):
    """Books: the number that each came from, its times, its levels."""

    numbers: Int64Array
    ts_event: Int64Array
    ts_recv: Int64Array
    bids: Levels
    asks: Levels


class Trades(NamedTuple):
    """Trades: the number that each came from, its times, price in ticks, lots, and who began it."""

    numbers: Int64Array
    ts_event: Int64Array
    ts_recv: Int64Array
    prices: Int64Array
    sizes: Int64Array
    aggressors: Int64Array


class Halts(NamedTuple):
    """Openings and closings of the session: the number that each came from, its time, and its reason."""

    numbers: Int64Array
    ts_event: Int64Array
    are_open: list[bool]
    reasons: list[str]


_NONE: Final = np.empty(0, np.int64)
NO_LEVELS: Final = Levels(_NONE, _NONE, _NONE)
NO_BOOKS: Final = Books(_NONE, _NONE, _NONE, NO_LEVELS, NO_LEVELS)
NO_TRADES: Final = Trades(_NONE, _NONE, _NONE, _NONE, _NONE, _NONE)
NO_HALTS: Final = Halts(_NONE, _NONE, [], [])


def merged(instrument_id: str, word: str, books: Books = NO_BOOKS, trades: Trades = NO_TRADES, halts: Halts = NO_HALTS) -> Rows:
    """Return the events in the order of their numbers; of one number halts come first, then trades, then the book.

    Each is numbered (`sequence`) by its number; `numbered` gives running ones.
    """
    counts = len(halts.numbers), len(trades.numbers), len(books.numbers)
    numbers = np.concatenate([halts.numbers, trades.numbers, books.numbers])
    order = np.argsort(numbers, kind="stable")
    kinds = np.repeat(np.array([SESSION, TRADE, BOOK]), counts)[order]
    ts_event = np.concatenate([halts.ts_event, trades.ts_event, books.ts_event])[order]
    ts_recv = np.concatenate([halts.ts_event, trades.ts_recv, books.ts_recv])[order]
    is_trade, is_book, is_halt = (kinds == kind for kind in (TRADE, BOOK, SESSION))
    columns = {
        "kind": pa.DictionaryArray.from_arrays(pa.array(kinds.astype(np.int8)), KIND_NAMES).cast(pa.string()),
        "instrument_id": pa.repeat(pa.scalar(instrument_id), len(kinds)),
        "ts_event": pa.array(ts_event),
        "ts_recv": pa.array(ts_recv, mask=is_halt),
        "sequence": pa.array(numbers[order], mask=is_halt),
        **{f"{side}_{what}": _lists(counts, values, is_book) for side, what, counts, values in _sides(books)},
        "price_ticks": _spread(trades.prices, is_trade),
        "size": _spread(trades.sizes, is_trade),
        "aggressor": _aggressors(trades.aggressors, is_trade),
        "is_open": _sparse(halts.are_open, is_halt, pa.bool_()),
        "reason": _sparse(halts.reasons, is_halt, pa.string()),
    }
    batch = pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)
    return Rows(instrument_id, batch, ts_recv, kinds, numbers[order], word)


def in_one(parts: Sequence[Rows], by: Literal["numbers", "arrivals"] = "numbers") -> Rows:
    """Return rows of one instrument in the order of their numbers, or of arrival; what is equal stays in the order of the parts."""
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([getattr(one, by) for one in parts]), kind="stable")
    batch = pa.Table.from_batches([one.batch for one in parts]).take(pa.array(order)).combine_chunks().to_batches()[0]
    arrivals, kinds, numbers = (np.concatenate([getattr(one, name) for one in parts])[order] for name in ("arrivals", "kinds", "numbers"))
    return Rows(parts[0].instrument_id, batch, arrivals, kinds, numbers, parts[0].word)


def numbered(rows: Rows, sequences: Int64Array) -> Rows:
    """Return rows with other sequences."""
    place = SCHEMA.get_field_index("sequence")
    column = pa.array(sequences, mask=rows.kinds == SESSION)
    return Rows(rows.instrument_id, rows.batch.set_column(place, "sequence", column), rows.arrivals, rows.kinds, rows.numbers, rows.word)


def bar_rows(instrument_id: str, word: str, numbers: Int64Array, interval_s: float, columns: dict[str, Int64Array]) -> Rows:
    """Return bars: `columns` holds the whole numbers of `recording.BAR_SCHEMA`."""
    count = len(numbers)
    known = {"instrument_id": pa.repeat(pa.scalar(instrument_id), count), "interval_s": pa.repeat(pa.scalar(interval_s), count)}
    arrays = [known[name] if name in known else pa.array(columns[name]) for name in BAR_SCHEMA.names]
    batch = pa.RecordBatch.from_arrays(arrays, schema=BAR_SCHEMA)
    return Rows(instrument_id, batch, columns["ts_event"], np.full(count, BAR), numbers, word)


def _sides(books: Books) -> Iterable[tuple[str, str, Int64Array, Int64Array]]:
    for side, levels in (("bid", books.bids), ("ask", books.asks)):
        yield side, "ticks", levels.counts, levels.ticks
        yield side, "sizes", levels.counts, levels.sizes


def _lists(counts: Int64Array, values: Int64Array, is_book: npt.NDArray[np.bool_]) -> pa.ListArray:
    offsets = np.zeros(len(is_book) + 1, np.int32)
    offsets[1:][is_book] = counts
    return pa.ListArray.from_arrays(pa.array(np.cumsum(offsets, dtype=np.int32)), pa.array(values), mask=pa.array(~is_book))


def _spread(values: npt.NDArray[Any], is_there: npt.NDArray[np.bool_]) -> pa.Array:
    spread = np.zeros(len(is_there), np.int64)
    spread[is_there] = values
    return pa.array(spread, mask=~is_there)


def _aggressors(values: Int64Array, is_trade: npt.NDArray[np.bool_]) -> pa.Array:
    spread = np.full(len(is_trade), NOBODY, np.int8)
    spread[is_trade] = values
    return pa.DictionaryArray.from_arrays(pa.array(spread, mask=spread == NOBODY), _AGGRESSORS).cast(pa.string())


def _sparse(values: list[Any], is_there: npt.NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    if not values:
        return pa.nulls(len(is_there), kind)
    spread: list[Any] = [None] * len(is_there)
    for index, value in zip(np.flatnonzero(is_there).tolist(), values, strict=True):
        spread[index] = value
    return pa.array(spread, kind)
