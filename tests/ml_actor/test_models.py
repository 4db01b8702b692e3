from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.model import FlowType
from ml_actor.calibration import Calibration, CalibrationKind, FlowRule, up_given_move
from ml_actor.evaluation import auc, brier, calibration_error, direction_losses, is_better, log_losses, matthews
from ml_actor.fitting import _FITS, Examples, calibrate, choose_rule, fit_linear, fit_shock, fit_trees
from ml_actor.labels import DOWN, FLAT, UP
from ml_actor.models import LinearModel, pool
from ml_actor.scaling import CLIP_SIGMAS

ROOT = Path(__file__).resolve().parents[2]


def examples(n: int = 3_000, seed: int = 0) -> Examples:
    """Four features; the first two decide, the third is NaN now and then, the fourth never changes."""
    rng = np.random.default_rng(seed)
    features = np.column_stack([rng.normal(size=(n, 3)), np.ones(n)])
    draw = features[:, 0] + rng.normal(scale=0.7, size=n)
    classes = np.where(draw > 0.8, UP, np.where(draw < -0.8, DOWN, FLAT))
    features[rng.random(n) < 0.1, 2] = np.nan
    return Examples(features=features, classes=classes, weights=np.ones(n))


def outcomes(probabilities: Any, seed: int = 0) -> Any:
    """Draw one class per row with exactly these probabilities."""
    draw = np.random.default_rng(seed).random(len(probabilities))
    return (draw[:, None] > np.cumsum(probabilities, axis=1)[:, :2]).sum(axis=1)


def some_probabilities(n: int, seed: int = 1, sharpness: float = 1.0) -> Any:
    rng = np.random.default_rng(seed)
    flat = rng.beta(4, 2, n)
    up = 1 / (1 + np.exp(-sharpness * rng.normal(size=n)))
    return np.column_stack([(1 - flat) * (1 - up), flat, (1 - flat) * up])


# --- served forms ------------------------------------------------------------------------------------------------


def test_the_linear_model_serves_what_sklearn_fitted() -> None:
    sklearn = pytest.importorskip("sklearn.linear_model")
    train = examples()
    served = fit_linear(train, strength=0.1)
    fitted = sklearn.LogisticRegression(C=0.1, max_iter=200, tol=1e-3).fit(served.standardised(train.features), train.classes)

    expected = fitted.predict_proba(served.standardised(train.features))
    np.testing.assert_allclose(pool(served.scores(train.features), served.scores(train.features), 0.0), expected, atol=1e-12)


def test_the_linear_model_takes_nan_for_the_mean_and_clips_outliers() -> None:
    model = LinearModel(offset=np.array([2.0, 5.0]), scale=np.array([1.0, 2.0]), weights=np.ones((3, 2)), intercept=np.zeros(3))

    assert model.standardised(np.array([[np.nan, 1e9]])).tolist() == [[0.0, CLIP_SIGMAS]]


def test_the_trees_serve_what_lightgbm_fitted_on_rows_with_and_without_nan() -> None:
    train = examples()

    _, difference = fit_trees(train, None, seed=1, rounds=20)
    assert difference <= 1e-9


def test_trees_take_nan_in_a_feature_that_never_was_nan_in_training() -> None:
    train = examples()
    model, _ = fit_trees(train, None, seed=1, rounds=20)
    row = train.features[:1].copy()
    row[0, 0] = np.nan

    assert np.isfinite(model.scores(row)).all()


def test_the_shock_score_equals_sklearns_score_samples_and_rises_in_a_shock(trained: Any) -> None:
    features = trained.registry.load(trained.result.version).engine.transform_rows(trained.recording.rows, has_trades=True)
    usual = np.nan_to_num(features[200:])
    model, difference = fit_shock(usual, seed=3)
    shock = usual[:1].copy()
    shock[:] = usual[:1] + 12 * usual.std(axis=0)

    assert difference <= 1e-7
    assert model.scores(shock)[0] > np.quantile(model.scores(usual), 0.999)


def test_the_pool_of_two_equal_models_is_that_model_and_its_ends_are_the_models() -> None:
    rng = np.random.default_rng(0)
    linear, trees = rng.normal(size=(50, 3)), rng.normal(size=(50, 3)) * 3

    np.testing.assert_allclose(pool(linear, linear, 0.4), pool(linear, trees, 0.0))
    np.testing.assert_allclose(pool(trees, linear, 0.0), pool(linear, trees, 1.0))


# --- the bundle --------------------------------------------------------------------------------------------------


