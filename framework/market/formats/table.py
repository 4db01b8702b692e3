"""CSV files with a mapping: one row is a book, a trade or a bar. Read twice: once for the times, then lazily for everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from framework.errors import ConfigError
from framework.market.formats.columns import (
    Array,
    Header,
    first_and_last,
    lot_of,
    numbers_in,
    read_columns,
    tick_of,
    times_of,
    to_units,
)
from framework.market.formats.lines import PlainBytes, head_of
from framework.market.formats.mapping import BarColumns, BookColumns, TableMapping, TimeColumn, TradeColumns
from framework.market.formats.recording import numbered_events
from framework.market.formats.rows import BUYER, NOBODY, SELLER, Books, Levels, Rows, Trades, bar_rows, merged, numbered
from framework.messages import MarketEvent
from framework.model import NS_PER_S, Instrument
from framework.window import LEVELS

_CROSSED: Final = "crossed books left out"


class TableSource:
    """One CSV file, plain or compressed, of one instrument. Opening reads its times from end to end.

    Raises `ConfigError` (columns missing, rows out of order or twice) or `IntegrityError` (cut or damaged).
    """

    def __init__(self, path: Path, mapping: TableMapping, *, instrument: Instrument | None = None, header: Header | None = None) -> None:
        self.path = path
        self.read_share = 0.0
        self.next_sequence = 0
        self.line = 0
        self.notes: dict[str, int] = {}
        self._mapping = mapping
        self.holds = next(f"{name}s" for name in ("book", "trade", "bar") if getattr(mapping, name) is not None)
        found = mapping.instrument.instrument() if instrument is None else instrument
        self.instruments: tuple[Instrument, ...] = (found,)
        self._tick, self._lot = tick_of(found), lot_of(found)
        self._header = header or Header.of(head_of(path), mapping.delimiter)
        self._arrival = mapping.receive_time or mapping.time
        self._shift_ns = 0
        if mapping.bar is not None and mapping.bar.time_is == "start":
            self._shift_ns = round(mapping.bar.interval_s * NS_PER_S)
        self._scan()

    def where(self) -> str:
        """Return which line the last event came from."""
        return f"line {self.line}"

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield one event per row, numbered from `first_sequence`."""
        for rows in self.rows(first_sequence):
            for self.line, event in numbered_events(rows):
                yield event

    def rows(self, first_sequence: int) -> Iterator[Rows]:
        """Yield the same events as rows."""
        self.next_sequence = first_sequence
        rows_of, types = self._reading()
        with PlainBytes(self.path) as content:
            for line, batch in read_columns(content, self.path, self._header, types):
                rows = rows_of(batch, line)
                if not rows.is_bars:
                    rows = numbered(rows, self.next_sequence + np.arange(len(rows)))
                yield rows
                self.next_sequence += len(rows)
                self.read_share = content.share
        self.read_share = 1.0

    def _scan(self) -> None:
        with PlainBytes(self.path) as content:
            blocks = read_columns(content, self.path, self._header, _time_types(self._arrival), max_rows=1 << 20)
            times = ((line, self._times(batch, self._arrival, line)) for line, batch in blocks)
            first, last = first_and_last(times, self.path, may_repeat=self._mapping.bar is None)
        self.start_ns, self.end_ns = first + self._shift_ns, last + self._shift_ns

    def _reading(self) -> tuple[Callable[[pa.RecordBatch, int], Rows], dict[str, pa.DataType]]:
        mapping = self._mapping
        types = _time_types(mapping.time) | _time_types(self._arrival)
        if mapping.book is not None:
            book = mapping.book
            return lambda batch, line: self._books(batch, line, book), types | dict.fromkeys(_level_names(book), pa.float64())
        if mapping.trade is not None:
            trade = mapping.trade
            side = {trade.side: pa.string()} if trade.side else {}
            return lambda batch, line: self._trades(batch, line, trade), types | dict.fromkeys(
                (trade.price, trade.size), pa.float64()
            ) | side
        bar = mapping.bar
        assert bar is not None  # the mapping has exactly one
        return lambda batch, line: self._bars(batch, line, bar), types | dict.fromkeys(_bar_names(bar), pa.float64())

    def _times(self, batch: pa.RecordBatch, columns: TimeColumn, line: int) -> Array:
        texts = [batch.column(name) for name in columns.columns]
        joined = texts[0] if len(texts) == 1 else _joined(*texts)
        return times_of(joined, columns, self.path, line)

    def _both_times(self, batch: pa.RecordBatch, line: int) -> tuple[Array, Array]:
        arrivals = self._times(batch, self._arrival, line)
        return (self._times(batch, self._mapping.time, line) if self._mapping.receive_time else arrivals), arrivals

    def _books(self, batch: pa.RecordBatch, line: int, book: BookColumns) -> Rows:
        bids, asks = (self._side(batch, line, *names) for names in _side_names(book))
        numbers = line + np.arange(batch.num_rows)
        rows = merged(self.instruments[0].instrument_id, "line", Books(numbers, *self._both_times(batch, line), bids, asks))
        crossed = rows.crossed()
        if not crossed.size:
            return rows
        if book.crossed == "refuse":
            raise ConfigError(
                f"{self.path}: line {numbers[crossed[0]]} is a crossed or locked book; `crossed: skip` in the mapping leaves such rows out"
            )
        self.notes[_CROSSED] = self.notes.get(_CROSSED, 0) + len(crossed)
        return rows.without(crossed)

    def _side(self, batch: pa.RecordBatch, line: int, prices: list[str], sizes: list[str]) -> Levels:
        price, size = numbers_in(batch, prices), numbers_in(batch, sizes)
        is_there = (size > 0) & np.isfinite(price)
        ticks = to_units(np.where(is_there, price, 0), self._tick, self.path, line)
        return Levels.of(ticks, to_units(np.where(is_there, size, 0), self._lot, self.path, line), is_there)

    def _trades(self, batch: pa.RecordBatch, line: int, trade: TradeColumns) -> Rows:
        values = numbers_in(batch, [trade.price, trade.size])
        odd = np.argwhere(~np.isfinite(values))
        if odd.size:
            raise ConfigError(f"{self.path}: line {line + int(odd[0][0])} has no price or size; fetch the file again")
        prices = to_units(values[:, 0], self._tick, self.path, line)
        sizes = to_units(values[:, 1], self._lot, self.path, line)
        numbers = line + np.arange(len(prices))
        began = _aggressors(batch.column(trade.side), trade) if trade.side else np.full(len(prices), NOBODY)
        return merged(
            self.instruments[0].instrument_id,
            "line",
            trades=Trades(numbers, *self._both_times(batch, line), prices, sizes, began),
        )

    def _bars(self, batch: pa.RecordBatch, line: int, bar: BarColumns) -> Rows:
        prices = self._bar_prices(batch, line, bar)
        volumes = self._bar_volumes(batch, line, bar)
        columns = {"ts_event": self._times(batch, self._mapping.time, line) + self._shift_ns}
        columns |= {f"{name}_ticks": prices[:, index] for index, name in enumerate(("open", "high", "low", "close"))}
        columns |= {name: volumes[:, index] for index, name in enumerate(("volume", "buy_volume", "sell_volume"))}
        numbers = line + np.arange(len(prices))
        return bar_rows(self.instruments[0].instrument_id, "line", numbers, bar.interval_s, columns)

    def _bar_prices(self, batch: pa.RecordBatch, line: int, bar: BarColumns) -> Array:
        values = numbers_in(batch, [bar.open, bar.high, bar.low, bar.close])
        inside = (values[:, [0, 2, 3]].max(axis=1) <= values[:, 1]) & (values[:, [0, 1, 3]].min(axis=1) >= values[:, 2])
        odd = np.flatnonzero(~inside)  # NaN too
        if odd.size:
            raise ConfigError(f"{self.path}: line {line + int(odd[0])} is no bar: open or close lie outside low and high, or are missing")
        return to_units(values, self._tick, self.path, line)

    def _bar_volumes(self, batch: pa.RecordBatch, line: int, bar: BarColumns) -> Array:
        names = [name for name in (bar.volume, bar.buy_volume, bar.sell_volume) if name is not None]
        lots = to_units(numbers_in(batch, names), self._lot, self.path, line)
        if len(names) == 3:
            return lots
        if bar.buy_volume is not None:
            return np.concatenate([lots, lots[:, :1] - lots[:, 1:]], axis=1)
        return np.concatenate([lots, np.zeros((len(lots), 3 - len(names)), np.int64)], axis=1)


