"""The tables of the compiled loop, by their addresses in the record of a run.

One record goes through all functions instead of thirty arrays: they compile in a tenth of the time, and calls cost nothing. Python owns the
arrays (`Host`), writes their addresses (`point`) and keeps them alive for as long as a loop runs.

Each table has a function of its own name: numba tells code that it kept apart by names, and would take one of a family for another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit, types  # type: ignore[attr-defined]
from numba.core import cgutils
from numba.extending import intrinsic

from framework.backtest.compiled.layout import REPORT_COLUMNS
from framework.window import LEVELS, Float64Array, Int64Array


@intrinsic
def _pointer(_context: Any, address: Any) -> Any:  # noqa: ARG001 (numba gives its type)
    """Return an address as a pointer."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@njit(cache=True)
def _column(address: int, rows: int) -> Int64Array:
    return carray(_pointer(address), (rows,), np.int64)  # type: ignore[call-arg]


@njit(cache=True)
def _table(address: int, rows: int, columns: int) -> Int64Array:
    return carray(_pointer(address), (rows, columns), np.int64)  # type: ignore[call-arg]


@njit(cache=True)
def times_of(desk: Any) -> Int64Array:
    """Return `times` of the host."""
    return _column(desk.times_at, desk.times_rows)


@njit(cache=True)
def starts_of(desk: Any) -> Int64Array:
    """Return `starts` of the host."""
    return _column(desk.starts_at, desk.starts_rows)


@njit(cache=True)
def events_of(desk: Any) -> Int64Array:
    """Return `events` of the host."""
    return _table(desk.events_at, desk.events_rows, 2)


@njit(cache=True)
def levels_of(desk: Any) -> Int64Array:
    """Return `levels` of the host."""
    return carray(_pointer(desk.levels_at), (desk.levels_rows, 4, LEVELS), np.int64)  # type: ignore[call-arg]


@njit(cache=True)
def facts_of(desk: Any) -> Int64Array:
    """Return `facts` of the host."""
    return _table(desk.facts_at, desk.facts_rows, 5)


@njit(cache=True)
def trades_of(desk: Any) -> Int64Array:
    """Return `trades` of the host."""
    return _table(desk.trades_at, desk.trades_rows, 6)


@njit(cache=True)
def words_of(desk: Any) -> Int64Array:
    """Return `words` of the host."""
    return _column(desk.words_at, desk.words_rows)


@njit(cache=True)
def matching_of(desk: Any) -> Int64Array:
    """Return `matching` of the host."""
    return _column(desk.matching_at, desk.matching_rows)


@njit(cache=True)
def resting_of(desk: Any) -> Int64Array:
    """Return `resting` of the host."""
    return _table(desk.resting_at, desk.resting_rows, 7)


@njit(cache=True)
def ahead_of(desk: Any) -> Float64Array:
    """Return `ahead` of the host."""
    return carray(_pointer(desk.ahead_at), (desk.ahead_rows,), np.float64)  # type: ignore[call-arg]


@njit(cache=True)
def line_of(desk: Any) -> Int64Array:
    """Return `line` of the host."""
    return _column(desk.line_at, desk.line_rows)


@njit(cache=True)
def taken_of(desk: Any) -> Int64Array:
    """Return `taken` of the host."""
    return carray(_pointer(desk.taken_at), (desk.taken_rows, LEVELS * 2, 2), np.int64)  # type: ignore[call-arg]


@njit(cache=True)
def matched_of(desk: Any) -> Int64Array:
    """Return `matched` of the host."""
    return _table(desk.matched_at, desk.matched_rows, 3)


@njit(cache=True)
def got_of(desk: Any) -> Int64Array:
    """Return `got` of the host."""
    return _table(desk.got_at, desk.got_rows, 2)


@njit(cache=True)
def free_slots_of(desk: Any) -> Int64Array:
    """Return `free_slots` of the host."""
    return _column(desk.free_slots_at, desk.free_slots_rows)


@njit(cache=True)
def names_of(desk: Any) -> Int64Array:
    """Return `names` of the host."""
    return _column(desk.names_at, desk.names_rows)


@njit(cache=True)
def requests_of(desk: Any) -> Int64Array:
    """Return `requests` of the host."""
    return _table(desk.requests_at, desk.requests_rows, REPORT_COLUMNS)


@njit(cache=True)
def reports_of(desk: Any) -> Int64Array:
    """Return `reports` of the host."""
    return _table(desk.reports_at, desk.reports_rows, REPORT_COLUMNS)


@njit(cache=True)
def updates_of(desk: Any) -> Int64Array:
    """Return `updates` of the host."""
    return _table(desk.updates_at, desk.updates_rows, 11)


@njit(cache=True)
def fills_of(desk: Any) -> Int64Array:
    """Return `fills` of the host."""
    return _table(desk.fills_at, desk.fills_rows, 6)


@njit(cache=True)
def notes_of(desk: Any) -> Int64Array:
    """Return `notes` of the host."""
    return _table(desk.notes_at, desk.notes_rows, 6)


@njit(cache=True)
def cancels_of(desk: Any) -> Int64Array:
    """Return `cancels` of the host."""
    return _column(desk.cancels_at, desk.cancels_rows)


@njit(cache=True)
def open_orders_of(desk: Any) -> Int64Array:
    """Return `open_orders` of the host."""
    return _column(desk.open_orders_at, desk.open_orders_rows)


@njit(cache=True)
def denials_of(desk: Any) -> Int64Array:
    """Return `denials` of the host."""
    return _column(desk.denials_at, desk.denials_rows)


@njit(cache=True)
def latency_times_of(desk: Any) -> Int64Array:
    """Return `latency_times` of the host."""
    return _column(desk.latency_times_at, desk.latency_times_rows)


@njit(cache=True)
def latency_out_of(desk: Any) -> Int64Array:
    """Return `latency_out` of the host."""
    return _column(desk.latency_out_at, desk.latency_out_rows)


@njit(cache=True)
def latency_back_of(desk: Any) -> Int64Array:
    """Return `latency_back` of the host."""
    return _column(desk.latency_back_at, desk.latency_back_rows)
