"""The training itself, on recordings in memory: fit, calibrate, evaluate, compare with the champion, save."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from framework.window import Float64Array
from framework.wire import FeedbackItem
from ml_actor import splits
from ml_actor.calibration import Calibration, CalibrationKind, FlowRule, softmax
from ml_actor.evaluation import acting, direction_losses, is_better, log_losses, scores, without_nan
from ml_actor.features.catalogue import INDEX
from ml_actor.features.engine import AdvancedMLFeatureEngine
from ml_actor.fitting import (
    Examples,
    FitRefused,
    calibrate,
    choose_net_weight,
    choose_rule,
    choose_tree_weight,
    fit_linear,
    fit_regimes,
    fit_shock,
    fit_trees,
)
from ml_actor.models import ModelBundle, pool
from ml_actor.outcomes import summary
from ml_actor.preparation import Prepared, Recording, Slice, augmented, prepare, time_slices, training_runs
from ml_actor.promotion import save_version
from ml_actor.refit import choose_refit, fit_served_net, last_fitted, warm_linear, warm_trees
from ml_actor.registry import Registry
from ml_actor.training_job import TrainingJob, TrainingResult

Report = Callable[[str, float], None]

MAX_CONTROL_SKILL: Final = 0.01
CONTROL_SHUFFLES: Final = 4
"""Their mean has a standard error of 0.001 to 0.003 (docs/models.md): the limit is three to ten of them away from nothing."""
_BASELINES: Final = {"imbalance": ("imbalance_1",), "persistence": ("last_move", "return_5", "rows_since_move")}


def train_on(
    recordings: Sequence[Recording], job: TrainingJob, *, feedback: Sequence[FeedbackItem], refused_parts: Sequence[str], report: Report
) -> TrainingResult:
    """Train and save a version; the same recordings, feedback and seed give the same artifact bytes.

    Returns a refusal when there are too few rows, a class is missing, a served form does not equal its fitted model, or
    the negative control (shuffled labels) shows skill. Raises `OSError` when the disk does not take the version.
    """
    report("features", 0.05)
    prepared = prepare(recordings, job, feedback)
    if isinstance(prepared, str):
        damage = f"; {len(refused_parts)} parts of the dataset were refused, first: {refused_parts[0]}" if refused_parts else ""
        return TrainingResult(ok=False, reason=prepared + damage)
    try:
        bundle, facts = _fit(prepared, job, report)
    except FitRefused as exc:
        return TrainingResult(ok=False, reason=str(exc))
    skill = facts["negative_control"]["skill"]
    if skill > MAX_CONTROL_SKILL:
        return TrainingResult(ok=False, reason=f"negative control: shuffled labels gave a skill of {skill:.4f}; the data leaks its labels")
    report("save", 0.95)
    facts |= {"data": _data_facts(prepared, refused_parts), "feedback": summary(feedback)} | _origin(job)
    return save_version(bundle, prepared, job, without_nan(facts))


def _fit(prepared: Sequence[Prepared], job: TrainingJob, report: Report) -> tuple[ModelBundle, dict[str, Any]]:
    report("feature models", 0.15)
    registry = Registry(job.models_dir)
    champion = registry.load_champion()
    refit = choose_refit(job, registry, champion, prepared)
    engine, shock_parity = (refit.parent.engine, 0.0) if refit.parent else _fit_feature_models(prepared, job, champion)
    slices = time_slices(prepared, engine)
    shown = augmented(slices[splits.TRAIN])
    bundle, tree_parity = _fit_models(engine, slices, shown, job, report, parent=refit.parent)
    report("evaluate", 0.80)
    test = slices[splits.TEST]
    facts = {
        "metrics": _evaluate(bundle, test, shown),
        "refit": refit.facts(),
        "negative_control": _negative_control(slices[splits.TRAIN], test.examples, job.seed),
        "parity": {"trees": tree_parity, "shock": shock_parity},
        "calibration": bundle.calibration.kind.value,
        "tree_weight": bundle.tree_weight,
        "neural_weight": bundle.neural_weight,
        "neutral_cut": bundle.rule.neutral_cut,
        "rows_by_slice": {name: len(slices[number].examples) for number, name in enumerate(splits.SLICES)},
    }
    return bundle, facts


def _fit_feature_models(
    prepared: Sequence[Prepared], job: TrainingJob, champion: ModelBundle | None
) -> tuple[AdvancedMLFeatureEngine, float]:
    """Return the engine with its fitted feature models, states numbered as the champion's, and how far the served forest is off."""
    shock, parity = fit_shock(np.concatenate([part.features[part.slices == splits.TRAIN] for part in prepared]), job.seed)
    regimes = fit_regimes(training_runs(prepared), job.seed, previous=champion.engine.regimes if champion else None)
    return AdvancedMLFeatureEngine(window_rows=job.window_rows, shock=shock, regimes=regimes), parity


