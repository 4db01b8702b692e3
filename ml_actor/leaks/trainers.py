"""What can be fitted: models by name, entry points, the user's own, and a linear probe for feature sets."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from sklearn.base import clone

from framework.errors import ConfigError
from framework.leak_job import LeakJob
from framework.window import Float64Array, Int64Array
from ml_actor.evaluation import log_losses
from ml_actor.fitting import Examples, fit_linear
from ml_actor.horizons import fit_horizons
from ml_actor.known_models import model_names
from ml_actor.labels import label_rows
from ml_actor.leaks.book import Book
from ml_actor.leaks.columns import CannotCompute, Subject, guarded
from ml_actor.leaks.skill import Fit, Predict, scored
from ml_actor.models import LinearModel, pool

MIN_HISTORY: Final = 101
FEW: Final = 20
FEW_STRENGTHS: Final = (5e-4, 0.05)
MANY_STRENGTHS: Final = (1e-4, 5e-4)
_FAULTS: Final = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, RuntimeError)


def imported(target: str) -> Any:
    """Return what `module:name` names. Raises `ConfigError`."""
    module_name, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), name)
    except AttributeError as exc:
        raise ConfigError(f"{target}: module {module_name} has no {name}") from exc
    except (SyntaxError, TypeError, ValueError, *_FAULTS) as exc:
        raise ConfigError(f"{target}: cannot be imported: {type(exc).__name__}: {str(exc)[:200]}") from exc


def is_known(name: str) -> bool:
    """Return whether `evaluate --model` knows the name: a shipped model, or an entry point of the group `tidebook.models`."""
    return name in model_names()


def known_names() -> str:
    """Return those names, in words."""
    return ", ".join(model_names())


def named_fit(name: str, job: LeakJob) -> Fit:
    """Return how a model that `evaluate` knows by name is fitted."""
    return _horizon_fit(f"model {name}", partial(fit_horizons, model=name), job.horizon_rows)


def fit_of(target: str, found: Any, features: Subject, job: LeakJob) -> Fit:
    """Return how to fit `found`: a function like `fit_horizons`, what `evaluate --model` takes, or a scikit-learn classifier.

    Raises `ConfigError` if it is none of them.
    """
    title, parameters = f"model {target}", _parameters(found)
    if callable(found) and "horizons" in parameters:
        return _horizon_fit(title, found, job.horizon_rows)
    if callable(found) and not inspect.isclass(found) and "seed" in parameters:
        return named_fit(target, job)
    if hasattr(found, "fit") and hasattr(found, "predict_proba") and not inspect.isclass(found):
        return _estimator_fit(title, _cloner(found), features, job.horizon_rows)
    if callable(found):
        return _estimator_fit(title, found, features, job.horizon_rows)
    raise ConfigError(f"{title}: found {type(found).__name__}; allowed a function like fit_horizons, or a classifier with predict_proba")


def shipped_fit(job: LeakJob) -> Fit:
    """Return how the models of Tidebook are fitted."""
    return _horizon_fit("models of Tidebook", fit_horizons, job.horizon_rows)


def remembered(fit: Fit) -> Fit:
    """Return the same, but fit the same book only once: the last one is kept."""
    kept: dict[tuple[float, int, int], Predict | str] = {}

    def once(train: Book, seed: int) -> Predict | str:
        key = (train.signal.strength, seed, len(train.sides))
        if key not in kept:
            found = fit(train, seed)
            kept.clear()
            kept[key] = found
        return kept[key]

    return once


def _parameters(found: Any) -> set[str]:
    try:
        return set(inspect.signature(found).parameters)
    except (TypeError, ValueError):
        return set()


def _cloner(estimator: Any) -> Callable[[], Any]:
    return lambda: clone(estimator)


def _horizon_fit(title: str, trainer: Any, horizon: int) -> Fit:
    def fit(train: Book, seed: int) -> Predict | str:
        def call() -> Any:
            return trainer([train.recording], horizons=[horizon], label="sign", seed=seed, report=lambda _stage, _share: None)

        models = guarded(title, call)
        if isinstance(models, str):
            return models
        return lambda test: _checked(title, guarded(title, lambda: models.predict_rows(test.recording))[horizon], len(test.sides))

    return fit


def _estimator_fit(title: str, make: Callable[[], Any], features: Subject, horizon: int) -> Fit:
    """Fit a classifier on the features and labels (0 down, 1 flat, 2 up) of rows that have 100 earlier ones."""

    def fit(train: Book, seed: int) -> Predict | str:  # noqa: ARG001 (a classifier brings its own seed)
        labels = label_rows(train.recording.rows, horizon_rows=horizon, min_history=MIN_HISTORY)
        rows = np.flatnonzero(labels.is_valid)
        values = features.compute(train.recording).values[rows]
        estimator = guarded(title, make)
        guarded(title, lambda: estimator.fit(values, labels.classes[rows]))

        def predict(test: Book) -> Float64Array:
            known = np.flatnonzero(label_rows(test.recording.rows, horizon_rows=0, min_history=MIN_HISTORY).is_valid)
            shown = features.compute(test.recording).values[known]
            found = np.asarray(guarded(title, lambda: estimator.predict_proba(shown)), np.float64)
            out = np.full((len(test.sides), 3), np.nan)
            out[known] = 0.0
            out[np.ix_(known, np.asarray(estimator.classes_, np.int64))] = found
            return _checked(title, out, len(test.sides))

        return predict

    return fit


def probe_fit(features: Subject, job: LeakJob) -> Fit:
    """Return how a multinomial logistic regression is fitted on a feature set: what is linearly in it, it finds.

    How firmly it is held back is chosen on the last quarter of the rows, as many columns need a firmer hand than few.
    """

    def fit(train: Book, seed: int) -> Predict | str:  # noqa: ARG001 (nothing is drawn)
        moves, is_valid = scored(train, job.horizon_rows)
        rows = np.flatnonzero(is_valid)
        shown = _examples(features.compute(train.recording).values, moves, rows)
        model = fit_linear(shown, strength=_strength(shown, job.horizon_rows))

        def predict(test: Book) -> Float64Array:
            return _linear(model, features.compute(test.recording).values)

        return predict

    return fit


def _examples(values: Float64Array, moves: Int64Array, rows: Int64Array) -> Examples:
    return Examples(features=values[rows], classes=np.sign(moves[rows]) + 1, weights=np.ones(len(rows)))


def _strength(shown: Examples, horizon_rows: int) -> float:
    cut = len(shown) * 3 // 4
    early, late = slice(0, cut - horizon_rows), slice(cut, len(shown))
    first = Examples(features=shown.features[early], classes=shown.classes[early], weights=shown.weights[early])

    def loss(strength: float) -> float:
        predicted = _linear(fit_linear(first, strength=strength), shown.features[late])
        return float(log_losses(predicted, shown.classes[late]).mean())

    return min(FEW_STRENGTHS if shown.features.shape[1] <= FEW else MANY_STRENGTHS, key=loss)


def _linear(model: LinearModel, values: Float64Array) -> Float64Array:
    scores = model.scores(np.ascontiguousarray(values))
    return pool(scores, scores, 0.0)


def _checked(title: str, probabilities: Any, rows: int) -> Float64Array:
    """Return probabilities (n, 3) that sum to 1 where they are known. Raises `CannotCompute`."""
    found = np.asarray(probabilities, np.float64)
    if found.shape != (rows, 3):
        raise CannotCompute(f"{title} predicts an array of shape {found.shape}; expected ({rows}, 3): down, flat, up")
    known = found[~np.isnan(found).any(axis=1)]
    if len(known) == 0 or (known < 0).any() or not np.allclose(known.sum(axis=1), 1.0, atol=1e-6):
        raise CannotCompute(f"{title} predicts numbers that are no probabilities (they do not sum to 1, are negative or are all missing)")
    return found
