"""A compiled backtest trades what the lean one trades: one strategy written twice, and one class that runs in both."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework.backtest.compiled.engine import CompiledRun, execute_compiled
from framework.backtest.engine import Plan, Run
from framework.backtest.lean.columns import MarketColumns, read_columns
from framework.backtest.lean.engine import execute_lean
from framework.backtest.planning import plan_for
from framework.config import MainConfig, PaperConfig, RiskLimits
from framework.messages import SessionChanged
from framework.model import NS_PER_S
from framework.strategy import Strategy
from tests.backtest.compiled.markets import NAME, wild_columns
from tests.backtest.compiled.wild_strategy import WildCompiled
from tests.backtest.compiled.wild_twin import WildTwin

pytestmark = pytest.mark.timeout(600)  # the first one on a machine compiles
QUEUE_MODELS = ("risk_averse", "power", "power_2", "power_3", "log", "log_2")
LOOSE = {"max_orders_per_second": 1_000, "max_orders_per_minute": 0, "duplicate_window_s": 0.0, "max_position": 10_000}
TIGHT = {"max_orders_per_second": 3, "max_orders_per_minute": 40, "max_cancels_per_second": 2, "price_collar_ticks": 2, "max_position": 9}
ODD = {"last_trade_collar_ticks": 1, "prevent_self_trade": False, "max_open_orders": 3, "max_order_quantity": 3, "duplicate_window_s": 5.0}

PAPERS = st.builds(
    PaperConfig,
    queue_model=st.sampled_from(QUEUE_MODELS),
    queue_power=st.sampled_from([0.5, 1.0, 3.0]),
    order_latency_ms=st.sampled_from([0.0, 0.5, 2.0, 300.0]),
    response_latency_ms=st.sampled_from([0.0, 1.0, 150.0]),
    latency_spread=st.sampled_from([0.0, 0.0, 0.7]),
)


def silent(_stage: str, _share: float) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def base(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("wild")
    return wild_plan(folder, [recording], "TIDE.SIM")


def wild_plan(folder: Path, data: list[Path], instrument_id: str) -> Plan:
    file = folder / "wild.yaml"
    file.write_text(f"name: wild\nstrategy: tests.backtest.compiled.wild_strategy:WildCompiled\ninstrument_id: {instrument_id}\n")
    return plan_for(file, data, ml="off", latency=None, settings=MainConfig(), instrument_id=None, state_dir=folder / "state", seed=7)


def drawn(plan: Plan, cls: type[Strategy], seed: int, often: int, main: MainConfig, instrument_id: str = NAME) -> Plan:
    file = plan.deployment.file.model_copy(update={"instrument_id": instrument_id})
    parameters = cls.Parameters.model_validate({"seed": seed, "often": often})
    return replace(plan, deployment=replace(plan.deployment, strategy_class=cls, parameters=parameters, file=file), settings=main)


def assert_same(run: Run, lean: Run) -> None:
    assert run.tape.orders == lean.tape.orders
    assert run.tape.fills == lean.tape.fills
    names = ("events", "orders", "fills", "position", "realized_pnl", "unrealized_pnl", "fees", "market_time_s")
    assert {name: getattr(run.summary, name) for name in names} == {name: getattr(lean.summary, name) for name in names}
    assert run.summary.counters["execution_denied"] == lean.summary.counters["execution_denied"]
    assert (run.start_ns, run.end_ns) == (lean.start_ns, lean.end_ns)


def compiled(plan: Plan, columns: MarketColumns) -> tuple[Run, tuple[int, ...]]:
    hosted = CompiledRun(plan, columns)
    return hosted.run(silent), tuple(int(value) for value in hosted.state)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1 << 30),
    events=st.integers(0, 250),
    often=st.sampled_from([100, 500, 1_000]),
    paper=PAPERS,
    risk=st.sampled_from([LOOSE, TIGHT, ODD, {}]),
    limits=st.sampled_from([None, None, (995, 1_005)]),
)
def test_one_strategy_written_twice_trades_the_same(
    base: Plan, seed: int, events: int, often: int, paper: PaperConfig, risk: dict[str, Any], limits: tuple[int, int] | None
) -> None:
    columns, main = wild_columns(seed, events, limits=limits), MainConfig(paper=paper, risk=RiskLimits.model_validate(risk))

    lean = execute_lean(drawn(base, WildTwin, seed, often, main), columns, silent)
    run, state = compiled(drawn(base, WildCompiled, seed, often, main), columns)

    assert_same(run, lean)
    assert state == WildTwin.left


@pytest.mark.parametrize("queue_model", QUEUE_MODELS)
def test_every_queue_model_on_the_simulated_market(base: Plan, recording: Path, queue_model: str) -> None:
    columns = read_columns([recording], "TIDE.SIM", silent)
    main = MainConfig(paper=PaperConfig.model_validate({"queue_model": queue_model}), risk=RiskLimits(max_orders_per_minute=0))

    lean = execute_lean(drawn(base, WildTwin, 5, 200, main, "TIDE.SIM"), columns, silent)
    run, state = compiled(drawn(base, WildCompiled, 5, 200, main, "TIDE.SIM"), columns)

    assert run.summary.fills > 20
    assert_same(run, lean)
    assert state == WildTwin.left


@pytest.mark.parametrize("way", ["class", "twin"])
def test_the_end_of_a_night_and_the_morning_after_it_on_a_real_exchange(recordings: Path, tmp_path: Path, way: str) -> None:
    path = recordings / "shfe_rb_l2" / "rb_20250605.parquet"
    if not path.exists():
        pytest.skip("no such recording")
    base = wild_plan(tmp_path, [path], "rb2510.SHFE")
    begin, end = (datetime(2025, 6, day, hour, minute, tzinfo=UTC) for day, hour, minute in ((4, 14, 40), (5, 1, 20)))
    span = {name: round(when.timestamp()) * NS_PER_S for name, when in (("from_ns", begin), ("to_ns", end))}
    columns = read_columns([path], "rb2510.SHFE", silent, **span)
    assert any(isinstance(word, SessionChanged) and not word.is_open for word in columns.others)
    main = MainConfig(risk=RiskLimits(max_orders_per_minute=0))

    other = WildCompiled if way == "class" else WildTwin
    lean = execute_lean(drawn(base, other, 11, 60, main, "rb2510.SHFE"), columns, silent)
    run, _ = compiled(drawn(base, WildCompiled, 11, 60, main, "rb2510.SHFE"), columns)

    assert run.summary.fills > 20
    assert_same(run, lean)


def test_the_class_that_hosts_the_function_elsewhere_gives_the_same(base: Plan, recording: Path) -> None:
    columns, main = wild_columns(4, 400), MainConfig(risk=RiskLimits.model_validate(LOOSE))
    plan = drawn(base, WildCompiled, 4, 600, main)

    assert_same(execute_compiled(plan, columns, silent), execute_lean(plan, columns, silent))