def _fit_models(
    engine: AdvancedMLFeatureEngine,
    slices: Sequence[Slice],
    shown: Examples,
    job: TrainingJob,
    report: Report,
    *,
    parent: ModelBundle | None,
) -> tuple[ModelBundle, float]:
    validation, later = slices[splits.VALIDATION].examples, slices[splits.CALIBRATION].examples
    report("linear", 0.30)
    linear = warm_linear(parent, shown) if parent else fit_linear(shown)
    report("trees", 0.45)
    trees, parity = warm_trees(parent, shown, validation, job.seed) if parent else fit_trees(shown, validation, seed=job.seed)
    report("net", 0.65)
    neural = fit_served_net(parent, shown, job.seed)
    report("calibrate", 0.75)
    draft = ModelBundle(
        version="",
        window_rows=job.window_rows,
        horizon_rows=job.horizon_rows,
        engine=engine,
        linear=linear,
        trees=trees,
        tree_weight=choose_tree_weight(linear.scores(validation.features), trees.scores(validation.features), validation.classes),
        neural=neural,
        neural_weight=0.0,
        calibration=Calibration(kind=CalibrationKind.NONE, parameters=np.zeros(0)),
        rule=FlowRule(neutral_cut=1.0),
    )
    asked = neural.scores(validation.features)[:, 0]
    weight = choose_net_weight(draft.raw(validation.features), asked, validation.classes, block_rows=job.horizon_rows)
    pooled = replace(draft, neural_weight=weight)
    calibration = calibrate(pooled.raw(later.features), later.classes, gap_rows=job.horizon_rows)
    calibrated = replace(pooled, calibration=calibration)
    rule = choose_rule(calibrated.probabilities(later.features), slices[splits.CALIBRATION].moves)
    return replace(calibrated, rule=rule), parity


def _evaluate(bundle: ModelBundle, test: Slice, train_rows: Examples) -> dict[str, Any]:
    features, classes = test.examples.features, test.examples.classes
    probabilities = bundle.probabilities(features)
    prior = np.tile(_prior(train_rows), (len(classes), 1))
    table = {
        "model": scores(probabilities, classes),
        "linear": scores(pool(bundle.linear.scores(features), bundle.trees.scores(features), 0.0), classes),
        "trees": scores(pool(bundle.linear.scores(features), bundle.trees.scores(features), 1.0), classes),
        "net": scores(softmax(bundle.neural.scores(features)[:, 0]), classes),
        "prior": scores(prior, classes),
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
        "beats_coin": list(is_better(direction_losses(probabilities, classes), direction_losses(prior, classes), bundle.horizon_rows)),
        "skill": 1 - table["model"]["log_loss"] / table["prior"]["log_loss"],
    }


def _prior(examples: Examples) -> Float64Array:
    counts = np.bincount(examples.classes, minlength=3).astype(np.float64)
    return np.asarray(counts / counts.sum())


def _columns(examples: Examples, names: Sequence[str]) -> Examples:
    """Return the named features and their magnitudes, which is what a baseline needs to know flat from moving."""
    chosen = examples.features[:, [INDEX[name] for name in names]]
    return Examples(features=np.hstack([chosen, np.abs(chosen)]), classes=examples.classes, weights=examples.weights)


def _negative_control(part: Slice, test: Examples, seed: int) -> dict[str, float]:
    """Fit small trees on shuffled labels, several times: on average they must not beat the prior on the test slice by more than 1 %.

    `standard_error` is that of the mean over shuffles: one alone is off by some 0.4 % and refuses an honest training now and then.
    """
    drawn = [_shuffled(part, test, seed + number) for number in range(CONTROL_SHUFFLES)]
    losses, skills = (np.array(column) for column in zip(*drawn, strict=True))
    error = float(skills.std(ddof=1)) / math.sqrt(CONTROL_SHUFFLES)
    return {"log_loss": float(losses.mean()), "skill": float(skills.mean()), "standard_error": error, "shuffles": float(CONTROL_SHUFFLES)}


def _shuffled(part: Slice, test: Examples, seed: int) -> tuple[float, float]:
    """Return log-loss and skill over the prior of small trees that learned shuffled labels."""
    shuffled = np.random.default_rng(seed).permutation(part.examples.classes)
    thin = slice(None, None, max(1, len(shuffled) // 8_000))
    examples = Examples(features=part.examples.features[thin], classes=shuffled[thin], weights=np.ones(len(shuffled[thin])))
    trees, _ = fit_trees(examples, None, seed=seed, rounds=10)
    margins = trees.scores(test.features)
    control = float(log_losses(pool(margins, margins, 1.0), test.classes).mean())
    prior = float(log_losses(np.tile(_prior(examples), (len(test), 1)), test.classes).mean())
    return control, 1 - control / prior


def _data_facts(prepared: Sequence[Prepared], refused_parts: Sequence[str]) -> dict[str, Any]:
    times = np.concatenate([part.recording.rows.ts_event for part in prepared if len(part.recording.rows)])
    return {
        "rows": {part.recording.instrument_id: len(part.recording.rows) for part in prepared},
        "start_ns": int(times.min()),
        "end_ns": int(times.max()),
        "last": {part.recording.instrument_id: _last_row(part.recording) for part in prepared},
        "fitted": last_fitted(prepared),
        "refused_parts": list(refused_parts),
    }


def _last_row(recording: Recording) -> list[int]:
    rows = recording.rows
    return [int(rows.ts_event[-1]), int(rows.sequence[-1])] if len(rows) else []


def _origin(job: TrainingJob) -> dict[str, Any]:
    names = ("numpy", "sklearn", "lightgbm", "treelite", "hmmlearn", "numba")
    libraries = {name: str(getattr(sys.modules[name], "__version__", "")) for name in names if name in sys.modules}
    return {"job_id": job.job_id, "reason": job.reason, "seed": job.seed, "requested_ns": job.requested_ns, "libraries": libraries}
