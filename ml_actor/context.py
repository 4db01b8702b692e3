"""Long context: how lively the market is now, measured over far more rows than a window holds.

Averages with half-lives of 300 and 1500 rows run over a recording and across its session breaks, as a trader's memory
does; a row's average holds that row and what came before it, nothing later. At the start they begin at the mean of the
training rows, which weighs as much as 100 rows. Every number is a ratio (spreads, depths), so that it travels between
instruments. Windows are too short for it: it serves where whole recordings are read (`horizons`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numba import njit

from framework.window import Float64Array, Rows

HALF_LIVES: Final = (300.0, 1_500.0)
PRIOR_ROWS: Final = 100.0
SHORT_ROWS: Final = (5, 20, 100)

NAMES: Final = (
    *(f"long_{name}_{half_life:g}" for half_life in HALF_LIVES for name in ("volatility", "turnover")),
    "depth_trend",
    "spread_trend",
    *(f"{name}_{rows}_to_long" for rows in SHORT_ROWS for name in ("volume", "depth")),
    *(f"volatility_{rows}_to_long" for rows in SHORT_ROWS[1:]),
    "spread_to_long",
    "bid_size_to_long",
    "ask_size_to_long",
)
ORDER: Final = np.array([*range(len(NAMES) - 2), len(NAMES) - 1, len(NAMES) - 2])
SIGN: Final = np.ones(len(NAMES))
"""Mirrored rows give `values[:, ORDER] * SIGN`."""

SERIES: Final = ("variance", "volume", "depth", "spread")


def series(rows: Rows) -> Float64Array:
    """Return float64 (n, 4) by `SERIES`: squared mid moves (ticks), lots, size of both best queues, spread (ticks); NaN where unknown."""
    bid, ask = rows.bid_sizes[:, 0].astype(np.float64), rows.ask_sizes[:, 0].astype(np.float64)
    is_whole = (bid > 0) & (ask > 0)
    mids = 0.5 * (rows.bid_ticks[:, 0].astype(np.float64) + rows.ask_ticks[:, 0].astype(np.float64))
    mids = np.where(is_whole, mids, np.nan)
    moves = np.append(np.nan, np.diff(mids))
    moves[1:][np.diff(rows.segment) != 0] = np.nan
    spread = np.maximum(1.0, (rows.ask_ticks[:, 0] - rows.bid_ticks[:, 0]).astype(np.float64))
    columns = (
        moves**2,
        rows.flow[:, :3].astype(np.float64).sum(axis=1),
        np.where(is_whole, bid + ask, np.nan),
        np.where(is_whole, spread, np.nan),
    )
    return np.column_stack(columns)


def prior(parts: Sequence[Rows]) -> Float64Array:
    """Return the mean of each of `SERIES` over the training rows: what the averages begin with."""
    joined = np.concatenate([series(rows) for rows in parts])
    known = ~np.isnan(joined)
    return np.asarray(np.where(known, joined, 0.0).sum(axis=0) / np.maximum(1, known.sum(axis=0)))


def context_rows(rows: Rows, begin: Float64Array) -> Float64Array:
    """Return float64 (n, F) by `NAMES`; `begin` is what `prior` gave for the training rows."""
    values = series(rows)
    fast, slow = (_averages(values, begin, half_life) for half_life in HALF_LIVES)
    shorts = [recent_means(values, rows.segment, count) for count in SHORT_ROWS]
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = [column for long in (fast, slow) for column in _levels(long)]
        columns += [np.log(fast[:, 2] / slow[:, 2]), np.log(fast[:, 3] / slow[:, 3])]
        for short in shorts:
            columns += [_ratio(short[:, 1], slow[:, 1], 0.01 * slow[:, 2]), np.log(short[:, 2] / slow[:, 2])]
        columns += [_ratio(short[:, 0], slow[:, 0], 0.01 * slow[:, 3] ** 2) for short in shorts[1:]]
        columns.append(np.log(values[:, 3] / slow[:, 3]))
        columns += [np.log((sizes[:, 0] + 1.0) / slow[:, 2]) for sizes in (rows.bid_sizes, rows.ask_sizes)]
    return np.ascontiguousarray(np.column_stack(columns))


def _levels(long: Float64Array) -> list[Float64Array]:
    return [np.log(long[:, 0] / long[:, 3] ** 2 + 1e-3), np.log(long[:, 1] / long[:, 2] + 1e-3)]


def _ratio(short: Float64Array, long: Float64Array, floor: Float64Array) -> Float64Array:
    return np.asarray(np.log((short + floor) / (long + floor)))


@njit(cache=True)
def _averages(values: Any, begin: Any, half_life: float) -> Any:
    out = np.empty(values.shape)
    kept = 0.5 ** (1.0 / half_life)
    for column in range(values.shape[1]):
        total, weight = 0.0, 0.0
        for i in range(len(values)):
            if not np.isnan(values[i, column]):
                total, weight = total * kept + values[i, column], weight * kept + 1.0
            out[i, column] = (total + PRIOR_ROWS * begin[column]) / (weight + PRIOR_ROWS)
    return out


def recent_means(values: Float64Array, segment: Any, count: int) -> Float64Array:
    """Return per column the mean of the last `count` rows within the segment, over what is known of them."""
    out: Float64Array = _recent(values, segment, count)
    return out


@njit(cache=True)
def _recent(values: Any, segment: Any, count: int) -> Any:
    out, start = np.full(values.shape, np.nan), 0
    for i in range(len(values)):
        if i > 0 and segment[i] != segment[i - 1]:
            start = i
        for column in range(values.shape[1]):
            total, known = 0.0, 0
            for k in range(max(start, i - count + 1), i + 1):
                if not np.isnan(values[k, column]):
                    total, known = total + values[k, column], known + 1
            if known > 0:
                out[i, column] = total / known
    return out
