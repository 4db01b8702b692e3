from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.window import BAR_COLUMNS, FLOW_COLUMNS, Rows, Window
from ml_actor.features.catalogue import ALL_NAMES, FEATURE_NAMES, FEATURES, FITTED_FEATURES, INDEX, SHOCK_INPUTS
from ml_actor.features.engine import AdvancedMLFeatureEngine, last_rows, mirror, select
from ml_actor.features.regime import OBSERVED_ROWS, RegimeModel, observations, stationary

ENGINE = AdvancedMLFeatureEngine(window_rows=100)
MarketMaker = Callable[..., Rows]


def window_of(rows: Rows, *, has_trades: bool = True) -> Window:
    return Window(instrument_id="ES.SIM", tick_size=0.25, has_trades=has_trades, rows=rows, bars=np.empty((0, len(BAR_COLUMNS))))


def segment_start(rows: Rows, t: int) -> int:
    joints = np.flatnonzero(np.diff(rows.segment[: t + 1]) != 0)
    return int(joints[-1]) + 1 if len(joints) else 0


def window_ending_at(rows: Rows, t: int, size: int = 100) -> Rows:
    return select(rows, slice(max(segment_start(rows, t), t - size + 1), t + 1))


@st.composite
def any_rows(draw: st.DrawFn) -> Rows:
    """Rows as ugly as the contract allows: missing levels, empty sides, joints, standing clocks, zero flow."""
    n = draw(st.integers(1, 160))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    gaps = np.cumsum(rng.integers(1, 4, (n, 10)), axis=1).astype(np.int32)
    mid = 1000 + np.cumsum(rng.integers(-1, 2, n))[:, None].astype(np.int32)
    depth_bid, depth_ask = rng.integers(draw(st.integers(0, 10)), 11, n), rng.integers(draw(st.integers(0, 10)), 11, n)
    level = np.arange(10)
    bid_sizes = (rng.integers(1, 200, (n, 10)) * (level < depth_bid[:, None])).astype(np.float32)
    ask_sizes = (rng.integers(1, 200, (n, 10)) * (level < depth_ask[:, None])).astype(np.float32)
    flow = rng.integers(-50, 50, (n, len(FLOW_COLUMNS))) * (rng.random((n, 1)) < draw(st.sampled_from([0.0, 0.3, 1.0])))
    flow[:, :7] = np.abs(flow[:, :7])
    return Rows(
        ts_event=np.cumsum(rng.integers(0, 10**9, n)),
        sequence=np.arange(n),
        segment=np.cumsum(rng.random(n) < draw(st.sampled_from([0.0, 0.02, 0.3]))),
        bid_ticks=np.where(bid_sizes > 0, mid - gaps, 0).astype(np.int32),
        bid_sizes=bid_sizes,
        ask_ticks=np.where(ask_sizes > 0, mid + gaps, 0).astype(np.int32),
        ask_sizes=ask_sizes,
        flow=flow.astype(np.float32),
    )


def equal(left: Any, right: Any) -> bool:
    return np.array_equal(left, right, equal_nan=True)


# --- one function for training and serving -----------------------------------------------------------------------


