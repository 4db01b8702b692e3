"""The room that the tests of Execution play in: a bus, a clock, a journal, a venue and somebody who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from framework.clock import Clock, EventClock
from framework.config import RiskLimits
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.messages import (
    ExecutionReport,
    Filled,
    MarketEvent,
    Message,
    OrderUpdated,
    PositionChanged,
    ReplaceOrder,
    ReportKind,
    SubmitOrder,
    TradingStateChanged,
)
from framework.model import NS_PER_S, Instrument, Liquidity, OrderStatus
from framework.trading.execution import EXECUTION, ExecutionActor
from framework.trading.journal import Journal
from framework.trading.portfolio import Portfolio
from framework.trading.risk import RiskGate
from framework.venues.port import NOTHING_BOOKED, NOTHING_HELD, SWEEP_NS, Booked, Holder, RestingOrder, Venue
from tests.trading.conftest import INSTRUMENT, NOW, book

OTHER = Instrument(instrument_id="B.X", tick_size=Decimal("0.5"))
LIMITS = RiskLimits(
    max_order_quantity=10,
    max_position=1_000,
    max_orders_per_second=1_000,
    max_orders_per_minute=0,
    max_open_orders=1_000,
    duplicate_window_s=0.0,
)


class ScriptedVenue:
    """A venue that only remembers what it is asked; the test says what it answers."""

    name = "SCRIPTED"
    sweep_ns = SWEEP_NS

    def __init__(self, on_submit: Callable[[SubmitOrder], None] = lambda _: None) -> None:
        self.on_submit = on_submit
        self.submitted: list[str] = []
        self.canceled: list[str] = []
        self.asked: list[str] = []
        self.replaced: list[ReplaceOrder] = []
        self.restored: list[RestingOrder] = []

    def start(self, clock: Clock, sink: Callable[[ExecutionReport], None]) -> None: ...

    def submit(self, order: SubmitOrder) -> None:
        self.on_submit(order)
        self.submitted.append(order.client_order_id)

    def cancel(self, client_order_id: str) -> None:
        self.canceled.append(client_order_id)

    def replace(self, change: ReplaceOrder) -> None:
        self.replaced.append(change)

    def restore(
        self,
        orders: Iterable[RestingOrder],
        positions: Mapping[Holder, int] = NOTHING_HELD,
        booked: Mapping[str, Booked] = NOTHING_BOOKED,
    ) -> None:
        self.restored += orders

    def on_market(self, event: MarketEvent) -> None: ...

    def reconcile(self, client_order_ids: Sequence[str], question: int = 0) -> None:
        self.asked += client_order_ids

    def stop(self) -> None: ...


class Listener(Actor):
    """Keep everything that Execution publishes."""

    def __init__(self) -> None:
        super().__init__("listener")
        self.heard: list[Message] = []

    def handle(self, message: Message) -> None:
        self.heard.append(message)


class Room:
    """Execution with a bus, a clock, a journal and a venue."""

    def __init__(self, journal: Journal, venue: Venue | None = None, instruments: tuple[Instrument, ...] = (INSTRUMENT,)) -> None:
        self.clock = EventClock(NOW)
        self.bus = EventBus()
        self.journal = journal
        self.scripted = ScriptedVenue()
        self.venue = venue or self.scripted
        known = {instrument.instrument_id: instrument for instrument in instruments}
        self.execution = ExecutionActor(
            self.bus,
            self.clock,
            venue=self.venue,
            gate=RiskGate(LIMITS),
            portfolio=Portfolio(known),
            journal=journal,
            instruments=known,
        )
        self.listener = Listener()
        for actor in (self.execution, self.listener):
            self.bus.register(actor)
        self.execution.on_start()
        for kind in (OrderUpdated, Filled, PositionChanged, TradingStateChanged):
            self.bus.subscribe("listener", kind)
        self.venue.start(self.clock, self.execution.take)
        self.show(book())

    def show(self, *events: Message) -> None:
        for event in events:
            if hasattr(event, "bid_ticks"):
                self.venue.on_market(event)  # type: ignore[arg-type]
            self.bus.publish(event)
        self.bus.drain()

    def tell(self, *commands: Message) -> None:
        for command in commands:
            self.bus.tell(EXECUTION, command)
        self.bus.drain()

    def wait(self, seconds: float = 1.0) -> None:
        until_ns = self.clock.now_ns() + round(seconds * NS_PER_S)
        while (due_ns := self.clock.next_timer_ns()) is not None and due_ns <= until_ns:
            self.clock.advance_to(due_ns)
            self.bus.drain()
        self.clock.advance_to(until_ns)

    def heard(self, kind: type[Message]) -> list[Any]:
        return [message for message in self.listener.heard if type(message) is kind]

    def statuses(self, client_order_id: str = "o1") -> list[OrderStatus]:
        return [update.status for update in self.heard(OrderUpdated) if update.client_order_id == client_order_id]

    def state(self) -> tuple[Any, ...]:
        return state_of(self.execution)


def state_of(execution: ExecutionActor) -> tuple[Any, ...]:
    positions = {
        key: (position.quantity, position.realized, position.open_cost, position.fees)
        for key, position in execution.portfolio.positions().items()
        if position.fees or position.quantity or position.realized
    }
    orders = {order.client_order_id: (order.status, order.filled_quantity, order.average_ticks) for order in execution.open_orders()}
    return positions, orders, execution.state, execution.state_reason


def report(kind: ReportKind, client_order_id: str = "o1", **fields: Any) -> ExecutionReport:
    return ExecutionReport(client_order_id=client_order_id, kind=kind, ts_event=NOW, **fields)


def fill(quantity: int, ticks: int, trade_id: str, client_order_id: str = "o1", fee: str = "0.85") -> ExecutionReport:
    return report(
        ReportKind.FILLED,
        client_order_id,
        last_quantity=quantity,
        last_ticks=ticks,
        trade_id=trade_id,
        fee=Decimal(fee),
        liquidity=Liquidity.TAKER,
    )
