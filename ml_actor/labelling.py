"""Labels beyond the sign of the mid: after a latency, on the clock, after costs, at barriers, and of a strategy's own trades.

All are computed in whole ticks or half ticks, none crosses a joint of segments, and each says where its outcome is known
(`end_rows`): what purging and uniqueness weights are made from. A decision at row t with latency L trades at the first row
that is received at least L later; prices are those of that row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from framework.window import Float64Array, Int64Array, Rows
from framework.wire import FeedbackItem
from ml_actor.splits import running_times

BoolArray = npt.NDArray[np.bool_]
NOWHERE: Final = -1
_SIDES: Final = {"BUY": 1, "SELL": -1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """Per row: the outcome in half ticks (int64, 0 where not valid), the row where it was known (-1: none), and validity."""

    outcomes: Int64Array
    end_rows: Int64Array
    is_valid: BoolArray

    @property
    def classes(self) -> Int64Array:
        """Return 0, 1 or 2 (down or lost, flat, up or won) per row."""
        return np.sign(self.outcomes) + 1


def tradable_rows(rows: Rows, latency_ns: int) -> Int64Array:
    """Return per row the first row of its segment at which an order sent then can trade: `latency_ns` later; -1 if none."""
    times, here = running_times(rows.ts_event), np.arange(len(rows))
    found = np.searchsorted(times, times + latency_ns, side="left") if latency_ns > 0 else here
    return np.where(found <= _run_ends(rows.segment), found, NOWHERE)


def rows_later(rows: Rows, starts: Int64Array, horizon_rows: int) -> Int64Array:
    """Return the row `horizon_rows` behind each start (event clock), -1 where the segment ends before."""
    return _within_from(rows, starts, np.where(starts >= 0, starts + horizon_rows, NOWHERE))


def time_later(rows: Rows, starts: Int64Array, horizon_ns: int) -> Int64Array:
    """Return the last row received at most `horizon_ns` behind each start, -1 where the recording of the segment ends before."""
    n, times = len(rows), running_times(rows.ts_event)
    due = times[np.maximum(starts, 0)] + horizon_ns if n else np.zeros(0, np.int64)
    last = np.searchsorted(times, due, side="right") - 1
    # The book of a row holds until the next row: the segment must go on past the horizon to know it.
    goes_on = _within_from(rows, starts, np.where(last + 1 < n, last + 1, NOWHERE)) >= 0
    return np.where(goes_on, last, NOWHERE)


def anchored(rows: Rows, starts: Int64Array, ends: Int64Array) -> Outcomes:
    """Label by the move of the mid from the tradable row to the end (label L1): what is over before one can trade is not counted."""
    is_valid = (starts >= 0) & (ends >= 0)
    mids, is_whole = _mids(rows)
    here, there = np.maximum(starts, 0), np.maximum(ends, 0)
    is_valid &= is_whole[here] & is_whole[there] if len(rows) else is_valid
    moves = np.where(is_valid, mids[there] - mids[here], 0) if len(rows) else np.zeros(0, np.int64)
    return Outcomes(outcomes=moves, end_rows=np.where(is_valid, ends, NOWHERE), is_valid=is_valid)


def executable(rows: Rows, starts: Int64Array, ends: Int64Array, *, fee_ticks: float) -> Outcomes:
    """Label by what a taker would have kept (L2): bought at the ask and sold at the bid later, or the mirror, less two fees.

    The outcome is the profit of the side that made one, negative for the short side, in half ticks rounded towards 0; flat
    where neither side made any, which is most rows of most markets.
    """
    mid_label = anchored(rows, starts, ends)
    here, there = np.maximum(starts, 0), np.maximum(ends, 0)
    bid, ask = (ticks[:, 0].astype(np.int64) for ticks in (rows.bid_ticks, rows.ask_ticks))
    long, short = (bid[there] - ask[here]) - 2 * fee_ticks, (bid[here] - ask[there]) - 2 * fee_ticks
    kept = np.where(long > 0, long, np.where(short > 0, -short, 0.0))
    halves = np.sign(kept) * np.maximum(1, np.abs(2 * kept).astype(np.int64)) * (kept != 0)
    outcomes = np.where(mid_label.is_valid, halves, 0).astype(np.int64)
    return Outcomes(outcomes=outcomes, end_rows=mid_label.end_rows, is_valid=mid_label.is_valid)


def triple_barrier(rows: Rows, starts: Int64Array, *, barrier_half_ticks: Int64Array, timeout_rows: int) -> Outcomes:
    """Label by the barrier that the mid touches first: `barrier_half_ticks` (n,) up or down, or neither within `timeout_rows`.

    Source: Lopez de Prado 2018, chapter 3. A row that jumps over a barrier touches it; the outcome is the move to that row,
    0 at the timeout. A path that ends with its segment before either is not valid.
    """
    mids, is_whole = _mids(rows)
    run_end = _run_ends(rows.segment)
    outcomes, ends, is_valid = _first_touch(mids, is_whole, (starts, run_end), barrier_half_ticks, timeout_rows)
    return Outcomes(outcomes=outcomes, end_rows=ends, is_valid=is_valid)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaLabels:
    """Which rows a strategy traded on, the side it took (+1, -1), whether that made money after its costs, and how much."""

    rows: Int64Array
    sides: Int64Array
    has_won: BoolArray
    pnl: Float64Array


def meta_labels(rows: Rows, instrument_id: str, feedback: Iterable[FeedbackItem]) -> MetaLabels:
    """Label the decisions of a strategy that were executed and closed (L8): the side is given, the outcome is learned.

    The row is the last one that the strategy's prediction saw; the side is what the strategy did (BUY, SELL), whatever a prediction
    said. Decisions on rows that are no longer held, without a side (CLOSE, or the default behaviour in place of a prediction) or
    break-even are left out.
    """
    found = {}
    places = {int(sequence): row for row, sequence in enumerate(rows.sequence)}
    for item in feedback:
        side = _SIDES.get(item.action, 0)
        row = places.get(item.as_of_sequence) if item.instrument_id == instrument_id and item.trade_executed else None
        if row is not None and side and item.trade_outcome in ("PROFIT", "LOSS"):
            found[row, side, item.trade_outcome == "PROFIT"] = item.pnl if item.pnl is not None else math.nan
    table = np.array(sorted(found), np.int64).reshape(-1, 3)
    pnl = np.array([found[row, side, bool(won)] for row, side, won in table.tolist()], np.float64)
    return MetaLabels(rows=table[:, 0], sides=table[:, 1], has_won=table[:, 2] == 1, pnl=pnl)


def uniqueness(outcomes: Outcomes) -> Float64Array:
    """Return per row the mean over its label's life of 1 / (labels alive then); 0 where not valid (Lopez de Prado 2018, ch. 4)."""
    n = len(outcomes.is_valid)
    first = np.flatnonzero(outcomes.is_valid)
    last = outcomes.end_rows[first]
    steps = np.zeros(n + 1)
    np.add.at(steps, first, 1.0)
    np.add.at(steps, last + 1, -1.0)
    alive = np.cumsum(steps)[:n]
    shares = np.append(0.0, np.cumsum(np.where(alive > 0, 1.0 / np.maximum(alive, 1.0), 0.0)))
    weights = np.zeros(n)
    weights[first] = (shares[last + 1] - shares[first]) / (last + 1 - first)
    return weights


