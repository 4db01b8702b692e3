"""Features of the book itself: who stands where, relative to the mean depth and the mean spread of the look-back."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from framework.window import LEVELS
from ml_actor.features.series import (
    ADD_ASK,
    ADD_BID,
    ALL,
    BASE,
    BOUGHT,
    DEPTH_1,
    DEPTH_5,
    GONE_ASK,
    GONE_BID,
    H1,
    H3,
    H10,
    H30,
    IMBALANCE,
    IMBALANCE_5,
    IMBALANCE_5_SQUARED,
    IMBALANCE_SQUARED,
    MISSING_MID,
    NAN,
    SOLD,
    SOUND,
    SPREAD,
    Array,
    RowArrays,
    Series,
    Sums,
    balance,
    inner,
    ln,
    ratio,
    sum_of,
)


class At(NamedTuple):
    """Where features are computed: row `t`, look-back from row `low`; `known` is 1 where the feed has trades, else NaN."""

    t: int
    low: int
    rows: RowArrays
    series: Series
    sums: Sums
    known: float
    has_mid: bool
    depth_1: float
    depth_5: float
    spread: float


@inner
def at_row(t: int, low: int, parts: tuple[RowArrays, Series, Sums], known: float) -> At:
    """Return the place with the units of its look-back: mean depth of level 1 and of levels 1-5 (both sides), mean spread."""
    rows, series, sums = parts
    base = sums.means[BASE]
    depth_1, depth_5 = base[DEPTH_1], base[DEPTH_5]
    spread = base[SPREAD] / base[SOUND] if base[SOUND] > 0.0 else NAN
    return At(t, low, rows, series, sums, known, series.mids[t] != MISSING_MID, depth_1, depth_5, spread)


@inner
def put(out: Array, at: int, values: Any) -> int:
    """Write a tuple of numbers and return the next place."""
    for offset in range(len(values)):
        out[at + offset] = values[offset]
    return at + len(values)


@inner
def _imbalance(bids: Array, asks: Array, levels: int) -> float:
    if bids[levels - 1] <= 0 or asks[levels - 1] <= 0:
        return NAN
    return balance(sum_of(bids, 0, levels), sum_of(asks, 0, levels))


@inner
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
    return ratio(count * sum_xy - sum_x * sum_y, count * sum_xx - sum_x * sum_x) if count >= 3 else NAN


@inner
def _distance(ticks: Array, sizes: Array, level: int) -> float:
    """Return how far `level` (0-based) is from the best, ticks."""
    return np.float64(abs(ticks[level] - ticks[0])) if sizes[level] > 0 else NAN


@inner
def _queue(t: int, low: int, ticks: Array, sizes: Array) -> tuple[float, float]:
    """Return ln(1 + rows that the best price stands) and its size as a share of its largest in that time."""
    if sizes[t, 0] <= 0:
        return NAN, NAN
    first, peak = t, sizes[t, 0]
    while first > low and ticks[first - 1, 0] == ticks[t, 0] and sizes[first - 1, 0] > 0:
        first -= 1
        peak = max(peak, sizes[first, 0])
    return math.log(1.0 + t - first), np.float64(sizes[t, 0]) / np.float64(peak)


@inner
def _size_change(t: int, low: int, sizes: Array) -> float:
    return balance(np.float64(sizes[t, 0]), np.float64(sizes[t - 1, 0])) if t > low else NAN


@inner
def _z(at: At, value: int, squared: int) -> float:
    """Return the value of the row in standard deviations from its mean over the look-back (BiN: Tran et al. 2021)."""
    means = at.sums.means[ALL]
    variance = means[squared] - means[value] * means[value]
    return (at.series.columns[at.t, value] - means[value]) / math.sqrt(variance) if variance > 1e-9 and at.has_mid else NAN


@inner
def _sizes(at: At, out: Array, place: int) -> int:
    """Size ratios of levels 1-5, then the sizes themselves in mean sizes of a level, bid and ask."""
    bids, asks = at.rows.bid_sizes[at.t], at.rows.ask_sizes[at.t]
    usual = ln(0.1 * at.depth_5)
    for level in range(5):
        bid, ask = ln(np.float64(bids[level])), ln(np.float64(asks[level]))
        out[place + level] = bid - ask
        out[place + 5 + level] = bid - usual
        out[place + 10 + level] = ask - usual
    return place + 15


@inner
def _shape(at: At, out: Array, place: int) -> int:
    t, rows = at.t, at.rows
    bids, asks, bid_ticks, ask_ticks = rows.bid_sizes[t], rows.ask_sizes[t], rows.bid_ticks[t], rows.ask_ticks[t]
    slope_bid, slope_ask = _slope(bid_ticks, bids) * at.spread, _slope(ask_ticks, asks) * at.spread
    gap_bid, gap_ask = _distance(bid_ticks, bids, 1) / at.spread, _distance(ask_ticks, asks, 1) / at.spread
    far_bid, far_ask = _distance(bid_ticks, bids, 4) / at.spread, _distance(ask_ticks, asks, 4) / at.spread
    values = (
        slope_bid - slope_ask,
        0.5 * (slope_bid + slope_ask),
        gap_ask - gap_bid,
        gap_ask + gap_bid,
        far_ask - far_bid,
        far_ask + far_bid,
    )
    return put(out, place, values)


@inner
def _queues(at: At, out: Array, place: int) -> int:
    t, low, rows = at.t, at.low, at.rows
    bid_age, bid_left = _queue(t, low, rows.bid_ticks, rows.bid_sizes)
    ask_age, ask_left = _queue(t, low, rows.ask_ticks, rows.ask_sizes)
    changes = _size_change(t, low, rows.bid_sizes), _size_change(t, low, rows.ask_sizes)
    place = put(out, place, (changes[0], changes[1], bid_age, ask_age, bid_left, ask_left))
    for window in (H3, H10, H30):
        place = _drains(at, window, out, place)
    return place


@inner
def _drains(at: At, window: int, out: Array, place: int) -> int:
    """Lots a row that leave each best (traded there, or gone) over its size, and those that join it over those that leave."""
    mean, dust = at.sums.means[window], 0.001 * at.depth_1
    bid_out, ask_out = mean[SOLD] + mean[GONE_BID] + dust, mean[BOUGHT] + mean[GONE_ASK] + dust
    bid_drain = ln(bid_out) - ln(np.float64(at.rows.bid_sizes[at.t, 0]))
    ask_drain = ln(ask_out) - ln(np.float64(at.rows.ask_sizes[at.t, 0]))
    bid_refill, ask_refill = ln(mean[ADD_BID] + dust) - ln(bid_out), ln(mean[ADD_ASK] + dust) - ln(ask_out)
    return put(out, place, (bid_drain, ask_drain, bid_drain - ask_drain, bid_refill - ask_refill))


@inner
def book_features(at: At, out: Array, place: int) -> int:
    """Write the features of the group `book` from `place` on; return the next place."""
    bids, asks, column, means = at.rows.bid_sizes[at.t], at.rows.ask_sizes[at.t], at.series.columns[at.t], at.sums.means
    best, spread = _imbalance(bids, asks, 1), column[SPREAD] / at.spread if at.has_mid else NAN
    place = put(
        out, place, (best, _imbalance(bids, asks, 2), _imbalance(bids, asks, 3), _imbalance(bids, asks, 5), _imbalance(bids, asks, 10))
    )
    place = put(out, place, (0.5 * spread * best, ln(spread), ln(at.spread)))
    place = _sizes(at, out, place)
    place = _shape(at, out, place)
    place = put(out, place, (ln(column[DEPTH_1]) - ln(at.depth_1), ln(column[DEPTH_5]) - ln(at.depth_5)))
    place = _queues(at, out, place)
    place = put(out, place, (_z(at, IMBALANCE, IMBALANCE_SQUARED), _z(at, IMBALANCE_5, IMBALANCE_5_SQUARED)))
    for window in (H3, H10, H30):
        out[place] = means[window, IMBALANCE] / means[window, SOUND] if means[window, SOUND] > 0.0 else NAN
        place += 1
    for window in (H1, H3, H10, H30):
        usual = means[window, IMBALANCE] / means[window, SOUND] if means[window, SOUND] > 0.0 else NAN
        out[place] = column[IMBALANCE] - usual if at.has_mid else NAN
        place += 1
    return place
