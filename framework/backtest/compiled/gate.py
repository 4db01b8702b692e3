"""The gate of a lean backtest (`framework.backtest.lean.gate`), compiled: the same checks in the same order."""

from __future__ import annotations

from typing import Any

from numba import njit

from framework.backtest.compiled import reasons as why
from framework.backtest.compiled.layout import IS_CHANGING, NEW_LIMIT, NEW_LOTS
from framework.backtest.compiled.memory import cancels_of, facts_of, levels_of, notes_of, open_orders_of, trades_of
from framework.model import NS_PER_S
from framework.strategy.compiled.views import DONE, GTC, LIFE, LIMIT, LOTS, NO_LIMIT, SIDE
from framework.trading.risk.windows import MINUTE_NS, Recent
from framework.window import Int64Array

MOST_REMEMBERED = Recent.MOST
Denial = tuple[int, int, int]


@njit(cache=True)
def denial(desk: Any, limits: Any, rows: Int64Array, terms: tuple[int, int, int], but: int) -> Denial:
    """Return why an order of `terms` (side, lots, limit) may not go, with two numbers; 0: it may.

    `but` is the order that is changed to these terms: it does not count beside them, nor as a repeat, nor as one more. 0: a new order.
    """
    side, lots, limit = terms
    row = desk.book
    if not desk.is_open:
        return why.INSTRUMENT, 0, 0
    if not 1 <= lots <= limits.order_quantity:
        return why.MAX_ORDER_QUANTITY, lots, limits.order_quantity
    if row < 0 or not desk.is_sound or facts_of(desk)[row, 3] == 0 or facts_of(desk)[row, 4] == 0:
        return why.NO_BOOK, 0, 0
    found = _priced(desk, limits, limit)
    if found[0] == why.NONE:
        found = _much(desk, limits, rows, side, lots, but)
    if found[0] == why.NONE and but == 0 and desk.open_count >= limits.open_orders:
        return why.MAX_OPEN_ORDERS, desk.open_count, limits.open_orders
    if found[0] == why.NONE:
        found = _often(desk, limits)
    if found[0] == why.NONE and but == 0 and limits.window_ns:
        found = _again(desk, limits, terms)
    if found[0] == why.NONE:
        found = _against_own(desk, limits, rows, side, limit, but)
    return found


@njit(cache=True)
def _priced(desk: Any, limits: Any, limit: int) -> Denial:
    levels, facts = levels_of(desk)[desk.book], facts_of(desk)[desk.book]
    if limit != NO_LIMIT and limit <= 0 < levels[0, facts[3] - 1]:
        return why.PRICE, limit, 0
    age_ns = desk.now_ns - facts[1]
    if abs(age_ns) > limits.book_age_ns:
        return why.OLD_BOOK, age_ns, 0
    if limit == NO_LIMIT:
        return why.NONE, 0, 0
    twice = abs(2 * limit - levels[0, 0] - levels[2, 0])
    if twice > 2 * limits.collar_ticks:
        return why.PRICE_COLLAR, twice, limits.collar_ticks
    if limits.last_trade_ticks and desk.trade >= 0:
        trade = trades_of(desk)[desk.trade]
        distance = abs(limit - trade[3])
        if desk.now_ns - trade[0] <= limits.book_age_ns and distance > limits.last_trade_ticks:
            return why.LAST_TRADE, distance, limits.last_trade_ticks
    return why.NONE, 0, 0


@njit(cache=True)
def waiting_lots(row: Int64Array) -> int:
    """Return what an open order may still fill, at its worst."""
    most = max(row[LOTS], row[NEW_LOTS]) if row[IS_CHANGING] else row[LOTS]
    return most - row[DONE]  # type: ignore[no-any-return]


@njit(cache=True)
def _much(desk: Any, limits: Any, rows: Int64Array, side: int, lots: int, but: int) -> Denial:
    waiting = lots
    for place in range(desk.open_count):
        order = open_orders_of(desk)[place]
        if order != but and rows[order - 1, SIDE] == side:
            waiting += waiting_lots(rows[order - 1])
    worst = desk.position + side * waiting
    if abs(worst) > limits.position:
        return why.MAX_POSITION, worst, limits.position
    return why.NONE, 0, 0


@njit(cache=True)
def _often(desk: Any, limits: Any) -> Denial:
    notes, now_ns = notes_of(desk), desk.now_ns
    while desk.second_head < desk.notes and now_ns - notes[desk.second_head, 0] >= NS_PER_S:
        desk.second_head += 1
    while desk.minute_head < desk.notes and now_ns - notes[desk.minute_head, 0] >= MINUTE_NS:
        desk.minute_head += 1
    of_second, of_minute = desk.notes - desk.second_head, desk.notes - desk.minute_head
    if of_second >= limits.per_second:
        return why.RATE_SECOND, of_second, limits.per_second
    if limits.per_minute and of_minute >= limits.per_minute:
        return why.RATE_MINUTE, of_minute, limits.per_minute
    return why.NONE, 0, 0


