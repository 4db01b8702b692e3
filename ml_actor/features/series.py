"""Per-row series and their weighted sums: what most features are made of.

A *level* column says something about one row, a *change* column compares a row with the row before; a change of the first
row of a look-back is never read. Sums run over the look-back of a row: under four weights that halve every 1, 3,
10 and 30 rows, and under equal weights. Recomputing them from the look-back (2 us) instead of updating them keeps
a stream, a window and a recording equal bit for bit, and a long run free of rounding drift.

Everything here is compiled into the functions of `kernel`, which alone are cached.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit

Array = Any  # numba arrays; shapes and types are said in the docstrings

MISSING_MID: Final = -(2**62)
NAN: Final = math.nan

HALF_LIVES: Final = (1, 3, 10, 30)
"""Of the weights, in rows."""
WINDOWS: Final = len(HALF_LIVES) + 1
H1, H3, H10, H30, ALL, BASE = range(WINDOWS + 1)
"""Rows of the means. `BASE` is `ALL` for any number of rows: what depths and spreads are measured in."""
MIN_ROWS: Final = (2, 4, 11, 31, 20)
"""Rows that a look-back must have for sums under each weight; with fewer they are NaN."""
CLOCK_HALF_LIVES_S: Final = (0.5, 2.0, 10.0)
"""Of the Hawkes intensities."""

# Level columns (of a row alone) and change columns (against the row before) that are wanted under every weight ...
OFI_1, OFI_2, OFI_3, OFI_5, BOUGHT, SOLD, UNKNOWN, BUYS, SELLS, BID_EVENTS, ASK_EVENTS, IMBALANCE, SOUND, OFFSET = range(14)
LEVELS_WEIGHTED: Final = 16
ADD_BID, ADD_ASK, GONE_BID, GONE_ASK, MOVE_2, UPS, DOWNS, GAP_S = range(16, 24)
WEIGHTED: Final = 24
# ... and those of which the mean over the whole look-back is enough.
DEPTH_1, DEPTH_5, SPREAD, IMBALANCE_5, IMBALANCE_SQUARED, IMBALANCE_5_SQUARED = range(24, 30)
LEVELS_WHOLE: Final = 32
MOVE, MOVE_X_SIGNED, SIGNED, SIGNED_2, MOVE_X_OFI, C_OFI, C_OFI_2, COST, TRADED, BOTH = range(32, 42)
DEPTH_NOW, DEPTH_BEFORE, DEPTH_X, DEPTH_B2, SPREAD_NOW, SPREAD_BEFORE, SPREAD_X, SPREAD_B2 = range(42, 50)
SUMMED_COLUMNS: Final = 52
DECAY: Final = 52  # one a clock half-life; read by the intensities only
COLUMNS: Final = DECAY + len(CLOCK_HALF_LIVES_S)
FADE_1, FADE_3, FADE_10, FADE_30 = (2.0 ** (-1.0 / rows) for rows in HALF_LIVES)
"""What a weight is multiplied with a row later."""


_Function = TypeVar("_Function", bound=Callable[..., Any])


def inner(function: _Function) -> _Function:
    """Let `function` be compiled into those that call it."""
    return cast(_Function, njit(function))


class RowArrays(NamedTuple):
    """The arrays of `framework.window.Rows` that features are made of, C-contiguous."""

    ts_event: Array
    segment: Array
    bid_ticks: Array
    bid_sizes: Array
    ask_ticks: Array
    ask_sizes: Array
    flow: Array


class Series(NamedTuple):
    """Mid in half ticks int64 (n,), and the columns float64 (n, 55)."""

    mids: Array
    columns: Array


class Sums(NamedTuple):
    """Of one look-back: weighted `means` of the columns (6, 52), the last one whatever the number of rows.

    `totals` (5, window + 1): the sum of the weights of so many rows; `rates` (4, 3) of the intensities.
    """

    means: Array
    totals: Array
    rates: Array


@inner
def new_series(rows: int) -> Series:
    """Return series without values."""
    return Series(np.empty(rows, np.int64), np.zeros((rows, COLUMNS)))


@inner
def new_sums(window_rows: int) -> Sums:
    """Return sums without values, and the sums of the weights."""
    totals = np.zeros((WINDOWS, window_rows + 1))
    for rows in range(window_rows):
        totals[H1, rows + 1] = totals[H1, rows] * FADE_1 + 1.0
        totals[H3, rows + 1] = totals[H3, rows] * FADE_3 + 1.0
        totals[H10, rows + 1] = totals[H10, rows] * FADE_10 + 1.0
        totals[H30, rows + 1] = totals[H30, rows] * FADE_30 + 1.0
        totals[ALL, rows + 1] = totals[ALL, rows] + 1.0
    return Sums(np.empty((WINDOWS + 1, SUMMED_COLUMNS)), totals, np.empty((4, len(CLOCK_HALF_LIVES_S))))


@inner
def ratio(numerator: float, denominator: float) -> float:
    """Return the quotient, NaN by 0."""
    return numerator / denominator if denominator != 0.0 else NAN


@inner
def balance(left: float, right: float) -> float:
    """Return (left - right) / (left + right), NaN when both are 0."""
    return (left - right) / (left + right) if left + right != 0.0 else NAN


@inner
def ln(value: float) -> float:
    """Return the logarithm, NaN for what has none."""
    return math.log(value) if value > 0.0 else NAN


@inner
def sum_of(values: Array, first: int, last: int) -> float:
    """Return the sum of `values[first:last]` in float64."""
    total = 0.0
    for position in range(first, last):
        total += values[position]
    return total


@inner
def fill_levels(i: int, rows: RowArrays, series: Series) -> None:
    """Write the level columns of row `i`."""
    flow, column = rows.flow[i], series.columns[i]
    bid, ask = np.float64(rows.bid_sizes[i, 0]), np.float64(rows.ask_sizes[i, 0])
    bid_5, ask_5 = sum_of(rows.bid_sizes[i], 0, 5), sum_of(rows.ask_sizes[i], 0, 5)
    has_mid = bid > 0.0 and ask > 0.0
    series.mids[i] = np.int64(rows.bid_ticks[i, 0]) + np.int64(rows.ask_ticks[i, 0]) if has_mid else MISSING_MID
    column[DEPTH_1], column[DEPTH_5] = bid + ask, bid_5 + ask_5
    column[OFI_1], column[OFI_2], column[OFI_3], column[OFI_5] = flow[7], flow[8], flow[9], sum_of(flow, 7, 12)
    for offset in range(BOUGHT, ASK_EVENTS + 1):
        column[offset] = flow[offset - BOUGHT]
    column[IMBALANCE] = (bid - ask) / (bid + ask) if has_mid else 0.0
    column[IMBALANCE_5] = (bid_5 - ask_5) / (bid_5 + ask_5) if has_mid else 0.0
    column[IMBALANCE_SQUARED], column[IMBALANCE_5_SQUARED] = column[IMBALANCE] ** 2, column[IMBALANCE_5] ** 2
    column[SPREAD] = np.float64(rows.ask_ticks[i, 0] - rows.bid_ticks[i, 0]) if has_mid else 0.0
    column[SOUND] = 1.0 if has_mid else 0.0
    column[OFFSET] = 0.5 * column[SPREAD] * column[IMBALANCE]


@inner
def _added(i: int, ticks: Array, sizes: Array, traded: float) -> float:
    """Return what came to an unmoved best (negative: what went without a trade), lots; 0 where the best moved."""
    if ticks[i, 0] != ticks[i - 1, 0] or sizes[i, 0] <= 0 or sizes[i - 1, 0] <= 0:
        return 0.0
    return np.float64(sizes[i, 0]) - np.float64(sizes[i - 1, 0]) + traded


@inner
def _fill_moves(i: int, series: Series) -> None:
    column, before = series.columns[i], series.columns[i - 1]
    both = series.mids[i] != MISSING_MID and series.mids[i - 1] != MISSING_MID
    move = 0.5 * np.float64(series.mids[i] - series.mids[i - 1]) if both else 0.0
    signed = column[BOUGHT] - column[SOLD]
    column[MOVE], column[MOVE_2], column[MOVE_X_SIGNED] = move, move * move, move * signed
    column[SIGNED], column[SIGNED_2] = signed, signed * signed
    column[MOVE_X_OFI], column[C_OFI], column[C_OFI_2] = move * column[OFI_1], column[OFI_1], column[OFI_1] ** 2
    column[UPS], column[DOWNS] = np.float64(move > 0.0), np.float64(move < 0.0)
    has_before = before[SOUND] > 0.0
    column[TRADED] = column[BOUGHT] + column[SOLD] if has_before else 0.0
    column[COST] = column[TRADED] * before[SPREAD]
    column[BOTH] = np.float64(both)
    now_depth, depth = (math.log(column[DEPTH_5]), math.log(before[DEPTH_5])) if both else (0.0, 0.0)
    now_spread, spread = (column[SPREAD], before[SPREAD]) if both else (0.0, 0.0)
    column[DEPTH_NOW], column[DEPTH_BEFORE], column[DEPTH_X], column[DEPTH_B2] = now_depth, depth, now_depth * depth, depth * depth
    column[SPREAD_NOW], column[SPREAD_BEFORE], column[SPREAD_X], column[SPREAD_B2] = (
        now_spread,
        spread,
        now_spread * spread,
        spread * spread,
    )


@inner
def fill_changes(i: int, rows: RowArrays, series: Series) -> None:
    """Write the change columns of row `i` > 0."""
    column = series.columns[i]
    _fill_moves(i, series)
    bid = _added(i, rows.bid_ticks, rows.bid_sizes, column[SOLD])
    ask = _added(i, rows.ask_ticks, rows.ask_sizes, column[BOUGHT])
    column[ADD_BID], column[GONE_BID] = max(0.0, bid), max(0.0, -bid)
    column[ADD_ASK], column[GONE_ASK] = max(0.0, ask), max(0.0, -ask)
    column[GAP_S] = 1e-9 * np.float64(rows.ts_event[i] - rows.ts_event[i - 1])
    for clock in range(len(CLOCK_HALF_LIVES_S)):
        column[DECAY + clock] = math.exp(-math.log(2.0) / CLOCK_HALF_LIVES_S[clock] * max(0.0, column[GAP_S]))


@inner
def fill_sums(t: int, low: int, series: Series, sums: Sums) -> None:
    """Write the weighted means of the columns over rows `low..t` (of changes: `low + 1..t`); NaN below `MIN_ROWS`."""
    means, columns = sums.means, series.columns
    for column in range(SUMMED_COLUMNS):
        first = columns[low, column] if column < LEVELS_WEIGHTED or WEIGHTED <= column < LEVELS_WHOLE else 0.0
        for window in range(WINDOWS):
            means[window, column] = first
    for i in range(low + 1, t + 1):
        for column in range(WEIGHTED):
            value = columns[i, column]
            means[H1, column] = means[H1, column] * FADE_1 + value
            means[H3, column] = means[H3, column] * FADE_3 + value
            means[H10, column] = means[H10, column] * FADE_10 + value
            means[H30, column] = means[H30, column] * FADE_30 + value
            means[ALL, column] += value
        for column in range(WEIGHTED, SUMMED_COLUMNS):
            means[ALL, column] += columns[i, column]
    _divide(t - low + 1, sums)


@inner
def _divide(size: int, sums: Sums) -> None:
    for column in range(SUMMED_COLUMNS):
        sums.means[BASE, column] = sums.means[ALL, column]
    for window in range(WINDOWS + 1):
        total = min(window, ALL)
        is_known = window == BASE or size >= MIN_ROWS[total]
        of_levels = 1.0 / sums.totals[total, size] if is_known else NAN
        of_changes = 1.0 / sums.totals[total, size - 1] if is_known and size > 1 else NAN
        _scale(sums.means, window, (0, LEVELS_WEIGHTED), of_levels)
        _scale(sums.means, window, (LEVELS_WEIGHTED, WEIGHTED), of_changes)
        if window >= ALL:
            _scale(sums.means, window, (WEIGHTED, LEVELS_WHOLE), of_levels)
            _scale(sums.means, window, (LEVELS_WHOLE, SUMMED_COLUMNS), of_changes)


@inner
def _scale(means: Array, window: int, columns: tuple[int, int], factor: float) -> None:
    for column in range(columns[0], columns[1]):
        means[window, column] *= factor
