from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from framework.dataset import DatasetWriter
from framework.errors import IntegrityError
from framework.model import Instrument
from framework.window import Rows
from framework.wire import FeedbackItem
from ml_actor import pipeline, promotion, training
from ml_actor.artifacts import FILES
from ml_actor.features.engine import select
from ml_actor.outcomes import DECISION_WEIGHT, decision_weights, read_feedback, summary
from ml_actor.registry import Registry
from ml_actor.training_job import CHILD_ENVIRONMENT, TrainingJob, TrainingResult

MarketMaker = Callable[..., Rows]
JobMaker = Callable[..., TrainingJob]
Trainer = Callable[..., TrainingResult]
ROOT = Path(__file__).resolve().parents[2]
ANY_REFUSAL = "0 usable rows of 0, at least 500 needed (training.min_rows): let it record longer"


def item(**changes: Any) -> FeedbackItem:
    fields: dict[str, Any] = {
        "timestamp": "2024-01-15T10:30:15Z",
        "prediction_flow_type": "BUY",
        "prediction_confidence": 0.7,
        "trade_executed": True,
        "trade_outcome": "PROFIT",
        "market_data_snapshot": {},
        "dom_data_snapshot": {},
        "instrument_id": "ES.SIM",
        "as_of_sequence": 5,
        "markouts_ticks": {"1": 0.5},
    }
    return FeedbackItem(**(fields | changes))


# --- a version ---------------------------------------------------------------------------------------------------


def test_training_finds_the_signal_that_is_there_and_beats_every_baseline_without_it(trained: Any) -> None:
    scores = trained.result.metrics["scores"]

    assert trained.result.ok
    assert trained.result.promote
    assert scores["model"]["log_loss"] < min(scores["prior"]["log_loss"], scores["persistence"]["log_loss"])
    assert scores["model"]["auc_up_down"] > 0.68
    assert trained.result.metrics["acting"]["hit_rate"] > 0.6


def test_the_manifest_tells_where_a_version_comes_from(trained: Any) -> None:
    facts = trained.registry.manifest(trained.result.version).facts

    assert facts["reason"] == "test"
    assert facts["data"]["rows"] == {"ES.SIM": 8_000}
    assert facts["data"]["end_ns"] == int(trained.recording.rows.ts_event[-1])
    assert set(facts["libraries"]) == {"numpy", "sklearn", "lightgbm", "treelite", "hmmlearn", "numba"}
    assert facts["metrics"] == trained.result.metrics
    assert facts["negative_control"]["skill"] <= pipeline.MAX_CONTROL_SKILL
    assert all(difference <= 1e-7 for difference in facts["parity"].values())


def test_the_same_rows_and_seed_give_the_same_bytes(trained: Any, train_rows: Trainer, job_for: JobMaker, tmp_path: Path) -> None:
    again = train_rows(trained.recording.rows, job_for(tmp_path / "models"))

    assert again.version == trained.result.version
    assert again.metrics == trained.result.metrics
    for name in FILES:
        one, other = trained.registry.directory / trained.result.version / name, tmp_path / "models" / again.version / name
        assert one.read_bytes() == other.read_bytes(), name


def test_confidence_on_the_last_slice_is_honest(trained: Any) -> None:
    model = trained.result.metrics["scores"]["model"]

    # About 1,100 rows with labels that overlap tenfold: the error of a perfect model is some 5 %.
    assert model["ece_direction"] < 0.12
    assert model["ece_flat"] < 0.12


def test_progress_only_grows(make_market: MarketMaker, train_rows: Trainer, job_for: JobMaker, tmp_path: Path) -> None:
    said: list[tuple[str, float]] = []
    train_rows(make_market(3_000), job_for(tmp_path), report=lambda stage, fraction: said.append((stage, fraction)))

    fractions = [fraction for _, fraction in said]
    assert [stage for stage, _ in said] == ["features", "feature models", "linear, trees", "net", "calibrate", "evaluate", "save"]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] < 1


