"""From recordings to what the models are fitted on: labels, slices in time order, features plain and mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from framework.window import BAR_COLUMNS, Float64Array, Int64Array, Rows, Window
from framework.wire import FeedbackItem
from ml_actor import splits
from ml_actor.features.engine import AdvancedMLFeatureEngine, last_rows, mirror, select
from ml_actor.features.regime import observations
from ml_actor.fitting import Examples
from ml_actor.labels import CLASSES, Labels, label_rows
from ml_actor.outcomes import decision_weights
from ml_actor.training_job import TrainingJob

MIN_HISTORY: Final = 10
MIN_SLICE_ROWS: Final = 50
MAX_TRAIN_ROWS: Final = 40_000
"""Above it the training slice is thinned evenly: labels overlap, so neighbours say nearly the same."""
GOLDEN_WINDOWS: Final = 8
UNKNOWN: Final = -1
"""The class of a row that has none: its horizon does not end inside its segment, or it is not of the slice that is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What the dataset holds of one instrument."""

    instrument_id: str
    tick_size: float
    has_trades: bool
    rows: Rows

    @property
    def times(self) -> Int64Array:
        """Return the running times of the rows (`splits.running_times`), ns."""
        return splits.running_times(self.rows.ts_event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What there is to learn about one horizon: the labels, and the slice of each row."""

    horizon_rows: int
    labels: Labels
    slices: Int64Array

    def classes_in(self, number: int) -> Int64Array:
        """Return the class of each row of a slice, `UNKNOWN` for every other row."""
        return np.where(self.slices == number, self.labels.classes, UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A recording with its labels, the slice of each row, weights, and kernel features: plain and mirrored.

    The first of `targets` is the horizon that is traded, `labels` and `slices` are its.
    """

    recording: Recording
    targets: tuple[Target, ...]
    weights: Float64Array
    features: Float64Array
    mirrored: Float64Array

    @property
    def labels(self) -> Labels:
        """Return the labels of the horizon that is traded."""
        return self.targets[0].labels

    @property
    def slices(self) -> Int64Array:
        """Return the slice of each row for the horizon that is traded."""
        return self.targets[0].slices


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Rows of one slice over all instruments, in time order; `taught` (n, horizons) are their classes over every horizon, or `UNKNOWN`."""

    examples: Examples
    mirrored: Float64Array
    moves: Int64Array
    taught: Int64Array


def prepare(recordings: Sequence[Recording], job: TrainingJob, feedback: Sequence[FeedbackItem]) -> tuple[Prepared, ...] | str:
    """Label, cut and compute features; or say why there is too little to learn from about the horizon that is traded."""
    labels = [label_rows(recording.rows, horizon_rows=job.horizon_rows, min_history=MIN_HISTORY) for recording in recordings]
    objection = _too_few(recordings, labels, job)
    if objection:
        return objection
    times = [recording.times[found.is_valid] for recording, found in zip(recordings, labels, strict=True)]
    cuts = splits.cut_times(np.concatenate(times))
    prepared = tuple(_prepare(recording, found, cuts, job, feedback) for recording, found in zip(recordings, labels, strict=True))
    return _missing_class(prepared, 0) or prepared


def without_unknown_horizons(prepared: Sequence[Prepared]) -> tuple[tuple[Prepared, ...], dict[str, str]]:
    """Leave further horizons out of which there is too little to learn from; return the others, and why those are left out.

    What is wrong with a horizon that nobody trades must not keep the one that is traded from being learned.
    """
    objections = [_missing_class(prepared, place) if place else None for place in range(len(prepared[0].targets))]
    kept = [place for place, objection in enumerate(objections) if objection is None]
    left_out = {str(target.horizon_rows): objection for target, objection in zip(prepared[0].targets, objections, strict=True) if objection}
    return tuple(replace(part, targets=tuple(part.targets[place] for place in kept)) for part in prepared), left_out


def _too_few(recordings: Sequence[Recording], labels: Sequence[Labels], job: TrainingJob) -> str | None:
    usable = sum(int(found.is_valid.sum()) for found in labels)
    if usable >= job.min_rows:
        return None
    rows = sum(len(recording.rows) for recording in recordings)
    return f"{usable} usable rows of {rows}, at least {job.min_rows} needed (training.min_rows): let it record longer"


def _prepare(recording: Recording, labels: Labels, cuts: Int64Array, job: TrainingJob, feedback: Sequence[FeedbackItem]) -> Prepared:
    engine = AdvancedMLFeatureEngine(window_rows=job.window_rows)
    rows = recording.rows
    further = [(horizon, label_rows(rows, horizon_rows=horizon, min_history=MIN_HISTORY)) for horizon in job.further_horizons_rows]
    return Prepared(
        recording=recording,
        targets=tuple(_target(recording, horizon, found, cuts, job) for horizon, found in [(job.horizon_rows, labels), *further]),
        weights=decision_weights(rows, recording.instrument_id, feedback) * recency_weights(len(rows), job.half_life_rows),
        features=engine.transform_rows(rows, has_trades=recording.has_trades),
        mirrored=engine.transform_rows(mirror(rows), has_trades=recording.has_trades),
    )


def _target(recording: Recording, horizon_rows: int, labels: Labels, cuts: Int64Array, job: TrainingJob) -> Target:
    """Put each row into its slice: the cuts are the same for every horizon, what a label may not reach across is not."""
    slices = splits.assign(recording.times, labels, cuts, horizon_rows=horizon_rows, embargo_rows=job.window_rows)
    return Target(horizon_rows=horizon_rows, labels=labels, slices=slices)


def recency_weights(count: int, half_life_rows: float) -> Float64Array:
    """Return a weight per row that halves every `half_life_rows` rows into the past, 1 on average; all 1 for 0."""
    if half_life_rows <= 0 or count == 0:
        return np.ones(count)
    weights = 0.5 ** (np.arange(count - 1, -1, -1) / half_life_rows)
    return np.asarray(weights / weights.mean())


def _missing_class(prepared: Sequence[Prepared], place: int) -> str | None:
    targets = [part.targets[place] for part in prepared]
    for number, name in enumerate(splits.SLICES):
        classes = np.concatenate([target.labels.classes[target.slices == number] for target in targets])
        if len(classes) < MIN_SLICE_ROWS:
            return f"the {name} slice has {len(classes)} rows, at least {MIN_SLICE_ROWS} needed: let it record longer"
        missing = [CLASSES[label] for label in range(3) if not (classes == label).any()]
        if missing:
            return f"the {name} slice has no row labelled {' or '.join(missing)}: let it record longer or change training.horizon_rows"
    return None


def training_runs(prepared: Sequence[Prepared]) -> list[Float64Array]:
    """Return the regime observations of the time of the training slice, in runs that cross no segment joint."""
    runs: list[Float64Array] = []
    for part in prepared:
        is_train = np.flatnonzero(part.slices == splits.TRAIN)
        rows = select(part.recording.rows, slice(0, int(is_train[-1]) + 1 if len(is_train) else 0))
        joints = np.flatnonzero(np.diff(rows.segment) != 0) + 1
        runs += [run[~np.isnan(run[:, 0])] for run in np.split(observations(rows), joints)]
    return [run for run in runs if len(run) > 1]


def completed(prepared: Sequence[Prepared], engine: AdvancedMLFeatureEngine) -> tuple[Prepared, ...]:
    """Return the same with the features of the fitted feature models behind the others."""
    return tuple(
        replace(
            part,
            features=engine.complete(part.features, part.recording.rows),
            mirrored=engine.complete(part.mirrored, mirror(part.recording.rows)),
        )
        for part in prepared
    )


def time_slices(prepared: Sequence[Prepared], place: int = 0) -> list[Slice]:
    """Return the four slices of the horizon at `place` over all instruments."""
    return [_slice(prepared, place, number) for number in range(len(splits.SLICES))]


def _slice(prepared: Sequence[Prepared], place: int, number: int) -> Slice:
    targets = [part.targets[place] for part in prepared]
    where = [np.flatnonzero(target.slices == number) for target in targets]
    times = np.concatenate([part.recording.times[rows] for part, rows in zip(prepared, where, strict=True)])
    order = np.argsort(times, kind="stable")

    def gather(arrays: Sequence[Any]) -> Any:
        return np.concatenate([array[rows] for array, rows in zip(arrays, where, strict=True)])[order]

    examples = Examples(
        features=gather([part.features for part in prepared]),
        classes=gather([target.labels.classes for target in targets]),
        weights=gather([part.weights for part in prepared]),
    )
    return Slice(
        examples=examples,
        mirrored=gather([part.mirrored for part in prepared]),
        moves=gather([target.labels.moves for target in targets]),
        taught=gather([np.column_stack([target.classes_in(number) for target in part.targets]) for part in prepared]),
    )


def augmented(part: Slice) -> Examples:
    """Return the training rows, thinned if there are many, and each of them mirrored with up and down exchanged."""
    thin = thinned(part)
    classes, weights = part.examples.classes[thin], part.examples.weights[thin]
    return Examples(
        features=np.concatenate([part.examples.features[thin], part.mirrored[thin]]),
        classes=np.concatenate([classes, 2 - classes]),
        weights=np.concatenate([weights, weights]),
    )


def thinned(part: Slice) -> slice:
    """Return which rows of the training slice are learned from."""
    return slice(None, None, max(1, -(-len(part.examples) // MAX_TRAIN_ROWS)))


def golden_windows(prepared: Sequence[Prepared], window_rows: int) -> list[Window]:
    """Return windows spread over the test slice, for a version to reproduce."""
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
