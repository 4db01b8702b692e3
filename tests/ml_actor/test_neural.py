from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml_actor.calibration import softmax
from ml_actor.evaluation import log_losses
from ml_actor.explanation.integrated import net_contributions
from ml_actor.features.catalogue import ALL_NAMES, mirrored
from ml_actor.labels import DOWN, FLAT, UP
from ml_actor.neural import NeuralModel
from ml_actor.neural_fitting import Recipe, fit_neural, signed_exchange

ORDER, SIGN = np.array([0, 2, 1, 3]), np.array([-1.0, 1.0, 1.0, 1.0])
RECIPE = Recipe(hidden=(16, 8), dropout=0.1, epochs=15, batch_rows=256, nets=2)


def rows(n: int = 4_000, seed: int = 0) -> tuple[Any, Any]:
    """Four inputs: a signed one, a pair that mirroring exchanges, and one that says how much moves; two horizons."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 4))
    pull = features[:, 0] + 0.7 * (features[:, 1] - features[:, 2])
    classes = []
    for noise in (0.5, 2.0):
        draw = pull + rng.normal(scale=noise, size=n)
        cut = 1.0 - 0.3 * features[:, 3]
        classes.append(np.where(draw > cut, UP, np.where(draw < -cut, DOWN, FLAT)))
    return features, np.column_stack(classes)


def fitted(features: Any, classes: Any, seed: int = 7, recipe: Recipe = RECIPE) -> NeuralModel:
    return fit_neural(features, classes, (ORDER, SIGN), weights=np.ones(len(features)), seed=seed, recipe=recipe)


@pytest.fixture(scope="module")
def model() -> NeuralModel:
    return fitted(*rows())


def test_both_horizons_are_learned(model: NeuralModel) -> None:
    features, classes = rows(2_000, seed=1)
    scores = model.scores(features)

    for horizon, margin in ((0, 0.2), (1, 0.03)):
        prior = np.bincount(classes[:, horizon], minlength=3) / len(classes)
        said = softmax(scores[:, horizon])
        loss = log_losses(said, classes[:, horizon]).mean()
        assert loss < log_losses(np.tile(prior, (len(classes), 1)), classes[:, horizon]).mean() - margin


def test_the_mirror_image_of_a_row_has_up_and_down_exchanged_exactly(model: NeuralModel) -> None:
    features, _ = rows(200, seed=2)
    turned = features[:, ORDER] * SIGN

    # Offsets are those of rows and mirror images together, so standardised rows are mirrored like the rows.
    np.testing.assert_allclose(model.scores(turned), model.scores(features)[:, :, ::-1], rtol=1e-4, atol=1e-5)


def test_one_row_and_many_rows_give_the_same_bits(model: NeuralModel) -> None:
    features, _ = rows(50, seed=3)

    assert np.concatenate([model.scores(row[None, :]) for row in features]).tobytes() == model.scores(features).tobytes()


def test_the_same_rows_and_seed_give_the_same_bytes_and_another_seed_others() -> None:
    features, classes = rows(1_000)
    small = Recipe(hidden=(8, 4), epochs=2, nets=1, input_dropout=0.2)
    one, again, other = (fitted(features, classes, seed, small) for seed in (7, 7, 8))

    for name, array in one.arrays().items():
        assert array.tobytes() == again.arrays()[name].tobytes(), name
    assert one.weights_1.tobytes() != other.weights_1.tobytes()


def test_labels_that_are_not_known_teach_nothing() -> None:
    features, classes = rows(1_000)
    half = classes.copy()
    half[500:, 1] = -1
    other = classes.copy()
    other[:500, 1] = half[:500, 1]
    other[500:, 1] = -1

    assert fitted(features, half).weights_3.tobytes() == fitted(features, other).weights_3.tobytes()


def test_a_missing_input_counts_as_its_mean(model: NeuralModel) -> None:
    features, _ = rows(5, seed=4)
    missing, mean = features.copy(), features.copy()
    missing[:, 3], mean[:, 3] = np.nan, model.offset[3]

    np.testing.assert_array_equal(model.scores(missing), model.scores(mean))


def test_what_inputs_add_sums_up_to_the_log_odds_and_follows_what_decides(model: NeuralModel) -> None:
    features, _ = rows(20, seed=5)

    for row in features:
        scores = model.scores(row[None, :])[0, 0]
        added = net_contributions(model, row[None, :])
        assert added.sum() == pytest.approx(scores[UP] - scores[DOWN], rel=1e-9, abs=1e-9)
    pushed = np.array([[2.0, 0.0, 0.0, 0.0]])
    assert net_contributions(model, pushed)[0] > 5 * np.abs(net_contributions(model, pushed)[1:]).max()


def test_the_exchange_of_all_features_is_that_of_the_catalogue() -> None:
    order, sign = signed_exchange()
    values = np.random.default_rng(0).normal(size=(3, len(ALL_NAMES)))

    np.testing.assert_array_equal(values[:, order] * sign, mirrored(values))
