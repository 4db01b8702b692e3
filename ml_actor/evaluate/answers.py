"""One fold: fit on its training part, predict its test part, and say what happened there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from framework.window import Float64Array, Int64Array, Rows
from ml_actor.calls import CallRule, even_rule
from ml_actor.evaluate.baselines import MAJORITY, fit_baselines
from ml_actor.evaluate.economics import Trip, join_trips, trips
from ml_actor.evaluate.fitters import Fitted, Question, Report, fit_model, objection_to
from ml_actor.evaluate.folds import Fold, Part, refuse_overlap
from ml_actor.evaluate.importance import importance
from ml_actor.evaluate.targets import Targets, targets, training_threshold
from ml_actor.horizons import EARLIER_ROWS
from ml_actor.labels import CLASSES
from ml_actor.preparation import Recording

MODEL: Final = "model"
REGIMES: Final = ("calm", "usual", "moving")
MIN_TEST_ROWS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The scored rows of one horizon, in order: where they are, what was said by each model and what happened.

    `files` are positions in `names`; `moves` are half ticks, `fees` ticks per taking fill, `regimes` 0 to 2 by `REGIMES`; `calls` are
    the classes that each model names, by the rule that its training part chose.
    """

    names: tuple[str, ...]
    files: Int64Array
    rows: Int64Array
    ts_event: Int64Array
    sessions: Int64Array
    folds: Int64Array
    regimes: Int64Array
    moves: Int64Array
    classes: Int64Array
    fees: Float64Array
    trips: Mapping[str, Trip]
    probabilities: Mapping[str, Float64Array]
    calls: Mapping[str, Int64Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldAnswer:
    """What a fold gives: answers by horizon, thresholds in half ticks, and the facts of its models."""

    number: int
    by_horizon: Mapping[int, Answer]
    thresholds: Mapping[int, float]
    facts: Mapping[str, Any]
    importance: Mapping[int, Mapping[str, float]]


def answer_fold(fold: Fold, question: Question, report: Report | None = None) -> FoldAnswer | str:
    """Fit and predict one fold, or say why that cannot be done. Runs wherever `backends.run_all` puts it.

    Raises `IntegrityError` for a fold that tests what it was taught.
    """
    refuse_overlap(fold)
    say = report or _nobody
    train = [part.recording for part in fold.train]
    fitted = fit_model(question, train, lambda stage, done: say(stage, 0.8 * done))
    if isinstance(fitted, str):
        return fitted
    say("predict", 0.85)
    tested = [part.recording for part in fold.test]
    predicted = [fitted.predict_rows(recording) for recording in tested]
    for recording, said in zip(tested, predicted, strict=True):
        if wrong := objection_to(said, question.horizons, len(recording.rows)):
            return f"model {question.model}: {wrong}"
    cuts = regime_cuts(train)
    thresholds = {horizon: training_threshold(train, horizon, question.label) for horizon in question.horizons}
    rules = call_rules(fitted)
    by_horizon = {}
    for number, horizon in enumerate(question.horizons):
        say(f"baselines of horizon {horizon}", 0.9 + 0.1 * number / len(question.horizons))
        asked = _Asked(horizon=horizon, threshold=thresholds[horizon], cuts=cuts, rule=rules.get(horizon))
        found = _answer(fold, asked, [one[horizon] for one in predicted])
        objection = _objection(found, horizon)
        if objection:
            return objection
        by_horizon[horizon] = found
    return FoldAnswer(
        number=fold.number,
        by_horizon=by_horizon,
        thresholds=thresholds,
        facts=dict(fitted.facts()),
        importance=importance(fitted.predict_rows, max(tested, key=lambda one: len(one.rows)), thresholds),
    )


def _nobody(_stage: str, _fraction: float) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One horizon: its threshold in half ticks, the cuts of the regimes, and the model's own rule for calls, if it has one."""

    horizon: int
    threshold: float
    cuts: Float64Array
    rule: CallRule | None


def call_rules(fitted: Fitted) -> Mapping[int, CallRule]:
    """Return per horizon the rule that a model chose for naming one class; empty if it has none of its own."""
    found: Mapping[int, CallRule] = fitted.call_rules() if hasattr(fitted, "call_rules") else {}
    return found


def _answer(fold: Fold, asked: _Asked, predicted: Sequence[Float64Array]) -> Answer:
    horizon, threshold, cuts = asked.horizon, asked.threshold, asked.cuts
    baselines = fit_baselines([part.recording for part in fold.train], horizon, threshold)
    found = [targets(part.recording.rows, horizon) for part in fold.test]
    speakers = {MODEL: [said[own.rows] for said, own in zip(predicted, found, strict=True)]}
    for name, baseline in baselines.items():
        speakers[name] = [baseline.predict(part.recording.rows)[own.rows] for part, own in zip(fold.test, found, strict=True)]
    pieces = [_piece(number, part, own, horizon, cuts) for number, (part, own) in enumerate(zip(fold.test, found, strict=True))]
    moves = np.concatenate([own.moves for own in found])
    probabilities = {name: np.concatenate(said) for name, said in speakers.items()}
    rules = {MODEL: asked.rule or even_rule(probabilities[MAJORITY][0])} | {name: one.rule for name, one in baselines.items()}
    return Answer(
        names=tuple(part.file for part in fold.test),
        folds=np.full(len(moves), fold.number),
        moves=moves,
        classes=np.concatenate([own.classes(threshold) for own in found]),
        trips=join_trips([piece.pop("trips") for piece in pieces]),
        probabilities=probabilities,
        calls={name: rules[name].calls(said) for name, said in probabilities.items()},
        **{name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]},
    )


