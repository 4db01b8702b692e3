"""Warm refits go on from the champion, full ones begin from nothing; both end before the same gate."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framework.window import Rows
from ml_actor.artifacts import FILES
from ml_actor.features.engine import select
from ml_actor.fitting import TREES
from ml_actor.forest import Forest, extended
from ml_actor.models import TreeModel
from ml_actor.preparation import Recording, prepare
from ml_actor.refit import MAX_TREES, MAX_WARM_ROUNDS, choose_refit
from ml_actor.registry import Registry
from ml_actor.training_job import TrainingJob, TrainingResult

JobMaker = Callable[..., TrainingJob]
Trainer = Callable[..., TrainingResult]


MORE_ROWS = 12_000


@pytest.fixture(scope="module")
def longer(make_market: Callable[..., Rows]) -> Rows:
    """A market that goes on behind the rows that the champion learned from."""
    return make_market(MORE_ROWS, seed=11)


@pytest.fixture(scope="module")
def champion(longer: Rows, train_rows: Trainer, job_for: JobMaker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a champion trained on the first 7,000 of those rows; nobody changes it."""
    directory = tmp_path_factory.mktemp("refit") / "models"
    Registry(directory).promote(train_rows(select(longer, slice(0, 7_000)), job_for(directory)).version)
    return directory


@pytest.fixture
def models(champion: Path, tmp_path: Path) -> Path:
    shutil.copytree(champion, tmp_path / "models")
    return tmp_path / "models"


def facts_of(models: Path, result: TrainingResult) -> dict[str, Any]:
    assert result.ok, result.reason
    return Registry(models).manifest(result.version).facts


def stump(values: tuple[float, float], outputs: int = 3) -> Forest:
    return Forest(
        splits=np.array([[0, 1, 2, 1], [-1, 0, 0, 0], [-1, 0, 0, 0]], np.int32),
        values=np.array([0.5, *values]),
        roots=np.zeros(1, np.int32),
        outputs=np.zeros(1, np.int32),
        base=np.full(outputs, 0.25),
        divisor=np.ones(outputs),
        feature_count=1,
    )


def test_an_extended_forest_adds_up_to_the_sum_of_both() -> None:
    one, more = stump((1.0, 2.0)), stump((-0.5, 4.0))
    features = np.array([[0.0], [1.0], [np.nan]])

    assert np.array_equal(extended(one, more).margins(features), one.margins(features) + more.margins(features))


def test_forests_of_other_numbers_or_means_are_not_extended() -> None:
    with pytest.raises(ValueError, match="only sums of trees"):
        extended(stump((1.0, 2.0)), stump((1.0, 2.0), outputs=2))
    with pytest.raises(ValueError, match="only sums of trees"):
        extended(replace(stump((1.0, 2.0)), divisor=np.full(3, 2.0)), stump((1.0, 2.0)))


def test_a_warm_refit_goes_on_from_the_champion_and_says_so(
    models: Path, longer: Rows, train_rows: Trainer, job_for: JobMaker, champion: Path
) -> None:
    result = train_rows(longer, job_for(models, refit="warm"))
    registry, parent = Registry(models), Registry(champion).load_champion()
    assert parent is not None
    ours = registry.load(result.version)

    assert facts_of(models, result)["refit"] == {"kind": "warm", "parent": parent.version, "since_full": 1, "why": "asked for"}
    assert np.array_equal(ours.traded.linear.offset, parent.traded.linear.offset)
    assert not np.array_equal(ours.traded.linear.weights, parent.traded.linear.weights)
    assert not np.array_equal(ours.neural.weights_1, parent.neural.weights_1)
    added = ours.traded.trees.forest.tree_count - parent.traded.trees.forest.tree_count
    assert 0 <= added <= MAX_WARM_ROUNDS * TREES["num_class"]
    assert np.array_equal(ours.traded.trees.forest.values[: len(parent.traded.trees.forest.values)], parent.traded.trees.forest.values)
    assert ours.engine.regimes is not None
    assert parent.engine.regimes is not None
    assert np.array_equal(ours.engine.regimes.means, parent.engine.regimes.means)
    assert result.metrics["scores"]["model"]["log_loss"] < result.metrics["scores"]["prior"]["log_loss"]
    assert "rows that neither model has seen" in result.promote_reason or "log-loss differs" in result.promote_reason


