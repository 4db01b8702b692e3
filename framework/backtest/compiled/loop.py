"""The loop of a compiled backtest: the order in which a lean one lets things happen, with the strategy called in its place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from framework.backtest.compiled.layout import (
    GROW,
    MARGIN,
    OVER,
    REPORT_MARGIN,
    STATE,
    TOO_MANY_COMMANDS,
    TOO_MANY_REPORTS,
    WORD_CLOSES,
    WORD_HALTS,
    WORD_NOTHING,
    WORD_OPENS,
    WORD_SOUND,
    WORD_UNSOUND,
)
from framework.backtest.compiled.lines import first_out, next_report, next_request, ticket
from framework.backtest.compiled.matching import BOOK as BOOK_EVENT
from framework.backtest.compiled.matching import TRADE as TRADE_EVENT
from framework.backtest.compiled.memory import (
    events_of,
    facts_of,
    levels_of,
    open_orders_of,
    starts_of,
    times_of,
    trades_of,
    words_of,
)
from framework.backtest.compiled.orders import hear, send_cancel, settle
from framework.backtest.compiled.venue import arrive, match_instant
from framework.strategy.compiled.views import ASKED, BOOK, IS_FULL, NOW, ORDER, PENDING_CANCEL, SENT, STATUS, TRADE, Market, Orders
from framework.trading.portfolio import MICRO
from framework.window import LEVELS


@njit(cache=True)
def play(on_event: Any, state: Any, orders: Orders, desk: Any, limits: Any) -> int:
    """Go on to the end of the recording (OVER), to where a table has to grow (GROW), or to what cannot be."""
    while desk.instant < desk.starts_rows - 1:
        if _is_short(orders, desk):
            return GROW
        if orders.counts[IS_FULL] or desk.is_full:
            break
        first = starts_of(desk)[desk.instant]
        which = first_out(desk, times_of(desk)[first], desk.feed_ticket)
        if which > 0:
            arrive(desk, limits, orders.rows, next_request(desk))
        elif which < 0:
            order = hear(desk, orders, next_report(desk))
            if order and desk.hears & ORDER:
                _call(on_event, state, orders, desk, ORDER, order)
                settle(desk, limits, orders)
        else:
            _play_instant(on_event, state, orders, desk, limits)
    if desk.is_full:
        return TOO_MANY_REPORTS
    return TOO_MANY_COMMANDS if orders.counts[IS_FULL] else OVER


@njit(cache=True)
def _is_short(orders: Orders, desk: Any) -> bool:
    """Return whether any table has less room than one step may need."""
    return (
        len(orders.rows) - orders.counts[SENT] < MARGIN
        or desk.updates_rows - desk.updates < MARGIN
        or desk.fills_rows - desk.fills < MARGIN
        or desk.notes_rows - desk.notes < MARGIN
        or desk.cancels_rows - desk.cancels < MARGIN
        or desk.requests_rows - desk.out_tail < MARGIN
        or desk.reports_rows - desk.back_tail < REPORT_MARGIN
        or _is_short_of_draws(desk.latency_times_rows, desk.latency_out_rows, desk.out_drawn, MARGIN)
        or _is_short_of_draws(desk.latency_times_rows, desk.latency_back_rows, desk.back_drawn, REPORT_MARGIN)
    )


@njit(cache=True)
def _is_short_of_draws(times: int, latencies: int, drawn: int, margin: int) -> bool:
    return times == 0 and latencies > 1 and latencies - drawn < margin


@njit(cache=True)
def _play_instant(on_event: Any, state: Any, orders: Orders, desk: Any, limits: Any) -> None:
    """Let one instant happen: to the venue first, then trades and words to the strategy, then the newest book."""
    first, last = starts_of(desk)[desk.instant], starts_of(desk)[desk.instant + 1]
    desk.instant += 1
    desk.now_ns = max(desk.now_ns, times_of(desk)[first])
    desk.feed_ticket = ticket(desk)
    match_instant(desk, orders.rows, first, last)
    book = -1
    for event in range(first, last):
        kind, place = events_of(desk)[event]
        if kind == BOOK_EVENT:
            book = place
        elif kind == TRADE_EVENT:
            desk.trade = place
            if desk.hears & TRADE:
                desk.seen_trade = place
                _call(on_event, state, orders, desk, TRADE, 0)
        elif _take_word(desk, words_of(desk)[place]) and desk.hears & STATUS:
            _call(on_event, state, orders, desk, STATUS, 0)
    if book >= 0:
        desk.book = book
    if orders.counts[ASKED]:
        settle(desk, limits, orders)
    if book >= 0:
        desk.seen_book = book
        if desk.hears & BOOK and desk.now_ns >= desk.due_ns:
            desk.due_ns = desk.now_ns + desk.interval_ns
            _call(on_event, state, orders, desk, BOOK, 0)
            settle(desk, limits, orders)


@njit(cache=True)
def _take_word(desk: Any, word: int) -> bool:
    """Take what the market says about trading; return whether it is that."""
    if word in (WORD_OPENS, WORD_CLOSES, WORD_HALTS):
        desk.is_open = word == WORD_OPENS
    elif word in (WORD_SOUND, WORD_UNSOUND):
        desk.is_sound = word == WORD_SOUND
    return word != WORD_NOTHING


@njit(cache=True)
def _call(on_event: Any, state: Any, orders: Orders, desk: Any, kind: int, order: int) -> None:
    row = desk.seen_book
    orders.counts[NOW] = desk.now_ns
    desk.calls += 1
    has_book = row >= 0
    market = Market(
        kind,
        desk.now_ns,
        facts_of(desk)[row, 0] if has_book else 0,
        facts_of(desk)[row, 3] if has_book else 0,
        facts_of(desk)[row, 4] if has_book else 0,
        levels_of(desk)[row] if has_book else np.zeros((4, LEVELS), np.int64),
        trades_of(desk)[desk.seen_trade] if desk.seen_trade >= 0 else np.zeros(6, np.int64),
        order,
        desk.position,
        desk.open_cost / desk.position / MICRO if desk.position else 0.0,
        desk.is_open != 0,
        desk.is_sound != 0,
    )
    on_event(market, orders, state)


@njit(cache=True)
def wind_down(orders: Orders, desk: Any, limits: Any, until_ns: int) -> int:
    """Cancel what is open and let the answers arrive, up to a time; the strategy hears of it no more. Returns GROW before there is room."""
    if _is_short(orders, desk):
        return GROW
    if not desk.is_over:
        desk.is_over = 1
        for place in range(desk.open_count):
            order = open_orders_of(desk)[place]
            if orders.rows[order - 1, STATE] != PENDING_CANCEL:
                send_cancel(desk, orders.rows[order - 1], order)
    while True:
        if _is_short(orders, desk):
            return GROW
        which = first_out(desk, until_ns, 1 << 62)
        if which > 0:
            arrive(desk, limits, orders.rows, next_request(desk))
        elif which < 0:
            hear(desk, orders, next_report(desk))
        else:
            desk.now_ns = max(desk.now_ns, until_ns)
            return OVER
