"""A small slice of `zero_signal`, and its counterpart: where there is a signal, the same measure finds it."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.zero_signal import chance, scores


def test_a_simulated_market_without_signal_gives_no_skill_about_the_direction() -> None:
    found = [score for seed in (1, 2) for score in scores(seed, 4_500, [10], "linear")]

    assert [score["is_chance"] for score in found] == [True, True]


def test_a_known_direction_is_far_outside_of_chance_and_a_guessed_one_is_not() -> None:
    rng = np.random.default_rng(0)
    went_up, blocks = rng.random(600) < 0.5, np.arange(600) // 10
    known, guessed = np.where(went_up, 0.7, 0.3) + 0.3 * rng.normal(size=600), rng.random(600)

    assert chance(known, went_up, blocks, 1)[1] < 0.4
    low, high = chance(guessed, went_up, blocks, 1)
    assert low < 0 < high
