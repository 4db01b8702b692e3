"""Orders against bars in market time: which bar they trade in, what is said meanwhile, and what nobody sees too early."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from framework.clock import EventClock
from framework.config import PaperConfig
from framework.market.feed import ReplayFeed
from framework.messages import Bar, BookSnapshot, ExecutionReport, MarketEvent, ReportKind, SessionChanged, SubmitOrder, TradeTick
from framework.model import NS_PER_S, Instrument, OrderType, Side, TimeInForce
from framework.venues.bar_matching import HeldStop
from framework.venues.bar_venue import BarVenue
from framework.venues.bar_walk import BarWalk

A = Instrument(instrument_id="A.X", tick_size=Decimal("0.25"), session_gap_s=600.0)
B = Instrument(instrument_id="B.X", tick_size=Decimal("0.25"), session_gap_s=600.0)
MINUTE_NS = 60 * NS_PER_S
T0 = 1_700_000_040 * NS_PER_S


def bar(
    number: int, prices: tuple[int, int, int, int] = (100, 110, 90, 105), *, volume: int = 1_000, name: str = "A.X", of_s: int = 60
) -> Bar:
    open_, high, low, close = prices
    return Bar(
        instrument_id=name,
        ts_event=T0 + (number + 1) * of_s * NS_PER_S,
        interval_s=float(of_s),
        open_ticks=open_,
        high_ticks=high,
        low_ticks=low,
        close_ticks=close,
        volume=volume,
        buy_volume=0,
        sell_volume=0,
    )


class Rig:
    """A venue and its walk over bars; `at` does something at a time, `on` when an event is delivered."""

    def __init__(self, events: Iterable[MarketEvent], **given: Any) -> None:
        config = PaperConfig.model_validate(given)
        self.venue = BarVenue(config, (A, B), {"A.X": 60.0})
        self.walk = BarWalk(ReplayFeed(events, (A, B)), self.venue, config, (A, B), {"A.X": 60.0})
        self.clock = EventClock(self.walk.start_ns or 0)
        self.events: list[MarketEvent] = []
        self.reports: list[ExecutionReport] = []
        self.on: Callable[[MarketEvent], None] = lambda _: None
        self.ended = 0
        self.count = 0
        self.venue.start(self.clock, self.reports.append)

    def run(self) -> Rig:
        self.walk.start(self.clock, self._take, self._end)
        while self.clock.run_next(2**62):
            pass
        return self

    def at(self, ns: int, act: Callable[[], Any]) -> None:
        self.clock.call_at(ns, act)

    def send(self, side: Side, quantity: int = 1, limit_ticks: int | None = None, **terms: Any) -> str:
        self.count += 1
        name = str(terms.pop("client_order_id", f"o{self.count}"))
        self.venue.submit(
            SubmitOrder(
                client_order_id=name,
                strategy_id="s",
                instrument_id="A.X",
                side=side,
                quantity=quantity,
                order_type=OrderType.MARKET if limit_ticks is None else OrderType.LIMIT,
                limit_ticks=limit_ticks,
                time_in_force=terms.pop("time_in_force", TimeInForce.GTC),
                ts_event=self.clock.now_ns(),
                **terms,
            )
        )
        return name

    def fills(self) -> list[tuple[str, int, int, int]]:
        """Return order, lots, price, and the number of the bar in which it was."""
        return [
            (one.client_order_id, one.last_quantity or 0, one.last_ticks or 0, (one.ts_event - T0 - 1) // MINUTE_NS)
            for one in self.reports
            if one.kind is ReportKind.FILLED
        ]

    def said(self, name: str) -> list[ReportKind]:
        return [one.kind for one in self.reports if one.client_order_id == name]

    def _take(self, event: MarketEvent) -> None:
        self.events.append(event)
        self.venue.on_market(event)
        self.on(event)

    def _end(self) -> None:
        self.ended += 1


def test_what_is_decided_at_the_end_of_a_bar_trades_at_the_open_of_the_next() -> None:
    rig = Rig([bar(0), bar(1, (104, 110, 90, 100)), bar(2)])
    rig.at(bar(0).ts_event, lambda: rig.send(Side.BUY))
    assert rig.run().fills() == [("o1", 1, 105, 1)]
    assert rig.ended == 1


def test_what_is_decided_within_a_bar_waits_for_the_next_open_and_is_acknowledged_meanwhile() -> None:
    rig = Rig([bar(0), bar(1), bar(2, (120, 121, 119, 120))])
    rig.at(T0 + MINUTE_NS + 40 * NS_PER_S, lambda: rig.send(Side.SELL))
    assert rig.run().fills() == [("o1", 1, 119, 2)]
    assert rig.said("o1") == [ReportKind.ACCEPTED, ReportKind.FILLED]
    assert rig.reports[0].ts_event < bar(1).ts_event


def test_minutes_without_a_bar_are_waited_through() -> None:
    rig = Rig([bar(0), bar(7, (130, 131, 129, 130))])
    rig.at(bar(0).ts_event, lambda: rig.send(Side.BUY))
    assert rig.run().fills() == [("o1", 1, 131, 7)]


def test_an_order_that_waits_can_be_canceled_and_expires() -> None:
    rig = Rig([bar(0), bar(7)])
    rig.at(bar(0).ts_event, lambda: rig.send(Side.BUY))
    rig.at(bar(0).ts_event, lambda: rig.send(Side.BUY, 1, 100, time_in_force=TimeInForce.GTD, expire_ns=bar(3).ts_event))
    rig.at(bar(1).ts_event, lambda: rig.venue.cancel("o1"))
    rig.run()
    assert rig.fills() == []
    assert [rig.said(name)[-1] for name in ("o1", "o2")] == [ReportKind.CANCELED, ReportKind.EXPIRED]


def test_a_post_only_order_that_would_take_at_the_open_is_canceled() -> None:
    rig = Rig([bar(0), bar(1)])
    rig.at(bar(0).ts_event - NS_PER_S, lambda: rig.send(Side.BUY, 1, 101, post_only=True))
    rig.at(bar(0).ts_event - NS_PER_S, lambda: rig.send(Side.BUY, 1, 100, post_only=True))
    rig.run()
    assert rig.said("o1") == [ReportKind.ACCEPTED, ReportKind.CANCELED]
    assert rig.fills() == [("o2", 1, 100, 1)]


def test_a_limit_rests_until_a_bar_trades_through_it() -> None:
    rig = Rig([bar(0), bar(1, (100, 105, 95, 100)), bar(2, (100, 105, 94, 100)), bar(3)])
    rig.at(bar(0).ts_event, lambda: rig.send(Side.BUY, 1, 95))
    assert rig.run().fills() == [("o1", 1, 95, 2)]


def test_of_a_stop_and_a_target_in_one_bar_it_is_the_stop() -> None:
    calm = (100, 101, 99, 100)
    rig = Rig([bar(0, calm), bar(1, calm), bar(2, (100, 120, 80, 119)), bar(3)])
    stop = HeldStop("stop", Side.SELL, 90)
    rig.venue.held_stops = lambda _: (stop,) if "stop" not in {one.client_order_id for one in rig.reports} else ()
    rig.at(bar(0).ts_event, lambda: rig.send(Side.BUY))
    rig.at(bar(1).ts_event, lambda: rig.send(Side.SELL, 1, 115))

    def set_off(event: MarketEvent) -> None:
        # As Execution does: the other leg is canceled, and the stop goes once that is done.
        if isinstance(event, BookSnapshot) and event.bid_ticks[0] <= 90 and rig.said("stop") == []:
            rig.venue.cancel("o2")
            rig.send(Side.SELL, client_order_id="stop")

    rig.on = set_off
    assert rig.run().fills() == [("o1", 1, 101, 1), ("stop", 1, 89, 2)]


def test_a_position_opened_on_the_way_to_the_second_extreme_meets_the_first_again() -> None:
    rig = Rig([bar(0, (100, 101, 99, 100)), bar(1, (100, 120, 80, 119)), bar(2)])
    rig.venue.held_stops = lambda _: (HeldStop("buy", Side.BUY, 110), HeldStop("sell", Side.SELL, 85)) if not rig.said("buy") else ()

    def set_off(event: MarketEvent) -> None:
        if isinstance(event, BookSnapshot) and event.ask_ticks[0] >= 110 and not rig.said("buy"):
            rig.send(Side.BUY, client_order_id="buy")

    rig.on = set_off
    rig.run()
    quotes = [
        one.bid_ticks[0] for one in rig.events if isinstance(one, BookSnapshot) and T0 + MINUTE_NS < one.ts_event < T0 + 2 * MINUTE_NS
    ]
    assert rig.fills() == [("buy", 1, 111, 1)]
    assert quotes == [99, 80, 118, 80]


def test_where_nothing_is_open_only_the_close_and_the_bar_are_said() -> None:
    rig = Rig([bar(0), bar(1)]).run()
    kinds = [type(event) for event in rig.events]
    assert kinds == [BookSnapshot, Bar] * 2
    assert [event.ts_event for event in rig.events] == [bar(0).ts_event] * 2 + [bar(1).ts_event] * 2
    assert rig.events[0].bid_ticks == (104,)  # type: ignore[union-attr]


def test_no_price_of_a_bar_is_seen_before_it_begins_and_its_close_not_before_its_end() -> None:
    rig = Rig([bar(0), bar(1, (100, 150, 50, 77)), bar(2)])
    rig.at(bar(0).ts_event, lambda: rig.send(Side.BUY))
    rig.run()
    for event in rig.events:
        if isinstance(event, BookSnapshot) and event.bid_ticks[0] in (50, 76, 148):
            assert event.ts_event > bar(0).ts_event
        if isinstance(event, BookSnapshot) and event.bid_ticks[0] == 76:
            assert event.ts_event == bar(1).ts_event


def test_day_orders_end_with_the_session_and_what_is_taken_pays_the_taker_fee() -> None:
    closing = SessionChanged(instrument_id="A.X", ts_event=bar(1).ts_event, is_open=False, reason="break")
    opening = SessionChanged(instrument_id="A.X", ts_event=bar(1).ts_event, is_open=True, reason="break")
    rig = Rig([bar(0), bar(1), closing, opening, bar(2, (100, 100, 10, 20))], taker_fee=0.5)
    rig.at(bar(0).ts_event, lambda: rig.send(Side.BUY, 1, 50, time_in_force=TimeInForce.DAY))
    rig.at(bar(0).ts_event, lambda: rig.send(Side.BUY, 4))
    rig.run()
    assert rig.said("o1") == [ReportKind.ACCEPTED, ReportKind.EXPIRED]
    assert [one.fee for one in rig.reports if one.kind is ReportKind.FILLED] == [Decimal("2.0")]


def test_other_instruments_keep_their_books_and_all_events_come_in_order_of_time() -> None:
    trades = [
        TradeTick(instrument_id="B.X", ts_event=at, ts_recv=at, sequence=1, price_ticks=7, size=1, aggressor=Side.BUY)
        for at in range(T0, T0 + 3 * MINUTE_NS, 7 * NS_PER_S)
    ]
    events: list[Bar | TradeTick] = [bar(0), bar(1), bar(2), *trades]
    rig = Rig(sorted(events, key=lambda event: event.ts_event))
    rig.at(bar(0).ts_event, lambda: rig.send(Side.BUY))
    rig.run()
    times = [event.ts_event for event in rig.events]
    assert times == sorted(times)
    assert [event for event in rig.events if event.instrument_id == "B.X"] == trades
    assert sum(isinstance(event, Bar) for event in rig.events) == 3


PRICES = st.lists(st.integers(80, 120), min_size=4, max_size=4).map(lambda p: (p[0], max(p), min(p), p[3]))
ORDERS = st.lists(
    st.tuples(st.floats(0, 9), st.sampled_from(Side), st.one_of(st.none(), st.integers(80, 120)), st.integers(1, 30)), max_size=10
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(PRICES, st.integers(0, 200)), min_size=3, max_size=10), ORDERS)
def test_nobody_trades_in_the_bar_in_which_it_was_decided_nor_better_than_the_next_one_allows(
    drawn: list[tuple[tuple[int, int, int, int], int]], orders: list[tuple[float, Side, int | None, int]]
) -> None:
    bars = [bar(number, prices, volume=volume) for number, (prices, volume) in enumerate(drawn)]

    def trial() -> Rig:
        rig = Rig(bars)
        for at_minutes, side, limit_ticks, lots in orders:
            rig.at(T0 + round(at_minutes * MINUTE_NS), partial(rig.send, side, lots, limit_ticks))
        return rig.run()

    rig = trial()
    decided = dict(zip((f"o{n}" for n in range(1, 11)), sorted(orders, key=lambda one: round(one[0] * MINUTE_NS)), strict=False))
    per_bar: dict[int, int] = {}
    for name, lots, price, number in rig.fills():
        at_minutes, side, limit_ticks, _ = decided[name]
        one = bars[number]
        per_bar[number] = per_bar.get(number, 0) + lots
        # In time for the open of a bar is who comes within a second of it.
        assert number * MINUTE_NS + NS_PER_S >= round(at_minutes * MINUTE_NS)
        through = limit_ticks is not None and (limit_ticks - (one.low_ticks if side is Side.BUY else one.high_ticks)) * side.sign >= 1
        assert price == one.open_ticks + side.sign or (price == limit_ticks and through)
        if limit_ticks is not None:
            assert (limit_ticks - price) * side.sign >= 0
    assert all(lots <= max(int(bars[number].volume * 0.1), 1) for number, lots in per_bar.items())
    assert trial().reports == rig.reports
