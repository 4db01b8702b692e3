"""The scores against scikit-learn's, and the bootstrap against what is known of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from ml_actor.calls import CallRule
from ml_actor.evaluate.metrics import Blocks, Said, Sums, block_numbers, block_rows, draws, even_calls, interval, make_blocks, up_share

SHARES = np.array([0.2, 0.6, 0.2])
CALLED = CallRule(flat_weight=0.5)


def a_test(rows: int = 3_000, seed: int = 3, sharpness: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities that know something and the classes that happened."""
    rng = np.random.default_rng(seed)
    raw = np.exp(sharpness * rng.normal(size=(rows, 3)) + np.log(SHARES))
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    classes = (rng.random(rows)[:, None] > np.cumsum(probabilities, axis=1)).sum(axis=1)
    return probabilities, np.minimum(classes, 2)


def score(probabilities: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    said = Said(probabilities=probabilities, calls=CALLED.calls(probabilities), shares=SHARES)
    return {name: float(value[0]) for name, value in Sums(said, classes, np.arange(len(classes)) // 100).scores().items()}


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(50, 2_000), st.floats(0.1, 3.0))
def test_every_score_is_that_of_scikit_learn(seed: int, rows: int, sharpness: float) -> None:
    probabilities, classes = a_test(rows, seed, sharpness)
    if len(np.unique(classes)) < 3:
        return

    found = score(probabilities, classes)

    largest, even = probabilities.argmax(axis=1), (probabilities / SHARES).argmax(axis=1)
    named = (probabilities * [1, CALLED.flat_weight, 1]).argmax(axis=1)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(classes, probabilities, labels=[0, 1, 2]))
    assert found["brier"] == pytest.approx(np.mean(np.sum((probabilities - np.eye(3)[classes]) ** 2, axis=1)))
    for suffix, calls in (("", named), ("_largest", largest), ("_even", even)):
        assert found[f"macro_f1{suffix}"] == pytest.approx(metrics.f1_score(classes, calls, average="macro", zero_division=0))
        assert found[f"mcc{suffix}"] == pytest.approx(metrics.matthews_corrcoef(classes, calls))
        assert found[f"balanced_accuracy{suffix}"] == pytest.approx(metrics.balanced_accuracy_score(classes, calls))
    moved = classes != 1
    exact = metrics.roc_auc_score(classes[moved] == 2, up_share(probabilities[moved]))
    assert found["auc_up_down"] == pytest.approx(exact, abs=0.003)


def test_the_calibration_error_is_zero_where_claims_hold_and_large_where_they_do_not() -> None:
    probabilities, classes = a_test(30_000)
    overconfident = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)

    assert score(probabilities, classes)["ece"] < 0.015
    assert score(overconfident, classes)["ece"] > 0.1


def test_a_model_that_always_says_the_shares_has_no_correlation() -> None:
    _, classes = a_test()

    found = score(np.tile(SHARES, (len(classes), 1)), classes)

    assert (found["mcc"], found["mcc_largest"], found["mcc_even"]) == (0, 0, 0)
    assert found["auc_up_down"] == pytest.approx(0.5, abs=0.02)
    assert set(even_calls(np.tile(SHARES, (4, 1)), SHARES)) == {0}


def test_blocks_are_longer_than_a_label_lives_and_stay_in_their_session() -> None:
    groups, rows = np.repeat([0, 1], 500), np.concatenate([np.arange(100, 600), np.arange(700, 1_200)])

    blocks = block_numbers(groups, rows, 100)

    assert block_rows(100) == 200
    assert block_rows(10) == 100
    assert max(np.bincount(blocks)) <= 200
    assert not set(blocks[:500]) & set(blocks[500:])


def test_an_interval_of_independent_rows_has_the_width_of_the_normal_theory() -> None:
    values = np.random.default_rng(1).normal(size=20_000)
    blocks = make_blocks(np.zeros(20_000, np.int64), np.arange(20_000), 10, seed=7)

    low, high = blocks.mean(values)["interval"]

    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(20_000), rel=0.15)
    assert low < values.mean() < high


def test_an_interval_grows_where_neighbours_say_the_same() -> None:
    rng = np.random.default_rng(2)
    alone, together = rng.normal(size=20_000), np.repeat(rng.normal(size=200), 100)
    blocks = make_blocks(np.zeros(20_000, np.int64), np.arange(20_000), 10, seed=7)

    widths = [high - low for low, high in (blocks.mean(values)["interval"] for values in (alone, together))]

    assert widths[1] > 7 * widths[0]


def test_the_same_seed_draws_the_same_blocks() -> None:
    assert (draws(50, 7) == draws(50, 7)).all()
    assert (draws(50, 7) != draws(50, 8)).any()
    assert (draws(50, 7).sum(axis=1) == 50).all()


def test_scores_of_resamples_are_scores_of_the_blocks_drawn() -> None:
    probabilities, classes = a_test(1_000)
    numbers = np.arange(1_000) // 100
    weights = np.zeros((1, 10))
    weights[0, [2, 2, 5]] = [2, 2, 1]

    found = Sums(Said(probabilities=probabilities, calls=CALLED.calls(probabilities), shares=SHARES), classes, numbers).scores(weights)

    chosen = np.concatenate([np.arange(200, 300), np.arange(200, 300), np.arange(500, 600)])
    assert found["log_loss"][0] == pytest.approx(score(probabilities[chosen], classes[chosen])["log_loss"])
    assert found["mcc"][0] == pytest.approx(score(probabilities[chosen], classes[chosen])["mcc"])


def test_an_interval_of_nothing_is_nothing() -> None:
    assert all(math.isnan(bound) for bound in interval(np.array([np.nan])))
    assert Blocks(numbers=np.array([0, 1]), drawn=draws(2, 1)).mean(np.array([1.0, 1.0]))["interval"] == [1, 1]