def _aggressors(sides: pa.Array, trade: TradeColumns) -> Array:
    buys, sells = (pc.is_in(sides, pa.array(texts, pa.string())).to_numpy(zero_copy_only=False) for texts in (trade.buy, trade.sell))
    return np.where(sells, SELLER, np.where(buys, BUYER, NOBODY))


def _joined(day: pa.Array, time: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(pc.utf8_trim_whitespace(day), pc.utf8_trim_whitespace(time), " ")


def _time_types(columns: TimeColumn) -> dict[str, pa.DataType]:
    return dict.fromkeys(columns.columns, pa.string() if columns.unit == "text" else pa.int64())


def _side_names(book: BookColumns) -> tuple[tuple[list[str], list[str]], ...]:
    levels = range(book.first_level, book.first_level + min(book.levels, LEVELS))

    def named(pattern: str) -> list[str]:
        return [pattern.replace("{level}", str(level)) for level in levels]

    return (named(book.bid_price), named(book.bid_size)), (named(book.ask_price), named(book.ask_size))


def _level_names(book: BookColumns) -> list[str]:
    return [name for side in _side_names(book) for names in side for name in names]


def _bar_names(bar: BarColumns) -> list[str]:
    names = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.buy_volume, bar.sell_volume)
    return [name for name in names if name is not None]
