"""The rules of `framework.venues.matching`, compiled, on the arrays of a recording, for compiled backtests.

The interpreted engine is the law: `tests/backtest/compiled/test_matching.py` asks both the same and wants the same fills.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from framework.backtest.compiled.queues import LEFT, PRICE, SIDE, UNSEEN, passing, see
from framework.window import LEVELS, Int64Array

BOOK, TRADE = 0, 1
SLOTS: Final = 256


@njit(cache=True)
def displayed(levels: Int64Array, facts: Int64Array, row: int, side: int, price: int) -> int:
    """Return the lots displayed at a price, 0 between levels, -1 where the book does not show so far (or there is none)."""
    if row < 0:
        return UNSEEN
    place, depth = (0, facts[row, 3]) if side > 0 else (2, facts[row, 4])
    if depth == 0:
        return UNSEEN
    for level in range(depth):
        if levels[row, place, level] == price:
            return int(levels[row, place + 1, level])
    last = levels[row, place, depth - 1]
    return UNSEEN if (last > price if side > 0 else last < price) else 0


@njit(cache=True)
def refresh(levels: Int64Array, facts: Int64Array, before: int, row: int, taken: Int64Array, counts: Int64Array) -> None:
    """Bring what is left of the levels that we took from to the next book."""
    for ours in range(2):
        place, depth, side = (2, facts[row, 4], -1) if ours == 0 else (0, facts[row, 3], 1)
        kept = 0
        for one in range(counts[ours]):
            price, available = taken[ours, one, 0], taken[ours, one, 1]
            for level in range(depth):
                if levels[row, place, level] == price:
                    size = levels[row, place + 1, level]
                    was = max(0, displayed(levels, facts, before, side, price))
                    taken[ours, kept, 0], taken[ours, kept, 1] = price, min(size, available + max(0, size - was))
                    kept += 1
                    break
        counts[ours] = kept


@njit(cache=True)
def _available(taken: Int64Array, counts: Int64Array, ours: int, price: int, size: int) -> int:
    for one in range(counts[ours]):
        if taken[ours, one, 0] == price:
            return int(taken[ours, one, 1])
    return size


@njit(cache=True)
def _put(taken: Int64Array, counts: Int64Array, ours: int, price: int, available: int) -> None:
    for one in range(counts[ours]):
        if taken[ours, one, 0] == price:
            taken[ours, one, 1] = available
            return
    taken[ours, counts[ours], 0], taken[ours, counts[ours], 1] = price, available
    counts[ours] += 1


@njit(cache=True)
def take(
    levels: Int64Array,
    facts: Int64Array,
    row: int,
    side: int,
    limit: int,
    quantity: int,
    taken: Int64Array,
    counts: Int64Array,
    out: Int64Array,
    trial: int,
) -> int:
    """Take up to `quantity` lots from the other side within the limit; write (price, lots) to `out`, return how many rows.

    With `trial` 1 nothing is taken.
    """
    if row < 0:
        return 0
    ours = 0 if side > 0 else 1
    place, depth = (2, facts[row, 4]) if side > 0 else (0, facts[row, 3])
    rows = 0
    for level in range(depth):
        price = levels[row, place, level]
        if quantity == 0 or (limit - price) * side < 0:
            break
        available = _available(taken, counts, ours, price, levels[row, place + 1, level])
        if available <= 0:
            continue
        size = min(quantity, available)
        if not trial:
            _put(taken, counts, ours, price, available - size)
        quantity -= size
        out[rows, 0], out[rows, 1] = price, size
        rows += 1
    return rows


@njit(cache=True)
def _sort(orders: Int64Array, line: Int64Array, count: int, into: Int64Array) -> None:
    """Write the slots in priority: the better price first, of equal ones the earlier order."""
    for place in range(count):
        slot = line[place]
        key = -orders[slot, SIDE] * orders[slot, PRICE]
        at = place
        while at > 0 and -orders[into[at - 1], SIDE] * orders[into[at - 1], PRICE] > key:
            into[at] = into[at - 1]
            at -= 1
        into[at] = slot


@njit(cache=True)
def _leave(orders: Int64Array, line: Int64Array, count: int) -> int:
    """Drop orders that are filled from the line; return how many are left."""
    kept = 0
    for place in range(count):
        slot = line[place]
        if orders[slot, LEFT] > 0:
            line[kept] = slot
            kept += 1
    return kept


@njit(cache=True)
def match(
    index: Int64Array,
    first: int,
    last: int,
    levels: Int64Array,
    facts: Int64Array,
    trades: Int64Array,
    state: Int64Array,
    orders: Int64Array,
    ahead: npt.NDArray[np.float64],
    line: Int64Array,
    taken: Int64Array,
    fills: Int64Array,
    power: float,
) -> int:
    """Match the events from `first` to before `last` of `index` (kind, place); return how many rows of `fills` were written.

    `state` is: row of the present book (-1: none), number of resting orders, levels taken from for buys and for sells, queue model,
    and the event that is next (before `last`, if `fills` has no more room). A row of `fills` is slot, lots, price. Filled orders leave
    the line.
    """
    filled = 0
    for event in range(first, last):
        state[5] = event
        if filled + SLOTS * LEVELS > len(fills):
            return filled
        kind, place = index[event, 0], index[event, 1]
        if kind == BOOK:
            filled = _match_book(place, levels, facts, state, orders, ahead, line, taken, fills, filled, power)
        elif kind == TRADE and state[1] > 0:
            filled = _match_trade(trades[place], state, orders, ahead, line, fills, filled)
    state[5] = last
    return filled


@njit(cache=True)
def _match_book(
    row: int,
    levels: Int64Array,
    facts: Int64Array,
    state: Int64Array,
    orders: Int64Array,
    ahead: npt.NDArray[np.float64],
    line: Int64Array,
    taken: Int64Array,
    fills: Int64Array,
    filled: int,
    power: float,
) -> int:
    if state[2] or state[3]:
        refresh(levels, facts, state[0], row, taken, state[2:4])
    state[0] = row
    count, model, now_ns = state[1], state[4], facts[row, 0]
    is_reached = False
    for place in range(count):
        order = orders[line[place]]
        if order[SIDE] > 0:
            is_reached |= facts[row, 4] > 0 and levels[row, 2, 0] <= order[PRICE]
        else:
            is_reached |= facts[row, 3] > 0 and levels[row, 0, 0] >= order[PRICE]
    if is_reached:
        by_priority = line[:count].copy()
        _sort(orders, line, count, by_priority)
        got = np.empty((LEVELS, 2), np.int64)
        for slot in by_priority:
            order = orders[slot]
            for one in range(take(levels, facts, row, order[SIDE], order[PRICE], order[LEFT], taken, state[2:4], got, 0)):
                order[LEFT] -= got[one, 1]
                fills[filled, 0], fills[filled, 1], fills[filled, 2] = slot, got[one, 1], order[PRICE]
                filled += 1
    for place in range(count):
        order = orders[line[place]]
        shown = displayed(levels, facts, row, order[SIDE], order[PRICE])
        if shown != UNSEEN:
            ahead[line[place]] = see(order, ahead[line[place]], shown, now_ns, model, power)
    if is_reached:
        state[1] = _leave(orders, line, count)
    return filled


@njit(cache=True)
def _is_traded_at(price: int, aggressor: int, orders: Int64Array, line: Int64Array, count: int) -> bool:
    for place in range(count):
        order = orders[line[place]]
        if order[SIDE] != aggressor and (order[PRICE] - price) * order[SIDE] >= 0:
            return True
    return False


@njit(cache=True)
def _match_trade(
    trade: Int64Array,
    state: Int64Array,
    orders: Int64Array,
    ahead: npt.NDArray[np.float64],
    line: Int64Array,
    fills: Int64Array,
    filled: int,
) -> int:
    now_ns, price, size, aggressor = trade[0], trade[3], trade[4], trade[5]
    if aggressor == 0:
        return filled
    count, model = state[1], state[4]
    if not _is_traded_at(price, aggressor, orders, line, count):
        return filled
    by_priority = line[:count].copy()
    _sort(orders, line, count, by_priority)
    left, has_filled = size, False
    for place in range(count):
        slot = by_priority[place]
        order = orders[slot]
        if order[SIDE] == aggressor:
            continue
        distance = (order[PRICE] - price) * order[SIDE]
        if distance < 0:
            break
        if distance > 0:
            ahead[slot] = 0.0
            reaching = left
        else:
            ahead[slot], reaching = passing(order, ahead[slot], left, now_ns, model)
        quantity = min(order[LEFT], reaching)
        if quantity > 0:
            left -= quantity
            order[LEFT] -= quantity
            fills[filled, 0], fills[filled, 1], fills[filled, 2] = slot, quantity, order[PRICE]
            filled += 1
            has_filled = True
    if has_filled:
        state[1] = _leave(orders, line, count)
    return filled
