from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.clock import EventClock
from framework.config import PaperConfig
from framework.messages import BookSnapshot, ReplaceOrder, ReportKind, SessionChanged, TradeTick
from framework.model import NS_PER_S, Instrument, Side, TimeInForce
from framework.trading.order_states import REPLACEABLE, Effect
from framework.trading.orders import Order
from framework.venues.paper import PaperVenue
from tests.contracts import CHECKS, FINAL, Desk

INSTRUMENT = Instrument(instrument_id="A.X", tick_size=Decimal("0.25"))


def book(bids: list[tuple[int, int]], asks: list[tuple[int, int]], sequence: int = 1) -> BookSnapshot:
    return BookSnapshot(
        instrument_id="A.X",
        ts_event=sequence,
        ts_recv=sequence,
        sequence=sequence,
        bid_ticks=tuple(price for price, _ in bids),
        bid_sizes=tuple(size for _, size in bids),
        ask_ticks=tuple(price for price, _ in asks),
        ask_sizes=tuple(size for _, size in asks),
    )


def trade(price_ticks: int, size: int, aggressor: Side) -> TradeTick:
    return TradeTick(instrument_id="A.X", ts_event=1, ts_recv=1, sequence=1, price_ticks=price_ticks, size=size, aggressor=aggressor)


USUAL = book([(99, 10), (98, 20)], [(100, 5), (101, 8)])


def started(settings: PaperConfig) -> Desk:
    desk = Desk(PaperVenue(settings, (INSTRUMENT,)), EventClock(NS_PER_S), "A.X", lambda: 99, lambda: 100)
    desk.start()
    return desk


@pytest.fixture
def desk() -> Desk:
    desk = started(PaperConfig())
    desk.venue.on_market(USUAL)
    return desk


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_paper_venue_keeps_the_contract(check: Callable[[Desk], None], desk: Desk) -> None:
    check(desk)


def test_a_market_order_walks_the_levels_and_pays_exact_fees(desk: Desk) -> None:
    order = desk.send(Side.BUY, 8)
    desk.wait()

    fills = [(r.last_quantity, r.last_ticks, r.fee) for r in desk.reports if r.kind is ReportKind.FILLED]
    assert fills == [(5, 100, Decimal("4.25")), (3, 101, Decimal("2.55"))]
    assert desk.filled(order) == 8


def test_a_resting_order_pays_the_maker_fee(desk: Desk) -> None:
    order = desk.send(Side.BUY, 3, limit_ticks=99)
    desk.wait()
    desk.venue.on_market(trade(99, 12, Side.SELL))
    desk.wait()

    assert desk.filled(order) == 2
    assert desk.reports[-1].liquidity == "MAKER"
    assert desk.reports[-1].fee == Decimal("0.50")


def test_a_rebate_is_a_negative_fee() -> None:
    desk = started(PaperConfig(maker_fee=Decimal("-0.10")))
    desk.venue.on_market(USUAL)
    desk.send(Side.BUY, 3, limit_ticks=99)
    desk.wait()
    desk.venue.on_market(trade(99, 13, Side.SELL))
    desk.wait()

    assert desk.reports[-1].fee == Decimal("-0.30")


def test_an_order_meets_the_book_that_stands_when_it_arrives() -> None:
    desk = started(PaperConfig(order_latency_ms=2.0, response_latency_ms=1.0))
    desk.venue.on_market(USUAL)
    desk.send(Side.BUY, 1)
    desk.wait(0.0019)
    desk.venue.on_market(book([(109, 10)], [(110, 5)], 2))
    desk.wait(0.0010)
    before = list(desk.reports)
    desk.wait(0.0001)

    assert before == []
    assert [(report.kind, report.last_ticks, report.ts_event) for report in desk.reports] == [
        (ReportKind.ACCEPTED, 0, NS_PER_S + 2_000_000),
        (ReportKind.FILLED, 110, NS_PER_S + 2_000_000),
    ]


def test_a_cancel_that_arrives_after_the_fill_is_refused(desk: Desk) -> None:
    order = desk.send(Side.BUY, 1, limit_ticks=99)
    desk.wait()
    desk.venue.cancel(order)
    desk.venue.on_market(trade(98, 1, Side.SELL))
    desk.wait()

    assert desk.said(order) == [ReportKind.ACCEPTED, ReportKind.FILLED, ReportKind.CANCEL_REJECTED]


def test_a_market_order_without_a_book_trades_nothing() -> None:
    desk = started(PaperConfig())
    order = desk.send(Side.BUY, 1)
    desk.wait()

    assert desk.said(order) == [ReportKind.ACCEPTED, ReportKind.CANCELED]


