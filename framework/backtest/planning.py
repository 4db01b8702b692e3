"""From a strategy's file and recordings to a plan that can run: what can be checked is checked before anything runs.

Apart from `research`, whose tables need polars: who only runs a plan does without its 30 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from framework.backtest.compiled.allowed import check_compiled
from framework.backtest.engine import MODEL, OFF, Plan, check_instrument
from framework.backtest.latency import read_latency
from framework.backtest.lean.allowed import check_lean
from framework.backtest.needs import check_data, check_predictions, check_span
from framework.config import MainConfig
from framework.errors import ConfigError
from framework.market.catalogue.reading import is_known, sources_of
from framework.market.formats.source import make_feed
from framework.operations.deployments import Deployment, read_deployment
from framework.strict_yaml import read_text


def check_way(plan: Plan) -> None:
    """Raise `ConfigError`, with the way out, where a plan asks for something that the way it is to be run does not have."""
    if plan.is_compiled:
        check_compiled(plan)
    elif plan.is_lean:
        check_lean(plan)


def plan_for(
    config: Path,
    data: Sequence[Path],
    *,
    ml: str,
    latency: str | None,
    settings: MainConfig,
    instrument_id: str | None,
    state_dir: Path,
    seed: int,
    **others: Any,
) -> Plan:
    """Check everything that can be checked before anything runs, and return the plan. Raises `ConfigError`, `IntegrityError`.

    A lean or compiled backtest has no predictions: what stands for "the champion" elsewhere is none there.
    """
    ml = OFF if ml == MODEL and (others.get("is_lean") or others.get("is_compiled")) else ml
    for path in data:
        if not is_known(str(path)):
            raise ConfigError(f"--data {path}: there is no such file")
    deployment = _for_instrument(read_deployment(read_text(config), str(config)), instrument_id)
    sources = sources_of([str(path) for path in data])
    feed = make_feed(sources)
    check_instrument(deployment, feed.instruments)
    check_span(sources, others.get("from_ns"), others.get("to_ns"))
    check_data(deployment, sources, feed.read())
    check_predictions(deployment, sources, ml=ml)
    feed.stop()
    plan = Plan(
        deployment=deployment,
        data=tuple(data),
        settings=settings,
        ml=ml,
        latency=None if latency is None else read_latency(latency),
        state_dir=state_dir,
        seed=seed,
        **others,
    )
    check_way(plan)
    return plan


def _for_instrument(deployment: Deployment, instrument_id: str | None) -> Deployment:
    if instrument_id is None:
        return deployment
    return replace(deployment, file=deployment.file.model_copy(update={"instrument_id": instrument_id}))
