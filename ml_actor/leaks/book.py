"""A book whose predictability is known exactly: a martingale, or a martingale with a planted signal.

A visible side s = +1 or -1 (its queue is four times as long) changes with probability `TURN` a row. The mid moves by one
tick with probability `MOVE` a row, upwards with probability 1/2 + strength / 2 * s of the row before; nothing else says
anything about directions. At strength 0 every move is a fair coin of its own, so the mid is a martingale and no score
about the direction can be better than chance but by luck. At any other strength the side of the last row is all that the past
says about the future, so the best possible probabilities follow by adding up (`Signal.chances`): they are the Bayes rule,
and their gain over the shares of the classes is the true strength that a model can find.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from framework.window import FLOW_COLUMNS, LEVELS, Float64Array, Int64Array, Rows
from ml_actor.features.engine import select
from ml_actor.preparation import Recording

MOVE: Final = 0.10
TURN: Final = 0.02
START_NS: Final = 1_705_329_000_000_000_000
ROW_NS: Final = 100_000_000
SEGMENTS: Final = 4
MID_TICKS: Final = 20_000
_LONG: Final = 80.0
_SHORT: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """How the direction of moves depends on the visible side."""

    strength: float

    def chances(self, horizon_rows: int) -> Float64Array:
        """Return (2, 3): the probabilities of down, flat, up over the horizon, given side -1 (first row) and +1.

        Exact: the joint distribution of side and moves is added up row by row.
        """
        out = np.empty((2, 3))
        for number, side in enumerate((-1, 1)):
            out[number] = self._walk(side, horizon_rows)
        return out

    def _walk(self, side: int, horizon_rows: int) -> Float64Array:
        joint = np.zeros((2, 2 * horizon_rows + 1))
        joint[(side + 1) // 2, horizon_rows] = 1.0
        for _ in range(horizon_rows):
            moved = np.zeros_like(joint)
            for state in range(2):
                up = 0.5 + 0.5 * self.strength * (2 * state - 1)
                moved[state] += (1 - MOVE) * joint[state]
                moved[state, 1:] += MOVE * up * joint[state, :-1]
                moved[state, :-1] += MOVE * (1 - up) * joint[state, 1:]
            joint = (1 - TURN) * moved + TURN * moved[::-1]
        total = joint.sum(axis=0)
        return np.array([total[:horizon_rows].sum(), total[horizon_rows], total[horizon_rows + 1 :].sum()])

    def gain(self, horizon_rows: int) -> float:
        """Return the information about the label in the side, nats a row: the log-loss that the best model saves."""
        chances = self.chances(horizon_rows)
        marginal = chances.mean(axis=0)
        return float(_entropy(marginal) - np.mean([_entropy(row) for row in chances]))


def _entropy(shares: Float64Array) -> float:
    return float(-np.sum(shares * np.log(np.clip(shares, 1e-300, 1.0))))


@dataclass(frozen=True)
class Book:
    """A recording of such a market, with the side of each row (+1 or -1)."""

    recording: Recording
    sides: Int64Array
    signal: Signal

    @cached_property
    def mids(self) -> Int64Array:
        """Return twice the mid in ticks."""
        rows = self.recording.rows
        return rows.bid_ticks[:, 0].astype(np.int64) + rows.ask_ticks[:, 0].astype(np.int64)

    def best_probabilities(self, horizon_rows: int) -> Float64Array:
        """Return (n, 3): what the best possible model says about each row."""
        return self.signal.chances(horizon_rows)[(self.sides + 1) // 2]

    def part(self, where: slice) -> Book:
        """Return some of its rows."""
        recording = self.recording
        part = Recording(
            instrument_id=recording.instrument_id,
            tick_size=recording.tick_size,
            has_trades=recording.has_trades,
            rows=select(recording.rows, where),
        )
        return Book(part, self.sides[where], self.signal)


def generate(rows: int, *, seed: int, strength: float) -> Book:
    """Draw `rows` rows in `SEGMENTS` segments (about 15 MB and 50 ms for 20,000). The same seed and strength give the same book."""
    rng = np.random.default_rng((seed, 31))
    sides = np.where(rng.random() < 0.5, 1, -1) * np.cumprod(np.where(rng.random(rows) < TURN, -1, 1))
    before = np.roll(sides, 1)
    ups = np.where(rng.random(rows) < 0.5 + 0.5 * strength * before, 1, -1)
    moves = np.where(rng.random(rows) < MOVE, ups, 0)
    segment = np.arange(rows) * SEGMENTS // rows
    is_first = np.append(True, np.diff(segment) != 0)
    moves[is_first] = 0
    bests = MID_TICKS + np.cumsum(moves)
    level = np.arange(LEVELS)
    bid_ticks, ask_ticks = bests[:, None] - level, bests[:, None] + 1 + level
    bid_sizes, ask_sizes = _sizes(sides, rng), _sizes(-sides, rng)
    flow = _flow((bid_ticks, bid_sizes), (ask_ticks, ask_sizes), rng)
    flow[is_first] = 0.0
    columns = Rows(
        ts_event=START_NS + ROW_NS * np.arange(1, rows + 1) + 3_600_000_000_000 * segment,
        sequence=np.arange(1, rows + 1),
        segment=segment.astype(np.int64),
        bid_ticks=bid_ticks.astype(np.int32),
        bid_sizes=bid_sizes.astype(np.float32),
        ask_ticks=ask_ticks.astype(np.int32),
        ask_sizes=ask_sizes.astype(np.float32),
        flow=flow,
    )
    return Book(Recording(instrument_id="BOOK.TEST", tick_size=0.25, has_trades=True, rows=columns), sides, Signal(strength=strength))


def _sizes(sides: Int64Array, rng: np.random.Generator) -> Any:
    """Return (n, 10) queues: the best one is long where the side is its own, the others say nothing."""
    best = np.where(sides > 0, _LONG, _SHORT) * (1.0 + 0.1 * rng.uniform(-1, 1, len(sides)))
    behind = rng.integers(30, 90, (len(sides), LEVELS - 1))
    return np.round(np.column_stack([best, behind]))


def _flow(bid: tuple[Any, Any], ask: tuple[Any, Any], rng: np.random.Generator) -> Any:
    n = len(bid[0])
    flow = np.zeros((n, len(FLOW_COLUMNS)), np.float32)
    flow[:, 0:2] = rng.poisson(3.0, (n, 2))
    flow[:, 3:5] = np.ceil(flow[:, 0:2] / 3)
    for column, (ticks, sizes) in ((5, bid), (6, ask)):
        flow[1:, column] = ((sizes[1:] != sizes[:-1]) | (ticks[1:] != ticks[:-1])).sum(axis=1)
    flow[1:, 7:] = _gains(*bid, 1) - _gains(*ask, -1)
    return flow


def _gains(ticks: Any, sizes: Any, better: int) -> Any:
    """Return what a side gained per level (Cont, Kukanov & Stoikov 2014, eq. 10), as the DOM buffer counts it."""
    step = (ticks[1:] - ticks[:-1]) * better
    return np.where(step > 0, sizes[1:], np.where(step < 0, -sizes[:-1], sizes[1:] - sizes[:-1]))
