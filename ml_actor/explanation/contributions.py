"""What each feature adds to the log-odds of up against down, before calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from framework.window import Float64Array
from ml_actor.explanation.integrated import net_contributions
from ml_actor.explanation.shapley import contributions
from ml_actor.labels import DOWN, UP
from ml_actor.models import ModelBundle

BACKGROUND_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Contributions:
    """`base` + the sum of `added` (sources, F) is the log-odds; `raw` (3,) are the probabilities before calibration."""

    base: float
    added: Float64Array
    sources: tuple[str, ...]
    how: dict[str, str]
    raw: Float64Array


def contributions_of(bundle: ModelBundle, features: Float64Array, background: Float64Array) -> Contributions:
    """Part the log-odds of one row among its features.

    The logarithmic pool adds log-odds with its weights, so linear terms and trees can be told apart exactly; calibration changes
    log-odds afterwards and is not parted.
    """
    head, row = bundle.traded, features[None, :]
    linear, weight, net = head.linear, head.tree_weight, head.neural_weight
    terms = linear.standardised(row)[0] * (linear.weights[UP] - linear.weights[DOWN])
    stride = max(1, len(background) // BACKGROUND_ROWS)
    added, base = contributions(head.trees.forest, features, background[::-1][::stride])
    trees = np.zeros(len(features))
    trees[: added.shape[1]] = added[UP] - added[DOWN]
    rest = 1 - net
    return Contributions(
        base=float(rest * ((1 - weight) * (linear.intercept[UP] - linear.intercept[DOWN]) + weight * (base[UP] - base[DOWN]))),
        added=np.stack([rest * (1 - weight) * terms, rest * weight * trees, net * net_contributions(bundle.neural, row)]),
        sources=("linear", "trees", "net"),
        how={
            "linear": f"exact terms of the linear model (coefficient x standardised value), weight {rest * (1 - weight):.2f} in the pool",
            "trees": (
                f"TreeSHAP on the boosted trees (Lundberg et al. 2020), averaged over the {len(background[::-1][::stride])} rows "
                f"before, weight {rest * weight:.2f} in the pool"
            ),
            "net": f"integrated gradients from the mean of the training rows (Sundararajan et al. 2017), weight {net:.2f} in the pool",
        },
        raw=bundle.raw(row)[0],
    )
