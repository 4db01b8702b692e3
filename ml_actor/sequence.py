"""The last rows as they came: what models see of order and age, beside the sums and means of the feature kernel.

One compiled function for training and serving, each row from its own last 100 rows in its segment. Sizes are in mean
depths and prices in mean spreads of that window, so that the numbers mean the same for any instrument. A row that is
not there (the segment is younger, a side was empty) is NaN.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit

from framework.window import LEVELS, Float64Array, Rows

LOOK_BACK_ROWS: Final = 100
LAGS: Final = (1, 2, 3, 4, 5, 6, 8, 10)
MEMORY_LAGS: Final = (1, 2, 3, 4, 5, 7, 10, 14, 20)
SIDES: Final = ("bid", "ask")
LAGGED: Final = ("imbalance", "order_flow", "trades", "move")
QUEUE: Final = ("age", "size_to_peak", "size_to_birth", "traded_to_size")

NAMES: Final = (
    *(f"{name}_lag_{lag}" for name in LAGGED for lag in ((0, *LAGS) if name in ("order_flow", "trades") else LAGS)),
    *(f"{side}_queue_{name}" for side in SIDES for name in QUEUE),
    *(f"{side}_grew_{lag}" for side in SIDES for lag in MEMORY_LAGS),
)
_SIDED: Final = len(LAGGED) * len(LAGS) + 2
ORDER: Final = np.array(
    [
        *range(_SIDED),
        *range(_SIDED + len(QUEUE), _SIDED + 2 * len(QUEUE)),
        *range(_SIDED, _SIDED + len(QUEUE)),
        *range(len(NAMES) - len(MEMORY_LAGS), len(NAMES)),
        *range(len(NAMES) - 2 * len(MEMORY_LAGS), len(NAMES) - len(MEMORY_LAGS)),
    ]
)
SIGN: Final = np.array([-1.0] * _SIDED + [1.0] * (len(NAMES) - _SIDED))
"""Mirrored rows (bid and ask exchanged) give `values[:, ORDER] * SIGN`."""

_COUNT: Final = len(NAMES)
_BUY, _SELL, _OFI = 0, 1, 7
_MAX_MOVE: Final = 3.0


def sequence_rows(rows: Rows, first: int = 0) -> Float64Array:
    """Return float64 (n - first, F): the numbers of rows `first..n-1` by `NAMES`."""
    names = ("segment", "bid_ticks", "bid_sizes", "ask_ticks", "ask_sizes", "flow")
    # Copies: compiled once, for arrays that are writable, aligned and contiguous.
    out: Float64Array = _sequence(tuple(np.array(getattr(rows, name)) for name in names), first)
    return out


@njit(cache=True)
def _sequence(arrays: Any, first: int) -> Any:
    segment, bid_ticks, bid_sizes, ask_ticks, ask_sizes, flow = arrays
    book, turned = (bid_ticks, bid_sizes, ask_ticks, ask_sizes), (ask_ticks, ask_sizes, bid_ticks, bid_sizes)
    n, start = len(segment), 0
    out = np.full((n - first, _COUNT), np.nan)
    for t in range(n):
        if t > 0 and segment[t] != segment[t - 1]:
            start = t
        if t >= first and bid_sizes[t, 0] > 0 and ask_sizes[t, 0] > 0:
            span = (t, max(start, t - LOOK_BACK_ROWS + 1))
            scales, row = _scales(span, book), out[t - first]
            at = _lagged(span, book, flow, scales, row)
            at = _queue(span, book, flow[:, _SELL], row, at)
            at = _queue(span, turned, flow[:, _BUY], row, at)
            at = _memory(span, book, scales[0], row, at)
            _memory(span, turned, scales[0], row, at)
    return out


@njit(cache=True)
def _scales(span: Any, book: Any) -> Any:
    """Return the mean size of both best queues together, and the mean spread in ticks, over the window's whole books."""
    bid_ticks, bid_sizes, ask_ticks, ask_sizes = book
    depth, spread, count = 0.0, 0.0, 0
    for i in range(span[1], span[0] + 1):
        if bid_sizes[i, 0] > 0 and ask_sizes[i, 0] > 0:
            depth += np.float64(bid_sizes[i, 0]) + np.float64(ask_sizes[i, 0])
            spread += max(1.0, np.float64(ask_ticks[i, 0] - bid_ticks[i, 0]))
            count += 1
    return depth / count, spread / count


