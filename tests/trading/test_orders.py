from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from framework.messages import ExecutionReport, ReplaceOrder, ReportKind, SubmitOrder
from framework.model import CLOSED, OPEN, OrderStatus, OrderType, Side, TimeInForce
from framework.trading.order_states import NEXT, REPLACEABLE, Effect, is_held
from framework.trading.orders import Order


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


def report(kind: ReportKind, lots: int = 0, trade_id: str = "", ticks: int = 100, **fields: Any) -> ExecutionReport:
    return ExecutionReport(client_order_id="o1", kind=kind, ts_event=1, last_quantity=lots, trade_id=trade_id, last_ticks=ticks, **fields)


def change(revision: int = 1, **fields: Any) -> ReplaceOrder:
    return ReplaceOrder(client_order_id="o1", strategy_id="s", ts_event=1, revision=revision, **fields)


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
    order.request_cancel(0)

    assert order.status is OrderStatus.UNKNOWN
    assert order.open_quantity == 10
    order.apply(report(ReportKind.CANCEL_REJECTED))
    assert order.status is OrderStatus.UNKNOWN
    order.apply(report(ReportKind.ACCEPTED))
    assert order.update().status is OrderStatus.NEW


def test_a_fill_during_a_pending_cancel_keeps_it_pending() -> None:
    order = after(report(ReportKind.ACCEPTED))
    order.request_cancel(0)
    order.apply(report(ReportKind.FILLED, 3, "t1"))

    assert order.status is OrderStatus.PENDING_CANCEL


def test_a_rejected_cancel_of_a_partly_filled_order_returns_it_to_partly_filled() -> None:
    order = after(report(ReportKind.FILLED, 3, "t1"))
    order.request_cancel(0)
    order.apply(report(ReportKind.CANCEL_REJECTED))

    assert order.status is OrderStatus.PARTIALLY_FILLED


def test_a_refused_cancel_of_an_order_that_was_never_acknowledged_does_not_acknowledge_it() -> None:
    order = after()
    order.request_cancel(0)
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


# --- changes -------------------------------------------------------------------------------------------------------------------


def changing(*reports: ExecutionReport, **fields: Any) -> Order:
    order = after(report(ReportKind.ACCEPTED), *reports)
    order.request_replace(change(**fields))
    return order


def test_a_change_is_pending_until_it_is_confirmed_and_then_the_terms_are_new() -> None:
    order = changing(quantity=6, limit_ticks=101)
    assert (order.status, order.quantity, order.limit_ticks) == (OrderStatus.PENDING_REPLACE, 10, 100)

    order.apply(report(ReportKind.REPLACED, revision=1, quantity=6, limit_ticks=101))
    update = order.update()
    assert (update.status, update.quantity, update.limit_ticks) == (OrderStatus.NEW, 6, 101)
    assert order.open_quantity == 6


def test_a_refused_change_leaves_the_terms_and_the_state_as_they_were() -> None:
    order = changing(report(ReportKind.FILLED, 3, "t1"), quantity=20)
    order.apply(report(ReportKind.REPLACE_REJECTED, revision=1))

    assert (order.status, order.quantity, order.open_quantity) == (OrderStatus.PARTIALLY_FILLED, 10, 7)


def test_a_refused_change_does_not_outdate_what_the_venue_made_of_the_order_itself() -> None:
    """A reduce-only order that the venue clipped: its word knows no change of ours, because it took none."""
    order = changing(quantity=6)
    order.apply(report(ReportKind.FILLED, 4, "t1"))
    order.apply(report(ReportKind.REPLACE_REJECTED, revision=1))

    clipped = report(ReportKind.RESTATED, quantity=4)
    assert not order.knows(clipped)
    order.apply(clipped)
    assert (order.status, order.open_quantity) == (OrderStatus.FILLED, 0)


def test_a_change_from_before_the_order_left_does_not_outdate_what_the_venue_made_of_it() -> None:
    order = Order(msgspec.structs.replace(intent(), parent_id="o0"))
    order.apply(report(ReportKind.REPLACED, revision=1, quantity=8))
    order.apply(report(ReportKind.RELEASED))
    order.apply(report(ReportKind.ACCEPTED))
    order.apply(report(ReportKind.RESTATED, quantity=3))

    assert (order.quantity, order.open_quantity) == (3, 3)


