"""LOBSTER order-book data of NASDAQ stocks: a message file and the book after each message, in the provider's zip or unpacked.

Row i of the order-book file is the book after row i of the message file. Every row yields its book, numbered by its row, also where
it is the book before (an execution of a hidden order): who counts rows counts the file's. An execution also yields a trade, ahead of its
book; the file names the side of the resting order, so the aggressor is the other one. A cross trade has no aggressor.
Times are seconds after midnight in New York on the date in the file's name.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from framework.errors import ConfigError, IntegrityError
from framework.market.formats.columns import Array, Header, parse_blocks
from framework.market.formats.lines import BROKEN
from framework.market.formats.recording import numbered_events
from framework.market.formats.rows import BUYER, NOBODY, SELLER, Books, Halts, Levels, Rows, Trades, merged, numbered
from framework.messages import MarketEvent
from framework.model import NS_PER_S, Instrument
from framework.window import LEVELS

TICK: Final = 100
"""One cent in the unit of the files, a ten-thousandth of a dollar."""
NO_LEVEL: Final = 9_999_999_999
"""Price of a level that is not there (with a minus on the bid side)."""

_NAME: Final = re.compile(r"(?P<symbol>[A-Z][A-Z.\-]*)_(?P<date>\d{4}-\d\d-\d\d)_\d+_\d+_(?P<kind>message|orderbook)_(?P<levels>\d+)\.csv")
_NEW_YORK: Final = ZoneInfo("America/New_York")
_MESSAGE_TYPES: Final = {
    "time": pa.decimal128(18, 9),
    "type": pa.int8(),
    "order_id": pa.int64(),
    "size": pa.int64(),
    "price": pa.int64(),
    "direction": pa.int8(),
}
_EXECUTIONS: Final = (4, 5, 6)
_HIDDEN: Final = 5
_CROSS: Final = 6
_HALT: Final = 7
_BLOCK_BYTES: Final = 1 << 20
_SESSIONS: Final = {-1: (False, "halt"), 1: (True, "halt over")}

Opener = Callable[[], AbstractContextManager[IO[bytes]]]


def is_name(name: str) -> bool:
    """Return whether a file of this name is one half of an unpacked pair."""
    return _NAME.fullmatch(name) is not None


class LobsterSource:
    """One stock on one day. Opening reads the message file's times from end to end.

    `path` is the provider's zip, or the message or order-book file of an unpacked pair. Of more than ten levels the best ten are
    replayed. Raises `ConfigError` (no pair, rows out of order) or `IntegrityError` (cut or damaged).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read_share = 0.0
        self.next_sequence = 0
        self.row = 0
        name, self._open_messages, self._open_books = _pair_in_zip(path) if zipfile.is_zipfile(path) else _pair_of_files(path)
        self._levels = int(name["levels"])
        self._midnight_ns = _midnight_ns(name["date"], path)
        self.instruments: tuple[Instrument, ...] = (
            Instrument(instrument_id=f"{name['symbol']}.NASDAQ", tick_size=Decimal("0.01"), session_gap_s=600.0),
        )
        self._scan()

    def where(self) -> str:
        """Return which row the last event came from."""
        return f"row {self.row}"

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield per row its trade or halt, then its book, numbered from `first_sequence` by row."""
        for rows in self.rows(first_sequence):
            for self.row, event in numbered_events(rows):
                yield event

    def rows(self, first_sequence: int) -> Iterator[Rows]:
        """Yield the same events as rows."""
        self.next_sequence = first_sequence
        rows_read = 0
        for messages, books in self._batches():
            self._check_types(messages, rows_read)
            rows = self._rows(messages, books, rows_read)
            yield numbered(rows, rows.numbers + first_sequence) if first_sequence else rows
            rows_read += messages.num_rows
            self.next_sequence = first_sequence + rows_read
            self.read_share = rows_read / self._row_count

    def _scan(self) -> None:
        first = last = None
        count = 0
        for batch in self._read(self._open_messages, _MESSAGE_TYPES, "message", wanted=("time",)):
            times = self._times(batch)
            self._refuse_backwards(times, last, count)
            first, last, count = (int(times[0]) if first is None else first), int(times[-1]), count + len(times)
        if first is None or last is None:
            raise ConfigError(f"{self.path}: the message file holds no rows; fetch it again")
        self.start_ns, self.end_ns, self._row_count = first, last, count

    def _refuse_backwards(self, times: Array, before: int | None, first_row: int) -> None:
        joined = times if before is None else np.concatenate(([before], times))
        backwards = np.flatnonzero(np.diff(joined) < 0)
        if backwards.size:
            row = first_row + int(backwards[0]) + (before is None)
            raise ConfigError(f"{self.path}: message row {row} is earlier than the row before; fetch the file again, or sort both by time")

    def _check_types(self, messages: pa.RecordBatch, first_row: int) -> None:
        odd = np.flatnonzero(~np.isin(_column(messages, "type"), (1, 2, 3, *_EXECUTIONS, _HALT)))
        if odd.size:
            kind = _column(messages, "type")[odd[0]]
            raise ConfigError(f"{self.path}: message row {first_row + int(odd[0])} has the unknown type {kind}, allowed are 1 to 7")

    def _times(self, messages: pa.RecordBatch) -> Array:
        # A decimal is 16 little-endian bytes; of times with 9 decimals the lower 8 are the nanoseconds.
        column = messages.column("time")
        if column.null_count:
            raise ConfigError(f"{self.path}: a message row has no time; fetch the file again")
        raw = np.frombuffer(column.buffers()[1], "<i8")[2 * column.offset :][: 2 * len(column) : 2]
        return raw + self._midnight_ns

    def _batches(self) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
        names = {f"{side}_{what}_{level}": pa.int64() for level in range(self._levels) for side in ("ask", "bid") for what in ("p", "s")}
        messages = self._read(self._open_messages, _MESSAGE_TYPES, "message")
        books = self._read(self._open_books, names, "order-book")
        left, right = next(messages, None), next(books, None)
        row = 0
        while left is not None and right is not None:
            count = min(left.num_rows, right.num_rows)
            yield left.slice(0, count), right.slice(0, count)
            row += count
            left = left.slice(count) if count < left.num_rows else next(messages, None)
            right = right.slice(count) if count < right.num_rows else next(books, None)
        if left is not None or right is not None:
            shorter = "order-book" if right is None else "message"
            raise IntegrityError(f"{self.path}: the {shorter} file ends after row {row - 1}, before the other one; fetch both again")

    def _read(self, opener: Opener, types: dict[str, pa.DataType], kind: str, *, wanted: tuple[str, ...] = ()) -> Iterator[pa.RecordBatch]:
        parsed = {name: types[name] for name in wanted} or types
        try:
            with opener() as file:
                for _, batch in parse_blocks(iter(lambda: file.read(_BLOCK_BYTES), b""), self.path, Header(tuple(types), 0, ","), parsed):
                    yield batch
        except IntegrityError as exc:
            raise IntegrityError(f"{exc} (in its {kind} file)") from exc
        except BROKEN as exc:
            raise IntegrityError(f"{self.path}: the {kind} file is cut or damaged: {str(exc)[:200]}; fetch it again") from exc

    # --- rows to events ----------------------------------------------------------------------------------------------------

    def _rows(self, messages: pa.RecordBatch, books: pa.RecordBatch, first_row: int) -> Rows:
        numbers, times = np.arange(first_row, first_row + messages.num_rows), self._times(messages)
        asks, bids = self._side(books, "ask", first_row), self._side(books, "bid", first_row)
        trades, halts = self._trades(messages, numbers, times), self._halts(messages, numbers, times)
        return merged(self.instruments[0].instrument_id, "row", Books(numbers, times, times, bids, asks), trades, halts)

    def _trades(self, messages: pa.RecordBatch, numbers: Array, times: Array) -> Trades:
        kinds = _column(messages, "type")
        at = np.flatnonzero(np.isin(kinds, _EXECUTIONS))
        kinds, prices, resting = kinds[at], _column(messages, "price")[at], _column(messages, "direction")[at]
        aggressors = np.where(kinds == _CROSS, NOBODY, np.where(resting == 1, SELLER, BUYER))
        odd = np.flatnonzero((prices % TICK != 0) & (kinds != _HIDDEN))
        if odd.size:
            row, price = numbers[at[odd[0]]], prices[odd[0]] / 10_000
            raise ConfigError(f"{self.path}: message row {row} has the price {price}, no whole number of cents; fetch the file again")
        # Hidden orders rest at the mid too, half a cent between two ticks: counted at the tick that is worse for who came.
        ticks = prices // TICK + ((prices % TICK > 0) & (aggressors != SELLER))
        return Trades(numbers[at], times[at], times[at], ticks, _column(messages, "size")[at], aggressors)

    @staticmethod
    def _halts(messages: pa.RecordBatch, numbers: Array, times: Array) -> Halts:
        codes = _column(messages, "price")
        at = np.flatnonzero((_column(messages, "type") == _HALT) & np.isin(codes, list(_SESSIONS)))
        found = [_SESSIONS[code] for code in codes[at].tolist()]
        return Halts(numbers[at], times[at], [is_open for is_open, _ in found], [reason for _, reason in found])

    def _side(self, books: pa.RecordBatch, side: str, first_row: int) -> Levels:
        levels = range(min(self._levels, LEVELS))
        prices = np.stack([_column(books, f"{side}_p_{level}") for level in levels], axis=1)
        sizes = np.stack([_column(books, f"{side}_s_{level}") for level in levels], axis=1)
        is_there = (sizes > 0) & (np.abs(prices) != NO_LEVEL)
        odd = np.argwhere((prices % TICK != 0) & is_there)
        if odd.size:
            row, level = odd[0].tolist()
            price = prices[row, level] / 10_000
            raise ConfigError(f"{self.path}: order-book row {first_row + row} has the price {price}, no whole number of cents")
        return Levels.of(prices // TICK, sizes, is_there)


def _column(batch: pa.RecordBatch, name: str) -> Array:
    return batch.column(name).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _midnight_ns(day: str, path: Path) -> int:
    try:
        midnight = datetime.combine(date.fromisoformat(day), datetime.min.time(), _NEW_YORK)
    except ValueError as exc:
        raise ConfigError(f"{path}: its name holds no date: found {day}; give the file back its name") from exc
    return round(midnight.timestamp()) * NS_PER_S


def _pair_in_zip(path: Path) -> tuple[re.Match[str], Opener, Opener]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [found for name in archive.namelist() if (found := _NAME.fullmatch(Path(name).name))]
            members = {found["kind"]: name for name in archive.namelist() if (found := _NAME.fullmatch(Path(name).name))}
    except (zipfile.BadZipFile, OSError, ValueError) as exc:
        raise IntegrityError(f"{path}: a cut or damaged zip: {str(exc)[:200]}; fetch it again") from exc
    if len(names) != 2 or len(members) != 2:
        raise ConfigError(f"{path}: must hold one pair SYMBOL_DATE_START_END_message_LEVELS.csv and ..._orderbook_LEVELS.csv")
    return names[0], _member_opener(path, members["message"]), _member_opener(path, members["orderbook"])


def _member_opener(path: Path, member: str) -> Opener:
    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            yield file

    return opened


def _pair_of_files(path: Path) -> tuple[re.Match[str], Opener, Opener]:
    name = _NAME.fullmatch(path.name)
    if name is None:
        raise ConfigError(f"{path}: is not named like SYMBOL_DATE_START_END_message_LEVELS.csv; give the file back its name")
    pair = [path.with_name(path.name.replace(f"_{name['kind']}_", f"_{kind}_")) for kind in ("message", "orderbook")]
    for one in pair:
        if not one.is_file():
            raise ConfigError(f"{one}: is missing beside {path.name}; a pair is one recording")
    return name, lambda: pair[0].open("rb"), lambda: pair[1].open("rb")
