"""A shipped strategy on a real bus, with books that the test shapes and an execution that fills at once or only listens."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from framework.clock import EventClock
from framework.config import StrategyFile
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.messages import (
    BookSnapshot,
    CancelOrder,
    DecisionMade,
    DomUpdated,
    Message,
    OrderUpdated,
    PositionChanged,
    SubmitList,
    SubmitOrder,
)
from framework.model import Instrument, OrderStatus
from framework.strategy import IdSequence, Strategy, StrategyActor, StrategyContext, read_parameters

S = 1_000_000_000
TIDE = Instrument(instrument_id="TIDE.SIM", tick_size=Decimal("0.25"), multiplier=Decimal(20))


class View:
    row_count = 100
    total_rows = 100

    def mid_ticks(self) -> float:
        return 1_000.0

    def window(self, rows: int) -> Any:
        raise NotImplementedError

    def rows_since(self, total: int) -> Any:
        raise NotImplementedError


class Market(Actor):
    """Execution and venue in one: fills market orders at the best price at once, lets limit orders rest."""

    def __init__(self, bus: EventBus, clock: EventClock) -> None:
        super().__init__("execution")
        self.bus, self.clock = bus, clock
        self.orders: list[SubmitOrder] = []
        self.lists: list[SubmitList] = []
        self.canceled: list[str] = []
        self.decisions: list[DecisionMade] = []
        self.position = 0
        self.book: BookSnapshot | None = None

    def handle(self, message: Message) -> None:
        if isinstance(message, DecisionMade):
            self.decisions.append(message)
        elif isinstance(message, SubmitList):
            self.lists.append(message)
        elif isinstance(message, CancelOrder):
            self.canceled.append(message.client_order_id)
            [order] = [order for order in self.orders if order.client_order_id == message.client_order_id]
            self.update(order, OrderStatus.CANCELED)
        elif isinstance(message, SubmitOrder):
            self.orders.append(message)
            if message.limit_ticks is None:
                self.fill(message)

    def fill(self, order: SubmitOrder) -> None:
        assert self.book is not None
        price = order.limit_ticks or (self.book.ask_ticks if order.side.sign > 0 else self.book.bid_ticks)[0]
        self.position += order.side.sign * order.quantity
        self.update(order, OrderStatus.FILLED)
        self.bus.publish(
            PositionChanged(
                strategy_id=order.strategy_id,
                instrument_id="TIDE.SIM",
                ts_event=self.clock.now_ns(),
                quantity=self.position,
                average_ticks=float(price),
                realized_pnl=Decimal(0),
                fees=Decimal(0),
            )
        )

    def update(self, order: SubmitOrder, status: OrderStatus) -> None:
        self.bus.publish(
            OrderUpdated(
                client_order_id=order.client_order_id,
                strategy_id=order.strategy_id,
                instrument_id="TIDE.SIM",
                ts_event=self.clock.now_ns(),
                side=order.side,
                quantity=order.quantity,
                filled_quantity=order.quantity if status is OrderStatus.FILLED else 0,
                average_ticks=None,
                limit_ticks=order.limit_ticks,
                status=status,
            )
        )


class Stage:
    def __init__(self) -> None:
        self.bus, self.clock = EventBus(), EventClock(1_700_000_000 * S)
        self.market = Market(self.bus, self.clock)
        self.bus.register(self.market)
        self.bus.subscribe("execution", DecisionMade)
        self.sequence = 0

    def run(self, strategy_class: type[Strategy], **parameters: Any) -> Any:
        file = StrategyFile(name="s1", strategy="m:C", instrument_id="TIDE.SIM", parameters=parameters)
        context = StrategyContext(
            file=file,
            instrument=TIDE,
            bus=self.bus,
            clock=self.clock,
            dom=View(),
            order_ids=IdSequence("s1-"),
            decision_ids=IdSequence("s1-d"),
        )
        strategy = strategy_class(context, read_parameters(strategy_class, file))
        actor = StrategyActor(strategy)
        self.bus.register(actor)
        actor.on_start()
        return strategy

    def book(self, imbalance: float, *, mid_ticks: int = 1_000, after_s: float = 0.1) -> None:
        """Let time pass, then show a book of this imbalance, two ticks wide."""
        self.clock.advance_to(self.clock.now_ns() + round(after_s * S))
        self.sequence += 1
        self.market.book = BookSnapshot(
            instrument_id="TIDE.SIM",
            ts_event=self.clock.now_ns(),
            ts_recv=self.clock.now_ns(),
            sequence=self.sequence,
            bid_ticks=(mid_ticks - 1,),
            bid_sizes=(round(1_000 * (1 + imbalance)),),
            ask_ticks=(mid_ticks + 1,),
            ask_sizes=(round(1_000 * (1 - imbalance)),),
        )
        dom = View()
        self.bus.publish(
            DomUpdated(instrument_id="TIDE.SIM", ts_event=self.clock.now_ns(), sequence=self.sequence, book=self.market.book, dom=dom)
        )
        self.bus.drain()

    def books(self, imbalance: float, seconds: float, *, mid_ticks: int = 1_000) -> None:
        for _ in range(round(seconds * 10)):
            self.book(imbalance, mid_ticks=mid_ticks)

    @property
    def reasons(self) -> list[str]:
        return [decision.reason for decision in self.market.decisions]

    @property
    def sides(self) -> list[str]:
        return [str(order.side) for order in self.market.orders]


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def make_book() -> Callable[..., BookSnapshot]:
    def make(ts_event: int, bid_sizes: tuple[int, ...], ask_sizes: tuple[int, ...]) -> BookSnapshot:
        return BookSnapshot(
            instrument_id="TIDE.SIM",
            ts_event=ts_event,
            ts_recv=ts_event,
            sequence=1,
            bid_ticks=tuple(999 - n for n in range(len(bid_sizes))),
            bid_sizes=bid_sizes,
            ask_ticks=tuple(1_001 + n for n in range(len(ask_sizes))),
            ask_sizes=ask_sizes,
        )

    return make