def test_a_word_about_terms_from_before_a_change_that_the_venue_took_is_old_news() -> None:
    order = changing(quantity=6)
    order.apply(report(ReportKind.REPLACED, revision=1, quantity=6))

    assert order.knows(report(ReportKind.RESTATED, quantity=9))
    order.apply(report(ReportKind.RESTATED, quantity=9))
    assert order.quantity == 6


def test_a_change_under_way_counts_at_its_worst() -> None:
    assert changing(quantity=20).open_quantity == 20
    assert changing(quantity=2).open_quantity == 10


def test_a_fill_that_only_the_larger_size_allows_shows_that_the_change_has_happened() -> None:
    order = changing(quantity=20)

    assert order.apply(report(ReportKind.FILLED, 10, "t1")) is Effect.FILLED
    assert order.status is OrderStatus.PENDING_REPLACE
    assert order.apply(report(ReportKind.FILLED, 7, "t2")) is Effect.FILLED
    assert order.quantity == 17
    order.apply(report(ReportKind.REPLACED, revision=1, quantity=20))
    assert (order.status, order.open_quantity) == (OrderStatus.PARTIALLY_FILLED, 3)


def test_an_order_filled_while_a_change_was_asked_for_is_filled_once_the_change_is_refused() -> None:
    order = changing(quantity=20)
    order.apply(report(ReportKind.FILLED, 10, "t1"))
    order.apply(report(ReportKind.REPLACE_REJECTED, revision=1))

    assert order.status is OrderStatus.FILLED


def test_an_order_that_shrinks_to_what_is_filled_is_filled() -> None:
    order = changing(report(ReportKind.FILLED, 4, "t1"), quantity=4)
    order.apply(report(ReportKind.REPLACED, revision=1, quantity=4))

    assert order.status is OrderStatus.FILLED


def test_a_confirmation_that_was_overtaken_by_a_later_one_is_old_news() -> None:
    order = changing(limit_ticks=101)
    order.apply(report(ReportKind.REPLACE_REJECTED, revision=1))
    order.request_replace(change(2, limit_ticks=102))
    order.apply(report(ReportKind.REPLACED, revision=2, limit_ticks=102))

    assert order.apply(report(ReportKind.REPLACED, revision=1, limit_ticks=101)) is Effect.DUPLICATE
    assert order.apply(report(ReportKind.REPLACED, revision=2, limit_ticks=102)) is Effect.DUPLICATE
    assert order.limit_ticks == 102


@pytest.mark.parametrize("status", [OrderStatus.NEW, OrderStatus.PENDING_CANCEL, OrderStatus.PENDING_REPLACE, OrderStatus.CANCELED])
def test_what_a_venue_says_again_is_known_whatever_the_order_waits_for(status: OrderStatus) -> None:
    order = after(accepted := report(ReportKind.ACCEPTED, venue_order_id="v1"))
    if status is OrderStatus.PENDING_CANCEL:
        order.request_cancel(0)
    elif status is OrderStatus.PENDING_REPLACE:
        order.request_replace(change(quantity=5))
    elif status is OrderStatus.CANCELED:
        order.apply(report(ReportKind.CANCELED))

    assert order.status is status
    assert order.knows(accepted)
    assert order.knows(report(ReportKind.RESTATED, quantity=10, limit_ticks=100))
    assert not order.knows(report(ReportKind.ACCEPTED, venue_order_id="v2"))
    assert order.knows(report(ReportKind.RESTATED, quantity=9)) is (status is OrderStatus.CANCELED)
    assert not order.knows(report(ReportKind.CANCEL_REJECTED))


def test_the_first_acknowledgement_and_the_first_answer_are_news_even_behind_the_end() -> None:
    order = changing(quantity=5)
    order.apply(report(ReportKind.CANCELED))

    for late in (report(ReportKind.ACCEPTED), report(ReportKind.REPLACED, revision=1, quantity=5)):
        assert not order.knows(late) or late.kind is ReportKind.ACCEPTED
        order.apply(late)
        assert order.knows(late)
    unheard = after(report(ReportKind.FILLED, 10, "t1"))
    assert not unheard.knows(report(ReportKind.ACCEPTED))