def _piece(number: int, part: Part, own: Targets, horizon: int, cuts: Float64Array) -> dict[str, Any]:
    rows, where = part.recording.rows, own.rows
    return {
        "files": np.full(len(where), number),
        "rows": where + part.first_row,
        "ts_event": rows.ts_event[where],
        "sessions": rows.segment[where],
        "regimes": np.searchsorted(cuts, activity(rows)[where], side="right"),
        "fees": np.full(len(where), part.fee_ticks),
        "trips": trips(rows, where, horizon),
    }


def activity(rows: Rows) -> Float64Array:
    """Return per row the mean absolute change of the mid over its last 100 rows, half ticks; what a regime is told by."""
    mids = rows.bid_ticks[:, 0].astype(np.int64) + rows.ask_ticks[:, 0].astype(np.int64)
    changes = np.append(0, np.abs(np.diff(mids)))
    changes[1:][np.diff(rows.segment) != 0] = 0
    sums = np.append(0, np.cumsum(changes))
    here = np.arange(len(rows)) + 1
    return np.asarray((sums[here] - sums[np.maximum(here - EARLIER_ROWS, 0)]) / EARLIER_ROWS)


def regime_cuts(train: Sequence[Recording]) -> Float64Array:
    """Return the two cuts of `activity` that part the training rows into thirds."""
    seen = [activity(part.rows)[targets(part.rows, 1).rows] for part in train]
    joined = np.concatenate([*seen, np.zeros(0)])
    return np.quantile(joined, (1 / 3, 2 / 3)) if len(joined) else np.zeros(2)


def _objection(found: Answer, horizon: int) -> str:
    count = len(found.classes)
    if count < MIN_TEST_ROWS:
        needs = f"at least {MIN_TEST_ROWS} needed; sessions must be longer than {EARLIER_ROWS} rows and the horizon"
        return f"horizon {horizon}: {count} test rows can be scored, {needs}"
    missing = [name for number, name in enumerate(CLASSES) if not (found.classes == number).any()]
    if missing:
        return f"horizon {horizon}: no test row is labelled {' or '.join(missing)}; take a longer recording or other horizons"
    if not np.isfinite(found.probabilities[MODEL]).all():
        return f"horizon {horizon}: the model gave no probability for a row that has {EARLIER_ROWS} earlier rows"
    return ""


def join_answers(parts: Sequence[Answer]) -> Answer:
    """Return the answers of several folds as one, with the files numbered anew and sessions that no two folds share a number of."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("rows", "ts_event", "folds", "regimes", "moves", "classes", "fees")
    }
    files = [np.array([names.index(name) for name in part.names])[part.files] for part in parts]
    joined["files"] = np.concatenate(files)
    joined["sessions"] = np.concatenate([part.sessions for part in parts])
    return Answer(
        names=names,
        trips=join_trips([part.trips for part in parts]),
        probabilities={name: np.concatenate([part.probabilities[name] for part in parts]) for name in parts[0].probabilities},
        calls={name: np.concatenate([part.calls[name] for part in parts]) for name in parts[0].calls},
        **joined,
    )
