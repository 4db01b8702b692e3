"""What the compiled loop works on: records of numbers with names, and tables that grow."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from framework.strategy.compiled.views import COLUMNS, MOST_COMMANDS
from framework.window import Float64Array, Int64Array

VENUE_LOTS, VENUE_LIMIT, VENUE_DONE, AT_VENUE, SLOT, STATE, PAID, TOLD_NS, REASON, FIRST, SECOND, THIRD = range(8, 20)
"""Columns of an order behind those that its strategy sees: what the venue has of it (terms, lots filled, whether it is open there, its slot
among the resting ones or -1), its state at our desk, price x lots of its fills, when it was last told of, and why, with three numbers."""
IS_KNOWN, REVISION, ANSWERED, NEW_LOTS, NEW_LIMIT, IS_CHANGING = range(20, 26)
"""Whether the venue acknowledged it; the number of the last change, of the last answer to one, and the change that is under way."""
assert IS_CHANGING < COLUMNS

ACCEPTED, REFUSED, FILL, CANCELED_, EXPIRED_, CANCEL_REFUSED, REPLACED, REPLACE_REFUSED = range(8)
"""What a venue says."""
DUE_NS, TICKET, KIND, ORDER_ID, A, B, C, D, E, F = range(10)
"""Columns of what is on its way: when it arrives, its place among what arrives then, what it is, of which order; then its numbers.
Of a request: lots, limit, revision. Of a report: when it was said, lots, price (of a fill), reason, two more (of a fill: liquidity and
what is filled by then; of a change: the second is its revision)."""
REPORT_COLUMNS: Final = 12
MAKER, TAKER = 0, 1

CLOSED_NOT, CLOSED_SESSION, CLOSED_HALT = range(3)
WORD_NOTHING, WORD_OPENS, WORD_CLOSES, WORD_HALTS, WORD_UNSOUND, WORD_SOUND = range(6)
"""What a word of the market means for trading."""
GROW, OVER, TOO_MANY_COMMANDS, TOO_MANY_REPORTS = range(4)
"""Why the loop stops."""
MARGIN: Final = 2 * MOST_COMMANDS + 8
"""Rows that each table has free before anything happens."""
REPORT_MARGIN: Final = 16_384

TABLES: Final = (
    *("times", "starts", "events", "levels", "facts", "trades", "words"),
    *("matching", "resting", "ahead", "line", "taken", "matched", "got", "free_slots", "names"),
    *("requests", "reports", "updates", "fills", "notes", "cancels", "open_orders", "denials"),
    *("latency_times", "latency_out", "latency_back"),
)
"""What the loop finds by address (`memory`); each is the array of this name in a `Host`."""
DESK: Final = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("now_ns", "tickets", "feed_ticket", "instant", "is_over", "is_full"),
            *("out_head", "out_tail", "out_last_ns", "out_drawn", "back_head", "back_tail", "back_last_ns", "back_drawn"),
            *("updates", "fills", "open_count", "sent", "denied"),
            *("notes", "second_head", "minute_head", "recent_head", "recent_count", "cancels", "cancel_head"),
            *("position", "open_cost", "realized"),
            *("book", "seen_book", "trade", "seen_trade", "is_open", "is_sound", "closed"),
            *("hears", "interval_ns", "due_ns", "free", "calls"),
            *(f"{table}_{what}" for table in TABLES for what in ("at", "rows")),
        )
    ]
    + [("power", np.float64)]
)
"""Where a run is. `book` and `trade` are the rows that the gate knows, `seen_...` those that the strategy was told of (-1: none). `notes`
are orders that left (for rates and repeats), `free` is how many slots for resting orders there are, `<table>_at` where a table is."""
LIMITS: Final = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("order_quantity", "position", "open_orders", "per_second", "per_minute", "cancels_per_second"),
            *("collar_ticks", "last_trade_ticks", "book_age_ns", "window_ns", "prevents_self_trade", "lower_ticks", "upper_ticks"),
        )
    ]
)


class Host(NamedTuple):
    """The arrays of a run.

    The recording: `events` (n, 2) kind and place of each, `words` what the others mean, the other columns as in `MarketColumns`. The
    matching engine, as in `framework.backtest.compiled.matching`: `matching` is its state, `resting` its orders, `matched` its fills, `got`
    what was taken; `free_slots` is a stack, `names` the order in each slot. What grows: requests and reports on their way, what became
    of orders, fills, orders and cancels that left. `denials` counts by reason.

    A row of `updates`: order, time, state, lots, filled, price x lots, limit, reason and its three numbers. One of `fills`: order, time,
    lots, price, liquidity, filled by then. One of `notes`: time, side, lots, limit, order, whether it counts as a repeat. Latencies, ns:
    one number is always that; otherwise they are of each message in turn, or, with `latency_times`, of the time at which it leaves.
    """

    times: Int64Array
    starts: Int64Array
    events: Int64Array
    levels: Int64Array
    facts: Int64Array
    trades: Int64Array
    words: Int64Array
    matching: Int64Array
    resting: Int64Array
    ahead: Float64Array
    line: Int64Array
    taken: Int64Array
    matched: Int64Array
    got: Int64Array
    free_slots: Int64Array
    names: Int64Array
    requests: Int64Array
    reports: Int64Array
    updates: Int64Array
    fills: Int64Array
    notes: Int64Array
    cancels: Int64Array
    open_orders: Int64Array
    denials: Int64Array
    latency_times: Int64Array
    latency_out: Int64Array
    latency_back: Int64Array


def point(desk: Any, host: Host) -> None:
    """Write down where the arrays of a run are; the caller keeps them as long as the loop runs. Raises `ValueError` for one with gaps."""
    for name, array in host._asdict().items():
        if not array.flags.c_contiguous:
            raise ValueError(f"the table {name} is not in one piece")
        desk[f"{name}_at"], desk[f"{name}_rows"] = array.ctypes.data, len(array)


def blank(dtype: np.dtype[Any]) -> Any:
    """Return a record of zeros."""
    return np.zeros(1, dtype)[0]
