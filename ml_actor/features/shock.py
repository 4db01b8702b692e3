"""Liquidity shocks: an IsolationForest, served as flat arrays (some microseconds instead of sklearn's 6 ms)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from framework.window import Float64Array
from ml_actor.features.catalogue import INDEX, SHOCK_INPUTS
from ml_actor.forest import Forest, from_arrays

_COLUMNS: Final = [INDEX[name] for name in SHOCK_INPUTS]
_BOUND: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class ShockModel:
    """`forest` gives the mean path length of `SHOCK_INPUTS`; `medians` (8,) of the training rows stand in for NaN.

    `usual_path` is c(n) of Liu, Ting & Zhou (2008): the mean path length in a random tree of as many rows.
    """

    forest: Forest | None
    medians: Float64Array
    usual_path: float

    def inputs(self, features: Float64Array) -> Float64Array:
        """Return the columns that the forest sees: no NaN, within a million, rounded to float32 as sklearn does."""
        chosen = features[:, _COLUMNS]
        bounded = np.clip(np.where(np.isnan(chosen), self.medians, chosen), -_BOUND, _BOUND)
        return bounded.astype(np.float32).astype(np.float64)

    def scores(self, features: Float64Array) -> Float64Array:
        """Return float64 (n,): the anomaly score of Liu, Ting & Zhou (2008), near 1 for a shock, about 0.5 for the usual."""
        if self.forest is None:
            raise ValueError("shock: no forest was fitted")
        return np.asarray(np.exp2(-self.forest.margins(self.inputs(features))[:, 0] / self.usual_path))

    def arrays(self) -> dict[str, Any]:
        """Return what `shock_from_arrays` takes."""
        trees = self.forest.arrays() if self.forest else {}
        return {"medians": self.medians, "usual_path": np.array(self.usual_path), **trees}


def shock_from_arrays(arrays: dict[str, Any]) -> ShockModel:
    """Build the model from what `ShockModel.arrays` gave. Raises `ValueError` for arrays that are no forest."""
    trees = {name: array for name, array in arrays.items() if name not in ("medians", "usual_path")}
    return ShockModel(forest=from_arrays(trees), medians=arrays["medians"], usual_path=float(arrays["usual_path"]))
