"""The tables of the compiled loop, by their addresses in the record of a run.

One record goes through all functions instead of thirty arrays: they compile in a tenth of the time, and calls cost nothing. Python owns the
arrays (`Host`), writes their addresses (`point`) and keeps them alive for as long as a loop runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit, types  # type: ignore[attr-defined]
from numba.core import cgutils
from numba.extending import intrinsic

from framework.backtest.compiled.layout import REPORT_COLUMNS
from framework.window import LEVELS


@intrinsic
def _pointer(_context: Any, address: Any) -> Any:  # noqa: ARG001 (numba gives its type)
    """Return an address as a pointer."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


def _table(name: str, *shape: int, dtype: Any = np.int64) -> Any:
    """Return the compiled function that finds a table of the host; `shape` is that of a row."""
    at, rows = f"{name}_at", f"{name}_rows"

    @njit(cache=True)
    def table(desk: Any) -> Any:
        return carray(_pointer(desk[at]), (desk[rows], *shape), dtype)  # type: ignore[call-arg]

    return table


times_of = _table("times")
starts_of = _table("starts")
events_of = _table("events", 2)
levels_of = _table("levels", 4, LEVELS)
facts_of = _table("facts", 5)
trades_of = _table("trades", 6)
words_of = _table("words")
matching_of = _table("matching")
resting_of = _table("resting", 7)
ahead_of = _table("ahead", dtype=np.float64)
line_of = _table("line")
taken_of = _table("taken", LEVELS * 2, 2)
matched_of = _table("matched", 3)
got_of = _table("got", 2)
free_slots_of = _table("free_slots")
names_of = _table("names")
requests_of = _table("requests", REPORT_COLUMNS)
reports_of = _table("reports", REPORT_COLUMNS)
updates_of = _table("updates", 11)
fills_of = _table("fills", 6)
notes_of = _table("notes", 6)
cancels_of = _table("cancels")
open_orders_of = _table("open_orders")
denials_of = _table("denials")
latency_times_of = _table("latency_times")
latency_out_of = _table("latency_out")
latency_back_of = _table("latency_back")
