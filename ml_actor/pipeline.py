"""The training itself, on recordings in memory: fit, calibrate, evaluate, compare with the champion, save."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from framework.wire import FeedbackItem
from ml_actor import splits
from ml_actor.evaluation import log_losses, without_nan
from ml_actor.features.engine import AdvancedMLFeatureEngine
from ml_actor.fitting import Examples, FitRefused, fit_regimes, fit_shock, fit_trees
from ml_actor.heads import calibrated_head, choices, draft_head, evaluated, prior, rows_by_slice
from ml_actor.models import Head, ModelBundle, pool
from ml_actor.outcomes import summary
from ml_actor.preparation import (
    Prepared,
    Recording,
    Slice,
    augmented,
    completed,
    prepare,
    time_slices,
    training_runs,
    without_unknown_horizons,
)
from ml_actor.promotion import save_version
from ml_actor.refit import choose_refit, fit_served_net, last_fitted
from ml_actor.registry import Registry
from ml_actor.training_job import TrainingJob, TrainingResult

Report = Callable[[str, float], None]

MAX_CONTROL_SKILL: Final = 0.01
CONTROL_SHUFFLES: Final = 4
"""Their mean has a standard error of 0.001 to 0.003 (docs/models.md): the limit is three to ten of them away from nothing."""


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


def _fit(found: Sequence[Prepared], job: TrainingJob, report: Report) -> tuple[ModelBundle, dict[str, Any]]:
    report("feature models", 0.15)
    registry = Registry(job.models_dir)
    champion = registry.load_champion()
    known, left_out = without_unknown_horizons(found)
    refit = choose_refit(job, registry, champion, known)
    engine, shock_parity = (refit.parent.engine, 0.0) if refit.parent else _fit_feature_models(known, job, champion)
    prepared = completed(known, engine)
    slices = time_slices(prepared)
    shown = augmented(slices[splits.TRAIN])
    bundle, tree_parity = _fit_traded(engine, slices, shown, job, report, parent=refit.parent)
    heads, further = _fit_further(bundle, prepared, job, report, parent=refit.parent)
    report("evaluate", 0.80)
    test = slices[splits.TEST]
    facts = {
        "metrics": evaluated(bundle.traded, bundle.neural, 0, test, shown),
        "refit": refit.facts(),
        "negative_control": _negative_control(slices[splits.TRAIN], test.examples, job.seed),
        "parity": {"trees": tree_parity, "shock": shock_parity},
        **choices(bundle.traded),
        "rows_by_slice": rows_by_slice(slices),
        **({"further_horizons": further} if further else {}),
        **({"horizons_left_out": left_out} if left_out else {}),
    }
    return replace(bundle, heads=(bundle.traded, *heads)), facts


def _fit_feature_models(
    prepared: Sequence[Prepared], job: TrainingJob, champion: ModelBundle | None
) -> tuple[AdvancedMLFeatureEngine, float]:
    """Return the engine with its fitted feature models, states numbered as the champion's, and how far the served forest is off."""
    shock, parity = fit_shock(np.concatenate([part.features[part.slices == splits.TRAIN] for part in prepared]), job.seed)
    regimes = fit_regimes(training_runs(prepared), job.seed, previous=champion.engine.regimes if champion else None)
    return AdvancedMLFeatureEngine(window_rows=job.window_rows, shock=shock, regimes=regimes), parity


def _fit_traded(
    engine: AdvancedMLFeatureEngine,
    slices: Sequence[Slice],
    shown: Examples,
    job: TrainingJob,
    report: Report,
    *,
    parent: ModelBundle | None,
) -> tuple[ModelBundle, float]:
    """Fit the horizon that is traded, and the nets, which know all horizons."""
    report("linear, trees", 0.30)
    draft, parity = draft_head(job.horizon_rows, slices, shown, job.seed, parent=parent.traded if parent else None)
    report("net", 0.60)
    neural = fit_served_net(parent, slices[splits.TRAIN], job.seed)
    report("calibrate", 0.70)
    head = calibrated_head(draft, slices, neural, 0)
    return ModelBundle(version="", window_rows=job.window_rows, engine=engine, neural=neural, heads=(head,)), parity


def _fit_further(
    bundle: ModelBundle, prepared: Sequence[Prepared], job: TrainingJob, report: Report, *, parent: ModelBundle | None
) -> tuple[list[Head], dict[str, Any]]:
    """Fit the further horizons one after the other (the slices of one alone fit into memory); return them and what is known of each."""
    heads: list[Head] = []
    facts: dict[str, Any] = {}
    for place, target in enumerate(prepared[0].targets[1:], 1):
        report(f"horizon {target.horizon_rows}", 0.70 + 0.10 * place / len(prepared[0].targets))
        slices = time_slices(prepared, place)
        shown = augmented(slices[splits.TRAIN])
        draft, parity = draft_head(target.horizon_rows, slices, shown, job.seed, parent=parent.heads[place] if parent else None)
        head = calibrated_head(draft, slices, bundle.neural, place)
        heads.append(head)
        facts[str(head.horizon_rows)] = {
            "metrics": evaluated(head, bundle.neural, place, slices[splits.TEST], shown),
            "parity": {"trees": parity},
            **choices(head),
            "rows_by_slice": rows_by_slice(slices),
        }
    return heads, facts


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
    shares = float(log_losses(np.tile(prior(examples), (len(test), 1)), test.classes).mean())
    return control, 1 - control / shares


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
