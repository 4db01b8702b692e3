from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from framework.messages import ExecutionReport, ReportKind, SubmitOrder
from framework.model import CLOSED, OPEN, OrderStatus, OrderType, Side, TimeInForce
from framework.trading.orders import NEXT, Effect, Order


def intent(quantity: int = 10) -> SubmitOrder:
    return SubmitOrder(
        client_order_id="o1",
        strategy_id="s",
        instrument_id="A.X",
        side=Side.BUY,
        quantity=quantity,
        order_type=OrderType.LIMIT,
        limit_ticks=100,
        time_in_force=TimeInForce.DAY,
        ts_event=0,
    )


def report(kind: ReportKind, quantity: int = 0, trade_id: str = "", ticks: int = 100) -> ExecutionReport:
    return ExecutionReport(client_order_id="o1", kind=kind, ts_event=1, last_quantity=quantity, trade_id=trade_id, last_ticks=ticks)


def after(*reports: ExecutionReport) -> Order:
    order = Order(intent())
    for one in reports:
        order.apply(one)
    return order


def test_the_usual_life_of_an_order() -> None:
    order = after(report(ReportKind.ACCEPTED), report(ReportKind.FILLED, 4, "t1", 99), report(ReportKind.FILLED, 6, "t2", 100))

    assert order.status is OrderStatus.FILLED
    assert order.average_ticks == 99.6


def test_a_fill_before_its_acknowledgement_counts_and_the_acknowledgement_does_not_undo_it() -> None:
    order = after(report(ReportKind.FILLED, 4, "t1"), report(ReportKind.ACCEPTED))

    assert (order.status, order.filled_quantity) == (OrderStatus.PARTIALLY_FILLED, 4)


def test_a_repeated_fill_is_counted_once() -> None:
    order = after(report(ReportKind.FILLED, 4, "t1"))

    assert order.apply(report(ReportKind.FILLED, 4, "t1")) is Effect.DUPLICATE
    assert order.filled_quantity == 4


def test_a_fill_after_a_cancel_is_booked_and_flagged() -> None:
    order = after(report(ReportKind.CANCELED))

    assert order.apply(report(ReportKind.FILLED, 4, "t1")) is Effect.LATE_FILL
    assert (order.status, order.filled_quantity) == (OrderStatus.CANCELED, 4)


def test_a_lost_answer_makes_it_unknown_and_only_evidence_ends_that() -> None:
    order = after(report(ReportKind.LOST))
    order.request_cancel()

    assert order.status is OrderStatus.UNKNOWN
    assert order.open_quantity == 10
    order.apply(report(ReportKind.CANCEL_REJECTED))
    assert order.status is OrderStatus.UNKNOWN
    order.apply(report(ReportKind.ACCEPTED))
    assert order.status is OrderStatus.ACCEPTED


def test_a_fill_during_a_pending_cancel_keeps_it_pending() -> None:
    order = after(report(ReportKind.ACCEPTED))
    order.request_cancel()
    order.apply(report(ReportKind.FILLED, 3, "t1"))

    assert order.status is OrderStatus.PENDING_CANCEL


def test_a_rejected_cancel_of_a_partly_filled_order_returns_it_to_partly_filled() -> None:
    order = after(report(ReportKind.FILLED, 3, "t1"))
    order.request_cancel()
    order.apply(report(ReportKind.CANCEL_REJECTED))

    assert order.status is OrderStatus.PARTIALLY_FILLED


def test_a_refused_cancel_of_an_order_that_was_never_acknowledged_does_not_acknowledge_it() -> None:
    order = after()
    order.request_cancel()
    order.apply(report(ReportKind.CANCEL_REJECTED))

    assert order.status is OrderStatus.SUBMITTED


def test_the_answer_to_a_cancel_that_lost_its_race_tells_nothing_new() -> None:
    order = after(report(ReportKind.ACCEPTED), report(ReportKind.FILLED, 10, "t1"))

    assert order.apply(report(ReportKind.CANCEL_REJECTED)) is Effect.DUPLICATE
    assert order.apply(report(ReportKind.ACCEPTED)) is Effect.DUPLICATE
    assert order.apply(report(ReportKind.CANCELED)) is Effect.ANOMALY
    assert order.status is OrderStatus.FILLED


def test_a_lost_answer_about_a_closed_order_does_not_open_it() -> None:
    order = after(report(ReportKind.CANCELED))

    assert order.apply(report(ReportKind.LOST)) is Effect.DUPLICATE
    assert order.apply(report(ReportKind.CANCELED)) is Effect.DUPLICATE
    assert order.status is OrderStatus.CANCELED


