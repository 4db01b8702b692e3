"""`framework.wire.find_fault`, compiled: a few passes over the payload instead of twenty calls, for it is on every request's way.

The loops have no early end and count in one width, so that the compiler can take several numbers at a time.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from framework.window import BAR_COLUMNS, FLOW_COLUMNS, LEVELS, Float32Array, Int32Array, Int64Array

_FLOW: Final = len(FLOW_COLUMNS)
_BARS: Final = len(BAR_COLUMNS)
# IEEE 754: an exponent of all ones is an infinity or NaN; one more carries into the sign's place, which was masked out.
_EXPONENT_32, _ONE_32, _CARRY_32 = np.uint32(0x7F800000), np.uint32(0x00800000), np.uint32(0x80000000)
_EXPONENT_64, _ONE_64, _CARRY_64 = np.uint64(0x7FF << 52), np.uint64(1 << 52), np.uint64(1 << 63)


def find_fault(payload: bytes, rows: int, bars: int) -> int:
    """Return the number in `framework.wire.FAULTS` of the first fault in a payload of the right length, 0 for none."""
    return int(_find_fault(np.frombuffer(payload, np.uint8), rows, bars))


@njit(cache=True)
def _find_fault(payload: npt.NDArray[np.uint8], rows: int, bars: int) -> int:
    ticks_at = 16 * rows
    floats_at = ticks_at + 8 * LEVELS * rows
    bars_at = floats_at + 4 * (2 * LEVELS + _FLOW) * rows
    floats = payload[floats_at:bars_at]
    if _has_infinite_32(floats.view(np.uint32)) or _has_infinite_64(payload[bars_at : bars_at + 8 * _BARS * bars].view(np.uint64)):
        return 1
    times = payload[:ticks_at].view(np.int64)
    if times[0] < 0 or _runs_backwards(times[:rows]) or _runs_backwards(times[rows:]):
        return 2
    ticks = payload[ticks_at:floats_at].view(np.int32)
    sizes = floats[: 8 * LEVELS * rows]
    if _all_positive(sizes.view(np.int32)):
        return _full_levels_fault(ticks, rows)
    return _levels_fault(ticks, sizes.view(np.float32), rows)


@njit(cache=True)
def _has_infinite_32(bits: npt.NDArray[np.uint32]) -> bool:
    found = np.uint32(0)
    for cell in range(len(bits)):
        found = np.uint32(found | np.uint32(np.uint32(bits[cell] & _EXPONENT_32) + _ONE_32))
    return bool(found >= _CARRY_32)


@njit(cache=True)
def _has_infinite_64(bits: npt.NDArray[np.uint64]) -> bool:
    found = np.uint64(0)
    for cell in range(len(bits)):
        found = found | ((bits[cell] & _EXPONENT_64) + _ONE_64)
    return bool(found >= _CARRY_64)


@njit(cache=True)
def _runs_backwards(times: Int64Array) -> bool:
    steps_back = 0
    for row in range(1, len(times)):
        steps_back += times[row] < times[row - 1]
    return steps_back > 0


@njit(cache=True)
def _all_positive(bits: Int32Array) -> bool:
    """Say whether floats, none of them NaN, are all above 0: so are their bits as integers then, and only then."""
    others = np.int32(0)
    for cell in range(len(bits)):
        others |= np.int32(bits[cell] <= 0)
    return bool(others == 0)


@njit(cache=True)
def _full_levels_fault(ticks: Int32Array, rows: int) -> int:
    """Return the fault of books without a missing level."""
    ask_side = rows * LEVELS
    unsorted = crossed = 0
    for bid in range(0, ask_side, LEVELS):
        ask = ask_side + bid
        for level in range(1, LEVELS):
            unsorted += ticks[bid + level] >= ticks[bid + level - 1]
            unsorted += ticks[ask + level] <= ticks[ask + level - 1]
        crossed += ticks[bid] >= ticks[ask]
    if unsorted:
        return 4
    return 5 if crossed else 0


@njit(cache=True)
def _levels_fault(ticks: Int32Array, sizes: Float32Array, rows: int) -> int:
    """Return the fault of books in which levels may be missing behind the others."""
    side = rows * LEVELS
    for size in sizes:
        if size < 0:
            return 3
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
