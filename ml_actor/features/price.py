"""Features of the price path, of impact and trading costs, and of the clock. Prices in mean spreads of the look-back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ml_actor.features.book import At, put
from ml_actor.features.series import (
    ALL,
    BOTH,
    BOUGHT,
    C_OFI,
    C_OFI_2,
    COST,
    DEPTH_B2,
    DEPTH_BEFORE,
    DEPTH_NOW,
    DEPTH_X,
    DOWNS,
    FADE_3,
    FADE_10,
    FADE_30,
    GAP_S,
    H3,
    H10,
    H30,
    MIN_ROWS,
    MISSING_MID,
    MOVE,
    MOVE_2,
    MOVE_X_OFI,
    MOVE_X_SIGNED,
    NAN,
    OFFSET,
    SIGNED,
    SIGNED_2,
    SOLD,
    SOUND,
    SPREAD_B2,
    SPREAD_BEFORE,
    SPREAD_NOW,
    SPREAD_X,
    TRADED,
    UNKNOWN,
    UPS,
    Array,
    balance,
    inner,
    ratio,
)

_AFTER = 5  # rows after which a trade's price is compared with the mid


@inner
def _return(at: At, lag: int) -> float:
    before, mids = at.t - lag, at.series.mids
    if before < at.low or not at.has_mid or mids[before] == MISSING_MID:
        return NAN
    return 0.5 * np.float64(mids[at.t] - mids[before]) / at.spread


@inner
def _minus_means(at: At, out: Array, place: int) -> int:
    """The mid minus its weighted means over the look-back (h3, h10, h30, all), then the weighted mid minus its own."""
    mids, now, rows, means = at.series.mids, at.series.mids[at.t], at.t - at.low + 1, at.sums.means
    h3, h10, h30, whole = 0.0, 0.0, 0.0, 0.0
    for i in range(at.low, at.t + 1):
        gap = np.float64(now - mids[i]) if at.has_mid and mids[i] != MISSING_MID else 0.0
        h3, h10, h30, whole = h3 * FADE_3 + gap, h10 * FADE_10 + gap, h30 * FADE_30 + gap, whole + gap
    gaps = (h3, h10, h30, whole)
    for place_of in range(4):
        window = H3 + place_of
        sound = means[window, SOUND]
        is_known = at.has_mid and rows >= MIN_ROWS[window]
        mid = 0.5 * ratio(gaps[place_of], sound * at.sums.totals[window, rows]) if is_known else NAN
        out[place + place_of] = mid / at.spread
        out[place + 4 + place_of] = (mid + (at.series.columns[at.t, OFFSET] - ratio(means[window, OFFSET], sound))) / at.spread
    return place + 8


@inner
def _minus_traded(at: At, out: Array, place: int) -> int:
    """The mid minus the weighted mean price of trades (h3, h10, h30); a trade's price is the best before it."""
    rows, columns, now = at.rows, at.series.columns, at.series.mids[at.t]
    h3, h10, h30, n3, n10, n30 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(at.low + 1, at.t + 1):
        lots, gap = columns[i, TRADED] if at.has_mid else 0.0, 0.0
        if lots > 0.0:
            above = columns[i, BOUGHT] * np.float64(now - 2 * np.int64(rows.ask_ticks[i - 1, 0]))
            gap = above + columns[i, SOLD] * np.float64(now - 2 * np.int64(rows.bid_ticks[i - 1, 0]))
        h3, h10, h30 = h3 * FADE_3 + gap, h10 * FADE_10 + gap, h30 * FADE_30 + gap
        n3, n10, n30 = n3 * FADE_3 + lots, n10 * FADE_10 + lots, n30 * FADE_30 + lots
    unit = 0.5 / at.spread * at.known
    return put(out, place, (ratio(h3, n3) * unit, ratio(h10, n10) * unit, ratio(h30, n30) * unit))


@inner
def _range_position(at: At) -> float:
    mids, now = at.series.mids, at.series.mids[at.t]
    least, most = now, now
    if not at.has_mid:
        return NAN
    for i in range(at.low, at.t):
        if mids[i] != MISSING_MID:
            least, most = min(least, mids[i]), max(most, mids[i])
    return ratio(np.float64(2 * now - most - least), np.float64(most - least))


@inner
def _moves(at: At) -> Any:
    """Return last move, ln(1 + rows since), the move before it, ln(1 + rows between)."""
    columns, last, age = at.series.columns, NAN, at.t - at.low
    for i in range(at.t, at.low, -1):
        move = columns[i, MOVE]
        if move != 0.0 and math.isnan(last):
            last, age = move / at.spread, at.t - i
        elif move != 0.0:
            return last, math.log(1.0 + age), move / at.spread, math.log(1.0 + (at.t - i) - age)
    return last, math.log(1.0 + age), NAN, NAN


@inner
def _products(at: At) -> tuple[float, float]:
    """Return sums over the look-back of |move| |move before| and of move x move before, ticks squared."""
    columns, bipower, product = at.series.columns, 0.0, 0.0
    for i in range(at.low + 2, at.t + 1):
        term = columns[i, MOVE] * columns[i - 1, MOVE]
        bipower, product = bipower + abs(term), product + term
    return bipower, product


