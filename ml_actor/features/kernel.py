"""The feature kernel: one compiled function computes every row, for training and for serving.

`feature_rows` computes rows `first..n-1`, each from its own last `window_rows` rows in its segment and from nothing
else. Serving calls it with `first = n - 1`, training with `first = 0`: equal bit for bit by construction. Two passes:
`_fill_series` writes per-row series that depend on a row and the row before; `_features_at` reads them backwards from
the row. A series value that looks at the row before is never read at the first row of a look-back.

Everything numba compiles for features stands in this file: its cache notices a change of this file only.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from framework.window import LEVELS
from ml_actor.features.catalogue import FEATURES

Array = Any  # numba arrays; shapes and types are said in the docstrings

FEATURE_COUNT: Final = len(FEATURES)
MISSING_MID: Final = -(2**62)
NAN: Final = math.nan

# Windows over which sums are kept, in rows; the last row of the sums is the whole look-back.
W5, W20, W50, W100, WHOLE = 0, 1, 2, 3, 4
WINDOW_ROWS: Final = (5, 20, 50, 100)

# Columns of the level series (a row alone) ...
DEPTH_1, DEPTH_5, OFI_1, OFI_5, SIGNED, VOLUME, BID_EVENTS, ASK_EVENTS, SIGNED_PRINTS, PRINTS, IMBALANCE = range(11)
LEVEL_SERIES: Final = 11
# ... and of the change series (a row against the row before).
MOVE, MOVE_2, MOVE_X_SIGNED, C_SIGNED, SIGNED_2, MOVE_X_OFI, C_OFI, OFI_2 = range(8)
ADD_BID, ADD_ASK, GONE_BID, GONE_ASK, GAP_S = range(8, 13)
CHANGE_SERIES: Final = 13


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
    """Per-row series: mid in half ticks (n,), a row alone (n, 11), a row against the row before (n, 13)."""

    mids: Array
    levels: Array
    changes: Array


@njit(cache=True)
def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator != 0.0 else NAN


@njit(cache=True)
def _log_ratio(numerator: float, denominator: float) -> float:
    return math.log(numerator / denominator) if numerator > 0.0 and denominator > 0.0 else NAN


@njit(cache=True)
def _sum_of(sizes: Array, levels: int) -> float:
    total = 0.0
    for level in range(levels):
        total += sizes[level]
    return total


@njit(cache=True)
def _fill_levels(i: int, rows: RowArrays, series: Series) -> None:
    flow, levels = rows.flow[i], series.levels[i]
    bid, ask = np.float64(rows.bid_sizes[i, 0]), np.float64(rows.ask_sizes[i, 0])
    has_mid = bid > 0.0 and ask > 0.0
    series.mids[i] = np.int64(rows.bid_ticks[i, 0]) + np.int64(rows.ask_ticks[i, 0]) if has_mid else MISSING_MID
    levels[DEPTH_1] = bid + ask
    levels[DEPTH_5] = _sum_of(rows.bid_sizes[i], 5) + _sum_of(rows.ask_sizes[i], 5)
    levels[OFI_1] = flow[7]
    levels[OFI_5] = _sum_of(flow[7:12], 5)
    levels[SIGNED] = np.float64(flow[0]) - np.float64(flow[1])
    levels[VOLUME] = np.float64(flow[0]) + np.float64(flow[1]) + np.float64(flow[2])
    levels[SIGNED_PRINTS] = np.float64(flow[3]) - np.float64(flow[4])
    levels[PRINTS] = np.float64(flow[3]) + np.float64(flow[4])
    levels[BID_EVENTS] = flow[5]
    levels[ASK_EVENTS] = flow[6]
    levels[IMBALANCE] = (bid - ask) / (bid + ask) if has_mid else 0.0


@njit(cache=True)
def _added_and_gone(before: float, now: float, traded: float) -> tuple[float, float]:
    """Split the size change of an unmoved best into lots added and lots gone without a trade (an L2 proxy)."""
    unexplained = now - before + traded
    return max(0.0, unexplained), max(0.0, -unexplained)


@njit(cache=True)
def _fill_changes(i: int, rows: RowArrays, series: Series) -> None:
    mids, changes = series.mids, series.changes[i]
    both = mids[i] != MISSING_MID and mids[i - 1] != MISSING_MID
    move = 0.5 * np.float64(mids[i] - mids[i - 1]) if both else 0.0
    signed, ofi = series.levels[i, SIGNED], series.levels[i, OFI_1]
    changes[MOVE] = move
    changes[MOVE_2] = move * move
    changes[MOVE_X_SIGNED] = move * signed
    changes[C_SIGNED] = signed
    changes[SIGNED_2] = signed * signed
    changes[MOVE_X_OFI] = move * ofi
    changes[C_OFI] = ofi
    changes[OFI_2] = ofi * ofi
    if both and rows.bid_ticks[i, 0] == rows.bid_ticks[i - 1, 0]:
        sold, sizes = np.float64(rows.flow[i, 1]), rows.bid_sizes
        changes[ADD_BID], changes[GONE_BID] = _added_and_gone(np.float64(sizes[i - 1, 0]), np.float64(sizes[i, 0]), sold)
    if both and rows.ask_ticks[i, 0] == rows.ask_ticks[i - 1, 0]:
        bought, sizes = np.float64(rows.flow[i, 0]), rows.ask_sizes
        changes[ADD_ASK], changes[GONE_ASK] = _added_and_gone(np.float64(sizes[i - 1, 0]), np.float64(sizes[i, 0]), bought)
    changes[GAP_S] = 1e-9 * np.float64(rows.ts_event[i] - rows.ts_event[i - 1])


@njit(cache=True)
def _reset(sums: Array) -> None:
    # Loops instead of array expressions, here and below: they compile in half the time.
    for row in range(sums.shape[0]):
        for column in range(sums.shape[1]):
            sums[row, column] = 0.0 if row == WHOLE else NAN


@njit(cache=True)
def _copy(source: Array, target: Array) -> None:
    for column in range(len(source)):
        target[column] = source[column]


@njit(cache=True)
def _fill_sums(t: int, low: int, series: Series, level_sums: Array, change_sums: Array) -> None:
    """Sum both series backwards from `t`; a window of W rows holds W rows of levels and W - 1 changes.

    Rows of the sums whose window is longer than the look-back stay NaN; row `WHOLE` is the look-back itself.
    """
    _reset(level_sums)
    _reset(change_sums)
    window = 0
    for i in range(t, low - 1, -1):
        for column in range(LEVEL_SERIES):
            level_sums[WHOLE, column] += series.levels[i, column]
        if window < WHOLE and t - i + 1 == WINDOW_ROWS[window]:
            _copy(level_sums[WHOLE], level_sums[window])
            _copy(change_sums[WHOLE], change_sums[window])
            window += 1
        if i > low:
            for column in range(CHANGE_SERIES):
                change_sums[WHOLE, column] += series.changes[i, column]


@njit(cache=True)
def _imbalance(bids: Array, asks: Array, levels: int) -> float:
    if bids[levels - 1] <= 0 or asks[levels - 1] <= 0:
        return NAN
    bid, ask = _sum_of(bids, levels), _sum_of(asks, levels)
    return (bid - ask) / (bid + ask)


@njit(cache=True)
def _slope(ticks: Array, sizes: Array) -> float:
    """Return the least-squares slope of ln(cumulative size) on the distance from the best in ticks, over real levels."""
    count, cumulative = 0, 0.0
    sum_x, sum_y, sum_xx, sum_xy = 0.0, 0.0, 0.0, 0.0
    for level in range(LEVELS):
        if sizes[level] <= 0:
            break
        cumulative += sizes[level]
        x, y = np.float64(abs(ticks[level] - ticks[0])), math.log(cumulative)
        count += 1
        sum_x, sum_y, sum_xx, sum_xy = sum_x + x, sum_y + y, sum_xx + x * x, sum_xy + x * y
    return _ratio(count * sum_xy - sum_x * sum_y, count * sum_xx - sum_x * sum_x) if count >= 3 else NAN


@njit(cache=True)
def _gap(ticks: Array, sizes: Array) -> float:
    return np.float64(abs(ticks[2] - ticks[0]) - 2) if sizes[2] > 0 else NAN


@njit(cache=True)
def _size_change(now: float, before: float) -> float:
    return _ratio(now - before, now + before)


@njit(cache=True)
def _book(t: int, low: int, rows: RowArrays, series: Series, mean: Array) -> Any:
    bids, asks, has_before = rows.bid_sizes[t], rows.ask_sizes[t], t > low
    has_mid = series.mids[t] != MISSING_MID
    bid, ask = np.float64(bids[0]), np.float64(asks[0])
    spread = np.float64(rows.ask_ticks[t, 0] - rows.bid_ticks[t, 0]) if has_mid else NAN
    slope_bid, slope_ask = _slope(rows.bid_ticks[t], bids), _slope(rows.ask_ticks[t], asks)
    gap_bid, gap_ask = _gap(rows.bid_ticks[t], bids), _gap(rows.ask_ticks[t], asks)
    best = _imbalance(bids, asks, 1)
    return (
        best,
        _imbalance(bids, asks, 3),
        _imbalance(bids, asks, 5),
        _imbalance(bids, asks, 10),
        0.5 * spread * best,
        2.0 / math.pi * math.atan(bid / ask) - 0.5 if has_mid else NAN,
        spread,
        _log_ratio(bid, ask),
        _log_ratio(np.float64(bids[1]), np.float64(asks[1])),
        _log_ratio(np.float64(bids[2]), np.float64(asks[2])),
        slope_bid - slope_ask,
        0.5 * (slope_bid + slope_ask),
        gap_ask - gap_bid,
        gap_ask + gap_bid,
        _size_change(bid, np.float64(rows.bid_sizes[t - 1, 0])) if has_before else NAN,
        _size_change(ask, np.float64(rows.ask_sizes[t - 1, 0])) if has_before else NAN,
        _log_ratio(series.levels[t, DEPTH_1], mean[DEPTH_1]),
        _log_ratio(series.levels[t, DEPTH_5], mean[DEPTH_5]),
    )


@njit(cache=True)
def _event_imbalance(sums: Array) -> float:
    return _ratio(sums[BID_EVENTS] - sums[ASK_EVENTS], sums[BID_EVENTS] + sums[ASK_EVENTS])


@njit(cache=True)
def _flow(sums: Array, changes: Array, mean: Array, known: float) -> Any:
    """`known` is 1 where the feed has trades and NaN where it has not."""
    depth_1, recent = mean[DEPTH_1], changes[W20]
    one, five = _ratio(known, depth_1), _ratio(1.0, mean[DEPTH_5])
    added, gone = recent[ADD_BID] + recent[ADD_ASK], recent[GONE_BID] + recent[GONE_ASK]
    any_one, dust = _ratio(1.0, depth_1), 0.01 * depth_1
    fast = (sums[W5, BID_EVENTS] + sums[W5, ASK_EVENTS]) / 5.0
    slow = (sums[W100, BID_EVENTS] + sums[W100, ASK_EVENTS]) / 100.0
    return (
        sums[W5, OFI_1] * any_one,
        sums[W20, OFI_1] * any_one,
        sums[W50, OFI_1] * any_one,
        sums[W100, OFI_1] * any_one,
        sums[W5, OFI_5] * five,
        sums[W20, OFI_5] * five,
        sums[W50, OFI_5] * five,
        sums[W100, OFI_5] * five,
        sums[W5, SIGNED] * one,
        sums[W20, SIGNED] * one,
        sums[W50, SIGNED] * one,
        sums[W100, SIGNED] * one,
        _event_imbalance(sums[W5]),
        _event_imbalance(sums[W20]),
        _event_imbalance(sums[W100]),
        _ratio(sums[W20, SIGNED_PRINTS], sums[W20, PRINTS]) * known,
        _log_ratio(fast, slow),
        _log_ratio(sums[W5, VOLUME] / 5.0 + dust, sums[W100, VOLUME] / 100.0 + dust) * known,
        sums[W20, VOLUME] * one,
        (recent[ADD_BID] - recent[ADD_ASK]) * one,
        (recent[GONE_ASK] - recent[GONE_BID]) * one,
        _ratio(gone, gone + added) * known,
    )


@njit(cache=True)
def _return(t: int, low: int, mids: Array, lag: int) -> float:
    before = t - lag
    if before < low or mids[t] == MISSING_MID or mids[before] == MISSING_MID:
        return NAN
    return 0.5 * np.float64(mids[t] - mids[before])


@njit(cache=True)
def _minus_mean(t: int, low: int, mids: Array, rows: int) -> float:
    if t - rows + 1 < low or mids[t] == MISSING_MID:
        return NAN
    total, count = 0, 0
    for i in range(t - rows + 1, t + 1):
        if mids[i] != MISSING_MID:
            total += mids[t] - mids[i]
            count += 1
    return 0.5 * np.float64(total) / count


@njit(cache=True)
def _range_position(t: int, low: int, mids: Array) -> float:
    least, most = mids[t], mids[t]
    if mids[t] == MISSING_MID:
        return NAN
    for i in range(low, t):
        if mids[i] != MISSING_MID:
            least, most = min(least, mids[i]), max(most, mids[i])
    return _ratio(np.float64(2 * mids[t] - most - least), np.float64(most - least))


@njit(cache=True)
def _last_move(t: int, low: int, changes: Array) -> tuple[float, float]:
    for i in range(t, low, -1):
        if changes[i, MOVE] != 0.0:
            return changes[i, MOVE], math.log(1.0 + t - i)
    return NAN, math.log(1.0 + t - low)


@njit(cache=True)
def _jump_share(t: int, low: int, changes: Array, variance: float) -> float:
    if t - low + 1 < 100 or variance <= 0.0:
        return NAN
    bipower = 0.0
    for i in range(t - 97, t + 1):
        bipower += abs(changes[i, MOVE]) * abs(changes[i - 1, MOVE])
    return max(0.0, 1.0 - 0.5 * math.pi * bipower * (99.0 / 98.0) / variance)


@njit(cache=True)
def _impact(count: float, xy: float, x: float, xx: float, y: float) -> float:
    """Return the least-squares slope of y on x from their sums."""
    spread = count * xx - x * x
    return (count * xy - x * y) / spread if spread > 1e-9 * count * xx else NAN


@njit(cache=True)
def _price(t: int, low: int, series: Series, sums: Array, change_sums: Array) -> Any:
    mids, changes = series.mids, series.changes
    short, whole = change_sums[W20], change_sums[W100]
    move, age = _last_move(t, low, changes)
    mean_imbalance = sums[W20, IMBALANCE] / 20.0
    return (
        _return(t, low, mids, 1),
        _return(t, low, mids, 2),
        _return(t, low, mids, 5),
        _return(t, low, mids, 10),
        _return(t, low, mids, 20),
        _return(t, low, mids, 50),
        _minus_mean(t, low, mids, 20),
        _range_position(t, low, mids),
        move,
        age,
        math.sqrt(short[MOVE_2] / 19.0),
        math.sqrt(whole[MOVE_2] / 99.0),
        _ratio(short[MOVE_2] / 19.0, whole[MOVE_2] / 99.0),
        _jump_share(t, low, changes, whole[MOVE_2]),
        mean_imbalance,
        series.levels[t, IMBALANCE] - mean_imbalance if mids[t] != MISSING_MID else NAN,
    )


@njit(cache=True)
def _impacts(whole: Array, depth_1: float, known: float) -> Any:
    kyle = _impact(99.0, whole[MOVE_X_SIGNED], whole[C_SIGNED], whole[SIGNED_2], whole[MOVE])
    return kyle * depth_1 * known, _impact(99.0, whole[MOVE_X_OFI], whole[C_OFI], whole[OFI_2], whole[MOVE]) * depth_1


@njit(cache=True)
def _clock(t: int, low: int, changes: Array, change_sums: Array) -> Any:
    return (
        math.log(changes[t, GAP_S] + 1e-3) if t > low else NAN,
        math.log(change_sums[W20, GAP_S] / 19.0 + 1e-3),
        math.log((change_sums[W5, GAP_S] / 4.0 + 1e-3) / (change_sums[W100, GAP_S] / 99.0 + 1e-3)),
    )


@njit(cache=True)
def _median(values: Array) -> float:
    """Return the median; sorts `values` (insertion, for at most a look-back of rows that are nearly all alike)."""
    count = len(values)
    for i in range(1, count):
        value, k = values[i], i
        while k > 0 and values[k - 1] > value:
            values[k] = values[k - 1]
            k -= 1
        values[k] = value
    middle: float = 0.5 * (values[(count - 1) // 2] + values[count // 2])
    return middle


@njit(cache=True)
def _robust_z(values: Array, floor: float) -> float:
    """Return the last value in median absolute deviations from the median; overwrites `values`."""
    now = values[len(values) - 1]
    middle = _median(values)
    for i in range(len(values)):
        values[i] = abs(values[i] - middle)
    z: float = (now - middle) / max(1.4826 * _median(values), floor)
    return z


@njit(cache=True)
def _shock(t: int, low: int, rows: RowArrays, series: Series, depth_1: float) -> Any:
    """Robust z of spread, thin depth and |OFI| against the look-back; NaN below 20 sound rows."""
    size, count, mids = t - low + 1, 0, series.mids
    spreads, depths, flows = np.empty(size), np.empty(size), np.empty(size)
    for i in range(low, t + 1):
        if mids[i] != MISSING_MID:
            spreads[count] = np.float64(rows.ask_ticks[i, 0] - rows.bid_ticks[i, 0])
            depths[count] = -math.log(series.levels[i, DEPTH_5])
            flows[count] = abs(series.levels[i, OFI_1])
            count += 1
    if count < 20 or mids[t] == MISSING_MID:
        return NAN, NAN, NAN, NAN
    spread = _robust_z(spreads[:count], 0.5)
    depth = _robust_z(depths[:count], 0.1)
    flow = _robust_z(flows[:count], 0.1 * depth_1)
    return spread, depth, flow, max(spread, depth, flow)


@njit(cache=True)
def _write(out: Array, start: int, values: Any) -> int:
    for offset in range(len(values)):
        out[start + offset] = values[offset]
    return start + len(values)


@njit(cache=True)
def feature_rows(arrays: Any, known: float, window_rows: int, first: int) -> Array:
    """Return float64 (n - first, FEATURE_COUNT): the features of rows `first..n-1`, in the order of the catalogue.

    `arrays` is a plain tuple in the order of `RowArrays`; `known` is 1.0 where the feed has trades and NaN where not.
    """
    rows = RowArrays(arrays[0], arrays[1], arrays[2], arrays[3], arrays[4], arrays[5], arrays[6])
    n = len(rows.ts_event)
    series = Series(np.empty(n, np.int64), np.empty((n, LEVEL_SERIES)), np.zeros((n, CHANGE_SERIES)))
    sums, change_sums, mean = np.empty((5, LEVEL_SERIES)), np.empty((5, CHANGE_SERIES)), np.empty(LEVEL_SERIES)
    out, start = np.empty((n - first, FEATURE_COUNT)), 0
    for t in range(n):
        _fill_levels(t, rows, series)
        if t > 0:
            _fill_changes(t, rows, series)
            start = start if rows.segment[t] == rows.segment[t - 1] else t
        if t < first:
            continue
        low = max(start, t - window_rows + 1)
        _fill_sums(t, low, series, sums, change_sums)
        for column in range(LEVEL_SERIES):
            mean[column] = sums[WHOLE, column] / (t - low + 1)
        row, at = out[t - first], 0
        at = _write(row, at, _book(t, low, rows, series, mean))
        at = _write(row, at, _flow(sums, change_sums, mean, known))
        at = _write(row, at, _price(t, low, series, sums, change_sums))
        at = _write(row, at, _impacts(change_sums[W100], mean[DEPTH_1], known))
        at = _write(row, at, _clock(t, low, series.changes, change_sums))
        _write(row, at, _shock(t, low, rows, series, mean[DEPTH_1]))
    return out
