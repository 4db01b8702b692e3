"""The order flow of the simulated market: what the others mean to do (`simulated_intents`), done to one book.

The size of a queue never decides about a move: ordinary market orders leave one lot, and only a sweep takes the last. What we
trade has two effects. *Temporary*: what we take is missing until the others refill it, from the side that we took it from.
*Permanent*: every lot we buy, by taking or by resting, brings `IMPACT_TICKS_PER_QUEUE` ticks for each `SHAPE[0]` lots in moves
upwards to come (every lot we sell the same downwards). One price for a lot, however it was traded, cannot be pumped for profit
(Huberman and Stanzl 2004).
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterable
from typing import Final

from framework.model import Side
from framework.venues.simulated_book import DEPTH, Half, OwnFill, SimulatedBook, Traded
from framework.venues.simulated_intents import REGIMES, QueueEvent, Step

TILT_QUEUES: Final = 0.55
TILT_BY_LEVEL: Final = (1.0, 0.7, 0.4) + (0.2,) * (DEPTH - 3)
SHAPE: Final = tuple([80 + 16 * min(level, 6) for level in range(DEPTH)])
SHOCK_DEPTH: Final = 0.8
MEND_PER_S: Final = 11.0
IMPACT_TICKS_PER_QUEUE: Final = 0.5
IMPACT_DELAY_S: Final = 1.0
OWED_MOVES_KEPT: Final = 1_000


class OrderFlow:
    """Carry out the steps of `intents` on one book. `rng` is drawn from for the first book and for what follows our trades only."""

    def __init__(self, intents: Iterable[Step], rng: random.Random, *, step_s: float, start_mid_ticks: int) -> None:
        self._intents = iter(intents)
        self._rng = rng
        self._mend_chance = 1.0 - math.exp(-MEND_PER_S * step_s)
        self._impact_chance = 1.0 - math.exp(-step_s / IMPACT_DELAY_S)
        self._owed: deque[int] = deque(maxlen=OWED_MOVES_KEPT)
        self._taken_levels = {Side.BUY: 0, Side.SELL: 0}
        self._depth = 1.0
        self.regime = 1
        self.book = SimulatedBook(
            Half(Side.BUY, start_mid_ticks, [self._fresh(level) for level in range(DEPTH)]),
            Half(Side.SELL, start_mid_ticks + 1, [self._fresh(level) for level in range(DEPTH)]),
        )

    def step(self) -> Traded:
        """Advance by one step; return public prints and executions of our resting orders."""
        step = next(self._intents)
        self.regime = step.regime
        self._depth = REGIMES[step.regime].depth * (1.0 - SHOCK_DEPTH * step.shock)
        if step.is_shock:
            self._withdraw(step)
        tilt = TILT_QUEUES * math.tanh(step.pressure)
        self._join_and_leave(step.queue_events, tilt)
        traded = Traded()
        for is_buy, size in step.trades:
            _add(traded, self.book.trade(Side.BUY if is_buy else Side.SELL, size))
        if step.is_move:
            self._move(step.direction, self._size(0, step.near_size), self._size(DEPTH - 1, step.deep_size), traded)
        self._mend(step, traded)
        self._pay_owed(traded)
        self._owe(traded.fills)
        return traded

    def take(self, client_order_id: str, side: Side, quantity: int, limit_ticks: int | None) -> Traded:
        """Let our order trade now, as far as it can."""
        half = self.book.halves[side.opposite]
        best = half.best
        traded = self.book.take(client_order_id, side, quantity, limit_ticks, lambda: self._fresh(DEPTH - 1))
        self._taken_levels[half.side] += abs(half.best - best)
        self._owe(traded.fills)
        return traded

    # --- sizes ---------------------------------------------------------------------------------------------------------

    def _size(self, level: int, relative: float) -> int:
        return max(2, round(SHAPE[level] * self._depth * relative))

    def _fresh(self, level: int) -> int:
        return self._size(level, self._rng.uniform(0.5, 1.5))

    # --- flows -----------------------------------------------------------------------------------------------------------

    def _join_and_leave(self, events: list[QueueEvent], tilt: float) -> None:
        """Let orders join and leave so that each queue drifts to its target: mean size, depth of the regime, lean of the pressure."""
        book, depth = self.book, self._depth
        bids, asks = book.halves[Side.BUY], book.halves[Side.SELL]
        for is_bid, level, size, coin, place in events:
            half = bids if is_bid else asks
            target = SHAPE[level] * depth * (1.0 + half.sign * tilt * TILT_BY_LEVEL[level])
            if coin * (target + half.sizes[level]) < target:
                half.sizes[level] += size
            else:
                book.cancel(half.side, level, size, place)

    def _withdraw(self, step: Step) -> None:
        """Let most of the depth go at once, on both sides alike."""
        for side, half in self.book.halves.items():
            for level, size in enumerate(half.sizes):
                self.book.cancel(side, level, round(size * SHOCK_DEPTH * step.near_size / 1.5), step.mend_coin)

    def _move(self, direction: int, near_size: int, deep_size: int, traded: Traded) -> None:
        """Move both sides by one tick: a sweep of the best level, and a better price behind it."""
        aggressor = Side.BUY if direction > 0 else Side.SELL
        _add(traded, self.book.sweep(aggressor, deep_size))
        _add(traded, self.book.improve(aggressor, near_size))

    def _mend(self, step: Step, traded: Traded) -> None:
        """Widen the spread in a shock, close it when that is over or we have opened it."""
        if step.mend_coin >= self._mend_chance:
            return
        wanted = 1 + (step.shock > 0.5) + (step.shock > 0.8)
        up, down = (Side.BUY, Side.SELL) if step.mend_direction > 0 else (Side.SELL, Side.BUY)
        opened_by_us = next((side for side, levels in self._taken_levels.items() if levels), None)
        if self.book.spread > wanted:
            self._close_in(opened_by_us or up, step, traded)
        elif opened_by_us is not None:
            self._taken_levels[opened_by_us] = 0
        elif self.book.spread < wanted:
            self.book.halves[down].retreat(self._size(DEPTH - 1, step.deep_size))

    def _close_in(self, side: Side, step: Step, traded: Traded) -> None:
        self._taken_levels[side] = max(0, self._taken_levels[side] - 1)
        _add(traded, self.book.improve(side, self._size(0, step.near_size)))

    # --- our impact ------------------------------------------------------------------------------------------------------

    def _owe(self, fills: list[OwnFill]) -> None:
        """Turn what we traded into moves to come: whole ones, and one more with the chance of the fraction."""
        if not fills:
            return
        lots = sum(fill.quantity * fill.side.sign for fill in fills)
        ticks = IMPACT_TICKS_PER_QUEUE * abs(lots) / SHAPE[0]
        whole = int(ticks)
        moves = whole + (self._rng.random() < ticks - whole)
        self._owed.extend([1 if lots > 0 else -1] * min(moves, OWED_MOVES_KEPT))

    def _pay_owed(self, traded: Traded) -> None:
        if self._owed and self._rng.random() < self._impact_chance:
            self._move(self._owed.popleft(), self._fresh(0), self._fresh(DEPTH - 1), traded)


def _add(traded: Traded, more: Traded) -> None:
    traded.prints += more.prints
    traded.fills += more.fills
