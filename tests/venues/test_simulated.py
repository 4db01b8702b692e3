from __future__ import annotations

import hashlib
import os
import subprocess
import sys
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
from framework.messages import BookSnapshot, MarketEvent, ReportKind, SessionChanged, TradeTick
from framework.model import NS_PER_S, Side, TimeInForce
from framework.venues.simulated import DEFAULT_START_NS, SimulatedMarket, generate_history
from tests.contracts import CHECKS, FINAL, Desk

ROOT = Path(__file__).resolve().parents[2]
QUIET = SimulatedMarketConfig(signal_strength=0.0)


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
    close_ns = DEFAULT_START_NS + 6 * 3_600 * NS_PER_S + 1_800 * NS_PER_S
    desk, events, _ = make_desk(start_ns=close_ns - NS_PER_S)
    resting = desk.send(Side.BUY, 1, limit_ticks=desk.bid_ticks() - 20)
    desk.wait(2.0)
    late = desk.send(Side.BUY, 1)
    desk.wait(3_600.0)

    assert desk.said(resting) == [ReportKind.ACCEPTED, ReportKind.EXPIRED]
    assert desk.said(late) == [ReportKind.REJECTED]
    assert [e.is_open for e in events if isinstance(e, SessionChanged)] == [False, True]
    assert isinstance(events[-1], BookSnapshot | TradeTick)


def test_our_market_orders_move_the_price_their_way() -> None:
    moved = 0
    for seed in range(12):
        desk, _, _ = make_desk(seed=seed)
        before = desk.bid_ticks() + desk.ask_ticks()
        for _ in range(10):
            desk.send(Side.BUY, 100, time_in_force=TimeInForce.IOC)
            desk.wait(0.1)
        moved += desk.bid_ticks() + desk.ask_ticks() - before

    assert moved / 2 / 12 > 5


orders = st.lists(
    st.tuples(st.sampled_from(("buy", "sell", "cancel")), st.integers(1, 60), st.integers(-3, 3), st.booleans()), min_size=1, max_size=30
)


@given(orders, st.integers(0, 1_000))
@settings(max_examples=40, deadline=None)
def test_whatever_we_send_every_order_ends_once_and_lots_add_up(script: list[tuple[str, int, int, bool]], seed: int) -> None:
    desk, events, market = make_desk(seed=seed)
    sizes: dict[str, int] = {}
    for kind, quantity, away, is_ioc in script:
        if kind == "cancel":
            desk.venue.cancel(f"o{quantity}")
        else:
            side = Side.BUY if kind == "buy" else Side.SELL
            limit_ticks = (desk.bid_ticks() if side is Side.BUY else desk.ask_ticks()) - side.sign * away
            order = desk.send(side, quantity, limit_ticks=limit_ticks, time_in_force=TimeInForce.IOC if is_ioc else TimeInForce.DAY)
            sizes[order] = quantity
        desk.wait(0.3)
    for order in sizes:
        desk.venue.cancel(order)
    desk.wait(1.0)

    for order, quantity in sizes.items():
        said = desk.said(order)
        filled = desk.filled(order)
        ended = [kind for kind in said if kind in FINAL]
        assert filled <= quantity
        assert len(ended) + (filled == quantity) == 1, said
    for book in (event for event in events if isinstance(event, BookSnapshot)):
        assert book.bid_ticks[0] < book.ask_ticks[0]
        assert min(book.bid_sizes + book.ask_sizes) >= 1
    assert market._orders == {}
    assert market._book.own == {}
    fees = sum((report.fee for report in desk.reports), Decimal(0))
    lots = {kind: sum(r.last_quantity for r in desk.reports if r.liquidity == kind) for kind in ("MAKER", "TAKER")}
    assert fees == lots["MAKER"] * Decimal("0.25") + lots["TAKER"] * Decimal("0.85")
