from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.clock import EventClock
from framework.config import PaperConfig, SimulatedMarketConfig
from framework.errors import KernelError
from framework.messages import BookSnapshot, ExecutionReport, MarketEvent, ReportKind, SessionChanged, TradeTick
from framework.model import NS_PER_MS, NS_PER_S, Liquidity, Side, TimeInForce
from framework.venues.simulated import DEFAULT_START_NS, SimulatedMarket, generate_history
from framework.venues.simulated_tape import Calendar
from tests.contracts import CHECKS, FINAL, Desk

ROOT = Path(__file__).resolve().parents[2]
QUIET = SimulatedMarketConfig(signal_strength=0.0)
CLOSE_NS = DEFAULT_START_NS + (6 * 3_600 + 1_800) * NS_PER_S


def make_desk(*, seed: int = 1, start_ns: int = DEFAULT_START_NS) -> tuple[Desk, list[MarketEvent], SimulatedMarket]:
    market = SimulatedMarket(QUIET, PaperConfig(), seed=seed, start_ns=start_ns)
    events: list[MarketEvent] = []
    clock = EventClock(start_ns)
    halves = market._book.halves
    desk = Desk(market, clock, "TIDE.SIM", lambda: halves[Side.BUY].best, lambda: halves[Side.SELL].best)
    desk.start()
    market.feed().start(clock, events.append, lambda: None)
    desk.wait(0.5)
    return desk, events, market


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_simulated_market_keeps_the_contract(check: Callable[[Desk], None]) -> None:
    check(make_desk()[0])


def digest(seed: int, duration_s: float = 60.0) -> str:
    found = hashlib.sha256()
    for event in generate_history(SimulatedMarketConfig(), seed=seed, duration_s=duration_s):
        found.update(msgspec.msgpack.encode(event))
    return found.hexdigest()


def test_the_same_seed_brings_the_same_market_in_another_process_too() -> None:
    script = "from tests.venues.test_simulated import digest; print(digest(5))"
    elsewhere = {
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2")
    }

    assert elsewhere == {digest(5)}
    assert digest(6) != digest(5)


def test_history_and_the_market_on_a_clock_are_the_same_events() -> None:
    desk, events, _ = make_desk(seed=9)
    desk.wait(20.0)

    history = list(generate_history(QUIET, seed=9, duration_s=20.5))
    assert history == events[: len(history)]


def test_books_are_never_crossed_and_mostly_one_tick_wide() -> None:
    books = [e for e in generate_history(SimulatedMarketConfig(), seed=2, duration_s=600) if isinstance(e, BookSnapshot)]
    spreads = [book.ask_ticks[0] - book.bid_ticks[0] for book in books]

    assert min(spreads) == 1
    assert np.mean(np.array(spreads) == 1) > 0.9
    assert max(spreads) > 1
    for book in books:
        assert len(book.bid_ticks) == len(book.ask_ticks) == 10
        assert min(book.bid_sizes + book.ask_sizes) >= 1
        assert list(book.bid_ticks) == sorted(set(book.bid_ticks), reverse=True)
        assert list(book.ask_ticks) == sorted(set(book.ask_ticks))


def test_the_session_closes_expires_our_orders_and_opens_again() -> None:
    desk, events, _ = make_desk(start_ns=CLOSE_NS - NS_PER_S)
    resting = desk.send(Side.BUY, 1, limit_ticks=desk.bid_ticks() - 20)
    desk.wait(2.0)
    late = desk.send(Side.BUY, 1)
    desk.wait(3_600.0)

    assert desk.said(resting) == [ReportKind.ACCEPTED, ReportKind.EXPIRED]
    assert desk.said(late) == [ReportKind.REJECTED]
    changes = [e for e in events if isinstance(e, SessionChanged)]
    assert [(e.is_open, e.ts_event) for e in changes] == [(False, CLOSE_NS), (True, CLOSE_NS + 3_600 * NS_PER_S)]
    assert isinstance(events[-1], BookSnapshot | TradeTick)
    assert not any(CLOSE_NS <= e.ts_event <= CLOSE_NS + 3_600 * NS_PER_S for e in events if not isinstance(e, SessionChanged))