def test_what_is_said_again_of_an_unknown_order_is_evidence() -> None:
    order = after(accepted := report(ReportKind.ACCEPTED), report(ReportKind.LOST))

    assert not order.knows(accepted)
    order.apply(accepted)
    assert order.status is OrderStatus.NEW


def test_an_acknowledgement_that_is_said_again_does_not_undo_a_change() -> None:
    order = after(accepted := report(ReportKind.ACCEPTED, quantity=10, limit_ticks=100))
    order.request_replace(change(quantity=5))
    order.apply(report(ReportKind.REPLACED, revision=1, quantity=5))

    assert order.knows(accepted)
    order.apply(accepted)
    assert order.quantity == 5


def test_a_lost_answer_to_a_change_is_unknown_at_its_worst_until_the_venue_tells_the_terms() -> None:
    order = changing(quantity=20)
    order.apply(report(ReportKind.LOST))
    assert (order.status, order.open_quantity) == (OrderStatus.UNKNOWN, 20)

    order.apply(report(ReportKind.ACCEPTED, quantity=10))
    assert (order.status, order.open_quantity) == (OrderStatus.NEW, 10)


def test_a_cancel_overrules_a_change_under_way() -> None:
    order = changing(quantity=5)
    order.request_cancel(0)
    order.apply(report(ReportKind.REPLACED, revision=1, quantity=5))
    assert (order.status, order.open_quantity) == (OrderStatus.PENDING_CANCEL, 5)

    order.apply(report(ReportKind.CANCELED))
    assert order.status is OrderStatus.CANCELED


def test_fees_are_summed_exactly() -> None:
    order = after(*(report(ReportKind.FILLED, 1, f"t{n}", fee=Decimal("0.1000000000000000000000000001")) for n in range(3)))

    assert order.fees == Decimal("0.3000000000000000000000000003")


# --- held orders ---------------------------------------------------------------------------------------------------------------


def stop(**fields: Any) -> SubmitOrder:
    return msgspec.structs.replace(intent(), order_type=OrderType.STOP, limit_ticks=None, stop_ticks=105, **fields)


def test_a_stop_and_a_leg_are_held_and_nothing_of_them_is_open_at_the_venue() -> None:
    leg = msgspec.structs.replace(intent(), parent_id="o0")
    assert [is_held(one) for one in (intent(), stop(), leg)] == [False, True, True]

    order = Order(stop())
    assert (order.status, order.is_open, order.open_quantity) == (OrderStatus.SUSPENDED, True, 0)


def test_a_stop_that_is_triggered_waits_until_it_is_released_and_is_then_on_its_way() -> None:
    order = Order(stop())
    order.apply(report(ReportKind.RESTATED, stop_ticks=104))
    assert (order.status, order.stop_ticks) == (OrderStatus.SUSPENDED, 104)

    order.apply(report(ReportKind.TRIGGERED))
    assert (order.status, order.is_triggered, order.open_quantity) == (OrderStatus.SUSPENDED, True, 0)
    order.apply(report(ReportKind.RELEASED, quantity=7))
    assert (order.status, order.open_quantity) == (OrderStatus.PENDING_NEW, 7)
    order.apply(report(ReportKind.ACCEPTED))
    assert order.status is OrderStatus.NEW


@pytest.mark.parametrize(
    ("order_type", "becomes", "limit_ticks"),
    [
        (OrderType.STOP, OrderType.MARKET, None),
        (OrderType.TRAILING_STOP, OrderType.MARKET, None),
        (OrderType.STOP_LIMIT, OrderType.LIMIT, 100),
        (OrderType.LIMIT, OrderType.LIMIT, 100),
        (OrderType.MARKET, OrderType.MARKET, None),
    ],
)
def test_what_goes_to_the_venue_is_a_plain_order_with_the_present_terms(
    order_type: OrderType, becomes: OrderType, limit_ticks: int | None
) -> None:
    held = msgspec.structs.replace(intent(), order_type=order_type, stop_ticks=105, trail_ticks=3, parent_id="o0", oco_id="g")
    order = Order(held)
    order.apply(report(ReportKind.RESTATED, quantity=4))
    sent = order.outgoing()

    assert (sent.order_type, sent.limit_ticks, sent.quantity, sent.client_order_id) == (becomes, limit_ticks, 4, "o1")
    assert (sent.stop_ticks, sent.trail_ticks, sent.parent_id, sent.oco_id) == (None, None, "", "")


