"""Regimes: filtered forward only, the same from a window and from a recording, and numbered as before after a refit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.window import Rows
from ml_actor.features.regime import OBSERVED_ROWS, RegimeModel, match_states, observations, stationary
from ml_actor.fitting import fit_regimes
from tests.ml_actor.feature_rows import any_rows, equal, window_ending_at

MarketMaker = Callable[..., Rows]


def some_regimes(seed: int = 5) -> RegimeModel:
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet([20, 2, 2], 3)[[0, 1, 2]]
    transition = np.ascontiguousarray(np.stack([np.roll(row, shift) for shift, row in enumerate(transition)]))
    return RegimeModel(
        start=stationary(transition),
        transition=transition,
        means=rng.normal(size=(3, 3)),
        variances=rng.uniform(0.3, 2.0, (3, 3)),
        offset=np.array([-1.0, 0.1, 2.0]),
        scale=np.array([1.0, 0.5, 0.7]),
    )


def test_the_filter_equals_the_last_row_of_hmmlearns_posterior_of_each_prefix(make_market: MarketMaker) -> None:
    hmm = pytest.importorskip("hmmlearn.hmm")
    model, rows = some_regimes(), make_market(100, segments=1)
    reference = hmm.GaussianHMM(3, covariance_type="diag")
    reference.startprob_, reference.transmat_, reference.means_, reference.covars_ = (
        model.start,
        model.transition,
        model.means,
        model.variances,
    )
    observed = ((observations(rows) - model.offset) / model.scale)[OBSERVED_ROWS - 1 :]

    filtered = model.filtered(rows, 100)
    assert np.isnan(filtered[: OBSERVED_ROWS - 1]).all()
    for t in range(OBSERVED_ROWS - 1, 100):
        prefix = observed[: t - OBSERVED_ROWS + 2]
        np.testing.assert_allclose(filtered[t], reference.predict_proba(prefix)[-1], rtol=1e-9, atol=1e-12)


@given(rows=any_rows())
@settings(max_examples=40, deadline=None)
def test_regimes_of_a_recording_equal_those_of_each_window_bit_for_bit(rows: Rows) -> None:
    model = some_regimes()
    batch = model.filtered(rows, 100)

    for t in range(len(rows)):
        window = window_ending_at(rows, t)
        assert equal(batch[t], model.filtered(window, 100, first=len(window) - 1)[0])


def test_an_outlier_after_a_certain_state_leaves_probabilities_and_no_nan(make_market: MarketMaker) -> None:
    rows = make_market(60, segments=1)
    rows.bid_ticks[40:] -= 200_000
    model = dataclasses.replace(some_regimes(), variances=np.full((3, 3), 1e-3), transition=np.ascontiguousarray(np.eye(3)))

    filtered = model.filtered(rows, 100)[OBSERVED_ROWS:]
    assert np.isfinite(filtered).all()
    np.testing.assert_allclose(filtered.sum(axis=1), 1.0)


def test_the_stationary_distribution_is_kept_by_the_chain() -> None:
    model = some_regimes()

    np.testing.assert_allclose(model.start @ model.transition, model.start, atol=1e-12)


@given(seed=st.integers(0, 10_000), order=st.sampled_from(list(permutations(range(3)))))
@settings(max_examples=60, deadline=None)
def test_states_of_the_same_model_in_another_order_get_their_numbers_back(seed: int, order: tuple[int, ...]) -> None:
    model = some_regimes(seed)

    matched, apart = match_states(model, model.reordered(order))
    assert apart == pytest.approx(0.0, abs=1e-12)
    assert all(np.array_equal(array, getattr(matched, name)) for name, array in model.arrays().items())


def test_reordering_states_reorders_their_probabilities_and_nothing_else(make_market: MarketMaker) -> None:
    rows, model = make_market(200, segments=1), some_regimes()

    plain, moved = model.filtered(rows, 100), model.reordered((2, 0, 1)).filtered(rows, 100)
    np.testing.assert_allclose(moved, plain[:, [2, 0, 1]], rtol=1e-9, atol=1e-12)


def test_a_regime_keeps_its_number_when_its_variance_passes_that_of_another() -> None:
    before = dataclasses.replace(some_regimes(), means=np.array([[-1.0, 0.0, -2.0], [0.0, 1.0, 0.0], [1.0, 0.0, 2.0]]))
    # The second state is now the calmest; a ranking by variance would call it the first.
    drifted = dataclasses.replace(before, means=before.means + np.array([[0.1, 0, 0], [-1.4, 0.1, 0.2], [0, 0.1, 0]]))
    ranked = drifted.reordered(np.argsort(drifted.means[:, 0]).tolist())

    matched, _ = match_states(before, ranked)
    np.testing.assert_array_equal(matched.means, drifted.means)


def test_a_refit_numbers_its_states_as_the_model_before_it(make_market: MarketMaker) -> None:
    runs = [observations(make_market(1_500, segments=1))[OBSERVED_ROWS - 1 :]]
    before = fit_regimes(runs, seed=1).reordered((2, 0, 1))

    np.testing.assert_array_equal(fit_regimes(runs, seed=1, previous=before).means, before.means)


def test_standardising_differently_does_not_move_states_apart() -> None:
    model = some_regimes()
    raw = {
        "offset": np.zeros(3),
        "scale": np.ones(3),
        "means": model.means * model.scale + model.offset,
        "variances": model.variances * model.scale**2,
    }

    matched, apart = match_states(model, dataclasses.replace(model, **raw).reordered((1, 2, 0)))
    assert apart == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(matched.means, raw["means"])


def test_a_state_that_is_new_is_far_from_what_it_is_matched_with() -> None:
    before = some_regimes()
    after = dataclasses.replace(before, means=before.means + np.array([[0.0, 0, 0], [0, 0, 0], [9.0, 9.0, 9.0]]))

    assert match_states(before, after)[1] > 1.0
