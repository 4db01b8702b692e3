"""The feature kernel: the compiled functions that compute every row, for training, for serving and for a stream.

`feature_rows` computes rows `first..n-1` of a recording or of a window, `next_features` the newest rows of a stream; both
call `_features` with the row's own look-back and nothing else, so that they agree bit for bit.

numba's cache of a function notices a change of its own file only, but what it keeps has the functions of other files
inside. So these are made in `_compiled`, where a hash of their sources is part of what the cache compares.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from framework.window import FLOW_COLUMNS, LEVELS
from ml_actor.features.book import at_row, book_features
from ml_actor.features.flow import flow_features
from ml_actor.features.price import clock_features, impact_features, price_features
from ml_actor.features.series import (
    CLOCK_HALF_LIVES_S,
    SUMMED_COLUMNS,
    WINDOWS,
    Array,
    RowArrays,
    Series,
    Sums,
    fill_changes,
    fill_levels,
    fill_sums,
    inner,
    new_series,
    new_sums,
)
from ml_actor.features.shock_score import Ordered, gather, new_ordered, shock_features, slide
from ml_actor.features.table import ROW_FEATURES

FEATURE_COUNT: Final = len(ROW_FEATURES)
_MEANS: Final = (WINDOWS + 1, SUMMED_COLUMNS)
_RATES: Final = (4, len(CLOCK_HALF_LIVES_S))
_FIXED: Final = _MEANS[0] * _MEANS[1] + _RATES[0] * _RATES[1]
"""Numbers of the memory that do not depend on the look-back."""
_SOURCES: Final = ("book", "flow", "kernel", "price", "series", "shock_score", "table")
"""What is compiled into the functions of this file, or decides about it."""


def _source_hash() -> int:
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return int.from_bytes(digest.digest()[:7], "big")


class State(NamedTuple):
    """What the rows so far left behind."""

    rows: RowArrays
    series: Series
    sums: Sums
    ordered: Ordered


@inner
def _features(t: int, low: int, state: State, known: float, out: Array) -> int:
    rows, series, sums, ordered = state
    fill_sums(t, low, series, sums)
    at = at_row(t, low, (rows, series, sums), known)
    place = book_features(at, out, 0)
    place = flow_features(at, out, place)
    place = price_features(at, out, place)
    place = impact_features(at, out, place)
    place = clock_features(at, out, place)
    return shock_features(at, ordered, out, place)


@inner
def _add_row(t: int, state: State) -> None:
    fill_levels(t, state.rows, state.series)
    if t > 0:
        fill_changes(t, state.rows, state.series)


@inner
def _take(state: State, span: Array, source: Any, index: int) -> int:
    """Copy row `index` of `source` behind the others; return its place. Without room, the last look-back moves to the front."""
    rows, series, ordered = state.rows, state.series, state.ordered
    if span[0] == len(rows.ts_event):
        window = ordered.values.shape[1]
        shift = span[0] - window
        for place in range(window):
            _copy(rows, place, rows, place + shift)
            series.mids[place] = series.mids[place + shift]
            series.columns[place] = series.columns[place + shift]
        span[0], span[1], ordered.span[0] = window, max(0, span[1] - shift), ordered.span[0] - shift
    t = span[0]
    _copy(rows, t, source, index)
    if t > 0 and rows.segment[t] != rows.segment[t - 1]:
        span[1] = t
    span[0] = t + 1
    return int(t)


@inner
def _copy(target: RowArrays, place: int, source: RowArrays, index: int) -> None:
    target.ts_event[place], target.segment[place] = source.ts_event[index], source.segment[index]
    for level in range(LEVELS):
        target.bid_ticks[place, level], target.ask_ticks[place, level] = source.bid_ticks[index, level], source.ask_ticks[index, level]
        target.bid_sizes[place, level], target.ask_sizes[place, level] = source.bid_sizes[index, level], source.ask_sizes[index, level]
    for column in range(source.flow.shape[1]):
        target.flow[place, column] = source.flow[index, column]


@inner
def _rows_from(rows: RowArrays, known: float, window_rows: int, first: int) -> Array:
    n, start, series = len(rows.ts_event), 0, new_series(len(rows.ts_event))
    state = State(rows, series, new_sums(window_rows), new_ordered(window_rows))
    out = np.empty((n - first, FEATURE_COUNT))
    for t in range(n):
        if t > 0 and rows.segment[t] != rows.segment[t - 1]:
            start = t
        low = max(start, t - window_rows + 1)
        _add_row(t, state)
        if t == first:
            gather(t, low, series, state.ordered)
        elif t > first:
            slide(t, low, series, state.ordered)
        if t >= first:
            _features(t, low, state, known, out[t - first])
    return out


@inner
def _rows_behind(state: State, span: Array, given: RowArrays, known: float, out: Array) -> None:
    window = state.ordered.values.shape[1]
    for index in range(len(out)):
        t = _take(state, span, given, index)
        low = max(span[1], t - window + 1)
        _add_row(t, state)
        slide(t, low, state.series, state.ordered)
        _features(t, low, state, known, out[index])


@inner
def _opened(memory: Any) -> tuple[State, Array]:
    """Return the arrays that lie in those of `new_memory`, and (rows held, first row of the segment)."""
    times, ticks, sizes, flow, columns, numbers, places = memory
    window = places[4]
    rows = RowArrays(times[0], times[1], ticks[0], sizes[0], ticks[1], sizes[1], flow)
    means, rates = numbers[: _MEANS[0] * _MEANS[1]].reshape(_MEANS), numbers[_MEANS[0] * _MEANS[1] : _FIXED].reshape(_RATES)
    values, totals = (
        numbers[_FIXED : _FIXED + 3 * window].reshape((3, window)),
        numbers[_FIXED + 3 * window :].reshape((WINDOWS, window + 1)),
    )
    state = State(rows, Series(times[2], columns), Sums(means, totals, rates), Ordered(values, places[2:4]))
    return state, places[:2]


def _compiled(sources: int) -> tuple[Any, Any]:
    @njit(cache=True)
    def feature_rows(arrays: Any, known: float, window_rows: int, first: int) -> Array:
        """Return float64 (n - first, F): the features of rows `first..n-1`, in the order of the catalogue.

        `arrays` is a plain tuple in the order of `RowArrays`; `known` is 1.0 where the feed has trades and NaN where not.
        """
        _ = sources
        rows = RowArrays(arrays[0], arrays[1], arrays[2], arrays[3], arrays[4], arrays[5], arrays[6])
        return _rows_from(rows, known, window_rows, first)

    @njit(cache=True)
    def next_features(memory: Any, source: Any, known: float, out: Array) -> None:
        """Take in the rows of `source` and write their features to float64 `out` (n, F): bit for bit those of `feature_rows`.

        `memory` is that of `new_memory`; `source` is a plain tuple in the order of `RowArrays`. Few and large arrays, and nothing to
        return: what a call costs grows with each array that goes in or out (70 and 600 ns).
        """
        _ = sources
        given = RowArrays(source[0], source[1], source[2], source[3], source[4], source[5], source[6])
        state, span = _opened(memory)
        _rows_behind(state, span, given, known, out)

    return feature_rows, next_features


feature_rows, next_features = _compiled(_source_hash())


def new_memory(window_rows: int, capacity: int) -> tuple[Array, ...]:
    """Return what `next_features` keeps: times and mids, ticks, sizes, flow, columns, numbers, places (`_opened` says where what is)."""
    ticks, sizes = np.zeros((2, capacity, LEVELS), np.int32), np.zeros((2, capacity, LEVELS), np.float32)
    times, flow = np.zeros((3, capacity), np.int64), np.zeros((capacity, len(FLOW_COLUMNS)), np.float32)
    numbers = np.concatenate([np.zeros(_FIXED + 3 * window_rows), new_sums(window_rows).totals.ravel()])
    return times, ticks, sizes, flow, new_series(capacity).columns, numbers, np.array([0, 0, 0, 0, window_rows])
