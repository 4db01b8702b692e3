"""One recording to the rows of its books: row i is book i of the file, also where that book is of no use.

Read as `start --market` reads it, book by book through a DOM buffer. A session ends where the gap to the next book is longer than
the instrument's `session_gap_s`, and where the recording says so. Unlike live, a crossed or locked book does not end the session: it
becomes a row without a mid, which is not scored, so that rows keep the numbers that they have in the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from framework.dataset.schema import SCHEMA, to_table
from framework.errors import ConfigError, StorageError
from framework.evaluation_job import EvaluatedFile
from framework.logs import foreign
from framework.market.dom import DomBuffer
from framework.market.formats.source import Continues, Source
from framework.messages import BookSnapshot, SessionChanged, TradeTick
from framework.model import NS_PER_S, Instrument
from framework.remote_files import shown_name
from framework.research.evaluating.options import EvaluationOptions, Fee

BLOCK_ROWS: Final = 8_192
MAX_ROWS: Final = 5_000_000
"""A bound on memory: more rows than this need a shorter recording, or several evaluations."""

VENUE_FEES: Final = {
    "SHFE": Fee(amount=Decimal(1), is_basis_points=True),
    "NASDAQ": Fee(amount=Decimal("0.003")),
    "BINANCEUM": Fee(amount=Decimal(5), is_basis_points=True),
    "BINANCECM": Fee(amount=Decimal(5), is_basis_points=True),
}
"""Usual taking fees: SHFE rebar 1 bp of turnover, NASDAQ the 0.003 USD a share of its access fee cap, Binance perpetuals 5 bp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFile:
    """A recording that was read: where its rows are, and what identifies them."""

    name: str
    role: str
    rows_file: Path
    instrument: Instrument
    rows: int
    start_ns: int
    end_ns: int
    fee_ticks: float
    digest: str

    def file(self) -> EvaluatedFile:
        """Return it as the job names it."""
        return EvaluatedFile(
            name=self.name,
            role=self.role,
            rows_file=str(self.rows_file),
            instrument_id=self.instrument.instrument_id,
            tick_size=float(self.instrument.tick_size),
            has_trades=self.instrument.has_trades,
            fee_ticks=self.fee_ticks,
            rows=self.rows,
        )