@njit(cache=True)
def _imbalance(i: int, book: Any) -> float:
    bid, ask = np.float64(book[1][i, 0]), np.float64(book[3][i, 0])
    return (bid - ask) / (bid + ask) if bid > 0 and ask > 0 else np.nan


@njit(cache=True)
def _move(i: int, book: Any, spread: float) -> float:
    for k in range(i - 1, i + 1):
        if not (book[1][k, 0] > 0 and book[3][k, 0] > 0):
            return np.nan
    move = 0.5 * np.float64(book[0][i, 0] - book[0][i - 1, 0] + book[2][i, 0] - book[2][i - 1, 0]) / spread
    return min(max(move, -_MAX_MOVE), _MAX_MOVE)


@njit(cache=True)
def _lagged(span: Any, book: Any, flow: Any, scales: Any, out: Any) -> int:
    (t, low), (depth, spread) = span, scales
    count = len(LAGS)
    flows, moves = count, 3 * count + 2
    for j in range(count + 1):
        i = t - (LAGS[j - 1] if j > 0 else 0)
        if i < low:
            continue
        if j > 0:
            out[j - 1] = _imbalance(i, book)
            if i > low:
                out[moves + j - 1] = _move(i, book, spread)
        out[flows + j] = np.float64(flow[i, _OFI]) / depth
        out[flows + count + 1 + j] = (np.float64(flow[i, _BUY]) - np.float64(flow[i, _SELL])) / depth
    return moves + count


@njit(cache=True)
def _queue(span: Any, book: Any, taken: Any, out: Any, at: int) -> int:
    """Tell how long the best has stood, its size against its largest and its first since then, and what traded against it."""
    (t, low), ticks, sizes = span, book[0], book[1]
    size, born, peak, traded = np.float64(sizes[t, 0]), t, np.float64(sizes[t, 0]), 0.0
    while born > low and ticks[born - 1, 0] == ticks[t, 0] and sizes[born - 1, 0] > 0:
        traded += np.float64(taken[born])
        born -= 1
        peak = max(peak, np.float64(sizes[born, 0]))
    out[at] = math.log1p(float(t - born))
    out[at + 1] = math.log((size + 1.0) / (peak + 1.0))
    out[at + 2] = math.log((size + 1.0) / (np.float64(sizes[born, 0]) + 1.0))
    out[at + 3] = math.log((traded + 1.0) / (size + 1.0))
    return at + len(QUEUE)


@njit(cache=True)
def _resting(i: int, price: int, ticks: Any, sizes: Any) -> float:
    for level in range(LEVELS):
        if sizes[i, level] > 0 and ticks[i, level] == price:
            return np.float64(sizes[i, level])
    return 0.0


@njit(cache=True)
def _squashed(size: float, depth: float) -> float:
    return math.copysign(math.log1p(8.0 * abs(size) / depth), size)


@njit(cache=True)
def _memory(span: Any, book: Any, depth: float, out: Any, at: int) -> int:
    """Compare the queue at today's best price with what rested at that very price before: more, less, or the other side."""
    (t, low), (own_ticks, own_sizes, other_ticks, other_sizes) = span, book
    price = own_ticks[t, 0]
    here = _squashed(np.float64(own_sizes[t, 0]), depth)
    for j in range(len(MEMORY_LAGS)):
        i = t - MEMORY_LAGS[j]
        if i >= low:
            before = _resting(i, price, own_ticks, own_sizes) - _resting(i, price, other_ticks, other_sizes)
            out[at + j] = here - _squashed(before, depth)
    return at + len(MEMORY_LAGS)
