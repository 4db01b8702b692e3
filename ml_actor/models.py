"""What serves: a compiled linear model, boosted trees, their pool, and the bundle that predicts.

No learning library is imported here: `fitting` trains and hands over plain arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit

from framework.messages import HorizonPrediction
from framework.model import FlowType
from framework.window import Float64Array, Rows, Window
from ml_actor.calibration import Calibration, CalibrationKind, FlowRule
from ml_actor.features.catalogue import ALL_NAMES, REGIMES
from ml_actor.features.engine import AdvancedMLFeatureEngine
from ml_actor.forest import Forest
from ml_actor.neural import NeuralModel
from ml_actor.scaling import standardised

_FIRST_REGIME: Final = len(ALL_NAMES) - REGIMES
_SHOCK_SCORE: Final = _FIRST_REGIME - 1
_LEAST: Final = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearModel:
    """Multinomial logistic regression: `offset`, `scale` (F,), `weights` (3, F), `intercept` (3,)."""

    offset: Float64Array
    scale: Float64Array
    weights: Float64Array
    intercept: Float64Array

    def standardised(self, features: Float64Array) -> Float64Array:
        """Return features in standard deviations of the training rows, clipped at 5; NaN becomes their mean (0)."""
        return standardised(features, self.offset, self.scale)

    def scores(self, features: Float64Array) -> Float64Array:
        """Return (n, 3) log-odds up to a constant per row."""
        return np.asarray(_linear_scores(self.standardised(features), self.weights, self.intercept))


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeModel:
    """LightGBM's multiclass trees as a forest of flat arrays."""

    forest: Forest

    def scores(self, features: Float64Array) -> Float64Array:
        """Return (n, 3) raw margins."""
        return self.forest.margins(features)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One prediction: calibrated probabilities of the mid after `horizon_rows`, what they claim, and the same of further horizons.

    `regime` is 0 (calm) to 2 (volatile), or -1 below 10 rows; `shock_score` is near 1 in a liquidity shock.
    """

    p_down: float
    p_flat: float
    p_up: float
    flow_type: FlowType
    confidence: float
    regime: int
    shock_score: float
    horizons: tuple[HorizonPrediction, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a version knows about one horizon: its own models, their weights in the pool, calibration, and rule of what is claimed."""

    horizon_rows: int
    linear: LinearModel
    trees: TreeModel
    tree_weight: float
    neural_weight: float
    calibration: Calibration
    rule: FlowRule

    def raw(self, features: Float64Array, net: Float64Array | None) -> Float64Array:
        """Return the pool before calibration: p ~ (p_linear^(1-w) * p_trees^w)^(1-v) * p_net^v, `net` (n, 3) the nets' scores for it."""
        pooled = pool(self.linear.scores(features), self.trees.scores(features), self.tree_weight)
        if not self.neural_weight or net is None:
            return pooled
        return pool(np.log(np.maximum(pooled, _LEAST)), net, self.neural_weight)

    def claim(self, probabilities: Float64Array) -> HorizonPrediction:
        """Return what calibrated (3,) probabilities say about this horizon."""
        down, flat, up = probabilities.tolist()
        return HorizonPrediction(self.horizon_rows, down, flat, up, *self.rule.claim(down, flat, up))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBundle:
    """Everything one version predicts with. Immutable: swapping models is swapping one reference.

    The first of `heads` is about the horizon that is traded: gate, trial, flow type and confidence are its. The others are about
    further horizons, the nearest first. The nets know all of them, in this order.
    """

    version: str
    window_rows: int
    engine: AdvancedMLFeatureEngine
    neural: NeuralModel
    heads: tuple[Head, ...]

    @property
    def traded(self) -> Head:
        """Return what it knows about the horizon that is traded."""
        return self.heads[0]

    @property
    def horizon_rows(self) -> int:
        """Return the horizon that is traded."""
        return self.traded.horizon_rows

    @property
    def horizons(self) -> tuple[int, ...]:
        """Return all horizons, the traded one first."""
        return tuple(head.horizon_rows for head in self.heads)

    @property
    def is_calibrated(self) -> bool:
        """Return whether the probabilities were calibrated on data later than the training's."""
        return self.traded.calibration.kind is not CalibrationKind.NONE

    def predict(self, window: Window) -> Scores:
        """Predict from one window (about 0.1 ms). Raises `ValueError` for a window without rows."""
        features = self.engine.transform(window)[None, :]
        traded, *further = (head.claim(found[0]) for head, found in zip(self.heads, self.over_horizons(features), strict=True))
        return Scores(
            p_down=traded.p_down,
            p_flat=traded.p_flat,
            p_up=traded.p_up,
            flow_type=traded.flow_type,
            confidence=traded.confidence,
            regime=_regime(features[0]),
            shock_score=float(features[0, _SHOCK_SCORE]),
            horizons=tuple(further),
        )

    def probabilities(self, features: Float64Array) -> Float64Array:
        """Return calibrated (n, 3) probabilities (down, flat, up) over the traded horizon, of rows of `engine.transform_rows`."""
        return self.traded.calibration.apply(self.raw(features))

    def raw(self, features: Float64Array) -> Float64Array:
        """Return the traded horizon's pool before calibration (`Head.raw`); nets of weight 0 are not asked."""
        return self.traded.raw(features, self.neural.scores(features)[:, 0] if self.traded.neural_weight else None)

    def over_horizons(self, features: Float64Array) -> list[Float64Array]:
        """Return calibrated (n, 3) probabilities over every horizon, in the order of `heads`."""
        is_asked = any(head.neural_weight for head in self.heads)
        nets = self.neural.scores(features) if is_asked else None
        columns = [None if nets is None else nets[:, place] for place in range(len(self.heads))]
        return [head.calibration.apply(head.raw(features, net)) for head, net in zip(self.heads, columns, strict=True)]

    def predict_rows(self, rows: Rows, *, has_trades: bool) -> Float64Array:
        """Return (n, 3) probabilities of every row, each from its own look-back: what `predict` gives on windows."""
        return self.probabilities(self.engine.transform_rows(rows, has_trades=has_trades))


