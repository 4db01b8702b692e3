"""Snapshots of Chinese futures exchanges (SHFE layout): one Parquet row per snapshot, five levels, cumulative volume.

There are no single trades. Each row says how many lots traded since the row before and at which average price; where that
lies between the bid and the ask of the row before says how many of them buyers began (`split_lots`). Rows of the opening
auctions (20:59 and 08:59 China time) have volume that nobody's aggression moved: no trades are made of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from framework.errors import ConfigError, IntegrityError
from framework.market.formats.recording import numbered_events
from framework.market.formats.rows import BUYER, NOBODY, SELLER, Books, Levels, Rows, Trades, merged, numbered
from framework.messages import MarketEvent
from framework.model import Instrument

LEVELS: Final = 5
CHUNK_ROWS: Final = 4_096
BID_PRICES: Final = [f"bid{level}" for level in range(1, LEVELS + 1)]
BID_SIZES: Final = [f"bidSize{level}" for level in range(1, LEVELS + 1)]
ASK_PRICES: Final = [f"ask{level}" for level in range(1, LEVELS + 1)]
ASK_SIZES: Final = [f"askSize{level}" for level in range(1, LEVELS + 1)]
COLUMNS: Final = ["epochTime", "volume_chg", "avgprice", *BID_PRICES, *BID_SIZES, *ASK_PRICES, *ASK_SIZES]
IDENTITY: Final = ["instrumentID", "exchangeID"]

PRODUCTS: Final = {
    "ag": ("1", 15), "al": ("5", 5), "au": ("0.02", 1000), "bu": ("1", 10), "cu": ("10", 5), "fu": ("1", 10), "hc": ("1", 10),
    "ni": ("10", 1), "pb": ("5", 5), "rb": ("1", 10), "ru": ("5", 10), "sn": ("10", 1), "sp": ("2", 10), "ss": ("5", 5),
    "wr": ("1", 10), "zn": ("5", 5), "bc": ("10", 5), "lu": ("1", 10), "nr": ("5", 10), "sc": ("0.1", 1000),
}  # fmt: skip
"""Tick size in CNY and units per lot, by product code, of SHFE and its energy exchange INE."""

NO_QUOTE: Final = -(2**62)
"""In place of the best tick of a side that is empty."""

_AUCTION_MINUTES: Final = (20 * 60 + 59, 8 * 60 + 59)
_CHINA_OFFSET_S: Final = 8 * 3600

Array = npt.NDArray[Any]
Quote = tuple[int, int]


def is_layout(names: list[str]) -> bool:
    """Return whether a Parquet file with these columns is one of these."""
    return set(COLUMNS) | set(IDENTITY) <= set(names)


class ShfeSource:
    """One file of one instrument. Opening reads its identity and its times; raises `ConfigError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read_share = 0.0
        self.next_sequence = 0
        self.row = 0
        try:
            file = pq.ParquetFile(path)
            head = file.read(["epochTime", *IDENTITY])
        except (pa.ArrowException, OSError, ValueError) as exc:
            raise IntegrityError(f"{path}: not a readable Parquet file: {str(exc)[:200]}") from exc
        self._row_count = file.metadata.num_rows
        if not self._row_count:
            raise ConfigError(f"{path}: holds no rows")
        self.instruments: tuple[Instrument, ...] = (self._instrument(head),)
        self.start_ns, self.end_ns = self._span(head.column("epochTime"))
        self._tick_size = float(self.instruments[0].tick_size)

    def where(self) -> str:
        """Return which row the last event came from."""
        return f"row {self.row}"

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield per row the estimated trades since the row before, then the book, numbered from `first_sequence`."""
        for rows in self.rows(first_sequence):
            for self.row, event in numbered_events(rows):
                yield event

    def rows(self, first_sequence: int) -> Iterator[Rows]:
        """Yield the same events as rows."""
        quote = (NO_QUOTE, NO_QUOTE)
        self.next_sequence = first_sequence
        for batch in self._batches():
            self.row = self.next_sequence - first_sequence
            rows, quote = self._rows(batch, quote)
            yield numbered(rows, rows.numbers + first_sequence) if first_sequence else rows
            self.next_sequence += batch.num_rows
            self.read_share = (self.next_sequence - first_sequence) / self._row_count

    def _rows(self, batch: pa.RecordBatch, before: Quote) -> tuple[Rows, Quote]:
        """Return the rows of a batch, and its last quote."""
        times = batch.column("epochTime").to_numpy() * 1_000
        numbers = np.arange(self.row, self.row + len(times))
        lots = np.rint(np.nan_to_num(_floats(batch, ["volume_chg"])[:, 0])).astype(np.int64)
        lots[np.isin((times // 1_000_000_000 + _CHINA_OFFSET_S) % 86_400 // 60, _AUCTION_MINUTES)] = 0
        average = _floats(batch, ["avgprice"])[:, 0] / self._tick_size
        (bids, best_bids), (asks, best_asks) = self._levels(batch, BID_PRICES, BID_SIZES), self._levels(batch, ASK_PRICES, ASK_SIZES)
        bid, ask = (np.concatenate(([first], side[:-1])) for first, side in zip(before, (best_bids, best_asks), strict=True))
        moved = np.flatnonzero((lots > 0) & np.isfinite(average) & ((numbers > 0) | (bid != NO_QUOTE) | (ask != NO_QUOTE)))
        at, *trades = split_lots(lots[moved], average[moved], bid[moved], ask[moved])
        at = moved[at]
        rows = merged(
            self.instruments[0].instrument_id,
            "row",
            Books(numbers, times, times, bids, asks),
            Trades(numbers[at], times[at], times[at], *trades),
        )
        return rows, (int(best_bids[-1]), int(best_asks[-1]))

    def _levels(self, batch: pa.RecordBatch, prices: list[str], sizes: list[str]) -> tuple[Levels, Array]:
        """Return the levels that have a size, and the best tick of each row."""
        lots, level_prices = _floats(batch, sizes), _floats(batch, prices)
        is_there = (lots > 0) & np.isfinite(level_prices)
        levels = Levels.of(self._to_ticks(np.where(is_there, level_prices, 0.0)), np.where(is_there, lots, 0), is_there)
        best = np.full(len(lots), NO_QUOTE, np.int64)
        best[levels.counts > 0] = levels.ticks[(np.cumsum(levels.counts) - levels.counts)[levels.counts > 0]]
        return levels, best

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from pq.ParquetFile(self.path).iter_batches(CHUNK_ROWS, columns=COLUMNS)
        except (pa.ArrowException, OSError) as exc:
            raise IntegrityError(f"{self.path}: a page cannot be read: {str(exc)[:200]}") from exc

    def _instrument(self, head: pa.Table) -> Instrument:
        names = [head.column(name).unique().to_pylist() for name in IDENTITY]
        if any(len(values) != 1 or not isinstance(values[0], str) for values in names):
            raise ConfigError(f"{self.path}: must hold one instrument of one exchange, found {names}")
        symbol, exchange = names[0][0], names[1][0]
        code = re.match(r"[A-Za-z]*", symbol)
        product = PRODUCTS.get(code.group().lower() if code else "")
        if product is None:
            raise ConfigError(f"{self.path}: unknown product {symbol!r}, known are {', '.join(PRODUCTS)}")
        return Instrument(
            instrument_id=f"{symbol}.{exchange}",
            tick_size=Decimal(product[0]),
            multiplier=Decimal(product[1]),
            currency="CNY",
            session_gap_s=5.0,
        )

    def _span(self, column: pa.ChunkedArray) -> tuple[int, int]:
        if column.null_count or not pa.types.is_integer(column.type):
            raise ConfigError(f"{self.path}: epochTime must be whole microseconds without gaps")
        times_us = column.to_numpy()
        backwards = np.flatnonzero(np.diff(times_us) < 0)
        if backwards.size:
            raise ConfigError(f"{self.path}: row {backwards[0] + 1} is earlier than the row before; sort the file by epochTime")
        return int(times_us[0]) * 1_000, int(times_us[-1]) * 1_000

    def _to_ticks(self, prices: Array) -> Array:
        exact = prices / self._tick_size
        ticks = np.rint(exact)
        odd = np.argwhere(~(np.abs(exact - ticks) <= 1e-6))
        if odd.size:
            row, price = self.row + int(odd[0][0]), prices[tuple(odd[0])]
            raise ConfigError(
                f"{self.path}: row {row}: price {price} is not a multiple of the tick size {self._tick_size}; fetch the file again"
            )
        return ticks.astype(np.int64)


def split_lots(lots: Array, average: Array, bid: Array, ask: Array) -> tuple[Array, Array, Array, Array]:
    """Return (row, price, lots, who began) of the trades that moved `lots` at `average`, given the quote before them, in ticks.

    Sellers hit the bid and buyers lift the ask, so the average lies between the two in the ratio of their lots. Split to whole lots,
    the odd one to the nearer side; an average beyond the quote is all of one side. Without a quote on both sides (`NO_QUOTE`)
    nobody can say who began: one trade at the average, with no aggressor. Of one row the trade at the bid comes first.
    """
    is_quoted = (bid != NO_QUOTE) & (ask != NO_QUOTE) & (bid < ask)
    share = np.clip((average - bid) / np.where(is_quoted, ask - bid, 1), 0.0, 1.0)
    bought = np.rint(lots * share).astype(np.int64)
    kinds = (
        (~is_quoted, np.rint(average), lots, NOBODY),
        (is_quoted & (bought < lots), bid, lots - bought, SELLER),
        (is_quoted & (bought > 0), ask, bought, BUYER),
    )
    parts = [(np.flatnonzero(mask), price[mask], size[mask], np.full(int(mask.sum()), who)) for mask, price, size, who in kinds]
    rows, prices, sizes, began = (np.concatenate(column).astype(np.int64) for column in zip(*parts, strict=True))
    order = np.argsort(rows, kind="stable")
    return rows[order], prices[order], sizes[order], began[order]


def _floats(batch: pa.RecordBatch, names: list[str]) -> Array:
    columns = [batch.column(name).to_numpy(zero_copy_only=False).astype(np.float64) for name in names]
    return np.stack(columns, axis=1)