@inner
def price_features(at: At, out: Array, place: int) -> int:
    """Write the features of the groups `price` and `volatility` from `place` on; return the next place."""
    for lag in (1, 2, 3, 5, 10, 20, 50):
        out[place] = _return(at, lag)
        place += 1
    place = _minus_means(at, out, place)
    place = _minus_traded(at, out, place)
    out[place] = _range_position(at)
    place = put(out, place + 1, _moves(at))
    for window in (H10, H30, ALL):
        mean = at.sums.means[window]
        out[place], out[place + 3] = balance(mean[UPS], mean[DOWNS]), math.sqrt(mean[MOVE_2]) / at.spread
        place += 1
    return _variances(at, out, place + 3)


@inner
def _variances(at: At, out: Array, place: int) -> int:
    recent, whole, changes = at.sums.means[H10], at.sums.means[ALL], np.float64(at.t - at.low)
    bipower, product = _products(at)
    variance = whole[MOVE_2] * changes
    jump = 1.0 - 0.5 * math.pi * bipower * changes / (changes - 1.0) / variance if variance > 0.0 else NAN
    values = (ratio(recent[MOVE_2], whole[MOVE_2]), jump if math.isnan(jump) else max(0.0, jump), ratio(product, variance))
    return put(out, place, values)


@inner
def _slope(mean: Array, columns: Any) -> float:
    """Return the least-squares slope of y on x from weighted means of xy, x, xx and y."""
    x, spread = mean[columns[1]], mean[columns[2]] - mean[columns[1]] ** 2
    return (mean[columns[0]] - x * mean[columns[3]]) / spread if spread > 1e-9 * mean[columns[2]] else NAN


@inner
def _recovery(mean: Array, columns: Any) -> float:
    """Return 1 - slope of a value on the value before: how much of a deviation is gone a row later."""
    both = mean[BOTH]
    if not both > 0.0:
        return NAN
    product, before = mean[columns[0]] / both, mean[columns[1]] / both
    squared, now = mean[columns[2]] / both, mean[columns[3]] / both
    spread = squared - before * before
    return 1.0 - (product - before * now) / spread if spread > 1e-9 * squared else NAN


@inner
def _realised(at: At) -> float:
    """Return twice (price - mid five rows later), signed by the aggressor, a lot, ticks; a trade's price is the best before it."""
    rows, columns, mids, total, lots = at.rows, at.series.columns, at.series.mids, 0.0, 0.0
    for i in range(at.low + 1, at.t - _AFTER + 1):
        if columns[i, TRADED] > 0.0 and mids[i + _AFTER] != MISSING_MID:
            over = columns[i, BOUGHT] * np.float64(2 * np.int64(rows.ask_ticks[i - 1, 0]) - mids[i + _AFTER])
            under = columns[i, SOLD] * np.float64(mids[i + _AFTER] - 2 * np.int64(rows.bid_ticks[i - 1, 0]))
            total, lots = total + (over + under), lots + columns[i, TRADED]
    return ratio(total, lots)


@inner
def impact_features(at: At, out: Array, place: int) -> int:
    """Write the features of the group `impact` from `place` on; return the next place."""
    whole = at.sums.means[ALL]
    unit = at.depth_1 / at.spread
    effective, realised = ratio(whole[COST], whole[TRADED]) / at.spread * at.known, _realised(at) / at.spread * at.known
    values = (
        _slope(whole, (MOVE_X_SIGNED, SIGNED, SIGNED_2, MOVE)) * unit * at.known,
        _slope(whole, (MOVE_X_OFI, C_OFI, C_OFI_2, MOVE)) * unit,
        effective,
        realised,
        effective - realised,
        _recovery(whole, (DEPTH_X, DEPTH_BEFORE, DEPTH_B2, DEPTH_NOW)),
        _recovery(whole, (SPREAD_X, SPREAD_BEFORE, SPREAD_B2, SPREAD_NOW)),
    )
    return put(out, place, values)


@inner
def _rows_since_trade(at: At) -> float:
    columns = at.series.columns
    for i in range(at.t, at.low - 1, -1):
        if columns[i, BOUGHT] + columns[i, SOLD] + columns[i, UNKNOWN] > 0.0:
            return math.log(1.0 + at.t - i)
    return math.log(2.0 + at.t - at.low)


@inner
def clock_features(at: At, out: Array, place: int) -> int:
    """Write the features of the group `clock` from `place` on; return the next place."""
    means = at.sums.means
    gap = at.series.columns[at.t, GAP_S]
    values = (
        math.log(max(0.0, gap) + 1e-3) if at.t > at.low else NAN,
        math.log(means[H10, GAP_S] + 1e-3),
        math.log((means[H3, GAP_S] + 1e-3) / (means[ALL, GAP_S] + 1e-3)),
        _rows_since_trade(at) * at.known,
    )
    return put(out, place, values)
