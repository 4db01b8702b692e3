"""Training: read, label, fit, calibrate, evaluate on the last slice, save. Runs in a child process of its own.

    python -m ml_actor.training --job FILE.json

prints progress lines `{"stage": ..., "fraction": ...}` and last `{"result": {...}}` (`TrainingResult`). What cannot be
trained is refused with a reason; only a fault of the program ends with another exit code than 0. The parent sets
`training_job.CHILD_ENVIRONMENT` before the start. Importing this module imports the learning libraries; a serving process
imports `training_job` instead.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from framework.dataset import read_dataset
from framework.errors import IntegrityError
from framework.window import BAR_COLUMNS, Float64Array, Int64Array, Rows, Window
from framework.wire import FeedbackItem
from ml_actor import splits
from ml_actor.artifacts import pack
from ml_actor.evaluation import acting, is_better, log_losses, scores, without_nan
from ml_actor.features.catalogue import INDEX
from ml_actor.features.engine import AdvancedMLFeatureEngine, last_rows, mirror, select
from ml_actor.features.regime import observations
from ml_actor.fitting import Examples, NotEqual, calibrate, choose_rule, choose_tree_weight, fit_linear, fit_regimes, fit_shock, fit_trees
from ml_actor.labels import CLASSES, Labels, label_rows
from ml_actor.models import ModelBundle, pool
from ml_actor.outcomes import decision_weights, read_feedback, summary
from ml_actor.registry import Registry
from ml_actor.training_job import TrainingJob, TrainingResult

Report = Callable[[str, float], None]

MIN_HISTORY: Final = 10
MAX_TRAIN_ROWS: Final = 40_000
"""Above it the training slice is thinned evenly: labels overlap, so neighbours say nearly the same."""
MIN_SLICE_ROWS: Final = 50
GOLDEN_WINDOWS: Final = 8
MAX_CONTROL_SKILL: Final = 0.01
_BASELINES: Final = {"imbalance": ("imbalance_1",), "persistence": ("last_move", "return_5", "rows_since_move")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What the dataset holds of one instrument."""

    instrument_id: str
    tick_size: float
    has_trades: bool
    rows: Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A recording with its labels, the slice of each row, weights, and kernel features: plain and mirrored."""

    recording: Recording
    labels: Labels
    slices: Int64Array
    weights: Float64Array
    features: Float64Array
    mirrored: Float64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    """Rows of one slice over all instruments, in time order."""

    examples: Examples
    mirrored: Float64Array
    moves: Int64Array


def train(job: TrainingJob, report: Report) -> TrainingResult:
    """Train on the dataset of `job` and save a version; the same data and seed give the same artifact bytes.

    Returns a refusal when there are too few rows, a class is missing, the feedback file is damaged, or the negative
    control (shuffled labels) shows skill. Raises `OSError` when the disk does not take the version.
    """
    report("read", 0.0)
    read = read_dataset(Path(job.dataset_dir), max_rows=job.max_rows)
    try:
        feedback = read_feedback(job.feedback_file) if job.feedback_file else ()
    except IntegrityError as exc:
        return TrainingResult(ok=False, reason=str(exc))
    recordings = [
        Recording(instrument_id=name, tick_size=part.tick_size, has_trades=part.has_trades, rows=part.rows)
        for name, part in sorted(read.instruments.items())
    ]
    return train_on(recordings, job, feedback=feedback, refused_parts=[str(part) for part in read.refused], report=report)


def train_on(
    recordings: Sequence[Recording], job: TrainingJob, *, feedback: Sequence[FeedbackItem], refused_parts: Sequence[str], report: Report
) -> TrainingResult:
    """Train on recordings that are in memory; otherwise as `train`."""
    report("features", 0.05)
    labels = [label_rows(recording.rows, horizon_rows=job.horizon_rows, min_history=MIN_HISTORY) for recording in recordings]
    objection = _too_few(recordings, labels, job)
    if objection:
        return TrainingResult(ok=False, reason=objection)
    cuts = splits.cut_times(np.concatenate([r.rows.ts_event[found.is_valid] for r, found in zip(recordings, labels, strict=True)]))
    prepared = [_prepare(recording, found, cuts, job, feedback) for recording, found in zip(recordings, labels, strict=True)]
    objection = _missing_class(prepared)
    if objection:
        return TrainingResult(ok=False, reason=objection)
    try:
        bundle, facts = _fit(prepared, cuts, job, report)
    except NotEqual as exc:
        return TrainingResult(ok=False, reason=str(exc))
    skill = facts["negative_control"]["skill"]
    if skill > MAX_CONTROL_SKILL:
        return TrainingResult(ok=False, reason=f"negative control: shuffled labels gave a skill of {skill:.4f}; the data leaks its labels")
    report("save", 0.95)
    facts |= {"data": _data_facts(prepared, refused_parts), "feedback": summary(feedback)} | _origin(job)
    return _save(bundle, prepared, job, without_nan(facts))


def _too_few(recordings: Sequence[Recording], labels: Sequence[Labels], job: TrainingJob) -> str | None:
    usable = sum(int(found.is_valid.sum()) for found in labels)
    if usable >= job.min_rows:
        return None
    rows = sum(len(recording.rows) for recording in recordings)
    return f"{usable} usable rows of {rows}, at least {job.min_rows} needed (training.min_rows): let it record longer"


def _prepare(recording: Recording, labels: Labels, cuts: Int64Array, job: TrainingJob, feedback: Sequence[FeedbackItem]) -> _Prepared:
    engine = AdvancedMLFeatureEngine(window_rows=job.window_rows)
    rows = recording.rows
    return _Prepared(
        recording=recording,
        labels=labels,
        slices=splits.assign(rows, labels, cuts, horizon_rows=job.horizon_rows, embargo_rows=job.window_rows),
        weights=decision_weights(rows, recording.instrument_id, feedback),
        features=engine.transform_rows(rows, has_trades=recording.has_trades),
        mirrored=engine.transform_rows(mirror(rows), has_trades=recording.has_trades),
    )


def _missing_class(prepared: Sequence[_Prepared]) -> str | None:
    for number, name in enumerate(splits.SLICES):
        classes = np.concatenate([part.labels.classes[part.slices == number] for part in prepared])
        if len(classes) < MIN_SLICE_ROWS:
            return f"the {name} slice has {len(classes)} rows, at least {MIN_SLICE_ROWS} needed: let it record longer"
        missing = [CLASSES[label] for label in range(3) if not (classes == label).any()]
        if missing:
            return f"the {name} slice has no row labelled {' or '.join(missing)}: let it record longer or change training.horizon_rows"
    return None


def _fit(prepared: Sequence[_Prepared], cuts: Int64Array, job: TrainingJob, report: Report) -> tuple[ModelBundle, dict[str, Any]]:
    report("feature models", 0.15)
    shock, shock_parity = fit_shock(np.concatenate([part.features[part.slices == splits.TRAIN] for part in prepared]), job.seed)
    regimes = fit_regimes(_training_runs(prepared, cuts), job.seed)
    engine = AdvancedMLFeatureEngine(window_rows=job.window_rows, shock=shock, regimes=regimes)
    slices = _slices(prepared, engine)
    augmented = _augmented(slices[splits.TRAIN])
    report("linear", 0.30)
    linear = fit_linear(augmented)
    report("trees", 0.45)
    validation, later, test = (slices[number].examples for number in (splits.VALIDATION, splits.CALIBRATION, splits.TEST))
    trees, tree_parity = fit_trees(augmented, validation, seed=job.seed)
    report("calibrate", 0.75)
    weight = choose_tree_weight(linear.scores(validation.features), trees.scores(validation.features), validation.classes)
    raw = pool(linear.scores(later.features), trees.scores(later.features), weight)
    calibration = calibrate(raw, later.classes, gap_rows=job.horizon_rows)
    rule = choose_rule(calibration.apply(raw), slices[splits.CALIBRATION].moves)
    bundle = ModelBundle(
        version="",
        window_rows=job.window_rows,
        horizon_rows=job.horizon_rows,
        engine=engine,
        linear=linear,
        trees=trees,
        tree_weight=weight,
        calibration=calibration,
        rule=rule,
    )
    report("evaluate", 0.80)
    facts = {
        "metrics": _evaluate(bundle, slices[splits.TEST], augmented),
        "negative_control": _negative_control(slices[splits.TRAIN], test, job.seed),
        "parity": {"trees": tree_parity, "shock": shock_parity},
        "calibration": calibration.kind.value,
        "tree_weight": weight,
        "neutral_cut": rule.neutral_cut,
        "rows_by_slice": {name: len(slices[number].examples) for number, name in enumerate(splits.SLICES)},
    }
    return bundle, facts


def _training_runs(prepared: Sequence[_Prepared], cuts: Int64Array) -> list[Float64Array]:
    """Return the regime observations before the first cut, in runs that cross no segment joint."""
    runs: list[Float64Array] = []
    for part in prepared:
        rows = select(part.recording.rows, slice(0, int(np.searchsorted(part.recording.rows.ts_event, cuts[0]))))
        observed = observations(rows)
        joints = np.flatnonzero(np.diff(rows.segment) != 0) + 1
        runs += [run[~np.isnan(run[:, 0])] for run in np.split(observed, joints)]
    return [run for run in runs if len(run) > 1]


def _slices(prepared: Sequence[_Prepared], engine: AdvancedMLFeatureEngine) -> list[_Slice]:
    features = [engine.complete(part.features, part.recording.rows) for part in prepared]
    mirrored = [engine.complete(part.mirrored, mirror(part.recording.rows)) for part in prepared]
    return [_slice(prepared, features, mirrored, number) for number in range(len(splits.SLICES))]


def _slice(prepared: Sequence[_Prepared], features: list[Float64Array], mirrored: list[Float64Array], number: int) -> _Slice:
    where = [np.flatnonzero(part.slices == number) for part in prepared]
    times = np.concatenate([part.recording.rows.ts_event[rows] for part, rows in zip(prepared, where, strict=True)])
    order = np.argsort(times, kind="stable")

    def gather(arrays: Sequence[Any]) -> Any:
        return np.concatenate([array[rows] for array, rows in zip(arrays, where, strict=True)])[order]

    examples = Examples(
        features=gather(features),
        classes=gather([part.labels.classes for part in prepared]),
        weights=gather([part.weights for part in prepared]),
    )
    return _Slice(examples=examples, mirrored=gather(mirrored), moves=gather([part.labels.moves for part in prepared]))


def _augmented(part: _Slice) -> Examples:
    """Return the training rows, thinned if there are many, and each of them mirrored with up and down exchanged."""
    thin = slice(None, None, max(1, -(-len(part.examples) // MAX_TRAIN_ROWS)))
    classes, weights = part.examples.classes[thin], part.examples.weights[thin]
    return Examples(
        features=np.concatenate([part.examples.features[thin], part.mirrored[thin]]),
        classes=np.concatenate([classes, 2 - classes]),
        weights=np.concatenate([weights, weights]),
    )


def _evaluate(bundle: ModelBundle, test: _Slice, train_rows: Examples) -> dict[str, Any]:
    features, classes = test.examples.features, test.examples.classes
    probabilities = bundle.probabilities(features)
    table = {
        "model": scores(probabilities, classes),
        "linear": scores(pool(bundle.linear.scores(features), bundle.trees.scores(features), 0.0), classes),
        "trees": scores(pool(bundle.linear.scores(features), bundle.trees.scores(features), 1.0), classes),
        "prior": scores(np.tile(_prior(train_rows), (len(classes), 1)), classes),
    }
    for name, columns in _BASELINES.items():
        small = fit_linear(_columns(train_rows, columns), strength=1.0)
        flat = small.scores(_columns(test.examples, columns).features)
        table[name] = scores(pool(flat, flat, 0.0), classes)
    return {
        "n": len(classes),
        "share_flat": float((classes == 1).mean()),
        "scores": table,
        "acting": acting(probabilities, test.moves, bundle.rule),
        "skill": 1 - table["model"]["log_loss"] / table["prior"]["log_loss"],
    }


def _prior(examples: Examples) -> Float64Array:
    counts = np.bincount(examples.classes, minlength=3).astype(np.float64)
    return np.asarray(counts / counts.sum())


def _columns(examples: Examples, names: Sequence[str]) -> Examples:
    """Return the named features and their magnitudes, which is what a baseline needs to know flat from moving."""
    chosen = examples.features[:, [INDEX[name] for name in names]]
    return Examples(features=np.hstack([chosen, np.abs(chosen)]), classes=examples.classes, weights=examples.weights)


def _negative_control(part: _Slice, test: Examples, seed: int) -> dict[str, float]:
    """Fit small trees on shuffled labels: their log-loss on the test slice must not beat the prior's by more than 1 %."""
    shuffled = np.random.default_rng(seed).permutation(part.examples.classes)
    thin = slice(None, None, max(1, len(shuffled) // 8_000))
    examples = Examples(features=part.examples.features[thin], classes=shuffled[thin], weights=np.ones(len(shuffled[thin])))
    trees, _ = fit_trees(examples, None, seed=seed, rounds=10)
    margins = trees.scores(test.features)
    control = float(log_losses(pool(margins, margins, 1.0), test.classes).mean())
    prior = float(log_losses(np.tile(_prior(examples), (len(test), 1)), test.classes).mean())
    return {"log_loss": control, "skill": 1 - control / prior}


def _data_facts(prepared: Sequence[_Prepared], refused_parts: Sequence[str]) -> dict[str, Any]:
    times = np.concatenate([part.recording.rows.ts_event for part in prepared if len(part.recording.rows)])
    return {
        "rows": {part.recording.instrument_id: len(part.recording.rows) for part in prepared},
        "start_ns": int(times.min()),
        "end_ns": int(times.max()),
        "refused_parts": list(refused_parts),
    }


def _origin(job: TrainingJob) -> dict[str, Any]:
    names = ("numpy", "sklearn", "lightgbm", "treelite", "hmmlearn", "numba")
    libraries = {name: str(getattr(sys.modules[name], "__version__", "")) for name in names if name in sys.modules}
    return {"job_id": job.job_id, "reason": job.reason, "seed": job.seed, "requested_ns": job.requested_ns, "libraries": libraries}


def _save(bundle: ModelBundle, prepared: Sequence[_Prepared], job: TrainingJob, facts: dict[str, Any]) -> TrainingResult:
    registry = Registry(job.models_dir)
    promote, reason = _gate(bundle, registry, prepared, facts)
    facts |= {"promote": promote, "promote_reason": reason}
    files = pack(bundle, _golden_windows(prepared, job.window_rows))
    version = registry.save(files, window_rows=job.window_rows, horizon_rows=job.horizon_rows, facts=facts)
    return TrainingResult(ok=True, version=version, metrics=facts["metrics"], promote=promote, promote_reason=reason)


def _gate(bundle: ModelBundle, registry: Registry, prepared: Sequence[_Prepared], facts: dict[str, Any]) -> tuple[bool, str]:
    """Say whether the new model should serve: better than the prior, and than the champion on rows that neither has seen."""
    if facts["metrics"]["skill"] <= 0:
        return False, f"no skill on the test slice ({facts['metrics']['skill']:+.4f} against the class shares)"
    champion = registry.load_champion()
    if champion is None:
        return True, "the first model, and better than the class shares"
    if champion.horizon_rows != bundle.horizon_rows:
        return True, f"the horizon changed from {champion.horizon_rows} to {bundle.horizon_rows} rows"
    seen_ns = int(registry.manifest(champion.version).facts["data"]["end_ns"])
    losses = [_losses_after(seen_ns, part, bundle, champion) for part in prepared]
    ours, theirs = (np.concatenate([pair[side] for pair in losses]) for side in range(2))
    return is_better(ours, theirs, bundle.horizon_rows)


def _losses_after(seen_ns: int, part: _Prepared, ours: ModelBundle, theirs: ModelBundle) -> tuple[Float64Array, Float64Array]:
    rows = part.recording.rows
    unseen = np.flatnonzero((part.slices == splits.TEST) & (rows.ts_event > seen_ns))
    if not len(unseen):
        return np.zeros(0), np.zeros(0)
    start = max(0, int(unseen[0]) - max(ours.window_rows, theirs.window_rows) + 1)
    tail, classes = select(rows, slice(start, len(rows))), part.labels.classes[unseen]
    both = (model.predict_rows(tail, has_trades=part.recording.has_trades)[unseen - start] for model in (ours, theirs))
    first, second = (log_losses(probabilities, classes) for probabilities in both)
    return first, second


def _golden_windows(prepared: Sequence[_Prepared], window_rows: int) -> list[Window]:
    part = max(prepared, key=lambda part: int((part.slices == splits.TEST).sum()))
    candidates = np.flatnonzero(part.slices == splits.TEST)
    chosen = candidates[np.linspace(0, len(candidates) - 1, GOLDEN_WINDOWS).astype(np.int64)]
    return [window_at(part.recording, int(row), window_rows) for row in chosen]


def window_at(recording: Recording, row: int, window_rows: int) -> Window:
    """Return the window whose last row is `row`: its last `window_rows` rows in its segment, without bars."""
    rows = last_rows(select(recording.rows, slice(0, row + 1)), window_rows)
    joints = np.flatnonzero(np.diff(rows.segment) != 0)
    start = int(joints[-1]) + 1 if len(joints) else 0
    return Window(
        instrument_id=recording.instrument_id,
        tick_size=recording.tick_size,
        has_trades=recording.has_trades,
        rows=select(rows, slice(start, len(rows))),
        bars=np.empty((0, len(BAR_COLUMNS))),
    )


def _say(line: Any) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job file in this process: niced, within its memory limit, progress and result on stdout."""
    parser = argparse.ArgumentParser(prog="python -m ml_actor.training", description="Train one model version.")
    parser.add_argument("--job", type=Path, required=True, help="JSON file of a TrainingJob")
    job = msgspec.json.decode(parser.parse_args(arguments).job.read_bytes(), type=TrainingJob)
    os.nice(19)
    if job.memory_limit_mb:
        resource.setrlimit(resource.RLIMIT_AS, (job.memory_limit_mb << 20, job.memory_limit_mb << 20))
    try:
        result = train(job, lambda stage, fraction: _say({"stage": stage, "fraction": fraction}))
    # The parent waits for one result line whatever happens: a fault is told as such, with its trace on stderr.
    except Exception as exc:  # noqa: BLE001
        traceback.print_exc()
        _say({"result": TrainingResult(ok=False, reason=f"fault: {type(exc).__name__}: {exc}")})
        return 1
    _say({"result": result})
    return 0


if __name__ == "__main__":
    sys.exit(main())
