"""Time order: train | validation | calibration | test, purged and embargoed."""

from __future__ import annotations

from typing import Final

import numpy as np

from framework.window import Int64Array
from ml_actor.labels import Labels

TRAIN: Final = 0
VALIDATION: Final = 1
CALIBRATION: Final = 2
TEST: Final = 3
NOWHERE: Final = -1
SLICES: Final = ("train", "validation", "calibration", "test")
FRACTIONS: Final = (0.60, 0.10, 0.15, 0.15)


def running_times(ts_event: Int64Array) -> Int64Array:
    """Return the times with every step back taken out: a simulated market that starts again goes on where it stopped.

    Steps forward stay as they are. Times that never run backwards come back unchanged.
    """
    steps = np.diff(ts_event)
    return ts_event + np.append(0, np.cumsum(np.where(steps < 0, 1 - steps, 0))) if len(ts_event) else ts_event


def cut_times(ts_event: Int64Array) -> Int64Array:
    """Return the three times (ns) that cut the usable rows of all instruments by `FRACTIONS`: one clock for everybody."""
    ordered = np.sort(ts_event)
    positions = (np.cumsum(FRACTIONS[:-1]) * len(ordered)).astype(np.int64)
    return ordered[positions]


def assign(times: Int64Array, labels: Labels, cuts: Int64Array, *, horizon_rows: int, embargo_rows: int) -> Int64Array:
    """Return the slice of each row (`TRAIN` to `TEST`) by its running time, or `NOWHERE`.

    Purged: a label that ends in a later slice than it starts in belongs to none. Embargoed: the first `embargo_rows`
    rows of every later slice are left out, so that no look-back reaches into rows whose labels an earlier slice used.
    """
    n = len(times)
    here = np.searchsorted(cuts, times, side="right")
    there = here.copy()
    there[: max(0, n - horizon_rows)] = here[horizon_rows:]
    first_row = np.searchsorted(here, np.arange(len(FRACTIONS)))
    is_rested = (here == TRAIN) | (np.arange(n) - first_row[here] >= embargo_rows)
    return np.where(labels.is_valid & (here == there) & is_rested, here, NOWHERE)
