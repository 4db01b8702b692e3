"""A run's twin is the same run, until something is changed: then the gap has that change as its first cause."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from framework.backtest.engine import Plan, Source
from framework.backtest.latency import Lognormal
from framework.backtest.planning import plan_for
from framework.backtest.twin import InOrder, Twin, plan_twin, read_change, run_twin
from framework.cli.door import enter
from framework.cli.twin import gap
from framework.config import MainConfig
from framework.errors import ConfigError, IntegrityError, StartRefused
from framework.operations.options import Summary
from framework.operations.state_views import reading, runs
from framework.research.run_diff import Cause, compare
from framework.trading.journal import Journal
from tests.backtest.conftest import STRATEGIES
from tests.backtest.test_engine import go, silent

MakePlan = Callable[..., Plan]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, recording: Path, answered: Callable[[], Source]) -> Path:
    """A run with predictions that took their time, each another one."""
    folder = tmp_path_factory.mktemp("twins") / "run"
    go(replace(shipped(recording, folder, "ml_futures"), latency=Lognormal(40.0, 1.0), keep=folder), answered())
    return folder


def shipped(recording: Path, state_dir: Path, name: str = "book_imbalance") -> Plan:
    return plan_for(
        STRATEGIES / f"{name}.yaml",
        [recording],
        ml="off",
        latency=None,
        settings=MainConfig(),
        instrument_id=None,
        state_dir=state_dir,
        seed=7,
    )


def twin_of(run_dir: Path, keep: Path, **changes: Any) -> Twin:
    wanted = {name.replace("__", "."): value for name, value in changes.items()}
    return run_twin(plan_twin(run_dir, keep=keep, changes=wanted), run_dir, wanted, silent)


def test_with_nothing_changed_the_twin_is_the_run_with_each_latency_as_it_was(run_dir: Path, tmp_path: Path) -> None:
    found = twin_of(run_dir, tmp_path / "twin")

    assert found.diff.is_same
    assert found.diff.orders_same > 10
    assert found.run == found.twin
    assert not any(gap(found.run, found.twin).values())
    assert found.is_as_asked


@pytest.mark.parametrize(
    ("name", "value", "cause", "behind"),
    [
        ("parameters.order_quantity", 2, Cause.ORDER, "strategy ml_futures"),
        ("paper.order_latency_ms", 400.0, Cause.FILL, "paper.order_latency_ms"),
        ("risk.max_order_quantity", 1, Cause.VERDICT, "risk.max_order_quantity"),
    ],
)
def test_what_is_set_otherwise_is_the_first_cause_of_the_gap(
    run_dir: Path, tmp_path: Path, name: str, value: Any, cause: Cause, behind: str
) -> None:
    found = twin_of(run_dir, tmp_path / "twin", **{name: value})

    assert found.diff.parting is not None
    assert found.diff.parting.cause is cause
    assert behind in found.diff.parting.behind
    assert (found.is_as_asked, found.changed) == (True, {name: value})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("order_quantity", "--set: found order_quantity; allowed KEY=VALUE"),
        ("=3", "allowed KEY=VALUE"),
        ("a b=3", "allowed KEY=VALUE"),
    ],
)
def test_a_change_that_cannot_be_read_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_change(text)


def test_a_change_is_a_number_where_it_reads_as_one_and_a_text_else() -> None:
    assert read_change("paper.queue_model=log") == ("paper.queue_model", "log")
    assert read_change("parameters.levels=5") == ("parameters.levels", 5)
    assert read_change("parameters.allow_short=false") == ("parameters.allow_short", False)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("parameters.levles", 5, "levles"),
        ("parameters.levels", 99, "levels"),
        ("paper.queue_model", "fairy", "--set paper.queue_model: found fairy"),
        ("risk.nonsense", 1, "--set risk.nonsense"),
        ("name.first", 1, "name is one setting"),
    ],
)
def test_a_key_or_value_that_is_not_allowed_is_refused_before_anything_runs(
    run_dir: Path, tmp_path: Path, name: str, value: Any, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        plan_twin(run_dir, keep=tmp_path / "twin", changes={name: value})

    assert not (tmp_path / "twin").exists()


def test_a_run_that_is_not_there_or_a_strategy_that_did_not_run_is_refused(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="no journal"):
        plan_twin(tmp_path / "nowhere", keep=tmp_path / "twin")
    with pytest.raises(ConfigError, match="this run traded ml_futures; name one"):
        plan_twin(run_dir, keep=tmp_path / "twin", strategy="nobody")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"market": ("simulated",)}, "without recording it: start with --record DIR"),
        ({"market": ("gone.parquet",)}, "the run's market is not here: gone.parquet; say where it is with --data"),
        ({"settings": ""}, "did not write its settings down"),
    ],
    ids=["not recorded", "moved away", "no settings"],
)
def test_a_run_that_cannot_be_repeated_is_refused_with_what_to_do(
    run_dir: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with reading(run_dir) as journal:
        [started] = runs(journal)
        [stored] = journal.deployments().values()
    journal = Journal(tmp_path / "journal.sqlite")
    journal.append("RunStarted", msgspec.structs.replace(started, **changes), durable=True)
    journal.put_deployment(stored.name, stored.body, stored.digest, stored.deployed_ns)
    journal.close()

    with pytest.raises(ConfigError, match=words):
        plan_twin(tmp_path, keep=tmp_path / "twin")


def test_a_journal_of_several_runs_has_no_twin(run_dir: Path, tmp_path: Path) -> None:
    with reading(run_dir) as journal:
        [started] = runs(journal)
    journal = Journal(tmp_path / "journal.sqlite")
    for _ in range(2):
        journal.append("RunStarted", started, durable=True)
    journal.close()

    with pytest.raises(ConfigError, match="its journal has 2 runs; a twin repeats one that began flat"):
        plan_twin(tmp_path, keep=tmp_path / "twin")


def test_a_market_that_was_moved_is_found_where_data_says(run_dir: Path, recording: Path, tmp_path: Path) -> None:
    moved = tmp_path / recording.name
    shutil.copytree(recording, moved)

    found = run_twin(plan_twin(run_dir, keep=tmp_path / "twin", data=[moved]), run_dir, {}, silent)

    assert found.diff.is_same


def test_round_trips_come_in_their_order_and_begin_again_when_they_are_used_up() -> None:
    latency = InOrder((1.0, 2.0, 3.0))
    random = np.random.default_rng(1)

    assert latency.draw_ms(random, 2).tolist() == [1.0, 2.0]
    assert latency.draw_ms(random, 3).tolist() == [3.0, 1.0, 2.0]


def _code_of(run_dir: Path) -> Callable[[], str]:
    """Return the digest of the code that a run had: an editor may be at work while tests run."""
    with reading(run_dir) as journal:
        version = runs(journal)[0].version
    return lambda: version


# --- the verb ------------------------------------------------------------------------------------------------------------------


def not_started(_: object) -> Summary:
    raise AssertionError("nothing is started here")


def test_the_verb_answers_with_run_twin_and_gap(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["twin", str(run_dir), "--set", "parameters.order_quantity=2", "--keep", str(tmp_path / "kept")]
    (tmp_path / "kept").mkdir()

    assert enter([*arguments, "--json"], not_started) == 0
    found = json.loads(capsys.readouterr().out)

    assert found["changed"] == {"parameters.order_quantity": 2}
    assert found["gap"]["lots"] == found["twin"]["lots"] - found["run"]["lots"] > 0
    assert found["diff"]["parting"]["cause"] == Cause.ORDER
    assert compare(run_dir, tmp_path / "kept").orders_same == found["diff"]["orders_same"]
    assert enter(arguments, not_started) == ConfigError.exit_code
    assert "is there already" in capsys.readouterr().err


def test_the_verb_shows_both_sides_and_where_they_part(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert enter(["twin", str(run_dir), "--latency", "60"], not_started) == 0

    shown = " ".join(capsys.readouterr().out.split())
    assert "ml_futures and its twin: nothing changed" in shown
    assert "when a prediction arrived" in shown


def test_a_run_that_answers_its_own_question_otherwise_ends_with_the_exit_code_of_integrity(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = shipped(recording, tmp_path / "run")
    other = made.deployment.parameters.model_copy(update={"order_quantity": 2})  # which its digest does not know
    go(replace(made, deployment=replace(made.deployment, parameters=other), keep=tmp_path / "run"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("framework.operations.run_record.code_digest", _code_of(tmp_path / "run"))
        assert enter(["twin", str(tmp_path / "run"), "--json"], not_started) == IntegrityError.exit_code
    found = json.loads(capsys.readouterr().out)
    assert found["diff"]["unexplained"] > 0
    assert not found["diff"]["parting"]["is_explained"]


@pytest.mark.parametrize("change", ["parameters.levels=99", "paper.queue_model=fairy", "levels"])
def test_the_verb_refuses_a_change_that_is_not_allowed(run_dir: Path, capsys: pytest.CaptureFixture[str], change: str) -> None:
    assert enter(["twin", str(run_dir), "--set", change], not_started) == ConfigError.exit_code
    assert capsys.readouterr().err.startswith("error: ")
