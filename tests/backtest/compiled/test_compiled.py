"""A compiled backtest is a backtest: figures, sweeps and refusals, tables that grow, machine code that is not older than its source."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit

from framework.backtest.compiled import engine, host
from framework.backtest.compiled.allowed import check_compiled
from framework.backtest.compiled.cache import drop_stale
from framework.backtest.compiled.engine import execute_compiled, run_compiled
from framework.backtest.engine import Plan, Source
from framework.backtest.lean.engine import execute_lean
from framework.backtest.report import write_report
from framework.backtest.research import executed, measured, with_capacity
from framework.backtest.sweep import Grid, Runner, sweep
from framework.config import MainConfig, PaperConfig, RiskLimits
from framework.errors import ConfigError, StartRefused
from framework.messages import DomUpdated
from framework.strategy import Strategy
from framework.strategy.compiled import BUY, CompiledStrategy, Market, Orders
from framework.strategy.compiled.verbs import best_bid, has_both, quote, submit
from tests.backtest.compiled.markets import wild_columns
from tests.backtest.compiled.wild_strategy import STATE, WildCompiled

pytestmark = pytest.mark.timeout(600)  # the first one on a machine compiles
MakePlan = Callable[..., Plan]


def silent(_stage: str, _share: float) -> None:
    """Say nothing."""


def of(plan: Plan, cls: type[Strategy], **parameters: Any) -> Plan:
    made = cls.Parameters.model_validate(parameters)
    return replace(plan, deployment=replace(plan.deployment, strategy_class=cls, parameters=made))


# --- what comes out of it ------------------------------------------------------------------------------------------------------


def test_the_shipped_quoter_is_measured_reported_and_swept_as_lean(plan: MakePlan, tmp_path: Path) -> None:
    made = plan("compiled_quoter")
    ways = {"compiled": replace(made, is_compiled=True), "lean": replace(made, is_lean=True)}
    grid = Grid(parameters={"half_spread_ticks": (0.5, 1.5), "max_inventory": (1, 3)}, fee_factors=(0.0, 1.0))

    found = {name: with_capacity(measured(executed(way, Source(kind="off"), silent), trials=1)) for name, way in ways.items()}
    tables = {name: sweep(way, grid, tmp_path / f"{name}.parquet", Runner()) for name, way in ways.items()}
    write_report(tmp_path / "report.html", found["compiled"], [])

    assert found["compiled"].facts["fills"] > 10
    assert found["compiled"].facts == found["lean"].facts
    for name in ("fills", "trades", "account"):
        assert getattr(found["compiled"], name).equals(getattr(found["lean"], name))
    assert tables["compiled"].equals(tables["lean"])
    assert "compiled_quoter" in (tmp_path / "report.html").read_text()


def test_the_quoter_holds_no_more_than_it_may(plan: MakePlan) -> None:
    made = replace(plan("compiled_quoter"), is_compiled=True)
    found = measured(run_compiled(of(made, made.deployment.strategy_class, max_inventory=2, interval_s=0.0), silent), trials=1)

    assert found.fills["position"].abs().max() == 2
    assert set(found.fills["liquidity"]) <= {"MAKER", "TAKER"}


def test_denials_are_counted_by_their_code(plan: MakePlan) -> None:
    limits = RiskLimits(max_position=2, max_orders_per_second=2)
    made = replace(of(plan(), WildCompiled, often=900), settings=MainConfig(risk=limits))

    run = execute_compiled(made, wild_columns(5, 300), silent)

    counters = run.summary.counters
    of_codes = {name: count for name, count in counters.items() if name.startswith("denials_")}
    said = [update.reason.split()[0] for update in run.tape.orders if update.status == "DENIED"]
    assert counters["execution_denied"] == len(said) > 50
    assert of_codes["denials_max_position"] == said.count("MAX_POSITION") > 0


def test_tables_that_are_too_small_grow_and_nothing_else_changes(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    paper, columns = PaperConfig(latency_spread=0.5, order_latency_ms=0.5), wild_columns(9, 300)
    made = replace(of(plan(), WildCompiled, often=900), settings=MainConfig(paper=paper))
    large = execute_compiled(made, columns, silent)
    for module, name in ((host, "ROOM"), (host, "DRAWS"), (host, "REPORT_ROOM"), (engine, "FIRST_ROOM")):
        monkeypatch.setattr(module, name, 2)

    small = execute_compiled(made, columns, silent)

    assert small.tape.orders == large.tape.orders
    assert small.tape.fills == large.tape.fills


def test_a_recorded_latency_is_read_as_elsewhere(plan: MakePlan, tmp_path: Path) -> None:
    profile, columns = tmp_path / "profile.csv", wild_columns(12, 300)
    begin, end = int(columns.times[0]), int(columns.times[-1])
    profile.write_text(f"ts_ns,order_ns,response_ns\n{begin + 10**9},1000000,7\n{(begin + end) // 2},900000000,30000\n{end},5,2000000\n")
    paper = PaperConfig(latency_profile=str(profile))
    made = replace(of(plan(), WildCompiled, often=700), settings=MainConfig(paper=paper))

    run, lean = execute_compiled(made, columns, silent), execute_lean(made, columns, silent)

    assert run.tape.orders == lean.tape.orders
    assert len(run.tape.orders) > 100


# --- what it does not do -------------------------------------------------------------------------------------------------------


@njit(cache=True)
def ask_nothing(market: Market, orders: Orders, state: Any) -> None:
    """Send an order of no lots."""
    submit(orders, BUY, 0, 1_000)


@njit(cache=True)
def ask_much(market: Market, orders: Orders, state: Any) -> None:
    """Send more than there is room for."""
    for away in range(2_000 if has_both(market) else 0):
        quote(orders, BUY, 1, best_bid(market) - away)


class Refused(CompiledStrategy):
    """Raises."""

    State = STATE
    on_event = staticmethod(ask_nothing)


class Greedy(CompiledStrategy):
    """Gives too many commands."""

    State = STATE
    on_event = staticmethod(ask_much)


@pytest.mark.parametrize("run", [execute_compiled, execute_lean])
@pytest.mark.parametrize(("cls", "words"), [(Refused, "raised: ValueError: quantity must be"), (Greedy, "more than 1,024 commands")])
def test_a_strategy_that_asks_for_what_cannot_be_ends_the_run_in_words(plan: MakePlan, cls: type[Strategy], words: str, run: Any) -> None:
    with pytest.raises(StartRefused, match=words):
        run(of(plan(), cls), wild_columns(3, 100), silent)


class Plain(Strategy):
    """Is interpreted."""

    def on_dom(self, update: DomUpdated) -> None:
        """Do nothing."""


class Uncompiled(CompiledStrategy):
    """Forgot the compiler."""

    on_event = staticmethod(lambda market, orders, state: None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class": Plain}, "Plain is no CompiledStrategy"),
        ({"class": Uncompiled}, "Uncompiled.on_event is no compiled function"),
        ({"is_lean": True}, "--compiled and --lean"),
        ({"ml": "model"}, "ask for no predictions"),
        ({"keep": Path("kept")}, "has no journal"),
        ({"paper": PaperConfig(queue_model="fifo")}, "queue_model fifo"),
        ({"paper": PaperConfig(feed_latency_ms=5)}, "feed_latency_ms"),
        ({"paper": PaperConfig(cash=Decimal(5))}, "paper.cash"),
        ({"risk": RiskLimits(max_daily_loss=Decimal(5))}, "risk.max_daily_loss is set"),
        ({"risk": RiskLimits(max_open_orders=500)}, "risk.max_open_orders is 500, allowed up to 256"),
    ],
)
def test_what_it_cannot_do_is_refused_before_it_runs(plan: MakePlan, change: dict[str, Any], words: str) -> None:
    made = of(plan(), change.pop("class", WildCompiled))
    main = MainConfig(**{name: change.pop(name) for name in ("paper", "risk") if name in change})

    with pytest.raises(ConfigError, match=words):
        check_compiled(replace(made, settings=main, is_compiled=True, **change))


def test_positions_whose_cost_has_no_room_are_refused(plan: MakePlan) -> None:
    made = replace(of(plan(), WildCompiled), settings=MainConfig(risk=RiskLimits(max_position=10**9, price_collar_ticks=10**6)))

    with pytest.raises(ConfigError, match="more money than a compiled backtest can count; lower it"):
        execute_compiled(made, wild_columns(3, 50), silent)


# --- machine code that is kept ---------------------------------------------------------------------------------------------------


def test_machine_code_that_is_older_than_our_source_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "mine.py"
    source.write_text("from numba import njit\n@njit(cache=True)\ndef double(x):\n    return 2 * x\n")
    space: dict[str, Any] = {"__file__": str(source), "__name__": "mine"}
    exec(compile(source.read_text(), source, "exec"), space)
    assert space["double"](4) == 8
    kept = list(Path(space["double"].stats.cache_path).glob("mine.*.nbi"))

    assert drop_stale([space["double"]]) == 0
    os.utime(kept[0], (1, 1))
    assert drop_stale([space["double"]]) == 1
    assert not kept[0].exists()


def test_a_field_begins_with_the_parameter_of_its_name() -> None:
    state = WildCompiled.first_state(WildCompiled.Parameters(seed=9, often=4))

    assert (state["seed"], state["often"], state["seen"]) == (9, 4, 0)
    assert state.dtype == np.dtype(STATE)
