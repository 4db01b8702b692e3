"""What `--model` names: a baseline, a model of Tidebook, or one of the user's own.

A user's model is a function with the signature of `ml_actor.horizons.fit_horizons`, or a callable that takes `seed` and
makes a scikit-learn style classifier, named by an entry point of the group `tidebook.models` or as `module:function`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Final, Protocol

import numpy as np

from framework.errors import ConfigError
from framework.window import Float64Array
from ml_actor.calls import CallRule
from ml_actor.evaluate.baselines import INPUTS, MAJORITY, Baseline, fit_baseline
from ml_actor.evaluate.targets import training_threshold
from ml_actor.horizons import fit_horizons
from ml_actor.known_models import GROUP
from ml_actor.preparation import Recording

BASELINES: Final = (MAJORITY, *INPUTS)

Report = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What every fold is asked."""

    horizons: tuple[int, ...]
    label: str
    model: str
    seed: int
    settings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Fitted(Protocol):
    """What a model is once it has been fitted.

    With `call_rules()`, as `HorizonModels` has it, it also says by horizon how it names one class; else each class counts the same.
    """

    def predict_rows(self, recording: Recording) -> Mapping[int, Float64Array]:
        """Return per horizon (n, 3) probabilities (down, flat, up) of every row, NaN where none is made."""

    def facts(self) -> Mapping[str, Any]:
        """Return what was chosen and fitted."""


class FittedBaseline:
    """A baseline in the place of a model."""

    def __init__(self, name: str, baselines: Mapping[int, Baseline]) -> None:
        self._name = name
        self._baselines = baselines

    def predict_rows(self, recording: Recording) -> dict[int, Float64Array]:
        """Return per horizon (n, 3) probabilities of every row."""
        return {horizon: baseline.predict(recording.rows) for horizon, baseline in self._baselines.items()}

    def call_rules(self) -> dict[int, CallRule]:
        """Return per horizon the rule for naming one class."""
        return {horizon: baseline.rule for horizon, baseline in self._baselines.items()}

    def facts(self) -> dict[str, Any]:
        """Return which baseline it is."""
        return {"baseline": self._name}


def fit_model(question: Question, train: Sequence[Recording], report: Report) -> Fitted | str:
    """Fit what is asked for on `train` alone, or say why that cannot be done. Raises `ConfigError` for what cannot be imported."""
    name = question.model
    if name in BASELINES:
        thresholds = {horizon: training_threshold(train, horizon, question.label) for horizon in question.horizons}
        return FittedBaseline(name, {horizon: fit_baseline(name, train, horizon, cut) for horizon, cut in thresholds.items()})
    common: dict[str, Any] = {"horizons": question.horizons, "label": question.label, "seed": question.seed, "report": report}
    own = _own_function(name)
    if own is None:
        return fit_horizons(train, **common, model=name, settings=question.settings)
    fitted: Fitted | str = own(train, **common)
    return fitted


def objection_to(said: Mapping[int, Float64Array], horizons: Sequence[int], rows: int) -> str:
    """Say what keeps predictions of `rows` rows from being probabilities of each horizon; nothing if they are."""
    for horizon in horizons:
        if horizon not in said:
            return f"predicts no horizon {horizon}"
        if np.shape(said[horizon]) != (rows, 3):
            return f"predicts an array of shape {np.shape(said[horizon])} at horizon {horizon}; expected ({rows}, 3): down, flat, up"
        known = said[horizon][~np.isnan(said[horizon]).any(axis=1)]
        if (known < 0).any() or not np.allclose(known.sum(axis=1), 1.0, atol=1e-6):
            return f"predicts numbers that are no probabilities at horizon {horizon}: they are negative, or do not sum to 1"
    return ""


def _own_function(name: str) -> Callable[..., Any] | None:
    """Return the user's fitting function of this name; None if the name is of something else."""
    point = next(iter(entry_points(group=GROUP, name=name)), None)
    target = name if ":" in name else point.value if point is not None else ""
    if not target:
        return None
    module_name, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
        return found if callable(found) and "horizons" in inspect.signature(found).parameters else None
    except (ImportError, AttributeError, SyntaxError, ValueError) as exc:
        raise ConfigError(f"--model: {target[:100]} cannot be imported: {type(exc).__name__}: {str(exc)[:200]}") from exc
