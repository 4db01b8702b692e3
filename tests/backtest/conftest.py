"""A recording of the simulated market, and answers that somebody could have given about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framework.backtest.answers import Answer, Answers
from framework.backtest.engine import MODEL, Plan, Source
from framework.backtest.planning import plan_for
from framework.config import MainConfig
from framework.market.formats import open_sources
from framework.messages import BookSnapshot
from framework.operations.lineup import HOME
from tests.flows.harness import record_market

STRATEGIES = HOME / "config" / "strategies"


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of the simulated market."""
    return record_market(tmp_path_factory.mktemp("recorded") / "market", duration_s=120.0)


@pytest.fixture
def plan(recording: Path, tmp_path: Path) -> Callable[..., Plan]:
    """Return a function that plans a backtest of a shipped strategy."""

    def make(name: str = "book_imbalance", **options: Any) -> Plan:
        given: dict[str, Any] = {
            "ml": "off",
            "latency": None,
            "settings": MainConfig(),
            "instrument_id": None,
            "state_dir": tmp_path / "state",
            "seed": 7,
        }
        return plan_for(STRATEGIES / f"{name}.yaml", [recording], **(given | options))

    return make


@pytest.fixture(scope="session")
def answered(recording: Path) -> Callable[[], Source]:
    """Return a source of predictions that says at each book which way the sizes lean."""
    table = {}
    for event in open_sources([recording])[0].events(1):
        if isinstance(event, BookSnapshot) and event.bid_sizes and event.ask_sizes:
            lean = event.bid_sizes[0] / (event.bid_sizes[0] + event.ask_sizes[0])
            flow_type = "BUY" if lean > 0.5 else "SELL"
            said = Answer(0.8 * (1 - lean), 0.2, 0.8 * lean, flow_type, max(lean, 1 - lean), 1, 0.1, "v0001-test", 10, True)
            table[event.instrument_id, event.ts_event, event.sequence] = said
    return lambda: Source(kind=MODEL, answers=Answers(table, "v0001-test"))