def test_warm_refits_of_the_same_rows_give_the_same_bytes(models: Path, longer: Rows, train_rows: Trainer, job_for: JobMaker) -> None:
    rows = select(longer, slice(0, 9_000))
    first, second = (train_rows(rows, job_for(models, refit="warm")).version for _ in range(2))

    for name in FILES:
        assert (models / first / name).read_bytes() == (models / second / name).read_bytes(), name

    # Those were two since the last full one.
    assert chosen(models, job_for(models, full_every=3), rows).why == "every 3 trainings"
    assert chosen(models, job_for(models, full_every=4), rows).since_full == 3


def prepared_for(rows: Rows, job: TrainingJob) -> Any:
    found = prepare([Recording(instrument_id="ES.SIM", tick_size=0.25, has_trades=True, rows=rows)], job, ())
    assert not isinstance(found, str)
    return found


def chosen(models: Path, job: TrainingJob, rows: Rows) -> Any:
    registry = Registry(models)
    return choose_refit(job, registry, registry.load_champion(), prepared_for(rows, job))


def test_without_a_champion_a_warm_refit_is_a_full_one(longer: Rows, job_for: JobMaker, tmp_path: Path) -> None:
    found = chosen(tmp_path / "none", job_for(tmp_path / "none", refit="warm"), longer)

    assert found.parent is None
    assert found.why == "nothing to go on from: there is no champion"


def test_a_champion_of_another_horizon_is_not_gone_on_from(models: Path, longer: Rows, job_for: JobMaker) -> None:
    found = chosen(models, job_for(models, refit="warm", horizon_rows=20), longer)

    assert "a horizon of 10 rows" in found.why


def test_a_champion_that_has_learned_the_rows_to_choose_on_is_not_gone_on_from(models: Path, longer: Rows, job_for: JobMaker) -> None:
    found = chosen(models, job_for(models, refit="warm"), select(longer, slice(0, 5_000)))

    assert found.parent is None
    assert "fitted on rows that this training would choose and calibrate on" in found.why


def test_a_champion_with_too_many_trees_is_refitted_in_full(models: Path, longer: Rows, job_for: JobMaker) -> None:
    registry = Registry(models)
    grown = registry.load_champion()
    assert grown is not None
    forest = grown.traded.trees.forest
    while forest.tree_count <= MAX_TREES:
        forest = extended(forest, forest)
    grown = replace(grown, heads=(replace(grown.traded, trees=TreeModel(forest=forest)),))
    job = job_for(models, refit="warm")

    assert "has grown to" in choose_refit(job, registry, grown, prepared_for(longer, job)).why


def test_all_trainings_are_full_ones_unless_something_else_is_asked_for(models: Path, longer: Rows, job_for: JobMaker) -> None:
    assert chosen(models, job_for(models), longer).parent is None
    assert chosen(models, job_for(models, refit="full", full_every=9), longer).parent is None
    assert chosen(models, job_for(models, full_every=9), longer).parent is not None


def test_a_damaged_newest_version_keeps_no_training_from_its_choice(models: Path, longer: Rows, job_for: JobMaker) -> None:
    registry = Registry(models)
    champion = registry.load_champion()
    newest = models / f"v0002-{'0' * 8}"
    newest.mkdir()
    (newest / "manifest.json").write_text("{")

    assert choose_refit(job_for(models, full_every=2), registry, champion, prepared_for(longer, job_for(models))).since_full == 1
