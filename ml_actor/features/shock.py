"""Liquidity shocks: an IsolationForest, served as flat arrays (some microseconds instead of sklearn's 6 ms)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit

from framework.window import Float64Array
from ml_actor.features.catalogue import INDEX, SHOCK_INPUTS
from ml_actor.forest import Forest, from_arrays

_COLUMNS: Final = np.array([INDEX[name] for name in SHOCK_INPUTS])
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
        return _inputs(features, _COLUMNS, self.medians)  # type: ignore[no-any-return]

    def scores(self, features: Float64Array) -> Float64Array:
        """Return float64 (n,): the anomaly score of Liu, Ting & Zhou (2008), near 1 for a shock, about 0.5 for the usual."""
        if self.forest is None:
            raise ValueError("shock: no forest was fitted")
        return _scores(self.forest.margins(self.inputs(features)), self.usual_path)  # type: ignore[no-any-return]

    def arrays(self) -> dict[str, Any]:
        """Return what `shock_from_arrays` takes."""
        trees = self.forest.arrays() if self.forest else {}
        return {"medians": self.medians, "usual_path": np.array(self.usual_path), **trees}


def shock_from_arrays(arrays: dict[str, Any]) -> ShockModel:
    """Build the model from what `ShockModel.arrays` gave. Raises `ValueError` for arrays that are no forest."""
    trees = {name: array for name, array in arrays.items() if name not in ("medians", "usual_path")}
    return ShockModel(forest=from_arrays(trees), medians=arrays["medians"], usual_path=float(arrays["usual_path"]))


# Compiled, because for one row numpy's calls cost more than the arithmetic.


@njit(cache=True)
def _inputs(features: Any, columns: Any, medians: Any) -> Any:
    out = np.empty((len(features), len(columns)))
    for row in range(len(features)):
        for place in range(len(columns)):
            value = features[row, columns[place]]
            known = medians[place] if math.isnan(value) else min(max(value, -_BOUND), _BOUND)
            out[row, place] = np.float64(np.float32(known))
    return out


@njit(cache=True)
def _scores(paths: Any, usual_path: float) -> Any:
    out = np.empty(len(paths))
    for row in range(len(paths)):
        out[row] = 2.0 ** (-paths[row, 0] / usual_path)
    return out
