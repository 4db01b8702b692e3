"""`framework.wire.find_fault`, compiled: one pass instead of twenty calls, for it is on every request's way."""

from __future__ import annotations

import math

from numba import njit

from framework.window import Float32Array, Float64Array, Int32Array, Int64Array


@njit(cache=True)
def find_fault(times: Int64Array, ticks: Int32Array, sizes: Float32Array, floats: Float32Array, bars: Float64Array) -> int:
    """Return the number in `framework.wire.FAULTS` of the first fault, 0 for none."""
    for number in floats:
        if not math.isfinite(number):
            return 1
    for number in bars:
        if not math.isfinite(number):
            return 1
    return _times_fault(times) or _sizes_fault(sizes) or _levels_fault(ticks, sizes)


@njit(cache=True)
def _times_fault(times: Int64Array) -> int:
    if times[0, 0] < 0:
        return 2
    for row in range(1, times.shape[1]):
        if times[0, row] < times[0, row - 1] or times[1, row] < times[1, row - 1]:
            return 2
    return 0


@njit(cache=True)
def _sizes_fault(sizes: Float32Array) -> int:
    for size in sizes.ravel():
        if size < 0:
            return 3
    return 0


@njit(cache=True)
def _levels_fault(ticks: Int32Array, sizes: Float32Array) -> int:
    rows, levels = ticks.shape[1], ticks.shape[2]
    for side in range(2):
        for row in range(rows):
            for level in range(1, levels):
                if sizes[side, row, level] > 0:
                    step = ticks[side, row, level] - ticks[side, row, level - 1]
                    if sizes[side, row, level - 1] == 0 or (step >= 0 if side == 0 else step <= 0):
                        return 4
    for row in range(rows):
        if sizes[0, row, 0] > 0 and sizes[1, row, 0] > 0 and ticks[0, row, 0] >= ticks[1, row, 0]:
            return 5
    return 0
