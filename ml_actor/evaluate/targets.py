"""Which rows are scored, and what happened after them.

The contract, so that anybody can compute it alone: rows are the books of a recording in their order, numbered from 0. A row is
scored if it has 100 earlier rows in its session, if the row `horizon` rows later is in the same session, and if no later
row has its time stamp (of several rows with one stamp the last is scored; all of them count as rows). The label is the
change of the mid between the two rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from framework.window import Int64Array, Rows
from ml_actor.horizons import EARLIER_ROWS, threshold_of
from ml_actor.labels import classify, label_rows
from ml_actor.preparation import Recording

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The scored rows of one recording at one horizon: their positions, and the moves of the mid in half ticks."""

    rows: Int64Array
    moves: Int64Array

    def classes(self, threshold: float) -> Int64Array:
        """Return `DOWN`, `FLAT` or `UP` per scored row."""
        return classify(self.moves, threshold)


def is_last_of_its_time(rows: Rows) -> BoolArray:
    """Return per row whether the next row has another time stamp or is of another session."""
    is_last = np.ones(len(rows), np.bool_)
    is_last[:-1] = (rows.ts_event[1:] != rows.ts_event[:-1]) | (rows.segment[1:] != rows.segment[:-1])
    return is_last


def targets(rows: Rows, horizon: int) -> Targets:
    """Return what is scored of `rows` at `horizon`."""
    labels = label_rows(rows, horizon_rows=horizon, min_history=EARLIER_ROWS + 1)
    where = np.flatnonzero(labels.is_valid & is_last_of_its_time(rows))
    return Targets(rows=where, moves=labels.moves[where])


def training_threshold(train: Sequence[Recording], horizon: int, label: str) -> float:
    """Return the half ticks beyond which a move is up or down, from the rows of the training part that have a label."""
    found = [label_rows(part.rows, horizon_rows=horizon, min_history=EARLIER_ROWS + 1) for part in train]
    return threshold_of(np.concatenate([*(labels.moves[labels.is_valid] for labels in found), np.zeros(0, np.int64)]), label)
