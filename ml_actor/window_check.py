"""`framework.wire.find_fault`, compiled: one pass over the payload instead of twenty calls, for it is on every request's way."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from framework.window import BAR_COLUMNS, FLOW_COLUMNS, LEVELS, Float32Array, Int32Array, Int64Array

_FLOW: Final = len(FLOW_COLUMNS)
_BARS: Final = len(BAR_COLUMNS)


def find_fault(payload: bytes, rows: int, bars: int) -> int:
    """Return the number in `framework.wire.FAULTS` of the first fault in a payload of the right length, 0 for none."""
    return int(_find_fault(np.frombuffer(payload, np.uint8), rows, bars))


@njit(cache=True)
def _find_fault(payload: npt.NDArray[np.uint8], rows: int, bars: int) -> int:
    ticks_at = 16 * rows
    floats_at = ticks_at + 8 * LEVELS * rows
    bars_at = floats_at + 4 * (2 * LEVELS + _FLOW) * rows
    floats = payload[floats_at:bars_at].view(np.float32)
    if _has_infinite(floats) or _has_infinite(payload[bars_at : bars_at + 8 * _BARS * bars].view(np.float64)):
        return 1
    if _runs_backwards(payload[:ticks_at].view(np.int64), rows):
        return 2
    sizes = floats[: 2 * LEVELS * rows]
    for size in sizes:
        if size < 0:
            return 3
    return _levels_fault(payload[ticks_at:floats_at].view(np.int32), sizes, rows)


@njit(cache=True)
def _has_infinite(numbers: npt.NDArray[Any]) -> bool:
    for number in numbers:  # noqa: SIM110 (numba knows no `any`)
        if not math.isfinite(number):
            return True
    return False


@njit(cache=True)
def _runs_backwards(times: Int64Array, rows: int) -> bool:
    for row in range(1, rows):
        if times[row] < times[row - 1] or times[rows + row] < times[rows + row - 1]:
            return True
    return bool(times[0] < 0)


@njit(cache=True)
def _levels_fault(ticks: Int32Array, sizes: Float32Array, rows: int) -> int:
    side = rows * LEVELS
    for cell in range(2 * side):
        if cell % LEVELS and sizes[cell] > 0:
            step = ticks[cell] - ticks[cell - 1]
            if sizes[cell - 1] == 0 or (step >= 0 if cell < side else step <= 0):
                return 4
    for bid in range(0, side, LEVELS):
        ask = side + bid
        if sizes[bid] > 0 and sizes[ask] > 0 and ticks[bid] >= ticks[ask]:
            return 5
    return 0
