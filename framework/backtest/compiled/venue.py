"""The paper venue (`framework.venues.open_orders`, `paper`), compiled: orders arrive, trade, rest and end by compiled matching rules."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from framework.backtest.compiled import reasons as why
from framework.backtest.compiled.layout import (
    ACCEPTED,
    AT_VENUE,
    CANCEL_REFUSED,
    CANCELED_,
    CLOSED_HALT,
    CLOSED_NOT,
    CLOSED_SESSION,
    EXPIRED_,
    FILL,
    KIND,
    MAKER,
    ORDER_ID,
    REFUSED,
    REPLACE_REFUSED,
    REPLACED,
    SLOT,
    TAKER,
    VENUE_DONE,
    VENUE_LIMIT,
    VENUE_LOTS,
    WORD_CLOSES,
    WORD_HALTS,
    WORD_OPENS,
    A,
    B,
    C,
)
from framework.backtest.compiled.lines import say
from framework.backtest.compiled.matching import BOOK, TRADE, displayed, match, take
from framework.backtest.compiled.memory import (
    ahead_of,
    events_of,
    facts_of,
    free_slots_of,
    got_of,
    levels_of,
    line_of,
    matched_of,
    matching_of,
    names_of,
    open_orders_of,
    resting_of,
    taken_of,
    trades_of,
    words_of,
)
from framework.backtest.compiled.queues import LEFT, SHOWN, TRADED, UNSEEN
from framework.strategy.compiled.views import AMEND, DAY, FOK, GTC, IS_POST_ONLY, LIFE, LIMIT, NO_LIMIT, SIDE, SUBMIT
from framework.window import Int64Array

# --- what the market does --------------------------------------------------------------------------------------------------------


@njit(cache=True)
def match_instant(desk: Any, rows: Int64Array, first: int, last: int) -> None:
    """Let the events of one instant meet our orders, in their order."""
    events, words, begin = events_of(desk), words_of(desk), first
    for event in range(first, last):
        if events[event, 0] in (BOOK, TRADE):
            continue
        word = words[events[event, 1]]
        if word in (WORD_OPENS, WORD_CLOSES, WORD_HALTS):
            _match(desk, rows, begin, event)
            _change_session(desk, rows, word, events[event, 1])
            begin = event + 1
    _match(desk, rows, begin, last)


@njit(cache=True)
def _match(desk: Any, rows: Int64Array, first: int, last: int) -> None:
    found, names = matched_of(desk), names_of(desk)
    while first < last:
        count = match(
            events_of(desk),
            first,
            last,
            levels_of(desk),
            facts_of(desk),
            trades_of(desk),
            matching_of(desk),
            resting_of(desk),
            ahead_of(desk),
            line_of(desk),
            taken_of(desk),
            found,
            desk.power,
        )
        for place in range(count):
            slot, lots, price = found[place]
            order = names[slot]
            _fill(desk, rows[order - 1], order, lots, price, MAKER)
        for place in range(count):
            slot = found[place, 0]
            if resting_of(desk)[slot, LEFT] == 0 and names[slot]:
                rows[names[slot] - 1, SLOT] = -1
                _free(desk, slot)
        first = matching_of(desk)[5]


@njit(cache=True)
def _change_session(desk: Any, rows: Int64Array, word: int, place: int) -> None:
    if word == WORD_OPENS:
        desk.closed = CLOSED_NOT
        return
    desk.closed = CLOSED_HALT if word == WORD_HALTS else CLOSED_SESSION
    for number in range(desk.open_count):
        order = open_orders_of(desk)[number]
        row = rows[order - 1]
        if word != WORD_HALTS and row[AT_VENUE] and row[LIFE] == DAY:
            _leave(desk, row)
            _end(desk, row, order, EXPIRED_, why.SESSION_ENDED, place)
    _forget_book(desk)


@njit(cache=True)
def _forget_book(desk: Any) -> None:
    """Forget the book; what rests stands last when the next session begins."""
    state = matching_of(desk)
    state[0], state[2], state[3] = -1, 0, 0
    for place in range(state[1]):
        slot = line_of(desk)[place]
        ahead_of(desk)[slot] = math.nan
        resting_of(desk)[slot, SHOWN], resting_of(desk)[slot, TRADED] = -1, 0


# --- what we ask for -------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def arrive(desk: Any, limits: Any, rows: Int64Array, request: Int64Array) -> None:
    """Take one request."""
    order = request[ORDER_ID]
    row = rows[order - 1]
    if request[KIND] == SUBMIT:
        _take_in(desk, limits, row, order)
    elif request[KIND] == AMEND:
        _change(desk, limits, row, request)
    elif row[AT_VENUE]:
        _leave(desk, row)
        _end(desk, row, order, CANCELED_, why.NONE, 0)
    else:
        say(desk, CANCEL_REFUSED, order, 0, 0, why.NOT_OPEN, 0, 0)


@njit(cache=True)
def _take_in(desk: Any, limits: Any, row: Int64Array, order: int) -> None:
    reason = _refusal(desk, limits, row, row[VENUE_LIMIT], row[VENUE_LOTS])
    if reason:
        say(desk, REFUSED, order, 0, 0, reason, row[VENUE_LIMIT], 0)
        return
    row[AT_VENUE] = 1
    say(desk, ACCEPTED, order, 0, 0, why.NONE, 0, 0)
    _place(desk, row, order)


@njit(cache=True)
def _refusal(desk: Any, limits: Any, row: Int64Array, limit: int, left: int) -> int:
    """Return why the venue does not take an order of these terms; 0: it does."""
    if desk.closed != CLOSED_NOT:
        return why.HALTED if desk.closed == CLOSED_HALT else why.SESSION_CLOSED
    if not limits.lower_ticks <= limit <= limits.upper_ticks:
        return why.BEYOND_LIMITS
    if row[IS_POST_ONLY] and _take(desk, row[SIDE], limit, left, 1) > 0:
        return why.WOULD_TAKE
    return why.NONE


@njit(cache=True)
def _take(desk: Any, side: int, limit: int, lots: int, trial: int) -> int:
    state = matching_of(desk)
    return take(levels_of(desk), facts_of(desk), state[0], side, limit, lots, taken_of(desk), state[2:4], got_of(desk), trial)


@njit(cache=True)
def _place(desk: Any, row: Int64Array, order: int) -> None:
    """Trade what trades at once, and let the rest rest or end."""
    left, got = row[VENUE_LOTS] - row[VENUE_DONE], got_of(desk)
    if row[LIFE] == FOK and got[: _take(desk, row[SIDE], row[VENUE_LIMIT], left, 1), 1].sum() < left:
        _end(desk, row, order, CANCELED_, why.NOT_WHOLE, 0)
        return
    for place in range(_take(desk, row[SIDE], row[VENUE_LIMIT], left, 0)):
        left -= got[place, 1]
        _fill(desk, row, order, got[place, 1], got[place, 0], TAKER)
    if left and (row[LIFE] > GTC or row[LIMIT] == NO_LIMIT):
        _end(desk, row, order, CANCELED_, why.NOTHING_TO_TRADE, 0)
    elif left:
        _rest(desk, row, order, left)


@njit(cache=True)
def _change(desk: Any, limits: Any, row: Int64Array, request: Int64Array) -> None:
    order, revision = request[ORDER_ID], request[C]
    if not row[AT_VENUE]:
        say(desk, REPLACE_REFUSED, order, 0, 0, why.NOT_OPEN, 0, revision)
        return
    lots = request[A] if request[A] else row[VENUE_LOTS]
    limit = row[VENUE_LIMIT] if request[B] == NO_LIMIT else request[B]
    if lots <= row[VENUE_DONE]:
        say(desk, REPLACE_REFUSED, order, lots, row[VENUE_DONE], why.FILLED_ALREADY, 0, revision)
        return
    reason = _refusal(desk, limits, row, limit, lots - row[VENUE_DONE])
    if reason:
        say(desk, REPLACE_REFUSED, order, limit, 0, reason, 0, revision)
        return
    keeps_place = limit == row[VENUE_LIMIT] and lots <= row[VENUE_LOTS]
    row[VENUE_LOTS], row[VENUE_LIMIT] = lots, limit
    say(desk, REPLACED, order, lots, limit, why.NONE, 0, revision)
    if not keeps_place:
        _leave(desk, row)
        _place(desk, row, order)
    elif row[SLOT] >= 0:
        resting_of(desk)[row[SLOT], LEFT] = lots - row[VENUE_DONE]


# --- fills, ends, places -----------------------------------------------------------------------------------------------------------


@njit(cache=True)
def _fill(desk: Any, row: Int64Array, order: int, lots: int, price: int, liquidity: int) -> None:
    row[VENUE_DONE] += lots
    say(desk, FILL, order, lots, price, why.NONE, liquidity, row[VENUE_DONE])
    if row[VENUE_DONE] == row[VENUE_LOTS]:
        row[AT_VENUE] = 0


@njit(cache=True)
def _end(desk: Any, row: Int64Array, order: int, kind: int, reason: int, number: int) -> None:
    say(desk, kind, order, 0, 0, reason, number, 0)
    row[AT_VENUE] = 0


@njit(cache=True)
def _rest(desk: Any, row: Int64Array, order: int, left: int) -> None:
    """Join the queue at the limit, behind what is displayed there."""
    state, side, limit = matching_of(desk), row[SIDE], row[VENUE_LIMIT]
    desk.free -= 1
    slot = free_slots_of(desk)[desk.free]
    shown = displayed(levels_of(desk), facts_of(desk), state[0], side, limit)
    one = resting_of(desk)[slot]
    one[:] = 0
    one[0], one[1], one[LEFT], one[SHOWN] = side, limit, left, shown
    ahead_of(desk)[slot] = math.nan if shown == UNSEEN else shown
    line_of(desk)[state[1]] = slot
    state[1] += 1
    names_of(desk)[slot] = order
    row[SLOT] = slot


@njit(cache=True)
def _leave(desk: Any, row: Int64Array) -> None:
    """Leave the queue, if the order rests."""
    slot, state, line, kept = row[SLOT], matching_of(desk), line_of(desk), 0
    if slot < 0:
        return
    for place in range(state[1]):
        if line[place] != slot:
            line[kept] = line[place]
            kept += 1
    state[1] = kept
    row[SLOT] = -1
    _free(desk, slot)


@njit(cache=True)
def _free(desk: Any, slot: int) -> None:
    names_of(desk)[slot] = 0
    free_slots_of(desk)[desk.free] = slot
    desk.free += 1
