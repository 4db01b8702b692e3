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
    Host,
)
from framework.backtest.compiled.lines import say
from framework.backtest.lean.compiled import BOOK, TRADE, displayed, match, take
from framework.backtest.lean.compiled_queue import LEFT, SHOWN, TRADED, UNSEEN
from framework.strategy.compiled.views import AMEND, DAY, FOK, GTC, IS_POST_ONLY, LIFE, LIMIT, NO_LIMIT, SIDE, SUBMIT
from framework.window import Int64Array

# --- what the market does --------------------------------------------------------------------------------------------------------


@njit(cache=True)
def match_instant(host: Host, desk: Any, rows: Int64Array, first: int, last: int) -> None:
    """Let the events of one instant meet our orders, in their order."""
    events, words, begin = host.recording.events, host.recording.words, first
    for event in range(first, last):
        if events[event, 0] in (BOOK, TRADE):
            continue
        word = words[events[event, 1]]
        if word in (WORD_OPENS, WORD_CLOSES, WORD_HALTS):
            _match(host, desk, rows, begin, event)
            _change_session(host, desk, rows, word, events[event, 1])
            begin = event + 1
    _match(host, desk, rows, begin, last)


@njit(cache=True)
def _match(host: Host, desk: Any, rows: Int64Array, first: int, last: int) -> None:
    market, matching = host.recording, host.matching
    while first < last:
        count = match(
            market.events,
            first,
            last,
            market.levels,
            market.facts,
            market.trades,
            matching.state,
            matching.orders,
            matching.ahead,
            matching.line,
            matching.taken,
            matching.fills,
            matching.power[0],
        )
        for place in range(count):
            slot, lots, price = matching.fills[place]
            order = matching.names[slot]
            _fill(host, desk, rows[order - 1], order, lots, price, MAKER)
        for place in range(count):
            slot = matching.fills[place, 0]
            if matching.orders[slot, LEFT] == 0 and matching.names[slot]:
                rows[matching.names[slot] - 1, SLOT] = -1
                _free(host, desk, slot)
        first = matching.state[5]


@njit(cache=True)
def _change_session(host: Host, desk: Any, rows: Int64Array, word: int, place: int) -> None:
    if word == WORD_OPENS:
        desk.closed = CLOSED_NOT
        return
    desk.closed = CLOSED_HALT if word == WORD_HALTS else CLOSED_SESSION
    for number in range(desk.open_count):
        order = host.tables.open_orders[number]
        row = rows[order - 1]
        if word != WORD_HALTS and row[AT_VENUE] and row[LIFE] == DAY:
            _leave(host, desk, row)
            _end(host, desk, row, order, EXPIRED_, why.SESSION_ENDED, place)
    _forget_book(host)


@njit(cache=True)
def _forget_book(host: Host) -> None:
    """Forget the book; what rests stands last when the next session begins."""
    matching = host.matching
    matching.state[0] = -1
    matching.state[2] = matching.state[3] = 0
    for place in range(matching.state[1]):
        slot = matching.line[place]
        matching.ahead[slot] = math.nan
        matching.orders[slot, SHOWN], matching.orders[slot, TRADED] = -1, 0


# --- what we ask for -------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def arrive(host: Host, desk: Any, limits: Any, rows: Int64Array, request: Int64Array) -> None:
    """Take one request."""
    order = request[ORDER_ID]
    row = rows[order - 1]
    if request[KIND] == SUBMIT:
        _take_in(host, desk, limits, row, order)
    elif request[KIND] == AMEND:
        _change(host, desk, limits, row, request)
    elif row[AT_VENUE]:
        _leave(host, desk, row)
        _end(host, desk, row, order, CANCELED_, why.NONE, 0)
    else:
        say(host, desk, CANCEL_REFUSED, order, 0, 0, why.NOT_OPEN, 0, 0)


@njit(cache=True)
def _take_in(host: Host, desk: Any, limits: Any, row: Int64Array, order: int) -> None:
    reason = _refusal(host, desk, limits, row, row[VENUE_LIMIT], row[VENUE_LOTS])
    if reason:
        say(host, desk, REFUSED, order, 0, 0, reason, row[VENUE_LIMIT], 0)
        return
    row[AT_VENUE] = 1
    say(host, desk, ACCEPTED, order, 0, 0, why.NONE, 0, 0)
    _place(host, desk, row, order)


@njit(cache=True)
def _refusal(host: Host, desk: Any, limits: Any, row: Int64Array, limit: int, left: int) -> int:
    """Return why the venue does not take an order of these terms; 0: it does."""
    if desk.closed != CLOSED_NOT:
        return why.HALTED if desk.closed == CLOSED_HALT else why.SESSION_CLOSED
    if not limits.lower_ticks <= limit <= limits.upper_ticks:
        return why.BEYOND_LIMITS
    if row[IS_POST_ONLY] and _take(host, row[SIDE], limit, left, 1) > 0:
        return why.WOULD_TAKE
    return why.NONE