def test_two_instruments_train_one_model(make_market: MarketMaker, job_for: JobMaker, tmp_path: Path) -> None:
    recordings = [
        pipeline.Recording(instrument_id=name, tick_size=0.25, has_trades=name == "ES.SIM", rows=make_market(4_000, seed=seed))
        for seed, name in enumerate(("ES.SIM", "NQ.SIM"))
    ]
    result = pipeline.train_on(recordings, job_for(tmp_path), feedback=(), refused_parts=(), report=lambda *_: None)

    assert result.ok, result.reason
    assert Registry(tmp_path).manifest(result.version).facts["data"]["rows"] == {"ES.SIM": 4_000, "NQ.SIM": 4_000}


# --- refusals ----------------------------------------------------------------------------------------------------


def test_too_few_rows_are_refused_with_both_numbers(
    make_market: MarketMaker, train_rows: Trainer, job_for: JobMaker, tmp_path: Path
) -> None:
    result = train_rows(make_market(700), job_for(tmp_path / "models", min_rows=3_000))

    assert not result.ok
    assert "at least 3000 needed (training.min_rows)" in result.reason
    assert not (tmp_path / "models").exists()


def test_no_rows_at_all_are_refused(make_market: MarketMaker, train_rows: Trainer, job_for: JobMaker, tmp_path: Path) -> None:
    result = train_rows(select(make_market(10), slice(0, 0)), job_for(tmp_path))

    assert result.reason.startswith("0 usable rows of 0")


def test_a_market_that_never_falls_is_refused_by_name(
    make_market: MarketMaker, train_rows: Trainer, job_for: JobMaker, tmp_path: Path
) -> None:
    rows = make_market(3_000)
    rise = np.repeat(np.arange(300), 10)[:, None].astype(np.int32)
    rising = dataclasses.replace(
        rows, bid_ticks=1_000 + rise - np.arange(10, dtype=np.int32), ask_ticks=1_001 + rise + np.arange(10, dtype=np.int32)
    )
    result = train_rows(rising, job_for(tmp_path))

    assert "no row labelled down or flat" in result.reason


def test_slices_that_the_embargo_eats_are_refused(make_market: MarketMaker, train_rows: Trainer, job_for: JobMaker, tmp_path: Path) -> None:
    result = train_rows(make_market(900), job_for(tmp_path, min_rows=500))

    assert result.reason.startswith("the validation slice has")


