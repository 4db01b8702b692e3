"""Databento records as rows of columns: what `databento_streams` makes of them one by one, made of blocks of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from framework.market.formats.databento_streams import LAST_OF_EVENT, PRICE_SCALE, STREAMS, UNDEFINED_PRICE, UNDEFINED_TIME
from framework.market.formats.dbn_records import Records
from framework.market.formats.rows import BUYER, NO_BOOKS, NOBODY, SELLER, Books, Levels, Rows, Trades, bar_rows, in_one, merged, numbered
from framework.market.formats.units import OffUnit
from framework.model import NS_PER_S, Instrument
from framework.window import LEVELS, Int64Array

WORD: Final = "record"


class OffTick(OffUnit):
    """A price between two ticks, and the number of its record."""

    def __init__(self, number: int, price: int, tick: int, instrument_id: str) -> None:
        super().__init__(f"price {price / PRICE_SCALE} of {instrument_id} is not a multiple of its tick size {tick / PRICE_SCALE}")
        self.number = number


class Block(Protocol):
    """Blocks of records of one instrument to rows."""

    def take(self, records: Records, numbers: Int64Array) -> Rows:
        """Return what records say, by their `numbers` in the file. Raises `OffTick`."""


class TradeBlock:
    """Trades; the base of the others."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument_id = instrument.instrument_id
        self._tick = int(instrument.tick_size * PRICE_SCALE)

    def take(self, records: Records, numbers: Int64Array) -> Rows:
        """Return the trades."""
        return merged(self._instrument_id, WORD, trades=self._trades(records, numbers))

    def _trades(self, records: Records, numbers: Int64Array) -> Trades:
        found = np.flatnonzero((records["action"] == b"T") & (records["price"] != UNDEFINED_PRICE) & (records["size"] > 0))
        picked, places = records[found], numbers[found]
        sides = picked["side"]
        return Trades(
            places,
            picked["ts_event"].astype(np.int64),
            received(picked),
            self._ticks(picked["price"], places),
            picked["size"].astype(np.int64),
            np.where(sides == b"B", BUYER, np.where(sides == b"A", SELLER, NOBODY)),
        )

    def _ticks(self, prices: npt.NDArray[Any], numbers: Int64Array) -> Int64Array:
        odd = np.flatnonzero(prices % self._tick)
        if odd.size:
            raise OffTick(int(numbers[odd[0]]), int(prices[odd[0]]), self._tick, self._instrument_id)
        return np.asarray(prices // self._tick, np.int64)


class PriceBlock(TradeBlock):
    """Market by price: trades, and the books that changed at the end of an event."""

    def __init__(self, instrument: Instrument) -> None:
        super().__init__(instrument)
        self._last: npt.NDArray[Any] | None = None

    def take(self, records: Records, numbers: Int64Array) -> Rows:
        """Return trades and books, of one record the trade first."""
        trades = self._refusable(self._trades, records, numbers)
        books = self._refusable(self._books, records, numbers)
        refused = [one for one in (trades, books) if isinstance(one, OffTick)]
        if refused:
            raise min(refused, key=lambda one: one.number)
        return merged(self._instrument_id, WORD, books, trades)

    @staticmethod
    def _refusable(read: Any, records: Records, numbers: Int64Array) -> Any:
        try:
            return read(records, numbers)
        except OffTick as exc:
            return exc

    def _books(self, records: Records, numbers: Int64Array) -> Books:
        ends = np.flatnonzero(records["flags"] & LAST_OF_EVENT)
        levels = _plain_levels(records[ends])
        if not len(ends):
            return NO_BOOKS
        before = np.concatenate([levels[:1] if self._last is None else self._last, levels[:-1]])
        is_new = (levels != before).reshape(len(ends), -1).any(axis=1)
        is_new[0] |= self._last is None
        self._last = levels[-1:]
        ends, levels = ends[is_new], levels[is_new]
        places = numbers[ends]
        return Books(places, records["ts_event"][ends].astype(np.int64), received(records[ends]), *self._sides(levels, places))

    def _sides(self, levels: npt.NDArray[Any], numbers: Int64Array) -> tuple[Levels, Levels]:
        is_there = (levels[:, 1::2] > 0) & (levels[:, ::2] != UNDEFINED_PRICE)
        prices = np.where(is_there, levels[:, ::2], 0)
        count = prices.shape[1] * prices.shape[2]
        ticks = self._ticks(prices.reshape(-1), np.repeat(numbers, count)).reshape(prices.shape)
        bids, asks = (Levels.of(ticks[:, side], levels[:, 2 * side + 1], is_there[:, side]) for side in (0, 1))
        return bids, asks


class OrderBlock(TradeBlock):
    """Market by order: the book rebuilt from its orders, by compiled code."""

    def __init__(self, instrument: Instrument, book_interval_ns: int = 0) -> None:
        super().__init__(instrument)
        # Loaded where it is used: the compiler costs 60 MB and a tenth of a second.
        from framework.market.formats.compiled_orders import CompiledOrders

        self._book = CompiledOrders(self._tick, book_interval_ns)

    @property
    def unknown_orders(self) -> int:
        """Return how many records changed an order that nobody had added."""
        return self._book.unknown_orders

    def take(self, records: Records, numbers: Int64Array) -> Rows:
        """Return trades and books, of one record the trade first."""
        received_ns = received(records)
        letters = (records[name].view(np.uint8) for name in ("action", "side"))
        columns = [received_ns, records["price"], records["size"], *letters, records["flags"], records["order_id"].view(np.int64)]
        trades, books, shown, refused = self._book.take(np.stack([column.astype(np.int64) for column in columns]))
        if refused >= 0:
            raise OffTick(int(numbers[refused]), int(records["price"][refused]), self._tick, self._instrument_id)
        happened = records["ts_event"].astype(np.int64)
        at, ends = trades[0], books[0]
        bids, asks = (Levels.of(shown[:, 2 * side], shown[:, 2 * side + 1], _is_level(books[1 + side])) for side in (0, 1))
        return merged(
            self._instrument_id,
            WORD,
            Books(numbers[ends], happened[ends], received_ns[ends], bids, asks),
            Trades(numbers[at], happened[at], received_ns[at], trades[1], trades[2], trades[3]),
        )


class BarBlock(TradeBlock):
    """Bars, stamped with their end."""

    def __init__(self, instrument: Instrument, schema: str) -> None:
        super().__init__(instrument)
        self._shift_ns = STREAMS[schema].shift_ns

    def take(self, records: Records, numbers: Int64Array) -> Rows:
        """Return the bars."""
        names = ("open", "high", "low", "close")
        prices = np.stack([records[name] for name in names], axis=1)
        ticks = self._ticks(prices.reshape(-1), np.repeat(numbers, len(names))).reshape(prices.shape)
        none = np.zeros(len(records), np.int64)
        columns = {f"{name}_ticks": ticks[:, index] for index, name in enumerate(names)} | {
            "ts_event": records["ts_event"].astype(np.int64) + self._shift_ns,
            "volume": records["volume"].astype(np.int64),
            "buy_volume": none,
            "sell_volume": none,
        }
        return bar_rows(self._instrument_id, WORD, numbers, self._shift_ns / NS_PER_S, columns)


def block_for(schema: str, instrument: Instrument, book_interval_ns: int) -> Block:
    """Return who makes rows of a schema's records."""
    if schema == "mbo":
        return OrderBlock(instrument, book_interval_ns)
    if schema.startswith("ohlcv"):
        return BarBlock(instrument, schema)
    return TradeBlock(instrument) if schema == "trades" else PriceBlock(instrument)


def rows_of_all(blocks: Mapping[int, Block], records: Records, first: int, first_sequence: int) -> list[Rows]:
    """Return the rows of a block of records, an instrument at a time. Raises `OffTick` of the first record that is refused."""
    owners = records["instrument_id"]
    numbers = np.arange(first, first + len(records))
    found: dict[str, list[Rows]] = {}
    refused: list[OffTick] = []
    for owner in np.unique(owners).tolist():
        own = np.flatnonzero(owners == owner)
        try:
            rows = blocks[owner].take(records[own], numbers[own]) if owner in blocks else None
        except OffTick as exc:
            refused.append(exc)
            continue
        if rows is not None and len(rows):
            found.setdefault(rows.instrument_id, []).append(rows)
    if refused:
        raise min(refused, key=lambda one: one.number)
    return _in_order([in_one(rows) for rows in found.values()], first_sequence)


def _in_order(found: list[Rows], first_sequence: int) -> list[Rows]:
    """Return rows numbered over all instruments, in the order in which each begins."""
    found = sorted(found, key=lambda one: int(one.numbers[0]))
    if not found or found[0].is_bars:
        return found
    order = np.argsort(np.concatenate([one.numbers for one in found]), kind="stable")
    sequences = np.empty(len(order), np.int64)
    sequences[order] = first_sequence + np.arange(len(order))
    ends = np.cumsum([len(one) for one in found])
    return [numbered(one, sequences[end - len(one) : end]) for one, end in zip(found, ends.tolist(), strict=True)]


def received(records: Records) -> Int64Array:
    """Return when the capture server received records, or the venue's time where nobody noted that, ns UTC."""
    times = records["ts_recv"]
    return np.where(times == UNDEFINED_TIME, records["ts_event"], times).astype(np.int64)


def _plain_levels(records: Records) -> npt.NDArray[Any]:
    """Return levels as one matrix (records; bid ticks, bid lots, ask ticks, ask lots; levels)."""
    levels = records["levels"]
    return np.stack([levels[name].astype(np.int64) for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")], axis=1)


def _is_level(counts: Int64Array) -> npt.NDArray[np.bool_]:
    return np.asarray(np.arange(LEVELS) < counts[:, None])
