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
from framework.config import MainConfig, MLServiceConfig, PaperConfig, RiskLimits, TrainingConfig
from framework.errors import StartRefused
from framework.operations.state_views import reading
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
        *,
        latency_ms: float = 5.0,
        spoil: Callable[[Any], Any] | None = None,
        parameters: dict[str, Any] | None = None,
        hidden: dict[str, Any] | None = None,
        **options: Any,
    ) -> Path:
        made = plan("ml_futures", **options)
        source = answered()
        assert source.answers is not None
        if spoil is not None:
            table: Any = source.answers._table
            source.answers._table = {key: spoil(answer) if place > 300 else answer for place, (key, answer) in enumerate(table.items())}
        shipped = made.deployment
        file = shipped.file.model_copy(update={"parameters": shipped.file.parameters | (parameters or {})})
        known = shipped.parameters.model_copy(update=(parameters or {}) | (hidden or {}))
        deployment = replace(shipped, parameters=known, file=file)
        folder = tmp_path / f"run-{next(number)}"
        go(replace(made, deployment=deployment, keep=folder, latency=Constant(latency_ms)), source)
        return folder

    return run


def but_code(settings: dict[str, Any]) -> dict[str, Any]:
    """Leave out the digest of our source, which an editor may change between two runs."""
    return {name: pair for name, pair in settings.items() if name != "code"}


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


@pytest.mark.parametrize(
    ("change", "behind"),
    [
        ({"latency_ms": 30.0}, {"replay.prediction_latency_ms": (5.0, 30.0)}),
        ({"settings": MainConfig(risk=RiskLimits(max_order_quantity=1))}, {"risk.max_order_quantity": (10, 1)}),
        ({"settings": MainConfig(paper=PaperConfig(order_latency_ms=300.0))}, {"paper.order_latency_ms": (2.0, 300.0)}),
    ],
    ids=["latency", "limits", "venue"],
)
def test_of_all_settings_those_that_can_be_behind_it_are_named(kept: Runs, change: dict[str, Any], behind: dict[str, Any]) -> None:
    found = compare(kept(), kept(**change))

    assert found.parting is not None
    assert (but_code(found.parting.behind), but_code(found.settings)) == (behind, behind)


def test_settings_that_decide_nothing_about_orders_are_no_difference(kept: Runs) -> None:
    other = MainConfig(ml_service=MLServiceConfig(heartbeat_interval_s=3.0), training=TrainingConfig(horizon_rows=77))

    found = compare(kept(), kept(settings=other))

    assert (found.is_same, but_code(found.settings)) == (True, {})


def test_the_same_question_with_two_answers_is_left_unexplained(kept: Runs) -> None:
    found = compare(kept(), kept(hidden={"order_quantity": 2}))

    assert found.parting is not None
    assert (found.parting.cause, but_code(found.parting.behind)) == (Cause.ORDER, {})
    if not found.parting.behind:
        assert found.unexplained == len(found.pairs) > 10


def test_a_run_that_was_cut_short_explains_what_the_other_goes_on_with(kept: Runs) -> None:
    whole = kept()
    with reading(whole) as journal:
        half_ns = [record.ts_event for record in journal.records("SubmitOrder")][10]

    found = compare(whole, kept(to_ns=half_ns - 2_000_000_000))

    assert found.parting is not None
    assert (found.parting.cause, found.parting.b, found.unexplained) == (Cause.END, None, 0)


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
