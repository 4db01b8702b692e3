from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from framework.window import Rows
from ml_actor.evaluation import log_losses
from ml_actor.features.engine import select
from ml_actor.horizons import EARLIER_ROWS, HorizonModels, fit_horizons
from ml_actor.labels import classify, label_rows
from ml_actor.preparation import Recording

MarketMaker = Callable[..., Rows]


def recording(rows: Rows) -> Recording:
    return Recording(instrument_id="ES.SIM", tick_size=0.25, has_trades=True, rows=rows)


def fitted(rows: Rows, horizons: Sequence[int] = (10, 20), label: str = "sign", **more: Any) -> HorizonModels:
    models = fit_horizons([recording(rows)], horizons=horizons, label=label, seed=7, report=lambda *_: None, **more)
    assert isinstance(models, HorizonModels), models
    return models


@pytest.fixture(scope="module")
def models(make_market: MarketMaker) -> HorizonModels:
    return fitted(make_market(6_000, seed=11))


def test_every_horizon_is_predicted_where_a_hundred_earlier_rows_are_there_and_nowhere_else(
    models: HorizonModels, make_market: MarketMaker
) -> None:
    found = models.predict_rows(recording(make_market(1_000, seed=12, segments=2)))

    for probabilities in found.values():
        is_known = np.isfinite(probabilities).all(axis=1)
        assert np.flatnonzero(is_known).tolist() == [*range(EARLIER_ROWS, 500), *range(500 + EARLIER_ROWS, 1_000)]
        np.testing.assert_allclose(probabilities[is_known].sum(axis=1), 1.0)
    assert tuple(found) == models.horizons == (10, 20)


def test_unseen_rows_are_predicted_better_than_by_the_shares_of_the_classes(models: HorizonModels, make_market: MarketMaker) -> None:
    rows = make_market(4_000, seed=12)

    for horizon, probabilities in models.predict_rows(recording(rows)).items():
        labels = label_rows(rows, horizon_rows=horizon, min_history=EARLIER_ROWS + 1)
        classes = labels.classes[labels.is_valid]
        prior = np.tile(np.bincount(classes, minlength=3) / len(classes), (len(classes), 1))
        assert log_losses(probabilities[labels.is_valid], classes).mean() < log_losses(prior, classes).mean() - 0.01


def test_a_prediction_does_not_know_what_comes_after_it(models: HorizonModels, make_market: MarketMaker) -> None:
    rows = make_market(600, seed=12, segments=1)
    whole, prefix = models.predict_rows(recording(rows)), models.predict_rows(recording(select(rows, slice(0, 300))))

    for horizon in models.horizons:
        np.testing.assert_array_equal(whole[horizon][:300], prefix[horizon])


def test_terciles_are_cut_at_the_third_of_the_absolute_moves_of_the_training_rows(make_market: MarketMaker) -> None:
    rows = make_market(6_000, seed=3)
    found = fitted(rows, horizons=(200,), label="tercile", model="imbalance")
    labels = label_rows(rows, horizon_rows=200, min_history=EARLIER_ROWS + 1)

    assert found.thresholds[200] == np.quantile(np.abs(labels.moves[labels.is_valid]), 1 / 3) > 0


def test_a_move_of_exactly_the_threshold_is_flat() -> None:
    assert classify(np.array([-3, -2, 0, 2, 3]), 2.0).tolist() == [0, 1, 1, 1, 2]


def test_what_cannot_be_fitted_is_refused_with_the_reason(make_market: MarketMaker) -> None:
    few = recording(make_market(1_000))

    for label, model, reason in (
        ("sign", "ensemble", "horizon 10: "),
        ("deciles", "ensemble", "unknown label 'deciles', known are sign, tercile"),
        ("sign", "oracle", "--model: found 'oracle'; allowed majority, persistence, imbalance, linear, trees, mlp, ensemble"),
    ):
        refusal = fit_horizons([few], horizons=[10], label=label, seed=7, report=lambda *_: None, model=model)
        assert isinstance(refusal, str)
        assert refusal.startswith(reason)


def test_the_facts_tell_weights_calibration_rows_and_seed(models: HorizonModels) -> None:
    facts = models.facts()

    assert facts["seed"] == 7
    assert set(facts["heads"]) == {"10", "20"}
    assert 0.5 < sum(facts["heads"]["10"]["weights"].values()) < 2.0
    assert facts["rows"] == 6_000 - 2 * EARLIER_ROWS