class _RowFile:
    """Takes market events of one instrument and writes the rows of its books to a Parquet file, block by block."""

    def __init__(self, path: Path, instrument: Instrument, levels: int) -> None:
        self.rows = 0
        self.start_ns = 0
        self.first_mid = 0.0
        self._instrument = instrument
        self._levels = levels
        self._gap_ns = round(instrument.session_gap_s * NS_PER_S)
        self._last_ns: int | None = None
        self._buffer = DomBuffer(instrument, BLOCK_ROWS)
        self._hash = hashlib.sha256()
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="none")

    @property
    def end_ns(self) -> int:
        """Return the time of the last book."""
        return self._last_ns or 0

    @property
    def digest(self) -> str:
        """Return what tells these rows from others: a hash of times and best prices."""
        return self._hash.hexdigest()[:16]

    def take(self, event: object) -> bool:
        """Write one event; return whether a block was finished."""
        if isinstance(event, BookSnapshot):
            return self._take_book(event)
        if isinstance(event, TradeTick):
            self._buffer.add_trade(event)
        elif isinstance(event, SessionChanged):
            self._buffer.break_segment()
        return False

    def _take_book(self, book: BookSnapshot) -> bool:
        if self._last_ns is not None and book.ts_event - self._last_ns > self._gap_ns:
            self._buffer.break_segment()
        self._last_ns = book.ts_event
        if not self.rows:
            self.start_ns = book.ts_event
        self._buffer.append(self._cut(book))
        self.rows += 1
        if not self.first_mid:
            self.first_mid = self._buffer.mid_ticks() or 0.0
        if self.rows % BLOCK_ROWS:
            return False
        self._write(BLOCK_ROWS)
        return True

    def _cut(self, book: BookSnapshot) -> BookSnapshot:
        """Return the best levels of a sound book; of a crossed or locked one, none."""
        is_sound = not (book.bid_ticks and book.ask_ticks and book.bid_ticks[0] >= book.ask_ticks[0])
        kept = slice(0, self._levels if is_sound else 0)
        if is_sound and max(len(book.bid_ticks), len(book.ask_ticks)) <= self._levels:
            return book
        sides = {name: getattr(book, name)[kept] for name in ("bid_ticks", "bid_sizes", "ask_ticks", "ask_sizes")}
        return msgspec.structs.replace(book, **sides)

    def close(self) -> None:
        """Write what is left."""
        self._write(self.rows % BLOCK_ROWS)
        self._writer.close()

    def _write(self, count: int) -> None:
        rows = self._buffer.rows_since(self._buffer.total_rows - count)
        for column in (rows.ts_event, rows.bid_ticks[:, 0], rows.ask_ticks[:, 0]):
            self._hash.update(column.tobytes())
        instrument = self._instrument
        table = to_table(instrument.instrument_id, float(instrument.tick_size), rows, has_trades=instrument.has_trades)
        self._writer.write_table(table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A recording that was opened and not read yet."""

    path: Path
    role: str
    source: Source


def in_order(opened: Sequence[Opened]) -> Iterator[tuple[Opened, Source | None]]:
    """Yield recordings in time order, each with the one of the same instruments before it: some formats carry the book over."""
    latest: dict[tuple[str, ...], Source] = {}
    for one in sorted(opened, key=lambda one: one.source.start_ns):
        names = tuple(sorted(instrument.instrument_id for instrument in one.source.instruments))
        yield one, latest.get(names)
        latest[names] = one.source


def read_recording(
    opened: Opened, before: Source | None, target: Path, options: EvaluationOptions, on_share: Callable[[float], None]
) -> ReadFile:
    """Write the rows of a recording to `target`. Raises `ConfigError`, `IntegrityError` (damaged), `StorageError` (scratch disk)."""
    path, source = opened.path, opened.source
    instrument = _only_instrument(source)
    if isinstance(source, Continues):
        source.follow(before)
    try:
        rows = _RowFile(target, instrument, options.levels)
        for event in source.events(0):
            if rows.take(event):
                on_share(source.read_share)
                _refuse_too_long(path, rows.rows)
        rows.close()
    except (OSError, pa.ArrowException) as exc:
        raise StorageError(f"{target}: rows cannot be written: {exc}; free space, or set TMPDIR to another disk") from exc
    if not rows.rows:
        raise ConfigError(f"{path}: holds no books, so there is nothing to predict")
    return ReadFile(
        name=shown_name(path),
        role=opened.role,
        rows_file=target,
        instrument=instrument,
        rows=rows.rows,
        start_ns=rows.start_ns,
        end_ns=rows.end_ns,
        fee_ticks=fee_ticks(options.fee or VENUE_FEES.get(instrument.venue) or options.default_fee, instrument, rows.first_mid),
        digest=rows.digest,
    )


def _only_instrument(source: Source) -> Instrument:
    if len(source.instruments) != 1:
        names = ", ".join(one.instrument_id for one in source.instruments)
        raise ConfigError(
            f"{source.path}: holds {len(source.instruments)} instruments ({foreign(names)}); rows are numbered per file: allowed one"
        )
    return source.instruments[0]


def _refuse_too_long(path: Path, rows: int) -> None:
    if rows > MAX_ROWS:
        raise ConfigError(f"{path}: holds more than {MAX_ROWS:,} books; evaluate shorter recordings")


def fee_ticks(fee: Fee, instrument: Instrument, mid_ticks: float) -> float:
    """Return what a taking fill costs in ticks, for basis points at `mid_ticks`."""
    if fee.is_basis_points:
        return float(fee.amount) / 10_000 * mid_ticks
    return float(fee.amount / instrument.tick_value)
