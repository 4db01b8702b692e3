"""Which strategies a run starts: what is deployed, or the demo."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from framework.errors import ConfigError, TidebookError
from framework.operations import deployments
from framework.operations.deployments import Deployment
from framework.operations.trading_process import TradingProcess
from framework.strict_yaml import read_text

HOME: Final = Path(__file__).resolve().parents[2]
DEMO_STRATEGY: Final = Path("config/strategies/ml_futures.yaml")
log = logging.getLogger("Tidebook")


def deployed(process: TradingProcess) -> list[Deployment]:
    """Return what this run trades: the deployments that fit the market, or the demo if nothing is deployed."""
    stored = process.desk.journal.deployments()
    if not stored:
        return [demo(instrument_id) for instrument_id in process.market.instruments]
    found = []
    for one in stored.values():
        try:
            found.append(deployments.recall(one))
        except TidebookError as exc:
            log.error("Strategy %s does not start: %s", one.name, exc)
    return found


def demo(instrument_id: str) -> Deployment:
    """Return the demo strategy, for one instrument."""
    path = HOME / DEMO_STRATEGY
    text = read_text(path)
    demo = deployments.read_deployment(text, str(path))
    name = re.sub(r"[^A-Za-z0-9_-]", "_", f"demo_{instrument_id}")
    return replace(demo, file=demo.file.model_copy(update={"name": name, "instrument_id": instrument_id}))


def start_strategies(process: TradingProcess, deployed: Sequence[Deployment]) -> None:
    """Start each strategy; one that does not fit is named and left out. Raises `ConfigError` when none is left."""
    problems = []
    for one in deployed:
        try:
            process.host.start(one)
        except TidebookError as exc:
            problems.append(str(exc))
            log.error("Strategy %s does not start: %s", one.file.name, exc)
    if problems and not process.host.hosted:
        raise ConfigError(f"no strategy can run: {problems[0]}")
    for (strategy_id, instrument_id), position in process.desk.execution.portfolio.positions().items():
        if position.quantity and strategy_id not in process.host.hosted:
            log.warning("Nobody manages the position of %s: %+d %s (no such strategy runs)", strategy_id, position.quantity, instrument_id)