def test_history_goes_over_a_session_break_as_the_market_on_a_clock_does() -> None:
    start_ns = CLOSE_NS - 7 * NS_PER_S + 123_456_789
    desk, events, _ = make_desk(seed=4, start_ns=start_ns)
    desk.wait(3_615.0)

    history = list(generate_history(QUIET, seed=4, start_ns=start_ns, duration_s=3_615.5))
    assert history == events
    assert sum(isinstance(event, SessionChanged) for event in history) == 2


@pytest.mark.parametrize(
    ("close_s", "open_s", "second", "opens_s"),
    [
        (75_600, 79_200, 75_599, None),
        (75_600, 79_200, 75_600, 79_200),
        (75_600, 79_200, 79_199, 79_200),
        (75_600, 79_200, 79_200, None),
        (82_800, 3_600, 82_800, 86_400 + 3_600),
        (82_800, 3_600, 86_400, 86_400 + 3_600),
        (82_800, 3_600, 86_400 + 3_600, None),
        (0, 0, 0, None),
    ],
)
def test_a_calendar_knows_its_break_over_midnight_too(close_s: int, open_s: int, second: int, opens_s: int | None) -> None:
    day_ns = 19_000 * 86_400 * NS_PER_S
    opens_ns = Calendar(close_s=close_s, open_s=open_s).opens_at(day_ns + second * NS_PER_S + 999)

    assert opens_ns == (None if opens_s is None else day_ns + opens_s * NS_PER_S)


@pytest.mark.parametrize(
    "start_ns", [DEFAULT_START_NS, CLOSE_NS - NS_PER_S, CLOSE_NS + 7 * NS_PER_S], ids=["day", "into break", "in break"]
)
def test_the_end_comes_once_and_on_time(start_ns: int) -> None:
    market = SimulatedMarket(QUIET, PaperConfig(), seed=1, start_ns=start_ns, duration_s=5.0)
    clock, ends, events = EventClock(start_ns), [], list[MarketEvent]()
    market.feed().start(clock, events.append, lambda: ends.append(clock.now_ns()))
    clock.advance_to(start_ns + 2 * NS_PER_S)
    assert 0.3 < market.progress < 0.5
    clock.advance_to(start_ns + 20 * NS_PER_S)

    assert ends == [start_ns + 5 * NS_PER_S]
    assert all(start_ns < event.ts_event <= ends[0] for event in events)
    assert market.progress == 1.0
    assert clock.next_timer_ns() is None


def test_a_feed_that_was_stopped_says_nothing_more() -> None:
    market = SimulatedMarket(QUIET, PaperConfig(), seed=1, duration_s=5.0)
    clock, ends, events = EventClock(DEFAULT_START_NS), [], list[MarketEvent]()
    feed = market.feed()
    feed.start(clock, events.append, lambda: ends.append(1))
    clock.advance_to(DEFAULT_START_NS + NS_PER_S)
    feed.stop()
    heard = len(events)
    clock.advance_to(DEFAULT_START_NS + 20 * NS_PER_S)

    assert (len(events), ends) == (heard, [])


@pytest.mark.parametrize("interval_ms", [10.0, 33.0, 50.0, 100.0, 250.0])
def test_books_keep_to_their_interval(interval_ms: float) -> None:
    settings = SimulatedMarketConfig(book_interval_ms=interval_ms)
    events = list(generate_history(settings, seed=1, duration_s=20.0))
    times = [event.ts_event for event in events]
    books = [event.ts_event - DEFAULT_START_NS for event in events if isinstance(event, BookSnapshot)]

    assert times == sorted(times)
    assert math.gcd(*books) == round(interval_ms * NS_PER_MS)
    assert len(books) > 50


# --- our orders in the market ---------------------------------------------------------------------------------------------------