def test_a_held_order_that_is_canceled_is_over() -> None:
    order = Order(stop())
    order.request_cancel(0)
    assert order.status is OrderStatus.SUSPENDED

    order.apply(report(ReportKind.CANCELED))
    assert (order.status, order.open_quantity) == (OrderStatus.CANCELED, 0)


class Reference:
    """An order in the fewest words: what is evidence, and what it says. It shares no table with the real one."""

    def __init__(self, quantity: int, *, is_held: bool) -> None:
        self.quantity, self.limit_ticks = quantity, 100
        self.fills: dict[str, tuple[int, int]] = {}
        self.end: OrderStatus | None = None
        self.change: ReplaceOrder | None = None
        self.asked = self.answered = self.taken = 0
        self.is_acknowledged = self.is_lost = self.is_canceling = False
        self.is_held = is_held

    @property
    def filled(self) -> int:
        return sum(quantity for quantity, _ in self.fills.values())

    @property
    def most(self) -> int:
        return max(self.quantity, (self.change and self.change.quantity) or 0)

    @property
    def status(self) -> OrderStatus:
        facts = (
            (self.filled >= self.most, OrderStatus.FILLED),
            (self.end is not None, self.end),
            (self.is_lost, OrderStatus.UNKNOWN),
            (self.is_held, OrderStatus.SUSPENDED),
            (self.is_canceling, OrderStatus.PENDING_CANCEL),
            (self.change is not None, OrderStatus.PENDING_REPLACE),
            (self.filled > 0, OrderStatus.PARTIALLY_FILLED),
            (self.is_acknowledged, OrderStatus.NEW),
        )
        return next((status for is_so, status in facts if is_so and status), OrderStatus.PENDING_NEW)

    def fill(self, trade_id: str, quantity: int, ticks: int) -> None:
        if trade_id in self.fills or quantity < 1 or self.filled + quantity > self.most:
            return
        self.fills[trade_id] = (quantity, ticks)
        self.quantity = max(self.quantity, self.filled)
        if self.end is None:
            self.is_lost = self.is_held = False

    def cancel(self) -> None:
        self.is_canceling |= self.status in (
            OrderStatus.PENDING_NEW,
            OrderStatus.NEW,
            OrderStatus.PARTIALLY_FILLED,
            OrderStatus.PENDING_REPLACE,
        )

    def ask(self, change: ReplaceOrder) -> None:
        self.asked, self.change = change.revision, change

    def hear(self, one: ExecutionReport) -> bool:
        """Take one report; return whether it told anything."""
        kind, was_lost = one.kind, self.is_lost
        if self.status in CLOSED or (kind in (ReportKind.REPLACED, ReportKind.REPLACE_REJECTED) and one.revision <= self.answered):
            return False
        is_new = kind not in (ReportKind.ACCEPTED, ReportKind.RESTATED) or self.taken in (0, *range(one.revision + 1))
        if kind in (ReportKind.CANCELED, ReportKind.REJECTED, ReportKind.EXPIRED):
            self.end = OrderStatus(kind.value)
        elif kind is ReportKind.LOST:
            self.is_lost, self.is_canceling, self.is_held = True, False, False
        else:
            self._live(kind)
        tells = (ReportKind.ACCEPTED, ReportKind.REPLACED, ReportKind.RELEASED, ReportKind.RESTATED)
        if kind in tells and one.quantity is not None:
            self.quantity = max(one.quantity, self.filled) if is_new or not self.is_acknowledged else self.quantity
            self.change = None if was_lost and kind is not ReportKind.REPLACED else self.change
        if kind in tells and one.limit_ticks is not None and (is_new or not self.is_acknowledged):
            self.limit_ticks = one.limit_ticks
        if kind in (ReportKind.REPLACED, ReportKind.REPLACE_REJECTED):
            self.taken = one.revision if kind is ReportKind.REPLACED and not self.is_held else self.taken
            self.answered = one.revision
            self.change = None if self.change is not None and self.change.revision <= one.revision else self.change
        return True

    def _live(self, kind: ReportKind) -> None:
        """Take a report that shows an order to be alive, or asks nothing of it."""
        refusals = (ReportKind.CANCEL_REJECTED, ReportKind.REPLACE_REJECTED)
        if kind is ReportKind.ACCEPTED:
            self.is_acknowledged = True
        if kind in (ReportKind.ACCEPTED, ReportKind.RELEASED):
            self.is_held = False
        if kind is ReportKind.CANCEL_REJECTED:
            self.is_canceling = False
        if kind not in refusals:
            self.is_lost = False


