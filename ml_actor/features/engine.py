"""`AdvancedMLFeatureEngine`: from a window or from a recording to what the models see, by one kernel."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from framework.window import BAR_COLUMNS, FLOW_COLUMNS, Float64Array, Rows, Window
from ml_actor.features.bars import context_features
from ml_actor.features.catalogue import ALL_NAMES, CONTEXT_NAMES, FEATURE_NAMES
from ml_actor.features.kernel import feature_rows
from ml_actor.features.regime import RegimeModel
from ml_actor.features.series import RowArrays
from ml_actor.features.shock import ShockModel

_FIELDS = tuple(field.name for field in dataclasses.fields(Rows))
_TYPES = {"ts_event": np.int64, "segment": np.int64, "bid_ticks": np.int32, "ask_ticks": np.int32}
_ARRAYS = tuple((name, _TYPES.get(name, np.float32)) for name in RowArrays._fields)
_NO_BARS = np.empty((0, len(BAR_COLUMNS)))


class AdvancedMLFeatureEngine:
    """Features of the last `window_rows` rows: order flow, liquidity shocks and market regimes.

    Without fitted feature models it gives `FEATURE_NAMES`; with both it gives `ALL_NAMES` (shock score and regime
    probabilities behind). `transform` and `transform_rows` agree bit for bit: each row of a recording gets what a window
    that ends in it would get. `with_context` adds the session clock and the bars behind (`CONTEXT_NAMES`), for models that
    were trained with them; where there are no bars they are NaN.
    """

    def __init__(
        self, *, window_rows: int = 100, shock: ShockModel | None = None, regimes: RegimeModel | None = None, with_context: bool = False
    ) -> None:
        if (shock is None) != (regimes is None):
            raise ValueError("shock and regimes come together: give both or none")
        self.window_rows = window_rows
        self.shock = shock
        self.regimes = regimes
        self.with_context = with_context
        self.names = (FEATURE_NAMES if shock is None else ALL_NAMES) + (CONTEXT_NAMES if with_context else ())

    def transform(self, window: Window) -> Float64Array:
        """Return float64 (F,): the features of the last row. Raises `ValueError` for a window without rows."""
        if len(window.rows) == 0:
            raise ValueError(f"{window.instrument_id}: the window has no rows")
        rows = last_rows(window.rows, self.window_rows)
        return np.asarray(self._features(rows, window.bars, has_trades=window.has_trades, first=len(rows) - 1)[0])

    def transform_rows(self, rows: Rows, *, has_trades: bool, bars: Float64Array | None = None) -> Float64Array:
        """Return float64 (n, F): the features of every row, each from its own last `window_rows` rows in its segment.

        `bars` (m, 6) of the whole recording, oldest first: each row sees those that had ended when it came.
        """
        return self._features(rows, _NO_BARS if bars is None else bars, has_trades=has_trades, first=0)

    def complete(self, features: Float64Array, rows: Rows, first: int = 0) -> Float64Array:
        """Add what the fitted models see behind kernel features of rows `first..n-1`; nothing without fitted models."""
        return self._complete(features, plain_arrays(rows), first)

    def _features(self, rows: Rows, bars: Float64Array, *, has_trades: bool, first: int) -> Float64Array:
        arrays = plain_arrays(rows)
        features: Float64Array = feature_rows(arrays, 1.0 if has_trades else math.nan, self.window_rows, first)
        found = self._complete(features, arrays, first)
        if not self.with_context:
            return found
        return np.ascontiguousarray(np.hstack([found, context_features(rows.ts_event[first:], bars)]))

    def _complete(self, features: Float64Array, arrays: tuple[Any, ...], first: int) -> Float64Array:
        if self.shock is None or self.regimes is None:
            return features
        out = np.empty((len(features), len(ALL_NAMES)))
        out[:, : len(FEATURE_NAMES)] = features
        out[:, len(FEATURE_NAMES)] = self.shock.scores(features)
        out[:, len(FEATURE_NAMES) + 1 :] = self.regimes.filtered_arrays(arrays[1:], self.window_rows, first)
        return out


def plain_arrays(rows: Rows) -> tuple[Any, ...]:
    """Return copies in the order of `RowArrays`: the kernel is compiled once, for writable, aligned, contiguous arrays."""
    return tuple(np.array(getattr(rows, name), kind, order="C") for name, kind in _ARRAYS)


def last_rows(rows: Rows, count: int) -> Rows:
    """Return the last `count` rows (views)."""
    return select(rows, slice(max(0, len(rows) - count), len(rows)))


def select(rows: Rows, where: slice) -> Rows:
    """Return the rows of a slice (views)."""
    return Rows(**{name: getattr(rows, name)[where] for name in _FIELDS})


def mirror(rows: Rows) -> Rows:
    """Exchange bid and ask: prices change their sign, buyers become sellers. A label changes its sign with it.

    Shown to the models beside the rows themselves, it teaches them that the market has no preferred direction.
    """
    has_ask, has_bid = rows.ask_sizes > 0, rows.bid_sizes > 0
    flow = -rows.flow
    for left, right in (("buy_volume", "sell_volume"), ("buy_trades", "sell_trades"), ("bid_events", "ask_events")):
        i, j = FLOW_COLUMNS.index(left), FLOW_COLUMNS.index(right)
        flow[:, i], flow[:, j] = rows.flow[:, j], rows.flow[:, i]
    unknown = FLOW_COLUMNS.index("unknown_volume")
    flow[:, unknown] = rows.flow[:, unknown]
    return dataclasses.replace(
        rows,
        bid_ticks=np.where(has_ask, -rows.ask_ticks, 0).astype(np.int32),
        bid_sizes=rows.ask_sizes.copy(),
        ask_ticks=np.where(has_bid, -rows.bid_ticks, 0).astype(np.int32),
        ask_sizes=rows.bid_sizes.copy(),
        flow=flow,
    )