def test_what_is_known_of_an_order_is_said_again_when_asked(desk: Desk) -> None:
    resting = desk.send(Side.BUY, 1, limit_ticks=99)
    done = desk.send(Side.BUY, 7)
    desk.wait()
    first = list(desk.reports)
    desk.reports.clear()
    desk.venue.reconcile((resting, done))
    desk.wait()

    assert desk.said(resting) == [ReportKind.RESTATED, ReportKind.ACCEPTED]
    assert desk.said(done) == [ReportKind.RESTATED, ReportKind.ACCEPTED, ReportKind.FILLED, ReportKind.FILLED]
    assert [report for report in desk.reports if report.kind is not ReportKind.RESTATED] == first


def test_what_was_said_is_remembered_for_a_bounded_number_of_orders(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    monkeypatch.setattr("framework.venues.said.ORDERS_REMEMBERED", 3)
    resting = desk.send(Side.BUY, 1, limit_ticks=99)
    others = [desk.send(Side.BUY, 1, limit_ticks=98, time_in_force=TimeInForce.IOC) for _ in range(10)]
    desk.wait()
    desk.reports.clear()
    desk.venue.reconcile((resting, others[0], others[-1]))
    desk.wait()

    assert desk.said(resting) == [ReportKind.RESTATED, ReportKind.ACCEPTED]
    assert desk.said(others[-1]) == [ReportKind.ACCEPTED, ReportKind.CANCELED]
    assert [report.reason for report in desk.reports if report.client_order_id == others[0]] == ["venue restarted"]


def test_an_order_that_arrives_at_the_reopening_does_not_meet_the_book_of_the_session_before(desk: Desk) -> None:
    desk.venue.on_market(SessionChanged(instrument_id="A.X", ts_event=2, is_open=False, reason="break"))
    desk.venue.on_market(SessionChanged(instrument_id="A.X", ts_event=3, is_open=True, reason="break is over"))
    order = desk.send(Side.BUY, 1)
    desk.wait()

    assert desk.said(order) == [ReportKind.ACCEPTED, ReportKind.CANCELED]


def test_day_orders_expire_when_the_session_closes_and_new_ones_are_rejected(desk: Desk) -> None:
    resting = desk.send(Side.BUY, 1, limit_ticks=98)
    desk.wait()
    desk.venue.on_market(SessionChanged(instrument_id="A.X", ts_event=2, is_open=False, reason="break"))
    late = desk.send(Side.BUY, 1)
    desk.wait()

    assert desk.said(resting) == [ReportKind.ACCEPTED, ReportKind.EXPIRED]
    assert desk.said(late) == [ReportKind.REJECTED]


def test_an_order_that_gets_smaller_keeps_its_place_and_one_that_gets_larger_does_not(desk: Desk) -> None:
    smaller, larger = (desk.send(Side.BUY, 3, limit_ticks=99) for _ in range(2))
    desk.wait()
    desk.venue.on_market(book([(99, 30)], [(100, 5)], 2))
    desk.change(smaller, quantity=2)
    desk.change(larger, quantity=4)
    desk.wait()
    desk.venue.on_market(trade(99, 12, Side.SELL))
    desk.wait()

    assert (desk.filled(smaller), desk.filled(larger)) == (2, 0)


def test_a_halt_keeps_day_orders_and_refuses_new_ones_until_it_is_over(desk: Desk) -> None:
    resting = desk.send(Side.BUY, 1, limit_ticks=99)
    desk.wait()
    desk.venue.on_market(SessionChanged(instrument_id="A.X", ts_event=2, is_open=False, reason="halt", is_halt=True))
    refused = desk.send(Side.BUY, 1)
    desk.wait()
    assert (desk.said(resting), desk.said(refused)) == ([ReportKind.ACCEPTED], [ReportKind.REJECTED])
    assert desk.last().reason == "trading is halted"

    desk.venue.on_market(SessionChanged(instrument_id="A.X", ts_event=3, is_open=True, reason="halt is over"))
    desk.venue.on_market(USUAL)
    desk.venue.on_market(trade(98, 1, Side.SELL))
    desk.wait()
    assert desk.filled(resting) == 1


def test_an_order_that_outlives_the_session_stands_last_in_the_next(desk: Desk) -> None:
    resting = desk.send(Side.BUY, 1, limit_ticks=99, time_in_force=TimeInForce.GTC)
    desk.wait()
    desk.venue.on_market(trade(99, 10, Side.SELL))
    for is_open in (False, True):
        desk.venue.on_market(SessionChanged(instrument_id="A.X", ts_event=2, is_open=is_open, reason="break"))
    desk.venue.on_market(book([(99, 4)], [(100, 5)], 2))
    desk.venue.on_market(trade(99, 4, Side.SELL))
    desk.wait()
    assert desk.filled(resting) == 0

    desk.venue.on_market(trade(99, 1, Side.SELL))
    desk.wait()
    assert desk.filled(resting) == 1


def test_a_price_beyond_the_price_limits_is_rejected() -> None:
    limited = Instrument(instrument_id="A.X", tick_size=Decimal("0.25"), lower_limit_ticks=90, upper_limit_ticks=110)
    desk = Desk(PaperVenue(PaperConfig(), (limited,)), EventClock(NS_PER_S), "A.X", lambda: 99, lambda: 100)
    desk.start()
    desk.venue.on_market(USUAL)
    said = {}
    for limit_ticks in (89, 90, 110, 111):
        order = desk.send(Side.SELL, 1, limit_ticks=limit_ticks)
        desk.wait()
        said[limit_ticks] = desk.said(order)[0]

    assert said == {89: ReportKind.REJECTED, 90: ReportKind.ACCEPTED, 110: ReportKind.ACCEPTED, 111: ReportKind.REJECTED}
    assert desk.last().reason == "price 111 is beyond the price limits; allowed 90 to 110 ticks"


def late_book(ask: int, *, exchange_ms: float, sequence: int) -> BookSnapshot:
    ts_event = NS_PER_S + round(exchange_ms * 1e6)
    found = book([(ask - 1, 10)], [(ask, 5)], sequence)
    return msgspec.structs.replace(found, ts_event=ts_event, ts_recv=ts_event + 3_000_000)


def test_an_order_meets_the_book_that_stood_at_the_exchange_although_we_learn_of_it_later() -> None:
    desk = started(PaperConfig(order_latency_ms=2.0, response_latency_ms=4.0, feed_latency_ms=5.0))
    desk.venue.on_market(USUAL)
    order = desk.send(Side.BUY, 1)
    # Books of 1.5 ms and 2.5 ms after the order was sent come 3 ms later: the order was at the exchange between them.
    for ask, exchange_ms in ((110, 1.5), (120, 2.5)):
        desk.clock.advance_to(NS_PER_S + round((exchange_ms + 3.0) * 1e6))
        desk.venue.on_market(late_book(ask, exchange_ms=exchange_ms, sequence=ask))
    desk.wait(0.0004)
    assert desk.reports == []

    desk.wait(0.0002)
    assert [(report.kind, report.ts_event) for report in desk.reports] == [
        (ReportKind.ACCEPTED, NS_PER_S + 2_000_000),
        (ReportKind.FILLED, NS_PER_S + 2_000_000),
    ]
    assert (desk.said(order)[-1], desk.last().last_ticks) == (ReportKind.FILLED, 110)


def test_an_order_in_a_market_without_events_arrives_when_the_feed_cannot_be_later() -> None:
    desk = started(PaperConfig(order_latency_ms=2.0, response_latency_ms=1.0, feed_latency_ms=5.0))
    desk.venue.on_market(USUAL)
    desk.send(Side.BUY, 1)
    desk.wait(0.0069)
    assert desk.reports == []

    desk.wait(0.0002)
    assert desk.last().ts_event == NS_PER_S + 2_000_000


def test_the_queue_model_of_the_settings_is_used() -> None:
    filled = {}
    for settings in (PaperConfig(), PaperConfig(queue_model="power", queue_power=1.0)):
        desk = started(settings)
        desk.venue.on_market(USUAL)
        order = desk.send(Side.BUY, 1, limit_ticks=99)
        desk.wait()
        desk.venue.on_market(book([(99, 30)], [(100, 5)], 2))
        desk.venue.on_market(book([(99, 10)], [(100, 5)], 3))
        desk.venue.on_market(trade(99, 10, Side.SELL))
        desk.wait()
        filled[settings.queue_model] = desk.filled(order)

    assert filled == {"risk_averse": 0, "power": 1}


sides = st.sampled_from(Side)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("order"), sides, st.integers(1, 9), st.integers(-4, 4)),
        st.tuples(st.just("trade"), sides, st.integers(1, 9), st.integers(-3, 3)),
        st.tuples(st.just("book"), sides, st.integers(1, 9), st.integers(-3, 3)),
        st.tuples(st.just("cancel"), sides, st.integers(1, 9), st.just(0)),
        st.tuples(st.just("change"), sides, st.integers(1, 9), st.integers(-4, 4)),
    ),
    max_size=25,
)


