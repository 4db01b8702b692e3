"""Which class a prediction names, where it must name one: the largest probability after that of flat was multiplied by a weight.

Where most horizons end unchanged the largest probability is nearly always *flat*, and says little about the rest. The weight is
the one with the best Matthews correlation on rows that the model was not fitted on: the mean of the correlation that
happened there and of the one that the calibrated probabilities expect. What happened trusts nobody, but is noisy
where few independent moves were seen; what is expected is smooth, but only as good as the calibration. Up and down weigh the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from framework.window import Float64Array, Int64Array
from ml_actor.evaluation import matthews_of
from ml_actor.labels import DOWN, FLAT, UP

CANDIDATES: Final = 61
_TAIL: Final = 0.005
_TINY: Final = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRule:
    """Names flat where `flat_weight` times its probability is the largest of the three; 1 is the largest probability."""

    flat_weight: float = 1.0

    def calls(self, probabilities: Float64Array) -> Int64Array:
        """Return `DOWN`, `FLAT` or `UP` per row of (n, 3)."""
        sides = np.where(probabilities[:, UP] > probabilities[:, DOWN], UP, DOWN)
        is_flat = self.flat_weight * probabilities[:, FLAT] >= np.maximum(probabilities[:, UP], probabilities[:, DOWN])
        return np.where(is_flat, FLAT, sides)


def even_rule(shares: Float64Array) -> CallRule:
    """Return the best rule where each class counts the same (Elkan 2001), of the shares (3,) of the classes."""
    return CallRule(flat_weight=float((shares[DOWN] + shares[UP]) / 2 / max(float(shares[FLAT]), _TINY)))


def choose_calls(probabilities: Float64Array, classes: Int64Array) -> CallRule:
    """Return the rule with the best correlation on rows whose classes are known; `probabilities` (n, 3) are of others' making.

    Candidates are the weights that leave 0.5 % to 99.5 % of the rows flat.
    """
    ratios = np.maximum(probabilities[:, UP], probabilities[:, DOWN]) / np.maximum(probabilities[:, FLAT], _TINY)
    weights = np.unique(np.quantile(ratios, np.linspace(_TAIL, 1 - _TAIL, CANDIDATES)))
    happened = np.eye(3)[classes]
    rules = [CallRule(flat_weight=float(weight)) for weight in weights]
    return max(rules, key=lambda rule: _correlation(rule.calls(probabilities), happened, probabilities))


def _correlation(calls: Int64Array, happened: Float64Array, expected: Float64Array) -> float:
    """Return the mean of the correlation of the calls with what happened and with what was expected."""
    said = np.eye(3)[calls]
    return (matthews_of(said.T @ happened) + matthews_of(said.T @ expected)) / 2
