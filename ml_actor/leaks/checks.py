"""Which checks a job asks for, and all of their findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from framework.dataset import read_dataset
from framework.errors import ConfigError
from framework.leak_job import CHAMPION, SHIPPED, Finding, LeakJob, Verdict
from framework.window import Float64Array
from ml_actor.leaks import book, causality, labelling, skill, trainers
from ml_actor.leaks.book import Book, Signal
from ml_actor.leaks.columns import CannotCompute, Subject, Table, shipped_features, users_features
from ml_actor.leaks.skill import Fit, Predict
from ml_actor.models import ModelBundle
from ml_actor.preparation import Recording
from ml_actor.registry import Registry, UnknownVersion

CUT_ROWS: Final = 3_000
"""Rows of the generated book that is cut and permuted: columns are computed again for each cut."""
BEGINNING_ROWS: Final = 12_000
BEGINNING_SEED: Final = 5
Report = Callable[[str, float], None]


def run(job: LeakJob, report: Report) -> Iterator[Finding]:
    """Yield the findings of every check that `job` asks for.

    Raises `ConfigError` for a name that nothing has or code that cannot run, `IntegrityError` for a damaged dataset or version.
    """
    recordings = _recordings(job)
    features = _features(job)
    if job.features:
        report(features.title, 0.0)
        yield from _check_columns(features, recordings, job)
        yield _told(
            features.title, "finds a planted signal", lambda: skill.check_planted(features.title, trainers.probe_fit(features, job), job)
        )
    if job.label:
        report("label", 0.3)
        yield from _check_label(job, recordings, features)
    if job.model:
        report(f"model {job.model}", 0.5)
        yield from _check_model(job, recordings, features)


def _recordings(job: LeakJob) -> list[Recording]:
    """Return what is cut and permuted: the newest rows of a dataset, or a generated book."""
    if not job.dataset_dir:
        return [book.generate(CUT_ROWS, seed=job.seed, strength=skill.PLANTED_STRENGTH).recording]
    read = read_dataset(Path(job.dataset_dir), max_rows=job.max_rows)
    found = [
        Recording(instrument_id=name, tick_size=part.tick_size, has_trades=part.has_trades, rows=part.rows)
        for name, part in sorted(read.instruments.items())
        if len(part.rows) >= 10 * job.horizon_rows + job.window_rows
    ]
    if not found:
        raise ConfigError(f"{job.dataset_dir}: no instrument has {10 * job.horizon_rows + job.window_rows} rows; nothing to cut")
    return found


def _features(job: LeakJob) -> Subject:
    if job.features in ("", SHIPPED):
        return shipped_features(job.window_rows)
    return users_features(job.features, trainers.imported(job.features))


def _check_columns(subject: Subject, recordings: list[Recording], job: LeakJob) -> Iterator[Finding]:
    for recording in recordings:
        full = _computed(subject, recording)
        named = subject if len(recordings) == 1 else Subject(title=f"{subject.title}, {recording.instrument_id}", compute=subject.compute)
        yield from causality.check_future(named, recording, full, seed=job.seed)
        yield causality.check_dates(named, recording, full)
    yield _beginning(subject)
    yield _told(subject.title, "no skill on a martingale", lambda: skill.check_martingale(subject, job))
    yield _told(subject.title, "no skill on shifted labels", lambda: skill.check_shifted_labels(subject, job))


def _beginning(subject: Subject) -> Finding:
    made = book.generate(BEGINNING_ROWS, seed=BEGINNING_SEED, strength=skill.PLANTED_STRENGTH).recording
    return _told(subject.title, "begin later", lambda: causality.check_beginning(subject, made, subject.compute(made)))


def _computed(subject: Subject, recording: Recording) -> Table:
    try:
        return subject.compute(recording)
    except CannotCompute as exc:
        raise ConfigError(f"{exc} (on {len(recording.rows)} unchanged rows of {recording.instrument_id})") from exc


def _told(title: str, check: str, call: Callable[[], Finding]) -> Finding:
    """Return the finding, or what kept the check from being done: it ran on other rows before."""
    try:
        return call()
    except CannotCompute as exc:
        return Finding(subject=title, check=check, verdict=Verdict.SKIPPED, detail=f"not done on generated books: {exc}")


def _check_label(job: LeakJob, recordings: list[Recording], features: Subject) -> Iterator[Finding]:
    if job.label == SHIPPED:
        label = labelling.shipped_label(job.horizon_rows)
    else:
        label = labelling.users_label(job.label, trainers.imported(job.label), job.horizon_rows)
    for recording in recordings:
        try:
            label.of(recording.rows)
        except CannotCompute as exc:
            raise ConfigError(str(exc)) from exc
        yield from labelling.check_reach(label, recording, seed=job.seed)
    yield _told(label.title, "no feature tells it on a martingale", lambda: labelling.check_unpredictable(label, features, job))


# --- models -------------------------------------------------------------------------------------------------------------------


def _check_model(job: LeakJob, recordings: list[Recording], features: Subject) -> Iterator[Finding]:
    bundle = _version(job)
    if bundle is not None:
        subject = _predictions(bundle)
        yield from _check_columns(subject, recordings, job)
        return
    title, fit = _trainer(job, features)
    fit = trainers.remembered(fit)
    predict = _fitted(title, fit, job)
    subject = Subject(title=title, compute=lambda recording: _as_table(predict, recording))
    for recording in recordings:
        full = _computed(subject, recording)
        yield from causality.check_future(subject, recording, full, seed=job.seed)
        yield causality.check_dates(subject, recording, full)
    yield _beginning(subject)
    yield _told(title, "finds a planted signal", lambda: skill.check_planted(title, fit, job))
    yield _told(title, "no skill on shifted labels", lambda: skill.check_shifted_labels(subject, job))
    yield _told(title, "no skill on a martingale", lambda: skill.check_no_gain(title, fit, job))


def _version(job: LeakJob) -> ModelBundle | None:
    """Return a version of the registry, if the name is one. Raises `ConfigError` or `IntegrityError`."""
    if job.model == SHIPPED or ":" in job.model or trainers.is_known(job.model):
        return None
    registry = Registry(job.models_dir)
    version = registry.champion() if job.model == CHAMPION else job.model
    if version is None:
        raise ConfigError(f"{job.models_dir}: there is no champion yet; train one, or name --model shipped")
    try:
        return registry.load(version)
    except UnknownVersion as exc:
        raise ConfigError(f"{exc}; allowed champion, a version, module:name, or {trainers.known_names()}") from exc


def _predictions(bundle: ModelBundle) -> Subject:
    def compute(recording: Recording) -> Table:
        features = bundle.engine.transform_rows(recording.rows, has_trades=recording.has_trades)
        # Down and flat follow from these two; the lean is what an order would follow.
        return Table(names=tuple(names), values=np.hstack([_two(values) for values in bundle.over_horizons(features)]))

    further = [f"{name} over {horizon} rows" for horizon in bundle.horizons[1:] for name in _TWO]
    names = [*_TWO, *further]
    return Subject(title=f"model {bundle.version}", compute=compute)


_TWO: Final = ("p_up - p_down", "p_flat")


def _two(probabilities: Float64Array) -> Float64Array:
    return np.column_stack([probabilities[:, 2] - probabilities[:, 0], probabilities[:, 1]])


def _trainer(job: LeakJob, features: Subject) -> tuple[str, Fit]:
    if job.model == SHIPPED:
        return "models of Tidebook", trainers.shipped_fit(job)
    title = f"model {job.model}"
    if trainers.is_known(job.model):
        return title, trainers.named_fit(job.model, job)
    return title, trainers.fit_of(job.model, trainers.imported(job.model), features, job)


def _fitted(title: str, fit: Fit, job: LeakJob) -> Predict:
    """Fit once on a generated book with a signal, for the checks that only predict."""
    try:
        predict = fit(book.generate(job.rows, seed=2 * job.seed, strength=skill.PLANTED_STRENGTH), job.seed)
    except CannotCompute as exc:
        raise ConfigError(str(exc)) from exc
    if isinstance(predict, str):
        raise ConfigError(f"{title} cannot be fitted on a generated book of {job.rows} rows: {predict}")
    return predict


def _as_table(predict: Predict, recording: Recording) -> Table:
    rows = len(recording.rows)
    probabilities = predict(Book(recording, np.zeros(rows, np.int64), Signal(strength=0.0)))
    return Table(names=_TWO, values=_two(probabilities))
