"""From recordings to what the models are fitted on: labels, slices in time order, features plain and mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
class Prepared:
    """A recording with its labels, the slice of each row, weights, and kernel features: plain and mirrored."""

    recording: Recording
    labels: Labels
    slices: Int64Array
    weights: Float64Array
    features: Float64Array
    mirrored: Float64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Rows of one slice over all instruments, in time order."""

    examples: Examples
    mirrored: Float64Array
    moves: Int64Array


def prepare(recordings: Sequence[Recording], job: TrainingJob, feedback: Sequence[FeedbackItem]) -> tuple[Prepared, ...] | str:
    """Label, cut and compute features; or say why there is too little to learn from."""
    labels = [label_rows(recording.rows, horizon_rows=job.horizon_rows, min_history=MIN_HISTORY) for recording in recordings]
    objection = _too_few(recordings, labels, job)
    if objection:
        return objection
    times = [recording.times[found.is_valid] for recording, found in zip(recordings, labels, strict=True)]
    cuts = splits.cut_times(np.concatenate(times))
    prepared = tuple(_prepare(recording, found, cuts, job, feedback) for recording, found in zip(recordings, labels, strict=True))
    return _missing_class(prepared) or prepared


def _too_few(recordings: Sequence[Recording], labels: Sequence[Labels], job: TrainingJob) -> str | None:
    usable = sum(int(found.is_valid.sum()) for found in labels)
    if usable >= job.min_rows:
        return None
    rows = sum(len(recording.rows) for recording in recordings)
    return f"{usable} usable rows of {rows}, at least {job.min_rows} needed (training.min_rows): let it record longer"


def _prepare(recording: Recording, labels: Labels, cuts: Int64Array, job: TrainingJob, feedback: Sequence[FeedbackItem]) -> Prepared:
    engine = AdvancedMLFeatureEngine(window_rows=job.window_rows)
    rows = recording.rows
    return Prepared(
        recording=recording,
        labels=labels,
        slices=splits.assign(recording.times, labels, cuts, horizon_rows=job.horizon_rows, embargo_rows=job.window_rows),
        weights=decision_weights(rows, recording.instrument_id, feedback) * recency_weights(len(rows), job.half_life_rows),
        features=engine.transform_rows(rows, has_trades=recording.has_trades),
        mirrored=engine.transform_rows(mirror(rows), has_trades=recording.has_trades),
    )


def recency_weights(count: int, half_life_rows: float) -> Float64Array:
    """Return a weight per row that halves every `half_life_rows` rows into the past, 1 on average; all 1 for 0."""
    if half_life_rows <= 0 or count == 0:
        return np.ones(count)
    weights = 0.5 ** (np.arange(count - 1, -1, -1) / half_life_rows)
    return np.asarray(weights / weights.mean())


def _missing_class(prepared: Sequence[Prepared]) -> str | None:
    for number, name in enumerate(splits.SLICES):
        classes = np.concatenate([part.labels.classes[part.slices == number] for part in prepared])
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


def time_slices(prepared: Sequence[Prepared], engine: AdvancedMLFeatureEngine) -> list[Slice]:
    """Return the four slices over all instruments, with the features of the fitted feature models behind the others."""
    features = [engine.complete(part.features, part.recording.rows) for part in prepared]
    mirrored = [engine.complete(part.mirrored, mirror(part.recording.rows)) for part in prepared]
    return [_slice(prepared, features, mirrored, number) for number in range(len(splits.SLICES))]


def _slice(prepared: Sequence[Prepared], features: list[Float64Array], mirrored: list[Float64Array], number: int) -> Slice:
    where = [np.flatnonzero(part.slices == number) for part in prepared]
    times = np.concatenate([part.recording.times[rows] for part, rows in zip(prepared, where, strict=True)])
    order = np.argsort(times, kind="stable")

    def gather(arrays: Sequence[Any]) -> Any:
        return np.concatenate([array[rows] for array, rows in zip(arrays, where, strict=True)])[order]

    examples = Examples(
        features=gather(features),
        classes=gather([part.labels.classes for part in prepared]),
        weights=gather([part.weights for part in prepared]),
    )
    return Slice(examples=examples, mirrored=gather(mirrored), moves=gather([part.labels.moves for part in prepared]))


def augmented(part: Slice) -> Examples:
    """Return the training rows, thinned if there are many, and each of them mirrored with up and down exchanged."""
    thin = slice(None, None, max(1, -(-len(part.examples) // MAX_TRAIN_ROWS)))
    classes, weights = part.examples.classes[thin], part.examples.weights[thin]
    return Examples(
        features=np.concatenate([part.examples.features[thin], part.mirrored[thin]]),
        classes=np.concatenate([classes, 2 - classes]),
        weights=np.concatenate([weights, weights]),
    )


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
