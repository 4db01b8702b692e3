"""The paper venue: our orders against a replayed market, with latency, queue position, partial fills and fees."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from framework.clock import Clock
from framework.config import PaperConfig
from framework.messages import BookSnapshot, ExecutionReport, MarketEvent, ReportKind, SessionChanged, SubmitOrder, TradeTick
from framework.model import NS_PER_MS, Instrument, Liquidity, OrderType, TimeInForce
from framework.venues.matching import Execution, MatchingEngine

ORDERS_REMEMBERED: Final = 10_000


@dataclass(slots=True)
class _Open:
    """An order that is open at the venue, with the lots that are left to trade."""

    instrument_id: str
    venue_order_id: str
    left: int


class PaperVenue:
    """A `Venue` that matches against the books and trade ticks of a feed (rules: `framework.venues.matching`).

    An order reaches the book `order_latency_ms` after it was sent and meets the book of that instant; what the venue says
    reaches us `response_latency_ms` later. Times are market time. IOC and market orders trade what they can and the rest is
    CANCELED; DAY orders rest, and EXPIRE when the session closes. Orders while it is closed are REJECTED. What it said about the
    last `ORDERS_REMEMBERED` orders is kept for `reconcile`.
    """

    name = "PAPER"

    def __init__(self, settings: PaperConfig, instruments: Iterable[Instrument]) -> None:
        self._order_latency_ns = round(settings.order_latency_ms * NS_PER_MS)
        self._response_latency_ns = round(settings.response_latency_ms * NS_PER_MS)
        self._fees = {Liquidity.MAKER: settings.maker_fee, Liquidity.TAKER: settings.taker_fee}
        self._engines = {instrument.instrument_id: MatchingEngine() for instrument in instruments}
        self._is_open = dict.fromkeys(self._engines, True)
        self._orders: dict[str, _Open] = {}
        self._said: dict[str, list[ExecutionReport]] = {}
        self._order_numbers = itertools.count(1)
        self._trade_numbers = itertools.count(1)
        self._run = ""
        self._sink: Callable[[ExecutionReport], None] | None = None
        self._on_event: dict[type, Callable[[Any], None]] = {
            BookSnapshot: lambda book: self._fill(self._engines[book.instrument_id].on_book(book)),
            TradeTick: lambda tick: self._fill(self._engines[tick.instrument_id].on_trade(tick)),
            SessionChanged: self._on_session,
        }

    def start(self, clock: Clock, sink: Callable[[ExecutionReport], None]) -> None:
        """Begin; ids of this run carry its start time, so that no id is ever used twice."""
        self._clock, self._sink = clock, sink
        self._run = f"{clock.now_ns() // NS_PER_MS:x}"

    def stop(self) -> None:
        """End; nothing more is reported."""
        self._sink = None

    def submit(self, order: SubmitOrder) -> None:
        """Send an order; it arrives after the order latency."""
        self._clock.call_at(self._clock.now_ns() + self._order_latency_ns, lambda: self._arrive(order))

    def cancel(self, client_order_id: str) -> None:
        """Send a cancel; it arrives after the order latency."""
        self._clock.call_at(self._clock.now_ns() + self._order_latency_ns, lambda: self._cancel(client_order_id))

    def on_market(self, event: MarketEvent) -> None:
        """Match resting orders against a market event."""
        handler = self._on_event.get(type(event))
        if handler is not None and event.instrument_id in self._engines:
            handler(event)

    def reconcile(self, client_order_ids: Sequence[str]) -> None:
        """Say again what was said about each order; CANCELED, "venue restarted", for one that is not known here.

        The question travels like an order, behind those that are on their way.
        """
        wanted = tuple(client_order_ids)
        self._clock.call_at(self._clock.now_ns() + self._order_latency_ns, lambda: self._reconcile(wanted))

    # --- orders at the venue -----------------------------------------------------------------------------------------------

    def _arrive(self, order: SubmitOrder) -> None:
        refusal = self._refusal(order)
        if refusal:
            self._report(order.client_order_id, ReportKind.REJECTED, reason=refusal)
            return
        self._remember(order)
        self._report(order.client_order_id, ReportKind.ACCEPTED)
        engine = self._engines[order.instrument_id]
        self._fill(engine.take(order, order.quantity))
        if order.client_order_id not in self._orders:
            return
        if order.order_type is OrderType.MARKET or order.time_in_force is TimeInForce.IOC:
            self._end(order.client_order_id, ReportKind.CANCELED, reason="nothing left to trade within the limit")
        else:
            engine.rest(order, self._orders[order.client_order_id].left)

    def _refusal(self, order: SubmitOrder) -> str:
        if order.client_order_id in self._said:
            return f"client_order_id {order.client_order_id} was used before"
        if order.instrument_id not in self._engines:
            return f"unknown instrument {order.instrument_id}"
        if not self._is_open[order.instrument_id]:
            return "session is closed"
        if order.quantity < 1 or (order.order_type is OrderType.LIMIT and order.limit_ticks is None):
            return "bad quantity or price"
        return ""

    def _remember(self, order: SubmitOrder) -> None:
        venue_order_id = f"P{self._run}-{next(self._order_numbers)}"
        self._orders[order.client_order_id] = _Open(order.instrument_id, venue_order_id, order.quantity)
        self._said[order.client_order_id] = []
        if len(self._said) > ORDERS_REMEMBERED:
            oldest = next((name for name in self._said if name not in self._orders), order.client_order_id)
            del self._said[oldest]

    def _cancel(self, client_order_id: str) -> None:
        order = self._orders.get(client_order_id)
        if order is None:
            self._report(client_order_id, ReportKind.CANCEL_REJECTED, reason="order is not open")
            return
        self._engines[order.instrument_id].remove(client_order_id)
        self._end(client_order_id, ReportKind.CANCELED)

    def _reconcile(self, client_order_ids: Sequence[str]) -> None:
        for client_order_id in client_order_ids:
            if client_order_id in self._said:
                for report in self._said[client_order_id]:
                    self._send_later(report)
            else:
                self._report(client_order_id, ReportKind.CANCELED, reason="venue restarted")

    def _on_session(self, session: SessionChanged) -> None:
        self._is_open[session.instrument_id] = session.is_open
        if session.is_open:
            return
        engine = self._engines[session.instrument_id]
        for client_order_id in tuple(engine.resting):
            engine.remove(client_order_id)
            self._end(client_order_id, ReportKind.EXPIRED, reason=f"session closed ({session.reason})")
        engine.close()

    # --- reports -------------------------------------------------------------------------------------------------------------

    def _fill(self, fills: Iterable[Execution]) -> None:
        for fill in fills:
            self._report(
                fill.client_order_id,
                ReportKind.FILLED,
                trade_id=f"T{self._run}-{next(self._trade_numbers)}",
                last_quantity=fill.quantity,
                last_ticks=fill.price_ticks,
                fee=self._fees[fill.liquidity] * fill.quantity,
                liquidity=fill.liquidity,
            )
            order = self._orders[fill.client_order_id]
            order.left -= fill.quantity
            if order.left == 0:
                del self._orders[fill.client_order_id]

    def _end(self, client_order_id: str, kind: ReportKind, *, reason: str = "") -> None:
        self._report(client_order_id, kind, reason=reason)
        del self._orders[client_order_id]

    def _report(self, client_order_id: str, kind: ReportKind, **fields: Any) -> None:
        order = self._orders.get(client_order_id)
        report = ExecutionReport(
            client_order_id=client_order_id,
            kind=kind,
            ts_event=self._clock.now_ns(),
            venue_order_id=order.venue_order_id if order else "",
            **fields,
        )
        if order is not None and client_order_id in self._said:
            self._said[client_order_id].append(report)
        self._send_later(report)

    def _send_later(self, report: ExecutionReport) -> None:
        self._clock.call_at(self._clock.now_ns() + self._response_latency_ns, lambda: self._send(report))

    def _send(self, report: ExecutionReport) -> None:
        if self._sink is not None:
            self._sink(report)