def test_an_order_that_touches_nothing_changes_nothing() -> None:
    desk, events, _ = make_desk(seed=3)
    still_desk, still_events, _ = make_desk(seed=3)
    for number in range(20):
        desk.send(Side.BUY, 7, limit_ticks=desk.bid_ticks() - 100 - number)
        desk.wait(0.5)
        desk.venue.cancel(f"o{number}")
    desk.wait(60.0)
    still_desk.wait(70.0)

    assert len(desk.reports) > 30
    assert events == still_events


def test_our_resting_lots_are_seen_in_the_book() -> None:
    desk, events, _ = make_desk(seed=3)
    price = desk.bid_ticks() - 2
    before = displayed(events, price)
    desk.send(Side.BUY, 500, limit_ticks=price)
    desk.wait(0.2)

    assert abs(displayed(events, price) - before - 500) < 60


def displayed(events: list[MarketEvent], bid_ticks: int) -> int:
    book = next(event for event in reversed(events) if isinstance(event, BookSnapshot))
    return dict(zip(book.bid_ticks, book.bid_sizes, strict=True)).get(bid_ticks, 0)


def move_against(seed: int, lots: int, wait_s: float, *, sold_after_s: float | None = None) -> float:
    """Return by how many ticks the mid is higher after we bought (and sold again) than it is in the same market without us."""
    mids = []
    for quantity in (lots, 0):
        desk, _, market = make_desk(seed=seed)
        if quantity:
            desk.send(Side.BUY, quantity)
        if quantity and sold_after_s is not None:
            desk.wait(sold_after_s)
            desk.send(Side.SELL, quantity)
        desk.clock.advance_to(DEFAULT_START_NS + round((0.5 + wait_s) * NS_PER_S))
        halves = market._book.halves
        mids.append((halves[Side.BUY].best + halves[Side.SELL].best) / 2)
    return mids[0] - mids[1]


def test_what_we_buy_moves_the_price_at_once_and_for_good() -> None:
    # 480 lots walk some five queues: the ask goes up by as many ticks, the mid by half of that. Then the others come back to
    # where they were, but for half a tick for each 80 lots that we bought: three ticks, exactly, until we sell them again.
    seeds = range(12)

    assert all(3 <= 2 * move_against(seed, 480, 0.01) <= 8 for seed in seeds)
    assert [move_against(seed, 480, 20.0) for seed in seeds] == [3.0] * len(seeds)
    assert [move_against(seed, 480, 20.0, sold_after_s=2.0) for seed in seeds] == [0.0] * len(seeds)


def test_an_order_of_one_lot_leaves_the_price_alone_nearly_always() -> None:
    moves = [move_against(seed, 1, 10.0) for seed in range(24)]

    assert sum(move != 0 for move in moves) <= 1


@pytest.mark.parametrize("is_patient", [False, True], ids=["market orders", "resting"])
@pytest.mark.parametrize("lots", [80, 800])
def test_the_market_cannot_be_pumped_by_buying_and_selling_again(lots: int, is_patient: bool) -> None:
    gains = np.array([pump(seed, lots, is_patient=is_patient) for seed in range(16)])

    assert gains.mean() + 1.64 * gains.std() / np.sqrt(len(gains)) < 0


def pump(seed: int, lots: int, *, is_patient: bool) -> float:
    """Buy at once, sell two seconds later (at once, or by resting at the best ask); return the gain in ticks per lot.

    What the market did without us while we were long is luck, and taken out.
    """
    (desk, _, _), (still, _, _) = make_desk(seed=seed), make_desk(seed=seed)
    desk.send(Side.BUY, lots)
    luck, long, working = 0, 0, ""
    for quarter in range(1_600):
        before = still.bid_ticks()
        for one in (desk, still):
            one.wait(0.25)
        luck += long * (still.bid_ticks() - before)
        long = position(desk)
        if quarter >= 8 and long and not is_patient:
            desk.send(Side.SELL, long)
        elif quarter >= 8 and quarter % 4 == 0 and long:
            desk.venue.cancel(working)
            working = desk.send(Side.SELL, long, limit_ticks=desk.ask_ticks())
        if quarter > 8 and not long:
            break
    assert position(desk) == 0
    return (sum(-side.sign * r.last_quantity * r.last_ticks for side, r in desk_fills(desk)) - luck) / lots


