from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.clock import EventClock
from framework.config import PaperConfig
from framework.messages import CancelOrder, ExecutionReport, ReplaceOrder, ReportKind
from framework.model import NS_PER_S, OrderStatus, Side
from framework.trading.journal import Journal
from framework.trading.order_states import Effect
from framework.trading.orders import Order
from framework.venues.faulty import FaultMix, FaultyVenue, faults_of
from framework.venues.paper import PaperVenue
from tests.contracts import CHECKS, Desk
from tests.trading.conftest import INSTRUMENT, book, submit
from tests.trading.room import Room

QUIET = FaultMix()


def make(mix: FaultMix, *, seed: int = 1) -> tuple[Desk, FaultyVenue, list[ExecutionReport]]:
    truth: list[ExecutionReport] = []
    venue = FaultyVenue(PaperVenue(PaperConfig(), (INSTRUMENT,)), mix, seed=seed, tap=truth.append)
    desk = Desk(venue, EventClock(NS_PER_S), "A.X", lambda: 99, lambda: 101)
    desk.start()
    venue.on_market(book((99, 98), (101, 102)))
    return desk, venue, truth


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_faulty_venue_without_faults_keeps_the_contract(check: Callable[[Desk], None]) -> None:
    check(make(QUIET)[0])


def test_a_lost_request_is_reported_lost_and_never_reaches_the_venue() -> None:
    desk, _, truth = make(FaultMix(lose_request=1.0))
    order = desk.send(Side.BUY, 1)
    desk.wait(0.9)
    assert desk.reports == []

    desk.wait(0.2)
    assert desk.said(order) == [ReportKind.LOST]
    assert truth == []


def test_a_lost_report_leaves_an_order_that_the_venue_has() -> None:
    desk, venue, truth = make(FaultMix(lose_report=1.0))
    order = desk.send(Side.BUY, 1)
    desk.wait(2.0)

    assert desk.said(order) == [ReportKind.LOST]
    assert [report.kind for report in truth] == [ReportKind.ACCEPTED, ReportKind.FILLED]
    venue.heal()
    venue.reconcile((order,))
    desk.wait()
    assert desk.said(order) == [ReportKind.LOST, ReportKind.RESTATED, ReportKind.ACCEPTED, ReportKind.FILLED]


def test_a_duplicate_comes_again_later_with_the_same_trade_id() -> None:
    desk, _, _ = make(FaultMix(duplicate_report=1.0))
    order = desk.send(Side.BUY, 1)
    desk.wait(5.0)

    assert Counter(desk.said(order)) == {ReportKind.ACCEPTED: 2, ReportKind.FILLED: 2}
    assert len({report.trade_id for report in desk.reports if report.trade_id}) == 1


def test_late_reports_overtake_each_other() -> None:
    orders = set()
    for seed in range(10):
        desk, _, _ = make(FaultMix(late_report=1.0), seed=seed)
        order = desk.send(Side.BUY, 1)
        desk.wait(10.0)
        orders.add(tuple(kind for kind in desk.said(order) if kind is not ReportKind.LOST))

    assert orders == {(ReportKind.ACCEPTED, ReportKind.FILLED), (ReportKind.FILLED, ReportKind.ACCEPTED)}


def test_a_scripted_rejection_says_so() -> None:
    desk, _, truth = make(FaultMix(reject=1.0))
    order = desk.send(Side.BUY, 1)
    desk.wait()

    assert (desk.said(order), desk.last().reason) == ([ReportKind.REJECTED], "rejected by the script")
    assert [report.kind for report in truth] == [ReportKind.REJECTED]


def test_a_rate_limit_refuses_what_is_too_much_in_a_second_and_lets_the_rest_through() -> None:
    desk, _, _ = make(FaultMix(requests_per_s=2))
    orders = [desk.send(Side.BUY, 1, limit_ticks=90) for _ in range(3)]
    desk.venue.cancel(orders[0])
    desk.wait(1.5)
    later = desk.send(Side.BUY, 1, limit_ticks=90)
    desk.wait()

    assert [desk.said(order) for order in orders] == [
        [ReportKind.CANCEL_REJECTED, ReportKind.ACCEPTED],
        [ReportKind.ACCEPTED],
        [ReportKind.REJECTED],
    ]
    assert desk.said(later) == [ReportKind.ACCEPTED]


def test_an_id_rollback_gives_two_orders_one_venue_id() -> None:
    desk, _, _ = make(FaultMix(id_rollback=1.0), seed=3)
    for _ in range(10):
        desk.send(Side.BUY, 1, limit_ticks=90)
        desk.wait(0.1)

    assert len({report.venue_order_id for report in desk.reports}) < 10


def test_an_empty_answer_says_nothing_of_any_order() -> None:
    desk, _, _ = make(FaultMix(empty_answer=1.0))
    desk.venue.reconcile(("anybody's",))
    desk.wait(5.0)

    assert desk.reports == []


