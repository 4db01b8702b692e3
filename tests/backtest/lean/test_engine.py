"""A lean backtest trades what the whole one trades, and refuses what it cannot do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framework.backtest.engine import Plan, Run, Source, execute
from framework.backtest.lean.allowed import check_lean
from framework.backtest.lean.columns import read_columns
from framework.backtest.lean.engine import execute_lean, run_lean
from framework.backtest.planning import plan_for
from framework.config import MainConfig, PaperConfig, RiskLimits
from framework.errors import ConfigError, StartRefused
from framework.messages import DomUpdated
from framework.model import Side, TimeInForce
from framework.strategy import Strategy
from tests.flows.harness import record_market

MakePlan = Callable[..., Plan]
LIMITS = RiskLimits(max_orders_per_second=3, max_cancels_per_second=2, price_collar_ticks=8)


def silent(_stage: str, _share: float) -> None:
    """Say nothing."""


def wild(folder: Path, data: list[Path], instrument_id: str, seed: int, share: float, settings: MainConfig) -> Plan:
    file = folder / f"wild-{seed}.yaml"
    file.write_text(
        f"name: wild\nstrategy: tests.backtest.lean.wild_strategy:WildStrategy\ninstrument_id: {instrument_id}\n"
        f"parameters:\n  seed: {seed}\n  share: {share}\n"
    )
    return plan_for(file, data, ml="off", latency=None, settings=settings, instrument_id=None, state_dir=folder / "state", seed=7)


def lean(plan: Plan) -> Run:
    return execute_lean(plan, read_columns(plan.data, plan.deployment.file.instrument_id, silent), silent)


def both(plan: Plan) -> tuple[tuple[Run, list[Any]], tuple[Run, list[Any]]]:
    """Run a plan whole and lean; return each with what its strategy saw."""
    whole = execute(plan, Source(kind="off"), silent), seen_by(plan)
    return whole, (lean(plan), seen_by(plan))


def seen_by(plan: Plan) -> list[Any]:
    """Return what the strategy of the last run saw."""
    found: list[Any] = plan.deployment.strategy_class.seen  # type: ignore[attr-defined]
    return found


def money(run: Run) -> tuple[Any, ...]:
    summary = run.summary
    return summary.orders, summary.fills, summary.position, summary.realized_pnl, summary.unrealized_pnl, summary.fees


@pytest.mark.parametrize(
    ("seed", "paper"),
    [
        (1, PaperConfig()),
        (2, PaperConfig(order_latency_ms=0, response_latency_ms=0)),
        (3, PaperConfig(queue_model="power", order_latency_ms=150, response_latency_ms=40)),
        (4, PaperConfig(queue_model="log", queue_power=1.0)),
    ],
)
def test_every_fill_every_denial_and_every_sight_is_that_of_the_whole_backtest(
    seed: int, paper: PaperConfig, recording: Path, tmp_path: Path
) -> None:
    plan = wild(tmp_path, [recording], "TIDE.SIM", seed, 0.3, MainConfig(paper=paper, risk=LIMITS))

    (whole, whole_saw), (run, saw) = both(plan)

    assert len(run.tape.fills) > 30
    assert run.tape.fills == whole.tape.fills
    assert run.tape.orders == whole.tape.orders
    assert {kind for kind, *_ in saw} >= {"fill", "window", "denied"}
    assert saw == whole_saw
    assert money(run) == money(whole)


def test_a_day_with_breaks_of_a_real_exchange_is_traded_the_same(recordings: Path, tmp_path: Path) -> None:
    path = recordings / "shfe_rb_l2" / "rb_20250605.parquet"
    if not path.exists():
        pytest.skip("no such recording")
    plan = wild(tmp_path, [path], "rb2510.SHFE", 5, 0.02, MainConfig(risk=LIMITS))
    first = read_columns([path], "rb2510.SHFE", silent)
    plan = replace(plan, from_ns=int(first.times[0]), to_ns=int(first.times[0]) + 4 * 3_600 * 10**9)

    whole = execute(plan, Source(kind="off"), silent)
    whole_saw = seen_by(plan)
    columns = read_columns([path], "rb2510.SHFE", silent, from_ns=plan.from_ns, to_ns=plan.to_ns)
    run = execute_lean(plan, columns, silent)

    assert any(kind == "session" for kind, *_ in seen_by(plan))
    assert seen_by(plan) == whole_saw
    assert run.tape.fills == whole.tape.fills
    assert money(run) == money(whole)


def test_the_prices_that_figures_are_made_of_are_the_same(plan: MakePlan) -> None:
    made = plan()

    whole, run = execute(made, Source(kind="off"), silent), lean(made)

    touches = (whole.tape.touch("TIDE.SIM"), run.tape.touch("TIDE.SIM"))
    for name in ("ts_event", "bid_ticks", "ask_ticks", "mid_ticks"):
        assert np.array_equal(*(getattr(touch, name) for touch in touches))
    assert run.tape.decisions == whole.tape.decisions
    assert (run.start_ns, run.summary.events) == (whole.start_ns, whole.summary.events)


def test_a_recording_that_was_written_anew_is_read_anew(plan: MakePlan, tmp_path: Path) -> None:
    made, path = replace(plan(), is_lean=True), tmp_path / "market"
    found = []
    for seed in (21, 22):
        shutil.rmtree(path, ignore_errors=True)
        record_market(path, seed=seed, duration_s=20.0)
        found.append(run_lean(replace(made, data=(path,)), silent).tape.touch("TIDE.SIM").mid_ticks)

    assert not np.array_equal(found[0], found[1])


class Eager(Strategy):
    """Trades at every book, the last one too."""

    def on_dom(self, update: DomUpdated) -> None:
        """Buy what is there, or sell."""
        if update.book.ask_ticks and update.book.bid_ticks:
            side = Side.SELL if self.position_lots > 0 else Side.BUY
            self.cancel_all()
            self.submit(side, 1, time_in_force=TimeInForce.IOC)
            self.submit(Side.BUY, 1, limit_ticks=update.book.bid_ticks[0] - 3)


def test_what_is_on_its_way_at_the_end_arrives(plan: MakePlan) -> None:
    made = plan(
        settings=MainConfig(
            risk=RiskLimits(max_orders_per_second=100, max_cancels_per_second=1_000, max_orders_per_minute=0, duplicate_window_s=0)
        )
    )
    made = replace(made, deployment=replace(made.deployment, strategy_class=Eager))

    whole, run = execute(made, Source(kind="off"), silent), lean(made)

    assert max(fill.ts_event for fill in run.tape.fills) > int(run.tape.touch("TIDE.SIM").ts_event[-1])
    assert run.tape.fills == whole.tape.fills
    assert money(run) == money(whole)


class Listener(Strategy):
    """Wants bars."""

    def on_bar(self, bar: Any) -> None:
        """Take it."""


class Raiser(Strategy):
    """Fails at the first book."""

    def on_dom(self, update: DomUpdated) -> None:
        """Raise."""
        raise ZeroDivisionError("of my own")


class Protector(Strategy):
    """Sends a stop."""

    def on_dom(self, update: DomUpdated) -> None:
        """Send it."""
        self.buy(1, stop_ticks=update.book.ask_ticks[0] + 5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ml": "model"}, "asks for predictions"),
        ({"paper": PaperConfig(queue_model="fifo")}, "queue_model fifo"),
        ({"paper": PaperConfig(feed_latency_ms=5)}, "feed_latency_ms"),
        ({"risk": RiskLimits(max_daily_loss=Decimal(5))}, "risk.max_daily_loss is set"),
        ({"risk": RiskLimits.model_validate({"account": {"max_position": 3}})}, "risk.account.max_position is set"),
        ({"risk": RiskLimits.model_validate({"strategies": {"a": {"max_position": 3}}})}, "risk.strategies.a is set"),
        ({"keep": Path("kept")}, "has no journal"),
        ({"class": Listener}, "listens to bars"),
    ],
)
def test_what_it_cannot_do_is_refused_before_it_runs(plan: MakePlan, change: dict[str, Any], words: str) -> None:
    made = plan()
    if "ml" in change or "keep" in change:
        made = replace(made, **change)
    elif "class" in change:
        made = replace(made, deployment=replace(made.deployment, strategy_class=change["class"]))
    else:
        made = replace(made, settings=MainConfig(**change))

    with pytest.raises(ConfigError, match=words) as refusal:
        check_lean(made)
    assert "leave --lean out" in str(refusal.value)


class Shy(Strategy):
    """Takes profit with an order that rests and may only reduce."""

    def on_dom(self, update: DomUpdated) -> None:
        """Send it."""
        self.sell(1, limit_ticks=update.book.ask_ticks[0] + 5, reduce_only=True)


@pytest.mark.parametrize(("strategy", "words"), [(Protector, "knows no STOP orders"), (Shy, "no reduce-only orders that rest")])
def test_orders_that_need_more_are_refused_when_they_come(plan: MakePlan, strategy: type[Strategy], words: str) -> None:
    made = plan()

    with pytest.raises(ConfigError, match=f"{words}.*leave --lean out"):
        lean(replace(made, deployment=replace(made.deployment, strategy_class=strategy)))


def test_what_a_strategy_raises_ends_the_run_in_words(plan: MakePlan) -> None:
    made = plan()

    with pytest.raises(StartRefused, match="raised: ZeroDivisionError: of my own"):
        lean(replace(made, deployment=replace(made.deployment, strategy_class=Raiser)))