def play(script: list[tuple[str, Side, int, int]], *, is_mirrored: bool) -> list[tuple[str, ReportKind, int, int]]:
    """Run a script, or its mirror image around 0, and return what was said, mirrored back."""
    sign = -1 if is_mirrored else 1
    venue = PaperVenue(PaperConfig(), (INSTRUMENT,))
    desk = Desk(venue, EventClock(NS_PER_S), "A.X", lambda: -1, lambda: 1)
    desk.start()

    def show(middle: int, size: int, sequence: int) -> None:
        bids, asks = [(middle - k, size + k) for k in (1, 2, 3)], [(middle + k, size + 2 * k) for k in (1, 2, 3)]
        if is_mirrored:
            bids, asks = [(-p, s) for p, s in asks], [(-p, s) for p, s in bids]
        venue.on_market(book(bids, asks, sequence))

    show(0, 5, 1)
    for sequence, (kind, side, size, price) in enumerate(script, 2):
        own = side.opposite if is_mirrored else side
        if kind == "order":
            desk.send(own, size, limit_ticks=sign * price)
        elif kind == "trade":
            venue.on_market(trade(sign * price, size, own))
        elif kind == "book":
            show(price, size, sequence)
        elif kind == "change":
            desk.change(f"o{sequence % 4 + 1}", sequence, quantity=size, limit_ticks=sign * price)
        else:
            venue.cancel(f"o{size}")
        desk.wait()
    return [(r.client_order_id, r.kind, r.last_quantity, sign * r.last_ticks) for r in desk.reports]


