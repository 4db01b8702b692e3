"""The writer: appends to the tail, seals the tail into parts."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from framework.dataset.parts import Manifest, Part, read_manifest, write_manifest, write_part
from framework.dataset.schema import join, to_table
from framework.dataset.tail import Block, Tail, to_block
from framework.errors import IntegrityError, StorageError
from framework.model import Instrument
from framework.window import ROW_SCHEMA_HASH, Rows

KIND: Final = "tidebook dataset"
UNSEALED_PARTS_MAX: Final = 10


@dataclass(slots=True)
class _Stream:
    """Where one instrument's rows stand: what is added to incoming segments, and the last row that came."""

    offset: int
    segment: int
    sequence: int


class DatasetWriter:
    """Append rows to a dataset directory. One writer per directory at a time (a lock holds it); for one thread.

    Opening creates the directory, and seals what an earlier run left in its tail. `append` costs one `write`; every
    `part_rows` rows, `seal` writes parts and blocks on the disk for some 10 ms (`BackgroundDatasetWriter` takes that off the
    event loop). Segment numbers are shifted so that none is used twice, over restarts too.

    Raises `StartRefused` (another writer), `IntegrityError` (damaged manifest), `StorageError` (disk).
    """

    def __init__(self, directory: Path, *, part_rows: int = 10_000) -> None:
        self.directory = directory
        self._part_rows = part_rows
        self._pending: list[Block] = []
        self._pending_rows = 0
        self._streams: dict[str, _Stream] = {}
        self._manifest = _load_manifest(directory)
        self._next_segment = self._manifest.next_segment
        self._tail = Tail(directory)
        self._recover()

    @property
    def total_rows(self) -> int:
        """Return how many rows were ever appended to the directory."""
        return self._manifest.total_rows + self._pending_rows

    @property
    def lost_tail_bytes(self) -> int:
        """Return the size of what could not be read at the end of the tail; the tail as it was is in `_tail.damaged`."""
        return self._tail.lost_bytes

    def append(self, instrument: Instrument, rows: Rows, *, after_gap: bool = False) -> None:
        """Add consecutive rows of one instrument.

        A segment or sequence that runs backwards (a DOM buffer that began anew) starts a new segment by itself; `after_gap` says
        that rows before these were left out, which does so too. Raises `StorageError`; `total_rows` says whether the rows are in
        the tail (only sealing it failed) or not.
        """
        if len(rows) == 0:
            return
        if self._pending_rows >= UNSEALED_PARTS_MAX * self._part_rows:
            self._streams.pop(instrument.instrument_id, None)
            raise StorageError(f"{self.directory}: {self._pending_rows} rows could not be sealed; free space, then restart")
        shifted = self._shift_segments(instrument.instrument_id, rows, after_gap=after_gap)
        block = to_block(instrument.instrument_id, float(instrument.tick_size), shifted, has_trades=instrument.has_trades)
        self._append_to_tail(block)
        self._pending.append(block)
        self._pending_rows += block.count
        if self._pending_rows >= self._part_rows:
            self.seal()

    def seal(self) -> int:
        """Turn the tail into parts and return how many rows were sealed. Raises `StorageError`; then nothing is lost."""
        sealed_rows = self._pending_rows
        if not sealed_rows:
            return 0
        parts = self._write_parts()
        manifest = replace_totals(self._manifest, parts, self._next_segment)
        write_manifest(self.directory, manifest)
        self._manifest = manifest
        self._pending, self._pending_rows = [], 0
        self._tail.restart(manifest.total_rows)
        return sealed_rows

    def close(self) -> None:
        """Seal the rest and give up the lock."""
        try:
            self.seal()
        finally:
            self._tail.close()

    def _recover(self) -> None:
        self._pending = self._tail.open(self._manifest.total_rows)
        self._pending_rows = sum(block.count for block in self._pending)
        for block in self._pending:
            self._next_segment = max(self._next_segment, int(block.rows().segment.max()) + 1)
        if not self.seal():
            self._tail.restart(self._manifest.total_rows)

    def _append_to_tail(self, block: Block) -> None:
        try:
            self._tail.append(block)
        except StorageError:
            self._streams.pop(block.instrument_id, None)  # rows are missing: the next ones start a segment
            raise

    def _shift_segments(self, instrument_id: str, rows: Rows, *, after_gap: bool) -> Rows:
        segment, sequence = int(rows.segment[0]), int(rows.sequence[0])
        stream = self._streams.get(instrument_id)
        is_new = stream is None or after_gap or segment < stream.segment
        if stream is None or is_new or (segment == stream.segment and sequence <= stream.sequence):
            stream = self._streams[instrument_id] = _Stream(self._next_segment - segment, segment, sequence)
        stream.segment, stream.sequence = int(rows.segment[-1]), int(rows.sequence[-1])
        shifted = rows.segment + stream.offset
        self._next_segment = max(self._next_segment, int(shifted[-1]) + 1)
        return replace(rows, segment=shifted)

    def _write_parts(self) -> list[Part]:
        blocks: dict[tuple[str, float, bool], list[Block]] = {}
        for block in self._pending:
            blocks.setdefault((block.instrument_id, block.tick_size, block.has_trades), []).append(block)
        parts: list[Part] = []
        first_total = self._manifest.total_rows
        for (instrument_id, tick_size, has_trades), own in blocks.items():
            rows = join([block.rows() for block in own])
            name = f"part-{first_total:012d}-{_file_name(instrument_id)}.parquet"
            size, sha256 = write_part(to_table(instrument_id, tick_size, rows, has_trades=has_trades), self.directory / name)
            parts.append(Part(name=name, instrument_id=instrument_id, first_total=first_total, rows=len(rows), bytes=size, sha256=sha256))
            first_total += len(rows)
        return parts


def _load_manifest(directory: Path) -> Manifest:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageError(f"{directory}: cannot be created: {exc.strerror}") from exc
    manifest = read_manifest(directory) or Manifest(kind=KIND, schema=ROW_SCHEMA_HASH)
    if manifest.kind != KIND:
        raise IntegrityError(f"{directory}: holds a {manifest.kind}, not a {KIND}; choose another directory")
    return manifest


def replace_totals(manifest: Manifest, parts: list[Part], next_segment: int) -> Manifest:
    """Return `manifest` with `parts` added."""
    return Manifest(
        kind=manifest.kind,
        schema=ROW_SCHEMA_HASH,
        total_rows=manifest.total_rows + sum(part.rows for part in parts),
        next_segment=next_segment,
        parts=(*manifest.parts, *parts),
    )


def _file_name(instrument_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", instrument_id)[:64]
