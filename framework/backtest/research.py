"""A backtest from a strategy's file to tables and figures: what the verb and notebooks call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from framework.backtest.capacity import capacity, plain
from framework.backtest.engine import MODEL, Plan, Run, Source, execute, prepare
from framework.backtest.frames import account, fills, predictions, trades
from framework.backtest.latency import Constant
from framework.backtest.measures import Tables, measure, warnings
from framework.backtest.planning import plan_for
from framework.backtest.tries import TryLog
from framework.config import MainConfig
from framework.progress import Progress
from framework.strict_yaml import load_main_config


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """What a backtest found: plain figures, a reviewer's warnings, and tables as polars frames."""

    facts: dict[str, Any]
    warnings: list[str]
    fills: pl.DataFrame
    trades: pl.DataFrame
    account: pl.DataFrame
    predictions: pl.DataFrame
    raw: Run


def run(
    config: str | Path,
    data: Sequence[str | Path],
    *,
    ml: str = MODEL,
    latency: str | float | None = None,
    settings: str | Path | MainConfig | None = None,
    instrument_id: str | None = None,
    state_dir: str | Path = ".tidebook",
    seed: int = 7,
    lean: bool = False,
    compiled: bool = False,
) -> Backtest:
    """Backtest the strategy of a YAML file over recordings. Blocks; fine in a notebook. Not counted as a try: `measures` says one.

    `ml` is `off`, `live`, `model`, `model:VERSION` or `recorded:STATE_DIR`; `latency` is ms, or as `--latency` takes it. `lean` runs it
    without the trading process around it: the same fills, many times as fast, no predictions; `compiled` runs a `CompiledStrategy` in one
    compiled loop. Raises `TidebookError` (its words say what to change).
    """
    plan = plan_for(
        Path(config),
        [Path(path) for path in data],
        ml=ml,
        latency=None if latency is None else str(latency),
        settings=settings if isinstance(settings, MainConfig) else load_main_config(Path(settings)) if settings else MainConfig(),
        instrument_id=instrument_id,
        state_dir=Path(state_dir),
        seed=seed,
        is_lean=lean,
        is_compiled=compiled,
    )
    return measured(executed(plan, prepare(plan, _silent), _silent), trials=1)


def executed(plan: Plan, source: Source, on_progress: Progress) -> Run:
    """Run a plan: whole, lean or compiled. Blocks. Raises `TidebookError` when it cannot run."""
    # The entries of compiled code: no other verb, and no trading process, is to pay for loading it.
    if plan.is_compiled:
        from framework.backtest.compiled.engine import run_compiled

        return run_compiled(plan, on_progress)
    if plan.is_lean:
        from framework.backtest.lean.engine import run_lean

        return run_lean(plan, on_progress)
    return execute(plan, source, on_progress)


def measured(ran: Run, *, trials: int, earlier_sharpes: Sequence[float] = ()) -> Backtest:
    """Turn what a run left into tables, figures and warnings."""
    tables = Tables(fills=fills(ran), trades=trades(ran), account=account(ran), predictions=predictions(ran))
    facts = _about(ran) | measure(ran, tables, trials=trials, earlier_sharpes=earlier_sharpes)
    parameters = len(type(ran.plan.deployment.parameters).model_fields)
    return Backtest(
        facts=facts,
        warnings=warnings(ran, tables, facts, parameters),
        fills=tables.fills,
        trades=tables.trades,
        account=tables.account,
        predictions=tables.predictions,
        raw=ran,
    )


def with_capacity(found: Backtest) -> Backtest:
    """Return it with `capacity` in its facts: the recordings are read once more for the sizes that each fill met. Blocks."""
    reckoned = plain(capacity(found.raw, found.facts["net"]))
    return replace(found, facts=found.facts | {"capacity": reckoned})


def _about(ran: Run) -> dict[str, Any]:
    deployment = ran.plan.deployment
    return {
        "strategy": deployment.file.name,
        "strategy_class": deployment.file.strategy,
        "strategy_digest": deployment.digest[:16],
        "instrument_id": deployment.file.instrument_id,
        "currency": ran.instruments[deployment.file.instrument_id].currency,
        "data": [str(path) for path in ran.plan.data],
        "ml": ran.source.kind,
        "model_version": ran.source.answers.version if ran.source.answers else ran.summary.model_version,
        "latency": ran.latency,
        "seed": ran.plan.seed,
        "start_ns": ran.start_ns,
        "end_ns": ran.end_ns,
        "events": ran.summary.events,
    }


def over_latencies(plan: Plan, source: Source, latencies_ms: Sequence[float], on_progress: Progress) -> list[dict[str, Any]]:
    """Run once for each latency, with the same predictions; return what each earned."""
    lines = []
    for number, latency_ms in enumerate(latencies_ms):

        def say(_stage: str, share: float, number: int = number, latency_ms: float = latency_ms) -> None:
            on_progress(f"latency {latency_ms:g} ms", (number + share) / len(latencies_ms))

        found = measured(execute(replace(plan, latency=Constant(latency_ms), keep=None), source, say), trials=1).facts
        lines.append({"latency_ms": latency_ms} | {name: found[name] for name in ("net", "gross", "trades", "fees")})
    return lines


def count_try(plan: Plan, now_ns: int) -> tuple[TryLog, int, tuple[float, ...]]:
    """Count a look at these recordings; return the log, the number of tries with this one, and the Sharpe ratios of those before."""
    log = TryLog(plan.state_dir)
    number, sharpes = log.begin([path.name for path in plan.data], plan.deployment.file.strategy, now_ns)
    return log, number, sharpes


def _silent(_stage: str, _share: float) -> None:
    """Say nothing."""
