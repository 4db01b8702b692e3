"""What acting on the predictions would have met: precision and moves of the surest calls, and what a taker is left with.

A call is the side with the larger probability; its confidence is |p_up - p_down|, the expected sign of the move. At coverage
c the surest c of the scored rows are called. A taker with latency L buys at the ask (sells at the bid) of the last book at or
before `ts + L`, and closes at the bid (ask) of the row at the horizon: the spread is crossed both times, a fee is paid
both times. If the horizon is over before the order arrives, it closes at once and pays the spread for nothing.
`next row` is the row after the one that was predicted from, whenever it comes: for a feed of snapshots the first book that
an order could really meet, as a snapshot says nothing about the time before the next one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from framework.model import NS_PER_MS
from framework.window import Float64Array, Int64Array, Rows
from ml_actor.evaluate.metrics import Blocks
from ml_actor.labels import DOWN, UP

COVERAGES: Final = (0.05, 0.10, 0.20)
LATENCIES_MS: Final = (0, 5, 50, 250)
NEXT_ROW: Final = "next_row"
CONFIDENCE_BINS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """Per scored row and one latency, in ticks: the move of the mid from entry to exit, and what a buyer and a seller keep."""

    move: Float64Array
    buyer: Float64Array
    seller: Float64Array

    def net(self, sides: Int64Array) -> Float64Array:
        """Return what a taker of these sides (+1, -1) keeps before fees."""
        return np.where(sides > 0, self.buyer, self.seller)


def entries(rows: Rows, where: Int64Array, latency_ms: int | str) -> Int64Array:
    """Return the row whose book an order meets that was decided at each row of `where`; never beyond its session."""
    ends = session_ends(rows.segment)
    if latency_ms == NEXT_ROW:
        return np.minimum(where + 1, ends[where])
    due = rows.ts_event[where] + int(latency_ms) * NS_PER_MS
    arrived = np.searchsorted(rows.ts_event, due, side="right") - 1
    return np.clip(arrived, where, ends[where])


def session_ends(segment: Int64Array) -> Int64Array:
    """Return per row the last row of its run of equal segments."""
    lasts = np.flatnonzero(np.append(np.diff(segment) != 0, True))
    return np.asarray(lasts[np.searchsorted(lasts, np.arange(len(segment)))])


def trips(rows: Rows, where: Int64Array, horizon: int) -> dict[str, Trip]:
    """Return the round trips of every scored row, by latency."""
    found = {}
    for latency in (*LATENCIES_MS, NEXT_ROW):
        entry = entries(rows, where, latency)
        found[str(latency)] = _trip(rows, entry, np.maximum(entry, where + horizon))
    return found


def _trip(rows: Rows, entry: Int64Array, close: Int64Array) -> Trip:
    bid, ask = rows.bid_ticks[:, 0].astype(np.int64), rows.ask_ticks[:, 0].astype(np.int64)
    move = ((bid + ask)[close] - (bid + ask)[entry]) / 2
    return Trip(move=move, buyer=(bid[close] - ask[entry]).astype(np.float64), seller=(bid[entry] - ask[close]).astype(np.float64))


def join_trips(parts: Sequence[Mapping[str, Trip]]) -> dict[str, Trip]:
    """Return the trips of several recordings as one."""
    return {
        latency: Trip(**{name: np.concatenate([getattr(part[latency], name) for part in parts]) for name in ("move", "buyer", "seller")})
        for latency in parts[0]
    }


def calls(probabilities: Float64Array) -> tuple[Int64Array, Float64Array]:
    """Return per row the side (+1 up, -1 down) and the confidence."""
    edge = probabilities[:, UP] - probabilities[:, DOWN]
    return np.where(edge >= 0, 1, -1), np.abs(edge)


def surest(confidence: Float64Array, coverage: float) -> Int64Array:
    """Return the positions of the surest share of the rows, in time order; ties go to the earlier row."""
    count = max(1, math.ceil(coverage * len(confidence)))
    return np.sort(np.argsort(-confidence, kind="stable")[:count])


def at_coverages(
    probabilities: Float64Array, classes: Int64Array, found: Mapping[str, Trip], fees: Float64Array, blocks: Blocks
) -> dict[str, Any]:
    """Return per coverage: precision, and by latency the mean move mid to mid and the taker's net, with intervals.

    `fees` are ticks per taking fill, by row. Precision counts a row that did not move as wrong.
    """
    sides, confidence = calls(probabilities)
    out = {}
    for coverage in COVERAGES:
        chosen = surest(confidence, coverage)
        side = sides[chosen]
        out[f"{coverage:g}"] = {
            "calls": len(chosen),
            "precision": blocks.mean(((classes[chosen] - 1) == side).astype(np.float64), chosen),
            "by_latency": {
                latency: {
                    "move_ticks": blocks.mean(side * trip.move[chosen], chosen),
                    "net_ticks": blocks.mean(trip.net(sides)[chosen] - 2 * fees[chosen], chosen),
                }
                for latency, trip in found.items()
            },
        }
    return out


def by_confidence(probabilities: Float64Array, trip: Trip) -> list[dict[str, float]]:
    """Return ten bins of equal mass of confidence, lowest first: mean confidence, and mean move in the called direction."""
    sides, confidence = calls(probabilities)
    moves = sides * trip.move
    parts = [part for part in np.array_split(np.argsort(confidence, kind="stable"), CONFIDENCE_BINS) if len(part)]
    return [{"confidence": float(confidence[part].mean()), "move_ticks": float(moves[part].mean()), "rows": len(part)} for part in parts]


def net_by_block(probabilities: Float64Array, trip: Trip, fees: Float64Array, blocks: Blocks, coverage: float) -> Float64Array:
    """Return per block the sum of what a taker keeps of the surest calls, in ticks; 0 for a block without a call."""
    sides, confidence = calls(probabilities)
    chosen = surest(confidence, coverage)
    return blocks.sums(trip.net(sides)[chosen] - 2 * fees[chosen], chosen)