def facts(order: Order) -> dict[str, Any]:
    """Return all of an order but when it last moved, and why."""
    return {name: getattr(order, name) for name in Order.__slots__ if name not in ("ts_event", "reason")}


SAID_AGAIN = (ReportKind.ACCEPTED, ReportKind.RESTATED, ReportKind.REPLACED, ReportKind.REPLACE_REJECTED)
REPORTS = st.sampled_from([kind for kind in ReportKind if kind is not ReportKind.FILLED])


class AnyVenue(RuleBasedStateMachine):
    """A venue that says anything, in any order, once or again, against the reference."""

    @initialize(quantity=st.integers(1, 12), is_held=st.booleans())
    def send(self, quantity: int, is_held: bool) -> None:
        self.order, self.reference = Order(intent(quantity)), Reference(quantity, is_held=is_held)
        if is_held:
            self.order = Order(msgspec.structs.replace(intent(quantity), parent_id="o0"))

    @rule(trade_id=st.sampled_from("abcdefgh"), quantity=st.integers(-1, 6), ticks=st.integers(95, 105))
    def fill(self, trade_id: str, quantity: int, ticks: int) -> None:
        before = self.reference.filled
        effect = self.order.apply(report(ReportKind.FILLED, quantity, trade_id, ticks))
        self.reference.fill(trade_id, quantity, ticks)
        assert (effect in (Effect.FILLED, Effect.LATE_FILL)) == (self.reference.filled > before)

    @rule(kind=REPORTS, revision=st.integers(0, 4), quantity=st.none() | st.integers(1, 12), limit_ticks=st.none() | st.integers(95, 105))
    def hear(self, kind: ReportKind, revision: int, quantity: int | None, limit_ticks: int | None) -> None:
        one = report(kind, revision=revision, quantity=quantity, limit_ticks=limit_ticks)
        was_closed, was_known, before = self.order.status in CLOSED, self.order.knows(one), facts(self.order)
        effect = self.order.apply(one)
        assert (effect is Effect.CHANGED) == self.reference.hear(one)
        assert not (was_closed and effect is Effect.CHANGED)
        assert not was_known or facts(self.order) == before
        assert effect is Effect.ANOMALY or kind not in SAID_AGAIN or self.order.status is OrderStatus.UNKNOWN or self.order.knows(one)

    @rule()
    def cancel(self) -> None:
        self.order.request_cancel(0)
        self.reference.cancel()

    @rule(quantity=st.none() | st.integers(1, 12), limit_ticks=st.none() | st.integers(95, 105))
    def replace(self, quantity: int | None, limit_ticks: int | None) -> None:
        if self.order.status in REPLACEABLE:
            asked = change(self.order.revision + 1, quantity=quantity, limit_ticks=limit_ticks)
            self.order.request_replace(asked)
            self.reference.ask(asked)

    @invariant()
    def agree(self) -> None:
        fills = self.reference.fills.values()
        assert self.order.status is self.reference.status
        assert (self.order.quantity, self.order.limit_ticks) == (self.reference.quantity, self.reference.limit_ticks)
        assert self.order.filled_quantity == self.reference.filled <= self.order.quantity
        assert self.order.filled_notional_ticks == sum(quantity * ticks for quantity, ticks in fills)
        is_at_the_venue = self.order.status in OPEN - {OrderStatus.SUSPENDED}
        assert self.order.open_quantity == (self.reference.most - self.reference.filled if is_at_the_venue else 0)


TestAnyVenue = AnyVenue.TestCase
TestAnyVenue.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
