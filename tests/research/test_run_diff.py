"""Two runs beside each other: nothing differs in a repetition, and of each kind of change the first effect is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from framework.backtest.engine import Plan, Source
from framework.backtest.latency import Constant
from framework.cli.diff import diff_view
from framework.config import MainConfig, PaperConfig, RiskLimits
from framework.errors import StartRefused
from framework.research.run_diff import Cause, compare
from tests.backtest.conftest import answered, plan, recording  # noqa: F401 (fixtures)
from tests.backtest.test_engine import go

MakePlan = Callable[..., Plan]
Runs = Callable[..., Path]


@pytest.fixture
def kept(plan: MakePlan, answered: Callable[[], Source], tmp_path: Path) -> Runs:  # noqa: F811
    """Return a function that backtests and returns where the run was kept."""
    number = iter(range(100))

    def run(
        *, latency_ms: float = 5.0, spoil: Callable[[Any], Any] | None = None, parameters: dict[str, Any] | None = None, **options: Any
    ) -> Path:
        made = plan("ml_futures", **options)
        source = answered()
        assert source.answers is not None
        if spoil is not None:
            table: Any = source.answers._table
            source.answers._table = {key: spoil(answer) if place > 300 else answer for place, (key, answer) in enumerate(table.items())}
        deployment = replace(made.deployment, parameters=made.deployment.parameters.model_copy(update=parameters or {}))
        folder = tmp_path / f"run-{next(number)}"
        go(replace(made, deployment=deployment, keep=folder, latency=Constant(latency_ms)), source)
        return folder

    return run


def test_a_repetition_differs_in_nothing(kept: Runs) -> None:
    found = compare(kept(), kept())

    assert found.is_same
    assert found.orders_a == found.orders_b == found.orders_same > 10
    assert (found.unexplained, found.pairs, found.parting) == (0, (), None)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"latency_ms": 30.0}, Cause.ARRIVAL),
        ({"spoil": lambda answer: msgspec.structs.replace(answer, confidence=0.51)}, Cause.PREDICTION),
        ({"parameters": {"order_quantity": 2}}, Cause.ORDER),
        ({"settings": MainConfig(risk=RiskLimits(max_order_quantity=1, max_position=1))}, Cause.VERDICT),
        ({"settings": MainConfig(paper=PaperConfig(order_latency_ms=300.0))}, Cause.FILL),
    ],
    ids=["latency", "prediction", "quantity", "limits", "venue"],
)
def test_what_was_changed_is_what_comes_apart_first_and_explains_every_order_that_differs(
    kept: Runs, change: dict[str, Any], cause: Cause
) -> None:
    found = compare(kept(), kept(**change))

    assert found.parting is not None
    assert found.parting.cause == cause
    assert found.parting.number > 0 or cause is Cause.ARRIVAL
    assert found.unexplained == 0
    assert all(pair.is_explained for pair in found.pairs)


def test_one_strategy_can_be_looked_at_alone_and_a_stranger_did_nothing(kept: Runs) -> None:
    first, second = kept(), kept(latency_ms=30.0)

    assert compare(first, second, "nobody").is_same
    assert not compare(first, second, "ml_futures").is_same


def test_the_view_names_the_cause_and_both_sides(kept: Runs) -> None:

    console = Console(width=200, record=True)
    console.print(diff_view(compare(kept(), kept(latency_ms=30.0))))
    text = console.export_text()

    assert "when a prediction arrived" in text
    assert "0 unexplained" in text


def test_a_place_without_a_journal_is_refused(kept: Runs, tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="no journal"):
        compare(kept(), tmp_path / "nowhere")
