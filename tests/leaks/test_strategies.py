"""Strategies: one that looks ahead is caught, honest ones are not, and one that does nothing is told so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from framework.config import MainConfig
from framework.errors import ConfigError
from framework.leak_job import Finding, Verdict
from framework.market.feed import arrival_ns
from framework.messages import BookSnapshot, DomUpdated, TradeTick
from framework.model import Side
from framework.operations.deployments import Deployment, read_deployment
from framework.research.leaks import strategies
from framework.research.leaks.futures import WEEKS_NS, later, permuted, until
from framework.research.leaks.strategies import Market, check_strategy, simulated
from framework.strategy import Strategy

ROOT = Path(__file__).resolve().parents[2]
FILE = "name: mine\nstrategy: {}\ninstrument_id: TIDE.SIM\n"
SEEN: dict[int, int] = {}


class Idle(Strategy):
    """Does nothing."""


class Remembering(Strategy):
    """Trades on what followed each time stamp when it first saw this market: a look-up in a recording, in effect."""

    def on_dom(self, update: DomUpdated) -> None:
        now, bid = update.ts_event, update.book.bid_ticks[0] if update.book.bid_ticks else 0
        SEEN.setdefault(now, bid)
        ahead = SEEN.get(now + 1_000_000_000)
        if ahead is not None and ahead > bid and not self.open_orders and not self.position_lots:
            self.submit(Side.BUY, 1)


class Broken(Strategy):
    """Raises at the tenth book."""

    books = 0

    def on_dom(self, update: DomUpdated) -> None:
        self.books += 1
        if self.books == 10:
            raise RuntimeError("ten")


def deployed(strategy: str) -> Deployment:
    return read_deployment(FILE.format(strategy), "mine.yaml")


@pytest.fixture(scope="module")
def market() -> Market:
    return simulated("TIDE.SIM", seed=7, strength=0.6, duration_s=90)


def verdicts(deployment: Deployment, market: Market, **more: Any) -> dict[str, Finding]:
    return {one.check: one for one in check_strategy(deployment, MainConfig(), market, **({"seed": 7, "seeds": 1} | more))}


@pytest.fixture(autouse=True)
def short_martingales(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "SIMULATED_S", 120.0)


@pytest.mark.parametrize("name", ["ml_futures", "book_imbalance"])
def test_the_shipped_strategies_do_not_know_the_future(market: Market, name: str) -> None:
    path = ROOT / "config" / "strategies" / f"{name}.yaml"

    found = verdicts(read_deployment(path.read_text(), str(path)), market)

    assert {found[check].verdict for check in ("truncate the future", "permute the future", "move the dates")} == {Verdict.OK}
    assert found["no skill on a martingale"].verdict is not Verdict.LEAK


def test_a_strategy_that_peeks_at_the_next_book_is_caught(market: Market) -> None:
    found = verdicts(deployed("tests.leaks.planted:PeekingStrategy"), market)

    assert found["truncate the future"].verdict is Verdict.LEAK
    assert found["permute the future"].verdict is Verdict.LEAK
    assert found["permute the future"].names[0].startswith("mine-")
    assert "order mine-" in found["permute the future"].detail


def test_a_strategy_that_knows_the_recording_by_its_times_is_caught(market: Market) -> None:
    SEEN.clear()
    for event in market.events:
        if isinstance(event, BookSnapshot):
            SEEN[event.ts_event] = event.bid_ticks[0]
    held = dict(SEEN)

    found = verdicts(deployed(f"{module_path()}:Remembering"), market)

    assert found["move the dates"].verdict is Verdict.LEAK
    assert held.items() <= SEEN.items()


def module_path() -> str:
    return "tests.leaks.test_strategies"


def test_a_strategy_that_does_nothing_is_not_praised(market: Market) -> None:
    found = verdicts(deployed(f"{module_path()}:Idle"), market)

    assert {one.verdict for one in found.values()} == {Verdict.SKIPPED}
    assert "did nothing" in found["truncate the future"].detail


def test_a_strategy_that_raises_is_refused(market: Market) -> None:
    with pytest.raises(ConfigError, match="RuntimeError: ten"):
        verdicts(deployed(f"{module_path()}:Broken"), market)


def test_a_market_without_its_instrument_is_refused(market: Market) -> None:
    other = read_deployment(FILE.format(f"{module_path()}:Idle").replace("TIDE.SIM", "ES.CME"), "mine.yaml")

    with pytest.raises(ConfigError, match=r"it has TIDE\.SIM"):
        verdicts(other, market)


# --- other futures ------------------------------------------------------------------------------------------------------------


def test_a_permuted_future_keeps_the_past_the_times_and_the_contents(market: Market) -> None:
    cut_ns = arrival_ns(market.events[len(market.events) // 2])
    changed = permuted(market.events, cut_ns, seed=1)

    before = until(market.events, cut_ns)
    assert changed[: len(before)] == before
    assert [arrival_ns(event) for event in changed] == [arrival_ns(event) for event in market.events]
    assert [type(event) for event in changed] == [type(event) for event in market.events]
    books = [event for event in changed[len(before) :] if isinstance(event, BookSnapshot)]
    assert all(book.bid_ticks[0] < book.ask_ticks[0] for book in books)
    original = [event for event in market.events[len(before) :] if isinstance(event, BookSnapshot)]
    assert sorted(book.bid_sizes for book in books) == sorted(book.ask_sizes for book in original)
    assert [book.sequence for book in books] == [book.sequence for book in original]


def test_mirrored_trades_change_sides(market: Market) -> None:
    cut_ns = arrival_ns(market.events[100])
    trades = [event for event in market.events if isinstance(event, TradeTick) and arrival_ns(event) > cut_ns]
    changed = [event for event in permuted(market.events, cut_ns, seed=1) if isinstance(event, TradeTick) and arrival_ns(event) > cut_ns]

    bought = sum(event.size for event in trades if event.aggressor is Side.BUY)
    assert sum(event.size for event in changed if event.aggressor is Side.SELL) == bought


def test_moved_events_differ_in_nothing_but_dates_and_numbers(market: Market) -> None:
    moved = later(market.events)

    assert all(new.ts_event - old.ts_event == WEEKS_NS for old, new in zip(market.events, moved, strict=True))
    first, again = market.events[0], moved[0]
    back = {name: getattr(first, name) for name in ("ts_event", "ts_recv", "sequence") if hasattr(first, name)}
    assert msgspec.structs.replace(again, **back) == first
