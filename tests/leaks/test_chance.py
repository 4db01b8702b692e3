"""Scores, their intervals, and how often honest ones raise an alarm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from framework.window import Rows
from ml_actor.evaluation import auc
from ml_actor.leaks import chance
from ml_actor.leaks.book import generate
from ml_actor.leaks.skill import scored


def test_the_score_is_the_area_under_the_curve() -> None:
    rng = np.random.default_rng(1)
    moves = rng.integers(-1, 2, 3_000)
    columns = np.asarray(np.round(rng.normal(size=(3_000, 4)) + 0.4 * moves[:, None] * np.arange(4), 1), np.float64)
    is_valid = rng.random(3_000) < 0.9

    found = chance.direction_auc(columns, moves, is_valid, seed=1)

    rows = is_valid & (moves != 0)
    expected = [auc(columns[rows, column], moves[rows] > 0) - 0.5 for column in range(4)]
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert (found.low < found.value).all()
    assert (found.value < found.high).all()


def longer_queue(rows: Rows) -> Any:
    gaps: Any = rows.bid_sizes[:, :1] - rows.ask_sizes[:, :1]
    return gaps.astype(np.float64)


def test_intervals_of_honest_scores_hold_chance_as_often_as_they_say() -> None:
    estimates = []
    for seed in range(60):
        made = generate(6_000, seed=seed, strength=0.0)
        column = longer_queue(made.recording.rows)
        estimates.append(chance.direction_auc(column, *scored(made, 20), seed=seed))

    z = np.array([one.value[0] / one.error[0] for one in estimates])
    pooled = chance.pool(estimates)
    assert 0.8 < z.std() < 1.25
    assert pooled.outside <= 9  # of 60; more than 9 would be chance once in 1,000 times at 5 %
    assert not pooled.beyond().any()


def test_a_constant_raises_no_alarm() -> None:
    made = generate(4_000, seed=2, strength=0.0)
    moves, is_valid = scored(made, 20)
    columns = np.column_stack([np.ones(4_000), np.full(4_000, np.nan)])

    pooled = chance.pool([chance.direction_auc(columns, moves, is_valid, seed=2)])

    assert not pooled.beyond().any()
    assert pooled.of == 0


def test_more_columns_are_allowed_more_luck() -> None:
    def limit(columns: int) -> float:
        return chance.Pooled(value=np.zeros(columns), error=np.ones(columns), outside=0, of=columns).limit()

    assert limit(1) == pytest.approx(3.29, abs=0.01)
    assert limit(100) > 4.3


def test_a_mean_of_blocks_has_the_error_of_blocks() -> None:
    rng = np.random.default_rng(3)
    blocks = np.repeat(rng.normal(size=100), chance.BLOCK_ROWS)

    found = chance.mean_of(blocks[:, None], np.arange(len(blocks)), len(blocks), seed=1)

    assert found.error[0] == pytest.approx(0.1, rel=0.25)
