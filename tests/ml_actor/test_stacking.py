from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml_actor.calibration import CalibrationKind
from ml_actor.evaluation import log_losses
from ml_actor.members import Shown, normalised
from ml_actor.preparation import UNKNOWN
from ml_actor.stacking import blocks, fit_pool


def opinions(n: int = 6_000, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Classes, and what three say of them: one that knows the first half of the truth, one the second, and one that guesses."""
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(n, 3)), rng.normal(size=(n, 3))
    truth = np.exp(normalised(left + right))
    classes = (rng.random(n)[:, None] > np.cumsum(truth, axis=1)[:, :2]).sum(axis=1)
    return classes, normalised(left), normalised(right), normalised(0.3 * rng.normal(size=(n, 3)))


def shown(lengths: tuple[int, ...]) -> Shown:
    positions = np.concatenate([np.arange(length) + number * 10**9 for number, length in enumerate(lengths)])
    n = len(positions)
    return Shown(horizons=(10,), values=np.zeros((n, 1)), classes=np.zeros((n, 1), np.int64), weights=np.ones(n), positions=positions)


def test_two_that_know_different_things_are_pooled_and_one_that_guesses_earns_nothing() -> None:
    classes, left, right, guess = opinions()
    pool = fit_pool([left, right, guess], classes, 10, seed=1)

    assert pool.weights[0] == pytest.approx(0.5, abs=0.05)
    assert pool.weights[1] == pytest.approx(0.5, abs=0.05)
    assert pool.weights[2] == 0.0
    alone = min(float(log_losses(np.exp(one), classes).mean()) for one in (left, right))
    assert float(log_losses(pool.probabilities([left, right, None]), classes).mean()) < alone - 0.05


def test_of_two_that_say_the_same_one_is_enough() -> None:
    classes, left, _, _ = opinions()
    pool = fit_pool([left, left.copy()], classes, 10, seed=1)

    assert sorted(weight > 0 for weight in pool.weights) == [False, True]


def test_one_that_boasts_is_made_honest() -> None:
    classes, left, right, _ = opinions()
    pool = fit_pool([normalised(1.8 * (left + right))], classes, 10, seed=1)

    assert pool.calibration.kind is not CalibrationKind.NONE
    assert float(log_losses(pool.probabilities([normalised(1.8 * (left + right))]), classes).mean()) == pytest.approx(
        float(log_losses(np.exp(normalised(left + right)), classes).mean()), abs=0.003
    )


def test_rows_whose_label_is_not_known_are_left_out() -> None:
    classes, left, right, _ = opinions(3_000)
    hidden = classes.copy()
    hidden[1_000:2_000] = UNKNOWN
    kept = classes != hidden

    some = fit_pool([left, right], hidden, 10, seed=1)
    without = fit_pool([left[~kept], right[~kept]], classes[~kept], 10, seed=1)
    assert some.weights == without.weights


def test_the_same_opinions_and_seed_give_the_same_pool() -> None:
    classes, left, right, guess = opinions(2_000)

    assert fit_pool([left, right, guess], classes, 10, seed=3).weights == fit_pool([left, right, guess], classes, 10, seed=3).weights


@pytest.mark.parametrize(
    ("lengths", "count"), [((3_000,), 3), ((24_000,), 4), ((900, 1_800, 300), 3), ((15_000, 9_000), 2), ((9_000, 900), 3), ((500,) * 9, 4)]
)
def test_blocks_cover_every_row_once_and_their_fits_stay_away_from_them(lengths: tuple[int, ...], count: int) -> None:
    rows = shown(lengths)
    found = blocks(rows, 300)

    assert np.concatenate([inside for _, inside in found]).tolist() == list(range(len(rows.positions)))
    assert len(found) == count
    for outside, inside in found:
        gaps = np.abs(rows.positions[outside][:, None] - rows.positions[inside[[0, -1]]][None, :]).min()
        assert gaps > 300
        assert not set(outside) & set(inside)
