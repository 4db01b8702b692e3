"""Contributions of trees: the Shapley values of the game that they claim to be, and nothing is left over."""

from __future__ import annotations

import itertools
import math
from typing import Any

import lightgbm
import numpy as np
import pytest
import treelite
from hypothesis import given
from hypothesis import strategies as st

from ml_actor.explanation.shapley import contributions, node_covers
from ml_actor.forest import Forest, from_treelite


def fitted(seed: int, features: int = 5, leaves: int = 6, rounds: int = 4) -> tuple[Forest, Any, Any, Any]:
    """A small three-class forest, its booster, and rows with gaps."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(600, features))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    classes = (
        np.clip(np.round(np.nan_to_num(rows[:, 0]) + 0.5 * np.nan_to_num(rows[:, 1]) ** 2 + rng.normal(scale=0.3, size=600)), -1, 1) + 1
    )
    settings = {"objective": "multiclass", "num_class": 3, "num_leaves": leaves, "min_data_in_leaf": 10, "verbosity": -1, "seed": 1}
    booster = lightgbm.train(settings | {"num_threads": 1}, lightgbm.Dataset(rows, classes), rounds)
    return from_treelite(treelite.frontend.from_lightgbm(booster)), booster, rows, classes


def by_definition(forest: Forest, row: Any, covers: Any) -> Any:
    """Shapley values by adding up over every subset."""
    count = forest.feature_count

    def value(root: int, known: frozenset[int]) -> float:
        feature, left, right, missing = forest.splits[root].tolist()
        if feature < 0:
            return float(forest.values[root])
        if feature in known:
            chosen = missing if math.isnan(row[feature]) else left if row[feature] <= forest.values[root] else right
            return value(chosen, known)
        return float(sum(value(child, known) * covers[child] / covers[root] for child in (left, right)))

    out = np.zeros((len(forest.base), count))
    for root, output in zip(forest.roots.tolist(), forest.outputs.tolist(), strict=True):
        for feature in range(count):
            others = [one for one in range(count) if one != feature]
            for size in range(count):
                weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
                for subset in itertools.combinations(others, size):
                    known = frozenset(subset)
                    out[output, feature] += weight * (value(root, known | {feature}) - value(root, known))
    return out


@pytest.mark.parametrize("seed", [1, 2])
def test_contributions_are_shapley_values(seed: int) -> None:
    forest, _, rows, _ = fitted(seed)
    covers = node_covers(forest, rows)

    for row in rows[:4]:
        added, _ = contributions(forest, row, rows)
        assert added == pytest.approx(by_definition(forest, row, covers), abs=1e-12)


@given(seed=st.integers(0, 20), number=st.integers(0, 599))
def test_base_and_contributions_add_up_to_the_margin(seed: int, number: int) -> None:
    forest, _, rows, _ = FITTED[seed % len(FITTED)]

    added, base = contributions(forest, rows[number], rows[:50])

    assert base + added.sum(axis=1) == pytest.approx(forest.margins(rows[number : number + 1])[0], abs=1e-10)


FITTED = [fitted(seed, features=8, leaves=12) for seed in (5, 6)]


def test_contributions_agree_with_lightgbms_where_the_background_is_its_training_data() -> None:
    forest, booster, rows, _ = fitted(3)
    theirs = np.asarray(booster.predict(rows[:5], pred_contrib=True)).reshape(5, 3, forest.feature_count + 1)

    for row, expected in zip(rows[:5], theirs, strict=True):
        added, base = contributions(forest, row, rows)
        # One row more in each leaf than LightGBM has counted: nearly the same.
        assert added == pytest.approx(expected[:, :-1], abs=0.02)
        assert base == pytest.approx(expected[:, -1], abs=0.02)


def test_covers_count_every_row_once_a_tree() -> None:
    forest, _, rows, _ = fitted(4)

    covers = node_covers(forest, rows)

    leaves = forest.splits[:, 0] < 0
    for number, root in enumerate(forest.roots.tolist()):
        end = forest.roots[number + 1] if number + 1 < len(forest.roots) else len(forest.values)
        own = slice(root, end)
        assert covers[root] == len(rows) + leaves[own].sum()


def test_without_any_background_every_leaf_counts_alike() -> None:
    forest, _, rows, _ = fitted(4)

    added, base = contributions(forest, rows[0], rows[:0])

    assert np.isfinite(added).all()
    assert base + added.sum(axis=1) == pytest.approx(forest.margins(rows[:1])[0])
