"""Features of a stream: each new row costs one row, not a window."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from framework.window import Float64Array, Rows
from ml_actor.features.engine import ARRAYS
from ml_actor.features.kernel import new_memory, next_features

ROOM = 4
"""Look-backs that fit into the memory; when it is full, the last one moves to the front."""


class FeatureStream:
    """The features of one instrument row by row: bit for bit what the engine gives for windows that end in these rows.

    Same schema as `AdvancedMLFeatureEngine` without fitted models. It holds four look-backs of rows, whatever comes.
    """

    def __init__(self, *, has_trades: bool, window_rows: int = 100) -> None:
        self._known = 1.0 if has_trades else math.nan
        self._memory = new_memory(window_rows, ROOM * window_rows)

    def push(self, rows: Rows) -> Float64Array:
        """Take in the next rows (usually one) and return their features, float64 (n, F)."""
        return next_features(self._memory, tuple(_plain(getattr(rows, name), kind) for name, kind in ARRAYS), self._known)  # type: ignore[no-any-return]


def _plain(array: np.ndarray[Any, Any], kind: Any) -> np.ndarray[Any, Any]:
    """Return the array itself where the kernel can take it, else a copy that it can."""
    return array if array.flags.carray and array.dtype == kind else np.array(array, kind, order="C")
