"""Standard deviations instead of units: what linear models and nets see of a feature."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit

from framework.window import Float64Array

CLIP_SIGMAS: Final = 5.0


def standardised(features: Float64Array, offset: Float64Array, scale: Float64Array) -> Float64Array:
    """Return features in units of `scale` from `offset`, clipped at 5; NaN becomes 0."""
    return np.asarray(_standardised(features, offset, scale))


# Compiled, because for one row numpy's calls cost more than the arithmetic.
@njit(cache=True)
def _standardised(features: Any, offset: Any, scale: Any) -> Any:
    out = np.zeros(features.shape)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            value = (features[row, column] - offset[column]) / scale[column]
            if not math.isnan(value):
                out[row, column] = min(max(value, -CLIP_SIGMAS), CLIP_SIGMAS)
    return out