def test_a_bundle_predicts_from_windows_exactly_what_it_predicts_from_the_recording(trained: Any) -> None:
    bundle = trained.registry.load(trained.result.version)
    batch = bundle.predict_rows(trained.recording.rows, has_trades=True)

    for row in [*range(0, 120, 7), *range(3_950, 4_100, 11), 7_999]:
        scores = bundle.predict(trained.window(row))
        np.testing.assert_allclose([scores.p_down, scores.p_flat, scores.p_up], batch[row], rtol=1e-12)


def test_a_prediction_is_a_distribution_with_the_claim_of_its_rule(trained: Any) -> None:
    bundle = trained.registry.load(trained.result.version)
    kinds = set()
    for row in range(200, 8_000, 53):
        scores = bundle.predict(trained.window(row))
        assert math.isclose(scores.p_down + scores.p_flat + scores.p_up, 1.0, rel_tol=1e-12)
        assert (scores.flow_type, scores.confidence) == bundle.traded.rule.claim(scores.p_down, scores.p_flat, scores.p_up)
        assert scores.regime in (0, 1, 2)
        assert 0 < scores.shock_score < 1
        kinds.add(scores.flow_type.direction)
    assert kinds == {-1, 0, 1}


def test_a_window_of_one_row_gives_a_prediction_and_no_regime(trained: Any) -> None:
    scores = trained.registry.load(trained.result.version).predict(trained.window(0))

    assert scores.regime == -1
    assert math.isfinite(scores.confidence)


def test_serving_imports_no_learning_library() -> None:
    script = (
        "import sys, ml_actor.registry, ml_actor.training_job; "
        "print([name for name in ('sklearn', 'lightgbm', 'hmmlearn', 'polars', 'pyarrow') if name in sys.modules])"
    )

    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip() == "[]"


def test_predicting_loads_no_learning_library_either(trained: Any) -> None:
    script = (
        "import sys, numpy as np\n"
        "from ml_actor.registry import Registry\n"
        f"bundle = Registry({str(trained.registry.directory)!r}).load({trained.result.version!r})\n"
        "print([name for name in ('sklearn', 'lightgbm', 'hmmlearn') if name in sys.modules])"
    )

    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip() == "[]"


# --- what a prediction claims ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p_down", "p_flat", "p_up", "flow_type", "confidence"),
    [
        (0.05, 0.90, 0.05, FlowType.NEUTRAL, 0.90),
        (0.02, 0.80, 0.18, FlowType.NEUTRAL, 0.80),
        (0.08, 0.60, 0.32, FlowType.STRONG_BUY, 0.80),
        (0.15, 0.60, 0.25, FlowType.BUY, 0.625),
        (0.20, 0.60, 0.20, FlowType.BUY, 0.5),
        (0.25, 0.60, 0.15, FlowType.SELL, 0.625),
        (0.32, 0.60, 0.08, FlowType.STRONG_SELL, 0.80),
    ],
)
def test_every_line_of_the_table_of_claims(p_down: float, p_flat: float, p_up: float, flow_type: FlowType, confidence: float) -> None:
    found = FlowRule(neutral_cut=0.8).claim(p_down, p_flat, p_up)

    assert found == (flow_type, pytest.approx(confidence))


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 0.99))
@settings(max_examples=50, deadline=None)
def test_one_row_and_many_rows_get_the_same_direction(seed: int, cut: float) -> None:
    rule, probabilities = FlowRule(neutral_cut=cut), some_probabilities(20, seed)

    assert [rule.claim(*row)[0].direction for row in probabilities] == rule.directions(probabilities).tolist()


def test_the_neutral_cut_follows_the_best_matthews_correlation() -> None:
    probabilities = some_probabilities(8_000, sharpness=3.0)
    classes = outcomes(probabilities)
    rule = choose_rule(probabilities, classes - 1)
    best = matthews(rule.directions(probabilities), classes - 1)

    assert all(best >= matthews(FlowRule(neutral_cut=cut).directions(probabilities), classes - 1) for cut in (0.3, 0.9, 2.0))


# --- calibration -------------------------------------------------------------------------------------------------


def overconfident(probabilities: Any) -> Any:
    sharp = probabilities**2.5
    return sharp / sharp.sum(axis=1, keepdims=True)


def test_calibration_repairs_an_overconfident_model_on_rows_it_has_not_seen() -> None:
    truth = some_probabilities(16_000, sharpness=2.0)
    classes, raw = outcomes(truth), overconfident(truth)
    fitted = calibrate(raw[:8_000], classes[:8_000], gap_rows=10)
    later, happened = fitted.apply(raw[8_000:]), classes[8_000:]

    assert log_losses(later, happened).mean() < log_losses(raw[8_000:], happened).mean() - 0.02
    has_moved = happened != FLAT
    direction = up_given_move(later[has_moved])
    assert calibration_error(np.maximum(direction, 1 - direction), (direction >= 0.5) == (happened[has_moved] == UP)) < 0.03
    assert calibration_error(later[:, FLAT], happened == FLAT) < 0.03


