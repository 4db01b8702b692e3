"""Find the row that a prediction was made on, with its neighbours: in sealed parts, or in the tail that is still written to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from framework.dataset.parts import DamagedPart, Manifest, Part, read_manifest, read_part
from framework.dataset.schema import from_table, join
from framework.dataset.tail import Block, peek
from framework.window import Rows
from ml_actor.features.engine import select
from ml_actor.preparation import Recording

TRIES: Final = 3
"""Rows may be sealed between two looks; then both are taken again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Rows around a prediction: `recording.rows[row]` is the last row that the model saw."""

    recording: Recording
    row: int


class NotFound(Exception):
    """The row is not there; the text says why, as far as that is known."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A sealed part, or a block of the tail, that is read when it is needed."""

    read: Callable[[], Rows]
    may_hold: Callable[[int], bool]
    rows: int


def find_rows(directory: Path, instrument_id: str, *, ts_event: int, sequence: int, before: int, after: int) -> Found:
    """Return the row with at most `before` rows before it and `after` rows behind it, as far as they are in the dataset.

    Raises `NotFound`, or `IntegrityError` for a damaged manifest.
    """
    manifest, blocks = _look(directory)
    parts = [part for part in manifest.parts if part.instrument_id == instrument_id]
    own = [block for block in blocks if block.instrument_id == instrument_id]
    pieces = [_of_part(directory, part) for part in parts] + [_of_block(block) for block in own]
    if not pieces:
        known = sorted({part.instrument_id for part in manifest.parts} | {block.instrument_id for block in blocks})
        raise NotFound(f"the dataset has no rows of {instrument_id}; it has {', '.join(known) or 'no rows at all'}")
    damaged: list[str] = []
    for number in reversed(range(len(pieces))):
        row = _row_in(pieces[number], ts_event, sequence, damaged)
        if row is not None:
            rows, place = _gathered(pieces, (number, row), before, after)
            tick_size, has_trades = _facts(directory, parts, own)
            recording = Recording(instrument_id=instrument_id, tick_size=tick_size, has_trades=has_trades, rows=rows)
            return Found(recording=recording, row=place)
    also = f"; {len(damaged)} damaged parts may have held it, first: {damaged[0]}" if damaged else ""
    raise NotFound(f"row {sequence} of {instrument_id} is not in the dataset{also}")


def _look(directory: Path) -> tuple[Manifest, list[Block]]:
    for _ in range(TRIES):
        manifest = read_manifest(directory)
        blocks = peek(directory, manifest.total_rows if manifest else 0)
        again = read_manifest(directory)
        if again == manifest:
            break
    if manifest is None and not blocks:
        raise NotFound(f"{directory}: there is no dataset")
    return manifest or Manifest(kind="", schema=""), blocks


def _of_part(directory: Path, part: Part) -> _Piece:
    return _Piece(
        lambda: from_table(read_part(directory, part)), lambda ts_event: _part_may_hold(directory / part.name, ts_event), part.rows
    )


def _part_may_hold(path: Path, ts_event: int) -> bool:
    """Look at the statistics of a part, which costs a millisecond instead of a hundred."""
    try:
        metadata = pq.read_metadata(path)
        column = metadata.schema.to_arrow_schema().names.index("ts_event")
        found = [metadata.row_group(group).column(column).statistics for group in range(metadata.num_row_groups)]
    except (OSError, ValueError):
        return True  # reading it will say what is wrong
    return any(one is None or not one.has_min_max or one.min <= ts_event <= one.max for one in found)


def _of_block(block: Block) -> _Piece:
    return _Piece(block.rows, lambda _: True, block.count)


def _row_in(piece: _Piece, ts_event: int, sequence: int, damaged: list[str]) -> int | None:
    if not piece.may_hold(ts_event):
        return None
    try:
        rows = piece.read()
    except DamagedPart as exc:
        damaged.append(str(exc))
        return None
    found = np.flatnonzero((rows.ts_event == ts_event) & (rows.sequence == sequence))
    return int(found[-1]) if len(found) else None


def _facts(directory: Path, parts: Sequence[Part], blocks: Sequence[Block]) -> tuple[float, bool]:
    """Return tick size and whether there are trades."""
    if blocks:
        return blocks[-1].tick_size, blocks[-1].has_trades
    table = read_part(directory, parts[-1])
    return float(table.column("tick_size")[0].as_py()), bool(table.column("has_trades")[0].as_py())


def _gathered(pieces: Sequence[_Piece], where: tuple[int, int], before: int, after: int) -> tuple[Rows, int]:
    """Join a piece with as many of its neighbours as are needed (one that is damaged ends them); return rows, and the row's place."""
    number, row = where
    joined, place = [pieces[number].read()], row
    for earlier in reversed(pieces[:number]):
        if place >= before or (read := _read(earlier)) is None:
            break
        joined.insert(0, read)
        place += len(read)
    behind = pieces[number].rows - row - 1
    for later in pieces[number + 1 :]:
        if behind >= after or (read := _read(later)) is None:
            break
        joined.append(read)
        behind += len(read)
    first = max(0, place - before)
    return select(join(joined), slice(first, place + after + 1)), place - first


def _read(piece: _Piece) -> Rows | None:
    try:
        return piece.read()
    except DamagedPart:
        return None
