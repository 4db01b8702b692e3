"""A version that knows further horizons: each has its own fit, calibration, rule and golden vectors; the traded one rules."""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from framework.errors import IntegrityError
from framework.leak_job import Verdict
from framework.messages import HorizonPrediction, Prediction
from framework.model import FlowType
from framework.window import Rows
from ml_actor.artifacts import pack, unpack
from ml_actor.batch import answers
from ml_actor.evaluation import log_losses
from ml_actor.features.engine import select
from ml_actor.labels import label_rows
from ml_actor.leaks.causality import check_future
from ml_actor.leaks.checks import _predictions
from ml_actor.leaks.columns import Subject, Table
from ml_actor.models import Head
from ml_actor.pipeline import train_on
from ml_actor.preparation import Recording, prepare, window_at, without_unknown_horizons
from ml_actor.refit import choose_refit
from ml_actor.registry import Registry
from ml_actor.training_job import TrainingJob, TrainingResult

JobMaker = Callable[..., TrainingJob]
Trainer = Callable[..., TrainingResult]

FURTHER = (5, 40)
LEARNED = 7_000


@pytest.fixture(scope="module")
def longer(make_market: Callable[..., Rows]) -> Rows:
    return make_market(12_000, seed=11)


@pytest.fixture(scope="module")
def champion(longer: Rows, train_rows: Trainer, job_for: JobMaker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a champion of horizons 10 (traded), 5 and 40, learned from the first 7,000 rows; nobody changes it."""
    directory = tmp_path_factory.mktemp("horizons") / "models"
    result = train_rows(select(longer, slice(0, LEARNED)), job_for(directory, further_horizons_rows=FURTHER))
    assert result.ok, result.reason
    Registry(directory).promote(result.version)
    return directory


@pytest.fixture
def models(champion: Path, tmp_path: Path) -> Path:
    shutil.copytree(champion, tmp_path / "models")
    return tmp_path / "models"


def recording_of(rows: Rows) -> Recording:
    return Recording(instrument_id="ES.SIM", tick_size=0.25, has_trades=True, rows=rows)


def champion_of(directory: Path) -> Any:
    found = Registry(directory).load_champion()
    assert found is not None
    return found


# --- what a version says -------------------------------------------------------------------------------------------


def test_a_version_says_something_of_its_own_about_each_horizon(champion: Path, longer: Rows) -> None:
    bundle = champion_of(champion)
    recording = recording_of(longer)
    for row in (50, 3_000, 11_000):
        said = bundle.predict(window_at(recording, row, 100))
        assert [one.horizon_rows for one in said.horizons] == list(FURTHER)
        assert all(abs(one.p_down + one.p_flat + one.p_up - 1) < 1e-9 for one in said.horizons)
        # The farther the horizon, the less often the mid ends where it was.
        near, far = said.horizons
        assert near.p_flat > said.p_flat > far.p_flat
        for one, head in zip(said.horizons, bundle.heads[1:], strict=True):
            assert (one.flow_type, one.confidence) == head.rule.claim(one.p_down, one.p_flat, one.p_up)


def test_each_horizon_is_right_about_its_own_rows_on_a_later_day(champion: Path, longer: Rows) -> None:
    """A head is better on its own labels than every other head of the version is: the horizons are not mixed up."""
    bundle = champion_of(champion)
    later = select(longer, slice(LEARNED, 12_000))
    said = bundle.over_horizons(bundle.engine.transform_rows(later, has_trades=True))
    for own, horizon in enumerate(bundle.horizons):
        labels = label_rows(later, horizon_rows=horizon, min_history=100)
        classes = labels.classes[labels.is_valid]
        losses = [log_losses(found[labels.is_valid], classes).mean() for found in said]
        assert int(np.argmin(losses)) == own, (horizon, losses)


def test_windows_rows_and_batches_say_the_same_about_each_horizon(champion: Path, longer: Rows) -> None:
    bundle = champion_of(champion)
    rows = select(longer, slice(0, 3_000))
    recording = recording_of(rows)
    batch, together = answers(bundle, rows, has_trades=True), bundle.over_horizons(bundle.engine.transform_rows(rows, has_trades=True))

    for row in (120, 1_500, 2_999):
        for place, one in enumerate(bundle.predict(window_at(recording, row, 100)).horizons, 1):
            np.testing.assert_allclose([one.p_down, one.p_flat, one.p_up], together[place][row], rtol=1e-12)
            columns = [batch[f"{name}_{one.horizon_rows}_rows"][row] for name in ("p_down", "p_flat", "p_up", "flow_type", "confidence")]
            assert columns[3] == one.flow_type
            np.testing.assert_allclose([*columns[:3], columns[4]], [one.p_down, one.p_flat, one.p_up, one.confidence], rtol=1e-12)


def test_a_prediction_knows_the_traded_horizon_and_the_further_ones() -> None:
    further = HorizonPrediction(40, 0.5, 0.25, 0.25, FlowType.SELL, 0.66)
    prediction = Prediction(
        prediction_id="p",
        strategy_id="s",
        instrument_id="ES.SIM",
        flow_type=FlowType.BUY,
        confidence=0.75,
        p_down=0.1,
        p_flat=0.6,
        p_up=0.3,
        model_version="v1",
        is_calibrated=True,
        horizon_rows=10,
        as_of_ns=1,
        as_of_sequence=1,
        received_ns=1,
        horizons=(further,),
    )

    assert prediction.over(40) == further
    assert prediction.over(10) == HorizonPrediction(10, 0.1, 0.6, 0.3, FlowType.BUY, 0.75)
    assert prediction.over(20) is None
    # A journal from before there were further horizons, and one with them, are both read.
    written = msgspec.json.encode(prediction)
    assert msgspec.json.decode(written, type=Prediction) == prediction
    before = {name: value for name, value in msgspec.json.decode(written).items() if name != "horizons"}
    assert msgspec.convert(before, Prediction).horizons == ()


# --- files -----------------------------------------------------------------------------------------------------------


def test_the_manifest_has_metrics_and_choices_of_each_horizon(champion: Path) -> None:
    registry = Registry(champion)
    facts = registry.manifest(registry.champion() or "").facts

    assert set(facts["further_horizons"]) == {"5", "40"}
    for about in facts["further_horizons"].values():
        assert about["calibration"] in ("temperature", "sigmoid")
        assert sum(about["rows_by_slice"].values()) > 3_000
        assert about["parity"]["trees"] <= 1e-7
    near = facts["further_horizons"]["5"]["metrics"]["scores"]
    assert near["model"]["log_loss"] < near["prior"]["log_loss"]
    assert near != facts["metrics"]["scores"]
    assert "horizons_left_out" not in facts


def test_a_version_of_one_horizon_has_the_files_that_it_always_had(champion: Path, longer: Rows) -> None:
    bundle = champion_of(champion)
    recording = recording_of(longer)
    alone = dataclasses.replace(bundle, heads=bundle.heads[:1])
    files = pack(alone, [window_at(recording, 500, 100)])

    with np.load(io.BytesIO(files["linear.npz"])) as arrays:
        assert arrays.files == ["offset", "scale", "weights", "intercept"]
    with np.load(io.BytesIO(files["calibration.npz"])) as arrays:
        assert arrays.files == ["kind", "parameters", "cuts", "rows"]
    assert unpack(files, "v1").horizons == (10,)


@pytest.mark.parametrize("name", ["linear.npz", "trees.npz", "calibration.npz"])
def test_golden_windows_hold_each_horizon(champion: Path, longer: Rows, name: str) -> None:
    """Files in which two further horizons changed places are refused: their golden vectors are not reproduced."""
    bundle = champion_of(champion)
    recording = recording_of(longer)
    windows = [window_at(recording, row, 100) for row in (500, 900)]
    traded, near, far = bundle.heads
    swapped = dataclasses.replace(bundle, heads=(traded, *map(_with_models_of, (near, far), (far, near))))
    files = pack(bundle, windows) | {name: pack(swapped, windows)[name]}

    with pytest.raises(IntegrityError, match="golden window"):
        unpack(files, "v1")


def _with_models_of(head: Head, other: Head) -> Head:
    return dataclasses.replace(other, horizon_rows=head.horizon_rows)


# --- trainings that follow -------------------------------------------------------------------------------------------


def test_a_warm_refit_goes_on_from_every_horizon(models: Path, longer: Rows, train_rows: Trainer, job_for: JobMaker) -> None:
    parent = champion_of(models)
    version = train_rows(longer, job_for(models, refit="warm", further_horizons_rows=FURTHER)).version
    facts, ours = Registry(models).manifest(version).facts, Registry(models).load(version)

    assert facts["refit"]["kind"] == "warm"
    for mine, theirs in zip(ours.heads, parent.heads, strict=True):
        assert mine.horizon_rows == theirs.horizon_rows
        assert np.array_equal(mine.linear.offset, theirs.linear.offset)
        assert not np.array_equal(mine.linear.weights, theirs.linear.weights)
        before = theirs.trees.forest.values
        assert np.array_equal(mine.trees.forest.values[: len(before)], before)


def test_a_champion_of_other_horizons_is_not_gone_on_from(champion: Path, longer: Rows, job_for: JobMaker) -> None:
    job = job_for(champion, refit="warm", further_horizons_rows=(5,))
    found = prepare([recording_of(longer)], job, ())
    assert not isinstance(found, str)
    refit = choose_refit(job, Registry(champion), champion_of(champion), found)

    assert (refit.parent, refit.why) == (None, "nothing to go on from: the champion knows the horizons 10, 5, 40")


def test_a_version_that_knows_more_horizons_and_is_not_worse_serves_at_once(
    models: Path, longer: Rows, train_rows: Trainer, job_for: JobMaker
) -> None:
    more = train_rows(longer, job_for(models, further_horizons_rows=(5, 40, 80)))
    fewer = train_rows(longer, job_for(models))

    assert (more.promote, more.is_first) == (True, True)
    assert "it knows 80 rows too, which the champion does not, and is as good within 0.005 nats" in more.promote_reason
    assert not fewer.is_first


def test_a_horizon_that_there_is_too_little_of_is_left_out_and_said(
    longer: Rows, train_rows: Trainer, job_for: JobMaker, tmp_path: Path
) -> None:
    result = train_rows(select(longer, slice(0, 3_000)), job_for(tmp_path, further_horizons_rows=(5, 400)))
    facts = Registry(tmp_path).manifest(result.version).facts

    assert result.ok
    assert Registry(tmp_path).load(result.version).horizons == (10, 5)
    assert "rows, at least 50 needed" in facts["horizons_left_out"]["400"]


# --- no leaks ------------------------------------------------------------------------------------------------------------


def test_no_label_of_any_horizon_reaches_into_a_later_slice(longer: Rows, job_for: JobMaker) -> None:
    recording = recording_of(longer)
    found = prepare([recording], job_for(Path("none"), further_horizons_rows=FURTHER), ())
    assert not isinstance(found, str)
    (part,), left_out = without_unknown_horizons(found)
    first = [min(int(np.flatnonzero(target.slices == number)[0]) for target in part.targets) for number in range(4)]

    assert not left_out
    for target in part.targets:
        for number in range(3):
            last = int(np.flatnonzero(target.slices == number)[-1])
            assert last + target.horizon_rows < first[number + 1]


def test_the_nets_learn_no_class_of_a_row_that_its_horizon_may_not_use(longer: Rows, job_for: JobMaker) -> None:
    recording = recording_of(longer)
    found = prepare([recording], job_for(Path("none"), further_horizons_rows=(400,)), ())
    assert not isinstance(found, str)
    target = found[0].targets[1]

    assert (target.classes_in(0)[target.slices != 0] == -1).all()
    assert (target.classes_in(0)[target.slices == 0] == target.labels.classes[target.slices == 0]).all()


def test_a_horizon_of_shuffled_labels_has_no_skill(longer: Rows, job_for: JobMaker, tmp_path: Path) -> None:
    """Rows in random order have no future to know: neither the traded horizon nor a further one may find one."""
    rng = np.random.default_rng(5)
    rows = select(longer, slice(0, 3_000))
    order = rng.permutation(len(rows))
    mixed = dataclasses.replace(
        rows,
        **{name: getattr(rows, name)[order] for name in ("bid_sizes", "ask_sizes", "flow")},
    )
    recording = recording_of(mixed)
    job = job_for(tmp_path, further_horizons_rows=(40,))
    result = train_on([recording], job, feedback=(), refused_parts=(), report=lambda *_: None)

    facts = Registry(tmp_path).manifest(result.version).facts
    assert facts["metrics"]["skill"] < 0.05
    assert facts["further_horizons"]["40"]["metrics"]["skill"] < 0.05


def test_the_leak_tool_looks_at_every_horizon_and_names_the_one_that_peeks(champion: Path, longer: Rows) -> None:
    bundle, recording = champion_of(champion), recording_of(select(longer, slice(0, 1_500)))
    honest = _predictions(bundle)
    table = honest.compute(recording)
    assert table.names[2:] == tuple(f"{name} over {rows} rows" for rows in FURTHER for name in ("p_up - p_down", "p_flat"))
    assert all(found.verdict is Verdict.OK for found in check_future(honest, recording, table, seed=1))

    def peeking(one: Recording) -> Table:
        seen = honest.compute(one)
        ahead = np.roll(seen.values[:, -1], -3)
        return Table(names=seen.names, values=np.column_stack([seen.values[:, :-1], ahead]))

    caught = check_future(Subject(title="peeks", compute=peeking), recording, peeking(recording), seed=1)
    assert {found.names for found in caught} == {("p_flat over 40 rows",)}
