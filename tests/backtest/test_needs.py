"""What a strategy asks for and the recordings do not have is said before anything runs, with a way out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from framework.backtest.engine import Source, execute
from framework.backtest.planning import plan_for
from framework.backtest.research import measured
from framework.config import MainConfig
from framework.errors import ConfigError
from framework.market.catalogue.writing import EntryWriter, Place
from framework.messages import Bar, BookSnapshot, MarketEvent
from framework.model import NS_PER_S, Instrument

INSTRUMENT = Instrument(instrument_id="ONE.SIM", tick_size=Decimal("0.25"))
START_NS = 1_704_067_200 * NS_PER_S
Record = Callable[[str, Iterable[MarketEvent]], Path]


def bars(count: int = 60) -> list[MarketEvent]:
    times = [START_NS + (number + 1) * 60 * NS_PER_S for number in range(count)]
    prices = {"open_ticks": 100, "high_ticks": 102, "low_ticks": 99, "close_ticks": 101, "volume": 5, "buy_volume": 3, "sell_volume": 2}
    return [Bar(instrument_id="ONE.SIM", ts_event=at_ns, interval_s=60.0, **prices) for at_ns in times]


def books(count: int = 20) -> list[MarketEvent]:
    times = [START_NS + number * NS_PER_S for number in range(count)]
    sides = {"bid_ticks": (100,), "bid_sizes": (5,), "ask_ticks": (101,), "ask_sizes": (5,)}
    return [BookSnapshot(instrument_id="ONE.SIM", ts_event=at, ts_recv=at, sequence=number, **sides) for number, at in enumerate(times)]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    def write(kind: str, events: Iterable[MarketEvent]) -> Path:
        writer = EntryWriter(tmp_path / kind, INSTRUMENT, Place("ONE.SIM", kind, "all"))
        for event in events:
            writer.append(event)
        writer.finish()
        return tmp_path / kind

    return write


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Any]:
    def make(strategy: str, data: Path, **options: Any) -> Any:
        file = tmp_path / "strategy.yaml"
        file.write_text(f"name: one\nstrategy: {strategy}\ninstrument_id: ONE.SIM\n")
        given: dict[str, Any] = {"ml": "off", "latency": None, "settings": MainConfig(), "instrument_id": None, "seed": 7}
        return plan_for(file, [data], state_dir=tmp_path / "state", **(given | options))

    return make


@pytest.mark.parametrize(
    "strategy", ["book_imbalance:BookImbalanceStrategy", "market_maker:MarketMakerStrategy", "ml_futures:MLFuturesStrategy"]
)
def test_a_strategy_that_listens_to_books_is_refused_recordings_of_bars(record: Record, planned: Callable[..., Any], strategy: str) -> None:
    with pytest.raises(
        ConfigError, match=r"one listens to books \(on_dom\), and there are none of ONE.SIM in .*bars-60s.*; add a recording"
    ):
        planned(f"strategies.{strategy}", record("bars-60s", bars()))


def test_a_strategy_that_listens_to_trades_is_refused_recordings_of_books(
    record: Record, planned: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "listening.py").write_text(
        "from framework.strategy import Strategy\n\n\nclass Listener(Strategy):\n    def on_trade_tick(self, tick):\n        pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ConfigError, match=r"listens to trades \(on_trade_tick\), and there are none of ONE.SIM"):
        planned("listening:Listener", record("events", books()))


def test_a_strategy_of_bars_runs_on_them_alone_and_is_told_that_they_filled_its_orders(record: Record, planned: Callable[..., Any]) -> None:
    plan = planned("strategies.breakout:BreakoutStrategy", record("bars-60s", bars()))

    found = measured(execute(plan, Source(kind="off"), lambda _stage, _share: None), trials=1)

    assert found.facts["events"] == 120  # and a quote at each close
    assert any(words.startswith("filled on bars (ONE.SIM)") for words in found.warnings)


def test_without_fills_in_bars_it_is_told_that_nothing_could_be_filled(record: Record, planned: Callable[..., Any]) -> None:
    settings = MainConfig.model_validate({"paper": {"bar_fills": False}})
    plan = planned("strategies.breakout:BreakoutStrategy", record("bars-60s", bars()), settings=settings)

    found = measured(execute(plan, Source(kind="off"), lambda _stage, _share: None), trials=1)

    assert found.facts["events"] == 60
    assert found.warnings[0].startswith("no books in the recordings")


def test_predictions_on_bars_alone_are_refused_with_the_way_out(record: Record, planned: Callable[..., Any]) -> None:
    with pytest.raises(
        ConfigError, match=r"--ml live: the recordings hold only bars of ONE\.SIM, and predictions need books; say --ml off"
    ):
        planned("strategies.breakout:BreakoutStrategy", record("bars-60s", bars()), ml="live")


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (
            {"from_ns": START_NS + 3_600 * NS_PER_S},
            "--from 2024-01-01T01:00:00: nothing comes after it; the recordings go from 2024-01-01T00:00:00",
        ),
        ({"to_ns": START_NS}, "--to 2024-01-01T00:00:00: nothing comes before it"),
        ({"from_ns": START_NS + NS_PER_S, "to_ns": START_NS + NS_PER_S}, "is not before --to"),
    ],
    ids=["after", "before", "backwards"],
)
def test_a_span_without_anything_in_it_is_refused(record: Record, planned: Callable[..., Any], span: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        planned("strategies.market_maker:MarketMakerStrategy", record("events", books()), **span)
