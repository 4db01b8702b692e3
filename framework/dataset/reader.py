"""The reader: the newest rows of a dataset, from parts that match the manifest and from no others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from framework.dataset.parts import DamagedPart, Manifest, Part, read_manifest, read_part
from framework.dataset.schema import from_table, join, last
from framework.dataset.writer import KIND
from framework.errors import IntegrityError
from framework.window import Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentRows:
    """The rows of one instrument, oldest first, with its facts."""

    instrument_id: str
    tick_size: float
    has_trades: bool
    rows: Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedPart:
    """A part that was not used, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRead:
    """What `read_dataset` found."""

    instruments: Mapping[str, InstrumentRows]
    refused: tuple[RefusedPart, ...]

    @property
    def total_rows(self) -> int:
        """Return how many rows were read."""
        return sum(len(one.rows) for one in self.instruments.values())


def read_dataset(directory: Path, *, max_rows: int) -> DatasetRead:
    """Read the newest `max_rows` sealed rows of `directory` (of all instruments together). Blocks on the disk.

    A part is used whole or not at all: one that is missing, damaged, not in the manifest or of another schema is listed in `refused`,
    and the rows on both sides of it are of different segments. A directory that does not exist is empty. Raises
    `IntegrityError` if the manifest is damaged or not of a dataset.
    """
    names = sorted(path.name for path in directory.glob("*.parquet"))
    manifest = read_manifest(directory)
    if manifest is not None and manifest.kind != KIND:
        raise IntegrityError(f"{directory}: holds a {manifest.kind}, not a {KIND}")
    listed = manifest.parts if manifest is not None else ()
    known = {part.name for part in listed}
    refused = [RefusedPart(name=name, reason="is not in the manifest") for name in names if name not in known]
    chosen = _read_newest(directory, manifest, max_rows, refused) if manifest is not None else {}
    instruments = {name: _join_parts(name, parts) for name, parts in chosen.items() if any(part is not None for part in parts)}
    return DatasetRead(instruments=instruments, refused=tuple(refused))


@dataclass(frozen=True, slots=True)
class _ReadPart:
    tick_size: float
    has_trades: bool
    rows: Rows


def _read_newest(directory: Path, manifest: Manifest, max_rows: int, refused: list[RefusedPart]) -> dict[str, list[_ReadPart | None]]:
    """Return per instrument its parts, newest first; None stands for a part that was refused."""
    found: dict[str, list[_ReadPart | None]] = {}
    wanted = max_rows
    for part in reversed(manifest.parts):
        if wanted <= 0:
            break
        try:
            read = _read_one(directory, part, wanted)
            wanted -= len(read.rows)
        except DamagedPart as exc:
            refused.append(RefusedPart(name=part.name, reason=str(exc)))
            read = None
        found.setdefault(part.instrument_id, []).append(read)
    return found


def _read_one(directory: Path, part: Part, wanted: int) -> _ReadPart:
    table = read_part(directory, part)
    rows = from_table(table)
    facts = {name: table.column(name).unique() for name in ("instrument_id", "tick_size", "has_trades")}
    if any(len(values) != 1 for values in facts.values()) or facts["instrument_id"][0].as_py() != part.instrument_id:
        raise DamagedPart("does not hold the one instrument that the manifest says")
    return _ReadPart(_fact(facts["tick_size"]), bool(_fact(facts["has_trades"])), last(rows, wanted))


def _fact(values: pa.ChunkedArray) -> float:
    return values[0].as_py()  # type: ignore[no-any-return]


def _join_parts(instrument_id: str, newest_first: list[_ReadPart | None]) -> InstrumentRows:
    blocks = []
    holes = 0
    newest: _ReadPart | None = None
    for part in reversed(newest_first):
        if part is None:
            holes += 1  # rows are missing here: what follows must not continue the segment before
            continue
        blocks.append(replace(part.rows, segment=part.rows.segment + holes))
        newest = part
    assert newest is not None
    return InstrumentRows(instrument_id=instrument_id, tick_size=newest.tick_size, has_trades=newest.has_trades, rows=join(blocks))
