"""Which rows teach and which are tested: a fixed split, or a walk-forward by session, purged and embargoed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from framework.errors import IntegrityError
from framework.evaluation_job import TEST, TRAIN, WALK, EvaluatedFile
from framework.window import Int64Array
from ml_actor.features.engine import select
from ml_actor.horizons import EARLIER_ROWS
from ml_actor.preparation import Recording

FIRST_TRAIN_SHARE: Final = 0.4
"""A walk-forward begins to test after this share of the rows: before it there is too little to learn from."""
MIN_SESSIONS: Final = 4
"""With fewer sessions than this a walk-forward cuts by rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Consecutive rows of one file: row i of `recording` is row `first_row + i` of the file."""

    file: str
    first_row: int
    fee_ticks: float
    recording: Recording

    @property
    def end_row(self) -> int:
        """Return the row of the file behind the last one."""
        return self.first_row + len(self.recording.rows)

    def between(self, start: int, end: int) -> Part:
        """Return the rows `start` to `end` of this part as a part of its own."""
        rows = select(self.recording.rows, slice(start, end))
        return replace(self, first_row=self.first_row + start, recording=replace(self.recording, rows=rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One fit and what it is tested on. No row is in both, and no label of the one reaches into the other."""

    number: int
    train: tuple[Part, ...]
    test: tuple[Part, ...]


def folds(files: Sequence[EvaluatedFile], parts: Sequence[Part], horizons: Sequence[int], count: int) -> list[Fold] | str:
    """Return the folds of a job, or say why there are none."""
    by_role = {role: tuple(part for file, part in zip(files, parts, strict=True) if file.role == role) for role in (TRAIN, TEST, WALK)}
    if by_role[WALK]:
        return walk_forward(by_role[WALK], count, embargo_rows=max(*horizons, EARLIER_ROWS))
    return [Fold(number=1, train=by_role[TRAIN], test=by_role[TEST])]


def refuse_overlap(fold: Fold) -> None:
    """Raise `IntegrityError` if a row teaches and is tested: then every score of the fold would be a lie."""
    for test in fold.test:
        for train in fold.train:
            first, last = max(test.first_row, train.first_row), min(test.end_row, train.end_row)
            if test.file == train.file and first < last:
                raise IntegrityError(f"fold {fold.number}: rows {first} to {last - 1} of {test.file} are in its training and in its test")


def walk_forward(parts: Sequence[Part], count: int, *, embargo_rows: int) -> list[Fold] | str:
    """Cut the rows of `parts`, in time order, into a first training part and `count` tests; each fit sees all rows before its test.

    Cuts lie between sessions where there are enough of them, else between rows. Purged: a training part ends before its test, so
    no label of it reaches there. Embargoed: its last `embargo_rows` rows are left out on top, if the cut is inside a session.
    """
    ordered = sorted(parts, key=lambda part: int(part.recording.rows.ts_event[0]))
    sizes = np.array([len(part.recording.rows) for part in ordered])
    cuts = _cuts(ordered, sizes, count)
    if isinstance(cuts, str):
        return cuts
    made = []
    for number, (start, end) in enumerate(pairwise(cuts), start=1):
        last = start - embargo_rows if _is_inside_a_session(ordered, sizes, start) else start
        made.append(Fold(number=number, train=_between(ordered, sizes, 0, last), test=_between(ordered, sizes, start, end)))
    return made


def _cuts(parts: Sequence[Part], sizes: Int64Array, count: int) -> list[int] | str:
    total = int(sizes.sum())
    wanted = np.linspace(FIRST_TRAIN_SHARE * total, total, count + 1).astype(np.int64)
    starts = _session_starts(parts, sizes)
    if len(starts) >= MIN_SESSIONS:
        joints = np.append(starts, total)
        wanted = joints[np.abs(joints[:, None] - wanted[None, :]).argmin(axis=0)]
    cuts = sorted({int(cut) for cut in wanted})
    if len(cuts) < 2 or cuts[0] == 0:
        return f"{total} rows in {len(starts)} sessions are too few to walk forward in {count} folds"
    return cuts


def _session_starts(parts: Sequence[Part], sizes: Int64Array) -> Int64Array:
    """Return the positions, over all parts, of the first row of each session."""
    offsets = np.append(0, np.cumsum(sizes)[:-1])
    found = [
        offset + np.append(0, np.flatnonzero(np.diff(part.recording.rows.segment)) + 1) for part, offset in zip(parts, offsets, strict=True)
    ]
    return np.concatenate(found)


def _is_inside_a_session(parts: Sequence[Part], sizes: Int64Array, position: int) -> bool:
    return position not in set(_session_starts(parts, sizes).tolist())


def _between(parts: Sequence[Part], sizes: Int64Array, start: int, end: int) -> tuple[Part, ...]:
    chosen, offset = [], 0
    for part, size in zip(parts, sizes.tolist(), strict=True):
        low, high = max(0, start - offset), min(size, end - offset)
        if low < high:
            chosen.append(part.between(low, high))
        offset += size
    return tuple(chosen)
