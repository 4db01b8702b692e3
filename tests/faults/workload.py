"""What strategies and the market do: at random, by seed."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from framework.messages import (
    BookRecovered,
    BookSnapshot,
    CancelOrder,
    Message,
    OrderUpdated,
    ReplaceOrder,
    SubmitList,
    SubmitOrder,
    TradeTick,
)
from framework.model import OrderType, Side, TimeInForce
from framework.trading.execution import EXECUTION
from tests.faults.core import STRATEGIES, Core


class Workload:
    """Three strategies that send, change, cancel and bracket orders in two instruments, and the market around them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._numbers: dict[str, int] = defaultdict(int)
        self._sequence = 0

    def act(self) -> None:
        """Do one thing."""
        self._core.rng.choice((self.market, self.market, self.submit, self.submit, self.cancel, self.replace, self.bracket))()

    # --- the market ----------------------------------------------------------------------------------------------------------

    def market(self) -> None:
        """Move a mid, show the book, perhaps trade."""
        name = self._core.rng.choice(tuple(self._core.mids))
        self._core.mids[name] += self._core.rng.choice((-2, -1, 0, 1, 2))
        self.show(name)
        if self._core.rng.random() < 0.5:
            self.trade(name)

    def show(self, name: str) -> None:
        """Show the book of an instrument, to the venue first."""
        self._sequence += 1
        mid, now_ns = self._core.mids[name], self._core.clock.now_ns()
        book = BookSnapshot(
            instrument_id=name,
            ts_event=now_ns,
            ts_recv=now_ns,
            sequence=self._sequence,
            bid_ticks=(mid - 1, mid - 2, mid - 3),
            bid_sizes=(3, 5, 9),
            ask_ticks=(mid + 1, mid + 2, mid + 3),
            ask_sizes=(3, 5, 9),
        )
        self._core.line.on_market(book)
        self._core.bus.publish(book)
        self._core.bus.drain()

    def trade(self, name: str) -> None:
        """Let others trade at the best price."""
        self._sequence += 1
        now_ns, side = self._core.clock.now_ns(), self._core.rng.choice(tuple(Side))
        tick = TradeTick(
            instrument_id=name,
            ts_event=now_ns,
            ts_recv=now_ns,
            sequence=self._sequence,
            price_ticks=self._core.mids[name] + side.sign,
            size=self._core.rng.randint(1, 8),
            aggressor=side,
        )
        self._core.line.on_market(tick)
        self._core.bus.publish(tick)
        self._core.bus.drain()

    def order(self, **changes: Any) -> SubmitOrder:
        """Return an order that is drawn, with some fields given."""
        strategy_id, name = self._core.rng.choice(STRATEGIES), self._core.rng.choice(tuple(self._core.mids))
        self._numbers[strategy_id] += 1
        is_market = self._core.rng.random() < 0.3
        fields: dict[str, Any] = {
            "client_order_id": f"{strategy_id}-{self._numbers[strategy_id]}",
            "strategy_id": strategy_id,
            "instrument_id": name,
            "side": self._core.rng.choice(tuple(Side)),
            "quantity": self._core.rng.randint(1, 6),
            "order_type": OrderType.MARKET if is_market else OrderType.LIMIT,
            "limit_ticks": None if is_market else self._core.mids[name] + self._core.rng.randint(-4, 4),
            "time_in_force": TimeInForce.IOC if is_market else self._core.rng.choice((TimeInForce.DAY, TimeInForce.GTC, TimeInForce.IOC)),
            "ts_event": self._core.clock.now_ns(),
            "reduce_only": self._core.rng.random() < 0.2,
        }
        return SubmitOrder(**fields | changes)

    def submit(self) -> None:
        """Send an order, or garbage."""
        order = self.order()
        if self._core.rng.random() < self._core.mix.garbage:
            self._core.line.fired["garbage order"] += 1
            order = self.order(quantity=self._core.rng.choice((float("nan"), -1, 0, 2**60, "2", True)))
        self.tell(order)

    def bracket(self) -> None:
        """Send an entry with its target and its stop."""
        entry = self.order(order_type=OrderType.LIMIT, time_in_force=TimeInForce.DAY, reduce_only=False)
        entry = self._with(entry, limit_ticks=self._core.mids[entry.instrument_id] + self._core.rng.randint(-2, 2))
        legs = []
        for kind in (OrderType.LIMIT, OrderType.STOP):
            self._numbers[entry.strategy_id] += 1
            away = self._core.mids[entry.instrument_id] + entry.side.sign * (6 if kind is OrderType.LIMIT else -6)
            legs.append(
                self._with(
                    entry,
                    client_order_id=f"{entry.strategy_id}-{self._numbers[entry.strategy_id]}",
                    side=entry.side.opposite,
                    order_type=kind,
                    limit_ticks=away if kind is OrderType.LIMIT else None,
                    stop_ticks=away if kind is OrderType.STOP else None,
                    time_in_force=TimeInForce.GTC,
                    reduce_only=True,
                    parent_id=entry.client_order_id,
                    oco_id=f"g-{entry.client_order_id}",
                )
            )
        self.tell(SubmitList(strategy_id=entry.strategy_id, ts_event=entry.ts_event, orders=(entry, *legs)))

    def _with(self, order: SubmitOrder, **changes: Any) -> SubmitOrder:
        return SubmitOrder(**{name: getattr(order, name) for name in order.__struct_fields__} | changes)

    def cancel(self) -> None:
        """Cancel an open order."""
        order = self._any_open()
        if order is not None:
            self.tell(CancelOrder(client_order_id=order.client_order_id, strategy_id=order.strategy_id, ts_event=self._core.clock.now_ns()))

    def replace(self) -> None:
        """Ask for other terms of an open order."""
        order = self._any_open()
        if order is not None:
            self.tell(
                ReplaceOrder(
                    client_order_id=order.client_order_id,
                    strategy_id=order.strategy_id,
                    ts_event=self._core.clock.now_ns(),
                    quantity=self._core.rng.choice((None, 1, 3, 5)),
                    limit_ticks=None
                    if order.limit_ticks is None
                    else self._core.rng.choice((None, order.limit_ticks + self._core.rng.randint(-2, 2))),
                )
            )

    def _any_open(self) -> OrderUpdated | None:
        orders = self._core.execution.open_orders()
        return self._core.rng.choice(orders) if orders else None

    def tell(self, command: Message) -> None:
        """Hand a command to Execution."""
        for order in command.orders if isinstance(command, SubmitList) else (command,):
            if isinstance(order, SubmitOrder):
                self._core.sent[order.client_order_id] = order
        self._core.bus.tell(EXECUTION, command)
        self._core.bus.drain()

    def recover_book(self, name: str) -> None:
        """Let a book be sound again."""
        self._core.bad_books.discard(name)
        self._core.bus.publish(BookRecovered(instrument_id=name, ts_event=self._core.clock.now_ns()))
        self._core.bus.drain()
        self.show(name)