def desk_fills(desk: Desk) -> list[tuple[Side, ExecutionReport]]:
    """Return our fills; the first order bought, all others sold."""
    return [(Side.BUY if r.client_order_id == "o1" else Side.SELL, r) for r in desk.reports if r.kind is ReportKind.FILLED]


def position(desk: Desk) -> int:
    return sum(side.sign * report.last_quantity for side, report in desk_fills(desk))


def test_a_huge_limit_order_trades_what_is_in_sight_and_never_crosses() -> None:
    desk, events, _ = make_desk()
    order = desk.send(Side.BUY, 900_000, limit_ticks=desk.ask_ticks() + 60)
    desk.wait(5.0)

    assert desk.said(order)[-1] is ReportKind.CANCELED
    assert 1_000 < desk.filled(order) < 3_000
    assert all(book.bid_ticks[0] < book.ask_ticks[0] for book in events if isinstance(book, BookSnapshot))


def test_an_order_stops_at_our_own_resting_order_and_the_rest_of_it_is_canceled() -> None:
    desk, _, market = make_desk()
    resting = desk.send(Side.SELL, 5, limit_ticks=desk.ask_ticks() + 1)
    desk.wait(0.1)
    far_away_is_fine = desk.send(Side.BUY, 1)
    desk.wait(0.1)
    crossing = desk.send(Side.BUY, 5_000, limit_ticks=desk.ask_ticks() + 3)
    desk.wait(0.1)

    assert desk.said(far_away_is_fine) == [ReportKind.ACCEPTED, ReportKind.FILLED]
    assert desk.said(crossing)[-1] is ReportKind.CANCELED
    assert "our own order" in desk.reports[-1].reason
    assert desk.filled(crossing) > 0
    assert market._book.own[resting].left == 5


@pytest.mark.parametrize(
    ("quantity", "limit_ticks", "instrument_id", "reason"),
    [
        (0, 20_000, "TIDE.SIM", "bad quantity 0; allowed 1 lot or more"),
        (1_000_001, 20_000, "TIDE.SIM", "bad quantity 1000001; allowed 1 to 1000000 lots"),
        (1, 40_000, "TIDE.SIM", "bad price 40000; allowed 18000 to 22000 ticks"),
        (1, 20_000, "ES.CME", "unknown instrument ES.CME; this venue has TIDE.SIM"),
    ],
)
def test_a_bad_order_is_rejected_with_what_is_allowed(quantity: int, limit_ticks: int, instrument_id: str, reason: str) -> None:
    desk, _, _ = make_desk()
    desk.instrument_id = instrument_id
    order = desk.send(Side.BUY, quantity, limit_ticks=limit_ticks)
    desk.wait(0.1)

    assert [(r.kind, r.reason) for r in desk.reports if r.client_order_id == order] == [(ReportKind.REJECTED, reason)]


def test_an_order_on_its_way_is_not_reconciled_away() -> None:
    desk, _, _ = make_desk()
    order = desk.send(Side.BUY, 1)
    desk.venue.reconcile((order,))
    desk.wait()
    desk.venue.reconcile((order,))
    desk.wait()

    told = [ReportKind.ACCEPTED, ReportKind.FILLED]
    assert desk.said(order) == [*told, *[ReportKind.RESTATED, *told] * 2]
    assert len({report.trade_id for report in desk.reports if report.kind is ReportKind.FILLED}) == 1


def test_an_id_that_was_rejected_once_is_used_up() -> None:
    desk, _, _ = make_desk()
    order = desk.send(Side.BUY, 0)
    desk.wait(0.1)
    desk.send(Side.BUY, 1, client_order_id=order)
    desk.wait(0.1)

    assert desk.said(order) == [ReportKind.REJECTED, ReportKind.REJECTED]


def test_a_market_that_was_not_started_says_so() -> None:
    with pytest.raises(KernelError, match="call start first"):
        SimulatedMarket(QUIET, PaperConfig(), seed=1).cancel("o1")


