"""Features of a stream: each new row costs one row, not a window."""

from __future__ import annotations

import math

import numpy as np

from framework.window import Float64Array, Rows
from ml_actor.features.engine import plain_arrays
from ml_actor.features.kernel import FEATURE_COUNT, new_memory, next_features

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
        times, segment, flow = rows.ts_event, rows.segment, rows.flow
        bid_ticks, bid_sizes, ask_ticks, ask_sizes = rows.bid_ticks, rows.bid_sizes, rows.ask_ticks, rows.ask_sizes
        is_plain = times.flags.carray and segment.flags.carray and flow.flags.carray and bid_ticks.flags.carray
        if is_plain and bid_sizes.flags.carray and ask_ticks.flags.carray and ask_sizes.flags.carray:
            arrays = (times, segment, bid_ticks, bid_sizes, ask_ticks, ask_sizes, flow)
        else:
            arrays = plain_arrays(rows)
        out = np.empty((len(times), FEATURE_COUNT))
        next_features(self._memory, arrays, self._known, out)
        return out