@njit(cache=True)
def _take(host: Host, side: int, limit: int, lots: int, trial: int) -> int:
    market, one = host.recording, host.matching
    return take(market.levels, market.facts, one.state[0], side, limit, lots, one.taken, one.state[2:4], one.got, trial)


@njit(cache=True)
def _place(host: Host, desk: Any, row: Int64Array, order: int) -> None:
    """Trade what trades at once, and let the rest rest or end."""
    left, got = row[VENUE_LOTS] - row[VENUE_DONE], host.matching.got
    if row[LIFE] == FOK and got[: _take(host, row[SIDE], row[VENUE_LIMIT], left, 1), 1].sum() < left:
        _end(host, desk, row, order, CANCELED_, why.NOT_WHOLE, 0)
        return
    for place in range(_take(host, row[SIDE], row[VENUE_LIMIT], left, 0)):
        left -= got[place, 1]
        _fill(host, desk, row, order, got[place, 1], got[place, 0], TAKER)
    if left and (row[LIFE] > GTC or row[LIMIT] == NO_LIMIT):
        _end(host, desk, row, order, CANCELED_, why.NOTHING_TO_TRADE, 0)
    elif left:
        _rest(host, desk, row, order, left)


@njit(cache=True)
def _change(host: Host, desk: Any, limits: Any, row: Int64Array, request: Int64Array) -> None:
    order, revision = request[ORDER_ID], request[C]
    if not row[AT_VENUE]:
        say(host, desk, REPLACE_REFUSED, order, 0, 0, why.NOT_OPEN, 0, revision)
        return
    lots = request[A] if request[A] else row[VENUE_LOTS]
    limit = row[VENUE_LIMIT] if request[B] == NO_LIMIT else request[B]
    if lots <= row[VENUE_DONE]:
        say(host, desk, REPLACE_REFUSED, order, lots, row[VENUE_DONE], why.FILLED_ALREADY, 0, revision)
        return
    reason = _refusal(host, desk, limits, row, limit, lots - row[VENUE_DONE])
    if reason:
        say(host, desk, REPLACE_REFUSED, order, limit, 0, reason, 0, revision)
        return
    keeps_place = limit == row[VENUE_LIMIT] and lots <= row[VENUE_LOTS]
    row[VENUE_LOTS], row[VENUE_LIMIT] = lots, limit
    say(host, desk, REPLACED, order, lots, limit, why.NONE, 0, revision)
    if not keeps_place:
        _leave(host, desk, row)
        _place(host, desk, row, order)
    elif row[SLOT] >= 0:
        host.matching.orders[row[SLOT], LEFT] = lots - row[VENUE_DONE]


# --- fills, ends, places -----------------------------------------------------------------------------------------------------------


@njit(cache=True)
def _fill(host: Host, desk: Any, row: Int64Array, order: int, lots: int, price: int, liquidity: int) -> None:
    row[VENUE_DONE] += lots
    say(host, desk, FILL, order, lots, price, why.NONE, liquidity, row[VENUE_DONE])
    if row[VENUE_DONE] == row[VENUE_LOTS]:
        row[AT_VENUE] = 0


@njit(cache=True)
def _end(host: Host, desk: Any, row: Int64Array, order: int, kind: int, reason: int, number: int) -> None:
    say(host, desk, kind, order, 0, 0, reason, number, 0)
    row[AT_VENUE] = 0


@njit(cache=True)
def _rest(host: Host, desk: Any, row: Int64Array, order: int, left: int) -> None:
    """Join the queue at the limit, behind what is displayed there."""
    matching, side, limit = host.matching, row[SIDE], row[VENUE_LIMIT]
    desk.free -= 1
    slot = matching.free[desk.free]
    shown = displayed(host.recording.levels, host.recording.facts, matching.state[0], side, limit)
    one = matching.orders[slot]
    one[:] = 0
    one[0], one[1], one[LEFT], one[SHOWN] = side, limit, left, shown
    matching.ahead[slot] = math.nan if shown == UNSEEN else shown
    matching.line[matching.state[1]] = slot
    matching.state[1] += 1
    matching.names[slot] = order
    row[SLOT] = slot


@njit(cache=True)
def _leave(host: Host, desk: Any, row: Int64Array) -> None:
    """Leave the queue, if the order rests."""
    matching, slot = host.matching, row[SLOT]
    if slot < 0:
        return
    kept = 0
    for place in range(matching.state[1]):
        if matching.line[place] != slot:
            matching.line[kept] = matching.line[place]
            kept += 1
    matching.state[1] = kept
    row[SLOT] = -1
    _free(host, desk, slot)


@njit(cache=True)
def _free(host: Host, desk: Any, slot: int) -> None:
    host.matching.names[slot] = 0
    host.matching.free[desk.free] = slot
    desk.free += 1