@given(steps)
def test_buying_is_selling_in_the_mirror(script: list[tuple[str, Side, int, int]]) -> None:
    assert play(script, is_mirrored=True) == play(script, is_mirrored=False)


@given(steps)
def test_no_order_is_filled_beyond_its_size_nor_after_its_end(script: list[tuple[str, Side, int, int]]) -> None:
    said = play(script, is_mirrored=False)

    for order in {name for name, *_ in said}:
        own = [(kind, quantity) for name, kind, quantity, _ in said if name == order]
        ends = [place for place, (kind, _) in enumerate(own) if kind in FINAL]
        assert len(ends) <= 1
        after = own[ends[0] + 1 :] if ends else []
        assert {kind for kind, _ in after} <= {ReportKind.CANCEL_REJECTED, ReportKind.REPLACE_REJECTED}


@given(steps)
def test_our_own_order_book_agrees_with_the_venue_to_the_lot(script: list[tuple[str, Side, int, int]]) -> None:
    """Every report moves `Order`, and none is an anomaly, a duplicate or more than was ordered."""
    orders: dict[str, Order] = {}
    venue = PaperVenue(PaperConfig(), (INSTRUMENT,))
    desk = Desk(venue, EventClock(NS_PER_S), "A.X", lambda: -1, lambda: 1)
    desk.start()
    heard = 0
    venue.on_market(book([(-1, 6), (-2, 7)], [(1, 6), (2, 7)]))
    for sequence, (kind, side, size, price) in enumerate(script, 2):
        if kind == "order":
            intent = desk.order(side, size, limit_ticks=price)
            orders[intent.client_order_id] = Order(intent)
            venue.submit(intent)
        elif kind == "trade":
            venue.on_market(trade(price, size, side))
        elif kind == "book":
            venue.on_market(book([(price - 1, size)], [(price + 1, size)], sequence))
        elif kind == "change":
            order = orders.get(f"o{size}")
            if order is not None and order.status in REPLACEABLE:
                change = ReplaceOrder(
                    client_order_id=f"o{size}",
                    strategy_id="s",
                    ts_event=0,
                    quantity=size + 1,
                    limit_ticks=price,
                    revision=order.revision + 1,
                )
                order.request_replace(change)
                venue.replace(change)
        else:
            venue.cancel(f"o{size}")
        desk.wait()
        for report in desk.reports[heard:]:
            if report.client_order_id in orders and report.kind is not ReportKind.CANCEL_REJECTED:
                assert orders[report.client_order_id].apply(report) in (Effect.CHANGED, Effect.FILLED)
        heard = len(desk.reports)

    open_at_venue = {order.client_order_id: (order.quantity, order.filled, order.limit_ticks) for order in venue._desk.of("A.X")}
    ours = {name: (one.quantity, one.filled_quantity, one.limit_ticks) for name, one in orders.items() if one.is_open}
    assert ours == open_at_venue
