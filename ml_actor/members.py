"""Members of an ensemble: each learns all horizons from the same rows and gives log-probabilities for new ones.

A member is fitted on rows shown plain and mirrored (bid and ask exchanged, up and down exchanged with them), and asked
about a row and its mirror image: its answer treats both directions alike whatever chance taught it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from framework.window import Float64Array, Int64Array
from ml_actor.fitting import Examples, fit_linear
from ml_actor.inputs import ORDER, SIGN
from ml_actor.models import LinearModel
from ml_actor.neural import NeuralModel
from ml_actor.neural_fitting import Recipe, fit_neural
from ml_actor.preparation import UNKNOWN

MAX_LINEAR_ROWS: Final = 20_000
"""Labels overlap, so neighbours say nearly the same: a regression learns little from more of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Rows to learn from: inputs (n, all), classes (n, H) in 0..2 or -1 by `horizons`, weights (n,).

    `positions` (n,) rise; two rows of one recording are as far apart in them as in the recording, two recordings far.
    """

    horizons: tuple[int, ...]
    values: Float64Array
    classes: Int64Array
    weights: Float64Array
    positions: Int64Array

    def select(self, where: npt.NDArray[Any]) -> Shown:
        """Return some of the rows."""
        return replace(
            self, values=self.values[where], classes=self.classes[where], weights=self.weights[where], positions=self.positions[where]
        )

    def examples(self, horizon: int, columns: Int64Array, most_rows: int = 2**62) -> Examples:
        """Return the labelled rows of one horizon, evenly thinned to at most `most_rows`, each plain and mirrored."""
        classes = self.classes[:, self.horizons.index(horizon)]
        known = np.flatnonzero(classes != UNKNOWN)
        known = known[:: max(1, -(-len(known) // most_rows))]
        values, classes, weights = self.values[known], classes[known], self.weights[known]
        return Examples(
            features=np.ascontiguousarray(np.concatenate([values[:, columns], turned(values)[:, columns]])),
            classes=np.concatenate([classes, 2 - classes]),
            weights=np.concatenate([weights, weights]),
        )


class Fitted(Protocol):
    """A member that has learned."""

    def log_probabilities(self, values: Float64Array, horizon: int) -> Float64Array:
        """Return (n, 3) log-probabilities (down, flat, up) for inputs (n, all)."""

    def importance(self) -> Mapping[str, float]:
        """Return what it says of its inputs, by name; empty if it cannot tell."""


class Member(Protocol):
    """A kind of model that can learn."""

    @property
    def name(self) -> str:
        """Return what it is called in weights and reports."""

    def fit(self, shown: Shown, horizons: Sequence[int], seed: int) -> Fitted:
        """Learn `horizons` of `shown`. Raises `FitRefused`."""

    def tuned(self, fits: Sequence[tuple[Fitted, Shown]], horizons: Sequence[int]) -> tuple[Member, list[Fitted]]:
        """Return this member and the fits, after what fits on parts of the rows say on the rows that each has not seen."""


def turned(values: Float64Array) -> Float64Array:
    """Return the inputs of the same rows with bid and ask exchanged."""
    return np.asarray(values[:, ORDER] * SIGN)


def normalised(scores: Float64Array) -> Float64Array:
    """Return log-probabilities from log-odds: rows whose exponentials add up to 1."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def both_ways(predict: Callable[[Float64Array], Float64Array], values: Float64Array) -> Float64Array:
    """Return the mean log-odds of `predict` on rows and on their mirror images turned back."""
    return normalised((normalised(predict(values)) + normalised(predict(turned(values)))[:, ::-1]) / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """The shares of the classes, up and down alike: what is known without looking at a row."""

    name: str = "majority"

    def fit(self, shown: Shown, horizons: Sequence[int], seed: int) -> Fitted:
        """Count."""
        del seed
        return _FittedShares({horizon: self._shares(shown, horizon) for horizon in horizons})

    def tuned(self, fits: Sequence[tuple[Fitted, Shown]], horizons: Sequence[int]) -> tuple[Member, list[Fitted]]:
        """Return all as it is: there is nothing to choose."""
        del horizons
        return self, [fitted for fitted, _ in fits]

    def _shares(self, shown: Shown, horizon: int) -> Float64Array:
        counts = np.bincount(shown.examples(horizon, np.zeros(0, np.int64)).classes, minlength=3) + 1.0
        return np.asarray(np.log(counts / counts.sum()))


@dataclass(frozen=True, slots=True)
class _FittedShares:
    logs: Mapping[int, Float64Array]

    def log_probabilities(self, values: Float64Array, horizon: int) -> Float64Array:
        return np.tile(self.logs[horizon], (len(values), 1))

    def importance(self) -> Mapping[str, float]:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """Multinomial logistic regression on `columns`; with `magnitudes` it sees their absolute values beside them."""

    name: str
    columns: Int64Array
    strength: float = 5e-4
    magnitudes: bool = False

    def fit(self, shown: Shown, horizons: Sequence[int], seed: int) -> Fitted:
        """Fit one regression a horizon."""
        del seed
        models = {}
        for horizon in horizons:
            found = shown.examples(horizon, self.columns, MAX_LINEAR_ROWS)
            features = _with_magnitudes(found.features) if self.magnitudes else found.features
            models[horizon] = fit_linear(Examples(features=features, classes=found.classes, weights=found.weights), strength=self.strength)
        return _FittedLinear(self, models)

    def tuned(self, fits: Sequence[tuple[Fitted, Shown]], horizons: Sequence[int]) -> tuple[Member, list[Fitted]]:
        """Return all as it is: there is nothing to choose."""
        del horizons
        return self, [fitted for fitted, _ in fits]


@dataclass(frozen=True, slots=True)
class _FittedLinear:
    kind: Linear
    models: Mapping[int, LinearModel]

    def log_probabilities(self, values: Float64Array, horizon: int) -> Float64Array:
        def scores(rows: Float64Array) -> Float64Array:
            chosen = np.ascontiguousarray(rows[:, self.kind.columns])
            return self.models[horizon].scores(_with_magnitudes(chosen) if self.kind.magnitudes else chosen)

        return both_ways(scores, values)

    def importance(self) -> Mapping[str, float]:
        return {}


def _with_magnitudes(values: Float64Array) -> Float64Array:
    return np.hstack([values, np.abs(values)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Neural:
    """Small nets that learn all horizons at once (`neural_fitting`)."""

    name: str
    columns: Int64Array
    recipe: Recipe

    def fit(self, shown: Shown, horizons: Sequence[int], seed: int) -> Fitted:
        """Fit the nets on every horizon of `shown`: those that nobody asks for teach the others."""
        del horizons
        places = {int(column): place for place, column in enumerate(self.columns)}
        order = np.array([places[int(ORDER[column])] for column in self.columns], np.int64)
        features = np.ascontiguousarray(shown.values[:, self.columns])
        mirror = (order, SIGN[self.columns])
        model = fit_neural(features, shown.classes, mirror, weights=shown.weights, seed=seed, recipe=self.recipe)
        return _FittedNeural(self, shown.horizons, model)

    def tuned(self, fits: Sequence[tuple[Fitted, Shown]], horizons: Sequence[int]) -> tuple[Member, list[Fitted]]:
        """Return all as it is: there is nothing to choose."""
        del horizons
        return self, [fitted for fitted, _ in fits]


@dataclass(frozen=True, slots=True)
class _FittedNeural:
    kind: Neural
    horizons: tuple[int, ...]
    model: NeuralModel

    def log_probabilities(self, values: Float64Array, horizon: int) -> Float64Array:
        scores = self.model.scores(np.ascontiguousarray(values[:, self.kind.columns]))
        return normalised(scores[:, self.horizons.index(horizon)])

    def importance(self) -> Mapping[str, float]:
        return {}
