"""Our own recordings, as `market.recording.Recorder` writes them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from framework.dataset.parts import DamagedPart, Manifest, Part, read_manifest, read_part
from framework.errors import ConfigError, IntegrityError
from framework.market.recording import KIND, SCHEMA, VERSION, facts_in
from framework.messages import BookSnapshot, MarketEvent, SessionChanged, TradeTick
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
        self._manifest = _manifest_of(path)
        parts = self._manifest.parts
        for part in parts:
            if not (path / part.name).is_file():
                raise IntegrityError(f"{path / part.name}: is missing; restore it, or record again")
        first, last = self._table(parts[0]), self._table(parts[-1])
        self.start_ns: int = _arrivals(first)[0].as_py()
        self.end_ns: int = pc.max(_arrivals(last)).as_py()
        self.instruments = tuple(facts_in(last.schema).values())

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield the events as they were recorded."""
        self.next_sequence = first_sequence
        for part in self._manifest.parts:
            for batch in self._table(part).to_batches(CHUNK_ROWS):
                yield from _events(batch)
            self.read_share = (part.first_total + part.rows) / self._manifest.total_rows

    def _table(self, part: Part) -> pa.Table:
        try:
            table = read_part(self.path, part)
        except DamagedPart as exc:
            raise IntegrityError(f"{self.path / part.name}: {exc}; restore it, or record again") from exc
        if not table.schema.equals(SCHEMA):
            raise IntegrityError(f"{self.path / part.name}: has other columns than recordings of version {VERSION}")
        return table


def _manifest_of(path: Path) -> Manifest:
    manifest = read_manifest(path)
    if manifest is None:
        raise ConfigError(f"{path}: is a directory without a recording in it; name the files, or a directory made by --record")
    if manifest.kind != KIND or manifest.schema != VERSION:
        raise ConfigError(f"{path}: holds a {manifest.kind} of version {manifest.schema}, only a {KIND} of version {VERSION} is replayed")
    if not manifest.total_rows:
        raise ConfigError(f"{path}: the recording is empty")
    return manifest


def _arrivals(table: pa.Table) -> pa.ChunkedArray:
    return pc.coalesce(table.column("ts_recv"), table.column("ts_event"))


def _events(batch: pa.RecordBatch) -> Iterator[MarketEvent]:
    values = {name: _tuples(column) if pa.types.is_list(column.type) else column.to_pylist() for name, column in _columns(batch)}
    names = list(values)
    for row in zip(*values.values(), strict=True):
        yield _event(dict(zip(names, row, strict=True)))


def _columns(batch: pa.RecordBatch) -> list[tuple[str, pa.Array]]:
    return list(zip(batch.schema.names, batch.columns, strict=True))


def _tuples(column: pa.ListArray) -> list[tuple[int, ...]]:
    values = column.values.to_pylist()
    return [tuple(values[begin:end]) for begin, end in pairwise(column.offsets.to_pylist())]


_FIELDS: Final[dict[str, tuple[type[Any], tuple[str, ...]]]] = {
    "book": (BookSnapshot, BookSnapshot.__struct_fields__),
    "trade": (TradeTick, TradeTick.__struct_fields__),
    "session": (SessionChanged, SessionChanged.__struct_fields__),
}
_AGGRESSORS: Final = {None: None} | {str(side): side for side in Side}


def _event(row: dict[str, Any]) -> MarketEvent:
    message_type, fields = _FIELDS[row["kind"]]
    row["aggressor"] = _AGGRESSORS[row["aggressor"]]
    return message_type(**{name: row[name] for name in fields})  # type: ignore[no-any-return]
