from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from framework.messages import ExecutionReport, ReplaceOrder, ReportKind, SessionChanged, SubmitOrder, TradeTick
from framework.model import NS_PER_S, OrderStatus, OrderType, Side, TimeInForce, TriggerPrice
from framework.trading.contingent import Cancel, Contingencies, Release, Say, Shrink
from framework.trading.order_terms import fault_in_list, fault_in_terms
from framework.trading.orders import Order
from framework.trading.reducing import Reducing
from tests.trading.conftest import NOW, book, submit

INSTRUMENT_ID = "A.X"


class Desk:
    """Contingencies with a venue that takes everything, and answers only when the test says so."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.held = self.contingencies()
        self.now = NOW
        self.released: list[str] = []
        self.canceled: list[str] = []
        self.shrunk: list[tuple[str, int]] = []
        self.trades = 0
        self.is_gate_open = True

    def contingencies(self) -> Contingencies:
        return Contingencies(self.orders.get, Reducing(self.position, self.open_quantity))

    def position(self, *_: str) -> int:
        return sum(order.intent.side.sign * order.filled_quantity for order in self.orders.values())

    def open_quantity(self, strategy_id: str, instrument_id: str, side: Side) -> int:
        return sum(order.open_quantity for order in self.orders.values() if order.intent.side is side)

    def add(self, *intents: SubmitOrder) -> None:
        for intent in intents:
            self.orders[intent.client_order_id] = Order(intent)
        for intent in intents:
            self.held.note(self.orders[intent.client_order_id])
        self.settle()

    def market(self, bid: int, ask: int) -> None:
        self.now += NS_PER_S
        self.held.on_book(book((bid,), (ask,), ts=self.now))
        self.settle()

    def last(self, price: int) -> None:
        tick = TradeTick(instrument_id="A.X", ts_event=1, ts_recv=1, sequence=1, price_ticks=price, size=1, aggressor=None)
        self.held.on_trade(tick)
        self.settle()

    def hear(self, name: str, kind: ReportKind, **fields: Any) -> None:
        self.orders[name].apply(ExecutionReport(client_order_id=name, kind=kind, ts_event=self.now, **fields))
        self.held.note(self.orders[name])
        self.settle()

    def fill(self, name: str, lots: int) -> None:
        self.trades += 1
        self.hear(name, ReportKind.FILLED, last_quantity=lots, last_ticks=100, trade_id=f"t{self.trades}")

    def settle(self) -> None:
        for _ in range(100):
            act = self.held.review(INSTRUMENT_ID, self.now)
            if act is None or (isinstance(act, Release) and not self.is_gate_open):
                return
            self.do(act)
        raise AssertionError("the review goes in a circle")

    def do(self, act: Say | Release | Cancel | Shrink) -> None:
        match act:
            case Say(report):
                order = self.orders[report.client_order_id]
                order.apply(report)
            case Release(name):
                order = self.orders[name]
                self.released.append(name)
                order.apply(ExecutionReport(client_order_id=name, kind=ReportKind.RELEASED, ts_event=self.now))
                order.apply(ExecutionReport(client_order_id=name, kind=ReportKind.ACCEPTED, ts_event=self.now))
            case Cancel(name):
                order = self.orders[name]
                self.canceled.append(name)
                order.request_cancel(0)
            case Shrink(name, quantity):
                order = self.orders[name]
                self.shrunk.append((name, quantity))
                order.request_replace(
                    ReplaceOrder(client_order_id=name, strategy_id="s", ts_event=self.now, quantity=quantity, revision=order.revision + 1)
                )
        self.held.note(order)

    def status(self, name: str) -> OrderStatus:
        return self.orders[name].status


def stop(name: str = "stop", side: Side = Side.SELL, stop_ticks: int | None = 95, quantity: int = 4, **fields: Any) -> SubmitOrder:
    fields.setdefault("order_type", OrderType.STOP)
    fields.setdefault("limit_ticks", None)
    return submit(name, side, quantity, stop_ticks=stop_ticks, **fields)


def trail(name: str = "stop", side: Side = Side.SELL, trail_ticks: int = 3, **fields: Any) -> SubmitOrder:
    return stop(name, side, None, order_type=OrderType.TRAILING_STOP, trail_ticks=trail_ticks, **fields)


def bracket(quantity: int = 4) -> tuple[SubmitOrder, ...]:
    legs: dict[str, Any] = {"parent_id": "entry", "oco_id": "g", "reduce_only": True, "time_in_force": TimeInForce.GTC}
    return (
        submit("entry", Side.BUY, quantity, limit_ticks=100),
        submit("target", Side.SELL, quantity, limit_ticks=110, **legs),
        stop(quantity=quantity, **legs),
    )


def entered(quantity: int = 4, filled: int = 4) -> Desk:
    desk = Desk()
    desk.market(99, 101)
    desk.add(*bracket(quantity))
    desk.hear("entry", ReportKind.ACCEPTED)
    if filled:
        desk.fill("entry", filled)
    return desk


# --- stops -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "quiet", "loud"), [(Side.SELL, (96, 98), (95, 97)), (Side.BUY, (100, 104), (103, 105))])
def test_a_stop_goes_when_the_quote_that_it_would_trade_at_reaches_it(side: Side, quiet: tuple[int, int], loud: tuple[int, int]) -> None:
    desk = Desk()
    desk.add(stop(side=side, stop_ticks=95 if side is Side.SELL else 105))
    desk.market(*quiet)
    assert desk.status("stop") is OrderStatus.SUSPENDED

    desk.market(*loud)
    assert (desk.released, desk.status("stop")) == (["stop"], OrderStatus.NEW)


def test_a_stop_on_the_last_trade_does_not_look_at_quotes() -> None:
    desk = Desk()
    desk.add(stop(trigger=TriggerPrice.LAST))
    desk.market(90, 91)
    assert desk.released == []

    desk.last(95)
    assert desk.released == ["stop"]


def test_a_one_sided_book_sets_nothing_off() -> None:
    desk = Desk()
    desk.add(stop())
    desk.held.on_book(book((), (90,)))
    desk.settle()

    assert desk.released == []


def test_a_trailing_stop_follows_the_price_and_never_goes_back() -> None:
    desk = Desk()
    desk.add(trail())
    path = []
    for bid in (100, 102, 101, 105, 103):
        desk.market(bid, bid + 1)
        path.append(desk.orders["stop"].stop_ticks)
    assert path == [97, 99, 99, 102, 102]

    desk.market(102, 103)
    assert desk.released == ["stop"]


def test_a_trailing_stop_to_buy_is_the_mirror_image() -> None:
    desk = Desk()
    desk.add(trail(side=Side.BUY))
    path = []
    for ask in (100, 98, 99, 95, 97):
        desk.market(ask - 1, ask)
        path.append(desk.orders["stop"].stop_ticks)
    assert path == [103, 101, 101, 98, 98]

    desk.market(97, 98)
    assert desk.released == ["stop"]


def test_a_stop_that_the_gate_holds_up_stays_set_off_and_is_tried_again() -> None:
    desk = Desk()
    desk.add(stop())
    desk.is_gate_open = False
    desk.market(90, 91)
    desk.market(99, 101)
    assert (desk.status("stop"), desk.orders["stop"].is_triggered) == (OrderStatus.SUSPENDED, True)

    desk.is_gate_open = True
    desk.market(99, 101)
    assert desk.released == ["stop"]


def test_a_held_order_expires_at_its_date_and_a_day_order_with_the_session() -> None:
    desk = Desk()
    desk.add(
        stop("dated", time_in_force=TimeInForce.GTD, expire_ns=NOW + NS_PER_S), stop("day"), stop("kept", time_in_force=TimeInForce.GTC)
    )
    desk.market(99, 101)
    for closing in (True, False):
        session = SessionChanged(instrument_id="A.X", ts_event=1, is_open=False, reason="break", is_halt=closing)
        for say in desk.held.on_session(session, desk.now):
            desk.do(say)
        assert desk.status("day") is (OrderStatus.SUSPENDED if closing else OrderStatus.EXPIRED)

    assert desk.status("dated") is OrderStatus.EXPIRED
    assert desk.status("kept") is OrderStatus.SUSPENDED


def test_the_prices_of_a_session_that_is_over_set_nothing_off_in_the_next() -> None:
    desk = Desk()
    desk.market(90, 91)
    tuple(desk.held.on_session(SessionChanged(instrument_id="A.X", ts_event=1, is_open=False, reason="break"), desk.now))
    desk.add(stop(time_in_force=TimeInForce.GTC))

    assert desk.released == []


# --- brackets ----------------------------------------------------------------------------------------------------------------


def test_legs_wait_for_the_entry_and_end_with_it_when_it_ends_unfilled() -> None:
    desk = entered(filled=0)
    desk.market(90, 91)
    assert desk.released == []

    desk.hear("entry", ReportKind.CANCELED)
    assert [desk.status(name) for name in ("target", "stop")] == [OrderStatus.CANCELED] * 2
    assert desk.orders["stop"].reason == "its entry ended unfilled"


def test_a_filled_entry_sends_the_target_and_arms_the_stop() -> None:
    desk = entered()

    assert desk.released == ["target"]
    assert desk.status("stop") is OrderStatus.SUSPENDED


def test_a_target_that_fills_ends_the_stop() -> None:
    desk = entered()
    desk.fill("target", 4)

    assert desk.status("stop") is OrderStatus.CANCELED


def test_a_target_that_fills_in_part_leaves_the_stop_the_rest() -> None:
    desk = entered()
    desk.fill("target", 3)

    assert (desk.status("stop"), desk.orders["stop"].quantity) == (OrderStatus.SUSPENDED, 1)


def test_a_stop_that_is_set_off_goes_only_once_the_target_has_ended_and_with_what_it_left() -> None:
    desk = entered()
    desk.market(95, 96)
    assert (desk.canceled, desk.released) == (["target"], ["target"])

    desk.fill("target", 1)
    assert desk.released == ["target"]
    desk.hear("target", ReportKind.CANCELED)
    assert desk.released == ["target", "stop"]
    assert desk.orders["stop"].outgoing().quantity == 3


def test_a_target_whose_fate_is_unknown_keeps_the_stop_waiting() -> None:
    desk = entered()
    desk.hear("target", ReportKind.LOST)
    desk.market(95, 96)
    assert desk.released == ["target"]

    desk.hear("target", ReportKind.CANCELED)
    assert desk.released == ["target", "stop"]


def test_a_stop_that_is_set_off_while_the_entry_still_fills_ends_the_entry_first() -> None:
    desk = entered(filled=1)
    desk.market(95, 96)
    assert desk.canceled == ["entry"]
    assert desk.status("target") is OrderStatus.CANCELED

    desk.fill("entry", 2)
    desk.hear("entry", ReportKind.CANCELED)
    assert desk.released == ["stop"]
    assert desk.orders["stop"].outgoing().quantity == 3


def test_an_entry_that_fills_in_part_and_ends_leaves_legs_of_that_size() -> None:
    desk = entered(filled=3)
    assert desk.released == []

    desk.hear("entry", ReportKind.CANCELED)
    assert desk.released == ["target"]
    assert [desk.orders[name].quantity for name in ("target", "stop")] == [3, 3]


def test_a_fill_of_the_entry_after_its_end_makes_the_stop_larger_again() -> None:
    desk = entered(filled=3)
    desk.hear("entry", ReportKind.CANCELED)
    desk.fill("entry", 1)

    assert desk.orders["stop"].quantity == 4


def test_a_rejected_target_leaves_the_stop_in_its_place() -> None:
    desk = entered()
    desk.hear("target", ReportKind.REJECTED)
    desk.market(95, 96)

    assert desk.released == ["target", "stop"]
    assert desk.orders["stop"].outgoing().quantity == 4


def test_a_cancel_that_is_refused_is_asked_again_but_not_in_a_circle() -> None:
    desk = entered()
    desk.market(95, 96)
    desk.hear("target", ReportKind.CANCEL_REJECTED)
    assert desk.canceled == ["target"]

    desk.market(95, 96)
    assert desk.canceled == ["target", "target"]


def test_after_a_restart_the_same_review_goes_on() -> None:
    desk = entered()
    desk.market(95, 96)
    again = Desk()
    again.orders.update(desk.orders)
    again.held = again.contingencies()
    again.held.restore(again.orders.values())
    again.now = desk.now
    again.hear("target", ReportKind.CANCELED)

    assert again.released == ["stop"]


def test_after_a_restart_that_knows_open_orders_only_a_stop_keeps_the_size_that_the_target_left_it() -> None:
    desk = entered()
    desk.fill("target", 1)
    desk.hear("target", ReportKind.CANCELED)
    desk.held = desk.contingencies()
    desk.held.restore(order for order in desk.orders.values() if order.is_open)
    desk.market(95, 96)

    assert desk.orders["stop"].outgoing().quantity == 3


# --- one cancels the other ---------------------------------------------------------------------------------------------------


def pair() -> Desk:
    desk = Desk()
    desk.add(submit("low", Side.BUY, 4, limit_ticks=95, oco_id="g"), submit("high", Side.SELL, 4, limit_ticks=105, oco_id="g"))
    for name in ("low", "high"):
        desk.hear(name, ReportKind.ACCEPTED)
    return desk


def test_of_two_resting_orders_the_one_that_fills_cancels_the_other() -> None:
    desk = pair()
    desk.fill("low", 4)

    assert desk.canceled == ["high"]


def test_of_two_resting_orders_one_that_fills_in_part_makes_the_other_smaller() -> None:
    desk = pair()
    desk.fill("low", 1)
    assert desk.shrunk == [("high", 3)]

    desk.hear("high", ReportKind.REPLACED, quantity=3, revision=1)
    desk.fill("low", 1)
    assert desk.shrunk == [("high", 3), ("high", 2)]


def test_a_stop_in_a_group_takes_the_resting_order_out_before_it_goes() -> None:
    desk = Desk()
    desk.add(submit("high", Side.SELL, 4, limit_ticks=105, oco_id="g"), stop(oco_id="g"))
    desk.hear("high", ReportKind.ACCEPTED)
    desk.market(95, 96)
    assert (desk.canceled, desk.released) == (["high"], [])

    desk.hear("high", ReportKind.CANCELED)
    assert desk.released == ["stop"]


def test_what_is_over_is_forgotten() -> None:
    desk = entered()
    desk.fill("target", 4)

    assert desk.held.is_idle


class AnyBracket(RuleBasedStateMachine):
    """A bracket in any market, at a venue that fills, refuses and loses in any order: exits are never more than the entry."""

    @initialize(quantity=st.integers(1, 5), trailing=st.booleans())
    def begin(self, quantity: int, trailing: bool) -> None:
        self.desk = Desk()
        self.desk.market(99, 101)
        entry, target, exit_ = bracket(quantity)
        if trailing:
            exit_ = msgspec.structs.replace(exit_, order_type=OrderType.TRAILING_STOP, stop_ticks=None, trail_ticks=3)
        self.desk.add(entry, target, exit_)

    @rule(bid=st.integers(90, 112))
    def market(self, bid: int) -> None:
        self.desk.market(bid, bid + 1)

    @rule(name=st.sampled_from(("entry", "target", "stop")), lots=st.integers(1, 5))
    def fill(self, name: str, lots: int) -> None:
        # A venue can only fill what it has; it may have a closed one still (the fill crossed the cancel).
        order = self.desk.orders[name]
        if order.status is not OrderStatus.SUSPENDED and (name == "entry" or name in self.desk.released) and order.is_open:
            self.desk.fill(name, min(lots, order.open_quantity))

    @rule(
        name=st.sampled_from(("entry", "target", "stop")),
        kind=st.sampled_from((ReportKind.ACCEPTED, ReportKind.CANCELED, ReportKind.REJECTED, ReportKind.CANCEL_REJECTED, ReportKind.LOST)),
    )
    def hear(self, name: str, kind: ReportKind) -> None:
        if name == "entry" or name in self.desk.released:
            self.desk.hear(name, kind)

    @rule(with_closed=st.booleans())
    def restart(self, with_closed: bool) -> None:
        self.desk.held = self.desk.contingencies()
        self.desk.held.restore(order for order in self.desk.orders.values() if with_closed or order.is_open)
        self.desk.settle()

    @invariant()
    def exits_are_never_more_than_the_entry(self) -> None:
        entry, target, exit_ = (self.desk.orders[name] for name in ("entry", "target", "stop"))
        gone = target.filled_quantity + exit_.filled_quantity
        assert gone + target.open_quantity + exit_.open_quantity <= entry.filled_quantity

    @invariant()
    def a_position_is_never_left_without_its_stop(self) -> None:
        entry, target, exit_ = (self.desk.orders[name] for name in ("entry", "target", "stop"))
        left = entry.filled_quantity - target.filled_quantity - exit_.filled_quantity
        if left and not entry.is_open and exit_.status is OrderStatus.SUSPENDED:
            assert exit_.quantity == left


TestAnyBracket = AnyBracket.TestCase
TestAnyBracket.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


# --- reduce-only ---------------------------------------------------------------------------------------------------------------


def long(*intents: SubmitOrder, lots: int = 5) -> Desk:
    """Return a desk that holds lots, with orders on it that the venue has taken."""
    desk = Desk()
    desk.add(submit("entry", Side.BUY, lots))
    desk.fill("entry", lots)
    desk.add(*intents)
    for intent in intents:
        if desk.status(intent.client_order_id) is not OrderStatus.SUSPENDED:
            desk.hear(intent.client_order_id, ReportKind.ACCEPTED)
    return desk


def exit_(name: str, quantity: int, **fields: Any) -> SubmitOrder:
    return submit(name, Side.SELL, quantity, limit_ticks=110, reduce_only=True, **fields)


def test_a_resting_reduce_only_order_is_clipped_and_then_canceled_as_the_position_goes() -> None:
    desk = long(exit_("target", 5), submit("other", Side.SELL, 5))

    desk.fill("other", 2)
    assert desk.shrunk == [("target", 3)]
    desk.hear("target", ReportKind.REPLACED, quantity=3, revision=1)
    desk.fill("target", 1)
    assert (desk.shrunk, desk.canceled) == ([("target", 3)], [])

    desk.fill("other", 2)
    assert desk.canceled == ["target"]


def test_the_oldest_reduce_only_order_keeps_its_lots_and_other_holders_are_left_alone() -> None:
    desk = long(exit_("first", 3), exit_("second", 2), submit("other", Side.SELL, 5), submit("entry2", Side.BUY, 9, reduce_only=False))

    desk.fill("other", 1)
    assert (desk.shrunk, desk.canceled) == ([("second", 1)], [])
    desk.hear("second", ReportKind.LOST)
    desk.fill("other", 4)
    assert desk.canceled == ["first"]


def test_a_held_stop_goes_with_what_the_position_has_left_for_it() -> None:
    desk = long(stop(quantity=5, reduce_only=True), submit("other", Side.SELL, 2))
    desk.fill("other", 2)
    assert (desk.released, desk.orders["stop"].quantity) == ([], 5)

    desk.market(94, 95)
    assert (desk.released, desk.orders["stop"].quantity) == (["stop"], 3)


def test_a_held_stop_waits_while_another_order_has_the_whole_position_and_goes_when_that_ends() -> None:
    desk = long(stop(quantity=5, reduce_only=True), exit_("target", 5))
    desk.market(94, 95)
    assert (desk.orders["stop"].is_triggered, desk.released) == (True, [])

    desk.hear("target", ReportKind.CANCELED)
    assert desk.released == ["stop"]


class AnyPosition(RuleBasedStateMachine):
    """Reduce-only orders and others of both sides, on a venue that fills them in any order: what is too much is always asked back."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk()

    @rule(side=st.sampled_from(tuple(Side)), quantity=st.integers(1, 5), reduce_only=st.booleans(), is_stop=st.booleans())
    def add(self, side: Side, quantity: int, reduce_only: bool, is_stop: bool) -> None:
        name = f"o{len(self.desk.orders)}"
        terms: dict[str, Any] = {"order_type": OrderType.STOP, "limit_ticks": None, "stop_ticks": 100} if is_stop else {}
        order = submit(name, side, quantity, reduce_only=reduce_only, **terms)
        if is_stop or not reduce_only or 0 < quantity <= self.room(side):
            self.desk.add(order)

    def room(self, side: Side) -> int:
        return -side.sign * self.desk.position() - self.desk.open_quantity("s", "A.X", side)

    @rule(bid=st.integers(95, 105))
    def market(self, bid: int) -> None:
        self.desk.market(bid, bid + 1)

    @rule(number=st.integers(0, 9), lots=st.integers(1, 5))
    def fill(self, number: int, lots: int) -> None:
        order = self.desk.orders.get(f"o{number}")
        if order is not None and order.open_quantity:
            if order.intent.reduce_only:  # as a venue does that clips at the match
                lots = min(lots, max(0, -order.intent.side.sign * self.desk.position()))
            if lots:
                self.desk.fill(f"o{number}", min(lots, order.open_quantity))

    @rule(number=st.integers(0, 9), kind=st.sampled_from((ReportKind.ACCEPTED, ReportKind.CANCELED, ReportKind.LOST)))
    def hear(self, number: int, kind: ReportKind) -> None:
        order = self.desk.orders.get(f"o{number}")
        if order is not None and order.status is not OrderStatus.SUSPENDED:
            self.desk.hear(f"o{number}", kind)

    @rule()
    def answer(self) -> None:
        """The venue does all that it was asked for."""
        for name, order in self.desk.orders.items():
            if order.status is OrderStatus.PENDING_CANCEL:
                self.desk.hear(name, ReportKind.CANCELED)
            elif order.changing is not None and order.is_open:
                self.desk.hear(name, ReportKind.REPLACED, quantity=order.changing.quantity, revision=order.changing.revision)

    @invariant()
    def what_could_turn_the_position_is_asked_back(self) -> None:
        for side in Side:
            left = max(0, -side.sign * self.desk.position())
            for order in self.desk.orders.values():
                if not order.intent.reduce_only or order.intent.side is not side or not order.open_quantity:
                    continue
                is_waiting = order.status not in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)
                assert order.open_quantity <= left or is_waiting, order
                left = max(0, left - order.open_quantity)


