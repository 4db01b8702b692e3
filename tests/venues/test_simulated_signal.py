from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from framework.model import Side
from framework.venues.simulated_flow import OrderFlow
from framework.venues.simulated_intents import Intents, Step
from tests.venues.market_facts import SIGNALS, Sample, area_under_curve, fitted_weights, history_sample, pooled

DURATION_S = 2_000.0


@cache
def sample(strength: float, *, is_for_learning: bool) -> Sample:
    first, seeds = 0 if is_for_learning else 10, 3 if strength == 0.0 else 1
    return pooled(history_sample(strength, seed, DURATION_S) for seed in range(first, first + seeds))


def skill(strength: float) -> tuple[float, float]:
    """Return the AUC of a logistic regression on data it has not seen, and the standard error of a coin."""
    judged = sample(strength, is_for_learning=False)
    return area_under_curve(judged.signals @ fitted_weights(sample(strength, is_for_learning=True)), judged.moves)


class Trail:
    """A flow, and all that it showed: books and prints of each step, with prices relative to the first mid."""

    def __init__(self, *, strength: float, seed: int, mirrored_from: int | None = None) -> None:
        intents = Intents(seed, strength=strength, step_s=0.02)
        self.flow = OrderFlow(self._turned(iter(intents), mirrored_from), random.Random(seed), step_s=0.02, start_mid_ticks=0)
        self.shown: list[tuple[object, ...]] = []
        self.mids: list[int] = []

    def _turned(self, steps: Iterator[Step], start: int | None) -> Iterator[Step]:
        for number, step in enumerate(steps):
            is_turned = start is not None and number >= start
            yield step._replace(direction=-step.direction, mend_direction=-step.mend_direction) if is_turned else step

    def run(self, steps: int) -> Trail:
        for _ in range(steps):
            traded = self.flow.step()
            book = self.flow.book
            self.shown.append((*traded.prints, book.levels(Side.BUY), book.levels(Side.SELL)))
            self.mids.append(book.halves[Side.BUY].best + book.halves[Side.SELL].best)
        return self


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("turn", [1, 777, 5_000])
def test_without_a_signal_every_future_has_a_mirror_image_of_the_same_probability(seed: int, turn: int) -> None:
    # The directions are coins of their own: fair, and independent of everything else. So after the same visible past, the
    # path with every later coin turned over is as probable as the path itself, and its mid goes exactly the other way.
    path = Trail(strength=0.0, seed=seed).run(10_000)
    mirror = Trail(strength=0.0, seed=seed, mirrored_from=turn).run(10_000)

    assert path.shown[:turn] == mirror.shown[:turn]
    here = path.mids[turn - 1]
    moves, mirrored = (np.array(trail.mids[turn:]) - here for trail in (path, mirror))
    assert np.array_equal(moves, -mirrored)
    assert np.abs(moves).max() > 4


def test_without_a_signal_directions_are_fair_coins_that_know_nothing() -> None:
    steps = [step for _, step in zip(range(100_000), Intents(3, strength=0.0, step_s=0.02), strict=False)]
    directions = np.array([step.direction for step in steps])
    pressures = np.array([step.pressure for step in steps])

    for value in (
        directions,
        directions * np.sign(pressures),
        directions[1:] * directions[:-1],
        directions * [s.mend_direction for s in steps],
    ):
        assert abs(value.mean()) < 4 / np.sqrt(len(value))


@pytest.mark.parametrize("name", SIGNALS)
def test_without_a_signal_nothing_visible_tells_up_from_down(name: str) -> None:
    everything = pooled([sample(0.0, is_for_learning=True), sample(0.0, is_for_learning=False)])
    area, error = area_under_curve(everything.signals[:, SIGNALS.index(name)], everything.moves)

    # Enough rows to see an area of 0.55 four standard errors away.
    assert error < 0.05 / 4
    # Seven signals and a model are looked at: the 95 % interval of all eight together is 2.7 standard errors wide.
    assert abs(area - 0.5) < 2.7 * error


def test_without_a_signal_a_model_has_no_skill() -> None:
    area, error = skill(0.0)

    assert abs(area - 0.5) < 2.7 * error


def test_the_default_signal_is_worth_learning_and_no_giveaway() -> None:
    assert 0.70 < skill(0.6)[0] < 0.80


def test_a_stronger_signal_tells_more() -> None:
    areas = [skill(strength)[0] for strength in (0.0, 0.3, 0.6, 1.0)]

    assert areas == sorted(areas)


def test_a_flip_turns_the_signal_over_from_its_second_on() -> None:
    flips = Intents(4, strength=1.0, step_s=0.02, flip_at_s=400.0)
    agrees = np.array([step.direction * np.sign(step.pressure) for _, step in zip(range(40_000), flips, strict=False)])

    assert agrees[: 400 * 50].mean() > 0.5
    assert agrees[400 * 50 :].mean() < -0.5
