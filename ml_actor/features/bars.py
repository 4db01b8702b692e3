"""Features of the bars of a window: OHLCV, in mean ranges of the last 20 bars.

A bar is known from its end on. The bars of a window are the last ones that had ended; of a recording, each row sees those
that had ended when it came, so that both agree. Where the caller cuts bars (at a session break), nothing crosses the cut.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit

from framework.window import Float64Array, Int64Array
from ml_actor.features.table import CONTEXT_FEATURES

END_S, OPEN, HIGH, LOW, CLOSE, VOLUME = range(6)
FAST, SLOW = 5, 20
SEEN_BARS: Final = SLOW + 1
"""A row looks at the last 21 bars at most."""
_COUNT: Final = len(CONTEXT_FEATURES)
_DAY_NS: Final = 86_400_000_000_000
NAN: Final = math.nan


def context_features(times: Int64Array, bars: Float64Array) -> Float64Array:
    """Return float64 (n, 11): the session clock at `times` (ns), and of `bars` (m, 6) those that had ended by then."""
    return _context(np.array(times), np.array(bars, np.float64, order="C"))  # type: ignore[no-any-return]


def mirror_bars(bars: Float64Array) -> Float64Array:
    """Return the bars of the mirrored market: prices change their sign, high and low change places."""
    out = bars.copy()
    out[:, OPEN], out[:, HIGH], out[:, LOW], out[:, CLOSE] = -bars[:, OPEN], -bars[:, LOW], -bars[:, HIGH], -bars[:, CLOSE]
    return out


@njit(cache=True)
def _mean(values: Any) -> float:
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


@njit(cache=True)
def _change(bars: Any, last: int, lag: int, unit: float) -> float:
    return (bars[last, CLOSE] - bars[last - lag, CLOSE]) / unit if last >= lag and unit > 0.0 else NAN


@njit(cache=True)
def _of_bars(bars: Any, last: int, now_s: float, out: Any) -> None:
    """Write the nine numbers of the bars up to `last`; what there are too few bars for stays NaN."""
    width = bars[last, HIGH] - bars[last, LOW]
    if width > 0.0:
        out[3] = (bars[last, CLOSE] - bars[last, OPEN]) / width
        out[4] = ((bars[last, CLOSE] - bars[last, HIGH]) + (bars[last, CLOSE] - bars[last, LOW])) / width
    out[8] = math.log(1.0 + max(0.0, now_s - bars[last, END_S]))
    if last + 1 < SLOW:
        return
    slow, fast = bars[last + 1 - SLOW : last + 1], bars[last + 1 - FAST : last + 1]
    unit, near = _mean(slow[:, HIGH] - slow[:, LOW]), _mean(fast[:, HIGH] - fast[:, LOW])
    out[0], out[1], out[2] = _change(bars, last, 1, unit), _change(bars, last, FAST, unit), _change(bars, last, SLOW, unit)
    if unit > 0.0 and near > 0.0:
        out[6] = math.log(near / unit)
    volume, recent = _mean(slow[:, VOLUME]), _mean(fast[:, VOLUME])
    if volume > 0.0 and recent > 0.0:
        out[7] = math.log(recent / volume)
    if last >= SLOW:
        path = 0.0
        for bar in range(last - SLOW + 1, last + 1):
            path += abs(bars[bar, CLOSE] - bars[bar - 1, CLOSE])
        out[5] = (bars[last, CLOSE] - bars[last - SLOW, CLOSE]) / path if path > 0.0 else NAN


@njit(cache=True)
def _context(times: Any, bars: Any) -> Any:
    out, last = np.full((len(times), _COUNT), NAN), -1
    for row in range(len(times)):
        day = 2.0 * math.pi * np.float64(times[row] % _DAY_NS) / _DAY_NS
        out[row, 0], out[row, 1] = math.sin(day), math.cos(day)
        while last + 1 < len(bars) and bars[last + 1, END_S] <= 1e-9 * times[row]:
            last += 1
        if last >= 0:
            first = max(0, last + 1 - SEEN_BARS)
            _of_bars(bars[first : last + 1], last - first, 1e-9 * times[row], out[row, 2:])
    return out