@pytest.mark.parametrize(
    "changes",
    [
        {"last_quantity": 11},
        {"last_quantity": 0},
        {"last_quantity": -4},
        {"trade_id": ""},
        {"fee": Decimal("NaN")},
        {"fee": Decimal("sNaN")},
        {"fee": Decimal("-Infinity")},
        {"fee": Decimal("1E+12")},
    ],
)
def test_a_fill_that_cannot_be_true_is_left_out_and_said(changes: dict[str, Any]) -> None:
    order = after(report(ReportKind.ACCEPTED))

    assert order.apply(msgspec.structs.replace(report(ReportKind.FILLED, 4, "t1"), **changes)) is Effect.UNBOOKABLE
    assert (order.status, order.filled_quantity, order.trade_ids) == (OrderStatus.ACCEPTED, 0, set())


def test_a_market_order_shows_no_limit_although_the_gate_gave_it_one() -> None:
    order = Order(msgspec.structs.replace(intent(), order_type=OrderType.MARKET))

    assert order.update().limit_ticks is None
    assert Order(intent()).update().limit_ticks == 100


def test_every_state_has_a_row_but_denied_which_no_venue_hears_of() -> None:
    assert set(NEXT) == OPEN | CLOSED - {OrderStatus.DENIED}
    assert all(following is status for status in CLOSED & set(NEXT) for following in NEXT[status].values())
    assert all(set(NEXT[status]) == set(ReportKind) - {ReportKind.FILLED} for status in OPEN)


class Reference:
    """An order in the fewest words: what is evidence, and what it says. It shares no table with the real one."""

    def __init__(self, quantity: int) -> None:
        self.quantity = quantity
        self.fills: dict[str, tuple[int, int]] = {}
        self.end: OrderStatus | None = None
        self.is_acknowledged = self.is_lost = self.is_canceling = False

    @property
    def filled(self) -> int:
        return sum(quantity for quantity, _ in self.fills.values())

    @property
    def status(self) -> OrderStatus:
        if self.filled == self.quantity:
            return OrderStatus.FILLED
        if self.end:
            return self.end
        if self.is_lost:
            return OrderStatus.UNKNOWN
        if self.is_canceling:
            return OrderStatus.PENDING_CANCEL
        if self.filled:
            return OrderStatus.PARTIALLY_FILLED
        return OrderStatus.ACCEPTED if self.is_acknowledged else OrderStatus.SUBMITTED

    def fill(self, trade_id: str, quantity: int, ticks: int) -> None:
        if trade_id not in self.fills and quantity >= 1 and self.filled + quantity <= self.quantity:
            self.fills[trade_id] = (quantity, ticks)
            self.is_lost = False

    def cancel(self) -> None:
        self.is_canceling |= self.status in (OrderStatus.SUBMITTED, OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)

    def hear(self, kind: ReportKind) -> None:
        if self.status in CLOSED:
            return
        if kind is ReportKind.ACCEPTED:
            self.is_acknowledged, self.is_lost = True, False
        elif kind is ReportKind.LOST:
            self.is_lost, self.is_canceling = True, False
        elif kind is ReportKind.CANCEL_REJECTED:
            self.is_canceling = False
        else:
            self.end = OrderStatus(kind.value)


class AnyVenue(RuleBasedStateMachine):
    """A venue that says anything, in any order, once or again, against the reference."""

    @initialize(quantity=st.integers(1, 12))
    def send(self, quantity: int) -> None:
        self.order, self.reference = Order(intent(quantity)), Reference(quantity)

    @rule(trade_id=st.sampled_from("abcdefgh"), quantity=st.integers(-1, 6), ticks=st.integers(95, 105))
    def fill(self, trade_id: str, quantity: int, ticks: int) -> None:
        before = self.reference.filled
        effect = self.order.apply(report(ReportKind.FILLED, quantity, trade_id, ticks))
        self.reference.fill(trade_id, quantity, ticks)
        assert (effect in (Effect.FILLED, Effect.LATE_FILL)) == (self.reference.filled > before)

    @rule(kind=st.sampled_from([kind for kind in ReportKind if kind is not ReportKind.FILLED]))
    def hear(self, kind: ReportKind) -> None:
        was_closed = self.order.status in CLOSED
        effect = self.order.apply(report(kind))
        self.reference.hear(kind)
        assert (effect is Effect.CHANGED) == (not was_closed)

    @rule()
    def cancel(self) -> None:
        self.order.request_cancel()
        self.reference.cancel()

    @invariant()
    def agree(self) -> None:
        fills = self.reference.fills.values()
        assert self.order.status is self.reference.status
        assert self.order.filled_quantity == self.reference.filled <= self.order.intent.quantity
        assert self.order.filled_notional_ticks == sum(quantity * ticks for quantity, ticks in fills)
        assert self.order.open_quantity == (0 if self.order.status in CLOSED else self.order.intent.quantity - self.reference.filled)


TestAnyVenue = AnyVenue.TestCase
TestAnyVenue.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
