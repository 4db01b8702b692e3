"""The orders of the strategy at our desk (`framework.backtest.lean.desk`, `framework.trading.orders`), compiled: commands and reports."""

from __future__ import annotations

from typing import Any

from numba import njit

from framework.backtest.compiled import reasons as why
from framework.backtest.compiled.gate import denial, denial_of_cancel, forget, marketable_limit, note
from framework.backtest.compiled.layout import (
    ACCEPTED,
    ANSWERED,
    CANCEL_REFUSED,
    CANCELED_,
    EXPIRED_,
    FILL,
    FIRST,
    IS_CHANGING,
    IS_KNOWN,
    KIND,
    NEW_LIMIT,
    NEW_LOTS,
    ORDER_ID,
    PAID,
    REASON,
    REFUSED,
    REPLACE_REFUSED,
    REPLACED,
    REVISION,
    SECOND,
    SLOT,
    STATE,
    THIRD,
    TOLD_NS,
    VENUE_LIMIT,
    VENUE_LOTS,
    A,
    B,
    C,
    D,
    E,
    F,
)
from framework.backtest.compiled.lines import request
from framework.backtest.compiled.memory import denials_of, fills_of, open_orders_of, updates_of
from framework.strategy.compiled.views import (
    AMEND,
    ASKED,
    CANCEL,
    CANCELED,
    DENIED,
    DONE,
    EXPIRED,
    FILLED,
    LIMIT,
    LOTS,
    NEW,
    NO_LIMIT,
    PARTIALLY_FILLED,
    PENDING_CANCEL,
    PENDING_NEW,
    PENDING_REPLACE,
    REJECTED,
    SEEN,
    SENT_NS,
    SIDE,
    SUBMIT,
    Orders,
)
from framework.trading.portfolio import MICRO
from framework.window import Int64Array

Reason = tuple[int, int, int]


@njit(cache=True)
def settle(desk: Any, limits: Any, orders: Orders) -> None:
    """Carry out what the strategy asked for, in its order."""
    for place in range(orders.counts[ASKED]):
        what, order, lots, limit = orders.commands[place]
        row = orders.rows[order - 1]
        if what == SUBMIT:
            _submit(desk, limits, orders.rows, order)
        elif 0 < row[STATE] <= PENDING_REPLACE and what == CANCEL:
            _cancel_if_let(desk, limits, row, order)
        elif 0 < row[STATE] <= PENDING_REPLACE and what == AMEND:
            _amend(desk, limits, orders.rows, order, lots, limit)
    orders.counts[ASKED] = 0


@njit(cache=True)
def _submit(desk: Any, limits: Any, rows: Int64Array, order: int) -> None:
    row = rows[order - 1]
    side, lots, limit = row[SIDE], row[LOTS], row[LIMIT]
    found = denial(desk, limits, rows, (side, lots, limit), 0)
    row[SLOT] = -1
    if found[0]:
        desk.denied += 1
        denials_of(desk)[found[0]] += 1
        row[STATE], row[TOLD_NS] = DENIED, desk.now_ns
        row[REASON], row[FIRST], row[SECOND] = found
        _tell(desk, row, order)
        return
    note(desk, (side, lots, limit), order)
    row[VENUE_LOTS] = lots
    row[VENUE_LIMIT] = marketable_limit(desk, limits, rows, side, 0) if limit == NO_LIMIT else limit
    open_orders_of(desk)[desk.open_count] = order
    desk.open_count += 1
    desk.sent += 1
    row[STATE] = PENDING_NEW
    _tell(desk, row, order)
    request(desk, SUBMIT, order, 0, 0, 0)


@njit(cache=True)
def _cancel_if_let(desk: Any, limits: Any, row: Int64Array, order: int) -> None:
    found = denial_of_cancel(desk, limits)
    if found[0]:
        _deny(desk, row, order, found)
    else:
        send_cancel(desk, row, order)


@njit(cache=True)
def send_cancel(desk: Any, row: Int64Array, order: int) -> None:
    """Ask the venue to cancel an order; nobody may say no to that here."""
    request(desk, CANCEL, order, 0, 0, 0)
    if row[STATE] != PENDING_CANCEL:
        row[STATE], row[TOLD_NS] = PENDING_CANCEL, max(row[TOLD_NS], desk.now_ns)
    _tell(desk, row, order)


@njit(cache=True)
def _amend(desk: Any, limits: Any, rows: Int64Array, order: int, lots: int, limit: int) -> None:
    row = rows[order - 1]
    found = _denial_of_change(desk, limits, rows, order, lots, limit)
    if found[0]:
        _deny(desk, row, order, found)
        return
    row[REVISION] += 1
    row[NEW_LOTS], row[NEW_LIMIT], row[IS_CHANGING] = lots, limit, 1
    row[STATE], row[TOLD_NS] = PENDING_REPLACE, max(row[TOLD_NS], desk.now_ns)
    _tell(desk, row, order)
    request(desk, AMEND, order, lots, limit, row[REVISION])


@njit(cache=True)
def _denial_of_change(desk: Any, limits: Any, rows: Int64Array, order: int, lots: int, limit: int) -> Reason:
    row = rows[order - 1]
    if row[STATE] not in (NEW, PARTIALLY_FILLED):
        return why.NOT_REPLACEABLE, row[STATE], 0
    total = lots if lots else row[LOTS]
    if limit == NO_LIMIT and row[DONE] < total <= row[LOTS]:  # only smaller: the market is not asked about
        return (why.NONE if desk.is_open else why.INSTRUMENT), 0, 0
    terms = (row[SIDE], total - row[DONE], row[LIMIT] if limit == NO_LIMIT else limit)
    found = denial(desk, limits, rows, terms, order)
    if not found[0]:
        note(desk, terms, order)
    return found