def time_decay(ts_event: Int64Array, half_life_s: float) -> Float64Array:
    """Return weights that halve with every `half_life_s` of age against the newest row: 1 for it. Raises `ValueError` below 0."""
    if not half_life_s > 0:
        raise ValueError(f"half_life_s is {half_life_s}, must be above 0")
    ages_s = (ts_event.max(initial=0) - ts_event) * 1e-9
    return np.asarray(0.5 ** (ages_s / half_life_s))


def _mids(rows: Rows) -> tuple[Int64Array, BoolArray]:
    mids = rows.bid_ticks[:, 0].astype(np.int64) + rows.ask_ticks[:, 0].astype(np.int64)
    return mids, (rows.bid_sizes[:, 0] > 0) & (rows.ask_sizes[:, 0] > 0)


def _run_ends(segment: Int64Array) -> Int64Array:
    """Return per row the last row of its run of equal segments."""
    if not len(segment):
        return np.zeros(0, np.int64)
    joints = np.append(np.flatnonzero(np.diff(segment) != 0), len(segment) - 1)
    return joints[np.searchsorted(joints, np.arange(len(segment)))]


def _within_from(rows: Rows, starts: Int64Array, found: Int64Array) -> Int64Array:
    if not len(rows):
        return found
    run_end = _run_ends(rows.segment)[np.maximum(starts, 0)]
    return np.where((starts >= 0) & (found >= 0) & (found <= run_end), found, NOWHERE)


@njit(cache=True)
def _first_touch(mids, is_whole, span, barriers, timeout):  # type: ignore[no-untyped-def]
    starts, run_end = span
    n = len(mids)
    outcomes, ends, is_valid = np.zeros(n, np.int64), np.full(n, -1, np.int64), np.zeros(n, np.bool_)
    for t in range(n):
        start = starts[t]
        if start < 0 or not is_whole[start]:
            continue
        for i in range(start + 1, min(start + timeout, run_end[start]) + 1):
            move = mids[i] - mids[start]
            if is_whole[i] and abs(move) >= barriers[t]:
                outcomes[t], ends[t], is_valid[t] = move, i, True
                break
        if not is_valid[t] and start + timeout <= run_end[start]:
            ends[t], is_valid[t] = start + timeout, True
    return outcomes, ends, is_valid