def pool(linear: Float64Array, trees: Float64Array, tree_weight: float) -> Float64Array:
    """Return the logarithmic pool p ~ p_linear^(1-w) * p_trees^w per row (Genest & Zidek 1986)."""
    return np.asarray(_pooled(linear, trees, tree_weight))


# Compiled, because for one row numpy's calls cost more than the arithmetic; and sums in one order for one row and many.


@njit(cache=True)
def _linear_scores(standardised: Any, weights: Any, intercept: Any) -> Any:
    out = np.empty((len(standardised), len(weights)))
    for row in range(len(standardised)):
        for label in range(len(weights)):
            total = intercept[label]
            for column in range(weights.shape[1]):
                total += weights[label, column] * standardised[row, column]
            out[row, label] = total
    return out


@njit(cache=True)
def _log_sum_exp(scores: Any) -> float:
    highest, total = max(scores[0], scores[1], scores[2]), 0.0
    for score in scores:
        total += math.exp(score - highest)
    result: float = highest + math.log(total)
    return result


@njit(cache=True)
def _pooled(linear: Any, trees: Any, tree_weight: float) -> Any:
    out, mixed = np.empty(linear.shape), np.empty(3)
    for row in range(len(linear)):
        left, right = _log_sum_exp(linear[row]), _log_sum_exp(trees[row])
        for label in range(3):
            mixed[label] = (1.0 - tree_weight) * (linear[row, label] - left) + tree_weight * (trees[row, label] - right)
        total = _log_sum_exp(mixed)
        for label in range(3):
            out[row, label] = math.exp(mixed[label] - total)
    return out


def _regime(features: Float64Array) -> int:
    filtered = features[_FIRST_REGIME:]
    return -1 if np.isnan(filtered[0]) else int(np.argmax(filtered))
