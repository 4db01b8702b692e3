"""The flat forest gives what the fitted libraries give, for one row and for many, and refuses arrays that it could not walk."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import treelite
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest, RandomForestRegressor

from ml_actor.forest import FEATURE, LEFT, MISSING, RIGHT, from_arrays, from_treelite, joined

ROOT = Path(__file__).resolve().parents[2]


def rows_with_gaps(seed: int, rows: int = 400, columns: int = 7) -> Any:
    rng = np.random.default_rng(seed)
    features = np.round(rng.normal(size=(rows, columns)), 2)
    features[rng.random(features.shape) < 0.1] = np.nan
    return features


def boosted(seed: int, rounds: int = 12) -> tuple[Any, Any]:
    features = rows_with_gaps(seed, 1_500)
    classes = np.digitize(np.nan_to_num(features[:, 0]) + np.nan_to_num(features[:, 1]), [-0.5, 0.5])
    settings = {"objective": "multiclass", "num_class": 3, "num_leaves": 9, "verbosity": -1, "num_threads": 1, "seed": seed}
    booster = lightgbm.train(settings, lightgbm.Dataset(features, classes), rounds)
    return booster, from_treelite(treelite.frontend.from_lightgbm(booster))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_boosted_trees_give_lightgbms_margins_also_where_features_are_missing(seed: int) -> None:
    booster, forest = boosted(seed)
    features = rows_with_gaps(seed + 100)
    features[0] = np.nan

    np.testing.assert_allclose(forest.margins(features), booster.predict(features, raw_score=True), rtol=1e-12, atol=1e-12)


def test_a_threshold_itself_goes_the_way_that_lightgbm_goes() -> None:
    booster, forest = boosted(4)
    inner = forest.splits[:, FEATURE] >= 0
    features = np.zeros((int(inner.sum()), 7))
    features[np.arange(len(features)), forest.splits[inner, FEATURE]] = forest.values[inner]

    np.testing.assert_allclose(forest.margins(features), booster.predict(features, raw_score=True), rtol=1e-12, atol=1e-12)


def test_an_isolation_forest_gives_sklearns_scores() -> None:
    features = np.nan_to_num(rows_with_gaps(5)).astype(np.float32).astype(np.float64)
    fitted = IsolationForest(n_estimators=20, random_state=1).fit(features)
    imported = treelite.sklearn.import_model(fitted)
    ratio = float(imported.get_header_accessor().get_field("ratio_c")[0])

    np.testing.assert_allclose(
        np.exp2(-from_treelite(imported).margins(features)[:, 0] / ratio), -fitted.score_samples(features), atol=1e-8
    )


def test_a_forest_of_averages_gives_their_mean() -> None:
    features = np.nan_to_num(rows_with_gaps(6)).astype(np.float32).astype(np.float64)
    fitted = RandomForestRegressor(n_estimators=9, random_state=1).fit(features, features[:, 0] ** 2)

    found = from_treelite(treelite.sklearn.import_model(fitted)).margins(features)[:, 0]
    np.testing.assert_allclose(found, fitted.predict(features), rtol=1e-12)


@given(seed=st.integers(0, 1_000))
@settings(max_examples=20, deadline=None)
def test_one_row_gets_the_same_bits_as_among_many(seed: int) -> None:
    _, forest = boosted(1, rounds=3)
    features = rows_with_gaps(seed, 30)

    assert np.array_equal(forest.margins(features), np.vstack([forest.margins(row[None, :]) for row in features]))


def test_several_forests_walk_as_one() -> None:
    forests = [boosted(seed, rounds=4)[1] for seed in (1, 2, 3)]
    features = rows_with_gaps(9)

    assert np.array_equal(joined(forests).margins(features), np.hstack([forest.margins(features) for forest in forests]))


def test_arrays_and_back_walk_alike() -> None:
    _, forest = boosted(7)
    again = from_arrays({name: np.array(array) for name, array in forest.arrays().items()})

    assert np.array_equal(again.margins(rows_with_gaps(1)), forest.margins(rows_with_gaps(1)))


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        (LEFT, 0, "a child before its parent"),
        (RIGHT, 10**6, "a child that is not there"),
        (MISSING, -5, "a child before its parent"),
        (FEATURE, 7, "a feature that is not there"),
    ],
)
def test_arrays_that_could_not_be_walked_are_refused(column: int, value: int, fault: str) -> None:
    _, forest = boosted(8)
    arrays = {name: array.copy() for name, array in forest.arrays().items()}
    arrays["splits"][np.flatnonzero(arrays["splits"][:, FEATURE] >= 0)[0], column] = value

    with pytest.raises(ValueError, match=fault):
        from_arrays(arrays)


@pytest.mark.parametrize(("name", "fault"), [("values", "no number"), ("base", "not finite"), ("divisor", "not finite")])
def test_numbers_that_are_none_are_refused(name: str, fault: str) -> None:
    _, forest = boosted(8)
    wrong = np.zeros(3) if name == "divisor" else np.full_like(getattr(forest, name), np.nan)

    with pytest.raises(ValueError, match=fault):
        dataclasses.replace(forest, **{name: wrong})


def test_a_split_between_known_and_missing_has_an_infinite_threshold() -> None:
    _, forest = boosted(8)
    inner = forest.splits[:, FEATURE] >= 0

    endless = dataclasses.replace(forest, values=np.where(inner, np.inf, forest.values))
    assert np.isfinite(endless.margins(rows_with_gaps(1))).all()


@pytest.mark.parametrize("name", ["roots", "outputs"])
def test_roots_and_outputs_outside_are_refused(name: str) -> None:
    _, forest = boosted(8)

    with pytest.raises(ValueError, match="that is not there"):
        dataclasses.replace(forest, **{name: getattr(forest, name) + np.int32(10**6)})


def test_arrays_of_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="forest: arrays"):
        from_arrays({"weights": np.zeros(3)})


def test_a_row_with_too_few_features_is_refused() -> None:
    _, forest = boosted(8)

    with pytest.raises(ValueError, match="rows of 3 features, trained on 7"):
        forest.margins(np.zeros((1, 3)))


def test_categorical_splits_are_refused() -> None:
    rng = np.random.default_rng(1)
    features = rng.integers(0, 12, (800, 2)).astype(float)
    data = lightgbm.Dataset(features, np.isin(features[:, 0], (1, 4, 7)).astype(int), categorical_feature=[0])
    booster = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_per_group": 5}, data, 3)

    with pytest.raises(ValueError, match="only numerical splits"):
        from_treelite(treelite.frontend.from_lightgbm(booster))


def test_serving_loads_no_learning_library() -> None:
    libraries = "'treelite', 'lightgbm', 'sklearn', 'hmmlearn', 'torch'"
    code = f"import sys, ml_actor.artifacts; print(sorted({{{libraries}}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
