"""What the others in the simulated market mean to do, step by step: drawn ahead, and independent of the book and of us.

Model (constants below; measured facts in `docs/simulated_market.md`):

- A latent *pressure* x is an Ornstein-Uhlenbeck process with unit variance and a half-life of `PRESSURE_HALF_LIFE_S`. It is
  visible: the queues lean towards it (`simulated_flow.TILT_QUEUES`), and so do market orders (`TILT_TRADES`).
- The price moves one tick at a time, when somebody sweeps the best level. Moves come at a rate that depends on the regime and
  on shocks, and on nothing that says a direction. A move is upwards with probability 1/2 + e/2 tanh(1.5 x), with
  e = 1 - (1 - strength)^2. At strength 0 every move is a fair coin of its own, independent of everything else: whatever was
  visible before, the paths after it come in mirrored pairs of equal probability, so the mid is a martingale.
- Regimes (calm, normal, turbulent) are a Markov chain. Market orders are a Hawkes process: each excites `BRANCHING` others.
  A liquidity shock withdraws most of the depth at once, widens the spread, and fades.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from framework.venues.simulated_book import DEPTH

PRESSURE_HALF_LIFE_S: Final = 4.0
TILT_TRADES: Final = 0.35
QUEUE_EVENTS_PER_S: Final = 150.0
QUEUE_EVENT_LOTS: Final = 4.0
YOUTH_OF_CANCELS: Final = 3.0
TRADE_SEEDS_PER_S: Final = 2.0
TRADE_LOTS: Final = 2.0
BRANCHING: Final = 0.6
EXCITATION_DECAY_PER_S: Final = 2.0
MAX_EXCITATION_PER_S: Final = 60.0
SHOCKS_PER_S: Final = 1 / 120
SHOCK_HALF_LIFE_S: Final = 4.0
SHOCK_MOVES: Final = 2.0
BLOCK_STEPS: Final = 256
_LEVELS: Final = np.array((0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, DEPTH - 1))


@dataclass(frozen=True, slots=True)
class Regime:
    """A volatility regime: price moves per second, depth and activity factors, mean stay in s."""

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


class QueueEvent(NamedTuple):
    """Somebody looks at a queue; `coin` decides whether an order joins it or leaves it, from `place` in the queue."""

    is_bid: bool
    level: int
    size: int
    coin: float
    place: float


class Step(NamedTuple):
    """What the others mean to do in one step. `trades` are (is_buy, lots); directions are +1 and -1; sizes are relative."""

    regime: int
    pressure: float
    shock: float
    is_shock: bool
    queue_events: list[QueueEvent]
    trades: list[tuple[bool, int]]
    is_move: bool
    direction: int
    mend_coin: float
    mend_direction: int
    near_size: float
    deep_size: float


class Intents:
    """Draw the steps of one market, without end. The direction of moves has a stream of random numbers of its own."""

    def __init__(self, seed: int, *, strength: float, step_s: float, flip_at_s: float | None = None) -> None:
        others, coins = np.random.SeedSequence(seed % 2**64).spawn(2)
        self._rng = np.random.Generator(np.random.PCG64(others))
        self._coins = np.random.Generator(np.random.PCG64(coins))
        self._effect = 1.0 - (1.0 - strength) ** 2
        self._step_s = step_s
        self._flip_at_s = math.inf if flip_at_s is None else flip_at_s
        self._steps = 0
        self._pressure = float(self._rng.standard_normal())
        self._regime = 1
        self._shock = 0.0
        self._excitation = 0.0

    def __iter__(self) -> Iterator[Step]:
        while True:
            yield from self._block()

    def _block(self) -> Iterator[Step]:
        regimes, pressures = self._regimes(), self._pressures()
        activity = np.array([regime.activity for regime in REGIMES])[regimes]
        shocks, is_shock = self._shocks(activity)
        lean = np.tanh(pressures)
        moves = np.array([regime.moves_per_s for regime in REGIMES])[regimes] * (1.0 + SHOCK_MOVES * shocks)
        chance_up = self._chance_up(pressures)
        columns = (
            regimes,
            pressures,
            shocks,
            is_shock,
            self._queue_events(activity),
            self._trades(activity, lean),
            self._rng.random(BLOCK_STEPS) < moves * self._step_s,
            self._direction(chance_up),
            self._rng.random(BLOCK_STEPS),
            self._direction(chance_up),
            self._rng.uniform(0.5, 1.5, BLOCK_STEPS),
            self._rng.uniform(0.5, 1.5, BLOCK_STEPS),
        )
        self._steps += BLOCK_STEPS
        return map(Step._make, zip(*(_listed(column) for column in columns), strict=True))

    def _direction(self, chance_up: Any) -> Any:
        return np.where(self._coins.random(BLOCK_STEPS) < chance_up, 1, -1)

    def _chance_up(self, pressures: Any) -> Any:
        times_s = (self._steps + np.arange(1, BLOCK_STEPS + 1)) * self._step_s
        effect = np.where(times_s >= self._flip_at_s, -self._effect, self._effect)
        return 0.5 + 0.5 * effect * np.tanh(1.5 * pressures)

    def _pressures(self) -> Any:
        keep = 0.5 ** (self._step_s / PRESSURE_HALF_LIFE_S)
        noise = math.sqrt(1.0 - keep**2) * self._rng.standard_normal(BLOCK_STEPS)
        return np.array([self._next_pressure(keep, one) for one in noise.tolist()])

    def _next_pressure(self, keep: float, noise: float) -> float:
        self._pressure = self._pressure * keep + noise
        return self._pressure

    def _regimes(self) -> Any:
        leaves = self._rng.random(BLOCK_STEPS).tolist()
        choices = self._rng.random(BLOCK_STEPS).tolist()
        return np.array([self._next_regime(leave, choice) for leave, choice in zip(leaves, choices, strict=True)])

    def _next_regime(self, leave: float, choice: float) -> int:
        if leave < self._step_s / REGIMES[self._regime].stay_s:
            self._regime = 1 if self._regime != 1 else 0 if choice < 0.5 else 2
        return self._regime

    def _shocks(self, activity: Any) -> tuple[Any, Any]:
        is_shock = self._rng.random(BLOCK_STEPS) < SHOCKS_PER_S * self._step_s * activity
        keep = 0.5 ** (self._step_s / SHOCK_HALF_LIFE_S)
        return np.array([self._next_shock(keep, is_new) for is_new in is_shock.tolist()]), is_shock

    def _next_shock(self, keep: float, is_new: bool) -> float:  # noqa: FBT001 (a row of a table)
        self._shock = 1.0 if is_new else self._shock * keep
        return self._shock

    def _queue_events(self, activity: Any) -> list[list[QueueEvent]]:
        rng = self._rng
        counts = rng.poisson(QUEUE_EVENTS_PER_S * self._step_s * activity)
        total = int(counts.sum())
        columns = (
            rng.random(total) < 0.5,
            _LEVELS[rng.integers(0, len(_LEVELS), total)],
            1 + rng.exponential(QUEUE_EVENT_LOTS - 0.5, total).astype(np.int64),
            rng.random(total),
            # Who came last leaves first, more often than not: otherwise a place at the end of a queue would be worth too much.
            rng.random(total) ** (1.0 / YOUTH_OF_CANCELS),
        )
        return _split(list(map(QueueEvent._make, zip(*(column.tolist() for column in columns), strict=True))), counts)

    def _trades(self, activity: Any, lean: Any) -> list[list[tuple[bool, int]]]:
        rng = self._rng
        draws = rng.random(BLOCK_STEPS).tolist()
        counts = np.array([self._next_trades(*one) for one in zip(draws, activity.tolist(), strict=True)])
        total = int(counts.sum())
        is_buy = rng.random(total) < 0.5 + TILT_TRADES * np.repeat(lean, counts)
        sizes = 1 + (TRADE_LOTS * (np.exp(rng.standard_normal(total)) - 0.5)).clip(0, 500).astype(np.int64)
        return _split(list(zip(is_buy.tolist(), sizes.tolist(), strict=True)), counts)

    def _next_trades(self, draw: float, activity: float) -> int:
        """Advance the Hawkes intensity by one step and return its number of market orders."""
        count = _poisson(draw, (TRADE_SEEDS_PER_S * activity + self._excitation) * self._step_s)
        kept = self._excitation * math.exp(-EXCITATION_DECAY_PER_S * self._step_s)
        self._excitation = min(MAX_EXCITATION_PER_S, kept + BRANCHING * EXCITATION_DECAY_PER_S * count)
        return count


def _poisson(draw: float, mean: float) -> int:
    """Return the Poisson number at quantile `draw` (inversion: one draw a step, whatever comes out)."""
    count, chance = 0, math.exp(-mean)
    while draw >= chance and count < 50:
        draw -= chance
        count += 1
        chance *= mean / count
    return count


def _listed(column: Any) -> list[Any]:
    return column if isinstance(column, list) else column.tolist()


def _split(rows: list[Any], counts: Any) -> list[list[Any]]:
    ends = np.cumsum(counts).tolist()
    return [rows[end - count : end] for end, count in zip(ends, counts.tolist(), strict=True)]
