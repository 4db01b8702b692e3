"""CSV files column by column, in blocks of rows, with the line of every complaint; and columns to ticks, lots and times."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from framework.errors import ConfigError, IntegrityError
from framework.market.formats.lines import MAX_LINE_BYTES, PlainBytes
from framework.market.formats.mapping import TimeColumn
from framework.model import Instrument

Array = npt.NDArray[Any]
_ROW: Final = re.compile(r"Row #(\d+)")
_LATEST_NS: Final = 7_258_118_400_000_000_000  # 2200-01-01
_MOST: Final = float(2**53)
"""More units than this no float tells apart."""
_UNIT_NS: Final = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Header:
    """The names of the columns, and how many lines come before the first row."""

    names: tuple[str, ...]
    lines: int
    delimiter: str

    @classmethod
    def of(cls, head: bytes, delimiter: str = ",") -> Header:
        """Read the header in the first bytes of a file; lines that begin with # come before it."""
        lines = head.split(b"\n")
        comments = next((number for number, line in enumerate(lines) if not line.startswith(b"#")), 0)
        names = lines[comments].decode("utf-8", "replace").lstrip("\ufeff").split(delimiter)
        return cls(tuple(name.strip().strip('"') for name in names), comments + 1, delimiter)


def read_columns(
    content: PlainBytes, path: Path, header: Header, types: Mapping[str, pa.DataType], *, max_rows: int = 4_096
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the columns `types` in blocks, each with the line of its first row (1 is the first line of the file).

    Raises `ConfigError` for a column that is missing, `IntegrityError` for a row that is cut or does not parse.
    """
    missing = [name for name in types if name not in header.names]
    if missing:
        raise ConfigError(f"{path}: has no column {', '.join(missing)[:200]}; it has {', '.join(header.names)[:300]}")
    for line, block in parse_blocks(content.blocks(), path, header, types):
        for begin in range(0, block.num_rows, max_rows):
            yield line + begin, block.slice(begin, max_rows)


def parse_blocks(
    blocks: Iterator[bytes], path: Path, header: Header, types: Mapping[str, pa.DataType]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Parse a CSV block by block, each up to its last whole line; yield the line of the first row, and the rows.

    Arrow's own streaming reader reads ahead in a thread of its own, which aborts a process that ends meanwhile.
    Raises `IntegrityError`.
    """
    rest, line = b"", 1
    skipped = header.lines
    for block in chain(blocks, [b""]):
        lines, rest = _whole_lines(rest, block)
        while skipped and lines:
            lines = lines.partition(b"\n")[2]
            skipped, line = skipped - 1, line + 1
        if len(rest) > MAX_LINE_BYTES:
            raise IntegrityError(f"{path}: line {line} has more than {MAX_LINE_BYTES} bytes: damaged, or no text; fetch it again")
        if lines.strip():
            for batch in _parse(lines, path, header, types, line):
                yield line, batch
                line += batch.num_rows


def _whole_lines(rest: bytes, block: bytes) -> tuple[bytes, bytes]:
    if not block:
        return rest, b""
    end = block.rfind(b"\n") + 1
    return (rest + block[:end], block[end:]) if end else (b"", rest + block)


def _parse(lines: bytes, path: Path, header: Header, types: Mapping[str, pa.DataType], line: int) -> list[pa.RecordBatch]:
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(lines),
            pa_csv.ReadOptions(use_threads=False, block_size=max(len(lines), 1), column_names=list(header.names)),
            pa_csv.ParseOptions(delimiter=header.delimiter),
            pa_csv.ConvertOptions(column_types=dict(types), include_columns=list(types), strings_can_be_null=True),
        )
    except pa.ArrowInvalid as exc:
        told = _ROW.sub(lambda found: f"line {line + int(found[1]) - 1}", str(exc)[:200])
        raise IntegrityError(f"{path}: a row is cut or holds no number: {told}; fetch the file again") from exc
    return table.combine_chunks().to_batches()  # type: ignore[no-any-return]


def numbers_in(batch: pa.RecordBatch, names: list[str]) -> Array:
    """Return columns as float64 (rows, columns); what is not there is NaN."""
    return np.stack([np.asarray(batch.column(name).to_numpy(zero_copy_only=False), np.float64) for name in names], axis=1)


