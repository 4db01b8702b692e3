"""The rule for naming one class, against scikit-learn and against what is known of probabilities that are right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef

from ml_actor.calls import CallRule, choose_calls, even_rule
from ml_actor.evaluation import matthews_of

SHARES = np.array([0.1, 0.8, 0.1])


def a_part(rows: int, seed: int, shares: np.ndarray = SHARES) -> tuple[np.ndarray, np.ndarray]:
    """Return calibrated probabilities and the classes that happened."""
    rng = np.random.default_rng(seed)
    raw = np.exp(1.2 * rng.normal(size=(rows, 3)) + np.log(shares))
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    classes = (rng.random(rows)[:, None] > np.cumsum(probabilities, axis=1)).sum(axis=1)
    return probabilities, np.minimum(classes, 2)


def test_the_rule_names_more_of_what_happened_than_the_largest_probability_does_on_rows_that_did_not_choose_it() -> None:
    probabilities, classes = a_part(20_000, seed=1)

    rule = choose_calls(*a_part(20_000, seed=2))

    named = matthews_corrcoef(classes, rule.calls(probabilities))
    assert named > matthews_corrcoef(classes, probabilities.argmax(axis=1)) + 0.01
    assert named > matthews_corrcoef(classes, even_rule(SHARES).calls(probabilities))


def test_no_weight_is_much_better_on_other_rows_than_the_one_that_was_chosen() -> None:
    probabilities, classes = a_part(20_000, seed=1)
    rule = choose_calls(*a_part(20_000, seed=2))

    best = max(matthews_corrcoef(classes, CallRule(flat_weight=weight).calls(probabilities)) for weight in np.linspace(0.05, 1.5, 60))

    assert matthews_corrcoef(classes, rule.calls(probabilities)) > best - 0.005


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(50, 500))
def test_up_and_down_are_treated_alike(seed: int, rows: int) -> None:
    probabilities, classes = a_part(rows, seed)

    rule, mirrored = choose_calls(probabilities, classes), choose_calls(probabilities[:, ::-1], 2 - classes)

    assert rule.flat_weight == pytest.approx(mirrored.flat_weight)
    distinct = probabilities[:, 0] != probabilities[:, 2]
    assert np.array_equal(2 - rule.calls(probabilities)[distinct], rule.calls(probabilities[:, ::-1])[distinct])


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.05, 5.0))
def test_naming_is_the_largest_weighted_probability(seed: int, weight: float) -> None:
    probabilities, _ = a_part(200, seed)

    assert np.array_equal(CallRule(flat_weight=weight).calls(probabilities), (probabilities * [1, weight, 1]).argmax(axis=1))


def test_rows_that_all_say_the_same_have_a_rule_too_and_no_correlation() -> None:
    same = np.tile(SHARES, (500, 1))

    rule = choose_calls(same, a_part(500, seed=3)[1])

    assert len(np.unique(rule.calls(same))) == 1
    assert matthews_of(np.eye(3)[rule.calls(same)].T @ same) == 0
