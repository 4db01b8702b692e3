"""What serves: a linear model in numpy, boosted trees in treelite, their pool, and the bundle that predicts.

No learning library is imported here: `fitting` trains and hands over plain arrays and treelite bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import treelite

from framework.model import FlowType
from framework.window import Float64Array, Rows, Window
from ml_actor.calibration import Calibration, CalibrationKind, FlowRule, softmax
from ml_actor.features.catalogue import ALL_NAMES, REGIMES
from ml_actor.features.engine import AdvancedMLFeatureEngine

_FIRST_REGIME = len(ALL_NAMES) - REGIMES
_SHOCK_SCORE = _FIRST_REGIME - 1
CLIP_SIGMAS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearModel:
    """Multinomial logistic regression: `offset`, `scale` (F,), `weights` (3, F), `intercept` (3,)."""

    offset: Float64Array
    scale: Float64Array
    weights: Float64Array
    intercept: Float64Array

    def standardised(self, features: Float64Array) -> Float64Array:
        """Return features in standard deviations of the training rows, clipped at 5; NaN becomes their mean (0)."""
        scaled = (features - self.offset) / self.scale
        return np.clip(np.where(np.isnan(scaled), 0.0, scaled), -CLIP_SIGMAS, CLIP_SIGMAS)

    def scores(self, features: Float64Array) -> Float64Array:
        """Return (n, 3) log-odds up to a constant per row.

        Row by row, because BLAS may sum a matrix in another order than a vector.
        """
        return np.stack([self.weights @ row + self.intercept for row in self.standardised(features)])


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeModel:
    """LightGBM's multiclass trees, loaded into treelite."""

    forest: Any

    def scores(self, features: Float64Array) -> Float64Array:
        """Return (n, 3) raw margins."""
        margins = treelite.gtil.predict(self.forest, features, nthread=1, pred_margin=True)
        return np.asarray(margins, np.float64).reshape(len(features), 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One prediction: calibrated probabilities of the mid after `horizon_rows`, and what they claim.

    `regime` is 0 (calm) to 2 (volatile), or -1 below 10 rows; `shock_score` is near 1 in a liquidity shock.
    """

    p_down: float
    p_flat: float
    p_up: float
    flow_type: FlowType
    confidence: float
    regime: int
    shock_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBundle:
    """Everything one version predicts with. Immutable: swapping models is swapping one reference."""

    version: str
    window_rows: int
    horizon_rows: int
    engine: AdvancedMLFeatureEngine
    linear: LinearModel
    trees: TreeModel
    tree_weight: float
    calibration: Calibration
    rule: FlowRule

    @property
    def is_calibrated(self) -> bool:
        """Return whether the probabilities were calibrated on data later than the training's."""
        return self.calibration.kind is not CalibrationKind.NONE

    def predict(self, window: Window) -> Scores:
        """Predict from one window (about 0.2 ms). Raises `ValueError` for a window without rows."""
        features = self.engine.transform(window)[None, :]
        p_down, p_flat, p_up = (float(p) for p in self.probabilities(features)[0])
        flow_type, confidence = self.rule.claim(p_down, p_flat, p_up)
        return Scores(
            p_down=p_down,
            p_flat=p_flat,
            p_up=p_up,
            flow_type=flow_type,
            confidence=confidence,
            regime=_regime(features[0]),
            shock_score=float(features[0, _SHOCK_SCORE]),
        )

    def probabilities(self, features: Float64Array) -> Float64Array:
        """Return calibrated (n, 3) probabilities (down, flat, up) of rows of `engine.transform_rows`."""
        return self.calibration.apply(pool(self.linear.scores(features), self.trees.scores(features), self.tree_weight))

    def predict_rows(self, rows: Rows, *, has_trades: bool) -> Float64Array:
        """Return (n, 3) probabilities of every row, each from its own look-back: what `predict` gives on windows."""
        return self.probabilities(self.engine.transform_rows(rows, has_trades=has_trades))


def pool(linear: Float64Array, trees: Float64Array, tree_weight: float) -> Float64Array:
    """Return the logarithmic pool p ~ p_linear^(1-w) * p_trees^w per row (Genest & Zidek 1986)."""
    return softmax((1 - tree_weight) * _log_softmax(linear) + tree_weight * _log_softmax(trees))


def _log_softmax(scores: Float64Array) -> Float64Array:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _regime(features: Float64Array) -> int:
    filtered = features[_FIRST_REGIME:]
    return -1 if np.isnan(filtered[0]) else int(np.argmax(filtered))