@pytest.mark.parametrize("kind", [CalibrationKind.TEMPERATURE, CalibrationKind.SIGMOID, CalibrationKind.ISOTONIC])
def test_calibration_has_no_preferred_direction(kind: CalibrationKind) -> None:
    raw = some_probabilities(6_000)
    fitted = _FITS[kind](raw, outcomes(raw))
    plain, mirrored = fitted.apply(raw), fitted.apply(raw[:, ::-1])

    np.testing.assert_allclose(mirrored[:, ::-1], plain, atol=2e-3 if kind is CalibrationKind.ISOTONIC else 1e-12)


@given(st.sampled_from(list(CalibrationKind)), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_calibrated_probabilities_sum_to_one_and_none_is_zero(kind: CalibrationKind, seed: int) -> None:
    parameters = {
        CalibrationKind.NONE: np.zeros(0),
        CalibrationKind.TEMPERATURE: np.array([0.1]),
        CalibrationKind.SIGMOID: np.array([5.0, -3.0, 8.0]),
        CalibrationKind.VECTOR: np.array([[3.0, 1.0], [0.1, -2.0], [5.0, 0.0]]),
        CalibrationKind.ISOTONIC: np.array([[0.1, 0.9], [0.01, 0.99], [0.2, 0.8], [0.05, 0.95]]),
    }[kind]
    raw = np.vstack([some_probabilities(20, seed), np.eye(3)])
    found = Calibration(kind=kind, parameters=parameters).apply(raw)

    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert (found >= 9e-7).all()


def test_a_slice_is_calibrated_by_maps_of_few_parameters_only() -> None:
    truth = some_probabilities(8_000, sharpness=2.0)
    classes = outcomes(truth)

    for raw in (truth, overconfident(truth), truth[:, [1, 0, 2]]):
        assert calibrate(raw, classes, gap_rows=10).parameters.size <= 3


def test_too_few_rows_to_calibrate_say_so() -> None:
    raw = some_probabilities(200)

    assert calibrate(raw, outcomes(raw), gap_rows=10).kind is CalibrationKind.NONE


# --- scores ------------------------------------------------------------------------------------------------------


def test_scores_agree_with_sklearn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    probabilities = some_probabilities(2_000, sharpness=2.0)
    classes = outcomes(probabilities, seed=5)
    guesses, is_up = probabilities.argmax(axis=1), classes == UP
    rounded = np.round(probabilities[:, UP], 2)

    assert log_losses(probabilities, classes).mean() == pytest.approx(metrics.log_loss(classes, probabilities))
    assert matthews(guesses, classes) == pytest.approx(metrics.matthews_corrcoef(classes, guesses))
    assert auc(rounded, is_up) == pytest.approx(metrics.roc_auc_score(is_up, rounded))
    assert brier(np.eye(3)[classes], classes) == 0.0


def test_the_loss_of_three_classes_is_that_of_moving_plus_that_of_the_direction() -> None:
    probabilities = some_probabilities(500)
    classes = outcomes(probabilities)
    p_moves = np.where(classes == FLAT, probabilities[:, FLAT], 1 - probabilities[:, FLAT])

    np.testing.assert_allclose(log_losses(probabilities, classes), -np.log(p_moves) + direction_losses(probabilities, classes))


def test_honest_confidence_has_no_calibration_error_and_boasting_has() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1.0, 20_000)
    is_right = rng.random(20_000) < confidence

    assert calibration_error(confidence, is_right) < 0.015
    assert calibration_error(np.minimum(1.0, confidence + 0.2), is_right) > 0.1


def test_scores_of_nothing_are_nan_and_of_a_constant_are_zero() -> None:
    assert math.isnan(auc(np.ones(5), np.ones(5, bool)))
    assert math.isnan(calibration_error(np.zeros(0), np.zeros(0, bool)))
    assert matthews(np.zeros(5, int), np.arange(5) % 3) == 0.0


def test_the_gate_lets_only_a_model_pass_that_is_better_beyond_chance() -> None:
    rng = np.random.default_rng(0)
    champion = rng.exponential(size=4_000)

    assert is_better(champion - 0.05 + rng.normal(scale=0.2, size=4_000), champion, 20)[0]
    assert not is_better(champion, champion, 20)[0]
    assert not is_better(champion + 0.05, champion, 20)[0]
    assert not is_better(champion + rng.normal(scale=0.2, size=4_000), champion, 20)[0]
    verdict, reason = is_better(champion[:100] - 1, champion[:100], 20)
    assert (verdict, reason) == (False, "only 100 rows that neither model has seen, 240 needed")