@pytest.mark.parametrize(
    ("kind", "heard"),
    [
        (ReportKind.ACCEPTED, []),
        (ReportKind.REPLACED, [ReportKind.ACCEPTED]),
        (ReportKind.FILLED, [ReportKind.ACCEPTED, ReportKind.REPLACED]),
        (ReportKind.CANCELED, [ReportKind.ACCEPTED, ReportKind.REPLACED, ReportKind.FILLED]),
    ],
)
def test_the_connection_can_be_cut_in_each_state_of_an_order(kind: ReportKind, heard: list[ReportKind]) -> None:
    desk, venue, truth = make(FaultMix(outage_at={kind: 1}, outage_s=60.0))
    order = desk.send(Side.BUY, 3, limit_ticks=100)
    desk.wait(0.1)
    desk.change(order, quantity=2)
    desk.wait(0.1)
    venue.on_market(msgspec.structs.replace(book((98,), (100,), sequence=2), ask_sizes=(1,)))
    desk.wait(0.1)
    venue.cancel(order)
    desk.wait(0.1)

    assert [one for one in desk.said(order) if one is not ReportKind.LOST] == heard
    reached = [report.kind for report in truth]
    assert kind in reached
    desk.wait(60.0)
    venue.reconcile((order,))
    desk.wait(0.1)
    assert desk.said(order)[-1] is reached[-1]


def test_the_same_seed_brings_the_same_faults() -> None:
    def story(seed: int) -> list[ExecutionReport]:
        desk, _, _ = make(FaultMix.drawn(seed), seed=seed)
        for number in range(20):
            desk.send(Side.BUY, 1, limit_ticks=95 + number % 9)
            desk.wait(0.2)
            desk.venue.cancel(f"o{number}")
        desk.wait(30.0)
        return desk.reports

    assert story(5) == story(5)
    assert len({len(story(seed)) for seed in range(6)}) > 1


def test_every_kind_of_fault_is_drawn_by_some_seed() -> None:
    total: Counter[str] = Counter()
    for seed in range(40):
        desk, venue, _ = make(FaultMix.drawn(seed), seed=seed)
        for number in range(15):
            desk.send(Side.BUY, 1, limit_ticks=95 + number % 9)
            desk.wait(0.1)
        venue.reconcile(("o1",))
        desk.wait(30.0)
        total.update(faults_of(venue))

    assert set(total) == {
        "disconnect",
        "duplicate_report",
        "empty_answer",
        "id_rollback",
        "late_report",
        "lose_report",
        "lose_request",
        "lost_answer",
        "lost_in_outage",
        "rate_limit",
        "reject",
    }


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_whatever_the_line_does_orders_are_exact_once_the_venue_was_asked(seed: int) -> None:
    rng = Random(seed)
    desk, venue, truth = make(FaultMix.drawn(seed), seed=seed)
    orders: dict[str, Order] = {}
    for sequence in range(2, 40):
        desk.wait(rng.random() * 0.5)
        name = rng.choice([*orders, "none"])
        if rng.random() < 0.5:
            intent = desk.order(rng.choice(tuple(Side)), rng.randint(1, 5), limit_ticks=rng.randint(97, 103))
            orders[intent.client_order_id] = Order(intent)
            venue.submit(intent)
        elif name != "none" and rng.random() < 0.5:
            orders[name].request_cancel(0)
            venue.cancel(name)
        middle = rng.randint(98, 102)
        venue.on_market(book((middle - 1,), (middle + 1,), sequence=sequence))
    desk.wait(60.0)
    venue.heal()
    venue.reconcile(tuple(orders))
    desk.wait(60.0)

    for report in desk.reports:
        assert orders[report.client_order_id].apply(report) is not Effect.UNBOOKABLE
    fills = {(report.client_order_id, report.trade_id): report for report in truth if report.kind is ReportKind.FILLED}
    for name, order in orders.items():
        own = [report for (owner, _), report in fills.items() if owner == name]
        assert order.filled_quantity == sum(report.last_quantity for report in own)
        assert order.fees == sum((report.fee for report in own), Decimal(0))
        assert order.status is not OrderStatus.UNKNOWN


@given(st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_positions_are_the_venues_after_any_faults_once_it_was_asked(seed: int) -> None:
    rng, truth = Random(seed), list[ExecutionReport]()
    venue = FaultyVenue(PaperVenue(PaperConfig(), (INSTRUMENT,)), FaultMix.drawn(seed), seed=seed, tap=truth.append)
    room = Room(Journal(":memory:"), venue)
    sides: dict[str, Side] = {}
    for number in range(25):
        room.wait(rng.random() * 0.5)
        name, side = f"o{number}", rng.choice(tuple(Side))
        sides[name] = side
        room.tell(submit(name, side, rng.randint(1, 5), limit_ticks=rng.randint(97, 103), ts_event=room.clock.now_ns()))
        other = f"o{rng.randint(0, number)}"
        if rng.random() < 0.3:
            room.tell(CancelOrder(client_order_id=other, strategy_id="s", ts_event=room.clock.now_ns()))
        elif rng.random() < 0.3:
            room.tell(ReplaceOrder(client_order_id=other, strategy_id="s", ts_event=room.clock.now_ns(), quantity=rng.randint(1, 6)))
        middle = rng.randint(99, 101)
        room.show(book((middle - 1,), (middle + 1,), ts=room.clock.now_ns(), sequence=number + 2))
    room.wait(60.0)
    venue.heal()
    room.execution.reconcile()
    room.wait(60.0)

    fills = {(report.client_order_id, report.trade_id): report for report in truth if report.kind is ReportKind.FILLED}
    position = room.execution.portfolio.position("s", "A.X")
    assert position.quantity == sum(sides[name].sign * report.last_quantity for (name, _), report in fills.items())
    assert position.fees == sum((report.fee for report in fills.values()), Decimal(0))
    assert OrderStatus.UNKNOWN not in {order.status for order in room.execution.open_orders()}
