"""Models by name: those that come with the project, and anybody's own through the entry-point group `tidebook.models`.

An entry point names a callable that takes `seed` and returns a scikit-learn style classifier, unfitted: `fit(X, y,
sample_weight=...)`, `predict_proba(X)`, `classes_`. X holds the inputs of `inputs.NAMES` in standard deviations of the
training rows (clipped at 5, unknown is 0); y is -1 (down), 0 (flat) or 1 (up), each row shown plain and mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import numpy as np

from framework.window import Float64Array
from ml_actor.boosted import Trees
from ml_actor.fitting import Examples, FitRefused, moments
from ml_actor.inputs import CONTEXT, columns_named, columns_without
from ml_actor.members import Fitted, Linear, Member, Neural, Shares, Shown, both_ways
from ml_actor.neural_fitting import Recipe
from ml_actor.scaling import standardised

GROUP: Final = "tidebook.models"
_FLOOR: Final = 1e-6
_PERSISTENCE: Final = ("last_move", "rows_since_move", "move_lag_1", "move_lag_2")


def _wide() -> Neural:
    return Neural(name="mlp", columns=columns_without(), recipe=Recipe(hidden=(96, 32), epochs=10, input_dropout=0.3))


def _steady() -> Neural:
    return Neural(name="mlp_steady", columns=columns_without("book", "price", "flow"), recipe=Recipe())


def _linear() -> Linear:
    return Linear(name="linear", columns=columns_without())


def _trees() -> Trees:
    return Trees(name="trees", columns=columns_without(CONTEXT))


_SHIPPED: Final[Mapping[str, Callable[[], tuple[Member, ...]]]] = {
    "majority": lambda: (Shares(),),
    "persistence": lambda: (Linear(name="persistence", columns=columns_named(*_PERSISTENCE), strength=1.0, magnitudes=True),),
    "imbalance": lambda: (Linear(name="imbalance", columns=columns_named("imbalance_1"), strength=1.0, magnitudes=True),),
    "linear": lambda: (_linear(),),
    "trees": lambda: (_trees(),),
    "mlp": lambda: (_wide(),),
    "ensemble": lambda: (_linear(), _trees(), _wide(), _steady()),
}


SHIPPED: Final = tuple(_SHIPPED)
"""Names of the models that come with the project."""


def model_names() -> tuple[str, ...]:
    """Return every name that `find_members` knows: shipped ones, then those of entry points."""
    return (*_SHIPPED, *sorted(_found()))


def find_members(name: str) -> tuple[Member, ...] | str:
    """Return the members of a model, more than one if it is an ensemble; or say why there is no such model."""
    if name in _SHIPPED:
        return _SHIPPED[name]()
    found = _found().get(name)
    if found is None and ":" in name:
        found = EntryPoint(name=name, value=name, group=GROUP)
    if found is None:
        return f"found {name!r}; allowed {', '.join(model_names())}, module:callable, or an entry point of the group {GROUP!r}"
    try:
        return (Estimator(name=name, factory=found.load()),)
    except (ImportError, AttributeError, ValueError) as exc:
        return f"{found.value} cannot be loaded: {exc}"


def _found() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """Somebody's classifier, one a horizon; what it cannot do is a refusal that names it."""

    name: str
    factory: Callable[..., Any]

    def fit(self, shown: Shown, horizons: Sequence[int], seed: int) -> Fitted:
        """Fit one classifier a horizon. Raises `FitRefused` for what is no classifier."""
        columns = columns_without()
        offset, scale = moments(np.concatenate([shown.values]))
        models = {}
        for horizon in horizons:
            found = shown.examples(horizon, columns)
            models[horizon] = self._fitted(found, standardised(found.features, offset, scale), seed)
        return _FittedEstimator(models, offset, scale)

    def _fitted(self, found: Examples, features: Float64Array, seed: int) -> Any:
        model = self.factory(seed=seed)
        missing = [name for name in ("fit", "predict_proba") if not hasattr(model, name)]
        if missing:
            raise FitRefused(f"{self.name}: {type(model).__name__} has no {' and no '.join(missing)}")
        model.fit(features, found.classes - 1, sample_weight=found.weights)
        if not set(np.asarray(model.classes_).tolist()) <= {-1, 0, 1}:
            raise FitRefused(f"{self.name}: its classes_ are {model.classes_}, allowed -1, 0 and 1")
        return model

    def tuned(self, fits: Sequence[tuple[Fitted, Shown]], horizons: Sequence[int]) -> tuple[Member, list[Fitted]]:
        """Return all as it is: there is nothing to choose."""
        del horizons
        return self, [fitted for fitted, _ in fits]


@dataclass(frozen=True, slots=True)
class _FittedEstimator:
    models: Mapping[int, Any]
    offset: Float64Array
    scale: Float64Array

    def log_probabilities(self, values: Float64Array, horizon: int) -> Float64Array:
        model = self.models[horizon]

        def logs(rows: Float64Array) -> Float64Array:
            said = np.full((len(rows), 3), _FLOOR)
            said[:, np.asarray(model.classes_, np.int64) + 1] = model.predict_proba(standardised(rows, self.offset, self.scale))
            return np.asarray(np.log(np.clip(said, _FLOOR, 1.0)))

        return both_ways(logs, values)

    def importance(self) -> Mapping[str, float]:
        return {}
