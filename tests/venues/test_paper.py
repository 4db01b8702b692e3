from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.clock import EventClock
from framework.config import PaperConfig
from framework.messages import BookSnapshot, ReportKind, SessionChanged, TradeTick
from framework.model import NS_PER_S, Instrument, Side, TimeInForce
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


@pytest.fixture
def desk() -> Desk:
    venue = PaperVenue(PaperConfig(), (INSTRUMENT,))
    desk = Desk(venue, EventClock(NS_PER_S), "A.X", lambda: 99, lambda: 100)
    desk.start()
    venue.on_market(USUAL)
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


def test_liquidity_is_taken_once_until_the_level_shows_more(desk: Desk) -> None:
    first = desk.send(Side.BUY, 5, limit_ticks=100, time_in_force=TimeInForce.IOC)
    desk.wait()
    desk.venue.on_market(book([(99, 10)], [(100, 5), (101, 8)], 2))
    again = desk.send(Side.BUY, 5, limit_ticks=100, time_in_force=TimeInForce.IOC)
    desk.wait()
    desk.venue.on_market(book([(99, 10)], [(100, 9), (101, 8)], 3))
    refreshed = desk.send(Side.BUY, 5, limit_ticks=100, time_in_force=TimeInForce.IOC)
    desk.wait()

    assert [desk.filled(order) for order in (first, again, refreshed)] == [5, 0, 5]


def test_a_resting_order_waits_for_the_queue_in_front_of_it(desk: Desk) -> None:
    order = desk.send(Side.BUY, 3, limit_ticks=99)
    desk.wait()
    desk.venue.on_market(trade(99, 10, Side.SELL))
    desk.wait()
    before = desk.filled(order)
    desk.venue.on_market(trade(99, 2, Side.SELL))
    desk.wait()

    assert (before, desk.filled(order)) == (0, 2)
    assert desk.reports[-1].liquidity == "MAKER"
    assert desk.reports[-1].fee == Decimal("0.50")


def test_a_queue_that_shrinks_moves_us_up_to_what_is_displayed(desk: Desk) -> None:
    order = desk.send(Side.BUY, 1, limit_ticks=99)
    desk.wait()
    desk.venue.on_market(book([(99, 4)], [(100, 5)], 2))
    desk.venue.on_market(trade(99, 5, Side.SELL))
    desk.wait()

    assert desk.filled(order) == 1


def test_a_trade_through_our_price_fills_us(desk: Desk) -> None:
    order = desk.send(Side.SELL, 2, limit_ticks=101)
    desk.wait()
    desk.venue.on_market(trade(102, 1, Side.BUY))
    desk.wait()

    assert desk.filled(order) == 2


def test_day_orders_expire_when_the_session_closes_and_new_ones_are_rejected(desk: Desk) -> None:
    resting = desk.send(Side.BUY, 1, limit_ticks=98)
    desk.wait()
    desk.venue.on_market(SessionChanged(instrument_id="A.X", ts_event=2, is_open=False, reason="break"))
    late = desk.send(Side.BUY, 1)
    desk.wait()

    assert desk.said(resting) == [ReportKind.ACCEPTED, ReportKind.EXPIRED]
    assert desk.said(late) == [ReportKind.REJECTED]


sides = st.sampled_from(Side)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("order"), sides, st.integers(1, 9), st.integers(-4, 4)),
        st.tuples(st.just("trade"), sides, st.integers(1, 9), st.integers(-3, 3)),
        st.tuples(st.just("book"), sides, st.integers(1, 9), st.integers(-3, 3)),
        st.tuples(st.just("cancel"), sides, st.integers(1, 9), st.just(0)),
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
        else:
            venue.cancel(f"o{size}")
        desk.wait()
    return [(r.client_order_id, r.kind, r.last_quantity, sign * r.last_ticks) for r in desk.reports]


@given(steps)
def test_buying_is_selling_in_the_mirror(script: list[tuple[str, Side, int, int]]) -> None:
    assert play(script, is_mirrored=True) == play(script, is_mirrored=False)


@given(steps)
def test_no_order_is_filled_beyond_its_size_nor_after_its_end(script: list[tuple[str, Side, int, int]]) -> None:
    sizes: dict[str, int] = {}
    for kind, _, size, _ in script:
        if kind == "order":
            sizes[f"o{len(sizes) + 1}"] = size
    said = play(script, is_mirrored=False)

    for order, size in sizes.items():
        own = [(kind, quantity) for name, kind, quantity, _ in said if name == order]
        filled = sum(quantity for kind, quantity in own if kind is ReportKind.FILLED)
        ended = [kind for kind, _ in own if kind in FINAL]
        assert filled <= size
        assert len(ended) + (filled == size) <= 1