TestAnyPosition = AnyPosition.TestCase
TestAnyPosition.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


# --- terms -------------------------------------------------------------------------------------------------------------------

GOOD = submit("o1", Side.BUY, 1, limit_ticks=100)


@pytest.mark.parametrize(
    ("order", "fault"),
    [
        (GOOD, None),
        (submit(limit_ticks=None, order_type=OrderType.LIMIT), "LIMIT needs limit_ticks"),
        (submit(limit_ticks=None, order_type=OrderType.STOP), "STOP needs stop_ticks"),
        (submit(limit_ticks=None, order_type=OrderType.STOP_LIMIT, stop_ticks=105), "STOP_LIMIT needs limit_ticks"),
        (submit(limit_ticks=None, order_type=OrderType.TRAILING_STOP), "TRAILING_STOP needs trail_ticks"),
        (submit(limit_ticks=100, order_type=OrderType.MARKET), "MARKET takes no limit_ticks, found 100"),
        (submit(stop_ticks=105), "LIMIT takes no stop_ticks, found 105"),
        (trail(trail_ticks=0), "trail_ticks=0; allowed 1 or more"),
        (stop(side=Side.BUY, stop_ticks=101), "a BUY stop belongs above the best ask: stop_ticks=101 ask=101"),
        (stop(side=Side.BUY, stop_ticks=102), None),
        (stop(side=Side.SELL, stop_ticks=99), "a SELL stop belongs below the best bid: stop_ticks=99 bid=99"),
        (stop(side=Side.SELL, stop_ticks=98), None),
        (submit(time_in_force=TimeInForce.GTD), "GTD needs expire_ns"),
        (submit(time_in_force=TimeInForce.GTD, expire_ns=NOW), f"expire_ns={NOW} is in the past, it is {NOW}"),
        (submit(time_in_force=TimeInForce.GTD, expire_ns=NOW + 1), None),
        (submit(time_in_force=TimeInForce.GTC, expire_ns=NOW + 1), "expire_ns goes with GTD only, found GTC"),
        (submit(post_only=True), None),
        (submit(post_only=True, time_in_force=TimeInForce.IOC), "post-only needs a limit order that rests, found LIMIT IOC"),
        (submit(post_only=True, limit_ticks=None), "post-only needs a limit order that rests, found MARKET DAY"),
        (submit(parent_id="nobody"), "parent_id=nobody is no open order of this strategy in this instrument"),
        (submit(parent_id="entry"), None),
        (submit(parent_id="leg"), "parent_id=leg waits for another order itself"),
        (submit(parent_id="other"), "parent_id=other is no open order of this strategy in this instrument"),
        (stop(side=Side.SELL, stop_ticks=150, parent_id="entry"), None),
    ],
)
def test_terms_that_cannot_be_meant_are_refused_with_what_is_wrong(order: SubmitOrder, fault: str | None) -> None:
    known = {
        "entry": submit("entry"),
        "leg": submit("leg", parent_id="entry"),
        "other": submit("other", strategy_id="another"),
    }

    assert fault_in_terms(order, now_ns=NOW, quote=(99, 101), find=known.get) == fault


def test_a_list_is_of_one_strategy_and_one_instrument() -> None:
    assert fault_in_list(bracket(), "s") is None
    assert fault_in_list((GOOD,), "s") == "a list needs 2 to 10 orders with different ids, found 1"
    assert fault_in_list((GOOD, GOOD), "s") == "a list needs 2 to 10 orders with different ids, found 2"
    assert fault_in_list((GOOD, submit("o2", instrument_id="B.X")), "s") == "the orders of a list belong to one strategy and one instrument"
    assert fault_in_list(bracket(), "another") == "the orders of a list belong to one strategy and one instrument"
