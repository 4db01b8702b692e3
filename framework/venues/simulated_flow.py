"""The order flow of the simulated market: what the others do, step by step.

Model (constants below, measured facts and pictures in `docs/simulated_market.md`):

- A latent *pressure* x is an Ornstein-Uhlenbeck process with unit variance and a half-life of `PRESSURE_HALF_LIFE_S`. It is
  visible: the queues lean towards it (`TILT_QUEUES`), and so do market orders (`TILT_TRADES`).
- The price moves one tick at a time, when somebody sweeps the best level. Sweeps arrive at a rate that depends on the volatility
  regime and on nothing that can be seen of direction. A sweep is upwards with probability 1/2 + e/2 tanh(1.5 x), where
  e = 1 - (1 - strength)^2. At strength 0 every sweep is a fair coin, independent of all that is visible: the mid is a
  martingale and order flow says nothing about its future. The size of a queue never decides about a move: ordinary market
  orders leave one lot.
- Regimes (calm, normal, turbulent) are a Markov chain; trades excite trades (clustering); a liquidity shock withdraws depth and
  widens the spread, on a side, and back from a side, that a fair (or tilted, as above) coin picks.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass
from typing import Final

from framework.model import Side
from framework.venues.simulated_book import DEPTH, Half, OwnFill, Print, SimulatedBook

STEP_S: Final = 0.02
PRESSURE_HALF_LIFE_S: Final = 4.0
TILT_QUEUES: Final = 0.55
TILT_TRADES: Final = 0.35
EVENTS_PER_STEP: Final = 3.0
TRADES_PER_S: Final = 6.0
EXCITATION: Final = 0.5
EXCITATION_DECAY: Final = 0.97
SHOCKS_PER_S: Final = 1 / 120
SHOCK_HALF_LIFE_S: Final = 4.0
IMPACT_PRESSURE_PER_LOT: Final = 0.01
IMPACT_MOVE_PER_QUEUE: Final = 0.35
SHAPE: Final = tuple(60 + 14 * min(level, 6) for level in range(DEPTH))
_LEVELS: Final = (0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11)


@dataclass(frozen=True, slots=True)
class Regime:
    """A volatility regime: sweeps per second, depth and activity factors, mean stay in s."""

    name: str
    moves_per_s: float
    depth: float
    activity: float
    stay_s: float


REGIMES: Final = (
    Regime("calm", 0.12, 1.4, 0.7, 180.0),
    Regime("normal", 0.35, 1.0, 1.0, 240.0),
    Regime("turbulent", 1.2, 0.6, 2.0, 60.0),
)


class OrderFlow:
    """Draw what the others do in each step of `STEP_S`, on one book. All randomness comes from `rng`."""

    def __init__(self, rng: random.Random, *, strength: float, start_mid_ticks: int, flip_at_s: float | None = None) -> None:
        self._rng = rng
        self._effect = 1.0 - (1.0 - strength) ** 2
        self._flip_at_s = flip_at_s
        self._elapsed_s = 0.0
        self._keep = math.exp(-math.log(2) / PRESSURE_HALF_LIFE_S * STEP_S)
        self._noise = math.sqrt(1.0 - self._keep**2)
        self.pressure = rng.gauss(0.0, 1.0)
        self.regime = 1
        self.shock = 0.0
        self._excitement = 0.0
        self._owed_moves: deque[int] = deque(maxlen=16)
        self.book = SimulatedBook(
            Half(Side.BUY, start_mid_ticks, [self._fresh(Side.BUY, level) for level in range(DEPTH)]),
            Half(Side.SELL, start_mid_ticks + 1, [self._fresh(Side.SELL, level) for level in range(DEPTH)]),
        )

    def step(self) -> tuple[list[Print], list[OwnFill]]:
        """Advance by `STEP_S`; return public prints and executions of our resting orders."""
        self._advance_state()
        prints: list[Print] = []
        fills: list[OwnFill] = []
        self._limit_and_cancel_flow()
        self._market_orders(prints, fills)
        self._moves(prints, fills)
        self._mend_spread()
        return prints, fills

    def note_taken(self, side: Side, quantity: int) -> None:
        """React to our taking order: pressure leans its way at once (temporary), and the price may follow (permanent)."""
        self._refill_emptied()
        self.pressure += side.sign * quantity * IMPACT_PRESSURE_PER_LOT
        queue = SHAPE[0] * REGIMES[self.regime].depth
        if self._rng.random() < IMPACT_MOVE_PER_QUEUE * quantity / queue:
            self._owed_moves.append(side.sign)

    # --- state ---------------------------------------------------------------------------------------------------------

    def _advance_state(self) -> None:
        rng = self._rng
        self._elapsed_s += STEP_S
        self.pressure = self.pressure * self._keep + self._noise * rng.gauss(0.0, 1.0)
        self._excitement *= EXCITATION_DECAY
        if rng.random() < STEP_S / REGIMES[self.regime].stay_s:
            self.regime = 1 if self.regime != 1 else rng.choice((0, 2))
        self.shock *= 0.5 ** (STEP_S / SHOCK_HALF_LIFE_S)
        if rng.random() < SHOCKS_PER_S * STEP_S * REGIMES[self.regime].activity:
            self.shock = 1.0

    def _direction(self) -> int:
        effect = self._effect
        if self._flip_at_s is not None and self._elapsed_s >= self._flip_at_s:
            effect = -effect
        chance_up = 0.5 + 0.5 * effect * math.tanh(1.5 * self.pressure)
        return 1 if self._rng.random() < chance_up else -1

    def _target(self, side: Side, level: int) -> float:
        regime = REGIMES[self.regime]
        lean = 1.0 + side.sign * TILT_QUEUES * math.tanh(self.pressure) * (1.0, 0.7, 0.4, 0.2)[min(level, 3)]
        return max(4.0, SHAPE[level] * regime.depth * lean * (1.0 - 0.8 * self.shock))

    def _fresh(self, side: Side, level: int) -> int:
        return max(2, round(self._target(side, level) * self._rng.uniform(0.5, 1.5)))

    # --- flows -----------------------------------------------------------------------------------------------------------

    def _limit_and_cancel_flow(self) -> None:
        rng, book = self._rng, self.book
        for _ in range(self._count(EVENTS_PER_STEP * REGIMES[self.regime].activity)):
            side = Side.BUY if rng.random() < 0.5 else Side.SELL
            level = rng.choice(_LEVELS)
            size = 1 + int(rng.expovariate(0.15))
            target, here = self._target(side, level), book.halves[side].sizes[level]
            if rng.random() * (target + here) < target:
                book.add(side, level, size)
            else:
                book.cancel(side, level, size, rng.random())

    def _market_orders(self, prints: list[Print], fills: list[OwnFill]) -> None:
        rng = self._rng
        rate = TRADES_PER_S * REGIMES[self.regime].activity * (1.0 + self._excitement)
        for _ in range(self._count(rate * STEP_S)):
            self._excitement = min(self._excitement + EXCITATION, 5.0)
            is_buy = rng.random() < 0.5 + TILT_TRADES * math.tanh(self.pressure)
            traded = self.book.trade(Side.BUY if is_buy else Side.SELL, 1 + int(rng.expovariate(0.4)))
            prints += traded[0]
            fills += traded[1]

    def _moves(self, prints: list[Print], fills: list[OwnFill]) -> None:
        while self._owed_moves:
            self._move(self._owed_moves.popleft(), prints, fills)
        if self._rng.random() < REGIMES[self.regime].moves_per_s * STEP_S:
            self._move(self._direction(), prints, fills)

    def _move(self, direction: int, prints: list[Print], fills: list[OwnFill]) -> None:
        aggressor = Side.BUY if direction > 0 else Side.SELL
        swept = self.book.sweep(aggressor, self._fresh(aggressor.opposite, DEPTH - 1))
        prints += swept[0]
        fills += swept[1]
        if self.book.has_room():
            self.book.improve(aggressor, self._fresh(aggressor, 0))

    def _refill_emptied(self) -> None:
        """Let the next level be the best one where we took a whole queue; fill holes behind it."""
        for side, half in self.book.halves.items():
            while self.book.emptied_levels(side):
                half.retreat(self._fresh(side, DEPTH - 1))
            for level, size in enumerate(half.sizes):
                if not size:
                    half.sizes[level] = self._fresh(side, level)

    def _mend_spread(self) -> None:
        """Widen in a shock, close in when it is over."""
        book, rng = self.book, self._rng
        wanted = 1 + (self.shock > 0.5) + (self.shock > 0.8)
        if book.spread > wanted and rng.random() < 0.2 and book.has_room():
            side = Side.BUY if self._direction() > 0 else Side.SELL
            book.improve(side, self._fresh(side, 0))
        elif book.spread < wanted and rng.random() < 0.2:
            side = Side.SELL if self._direction() > 0 else Side.BUY
            if not any(order.price_ticks == book.halves[side].best for order in book.own.values()):
                book.halves[side].retreat(self._fresh(side, DEPTH - 1))

    def _count(self, mean: float) -> int:
        """Draw a Poisson number (Knuth's product of uniforms; the means here are small)."""
        limit, product, count = math.exp(-mean), self._rng.random(), 0
        while product > limit:
            product *= self._rng.random()
            count += 1
        return count