@njit(cache=True)
def _deny(desk: Any, row: Int64Array, order: int, found: Reason) -> None:
    """Tell why a cancel or a change does not go; the order itself stays as it is."""
    denials_of(desk)[found[0]] += 1
    kept = row[REASON], row[FIRST], row[SECOND], row[TOLD_NS]
    row[REASON], row[FIRST], row[SECOND] = found
    row[TOLD_NS] = desk.now_ns
    _tell(desk, row, order)
    row[REASON], row[FIRST], row[SECOND], row[TOLD_NS] = kept


@njit(cache=True)
def _tell(desk: Any, row: Int64Array, order: int) -> None:
    """Write down what an order has become, and let the strategy know it."""
    row[SEEN] = row[STATE]
    line = updates_of(desk)[desk.updates]
    line[0], line[1], line[2] = order, row[TOLD_NS] if row[TOLD_NS] else row[SENT_NS], row[STATE]
    line[3], line[4], line[5], line[6] = row[LOTS], row[DONE], row[PAID], row[LIMIT]
    line[7], line[8], line[9], line[10] = row[REASON], row[FIRST], row[SECOND], row[THIRD]
    desk.updates += 1


# --- reports -----------------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def hear(desk: Any, orders: Orders, report: Int64Array) -> int:
    """Take one report; return the order that it filled or ended, else 0. What is said of an order that is closed here is not heard."""
    order, kind = report[ORDER_ID], report[KIND]
    row = orders.rows[order - 1]
    if not 0 < row[STATE] <= PENDING_REPLACE:
        return 0
    row[TOLD_NS] = report[A]
    if kind == FILL:
        _take_fill(row, report[B], report[C])
    else:
        _take_word(row, kind, report)
    _settle_state(row)
    _tell(desk, row, order)
    if kind == FILL:
        _book(desk, row, order, report)
    if row[STATE] > PENDING_REPLACE:
        _close(desk, order)
        if kind != FILL:
            forget(desk, order)
    elif kind != FILL:
        return 0
    return order  # type: ignore[no-any-return]


@njit(cache=True)
def _take_fill(row: Int64Array, lots: int, price: int) -> None:
    row[DONE] += lots
    row[PAID] += lots * price
    row[LOTS] = max(row[LOTS], row[DONE])
    if row[STATE] != PENDING_CANCEL:
        row[STATE] = NEW


@njit(cache=True)
def _take_word(row: Int64Array, kind: int, report: Int64Array) -> None:
    if report[D]:
        row[REASON] = report[D]
        row[FIRST], row[SECOND] = (report[B], report[C]) if kind == REPLACE_REFUSED else (report[E], 0)
    row[STATE] = _next_state(row[STATE], kind)
    if kind == ACCEPTED:
        row[IS_KNOWN] = 1
    elif kind == REPLACED:
        row[LOTS], row[LIMIT] = max(report[B], row[DONE]), report[C]
    if kind in (REPLACED, REPLACE_REFUSED):
        row[ANSWERED] = report[F]
        if row[REVISION] <= report[F]:
            row[IS_CHANGING] = 0


@njit(cache=True)
def _next_state(state: int, kind: int) -> int:
    """Return the state after a word of the venue; NEW stands for alive (`framework.trading.orders.NEXT`)."""
    if kind == REFUSED:
        return REJECTED
    if kind == CANCELED_:
        return CANCELED
    if kind == EXPIRED_:
        return EXPIRED
    stays_cancel = state == PENDING_CANCEL and kind != CANCEL_REFUSED
    stays_replace = state == PENDING_REPLACE and kind in (ACCEPTED, CANCEL_REFUSED)
    return state if stays_cancel or stays_replace else NEW


@njit(cache=True)
def _settle_state(row: Int64Array) -> None:
    """Bring the state in line with what is filled and what is asked for."""
    most = max(row[LOTS], row[NEW_LOTS]) if row[IS_CHANGING] else row[LOTS]
    if row[DONE] >= most:
        row[STATE] = FILLED
    elif row[STATE] == NEW:
        if row[IS_CHANGING]:
            row[STATE] = PENDING_REPLACE
        elif row[DONE]:
            row[STATE] = PARTIALLY_FILLED
        elif not row[IS_KNOWN]:
            row[STATE] = PENDING_NEW


@njit(cache=True)
def _close(desk: Any, order: int) -> None:
    kept = 0
    for place in range(desk.open_count):
        if open_orders_of(desk)[place] != order:
            open_orders_of(desk)[kept] = open_orders_of(desk)[place]
            kept += 1
    desk.open_count = kept


@njit(cache=True)
def _book(desk: Any, row: Int64Array, order: int, report: Int64Array) -> None:
    line = fills_of(desk)[desk.fills]
    line[0], line[1], line[2], line[3], line[4], line[5] = order, report[A], report[B], report[C], report[E], report[F]
    desk.fills += 1
    signed, price, closing = row[SIDE] * report[B], report[C], 0
    if desk.position * signed < 0:
        closing = min(abs(desk.position), abs(signed)) * (1 if signed > 0 else -1)
        # The share of the cost, rounded down: in two steps, so that no product leaves 64 bits.
        whole, rest = divmod(desk.open_cost, abs(desk.position))
        cost = -(whole * abs(closing) + rest * abs(closing) // abs(desk.position))
        desk.realized += -closing * price * MICRO + cost
        desk.open_cost += cost
        desk.position += closing
    opening = signed - closing
    desk.position += opening
    desk.open_cost += opening * price * MICRO