@dataclass(frozen=True, slots=True)
class Unit:
    """What a column counts in: its `name` and `remedy` for a complaint, and the `size` of one."""

    name: str
    size: float
    remedy: str


def tick_of(instrument: Instrument) -> Unit:
    """Return the unit of prices."""
    return Unit("price", float(instrument.tick_size), "check the tick size in its definition, or fetch the file again")


def lot_of(instrument: Instrument) -> Unit:
    """Return the unit of sizes."""
    return Unit("size", float(instrument.lot_size), "say in its definition what a lot is (lot_size)")


def to_units(values: Array, unit: Unit, path: Path, line: int) -> Array:
    """Return `values` (rows, ...) as whole multiples of `unit`. Raises `ConfigError` that names the line of an odd one, or of none."""
    with np.errstate(over="ignore", invalid="ignore"):
        counts = values / unit.size
        whole = np.rint(counts)
        odd = np.argwhere(~((np.abs(counts - whole) <= 1e-3) & (np.abs(counts) < _MOST)))
    if odd.size:
        value = f"{values[tuple(odd[0])]:.12g}"
        row = line + int(odd[0][0])
        raise ConfigError(f"{path}: line {row} has the {unit.name} {value}, not a multiple of {unit.size:g}; {unit.remedy}")
    return whole.astype(np.int64)


def times_of(column: pa.Array, meaning: TimeColumn, path: Path, line: int) -> Array:
    """Return a column of times as ns UTC: counts since the epoch, or texts (ISO without a format). Raises `ConfigError`."""
    if column.null_count:
        row = int(np.flatnonzero(~np.asarray(column.is_valid()))[0])
        raise ConfigError(f"{path}: line {line + row} has no time; fetch the file again")
    if meaning.unit in _UNIT_NS:
        counts: Array = column.to_numpy(zero_copy_only=False).astype(np.int64)
        wrong = np.flatnonzero((counts < 0) | (counts > _LATEST_NS // _UNIT_NS[meaning.unit]))
        if wrong.size:
            where, found = line + int(wrong[0]), int(counts[wrong[0]])
            raise ConfigError(f"{path}: line {where} has the time {found}, in {meaning.unit} outside of 1970 to 2200; check the unit")
        return counts * _UNIT_NS[meaning.unit]
    try:
        local = pc.strptime(column, format=meaning.format, unit="ns") if meaning.format else column.cast(pa.timestamp("ns"))
        utc = (
            local
            if meaning.timezone == "UTC"
            else pc.assume_timezone(local, meaning.timezone, ambiguous="earliest", nonexistent="earliest")
        )
        return np.asarray(utc.cast(pa.int64()))
    except pa.ArrowException as exc:
        raise ConfigError(f"{path}: between lines {line} and {line + len(column)}: a time does not read: {str(exc)[:200]}") from exc


def _check_order(times: Array, before: int | None, path: Path, line: int, *, may_repeat: bool = True) -> int:
    """Return the last of `times`, which must not go back (nor repeat). Raises `ConfigError` that names the line."""
    joined = times if before is None else np.concatenate(([before], times))
    steps = np.diff(joined)
    wrong = np.flatnonzero(steps < 0 if may_repeat else steps <= 0)
    if wrong.size:
        where = line + int(wrong[0]) + (before is None)
        what = "is earlier than" if steps[wrong[0]] < 0 else "repeats the time of"
        raise ConfigError(f"{path}: line {where} {what} the line above it; sort the file by time and drop what is twice in it")
    return int(times[-1])


def first_and_last(blocks: Iterable[tuple[int, Array]], path: Path, *, may_repeat: bool = True) -> tuple[int, int]:
    """Return the first and the last time of a file: `blocks` are its times, each with the line it begins at. Raises `ConfigError`."""
    first: int | None = None
    last: int | None = None
    for line, times in blocks:
        last = _check_order(times, last, path, line, may_repeat=may_repeat)
        first = int(times[0]) if first is None else first
    if first is None or last is None:
        raise ConfigError(f"{path}: holds no rows below its header")
    return first, last
