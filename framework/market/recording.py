"""The recorder: writes market events, as they came, to a directory that `formats.recording` replays.

    DIR/
      part-<first number>.parquet   events in order of arrival (temporary name, page checksums, fsync, rename)
      _manifest.json                what counts: per part its rows, bytes and SHA-256

One row is one event; `kind` says which columns it fills. Any Parquet reader opens the directory.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from framework.dataset.parts import DamagedPart, Manifest, Part, read_manifest, read_part, write_manifest, write_part
from framework.errors import IntegrityError, StorageError
from framework.messages import BookSnapshot, MarketEvent, SessionChanged, TradeTick
from framework.model import Instrument

KIND: Final = "tidebook recording"
VERSION: Final = "1"
KINDS: Final[dict[type, str]] = {BookSnapshot: "book", TradeTick: "trade", SessionChanged: "session"}

SCHEMA: Final = pa.schema(
    [
        ("kind", pa.string()),
        ("instrument_id", pa.string()),
        ("ts_event", pa.int64()),
        ("ts_recv", pa.int64()),
        ("sequence", pa.int64()),
        ("bid_ticks", pa.list_(pa.int64())),
        ("bid_sizes", pa.list_(pa.int64())),
        ("ask_ticks", pa.list_(pa.int64())),
        ("ask_sizes", pa.list_(pa.int64())),
        ("price_ticks", pa.int64()),
        ("size", pa.int64()),
        ("aggressor", pa.string()),
        ("is_open", pa.bool_()),
        ("reason", pa.string()),
    ]
)

BAR_KIND: Final = "tidebook bars"
BAR_SCHEMA: Final = pa.schema(
    [
        ("instrument_id", pa.string()),
        ("ts_event", pa.int64()),
        ("interval_s", pa.float64()),
        ("open_ticks", pa.int64()),
        ("high_ticks", pa.int64()),
        ("low_ticks", pa.int64()),
        ("close_ticks", pa.int64()),
        ("volume", pa.int64()),
        ("buy_volume", pa.int64()),
        ("sell_volume", pa.int64()),
    ]
)
"""Bars that were imported lie in directories of their own, of the same shape."""


class Recorder:
    """Record books, trades and session changes. Give `record` to `MarketData` as its tap, which sees events before any check.

    It is not an actor: the data lane of the bus keeps only the newest book, and a recording needs them all. `record` appends to a
    list; every `part_events` events, or `part_s` of market time, a thread writes the list as a part. When the disk is
    behind by more than `max_parts_waiting` parts, a part is dropped and its events are counted in `dropped_events`; with `may_wait`
    (a replay at full speed outruns any disk) `record` waits for the disk instead. A killed process loses the part that was
    being filled. Bars are not recorded: they are built from the rest.
    """

    def __init__(
        self,
        directory: Path,
        instruments: Iterable[Instrument],
        *,
        part_events: int = 10_000,
        part_s: float = 60.0,
        max_parts_waiting: int = 8,
        may_wait: bool = False,
    ) -> None:
        self.directory = directory
        self.recorded_events = 0
        self.dropped_events = 0
        self.failure = ""
        self._facts = {one.instrument_id: one for one in instruments}
        self._schema = SCHEMA
        self._part_events = part_events
        self._may_wait = may_wait
        self._part_ns = round(part_s * 1_000_000_000)
        self._waiting: queue.Queue[list[MarketEvent] | None] = queue.Queue(max_parts_waiting)
        self._events: list[MarketEvent] = []
        self._part_end_ns = 0
        self._thread: threading.Thread | None = None
        self._manifest = Manifest(kind=KIND, schema=VERSION)

    def start(self) -> None:
        """Open the directory, behind what an earlier run recorded there, and start the writer.

        Raises `IntegrityError` (the directory holds something else, or a damaged manifest) or `StorageError`.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StorageError(f"{self.directory}: cannot be created: {exc.strerror}") from exc
        self._manifest = read_manifest(self.directory) or self._manifest
        if self._manifest.kind != KIND:
            raise IntegrityError(f"{self.directory}: holds a {self._manifest.kind}, not a {KIND}; choose another directory")
        # The newest part has the facts of every instrument in the directory.
        facts = self._recorded_facts() | self._facts
        self._schema = SCHEMA.with_metadata({"tidebook_recording": VERSION, "instruments": msgspec.json.encode(facts)})
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def record(self, event: MarketEvent) -> None:
        """Take one event. Never waits, unless it may."""
        if type(event) not in KINDS:
            return
        events = self._events
        if not events:
            self._part_end_ns = event.ts_event + self._part_ns
        events.append(event)
        if len(events) >= self._part_events or event.ts_event >= self._part_end_ns:
            self._hand_over()

    def close(self, timeout_s: float = 30.0) -> None:
        """Write the rest and stop; waits for the disk, at most `timeout_s`."""
        if self._thread is None:
            return
        if self._events:
            self._waiting.put(self._events, timeout=timeout_s)
            self._events = []
        self._waiting.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)
        self._thread = None

    def _recorded_facts(self) -> dict[str, Instrument]:
        if not self._manifest.parts:
            return {}
        newest = self._manifest.parts[-1]
        try:
            known = facts_in(read_part(self.directory, newest).schema)
        except DamagedPart as exc:
            raise IntegrityError(f"{self.directory / newest.name}: {exc}; choose another directory") from exc
        for instrument_id in known.keys() & self._facts.keys():
            if known[instrument_id] != self._facts[instrument_id]:
                raise IntegrityError(f"{self.directory}: was recorded with other facts of {instrument_id}; choose another directory")
        return known

    def _hand_over(self) -> None:
        try:
            self._waiting.put(self._events, block=self._may_wait)
        except queue.Full:
            self.dropped_events += len(self._events)
        self._events = []

    def _work(self) -> None:
        while (events := self._waiting.get()) is not None:
            try:
                self._write(events)
                self.recorded_events += len(events)
            # An event that is no whole numbers cannot be a row; the disk may be full.
            except (StorageError, pa.ArrowException, TypeError, OverflowError, ValueError) as exc:
                self.failure = str(exc)[:200]
                self.dropped_events += len(events)

    def _write(self, events: list[MarketEvent]) -> None:
        name = f"part-{self._manifest.total_rows:012d}.parquet"
        size, sha256 = write_part(to_table(events, self._schema), self.directory / name)
        part = Part(name=name, instrument_id="", first_total=self._manifest.total_rows, rows=len(events), bytes=size, sha256=sha256)
        manifest = msgspec.structs.replace(
            self._manifest, total_rows=self._manifest.total_rows + len(events), parts=(*self._manifest.parts, part)
        )
        write_manifest(self.directory, manifest)
        self._manifest = manifest


def facts_in(schema: pa.Schema) -> dict[str, Instrument]:
    """Return the instruments that a part's schema names. Raises `IntegrityError` if it names none."""
    try:
        return msgspec.json.decode((schema.metadata or {})[b"instruments"], type=dict[str, Instrument])
    except (KeyError, msgspec.DecodeError) as exc:
        raise IntegrityError("a recorded part says nothing about its instruments") from exc


def to_table(events: Sequence[MarketEvent], schema: pa.Schema) -> pa.Table:
    """Return one row per event, of `SCHEMA` or `BAR_SCHEMA`. Raises what Arrow raises for values that are no whole numbers of 64 bits."""
    rows: dict[str, list[Any]] = {name: [getattr(event, name, None) for event in events] for name in schema.names}
    if "kind" in rows:
        rows["kind"] = [KINDS[type(event)] for event in events]
    return pa.table({field.name: pa.array(rows[field.name], field.type) for field in schema}, schema=schema)
