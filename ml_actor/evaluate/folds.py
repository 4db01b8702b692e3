"""Which rows teach and which are tested: a fixed split, or a walk-forward by session, purged and embargoed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

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
    """Return the folds of a job, with their parts in time order, or say why there are none."""
    named = zip(files, parts, strict=True)
    ordered = sorted(named, key=lambda one: int(one[1].recording.rows.ts_event[0]))
    by_role = {role: tuple(part for file, part in ordered if file.role == role) for role in (TRAIN, TEST, WALK)}
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
    """Cut the time of `parts` into a first training part and `count` tests of about equally many rows; each fit sees what was before.

    One clock for all: of several instruments at a time none teaches what the others do later. Cuts lie between sessions where there
    are enough of them, else between rows. Purged: a training part ends before its test, so no label of it reaches there.
    Embargoed: its last `embargo_rows` rows are left out on top, where the cut is inside a session.
    """
    cuts = _cut_times(parts, count)
    if isinstance(cuts, str):
        return cuts
    made = []
    for number, (start_ns, end_ns) in enumerate(pairwise(cuts), start=1):
        train = tuple(piece for part in parts if (piece := _before(part, start_ns, embargo_rows)) is not None)
        test = tuple(piece for part in parts if (piece := _within(part, start_ns, end_ns)) is not None)
        made.append(Fold(number=number, train=train, test=test))
    return made


def _cut_times(parts: Sequence[Part], count: int) -> list[int] | str:
    times = np.sort(np.concatenate([part.recording.rows.ts_event for part in parts]))
    total = len(times)
    wanted = np.linspace(FIRST_TRAIN_SHARE * total, total, count + 1).astype(np.int64)
    joints = _joints(parts)
    if len(joints) >= MIN_SESSIONS:
        places = np.append(np.searchsorted(times, joints), total)
        wanted = places[np.abs(places[:, None] - wanted[None, :]).argmin(axis=0)]
    cuts = sorted({int(place) for place in wanted})
    if len(cuts) < 2 or cuts[0] == 0:
        return f"{total} rows in {max(len(joints), 1)} sessions are too few to walk forward in {count} folds"
    return [*(int(times[cut]) for cut in cuts[:-1]), int(times[-1]) + 1]


def _joints(parts: Sequence[Part]) -> Int64Array:
    """Return the times at which a session of some part begins and no part is inside one."""
    starts = [part.recording.rows.ts_event[session_starts(part)] for part in parts]
    times = np.unique(np.concatenate(starts))
    inside = np.zeros(len(times), np.bool_)
    for part in parts:
        inside |= _is_inside(part, times)
    return times[~inside]


def session_starts(part: Part) -> Int64Array:
    """Return the positions of the first row of each session."""
    return np.append(0, np.flatnonzero(np.diff(part.recording.rows.segment)) + 1)


def _is_inside(part: Part, times: Int64Array) -> npt.NDArray[np.bool_]:
    """Return per time whether a cut there would part a session in two."""
    places = np.searchsorted(part.recording.rows.ts_event, times)
    return ~np.isin(places, np.append(session_starts(part), len(part.recording.rows)))


def _before(part: Part, time_ns: int, embargo_rows: int) -> Part | None:
    end = int(np.searchsorted(part.recording.rows.ts_event, time_ns))
    end -= embargo_rows if _is_inside(part, np.array([time_ns]))[0] else 0
    return part.between(0, end) if end > 0 else None


def _within(part: Part, start_ns: int, end_ns: int) -> Part | None:
    start, end = np.searchsorted(part.recording.rows.ts_event, (start_ns, end_ns)).tolist()
    return part.between(start, end) if end > start else None