@njit(cache=True)
def _again(desk: Any, limits: Any, terms: tuple[int, int, int]) -> Denial:
    side, lots, limit = terms
    for place in range(desk.notes - 1, desk.recent_head - 1, -1):
        note = notes_of(desk)[place]
        if not note[5]:
            continue
        age_ns = desk.now_ns - note[0]
        if age_ns >= limits.window_ns:
            break
        if note[1] == side and note[2] == lots and note[3] == limit:
            return why.DUPLICATE, note[4], age_ns
    return why.NONE, 0, 0


@njit(cache=True)
def note(desk: Any, terms: tuple[int, int, int], order: int) -> None:
    """Count an order that left; one of the other side ends the memory of repeats (`Recent`)."""
    side, lots, limit = terms
    last = desk.notes - 1
    while last >= desk.recent_head and not notes_of(desk)[last, 5]:
        last -= 1
    if last >= desk.recent_head and notes_of(desk)[last, 1] != side:
        desk.recent_head, desk.recent_count = desk.notes, 0
    row = notes_of(desk)[desk.notes]
    row[0], row[1], row[2], row[3], row[4], row[5] = desk.now_ns, side, lots, limit, order, 1
    desk.notes += 1
    desk.recent_count += 1
    while desk.recent_count > MOST_REMEMBERED:
        desk.recent_count -= notes_of(desk)[desk.recent_head, 5]
        desk.recent_head += 1


@njit(cache=True)
def forget(desk: Any, order: int) -> None:
    """Forget an order that ended short of its lots: to send it again is no repeat."""
    for place in range(desk.recent_head, desk.notes):
        if notes_of(desk)[place, 4] == order and notes_of(desk)[place, 5]:
            notes_of(desk)[place, 5] = 0
            desk.recent_count -= 1


@njit(cache=True)
def _own_price(row: Int64Array) -> int:
    """Return the price at which others of ours could meet an open order; NO_LIMIT for what does not rest."""
    if row[LIMIT] == NO_LIMIT or row[LIFE] > GTC:
        return NO_LIMIT
    if not row[IS_CHANGING] or row[NEW_LIMIT] == NO_LIMIT:
        return row[LIMIT]  # type: ignore[no-any-return]
    return row[SIDE] * max(row[SIDE] * row[LIMIT], row[SIDE] * row[NEW_LIMIT])  # type: ignore[no-any-return]


@njit(cache=True)
def _best_own(desk: Any, rows: Int64Array, side: int, but: int) -> int:
    """Return the best price of our open orders of a side; NO_LIMIT without any."""
    best = NO_LIMIT
    for place in range(desk.open_count):
        order = open_orders_of(desk)[place]
        row = rows[order - 1]
        price = _own_price(row) if order != but and row[SIDE] == side else NO_LIMIT
        if price != NO_LIMIT and (best == NO_LIMIT or (price - best) * side > 0):
            best = price
    return best


@njit(cache=True)
def marketable_limit(desk: Any, limits: Any, rows: Int64Array, side: int, but: int) -> int:
    """Return the limit of a market order: the collar's edge, or one tick short of our own order before it."""
    own = _best_own(desk, rows, -side, but) if limits.prevents_self_trade else NO_LIMIT
    edge = levels_of(desk)[desk.book, 2 if side > 0 else 0, 0] + side * limits.collar_ticks
    if own == NO_LIMIT:
        return edge  # type: ignore[no-any-return]
    return side * min(side * edge, side * own - 1)  # type: ignore[no-any-return]


@njit(cache=True)
def _against_own(desk: Any, limits: Any, rows: Int64Array, side: int, limit: int, but: int) -> Denial:
    own = _best_own(desk, rows, -side, but) if limits.prevents_self_trade else NO_LIMIT
    if own == NO_LIMIT:
        return why.NONE, 0, 0
    if limit == NO_LIMIT:
        limit = marketable_limit(desk, limits, rows, side, but)
        reach = levels_of(desk)[desk.book, 2 if side > 0 else 0, 0]
        is_clear = (limit - reach) * side >= 0
    else:
        is_clear = (own - limit - side) * side >= 0
    if is_clear:
        return why.NONE, 0, 0
    return why.SELF_TRADE, own, limit


@njit(cache=True)
def denial_of_cancel(desk: Any, limits: Any) -> Denial:
    """Return why no other cancel may go now; 0: it may, and counts."""
    while desk.cancel_head < desk.cancels and desk.now_ns - cancels_of(desk)[desk.cancel_head] >= NS_PER_S:
        desk.cancel_head += 1
    count = desk.cancels - desk.cancel_head
    if count >= limits.cancels_per_second:
        return why.CANCEL_RATE, count, limits.cancels_per_second
    cancels_of(desk)[desk.cancels] = desk.now_ns
    desk.cancels += 1
    return why.NONE, 0, 0
