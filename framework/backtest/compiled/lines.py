"""The two lines between our desk and the venue, compiled: what is sent arrives after its latency, in the order of sending."""

from __future__ import annotations

from typing import Any

from numba import njit

from framework.backtest.compiled.layout import DUE_NS, KIND, ORDER_ID, TICKET, A, B, C, D, E, F
from framework.backtest.compiled.memory import latency_back_of, latency_out_of, latency_times_of, reports_of, requests_of
from framework.window import Int64Array


@njit(cache=True)
def ticket(desk: Any) -> int:
    """Take the next place in the order of calling (`EventClock`)."""
    desk.tickets += 1
    return desk.tickets  # type: ignore[no-any-return]


@njit(cache=True)
def _share(amount: int, part: int, whole: int) -> int:
    """Return amount x part / whole, rounded down, for 0 <= part < whole, where the product needs more than 64 bits."""
    quotient, rest = divmod(amount, whole)
    left, found = 0, 0
    for bit in range(62, -1, -1):
        left, found = 2 * left + (part if rest >> bit & 1 else 0), 2 * found
        while left >= whole:
            left, found = left - whole, found + 1
    return quotient * part + found


@njit(cache=True)
def _latency(times: Int64Array, latencies: Int64Array, drawn: int, now_ns: int) -> int:
    """Return how long a message is under way (`framework.venues.latency`)."""
    if len(latencies) == 1:
        return latencies[0]  # type: ignore[no-any-return]
    if len(times) == 0:
        return latencies[drawn]  # type: ignore[no-any-return]
    after = 0
    while after < len(times) and times[after] <= now_ns:
        after += 1
    if after == 0:
        return latencies[0]  # type: ignore[no-any-return]
    if after == len(times):
        return latencies[after - 1]  # type: ignore[no-any-return]
    begin, first = times[after - 1], latencies[after - 1]
    return first + _share(latencies[after] - first, now_ns - begin, times[after] - begin)  # type: ignore[no-any-return]


@njit(cache=True)
def _write(row: Int64Array, due_ns: int, place: int, kind: int, order: int) -> None:
    row[DUE_NS], row[TICKET], row[KIND], row[ORDER_ID] = due_ns, place, kind, order


@njit(cache=True)
def request(desk: Any, kind: int, order: int, lots: int, limit: int, revision: int) -> None:
    """Send something to the venue."""
    latency = _latency(latency_times_of(desk), latency_out_of(desk), desk.out_drawn, desk.now_ns)
    desk.out_drawn += 1
    desk.out_last_ns = max(desk.out_last_ns, desk.now_ns + latency)
    row = requests_of(desk)[desk.out_tail]
    _write(row, desk.out_last_ns, ticket(desk), kind, order)
    row[A], row[B], row[C] = lots, limit, revision
    desk.out_tail += 1


@njit(cache=True)
def say(desk: Any, kind: int, order: int, lots: int, price: int, reason: int, first: int, second: int) -> None:
    """Send something back; it was said now. Where there is no room for it the run ends (`is_full`)."""
    if desk.back_tail >= desk.reports_rows:
        desk.is_full = 1
        return
    latency = _latency(latency_times_of(desk), latency_back_of(desk), desk.back_drawn, desk.now_ns)
    desk.back_drawn += 1
    desk.back_last_ns = max(desk.back_last_ns, desk.now_ns + latency)
    row = reports_of(desk)[desk.back_tail]
    _write(row, desk.back_last_ns, ticket(desk), kind, order)
    row[A], row[B], row[C], row[D], row[E], row[F] = desk.now_ns, lots, price, reason, first, second
    desk.back_tail += 1


@njit(cache=True)
def first_out(desk: Any, when_ns: int, before: int) -> int:
    """Return what is due before a timer of `when_ns` with the place `before`: 1 a request, -1 a report, 0 nothing."""
    which, due_ns, place = 0, when_ns, before
    if desk.out_head < desk.out_tail:
        row = requests_of(desk)[desk.out_head]
        if row[DUE_NS] < due_ns or (row[DUE_NS] == due_ns and row[TICKET] <= place):
            which, due_ns, place = 1, row[DUE_NS], row[TICKET]
    if desk.back_head < desk.back_tail:
        row = reports_of(desk)[desk.back_head]
        if row[DUE_NS] < due_ns or (row[DUE_NS] == due_ns and row[TICKET] <= place):
            which = -1
    return which


@njit(cache=True)
def next_request(desk: Any) -> Int64Array:
    """Take the first request from its line, at its time; good until the next one is sent."""
    row: Int64Array = requests_of(desk)[desk.out_head]
    desk.now_ns = max(desk.now_ns, row[DUE_NS])
    desk.out_head += 1
    if desk.out_head == desk.out_tail:
        desk.out_head = desk.out_tail = 0
    return row


@njit(cache=True)
def next_report(desk: Any) -> Int64Array:
    """Take the first report from its line, at its time; good until something else is said."""
    row: Int64Array = reports_of(desk)[desk.back_head]
    desk.now_ns = max(desk.now_ns, row[DUE_NS])
    desk.back_head += 1
    if desk.back_head == desk.back_tail:
        desk.back_head = desk.back_tail = 0
    return row