limits = st.one_of(st.none(), st.integers(-3, 3), st.integers(-30, 30))
quantities = st.one_of(st.integers(1, 60), st.integers(1, 4_000))
storms = st.lists(
    st.tuples(
        st.sampled_from(("buy", "sell", "buy", "sell", "cancel")), quantities, limits, st.booleans(), st.sampled_from((0.0, 0.001, 0.3))
    ),
    min_size=1,
    max_size=40,
)


@given(storms, st.integers(0, 1_000), st.sampled_from((3.0, 60.0)))
@settings(max_examples=60, deadline=None)
def test_whatever_we_send_every_order_ends_once_and_lots_add_up(
    storm: list[tuple[str, int, int | None, bool, float]], seed: int, seconds_to_close: float
) -> None:
    desk, events, market = make_desk(seed=seed, start_ns=CLOSE_NS - round(seconds_to_close * NS_PER_S))
    sizes: dict[str, int] = {}
    sides: dict[str, Side] = {}
    for kind, quantity, away, is_ioc, wait_s in storm:
        if kind == "cancel":
            desk.venue.cancel(f"o{quantity}")
        else:
            side = Side.BUY if kind == "buy" else Side.SELL
            limit_ticks = None if away is None else (desk.bid_ticks() if side is Side.BUY else desk.ask_ticks()) - side.sign * away
            order = desk.send(side, quantity, limit_ticks=limit_ticks, time_in_force=TimeInForce.IOC if is_ioc else TimeInForce.DAY)
            sizes[order], sides[order] = quantity, side
        desk.wait(wait_s)
    for order in sizes:
        desk.venue.cancel(order)
    desk.wait(1.0)

    for order, quantity in sizes.items():
        check_story(desk, order, quantity)
    check_lots(desk, events, sides)
    for book in (event for event in events if isinstance(event, BookSnapshot)):
        assert book.bid_ticks[0] < book.ask_ticks[0]
        assert min(book.bid_sizes + book.ask_sizes) >= 1
    sequences = [event.sequence for event in events if isinstance(event, BookSnapshot | TradeTick)]
    assert sequences == sorted(set(sequences))
    assert market._desk.of("TIDE.SIM") == ()
    assert market._book.own == {}


def check_story(desk: Desk, order: str, quantity: int) -> None:
    """One ACCEPTED or REJECTED, then fills, then one end, then nothing but answers to late cancels."""
    said = [kind for kind in desk.said(order) if kind is not ReportKind.CANCEL_REJECTED]
    filled = desk.filled(order)
    is_full = filled == quantity
    assert filled <= quantity
    assert said[0] in (ReportKind.ACCEPTED, ReportKind.REJECTED)
    middle = said[1:] if is_full else said[1:-1]
    assert all(kind is ReportKind.FILLED for kind in middle)
    assert is_full or said[-1] in FINAL


def check_lots(desk: Desk, events: list[MarketEvent], sides: dict[str, Side]) -> None:
    """Each of our fills is part of a print of its time, price and aggressor; fees are exact; trade ids are used once."""
    printed: Counter[tuple[int, int, Side | None]] = Counter()
    for event in events:
        if isinstance(event, TradeTick):
            printed[event.ts_event, event.price_ticks, event.aggressor] += event.size
    lots: Counter[str] = Counter()
    for report in (report for report in desk.reports if report.kind is ReportKind.FILLED):
        side = sides[report.client_order_id]
        printed[report.ts_event, report.last_ticks, side if report.liquidity is Liquidity.TAKER else side.opposite] -= report.last_quantity
        lots[str(report.liquidity)] += report.last_quantity
    assert min(printed.values(), default=0) >= 0
    fees = sum((report.fee for report in desk.reports), Decimal(0))
    assert fees == lots["MAKER"] * Decimal("0.25") + lots["TAKER"] * Decimal("0.85")
    ids = [report.trade_id for report in desk.reports if report.trade_id]
    assert len(ids) == len(set(ids))