def test_a_negative_control_with_skill_is_refused(
    make_market: MarketMaker, train_rows: Trainer, job_for: JobMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_negative_control", lambda *_: {"skill": 0.2, "log_loss": 0.5})
    result = train_rows(make_market(3_000), job_for(tmp_path / "models"))

    assert "shuffled labels gave a skill of 0.2000" in result.reason
    assert not (tmp_path / "models").exists()


def test_a_served_form_that_differs_from_its_fit_is_refused(
    make_market: MarketMaker, train_rows: Trainer, job_for: JobMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differs(*_: Any, **__: Any) -> Any:
        raise pipeline.FitRefused("trees.npz: the served form differs from the fitted model by 0.1")

    monkeypatch.setattr(pipeline, "fit_trees", differs)

    assert "served form differs" in train_rows(make_market(3_000), job_for(tmp_path)).reason


# --- the gate ----------------------------------------------------------------------------------------------------


def test_a_market_without_signal_gives_a_version_that_the_gate_does_not_promote(
    make_market: MarketMaker, train_rows: Trainer, job_for: JobMaker, tmp_path: Path
) -> None:
    result = train_rows(make_market(6_000, signal=0.0, seed=21), job_for(tmp_path))

    assert result.ok
    assert not result.promote
    assert result.promote_reason.startswith("no skill about the direction on the test slice")


def test_a_champion_is_only_compared_on_rows_it_has_not_seen(
    models_copy: Registry, trained: Any, train_rows: Trainer, job_for: JobMaker
) -> None:
    models_copy.promote(trained.result.version)
    again = train_rows(trained.recording.rows, job_for(models_copy.directory))

    assert not again.promote
    assert again.promote_reason.startswith("only 0 rows that neither model has seen")


def test_a_model_of_new_rows_is_compared_with_the_champion_on_them(
    models_copy: Registry, trained: Any, make_market: MarketMaker, train_rows: Trainer, job_for: JobMaker
) -> None:
    models_copy.promote(trained.result.version)
    later = make_market(8_000, seed=12)
    later = dataclasses.replace(later, ts_event=later.ts_event + (trained.recording.rows.ts_event[-1] - later.ts_event[0]) + 1)
    result = train_rows(later, job_for(models_copy.directory))

    assert "log-loss differs by" in result.promote_reason


def test_rows_of_a_market_that_started_its_clock_again_are_unseen_by_the_champion(make_market: MarketMaker) -> None:
    first, second = make_market(300, seed=1, segments=1), make_market(200, seed=2, segments=1)
    both = Rows(
        **{field.name: np.concatenate([getattr(first, field.name), getattr(second, field.name)]) for field in dataclasses.fields(Rows)}
    )
    recording = pipeline.Recording(instrument_id="ES.SIM", tick_size=0.25, has_trades=True, rows=both)
    last = {"ES.SIM": [int(first.ts_event[-1]), int(first.sequence[-1])]}

    assert promotion.unseen_rows(recording, {"last": last}).tolist() == list(range(300, 500))
    assert promotion.unseen_rows(recording, {"last": {}}).tolist() == list(range(500))
    assert (np.diff(recording.times) > 0).all()


# --- feedback ----------------------------------------------------------------------------------------------------


def test_rows_that_were_decided_on_and_have_an_outcome_weigh_more(make_market: MarketMaker) -> None:
    rows = make_market(50)
    feedback = [
        item(as_of_sequence=5),
        item(as_of_sequence=6, trade_executed=False, trade_outcome=None),
        item(as_of_sequence=7, trade_outcome=None, markouts_ticks={}),
        item(as_of_sequence=8, instrument_id="NQ.SIM"),
    ]

    weights = decision_weights(rows, "ES.SIM", feedback)
    assert np.flatnonzero(weights != 1).tolist() == [4, 5]
    assert weights[4] == DECISION_WEIGHT


def test_feedback_changes_the_model_and_is_reported(trained: Any, train_rows: Trainer, job_for: JobMaker, tmp_path: Path) -> None:
    feedback = [item(as_of_sequence=int(sequence), trade_outcome="LOSS") for sequence in trained.recording.rows.sequence[200:4_000:3]]
    result = train_rows(trained.recording.rows, job_for(tmp_path), feedback=feedback)

    assert result.version != trained.result.version
    assert Registry(tmp_path).manifest(result.version).facts["feedback"]["hit_rate"] == 0.0


def test_the_summary_counts_hits_and_signs_markouts_by_the_direction() -> None:
    told = summary(
        [
            item(),
            item(prediction_flow_type="SELL", trade_outcome="LOSS", markouts_ticks={"1": 0.5, "5": -2.0}),
            item(trade_outcome="BREAKEVEN", markouts_ticks={}),
            item(prediction_flow_type=None, trade_executed=False, trade_outcome=None),
            item(prediction_flow_type="nonsense", markouts_ticks={"1": 99.0}),
        ]
    )

    assert told == {"decisions": 5, "executed": 4, "hit_rate": 2 / 3, "markouts_ticks": {"1": 0.0, "5": 2.0}}


def test_a_summary_of_nothing_has_no_hit_rate() -> None:
    assert summary([]) == {"decisions": 0, "executed": 0, "hit_rate": None, "markouts_ticks": {}}


def test_feedback_lines_come_back_as_written_and_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "feedback.jsonl"
    path.write_bytes(b"\n".join(msgspec.json.encode(entry) for entry in (item(), item(as_of_sequence=9))))
    assert [entry.as_of_sequence for entry in read_feedback(path)] == [5, 9]

    path.write_bytes(path.read_bytes() + b"\n{broken")
    with pytest.raises(IntegrityError, match=r"feedback\.jsonl:3"):
        read_feedback(path)


# --- the child process -------------------------------------------------------------------------------------------


@pytest.fixture
def dataset(make_market: MarketMaker, tmp_path: Path) -> Path:
    writer = DatasetWriter(tmp_path / "training_data.parquet", part_rows=1_500)
    rows = make_market(4_000, seed=11)
    for start in range(0, 4_000, 500):
        writer.append(Instrument(instrument_id="ES.SIM", tick_size=Decimal("0.25")), select(rows, slice(start, start + 500)))
    writer.close()
    return writer.directory


def start_child(job: TrainingJob, tmp_path: Path) -> subprocess.Popen[str]:
    path = tmp_path / "job.json"
    path.write_bytes(msgspec.json.encode(job))
    command = [sys.executable, "-m", "ml_actor.training", "--job", str(path)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **CHILD_ENVIRONMENT}
    )


def test_the_child_reads_the_dataset_prints_progress_and_saves_a_version(dataset: Path, job_for: JobMaker, tmp_path: Path) -> None:
    feedback = tmp_path / "feedback.jsonl"
    feedback.write_bytes(msgspec.json.encode(item(as_of_sequence=500)) + b"\n")
    job = job_for(tmp_path / "models", dataset_dir=str(dataset), feedback_file=str(feedback))
    child = start_child(job, tmp_path)
    output, errors = child.communicate(timeout=90)

    lines = [msgspec.json.decode(line) for line in output.splitlines()]
    assert child.returncode == 0, errors
    assert [line["stage"] for line in lines[:-1]][:2] == ["read", "features"]
    result = msgspec.convert(lines[-1]["result"], TrainingResult)
    assert result.ok
    registry = Registry(tmp_path / "models")
    assert registry.load(result.version).horizon_rows == 10
    facts = registry.manifest(result.version).facts
    assert (facts["data"]["rows"], facts["feedback"]["decisions"]) == ({"ES.SIM": 4_000}, 1)


def test_a_child_that_is_killed_leaves_no_version(dataset: Path, job_for: JobMaker, tmp_path: Path) -> None:
    child = start_child(job_for(tmp_path / "models", dataset_dir=str(dataset)), tmp_path)
    assert child.stdout is not None
    while '"linear, trees"' not in child.stdout.readline():
        assert child.poll() is None
    child.kill()
    child.communicate(timeout=30)

    assert Registry(tmp_path / "models").versions() == ()


def test_a_dataset_that_is_not_there_is_refused_and_the_child_ends_well(job_for: JobMaker, tmp_path: Path) -> None:
    child = start_child(job_for(tmp_path / "models", dataset_dir=str(tmp_path / "nowhere")), tmp_path)
    output, _ = child.communicate(timeout=90)

    assert child.returncode == 0
    assert msgspec.json.decode(output.splitlines()[-1]) == {"result": {"ok": False, "reason": ANY_REFUSAL}}


def test_a_damaged_part_is_left_out_and_named_in_the_manifest(dataset: Path, job_for: JobMaker, tmp_path: Path) -> None:
    part = sorted(dataset.glob("part-*"))[0]
    part.write_bytes(part.read_bytes()[:-100])
    result = training.train(job_for(tmp_path / "models", dataset_dir=str(dataset)), lambda *_: None)

    assert result.ok, result.reason
    facts = Registry(tmp_path / "models").manifest(result.version).facts
    assert facts["data"]["rows"] == {"ES.SIM": 2_500}
    assert part.name in facts["data"]["refused_parts"][0]


def test_too_few_rows_because_of_damaged_parts_names_them(dataset: Path, job_for: JobMaker, tmp_path: Path) -> None:
    for part in dataset.glob("part-*"):
        part.write_bytes(b"")
    result = training.train(job_for(tmp_path / "models", dataset_dir=str(dataset)), lambda *_: None)

    assert "3 parts of the dataset were refused, first: part-" in result.reason


def test_a_damaged_feedback_file_is_refused(dataset: Path, job_for: JobMaker, tmp_path: Path) -> None:
    (tmp_path / "feedback.jsonl").write_text("{")
    result = training.train(
        job_for(tmp_path / "models", dataset_dir=str(dataset), feedback_file=str(tmp_path / "feedback.jsonl")), lambda *_: None
    )

    assert "feedback.jsonl:1: not a feedback item" in result.reason


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        (OSError("disk full"), 1, "fault: OSError: disk full"),
        (MemoryError(), 0, "out of memory with 900 MB: raise ml_service.memory_limit_mb or lower training.max_rows"),
    ],
)
def test_what_goes_wrong_in_the_child_is_told_in_its_result_line(
    fault: Exception, code: int, reason: str, job_for: JobMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fails(*_: Any) -> Any:
        raise fault

    (tmp_path / "job.json").write_bytes(msgspec.json.encode(job_for(tmp_path, memory_limit_mb=900)))
    monkeypatch.setattr(training, "train", fails)
    for name in ("die_with_parent", "_restrict"):
        monkeypatch.setattr(training, name, lambda *_: None)

    assert training.main(["--job", str(tmp_path / "job.json")]) == code
    assert msgspec.json.decode(capsys.readouterr().out) == {"result": {"ok": False, "reason": reason}}


# --- real data ---------------------------------------------------------------------------------------------------


@pytest.mark.recordings
@pytest.mark.slow
def test_on_a_real_day_of_rebar_futures_the_model_beats_the_level_1_imbalance(
    rebar_day: Callable[[str], Rows], train_rows: Trainer, job_for: JobMaker, tmp_path: Path
) -> None:
    result = train_rows(rebar_day("20250605"), job_for(tmp_path, horizon_rows=20))
    scores = result.metrics["scores"]

    assert result.promote
    assert scores["model"]["auc_up_down"] > scores["imbalance"]["auc_up_down"]
    assert scores["model"]["log_loss"] < scores["imbalance"]["log_loss"]
    assert math.isfinite(result.metrics["acting"]["mean_move_ticks"])


# --- poison --------------------------------------------------------------------------------------------------------------


def feedback_of(sequences: Any, **fields: Any) -> tuple[FeedbackItem, ...]:
    base: dict[str, Any] = {
        "timestamp": "2024-01-15T14:30:00Z",
        "prediction_flow_type": "BUY",
        "prediction_confidence": 0.9,
        "trade_executed": True,
        "trade_outcome": "PROFIT",
        "market_data_snapshot": {},
        "dom_data_snapshot": {},
        "instrument_id": "ES.SIM",
    } | fields
    return tuple(FeedbackItem(**base, as_of_sequence=int(at), feedback_id=f"f-{number}") for number, at in enumerate(sequences))


@pytest.mark.parametrize(
    "poison",
    [
        {"trade_outcome": "LOSS"},
        {"prediction_flow_type": "SELL"},
        {"pnl": -1e308, "markouts_ticks": {"1s": -1e300}},
        {"prediction_confidence": 0.0, "reason": "x" * 1_000},
    ],
)
def test_flipped_outcomes_and_garbage_numbers_change_nothing_that_training_learns_from(
    make_market: MarketMaker, poison: dict[str, Any]
) -> None:
    # What a training takes from feedback is these weights; the rest is told in the manifest and decides nothing.
    rows, decided = make_market(2_000, seed=31), range(1, 2_000, 20)
    honest = decision_weights(rows, "ES.SIM", feedback_of(decided))

    assert honest.max() == 3.0
    assert decision_weights(rows, "ES.SIM", feedback_of(decided, **poison)).tolist() == honest.tolist()


def test_ten_thousand_copies_of_one_decision_weigh_as_much_as_one(make_market: MarketMaker) -> None:
    rows = make_market(2_000, seed=31)
    once = decision_weights(rows, "ES.SIM", feedback_of([700]))
    often = decision_weights(rows, "ES.SIM", feedback_of([700] * 10_000))
    everywhere = decision_weights(rows, "ES.SIM", feedback_of([10**12, -5, 0]))

    assert often.tolist() == once.tolist()
    assert once.max() == 3.0
    assert set(everywhere) == {1.0}
