"""The deterministic shock score: how far spread, depth and order flow are from their medians in the look-back.

The values of the look-back are kept sorted: one row comes in, one goes out, and a median is a place.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from ml_actor.features.book import At, put
from ml_actor.features.series import DEPTH_5, MISSING_MID, NAN, OFI_1, SPREAD, Array, Series, inner

MIN_SOUND_ROWS: Final = 20


class Ordered(NamedTuple):
    """Sorted `values` (3, window) of spread, -ln(depth) and |OFI| of the sound rows of a look-back.

    `span` int64 (2,): its first row, and how many values there are.
    """

    values: Array
    span: Array


@inner
def new_ordered(window_rows: int) -> Ordered:
    """Return it without values."""
    return Ordered(np.empty((3, window_rows)), np.zeros(2, np.int64))


@inner
def _value(kind: int, i: int, series: Series) -> float:
    column = series.columns[i]
    if kind == 0:
        return float(column[SPREAD])
    return -math.log(column[DEPTH_5]) if kind == 1 else abs(column[OFI_1])


@inner
def _insert(values: Array, count: int, value: float) -> None:
    place = count
    while place > 0 and values[place - 1] > value:
        values[place] = values[place - 1]
        place -= 1
    values[place] = value


@inner
def _remove(values: Array, count: int, value: float) -> None:
    place = 0
    while values[place] < value:
        place += 1
    for later in range(place, count - 1):
        values[later] = values[later + 1]


@inner
def slide(t: int, low: int, series: Series, ordered: Ordered) -> None:
    """Take row `t` in and the rows before `low` out. To be called for every row behind those gathered, in order."""
    span = ordered.span
    for i in range(span[0], min(low, t)):
        if series.mids[i] != MISSING_MID:
            for kind in range(3):
                _remove(ordered.values[kind], span[1], _value(kind, i, series))
            span[1] -= 1
    span[0] = low
    if series.mids[t] != MISSING_MID:
        for kind in range(3):
            _insert(ordered.values[kind], span[1], _value(kind, t, series))
        span[1] += 1


@inner
def gather(t: int, low: int, series: Series, ordered: Ordered) -> None:
    """Take rows `low..t` in at once, as `slide` would one by one."""
    values, count = ordered.values, 0
    for i in range(low, t + 1):
        if series.mids[i] != MISSING_MID:
            for kind in range(3):
                values[kind, count] = _value(kind, i, series)
            count += 1
    for kind in range(3):
        values[kind, :count].sort()
    ordered.span[0], ordered.span[1] = low, count


@inner
def _deviation(values: Array, middle: int) -> float:
    """Return the median absolute deviation of sorted `values` from the one at `middle` (lower medians).

    Deviations rise from the middle to both ends: two sorted rows, of which the (middle + 1)th smallest value is wanted. `under` of them
    lie on the lower side: found by halving, because a walk of fifty steps costs fifty guesses of a branch.
    """
    center, wanted = values[middle], middle + 1
    low, high = max(0, wanted - (len(values) - wanted)), wanted
    while low < high:
        under = (low + high) // 2
        if center - values[middle - under] < values[wanted + wanted - under - 1] - center:
            low = under + 1
        else:
            high = under
    below = center - values[wanted - low] if low > 0 else -math.inf
    above = values[wanted + wanted - low - 1] - center if low < wanted else -math.inf
    return float(max(below, above))


@inner
def _robust_z(now: float, values: Array, floor: float) -> float:
    """Return `now` in median absolute deviations from the median of sorted `values` (lower medians)."""
    middle = (len(values) - 1) // 2
    return float((now - values[middle]) / max(1.4826 * _deviation(values, middle), floor))


@inner
def shock_features(at: At, ordered: Ordered, out: Array, place: int) -> int:
    """Write the features of the group `shock` from `place` on; return the next place. NaN below 20 sound rows."""
    count, t, series = ordered.span[1], at.t, at.series
    if count < MIN_SOUND_ROWS or not at.has_mid:
        return put(out, place, (NAN, NAN, NAN, NAN))
    spread = _robust_z(_value(0, t, series), ordered.values[0, :count], 0.5 * at.spread)
    depth = _robust_z(_value(1, t, series), ordered.values[1, :count], 0.1)
    flow = _robust_z(_value(2, t, series), ordered.values[2, :count], 0.1 * at.depth_1)
    return put(out, place, (spread, depth, flow, max(spread, depth, flow)))
