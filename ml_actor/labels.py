"""Labels: what the mid did over the next rows, in whole half ticks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from framework.window import Int64Array, Rows

DOWN: Final = 0
FLAT: Final = 1
UP: Final = 2
CLASSES: Final = ("down", "flat", "up")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Per row: the mid's move in half ticks (int64, 0 where not valid) and whether the label may be used."""

    moves: Int64Array
    is_valid: npt.NDArray[np.bool_]

    @property
    def classes(self) -> Int64Array:
        """Return `DOWN`, `FLAT` or `UP` per row."""
        return np.sign(self.moves) + 1


def label_rows(rows: Rows, *, horizon_rows: int, min_history: int) -> Labels:
    """Label each row by the move of the mid from it to `horizon_rows` later (anchored, integer arithmetic).

    Valid are rows with at least `min_history` rows of their segment up to and with themselves, whose horizon ends
    inside the segment, and with both sides of the book there at both ends. (Source: anchored return L1; never smoothed
    over the past, whose mean is known when deciding.)
    """
    n = len(rows)
    moves, is_valid = np.zeros(n, np.int64), np.zeros(n, np.bool_)
    if n <= horizon_rows:
        return Labels(moves=moves, is_valid=is_valid)
    run, history = _runs(rows.segment)
    mids = rows.bid_ticks[:, 0].astype(np.int64) + rows.ask_ticks[:, 0].astype(np.int64)
    has_mid = (rows.bid_sizes[:, 0] > 0) & (rows.ask_sizes[:, 0] > 0)
    here, there = slice(0, n - horizon_rows), slice(horizon_rows, n)
    is_valid[here] = (run[here] == run[there]) & has_mid[here] & has_mid[there] & (history[here] >= min_history)
    moves[here] = np.where(is_valid[here], mids[there] - mids[here], 0)
    return Labels(moves=moves, is_valid=is_valid)


def classify(moves: Int64Array, threshold: float) -> Int64Array:
    """Return `DOWN`, `FLAT` or `UP` per move: flat is a move of at most `threshold` half ticks, either way."""
    return np.where(np.abs(moves) > threshold, np.sign(moves), 0) + 1


def positions(segment: Int64Array) -> Int64Array:
    """Return per row how many rows of its run of equal segments come before it."""
    return _runs(segment)[1] - 1


def _runs(segment: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Return per row the number of its run of equal segments, and how many rows the run has up to it."""
    starts = np.flatnonzero(np.append(True, np.diff(segment) != 0))
    run = np.searchsorted(starts, np.arange(len(segment)), side="right") - 1
    return run, np.arange(len(segment)) - starts[run] + 1
