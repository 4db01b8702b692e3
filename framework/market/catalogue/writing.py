"""One session of one instrument on its way into the catalogue: checked, counted, its gaps marked, written in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from framework.dataset.parts import Manifest, Part, write_manifest, write_part
from framework.errors import StorageError
from framework.market.catalogue.index import Entry, Gap
from framework.market.feed import arrival_ns
from framework.market.formats.rows import Rows
from framework.market.recording import BAR_KIND, BAR_SCHEMA, KIND, SCHEMA, VERSION, to_table
from framework.messages import Bar, BookSnapshot, MarketEvent, SessionChanged, TradeTick
from framework.model import NS_PER_S, Instrument

PART_EVENTS: Final = 20_000
MAX_GAPS: Final = 1_000
_TYPES: Final = (BookSnapshot, TradeTick, SessionChanged, Bar)
"""By the kinds of `formats.rows`."""


class Place(NamedTuple):
    """Where an event belongs."""

    instrument_id: str
    kind: str
    session: str


class EntryWriter:
    """Write the events of one entry into `directory`. Memory holds at most one part of 20,000 events."""

    def __init__(self, directory: Path, instrument: Instrument, place: Place) -> None:
        self.place = place
        self.directory = directory
        self._is_bars = place.kind != "events"
        facts = msgspec.json.encode({instrument.instrument_id: instrument})
        schema = BAR_SCHEMA if self._is_bars else SCHEMA
        self._schema = schema.with_metadata({"tidebook_recording": VERSION, "instruments": facts})
        self._gap_ns = round(instrument.session_gap_s * NS_PER_S)
        self._events: list[MarketEvent] = []
        self._batches: list[pa.RecordBatch] = []
        self._waiting = 0
        self._manifest = Manifest(kind=BAR_KIND if self._is_bars else KIND, schema=VERSION)
        self._counts: dict[type, int] = dict.fromkeys((BookSnapshot, TradeTick, Bar, SessionChanged), 0)
        self._gaps: list[Gap] = []
        self._gap_count = 0
        self._closed_ns: tuple[int, str] | None = None
        self._start_ns = self._last_ns = -1
        try:
            directory.mkdir(parents=True)
        except OSError as exc:
            raise StorageError(f"{directory}: cannot be created: {exc.strerror}; free space or choose another catalogue") from exc

    def append(self, event: MarketEvent) -> None:
        """Take one event, not earlier than the one before. Raises `StorageError`."""
        at_ns = arrival_ns(event)
        if self._start_ns < 0:
            self._start_ns = self._last_ns = at_ns
        if at_ns - self._last_ns > self._gap_ns and not self._is_bars and self._closed_ns is None:
            self._mark(self._last_ns, at_ns, "no events")
        self._last_ns = at_ns
        self._counts[type(event)] += 1
        if type(event) is SessionChanged:
            self._on_session(event)
        self._events.append(event)
        if len(self._events) >= PART_EVENTS:
            self._write_part()

    def append_rows(self, rows: Rows) -> None:
        """Take events as rows, at least one, none earlier than those before. Raises `StorageError`."""
        if self._start_ns < 0:
            self._start_ns = self._last_ns = int(rows.arrivals[0])
        if not self._is_bars:
            self._mark_gaps(rows)
        self._last_ns = int(rows.arrivals[-1])
        for number, count in enumerate(np.bincount(rows.kinds, minlength=len(_TYPES)).tolist()):
            self._counts[_TYPES[number]] += count
        self._batches.append(rows.batch)
        self._waiting += len(rows)
        if self._waiting >= PART_EVENTS:
            self._write_batches(PART_EVENTS)

    def _mark_gaps(self, rows: Rows) -> None:
        arrivals = rows.arrivals
        is_jump = np.diff(arrivals, prepend=self._last_ns) > self._gap_ns
        changes = {index: change for index, change in rows.session_changes()}
        for index in sorted({*np.flatnonzero(is_jump).tolist(), *changes}):
            if is_jump[index] and self._closed_ns is None:
                self._mark(int(arrivals[index - 1]) if index else self._last_ns, int(arrivals[index]), "no events")
            if index in changes:
                self._on_session(changes[index])

    def _write_batches(self, step: int) -> None:
        """Write full parts of `step` rows, and keep the rest for the next one."""
        table = pa.Table.from_batches(self._batches, self._schema_of_batches()).combine_chunks()
        begin = 0
        while table.num_rows - begin >= step:
            self._write_table(table.slice(begin, step))
            begin += step
        self._waiting = table.num_rows - begin
        self._batches = table.slice(begin).to_batches()

    def _schema_of_batches(self) -> pa.Schema:
        return BAR_SCHEMA if self._is_bars else SCHEMA

    def finish(self) -> Entry:
        """Write the rest and the manifest, and return what was written, in a directory still to be named. Raises `StorageError`."""
        if self._closed_ns is not None:
            self._mark(self._closed_ns[0], self._last_ns, self._closed_ns[1])
        if self._waiting:
            self._write_batches(self._waiting)
        if self._events:
            self._write_part()
        write_manifest(self.directory, self._manifest)
        return Entry(
            instrument_id=self.place.instrument_id,
            session=self.place.session,
            kind=self.place.kind,
            directory="",
            events=self._manifest.total_rows,
            books=self._counts[BookSnapshot],
            trades=self._counts[TradeTick],
            bars=self._counts[Bar],
            start_ns=self._start_ns,
            end_ns=self._last_ns,
            bytes=sum(part.bytes for part in self._manifest.parts),
            gaps=tuple(self._gaps),
            gaps_not_listed=self._gap_count - len(self._gaps),
        )

    def _on_session(self, change: SessionChanged) -> None:
        if not change.is_open:
            self._closed_ns = (change.ts_event, change.reason)
        elif self._closed_ns is not None:
            self._mark(self._closed_ns[0], change.ts_event, self._closed_ns[1])
            self._closed_ns = None

    def _mark(self, begin_ns: int, end_ns: int, reason: str) -> None:
        self._gap_count += 1
        if len(self._gaps) < MAX_GAPS:
            self._gaps.append(Gap(begin_ns=begin_ns, end_ns=end_ns, reason=reason[:200]))

    def _write_part(self) -> None:
        try:
            table = to_table(self._events, self._schema)
        except (pa.ArrowException, TypeError, OverflowError, ValueError) as exc:
            raise StorageError(f"{self.directory}: an event does not fit into a row: {str(exc)[:200]}") from exc
        self._write_table(table)
        self._events = []

    def _write_table(self, table: pa.Table) -> None:
        total = self._manifest.total_rows
        name = f"part-{total:012d}.parquet"
        size, sha256 = write_part(table.replace_schema_metadata(self._schema.metadata), self.directory / name)
        part = Part(name=name, instrument_id="", first_total=total, rows=table.num_rows, bytes=size, sha256=sha256)
        self._manifest = msgspec.structs.replace(self._manifest, total_rows=total + table.num_rows, parts=(*self._manifest.parts, part))