@given(rows=any_rows(), has_trades=st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_row_of_a_recording_gets_bit_for_bit_what_its_window_gets(rows: Rows, has_trades: bool) -> None:
    batch = ENGINE.transform_rows(rows, has_trades=has_trades)

    for t in range(len(rows)):
        assert equal(batch[t], ENGINE.transform(window_of(window_ending_at(rows, t), has_trades=has_trades)))


@given(rows=any_rows(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_cutting_off_or_changing_the_future_changes_no_past_feature(rows: Rows, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(rows) - 1))
    whole = ENGINE.transform_rows(rows, has_trades=True)

    assert equal(whole[: cut + 1], ENGINE.transform_rows(select(rows, slice(0, cut + 1)), has_trades=True))
    changed = dataclasses.replace(
        rows, bid_ticks=np.where(np.arange(len(rows))[:, None] > cut, rows.bid_ticks - 7, rows.bid_ticks), ask_sizes=rows.ask_sizes.copy()
    )
    changed.ask_sizes[cut + 1 :] *= 3
    assert equal(whole[: cut + 1], ENGINE.transform_rows(changed, has_trades=True)[: cut + 1])


@given(rows=any_rows())
@settings(max_examples=40, deadline=None)
def test_rows_before_the_look_back_change_nothing(rows: Rows) -> None:
    engine = AdvancedMLFeatureEngine(window_rows=30)

    assert equal(engine.transform(window_of(rows)), engine.transform(window_of(window_ending_at(rows, len(rows) - 1, 30))))


def test_read_only_and_unaligned_arrays_give_the_same_numbers(make_market: MarketMaker) -> None:
    rows = select(make_market(300), slice(0, 100))
    raw = {field.name: getattr(rows, field.name) for field in dataclasses.fields(Rows)}
    shifted = {
        name: np.frombuffer(b"x" + array.tobytes(), array.dtype, array.size, offset=1).reshape(array.shape) for name, array in raw.items()
    }

    assert equal(ENGINE.transform(window_of(rows)), ENGINE.transform(window_of(Rows(**shifted))))


def test_a_window_without_rows_is_refused(make_market: MarketMaker) -> None:
    with pytest.raises(ValueError, match=r"ES\.SIM: the window has no rows"):
        ENGINE.transform(window_of(select(make_market(10), slice(0, 0))))


@given(rows=any_rows(), scale=st.sampled_from([1.0, 1e-30, 1e30]), has_trades=st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_window_that_the_wire_lets_through_breaks_a_prediction(trained: Any, rows: Rows, scale: float, has_trades: bool) -> None:
    scaled = dataclasses.replace(
        rows,
        bid_sizes=rows.bid_sizes * np.float32(scale),
        ask_sizes=rows.ask_sizes * np.float32(scale),
        flow=rows.flow * np.float32(1 / scale),
        ts_event=rows.ts_event * 1_000_000,
    )
    scores = trained.registry.load(trained.result.version).predict(window_of(scaled, has_trades=has_trades))

    numbers = [scores.p_down, scores.p_flat, scores.p_up, scores.confidence, scores.shock_score]
    assert all(0 <= number <= 1 for number in numbers)
    assert scores.p_down + scores.p_flat + scores.p_up == pytest.approx(1.0)


# --- the formulas ------------------------------------------------------------------------------------------------


def oracle(rows: Rows) -> dict[str, float]:
    """The catalogue's formulas, written again slowly, for a window of 100 sound rows."""
    bid, ask = rows.bid_sizes.astype(float), rows.ask_sizes.astype(float)
    bid_ticks, ask_ticks, flow = rows.bid_ticks.astype(float), rows.ask_ticks.astype(float), rows.flow.astype(float)
    mid = (bid_ticks[:, 0] + ask_ticks[:, 0]) / 2
    one, five = bid[:, 0] + ask[:, 0], bid[:, :5].sum(1) + ask[:, :5].sum(1)
    depth_1, depth_5 = one.mean(), five.mean()
    bought, sold, unknown, buys, sells, bid_events, ask_events = flow[:, :7].T
    move, best = np.diff(mid), (bid[:, 0] - ask[:, 0]) / one

    def imbalance(levels: int) -> float:
        b, a = bid[-1, :levels].sum(), ask[-1, :levels].sum()
        return float((b - a) / (b + a))

    def slope(ticks: Any, sizes: Any) -> float:
        return float(np.polyfit(np.abs(ticks - ticks[0]), np.log(np.cumsum(sizes)), 1)[0])

    def z(values: Any, floor: float) -> float:
        middle = np.median(values)
        return float((values[-1] - middle) / max(1.4826 * np.median(np.abs(values - middle)), floor))

    def impact(x: Any) -> float:
        return float(np.polyfit(x[1:], move, 1)[0] * depth_1)

    stays_bid, stays_ask = np.diff(bid_ticks[-20:, 0]) == 0, np.diff(ask_ticks[-20:, 0]) == 0
    more_bid, more_ask = np.diff(bid[-20:, 0]) + sold[-19:], np.diff(ask[-20:, 0]) + bought[-19:]
    add_bid, gone_bid = (more_bid.clip(0) * stays_bid).sum(), ((-more_bid).clip(0) * stays_bid).sum()
    add_ask, gone_ask = (more_ask.clip(0) * stays_ask).sum(), ((-more_ask).clip(0) * stays_ask).sum()
    gap_bid, gap_ask = bid_ticks[-1, 0] - bid_ticks[-1, 2] - 2, ask_ticks[-1, 2] - ask_ticks[-1, 0] - 2
    last = np.flatnonzero(move)[-1]
    variance, bipower = (move**2).sum(), math.pi / 2 * (np.abs(move[1:]) * np.abs(move[:-1])).sum() * 99 / 98
    gaps, events, volume = np.diff(rows.ts_event) / 1e9, bid_events + ask_events, bought + sold + unknown
    found = {f"imbalance_{levels}": imbalance(levels) for levels in (1, 3, 5, 10)}
    found |= {f"size_ratio_{level}": math.log(bid[-1, level - 1] / ask[-1, level - 1]) for level in (1, 2, 3)}
    found |= {f"ofi_1_{w}": flow[-w:, 7].sum() / depth_1 for w in (5, 20, 50, 100)}
    found |= {f"ofi_5_{w}": flow[-w:, 7:12].sum() / depth_5 for w in (5, 20, 50, 100)}
    found |= {f"trade_flow_{w}": (bought - sold)[-w:].sum() / depth_1 for w in (5, 20, 50, 100)}
    found |= {f"event_imbalance_{w}": (bid_events - ask_events)[-w:].sum() / events[-w:].sum() for w in (5, 20, 100)}
    found |= {f"return_{lag}": mid[-1] - mid[-1 - lag] for lag in (1, 2, 5, 10, 20, 50)}
    shocks = z(ask_ticks[:, 0] - bid_ticks[:, 0], 0.5), z(-np.log(five), 0.1), z(np.abs(flow[:, 7]), 0.1 * depth_1)
    return found | {
        "weighted_mid": (bid[-1, 0] * ask_ticks[-1, 0] + ask[-1, 0] * bid_ticks[-1, 0]) / one[-1] - mid[-1],
        "up_probability": 2 / math.pi * math.atan(bid[-1, 0] / ask[-1, 0]) - 0.5,
        "spread": ask_ticks[-1, 0] - bid_ticks[-1, 0],
        "slope_difference": slope(bid_ticks[-1], bid[-1]) - slope(ask_ticks[-1], ask[-1]),
        "slope_mean": (slope(bid_ticks[-1], bid[-1]) + slope(ask_ticks[-1], ask[-1])) / 2,
        "gap_difference": gap_ask - gap_bid,
        "gap_sum": gap_ask + gap_bid,
        "bid_size_change": (bid[-1, 0] - bid[-2, 0]) / (bid[-1, 0] + bid[-2, 0]),
        "ask_size_change": (ask[-1, 0] - ask[-2, 0]) / (ask[-1, 0] + ask[-2, 0]),
        "depth_ratio_1": math.log(one[-1] / depth_1),
        "depth_ratio_5": math.log(five[-1] / depth_5),
        "print_flow_20": (buys - sells)[-20:].sum() / (buys + sells)[-20:].sum(),
        "event_burst": math.log(events[-5:].mean() / events.mean()),
        "volume_burst": math.log((volume[-5:].mean() + 0.01 * depth_1) / (volume.mean() + 0.01 * depth_1)),
        "turnover_20": volume[-20:].sum() / depth_1,
        "add_flow_20": (add_bid - add_ask) / depth_1,
        "cancel_flow_20": (gone_ask - gone_bid) / depth_1,
        "cancel_share_20": (gone_bid + gone_ask) / (gone_bid + gone_ask + add_bid + add_ask),
        "mid_minus_mean_20": mid[-1] - mid[-20:].mean(),
        "range_position": (2 * mid[-1] - mid.max() - mid.min()) / (mid.max() - mid.min()),
        "last_move": move[last],
        "rows_since_move": math.log(len(move) - last),
        "volatility_20": math.sqrt((move[-19:] ** 2).mean()),
        "volatility_100": math.sqrt((move**2).mean()),
        "variance_ratio": (move[-19:] ** 2).mean() / (move**2).mean(),
        "jump_share": max(0.0, 1 - bipower / variance),
        "kyle_lambda": impact(bought - sold),
        "ofi_lambda": impact(flow[:, 7]),
        "imbalance_mean_20": best[-20:].mean(),
        "imbalance_delta": best[-1] - best[-20:].mean(),
        "row_gap": math.log(gaps[-1] + 1e-3),
        "row_gap_20": math.log(gaps[-19:].mean() + 1e-3),
        "row_gap_ratio": math.log((gaps[-4:].mean() + 1e-3) / (gaps.mean() + 1e-3)),
        **dict(zip(("shock_spread", "shock_depth", "shock_ofi"), shocks, strict=True)),
        "shock": max(shocks),
    }


def test_every_feature_follows_the_formula_of_its_catalogue_entry(make_market: MarketMaker) -> None:
    rows = make_market(2_000, seed=3, segments=1)

    for t in (400, 777, 1_500, 1_999):
        window = window_ending_at(rows, t)
        expected, found = oracle(window), ENGINE.transform(window_of(window))
        assert set(expected) == set(FEATURE_NAMES)
        for name, value in expected.items():
            assert found[INDEX[name]] == pytest.approx(value, rel=1e-9, abs=1e-9), name


def test_every_feature_stays_in_the_range_that_the_catalogue_promises(make_market: MarketMaker) -> None:
    features = ENGINE.transform_rows(make_market(3_000), has_trades=True)

    for position, feature in enumerate(FEATURES):
        known = features[~np.isnan(features[:, position]), position]
        assert len(known) > 100, feature.name
        assert (known >= feature.low - 1e-12).all(), feature.name
        assert (known <= feature.high + 1e-12).all(), feature.name


def test_no_feature_is_infinite(make_market: MarketMaker) -> None:
    assert not np.isinf(ENGINE.transform_rows(make_market(1_000), has_trades=True)).any()


def test_what_a_feed_lacks_is_nan_and_never_zero(make_market: MarketMaker) -> None:
    rows = make_market(300, segments=1)
    shallow = dataclasses.replace(
        rows,
        bid_sizes=np.where(np.arange(10) < 5, rows.bid_sizes, 0).astype(np.float32),
        ask_sizes=np.where(np.arange(10) < 5, rows.ask_sizes, 0).astype(np.float32),
    )
    of_trades = {name for name in FEATURE_NAMES if name.startswith(("trade_flow", "print_flow", "volume_burst", "turnover", "add_flow"))}
    of_trades |= {"cancel_flow_20", "cancel_share_20", "kyle_lambda"}

    silent = ENGINE.transform_rows(shallow, has_trades=False)[-1]
    missing = {name for name in FEATURE_NAMES if math.isnan(silent[INDEX[name]])}
    assert missing == of_trades | {"imbalance_10"}


def test_history_that_is_not_there_is_nan(make_market: MarketMaker) -> None:
    young = ENGINE.transform(window_of(last_rows(make_market(300, segments=1), 10)))

    missing = {name for name in FEATURE_NAMES if math.isnan(young[INDEX[name]])}
    assert {"ofi_1_20", "ofi_1_50", "ofi_1_100", "return_10", "return_20", "jump_share", "shock", "volatility_20"} <= missing
    assert not missing & {"imbalance_1", "ofi_1_5", "return_5", "spread", "row_gap"}


def test_features_do_not_depend_on_price_level_or_lot_size(make_market: MarketMaker) -> None:
    rows = make_market(400, segments=1)
    scaled = dataclasses.replace(
        rows,
        bid_ticks=rows.bid_ticks + 90_000,
        ask_ticks=rows.ask_ticks + 90_000,
        bid_sizes=rows.bid_sizes * 8,
        ask_sizes=rows.ask_sizes * 8,
        flow=rows.flow * np.where(np.isin(np.arange(len(FLOW_COLUMNS)), (3, 4, 5, 6)), 1, 8).astype(np.float32),
    )

    here, there = (ENGINE.transform_rows(version, has_trades=True) for version in (rows, scaled))
    np.testing.assert_allclose(there, here, rtol=1e-9, atol=1e-9)


# --- the mirror --------------------------------------------------------------------------------------------------

SAME = {
    *("spread", "slope_mean", "gap_sum", "depth_ratio_1", "depth_ratio_5", "event_burst", "volume_burst", "turnover_20", "cancel_share_20"),
    *("rows_since_move", "volatility_20", "volatility_100", "variance_ratio", "jump_share", "kyle_lambda", "ofi_lambda"),
    *("row_gap", "row_gap_20", "row_gap_ratio", "shock_spread", "shock_depth", "shock_ofi", "shock"),
}
SWAPPED = {"bid_size_change": "ask_size_change", "ask_size_change": "bid_size_change"}


def test_mirroring_negates_every_directional_feature_and_keeps_the_others(make_market: MarketMaker) -> None:
    rows = make_market(500)
    plain, mirrored = (ENGINE.transform_rows(version, has_trades=True) for version in (rows, mirror(rows)))

    for name in FEATURE_NAMES:
        expected = plain[:, INDEX[SWAPPED.get(name, name)]] * (1 if name in SAME or name in SWAPPED else -1)
        np.testing.assert_allclose(mirrored[:, INDEX[name]], expected, rtol=1e-9, atol=1e-9, err_msg=name)


@given(rows=any_rows())
@settings(max_examples=40, deadline=None)
def test_mirroring_twice_gives_the_rows_back(rows: Rows) -> None:
    twice = mirror(mirror(rows))

    assert all(equal(getattr(twice, field.name), getattr(rows, field.name)) for field in dataclasses.fields(Rows))


# --- the catalogue -----------------------------------------------------------------------------------------------


def test_the_catalogue_is_in_the_order_of_the_engine_and_names_nothing_twice() -> None:
    assert ENGINE.names == FEATURE_NAMES
    assert len(set(ALL_NAMES)) == len(ALL_NAMES) == len(FEATURES) + len(FITTED_FEATURES)
    assert set(SHOCK_INPUTS) <= SAME


def test_no_feature_looks_back_further_than_it_says(make_market: MarketMaker) -> None:
    rows = make_market(400, segments=1)
    for feature in FEATURES:
        column = INDEX[feature.name]
        within = last_rows(rows, max(feature.look_back_rows, 1))
        if feature.look_back_rows < 100:
            whole, short = (ENGINE.transform(window_of(part))[column] for part in (rows, within))
            assert short == pytest.approx(whole, rel=1e-12), feature.name


# --- regimes -----------------------------------------------------------------------------------------------------


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


@pytest.mark.recordings
def test_window_and_recording_agree_on_a_real_day(rebar_day: Callable[[str], Rows]) -> None:
    rows = select(rebar_day("20250605"), slice(0, 9_000))
    batch = ENGINE.transform_rows(rows, has_trades=True)

    for t in range(0, len(rows), 97):
        assert equal(batch[t], ENGINE.transform(window_of(window_ending_at(rows, t))))
