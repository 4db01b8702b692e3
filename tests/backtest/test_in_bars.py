"""A backtest on bars alone, from the strategy to its fills: brackets, the gate and the accounts as everywhere."""

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from framework.backtest.engine import Run, Source, execute
from framework.backtest.planning import plan_for
from framework.config import MainConfig
from framework.market.catalogue.writing import EntryWriter, Place
from framework.messages import Bar
from framework.model import NS_PER_S, Instrument, OrderStatus

INSTRUMENT = Instrument(instrument_id="ONE.SIM", tick_size=Decimal("0.25"), session_gap_s=600.0)
START_NS = 1_704_067_200 * NS_PER_S
CALM = (1_000, 1_001, 999, 1_000)

STRATEGY = """
from framework.model import Side
from framework.strategy import Strategy


class Entering(Strategy):
    seen = 0

    def on_bar(self, bar):
        self.seen += 1
        if self.seen == 2:
            self.bracket(Side.SIDE, 1, target_ticks=TARGET, stop_ticks=STOP)
"""


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that enters at the open of the third bar, and returns the fills as (price, bar)."""

    numbers = itertools.count()

    def run(side: str, target: int, stop: int, *later: tuple[int, int, int, int]) -> tuple[list[tuple[int, int]], Run]:
        module = f"entering_{next(numbers)}_{tmp_path.name}"
        source = STRATEGY.replace("SIDE", side).replace("TARGET", str(target)).replace("STOP", str(stop))
        (tmp_path / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "one.yaml").write_text(f"name: one\nstrategy: {module}:Entering\ninstrument_id: ONE.SIM\n")
        data = _recorded(tmp_path / module, [CALM, CALM, *later, CALM])
        plan = plan_for(
            tmp_path / "one.yaml",
            [data],
            ml="off",
            latency=None,
            settings=MainConfig(),
            instrument_id=None,
            state_dir=tmp_path / "state",
            seed=7,
        )
        done = execute(plan, Source(kind="off"), lambda _stage, _share: None)
        return [(fill.price_ticks, (fill.ts_event - START_NS - 1) // (60 * NS_PER_S)) for fill in done.tape.fills], done

    return run


def _recorded(folder: Path, prices: list[tuple[int, int, int, int]]) -> Path:
    writer = EntryWriter(folder, INSTRUMENT, Place("ONE.SIM", "bars-60s", "all"))
    for number, (open_, high, low, close) in enumerate(prices):
        writer.append(
            Bar(
                instrument_id="ONE.SIM",
                ts_event=START_NS + (number + 1) * 60 * NS_PER_S,
                interval_s=60.0,
                open_ticks=open_,
                high_ticks=high,
                low_ticks=low,
                close_ticks=close,
                volume=1_000,
                buy_volume=0,
                sell_volume=0,
            )
        )
    writer.finish()
    return folder


def test_a_target_fills_at_its_price_in_the_bar_that_trades_through_it(ran: Any) -> None:
    fills, done = ran("BUY", 1_010, 990, CALM, (1_000, 1_010, 1_000, 1_009), (1_009, 1_011, 1_008, 1_010))
    assert fills == [(1_001, 2), (1_010, 4)]
    assert done.in_bars == {"ONE.SIM"}


@pytest.mark.parametrize(
    ("side", "target", "stop", "exit_"), [("BUY", 1_010, 990, 989), ("SELL", 990, 1_010, 1_011)], ids=["long", "short"]
)
def test_of_a_stop_and_a_target_in_one_bar_it_is_the_stop(ran: Any, side: str, target: int, stop: int, exit_: int) -> None:
    fills, done = ran(side, target, stop, CALM, (1_000, 1_015, 985, 1_000))
    assert fills == [(1_001 if side == "BUY" else 999, 2), (exit_, 3)]
    last = {order.client_order_id: order.status for order in done.tape.orders}
    assert sorted(last.values()) == [OrderStatus.CANCELED, OrderStatus.FILLED, OrderStatus.FILLED]


def test_a_stop_that_the_open_jumps_over_gets_the_open(ran: Any) -> None:
    fills, _ = ran("BUY", 1_010, 990, CALM, (980, 985, 975, 980))
    assert fills == [(1_001, 2), (979, 3)]


def test_stop_and_target_in_the_bar_of_the_entry_are_the_stop_too(ran: Any) -> None:
    fills, _ = ran("BUY", 1_010, 990, (1_000, 1_015, 985, 1_000))
    assert fills == [(1_001, 2), (989, 2)]


def test_the_same_bars_give_the_same_run(ran: Any) -> None:
    bars = (CALM, (1_000, 1_015, 985, 1_000))
    assert ran("BUY", 1_010, 990, *bars)[1].tape.orders == ran("BUY", 1_010, 990, *bars)[1].tape.orders
