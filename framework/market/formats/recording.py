"""Our own recordings, as `market.recording.Recorder` writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from framework.dataset.parts import DamagedPart, Manifest, Part, read_manifest, read_part
from framework.errors import ConfigError, IntegrityError
from framework.market.formats.rows import BAR, KIND_NAMES, Rows
from framework.market.recording import BAR_KIND, BAR_SCHEMA, KIND, SCHEMA, VERSION, facts_in
from framework.messages import Bar, BookSnapshot, MarketEvent, SessionChanged, TradeTick
from framework.model import Side

CHUNK_ROWS: Final = 4_096


class RecordingSource:
    """A directory of recorded parts. A part is compared with its SHA-256 before it is parsed.

    Opening reads the manifest, the first and the last part. Sequences are replayed as recorded. Raises `IntegrityError` for a damaged
    or missing part (a replay with a hole would be another run), `ConfigError` for a directory that is no recording.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read_share = 0.0
        self.next_sequence = 0
        self._part = ""
        self._manifest = _manifest_of(path)
        self.holds = "bars" if self._manifest.kind == BAR_KIND else "events"
        self._schema, self._decode = _READERS[self._manifest.kind]
        parts = self._manifest.parts
        for part in parts:
            if not (path / part.name).is_file():
                raise IntegrityError(f"{path / part.name}: is missing; restore it, or record again")
        first, last = self._table(parts[0]), self._table(parts[-1])
        self.start_ns: int = _arrivals(first)[0].as_py()
        self.end_ns: int = pc.max(_arrivals(last)).as_py()
        self.instruments = tuple(facts_in(last.schema).values())

    def where(self) -> str:
        """Return which part the last event came from."""
        return self._part

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield the events as they were recorded."""
        self.next_sequence = first_sequence
        for part in self._manifest.parts:
            self._part = part.name
            for batch in self._table(part).to_batches(CHUNK_ROWS):
                yield from self._decode(batch)
            self.read_share = (part.first_total + part.rows) / self._manifest.total_rows

    def rows(self, first_sequence: int) -> Iterator[Rows]:
        """Yield the same events as rows, an instrument at a time in each part."""
        self.next_sequence = first_sequence
        for part in self._manifest.parts:
            self._part = part.name
            for batch in self._table(part).replace_schema_metadata(None).to_batches():
                yield from _by_instrument(batch, f"{part.name} row")
            self.read_share = (part.first_total + part.rows) / self._manifest.total_rows

    def _table(self, part: Part) -> pa.Table:
        try:
            table = read_part(self.path, part)
        except DamagedPart as exc:
            raise IntegrityError(f"{self.path / part.name}: {exc}; restore it, or record again") from exc
        if not table.schema.equals(self._schema):
            raise IntegrityError(f"{self.path / part.name}: has other columns than recordings of version {VERSION}")
        return table


def _manifest_of(path: Path) -> Manifest:
    manifest = read_manifest(path)
    if manifest is None:
        raise ConfigError(f"{path}: is a directory without a recording in it; name the files, or a directory made by --record")
    if manifest.kind not in _READERS or manifest.schema != VERSION:
        raise ConfigError(f"{path}: holds a {manifest.kind} of version {manifest.schema}, only a {KIND} of version {VERSION} is replayed")
    if not manifest.total_rows:
        raise ConfigError(f"{path}: the recording is empty")
    return manifest


def _arrivals(table: pa.Table | pa.RecordBatch) -> pa.ChunkedArray | pa.Array:
    if "ts_recv" not in table.schema.names:
        return table.column("ts_event")
    return pc.coalesce(table.column("ts_recv"), table.column("ts_event"))


def _by_instrument(batch: pa.RecordBatch, word: str) -> Iterator[Rows]:
    names = batch.column("instrument_id")
    arrivals = _arrivals(batch).to_numpy(zero_copy_only=False)
    is_bars = "kind" not in batch.schema.names
    kinds = np.full(len(names), BAR) if is_bars else pc.index_in(batch.column("kind"), KIND_NAMES).to_numpy(zero_copy_only=False)
    for name in names.unique().to_pylist():
        is_own = pc.equal(names, name)
        own = np.flatnonzero(is_own.to_numpy(zero_copy_only=False))
        yield Rows(name, batch.filter(is_own), arrivals[own].astype(np.int64), kinds[own].astype(np.int64), own, word)


def events_in(batch: pa.RecordBatch) -> Iterator[MarketEvent]:
    """Yield the events in a batch of recorded rows."""
    columns = [_plain(batch.column(field.name), field.type) for field in SCHEMA]
    for kind, *row in zip(*columns, strict=True):
        yield _MAKERS[kind](row)


def bars_in(batch: pa.RecordBatch) -> Iterator[Bar]:
    """Yield the bars in a batch of recorded rows."""
    columns = [_plain(batch.column(field.name), field.type) for field in BAR_SCHEMA]
    for instrument_id, ts_event, interval_s, open_, high, low, close, volume, bought, sold in zip(*columns, strict=True):
        yield Bar(
            instrument_id=instrument_id,
            ts_event=ts_event,
            interval_s=interval_s,
            open_ticks=open_,
            high_ticks=high,
            low_ticks=low,
            close_ticks=close,
            volume=volume,
            buy_volume=bought,
            sell_volume=sold,
        )


def numbered_events(rows: Rows) -> Iterator[tuple[int, MarketEvent]]:
    """Yield the events of rows, each with its number."""
    return zip(rows.numbers.tolist(), (bars_in if rows.is_bars else events_in)(rows.batch), strict=True)


def _plain(column: pa.Array, kind: pa.DataType) -> list[Any]:
    """Return a column as Python values; whole numbers that are not there as 0, which no kind of event reads."""
    if pa.types.is_list(kind):
        values = column.values.to_numpy(zero_copy_only=False).tolist()
        return [tuple(values[begin:end]) for begin, end in pairwise(column.offsets.to_numpy().tolist())]
    if pa.types.is_int64(kind):
        return pc.fill_null(column, 0).to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]
    return column.to_pylist()  # type: ignore[no-any-return]


_AGGRESSORS: Final = {None: None} | {str(side): side for side in Side}

# Rows have the columns of SCHEMA after `kind`.


def _book(row: list[Any]) -> BookSnapshot:
    instrument_id, ts_event, ts_recv, sequence, bid_ticks, bid_sizes, ask_ticks, ask_sizes, *_ = row
    return BookSnapshot(
        instrument_id=instrument_id,
        ts_event=ts_event,
        ts_recv=ts_recv,
        sequence=sequence,
        bid_ticks=bid_ticks,
        bid_sizes=bid_sizes,
        ask_ticks=ask_ticks,
        ask_sizes=ask_sizes,
    )


def _trade(row: list[Any]) -> TradeTick:
    instrument_id, ts_event, ts_recv, sequence, _, _, _, _, price_ticks, size, aggressor, *_ = row
    return TradeTick(
        instrument_id=instrument_id,
        ts_event=ts_event,
        ts_recv=ts_recv,
        sequence=sequence,
        price_ticks=price_ticks,
        size=size,
        aggressor=_AGGRESSORS[aggressor],
    )


def _session(row: list[Any]) -> SessionChanged:
    return SessionChanged(instrument_id=row[0], ts_event=row[1], is_open=row[-2], reason=row[-1])


_MAKERS: Final[dict[str, Callable[[list[Any]], MarketEvent]]] = {"book": _book, "trade": _trade, "session": _session}
_READERS: Final[dict[str, tuple[pa.Schema, Callable[[pa.RecordBatch], Iterator[MarketEvent]]]]] = {
    KIND: (SCHEMA, events_in),
    BAR_KIND: (BAR_SCHEMA, bars_in),
}
