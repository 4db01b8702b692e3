"""No interleaving of fills turns a position through reduce-only orders: the desk of every venue of ours clips at the match."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from framework.clock import EventClock
from framework.messages import ExecutionReport, ReplaceOrder, ReportKind, SubmitOrder
from framework.model import NS_PER_S, Liquidity, OrderType, Side, TimeInForce
from framework.trading.orders import Order
from framework.venues.latency import ConstantLatency
from framework.venues.matcher import OpenOrder
from framework.venues.open_orders import OpenOrders
from framework.venues.port import RestingOrder

STRATEGIES = ("one", "two")
SIDES = st.sampled_from(tuple(Side))


class Whim:
    """A market that trades what the test wants; it may mean to trade more than an order has left by then."""

    def __init__(self) -> None:
        self.resting: dict[str, int] = {}

    def refusal(self, order: SubmitOrder) -> str:
        return ""

    def takeable(self, order: OpenOrder) -> int:
        return 0

    def take(self, order: OpenOrder) -> None: ...

    def ahead(self, order: OpenOrder) -> float | None:
        return None

    def rest(self, order: OpenOrder) -> None:
        self.resting[order.client_order_id] = order.left

    def resize(self, order: OpenOrder) -> None:
        if order.client_order_id in self.resting:
            self.resting[order.client_order_id] = order.left

    def remove(self, order: OpenOrder) -> None:
        self.resting.pop(order.client_order_id, None)

    def advance(self, now_ns: int) -> None: ...


class AnyInterleaving(RuleBasedStateMachine):
    """Orders of two strategies, reduce-only or not, filled, changed, canceled and restored in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.whim = EventClock(0), Whim()
        self.heard: list[ExecutionReport] = []
        self.orders: dict[str, Order] = {}
        self.lots = dict.fromkeys(STRATEGIES, 0)
        self.begin()

    def begin(self) -> None:
        line = ConstantLatency(0)
        self.desk = OpenOrders("X", self.whim, fees={Liquidity.MAKER: Decimal(0), Liquidity.TAKER: Decimal(0)}, out=line, back=line)
        self.desk.start(self.clock, self.hear, "run")

    def hear(self, report: ExecutionReport) -> None:
        order = self.orders[report.client_order_id]
        order.apply(report)
        if report.kind is not ReportKind.FILLED:
            return
        intent = order.intent
        before = self.lots[intent.strategy_id]
        after = self.lots[intent.strategy_id] = before + intent.side.sign * report.last_quantity
        if intent.reduce_only:
            assert before * intent.side.sign < 0, "a reduce-only order opened a position"
            assert before * after >= 0, "a reduce-only order turned a position"

    def arrive(self) -> None:
        self.clock.advance_to(self.clock.now_ns() + NS_PER_S)

    @rule(strategy_id=st.sampled_from(STRATEGIES), side=SIDES, quantity=st.integers(1, 6), reduce_only=st.booleans())
    def submit(self, **fields: Any) -> None:
        order = SubmitOrder(
            client_order_id=f"o{len(self.orders)}",
            instrument_id="A.X",
            order_type=OrderType.LIMIT,
            limit_ticks=100,
            time_in_force=TimeInForce.GTC,
            ts_event=self.clock.now_ns(),
            **fields,
        )
        self.orders[order.client_order_id] = Order(order)
        self.desk.submit(order)
        self.arrive()

    @rule(wanted=st.lists(st.tuples(st.integers(0, 7), st.integers(1, 6)), min_size=1, max_size=5))
    def trade(self, wanted: list[tuple[int, int]]) -> None:
        """One event fills several orders, as they stood before it."""
        names = list(self.whim.resting)
        fills = []
        for number, lots in wanted:
            if number < len(names) and self.whim.resting[names[number]]:
                size = min(lots, self.whim.resting[names[number]])
                self.whim.resting[names[number]] -= size
                fills.append((names[number], size))
        for name, size in fills:
            self.desk.fill(name, size, 100, Liquidity.MAKER)
        self.whim.resting = {name: left for name, left in self.whim.resting.items() if left}
        self.arrive()

    @rule(number=st.integers(0, 7), quantity=st.integers(1, 8))
    def change(self, number: int, quantity: int) -> None:
        names = list(self.whim.resting)
        if number < len(names):
            order = self.orders[names[number]]
            change = ReplaceOrder(client_order_id=names[number], strategy_id="", ts_event=0, quantity=quantity, revision=order.revision + 1)
            order.request_replace(change)
            self.desk.replace(change)
            self.arrive()

    @rule(number=st.integers(0, 7))
    def cancel(self, number: int) -> None:
        names = list(self.whim.resting)
        if number < len(names):
            self.desk.cancel(names[number])
            self.arrive()

    @rule()
    def restart(self) -> None:
        known = [
            RestingOrder(order.intent, order.venue_order_id, order.quantity, order.filled_quantity, order.limit_ticks)
            for order in self.orders.values()
            if order.is_open
        ]
        self.whim.resting.clear()
        self.begin()
        self.desk.restore(known, {(name, "A.X"): lots for name, lots in self.lots.items()})
        self.arrive()

    @invariant()
    def what_rests_can_turn_nothing(self) -> None:
        for order in self.desk.of("A.X"):
            held = -order.side.sign * self.lots[order.intent.strategy_id]
            assert order.left > 0
            assert self.whim.resting[order.client_order_id] == order.left
            assert not order.intent.reduce_only or order.left <= held
            assert self.orders[order.client_order_id].quantity == order.quantity


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
