"""What becomes of a trained version: first champion, on trial, promoted, refused; who decided and on what evidence."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from framework.window import Rows
from framework.wire import FeedbackItem
from ml_actor.artifacts import pack
from ml_actor.calibration import Calibration, CalibrationKind
from ml_actor.labels import label_rows
from ml_actor.learning import GATE, TRIAL, Learning
from ml_actor.preparation import Recording, window_at
from ml_actor.registry import Registry
from ml_actor.shadow import MAX_CHALLENGERS
from ml_actor.training_job import TrainingResult
from ml_actor.trial import Rules

Market = Callable[..., Rows]
NOW_NS = 1_700_000_000_000_000_000
RULES = Rules()


class Desk:
    """A learning room in lockstep, with what serves."""

    def __init__(self, directory: Path, *, is_shadowing: bool = True, is_lockstep: bool = True, **more: Any) -> None:
        self.registry = Registry(directory, wall_ns=lambda: NOW_NS)
        self.served: list[str] = []
        self.predictor: Any = None
        self.learning = Learning(
            self.registry,
            rules=RULES,
            is_shadowing=is_shadowing,
            is_lockstep=is_lockstep,
            versions_kept=10,
            wall_ns=lambda: NOW_NS,
            **more,
        )
        self.learning.serve = self.serve

    async def start(self) -> None:
        champion = self.learning.open()
        if champion is not None:
            self.serve(champion)
        self.learning.resume()
        self.learning.start(asyncio.to_thread)

    def serve(self, predictor: Any) -> None:
        self.served.append(predictor.version)
        self.predictor = self.learning.watch(predictor)

    async def ask(self, rows: Rows, *, step: int = 4, until: Callable[[], bool] = lambda: False) -> int:
        recording = Recording(instrument_id="ES.SIM", tick_size=0.25, has_trades=True, rows=rows)
        for count, row in enumerate(range(100, len(rows), step)):
            self.predictor.predict(window_at(recording, row, 100))
            self.learning.settle()
            if until():
                return count
        return count

    def acts(self) -> list[tuple[str, str, str]]:
        return [(decision.act, decision.version, decision.by) for decision in self.registry.decisions()]


def result_of(version: str, **verdict: Any) -> TrainingResult:
    return TrainingResult(ok=True, version=version, metrics={"n": 1}, promote_reason="said so", **verdict)


@pytest.fixture(scope="session")
def random_version(tmp_path_factory: pytest.TempPathFactory, trained: Any) -> Path:
    """A registry with one version that knows nothing: the trained one, made as unsure as can be."""
    directory = tmp_path_factory.mktemp("random") / "models"
    bundle = trained.registry.load(trained.result.version)
    flat = Calibration(kind=CalibrationKind.TEMPERATURE, parameters=np.array([50.0]))
    unsure = dataclasses.replace(bundle, heads=(dataclasses.replace(bundle.traded, calibration=flat),))
    files = pack(unsure, [trained.window(row) for row in (500, 900)])
    Registry(directory).save(files, window_rows=100, horizon_rows=10, facts={"data": {"end_ns": 0}})
    return directory


@pytest.fixture
def two(random_version: Path, trained: Any, tmp_path: Path) -> tuple[Path, str, str]:
    """A registry with a version that knows nothing and a version that knows the market."""
    shutil.copytree(random_version, tmp_path / "models")
    registry = Registry(tmp_path / "models")
    source = trained.registry.directory / trained.result.version
    files = {path.name: path.read_bytes() for path in source.iterdir() if path.name != "manifest.json"}
    facts = trained.registry.manifest(trained.result.version).facts
    good = registry.save(files, window_rows=100, horizon_rows=10, facts=facts)
    return tmp_path / "models", registry.versions()[-1]["version"], good


async def test_the_first_version_serves_at_once_and_a_later_one_has_to_stand_trial(two: tuple[Path, str, str], make_market: Market) -> None:
    directory, poor, good = two
    desk = Desk(directory)
    await desk.start()
    assert await desk.learning.take(result_of(poor, promote=True, is_first=True)) == "promoted: said so"
    assert await desk.learning.take(result_of(good, promote=True, challenge=True)) == "on trial: said so"
    assert (desk.served, desk.registry.champion()) == ([poor], poor)

    asked = await desk.ask(make_market(9_000, seed=12, segments=1), until=lambda: len(desk.served) > 1)
    await desk.learning.close()

    assert desk.served == [poor, good], desk.registry.decisions()[-1].reason
    assert asked >= 200
    assert desk.acts() == [("promoted", poor, GATE), ("on trial", good, GATE), ("promoted", good, TRIAL)]
    last = desk.registry.decisions()[-1]
    assert (last.before, last.champion, last.at_ns) == (poor, good, NOW_NS)
    assert last.evidence["e_better"] >= 20
    assert last.evidence["scores"]["challenger"]["log_loss"] < last.evidence["scores"]["champion"]["log_loss"]
    assert "better: e-value" in last.reason


async def test_a_worse_version_is_refused_by_its_trial(two: tuple[Path, str, str], make_market: Market) -> None:
    directory, poor, good = two
    desk = Desk(directory)
    await desk.start()
    await desk.learning.take(result_of(good, promote=True, is_first=True))
    await desk.learning.take(result_of(poor, challenge=True))
    await desk.ask(make_market(9_000, seed=12, segments=1), until=lambda: len(desk.acts()) > 2)
    await desk.learning.close()

    assert desk.acts()[-1] == ("refused", poor, TRIAL)
    assert desk.served == [good]
    assert desk.registry.standing().challengers == ()


async def test_the_same_model_again_is_never_promoted(two: tuple[Path, str, str], make_market: Market) -> None:
    directory, _, good = two
    desk = Desk(directory)
    source = directory / good
    files = {path.name: path.read_bytes() for path in source.iterdir() if path.name != "manifest.json"}
    again = desk.registry.save(files, window_rows=100, horizon_rows=10, facts={})
    await desk.start()
    await desk.learning.take(result_of(good, promote=True, is_first=True))
    await desk.learning.take(result_of(again, promote=True, challenge=True))
    await desk.ask(make_market(6_000, seed=12, segments=1))
    await desk.learning.close()

    assert desk.served == [good]
    last = desk.registry.decisions()[-1]
    assert (last.act, last.version, last.evidence["e_better"], last.evidence["log_loss_gain"]) == ("refused", again, 1.0, 0.0)
    assert last.reason.startswith("no difference shown")


async def test_what_the_offline_gate_does_not_let_through_is_refused_with_its_reason(two: tuple[Path, str, str]) -> None:
    directory, poor, good = two
    desk = Desk(directory)
    await desk.start()
    await desk.learning.take(result_of(good, promote=True, is_first=True))

    assert await desk.learning.take(result_of(poor)) == "not promoted: said so"
    assert desk.registry.decisions()[-1].reason == "said so"
    await desk.learning.close()


async def test_with_promotion_offline_the_gate_alone_decides(two: tuple[Path, str, str]) -> None:
    directory, poor, good = two
    desk = Desk(directory, is_shadowing=False)
    await desk.start()
    await desk.learning.take(result_of(poor, promote=True, is_first=True))
    await desk.learning.take(result_of(good, promote=True, challenge=True))
    await desk.learning.close()

    assert desk.served == [poor, good]


async def test_a_pinned_champion_is_replaced_by_no_gate_and_no_trial(two: tuple[Path, str, str], make_market: Market) -> None:
    directory, poor, good = two
    desk = Desk(directory)
    await desk.start()
    await desk.learning.take(result_of(poor, promote=True, is_first=True))
    desk.registry.pin(poor, reason="audit")
    await desk.learning.take(result_of(good, promote=True, challenge=True))
    await desk.ask(make_market(9_000, seed=12, segments=1), until=lambda: desk.acts()[-1][0] == "refused")

    assert desk.served == [poor]
    assert "is pinned" in desk.registry.decisions()[-1].reason
    assert (await desk.learning.take(result_of(good, promote=True, is_first=True))).startswith("not promoted: ")
    await desk.learning.close()


async def test_trials_go_on_after_a_restart(two: tuple[Path, str, str], make_market: Market) -> None:
    directory, poor, good = two
    rows = make_market(9_000, seed=12, segments=1)
    desk = Desk(directory)
    await desk.start()
    await desk.learning.take(result_of(poor, promote=True, is_first=True))
    await desk.learning.take(result_of(good, challenge=True))
    count = iter(range(100))
    await desk.ask(rows, until=lambda: next(count) == 99)
    blocks = desk.learning.lane.trials()[0].blocks
    await desk.learning.close()

    again = Desk(directory)
    await again.start()
    assert (again.served, again.learning.lane.challengers) == ([poor], (good,))
    assert again.learning.lane.trials()[0].blocks == blocks > 0
    await again.learning.close()


async def test_a_challenger_that_made_room_is_refused_in_the_log(two: tuple[Path, str, str]) -> None:
    directory, poor, good = two
    desk = Desk(directory)
    files = {path.name: path.read_bytes() for path in (directory / poor).iterdir() if path.name != "manifest.json"}
    more = [desk.registry.save(files, window_rows=100, horizon_rows=10, facts={"n": n}) for n in range(MAX_CHALLENGERS + 1)]
    await desk.start()
    await desk.learning.take(result_of(good, promote=True, is_first=True))
    for version in more:
        await desk.learning.take(result_of(version, challenge=True))
    await desk.learning.close()

    assert desk.registry.standing().challengers == tuple(more[1:])
    assert desk.acts()[-1] == ("refused", more[0], TRIAL)


async def test_a_disk_that_fails_at_the_verdict_leaves_the_champion(
    two: tuple[Path, str, str], make_market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, poor, good = two
    desk = Desk(directory)
    await desk.start()
    await desk.learning.take(result_of(poor, promote=True, is_first=True))
    await desk.learning.take(result_of(good, challenge=True))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(desk.registry, "promote", full)
    await desk.ask(make_market(9_000, seed=12, segments=1))
    await desk.learning.close()

    assert desk.served == [poor]
    assert desk.registry.champion() == poor


async def test_live_a_verdict_is_carried_out_in_the_thread_while_predictions_go_on(two: tuple[Path, str, str], make_market: Market) -> None:
    directory, poor, good = two
    desk = Desk(directory, is_lockstep=False)
    await desk.start()
    await desk.learning.take(result_of(poor, promote=True, is_first=True))
    await desk.learning.take(result_of(good, challenge=True))
    recording = Recording(instrument_id="ES.SIM", tick_size=0.25, has_trades=True, rows=make_market(9_000, seed=12, segments=1))
    async with asyncio.timeout(60):
        for row in range(100, 9_000, 4):
            desk.predictor.predict(window_at(recording, row, 100))
            while desk.learning.lane.status()["waiting"] > 100:
                await asyncio.sleep(0)
            if len(desk.served) > 1:
                break
        while len(desk.served) == 1 and desk.learning.lane.status()["waiting"]:
            await asyncio.sleep(0)
    await desk.learning.close()

    assert desk.served == [poor, good]


async def test_drift_asks_for_a_training_and_touches_no_model(two: tuple[Path, str, str], make_market: Market) -> None:
    directory, _, good = two
    desk = Desk(directory)
    await desk.start()
    await desk.learning.take(result_of(good, promote=True, is_first=True))
    # The same market with its signal turned round: the champion is wrong now.
    await desk.ask(make_market(6_000, seed=12, signal=-1.0, segments=1), until=lambda: bool(desk.learning.wish))
    wish = desk.learning.wish
    assert wish.startswith("drift: ")
    assert desk.learning.status()["drift"]["alarms"]
    assert desk.served == [good]
    assert desk.acts() == [("promoted", good, GATE)]

    desk.learning.training_begins()
    assert desk.learning.wish == ""
    await desk.learning.close()


async def test_the_features_of_a_real_model_are_watched(two: tuple[Path, str, str], make_market: Market) -> None:
    directory, _, good = two
    desk = Desk(directory)
    await desk.start()
    await desk.learning.take(result_of(good, promote=True, is_first=True))
    count = iter(range(10_000))
    await desk.ask(make_market(6_000, seed=12, segments=1), until=lambda: next(count) == 500)
    await desk.learning.close()

    assert desk.learning.status()["drift"]["features_e"] != 1.0
    assert desk.learning.lane.status()["faults"] == 0


async def test_a_model_that_poisoned_feedback_made_lean_is_not_promoted(
    models_copy: Registry, trained: Any, make_market: Market, train_rows: Any
) -> None:
    # Whoever may report decisions can claim them where the mid rose: those rows weigh three times as much in training.
    rows, honest = trained.recording.rows, trained.result.version
    rose = rows.sequence[label_rows(rows, horizon_rows=10, min_history=10).moves > 0]
    lies = tuple(
        FeedbackItem(
            timestamp="2024-01-15T14:30:00Z",
            prediction_flow_type="BUY",
            prediction_confidence=1.0,
            trade_executed=True,
            trade_outcome="PROFIT",
            market_data_snapshot={},
            dom_data_snapshot={},
            instrument_id="ES.SIM",
            as_of_sequence=int(sequence),
        )
        for sequence in rose
    )
    leaning = train_rows(rows, msgspec.structs.replace(trained.job, models_dir=str(models_copy.directory)), feedback=lies)
    assert leaning.ok
    assert leaning.version[6:] != honest[6:]
    desk = Desk(models_copy.directory)
    await desk.start()
    await desk.learning.take(result_of(honest, promote=True, is_first=True))
    await desk.learning.take(result_of(leaning.version, challenge=True))
    await desk.ask(make_market(9_000, seed=34, segments=1))
    await desk.learning.close()

    assert desk.served == [honest]
