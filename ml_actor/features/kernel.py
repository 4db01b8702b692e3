"""The feature kernel: the compiled functions that compute every row, for training, for serving and for a stream.

`feature_rows` computes rows `first..n-1` of a recording or of a window, `feature_row` the newest row of a stream; both
call `_features` with the row's own look-back and nothing else, so that they agree bit for bit.

numba's cache of a function notices a change of its own file only, but what it keeps has the functions of other files
inside. So these are made in `_compiled`, where a hash of the sources of this folder is part of what the cache compares.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from ml_actor.features.book import at_row, book_features
from ml_actor.features.flow import flow_features
from ml_actor.features.price import clock_features, impact_features, price_features
from ml_actor.features.series import (
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
from ml_actor.features.shock_score import Ordered, new_ordered, shock_features, slide
from ml_actor.features.table import ROW_FEATURES

FEATURE_COUNT: Final = len(ROW_FEATURES)


def _source_hash() -> int:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
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
def _add_row(t: int, low: int, state: State) -> None:
    fill_levels(t, state.rows, state.series)
    if t > 0:
        fill_changes(t, state.rows, state.series)
    slide(t, low, state.series, state.ordered)


def _compiled(sources: int) -> Any:
    @njit(cache=True)
    def feature_rows(arrays: Any, known: float, window_rows: int, first: int) -> Array:
        """Return float64 (n - first, F): the features of rows `first..n-1`, in the order of the catalogue.

        `arrays` is a plain tuple in the order of `RowArrays`; `known` is 1.0 where the feed has trades and NaN where not.
        """
        _ = sources
        rows = RowArrays(arrays[0], arrays[1], arrays[2], arrays[3], arrays[4], arrays[5], arrays[6])
        n, start = len(rows.ts_event), 0
        state = State(rows, new_series(n), new_sums(window_rows), new_ordered(window_rows))
        out = np.empty((n - first, FEATURE_COUNT))
        for t in range(n):
            if t > 0 and rows.segment[t] != rows.segment[t - 1]:
                start = t
            low = max(start, t - window_rows + 1)
            _add_row(t, low, state)
            if t >= first:
                _features(t, low, state, known, out[t - first])
        return out

    return feature_rows


feature_rows: Final = _compiled(_source_hash())
