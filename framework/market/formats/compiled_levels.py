"""The levels of one side of a book, compiled: what `book.BookSide` does, on arrays.

A level lies at `sign * tick` (bids +1, asks -1), in rising order: the best is the last, where most changes are.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from framework.window import LEVELS, Int64Array

NOWHERE: Final = -(2**62)
COUNT, IS_CHANGED, WORST_SHOWN = range(3)
"""Facts of a side: how many levels it has, whether what was shown last may be another now, and the worst place shown."""


def empty_side(room: int) -> tuple[Int64Array, Int64Array]:
    """Return the levels (places, lots) and the facts of a side that has none."""
    return np.zeros((2, room), np.int64), np.array([0, 1, NOWHERE], np.int64)


@njit(cache=True)
def _index_of(levels: Int64Array, count: int, place: int) -> int:
    """Return where a place lies, or would lie."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if levels[0, middle] < place:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def put_level(levels: Int64Array, facts: Int64Array, place: int, lots: int) -> None:
    """Set the lots at a place; a place with none is gone. There must be room."""
    count = facts[COUNT]
    if place >= facts[WORST_SHOWN]:
        facts[IS_CHANGED] = 1
    at = _index_of(levels, count, place)
    is_known = at < count and levels[0, at] == place
    if lots > 0 and not is_known:
        for index in range(count, at, -1):
            levels[0, index], levels[1, index] = levels[0, index - 1], levels[1, index - 1]
        levels[0, at] = place
        facts[COUNT] = count + 1
    if lots > 0:
        levels[1, at] = lots
    elif is_known:
        for index in range(at, count - 1):
            levels[0, index], levels[1, index] = levels[0, index + 1], levels[1, index + 1]
        facts[COUNT] = count - 1


@njit(cache=True)
def change_level(levels: Int64Array, facts: Int64Array, place: int, lots: int) -> None:
    """Change the lots at a place by `lots`."""
    at = _index_of(levels, facts[COUNT], place)
    is_known = at < facts[COUNT] and levels[0, at] == place
    put_level(levels, facts, place, lots + levels[1, at] if is_known else lots)


@njit(cache=True)
def show(levels: Int64Array, facts: Int64Array, sign: int, ticks: Int64Array, lots: Int64Array) -> int:
    """Write the best levels into `ticks` and `lots`, and return how many there are."""
    count = facts[COUNT]
    shown = min(count, LEVELS)
    for level in range(shown):
        ticks[level] = sign * levels[0, count - 1 - level]
        lots[level] = levels[1, count - 1 - level]
    facts[WORST_SHOWN] = levels[0, count - LEVELS] if shown == LEVELS else NOWHERE
    facts[IS_CHANGED] = 0
    return int(shown)
