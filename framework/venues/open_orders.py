"""What every venue of ours does alike: orders on their way, open orders, used ids, numbers and fees.

`OpenOrders` speaks with us; a `Matcher` (the venue itself) knows the market and says what trades.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec

from framework.clock import Clock
from framework.errors import KernelError
from framework.messages import ExecutionReport, ReplaceOrder, ReportKind, SubmitOrder
from framework.model import Liquidity, OrderType, TimeInForce
from framework.trading.records import MarginCalled
from framework.venues.holdings import CLIPPED, NOTHING_TO_REDUCE, Holdings
from framework.venues.latency import Latency, Line
from framework.venues.margin import MarginAccount
from framework.venues.matcher import Matcher, OpenOrder
from framework.venues.port import NOTHING_BOOKED, NOTHING_HELD, Booked, Holder, RestingOrder, Standing
from framework.venues.said import Said

IDS_REMEMBERED: Final = 100_000
NOTHING_LEFT: Final = "nothing left to trade within the limit"
ITS_TIME_IS_OVER: Final = "good till date: its time is over"
# Bound once: as `OrderType.LIMIT` a word is looked up in 0.2 us (Python 3.11), several times for each order.
_LIMIT, _MARKET = OrderType.LIMIT, OrderType.MARKET
_GTD, _FOK = TimeInForce.GTD, TimeInForce.FOK


class OpenOrders:
    """The desk of a venue: requests come in over one line, reports go out over another, and every order ends exactly once.

    A used `client_order_id` is REJECTED. What was said about the last orders is said again when asked
    (`reconcile`), with the same trade ids: they are made of our id and of what the order has filled, so that they differ for
    ever, over restarts too.

    A reduce-only order never has more lots left than its strategy's position: it is clipped (RESTATED) or CANCELED just before
    the fill that makes the position smaller is reported, and REJECTED where there is nothing to reduce.

    Where the feed is behind the exchange, the venue sees its events late too: a request that arrives at the exchange at T is matched once
    an event from after T has come (`catch_up`), or `feed_latency_ns` after T, and its answer leaves at T. That is exact as long as the
    feed is no later than that; an answer that we should have had before the events came is handed over as soon as it can be.
    """

    def __init__(
        self,
        prefix: str,
        matcher: Matcher,
        *,
        fees: Mapping[Liquidity, Decimal],
        out: Latency,
        back: Latency,
        feed_latency_ns: int = 0,
        margin: MarginAccount | None = None,
    ) -> None:
        self._prefix = prefix
        self._matcher = matcher
        self._fees = dict(fees)
        self._out = Line(out)
        self._orders: dict[str, OpenOrder] = {}
        self._reducing: dict[str, OpenOrder] = {}
        self._holdings = Holdings()
        self._said = Said(back, self._orders, self._now_ns)
        self._ids: dict[str, None] = {}
        self._numbers = itertools.count(1)
        self._run = ""
        self._feed_latency_ns = feed_latency_ns
        self.margin = margin
        self.on_margin: Callable[[MarginCalled], None] = lambda _: None
        self._arrivals: deque[tuple[int, Callable[[], None]]] = deque()
        self._exchange_ns = 0
        self._clock: Clock | None = None

    def start(self, clock: Clock, sink: Callable[[ExecutionReport], None], run: str) -> None:
        """Begin; venue order ids carry `run`, which sets one run apart from another."""
        self._clock, self._run = clock, run
        self._said.start(clock, sink)

    def stop(self) -> None:
        """End; nothing more is reported."""
        self._said.stop()

    # --- what the owner looks at -------------------------------------------------------------------------------------------

    def of(self, instrument_id: str) -> tuple[OpenOrder, ...]:
        """Return the open orders of an instrument, oldest first."""
        return tuple(order for order in self._orders.values() if order.intent.instrument_id == instrument_id)

    def standing(self) -> Standing:
        """Return what is open and held here."""
        return Standing(tuple(self._orders), self._holdings.lots())

    def take_over(self, before: OpenOrders) -> None:
        """Go on for a desk that has stopped: its open orders join the ends of their queues, and what it said is said again when asked."""
        self._holdings, self._ids, self._numbers, self.margin = before._holdings, before._ids, before._numbers, before.margin
        self._said.take_over(before._said)
        for order in tuple(before._orders.values()):
            if order.timer is not None:
                order.timer.cancel()
                order.timer = None
            self._take_in(order)
            self._place(order)

    # --- requests ----------------------------------------------------------------------------------------------------------

    def submit(self, order: SubmitOrder) -> None:
        """Send an order."""
        self._travel(lambda: self._arrive(order))

    def cancel(self, client_order_id: str) -> None:
        """Send a cancel."""
        self._travel(lambda: self._cancel(client_order_id))

    def replace(self, change: ReplaceOrder) -> None:
        """Send a change."""
        self._travel(lambda: self._replace(change))

    def reconcile(self, client_order_ids: Sequence[str], question: int = 0) -> None:
        """Ask again about orders; the question travels like an order, behind those that are on their way."""
        wanted = tuple(client_order_ids)
        self._travel(lambda: self._reconcile(wanted, question))

    def restore(
        self,
        orders: Iterable[RestingOrder],
        positions: Mapping[Holder, int] = NOTHING_HELD,
        booked: Mapping[str, Booked] = NOTHING_BOOKED,
    ) -> None:
        """Take back orders of the run before; each joins the end of its queue. Nothing is said but what happens to them.

        What was here in this run is left alone: the venue knows better.
        """
        self._holdings.restore(positions)
        if self.margin is not None:
            self.margin.restore(booked)
        for known in orders:
            intent = known.intent
            if intent.client_order_id in self._ids:
                continue
            order = OpenOrder(intent, known.venue_order_id, known.quantity, known.limit_ticks, known.filled_quantity)
            self._use(intent.client_order_id)
            self._take_in(order)
            self._said.note(order, ReportKind.ACCEPTED)
            self._place(order)

    def _travel(self, act: Callable[[], None]) -> None:
        clock = self._running_clock()
        arrival_ns = self._out.arrival_ns(clock.now_ns())
        self._arrivals.append((arrival_ns, act))
        clock.call_at(arrival_ns + self._feed_latency_ns, lambda: self._arrive_until(arrival_ns))

    def catch_up(self, ts_event: int) -> None:
        """Let everything arrive that was at the exchange before an event of `ts_event`; call it before the event is matched."""
        if self._feed_latency_ns:
            self._arrive_until(ts_event - 1)
            self._exchange_ns = max(self._exchange_ns, ts_event)

    def _arrive_until(self, until_ns: int) -> None:
        while self._arrivals and self._arrivals[0][0] <= until_ns:
            arrival_ns, act = self._arrivals.popleft()
            self._exchange_ns = max(self._exchange_ns, arrival_ns)
            self._matcher.advance(arrival_ns)
            act()

    def _now_ns(self) -> int:
        """Return the time at the exchange: the clock's, or that of what happens there where the feed is behind."""
        now_ns = self._running_clock().now_ns()
        return min(now_ns, self._exchange_ns) if self._feed_latency_ns else now_ns

    # --- at the venue ------------------------------------------------------------------------------------------------------

    def _arrive(self, order: SubmitOrder) -> None:
        client_order_id = order.client_order_id
        if client_order_id in self._ids:
            self._said.say(ReportKind.REJECTED, client_order_id, reason=f"client_order_id {client_order_id} was used before")
            return
        self._use(client_order_id)
        accepted = OpenOrder(order, "", order.quantity, order.limit_ticks)
        refusal = self._refusal(order) or self._refusal_to_take(accepted) or self._uncovered(accepted)
        if refusal:
            self._said.say(ReportKind.REJECTED, client_order_id, reason=refusal)
            return
        accepted.venue_order_id = f"{self._prefix}{self._run}-{next(self._numbers)}"
        self._take_in(accepted)
        self._said.report(accepted, ReportKind.ACCEPTED, queue_ahead=self._ahead(accepted))
        self._place(accepted)

    def _place(self, order: OpenOrder) -> None:
        """Trade what trades at once, and let the rest rest or end."""
        intent = order.intent
        if intent.reduce_only and not self._fits(order):
            return
        if intent.time_in_force is _FOK and self._matcher.takeable(order) < order.left:
            self.end(order, ReportKind.CANCELED, reason="fill or kill: not all of it can trade at once")
            return
        self._matcher.take(order)
        if not order.left:
            return
        if not order.rests:
            self.end(order, ReportKind.CANCELED, reason=NOTHING_LEFT)
            return
        if intent.time_in_force is _GTD and intent.expire_ns is not None and order.timer is None:
            order.timer = self._running_clock().call_at(intent.expire_ns, lambda: self._expire(order))
        self._matcher.rest(order)

    def _ahead(self, order: OpenOrder) -> float | None:
        return self._matcher.ahead(order) if order.rests and order.limit_ticks is not None else None

    def _expire(self, order: OpenOrder) -> None:
        self._matcher.advance(self._now_ns())
        if order.client_order_id not in self._orders:
            return
        self._matcher.remove(order)
        self.end(order, ReportKind.EXPIRED, reason=ITS_TIME_IS_OVER)

    def _refusal(self, order: SubmitOrder) -> str:
        now_ns = self._now_ns()
        checks = (
            (order.order_type.is_stop, "{order.order_type} orders are not known here"),
            (order.quantity < 1, "bad quantity {order.quantity}; allowed 1 lot or more"),
            (order.order_type is _LIMIT and order.limit_ticks is None, "a limit order needs a price"),
            (order.post_only and (order.order_type is _MARKET or not order.time_in_force.rests), "post-only orders must rest"),
            (
                order.time_in_force is _GTD and (order.expire_ns is None or order.expire_ns <= now_ns),
                "good till date: {order.expire_ns} is not after {now_ns}",
            ),
            (order.reduce_only and not self._holdings.room(order), NOTHING_TO_REDUCE),
        )
        refusal = next((reason for is_so, reason in checks if is_so), None)
        return self._matcher.refusal(order) if refusal is None else refusal.format(order=order, now_ns=now_ns)

    def _refusal_to_take(self, order: OpenOrder) -> str:
        is_taking = order.intent.post_only and self._matcher.takeable(order) > 0
        return "post-only order would take" if is_taking else ""

    def _cancel(self, client_order_id: str) -> None:
        order = self._orders.get(client_order_id)
        if order is None:
            self._said.say(ReportKind.CANCEL_REJECTED, client_order_id, reason="order is not open")
            return
        self._matcher.remove(order)
        self.end(order, ReportKind.CANCELED)

    def _replace(self, change: ReplaceOrder) -> None:
        order = self._orders.get(change.client_order_id)
        if order is None:
            self._said.say(ReportKind.REPLACE_REJECTED, change.client_order_id, reason="order is not open", revision=change.revision)
            return
        quantity = order.quantity if change.quantity is None else change.quantity
        limit_ticks = order.limit_ticks if change.limit_ticks is None else change.limit_ticks
        refusal = self._refusal_to_change(order, quantity, limit_ticks)
        if refusal:
            self._said.report(order, ReportKind.REPLACE_REJECTED, reason=refusal, revision=change.revision)
            return
        if order.intent.reduce_only:
            quantity = min(quantity, order.filled + self._holdings.room(order.intent))
        keeps_place = limit_ticks == order.limit_ticks and quantity <= order.quantity
        order.quantity, order.limit_ticks = quantity, limit_ticks
        ahead = None if keeps_place else self._ahead(order)
        self._said.report(
            order, ReportKind.REPLACED, quantity=quantity, limit_ticks=limit_ticks, revision=change.revision, queue_ahead=ahead
        )
        if keeps_place:
            self._matcher.resize(order)
        else:
            self._matcher.remove(order)
            self._place(order)

    def _refusal_to_change(self, order: OpenOrder, quantity: int, limit_ticks: int | None) -> str:
        if quantity <= order.filled:
            return f"new quantity {quantity}, but {order.filled} lots are filled already"
        wanted = msgspec.structs.replace(order.intent, quantity=quantity, limit_ticks=limit_ticks)
        trial = OpenOrder(wanted, order.venue_order_id, quantity, limit_ticks, order.filled)
        return self._matcher.refusal(wanted) or self._refusal_to_take(trial) or self._uncovered(trial)

    def _uncovered(self, order: OpenOrder) -> str:
        """Return why the account does not cover an order beside all the others, empty if it does."""
        if self.margin is None:
            return ""
        others = (other for other in self._orders.values() if other.client_order_id != order.client_order_id)
        return self.margin.refusal(order.intent, order.left, others)

    def review_margin(self) -> None:
        """Look whether the account still covers what it holds; call it when a price or a position has moved.

        A margin call cancels every order that does not only make the account's position smaller.
        """
        called = self.margin.call(self._now_ns()) if self.margin is not None else None
        if called is None:
            return
        self._said.tell(lambda: self.on_margin(called))
        for order in tuple(self._orders.values()) if not called.is_over else ():
            if self.margin is not None and not self.margin.reduces(order):
                self._matcher.remove(order)
                self.end(order, ReportKind.CANCELED, reason=f"MARGIN_CALL equity={called.equity:.2f} maintenance={called.maintenance:.2f}")

    def _reconcile(self, client_order_ids: Sequence[str], question: int) -> None:
        for client_order_id in client_order_ids:
            self._said.repeat(client_order_id, self._orders.get(client_order_id), question)

    # --- reduce-only ---------------------------------------------------------------------------------------------------------

    def _take_in(self, order: OpenOrder) -> None:
        self._orders[order.client_order_id] = order
        if order.intent.reduce_only:
            self._reducing[order.client_order_id] = order

    def _fits(self, order: OpenOrder) -> bool:
        """Clip a reduce-only order to the position that it reduces, or end it; return whether it is still open."""
        most = order.filled + self._holdings.room(order.intent)
        if order.quantity <= most:
            return True
        if most == order.filled:
            self._matcher.remove(order)
            self.end(order, ReportKind.CANCELED, reason=NOTHING_TO_REDUCE)
            return False
        order.quantity = most
        self._matcher.resize(order)
        revision = self._said.revision(order.client_order_id)
        self._said.mention(order, ReportKind.RESTATED, quantity=most, revision=revision, reason=CLIPPED)
        return True

    # --- what the matcher says ---------------------------------------------------------------------------------------------

    def fill(self, client_order_id: str, quantity: int, price_ticks: int, liquidity: Liquidity) -> None:
        """Report one execution of an open order, as far as an execution just before it left a reduce-only order something to do."""
        order = self._orders.get(client_order_id)
        if order is None:
            return
        is_reducing = order.intent.reduce_only
        quantity = min(quantity, order.left) if is_reducing else quantity
        order.filled += quantity
        self._holdings.book(order.intent, quantity)
        if self.margin is not None:
            self.margin.book(order.intent, quantity, price_ticks, self._fees[liquidity] * quantity)
        for other in tuple(self._reducing.values()):
            if other is not order:
                self._fits(other)
        self._said.report(
            order,
            ReportKind.FILLED,
            trade_id=f"T-{client_order_id}-{order.filled}",
            last_quantity=quantity,
            last_ticks=price_ticks,
            fee=self._fees[liquidity] * quantity,
            liquidity=liquidity,
        )
        if is_reducing:  # the market may have meant to trade more
            (self._matcher.resize if order.left else self._matcher.remove)(order)
        if order.left == 0:
            self._forget(order)
        self.review_margin()

    def end(self, order: OpenOrder, kind: ReportKind, *, reason: str = "") -> None:
        """Report the end of an open order."""
        self._said.report(order, kind, reason=reason)
        self._forget(order)

    def _forget(self, order: OpenOrder) -> None:
        if order.timer is not None:
            order.timer.cancel()
        del self._orders[order.client_order_id]
        self._reducing.pop(order.client_order_id, None)

    def _use(self, client_order_id: str) -> None:
        self._ids[client_order_id] = None
        if len(self._ids) > IDS_REMEMBERED:
            self._ids.pop(next(iter(self._ids)))

    def _running_clock(self) -> Clock:
        if self._clock is None:
            raise KernelError("the venue was used before it was started; call start first")
        return self._clock
