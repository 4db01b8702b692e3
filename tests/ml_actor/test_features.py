from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.window import FLOW_COLUMNS, Rows
from ml_actor.features.catalogue import ALL_NAMES, FEATURE_NAMES, FEATURES, FITTED_FEATURES, INDEX, SHOCK_INPUTS, columns_of, mirrored, page
from ml_actor.features.engine import AdvancedMLFeatureEngine, last_rows, mirror, select
from ml_actor.features.table import NEGATED, SAME
from tests.ml_actor.feature_rows import any_rows, equal, window_ending_at, window_of

ENGINE = AdvancedMLFeatureEngine(window_rows=100)
MarketMaker = Callable[..., Rows]


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
    mid, width = (bid_ticks[:, 0] + ask_ticks[:, 0]) / 2, ask_ticks[:, 0] - bid_ticks[:, 0]
    one, five = bid[:, 0] + ask[:, 0], bid[:, :5].sum(1) + ask[:, :5].sum(1)
    depth_1, depth_5, unit = one.mean(), five.mean(), width.mean()
    bought, sold, unknown, buys, sells, bid_events, ask_events = flow[:, :7].T
    move, best = np.diff(mid), (bid[:, 0] - ask[:, 0]) / one
    best_5 = (bid[:, :5].sum(1) - ask[:, :5].sum(1)) / five
    half_lives = {"h1": 1, "h3": 3, "h10": 10, "h30": 30, "all": math.inf}

    def mean(values: Any, weight: str) -> float:
        return float(np.average(values, weights=0.5 ** (np.arange(len(values))[::-1] / half_lives[weight])))

    def balance(left: float, right: float) -> float:
        return float((left - right) / (left + right))

    def slope(ticks: Any, sizes: Any) -> float:
        return float(np.polyfit(np.abs(ticks - ticks[0]) / unit, np.log(np.cumsum(sizes)), 1)[0])

    def z(values: Any, floor: float) -> float:
        ordered = np.sort(values)
        middle = ordered[(len(ordered) - 1) // 2]
        deviation = np.sort(np.abs(values - middle))[(len(ordered) - 1) // 2]
        return float((values[-1] - middle) / max(1.4826 * deviation, floor))

    def queue(ticks: Any, sizes: Any) -> tuple[float, float]:
        stands = len(ticks) - 1 - (np.flatnonzero(ticks != ticks[-1])[-1] if (ticks != ticks[-1]).any() else -1)
        return math.log(stands), sizes[-1] / sizes[-stands:].max()

    def decayed(counts: Any, seconds: float) -> float:
        ages = (rows.ts_event[-1] - rows.ts_event) / 1e9
        return float((counts * 0.5 ** (ages / seconds)).sum())

    def vpin() -> float:
        # The running totals of each side, read where the volume fills another tenth.
        volume, edges = np.append(0, np.cumsum(bought + sold)), np.linspace(0, (bought + sold).sum(), 11)
        filled = np.interp(edges, volume, np.append(0, np.cumsum(bought - sold)))
        return float(np.abs(np.diff(filled)).sum() / edges[-1])

    def recovery(values: Any) -> float:
        return 1 - float(np.polyfit(values[:-1], values[1:], 1)[0])

    stays_bid, stays_ask = np.diff(bid_ticks[:, 0]) == 0, np.diff(ask_ticks[:, 0]) == 0
    more_bid, more_ask = np.diff(bid[:, 0]) + sold[1:], np.diff(ask[:, 0]) + bought[1:]
    add_bid, gone_bid = more_bid.clip(0) * stays_bid, (-more_bid).clip(0) * stays_bid
    add_ask, gone_ask = more_ask.clip(0) * stays_ask, (-more_ask).clip(0) * stays_ask
    volume, gaps, events = bought + sold + unknown, np.diff(rows.ts_event) / 1e9, bid_events + ask_events
    where = np.flatnonzero(move)[-2:]
    variance, products = (move**2).sum(), move[1:] * move[:-1]
    micro = mid + 0.5 * width * best
    ages, left = zip(queue(bid_ticks[:, 0], bid[:, 0]), queue(ask_ticks[:, 0], ask[:, 0]), strict=True)
    slopes = slope(bid_ticks[-1], bid[-1]), slope(ask_ticks[-1], ask[-1])
    far = {level: ((bid_ticks[-1, 0] - bid_ticks[-1, level]) / unit, (ask_ticks[-1, level] - ask_ticks[-1, 0]) / unit) for level in (1, 4)}
    lots, traded = (bought + sold)[1:], slice(1, len(mid) - 5)
    effective = float((lots * width[:-1]).sum() / lots.sum() / unit)
    later = bought[traded] * 2 * (ask_ticks[:, 0][:-6] - mid[6:]) + sold[traded] * 2 * (mid[6:] - bid_ticks[:, 0][:-6])
    realised = float(later.sum() / lots[: len(later)].sum() / unit)
    shocks = z(width, 0.5 * unit), z(-np.log(five), 0.1), z(np.abs(flow[:, 7]), 0.1 * depth_1)

    found = {f"imbalance_{n}": balance(bid[-1, :n].sum(), ask[-1, :n].sum()) for n in (1, 2, 3, 5, 10)}
    for n in range(1, 6):
        found[f"size_ratio_{n}"] = math.log(bid[-1, n - 1] / ask[-1, n - 1])
        found[f"bid_size_{n}"], found[f"ask_size_{n}"] = (math.log(side[-1, n - 1] / (0.1 * depth_5)) for side in (bid, ask))
    for weight in half_lives:
        found |= {f"ofi_{n}_{weight}": mean(flow[:, 6 + n], weight) / depth_1 for n in (1, 2, 3)}
        found[f"ofi_5_{weight}"] = mean(flow[:, 7:12].sum(1), weight) / depth_5
        found[f"add_flow_{weight}"] = mean(add_bid - add_ask, weight) / depth_1
        found[f"cancel_flow_{weight}"] = mean(gone_ask - gone_bid, weight) / depth_1
        found[f"trade_flow_{weight}"] = mean(bought - sold, weight) / depth_1
        found[f"trade_balance_{weight}"] = balance(mean(bought, weight), mean(sold, weight))
        found[f"event_imbalance_{weight}"] = balance(mean(bid_events, weight), mean(ask_events, weight))
    for weight in ("h3", "h10", "h30", "all"):
        found[f"mid_minus_mean_{weight}"] = (mid[-1] - mean(mid, weight)) / unit
        found[f"micro_minus_mean_{weight}"] = (micro[-1] - mean(micro, weight)) / unit
    paid, dust = bought[1:] * (mid[-1] - ask_ticks[:-1, 0]) + sold[1:] * (mid[-1] - bid_ticks[:-1, 0]), 0.001 * depth_1
    for weight in ("h3", "h10", "h30"):
        found[f"mid_minus_traded_{weight}"] = mean(paid, weight) / mean((bought + sold)[1:], weight) / unit
        drain_bid, drain_ask = mean(sold, weight) + mean(gone_bid, weight) + dust, mean(bought, weight) + mean(gone_ask, weight) + dust
        left_bid, left_ask = math.log(drain_bid / bid[-1, 0]), math.log(drain_ask / ask[-1, 0])
        found |= {f"bid_drain_{weight}": left_bid, f"ask_drain_{weight}": left_ask, f"drain_difference_{weight}": left_bid - left_ask}
        refill_bid, refill_ask = (math.log((mean(x, weight) + dust) / y) for x, y in ((add_bid, drain_bid), (add_ask, drain_ask)))
        found[f"refill_difference_{weight}"] = refill_bid - refill_ask
    for weight in ("h10", "h30", "all"):
        found[f"move_balance_{weight}"] = balance(mean(move > 0, weight), mean(move < 0, weight))
        found[f"volatility_{weight}"] = math.sqrt(mean(move**2, weight)) / unit
    found |= {f"imbalance_mean_{weight}": mean(best, weight) for weight in ("h3", "h10", "h30")}
    found |= {f"imbalance_delta_{weight}": best[-1] - mean(best, weight) for weight in ("h1", "h3", "h10", "h30")}
    found |= {f"print_balance_{weight}": balance(mean(buys, weight), mean(sells, weight)) for weight in ("h10", "all")}
    found |= {f"return_{lag}": (mid[-1] - mid[-1 - lag]) / unit for lag in (1, 2, 3, 5, 10, 20, 50)}
    for seconds in (0.5, 2.0, 10.0):
        buy, sell, up, down = (decayed(counts, seconds) for counts in (buys, sells, bid_events, ask_events))
        found[f"hawkes_trades_{seconds:g}s"] = (buy - sell) / (buy + sell + 1)
        found[f"hawkes_quotes_{seconds:g}s"] = (up - down) / (up + down + 1)
    fast, slow = 0.5 / math.log(2), 10 / math.log(2)
    for name, rate, counts in (("trade", "trade_rate", buys + sells), ("quote", "quote_rate", events)):
        found[f"hawkes_{name}_burst"] = math.log((decayed(counts, 0.5) + 0.1) / fast) - math.log((decayed(counts, 10) + 0.1) / slow)
        found[rate] = math.log(decayed(counts, 10) / slow + 0.01)
    return found | {
        "weighted_mid": ((bid[-1, 0] * ask_ticks[-1, 0] + ask[-1, 0] * bid_ticks[-1, 0]) / one[-1] - mid[-1]) / unit,
        "spread": math.log(width[-1] / unit),
        "tick_class": math.log(unit),
        "slope_difference": slopes[0] - slopes[1],
        "slope_mean": sum(slopes) / 2,
        "gap_difference": far[1][1] - far[1][0],
        "gap_sum": sum(far[1]),
        "extent_difference": far[4][1] - far[4][0],
        "extent_sum": sum(far[4]),
        "depth_ratio_1": math.log(one[-1] / depth_1),
        "depth_ratio_5": math.log(five[-1] / depth_5),
        "bid_size_change": balance(bid[-1, 0], bid[-2, 0]),
        "ask_size_change": balance(ask[-1, 0], ask[-2, 0]),
        "bid_age": ages[0],
        "ask_age": ages[1],
        "bid_left": left[0],
        "ask_left": left[1],
        "imbalance_z": (best[-1] - best.mean()) / best.std(),
        "imbalance_5_z": (best_5[-1] - best_5.mean()) / best_5.std(),
        "event_burst": math.log(mean(events, "h3") / events.mean()),
        "volume_burst": math.log((mean(volume, "h3") + 0.01 * depth_1) / (volume.mean() + 0.01 * depth_1)),
        "turnover": mean(volume, "h10") / depth_1,
        "cancel_share": mean(gone_bid + gone_ask, "h10") / mean(gone_bid + gone_ask + add_bid + add_ask, "h10"),
        "trade_share": mean(volume, "h10") / (mean(volume, "h10") + mean(gone_bid + gone_ask, "h10")),
        "growth": math.log((mean(add_bid + add_ask, "h10") + 0.01 * depth_1) / (mean(gone_bid + gone_ask, "h10") + 0.01 * depth_1)),
        "vpin": vpin(),
        "range_position": (2 * mid[-1] - mid.max() - mid.min()) / (mid.max() - mid.min()),
        "last_move": move[where[1]] / unit,
        "rows_since_move": math.log(len(move) - where[1]),
        "previous_move": move[where[0]] / unit,
        "rows_between_moves": math.log(1 + where[1] - where[0]),
        "variance_ratio": mean(move**2, "h10") / (move**2).mean(),
        "jump_share": max(0.0, 1 - math.pi / 2 * np.abs(products).sum() * 99 / 98 / variance),
        "bounce": products.sum() / variance,
        "kyle_lambda": np.polyfit((bought - sold)[1:], move, 1)[0] * depth_1 / unit,
        "ofi_lambda": np.polyfit(flow[1:, 7], move, 1)[0] * depth_1 / unit,
        "effective_spread": effective,
        "realised_spread": realised,
        "price_impact": effective - realised,
        "resilience_depth": recovery(np.log(five)),
        "resilience_spread": recovery(width),
        "row_gap": math.log(gaps[-1] + 1e-3),
        "row_gap_h10": math.log(mean(gaps, "h10") + 1e-3),
        "row_gap_ratio": math.log((mean(gaps, "h3") + 1e-3) / (gaps.mean() + 1e-3)),
        "trade_age": math.log(len(volume) - np.flatnonzero(volume)[-1]),
        **dict(zip(("shock_spread", "shock_depth", "shock_ofi"), shocks, strict=True)),
        "shock": max(shocks),
    }


def test_every_feature_follows_the_formula_of_its_catalogue_entry(make_market: MarketMaker) -> None:
    rows = make_market(2_000, seed=3, segments=1)
    rows.ask_ticks[::7] += 1  # so that the spread is not always one tick

    for t in (400, 777, 1_500, 1_999):
        window = window_ending_at(rows, t)
        expected, found = oracle(window), ENGINE.transform(window_of(window))
        assert set(expected) == set(FEATURE_NAMES)
        for name, value in expected.items():
            assert found[INDEX[name]] == pytest.approx(value, rel=1e-9, abs=1e-9), name


def test_every_feature_stays_in_the_range_that_the_catalogue_promises(make_market: MarketMaker) -> None:
    features = ENGINE.transform_rows(make_market(3_000), has_trades=True)

    for position, feature in enumerate(FEATURES):
        if feature.name == "resilience_spread":  # the spread of this market is always one tick
            continue
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

    silent = ENGINE.transform_rows(shallow, has_trades=False)[-1]
    missing = {name for name in FEATURE_NAMES if math.isnan(silent[INDEX[name]])}
    trades = {feature.name for feature in FEATURES if feature.inputs in ("trades", "best, trades", "trades, time")}
    assert missing == trades | {"imbalance_10", "resilience_spread"}


def test_a_book_of_three_levels_has_no_number_that_needs_five(make_market: MarketMaker) -> None:
    rows = make_market(300, segments=1)
    keep = (np.arange(10) < 3).astype(np.float32)
    three = dataclasses.replace(rows, bid_sizes=rows.bid_sizes * keep, ask_sizes=rows.ask_sizes * keep)

    features = ENGINE.transform_rows(three, has_trades=True)[-1]
    missing = {name for name in FEATURE_NAMES if math.isnan(features[INDEX[name]])}
    sizes = {f"{name}_{level}" for name in ("size_ratio", "bid_size", "ask_size") for level in (4, 5)}
    assert missing == sizes | {"imbalance_5", "imbalance_10", "extent_difference", "extent_sum", "resilience_spread"}


def test_history_that_is_not_there_is_nan(make_market: MarketMaker) -> None:
    young = ENGINE.transform(window_of(last_rows(make_market(300, segments=1), 10)))

    missing = {name for name in FEATURE_NAMES if math.isnan(young[INDEX[name]])}
    assert {"ofi_1_h10", "ofi_1_h30", "ofi_1_all", "return_10", "return_20", "jump_share", "shock", "vpin", "kyle_lambda"} <= missing
    assert not missing & {"imbalance_1", "ofi_1_h1", "ofi_1_h3", "return_5", "spread", "row_gap", "bid_age", "mid_minus_mean_h3"}


TICK_CLASS = INDEX["tick_class"]


@given(rows=any_rows(), ticks=st.sampled_from([1, 2, 5]), lots=st.sampled_from([0.125, 1, 8, 3]), shift=st.sampled_from([0, 90_000]))
@settings(max_examples=60, deadline=None)
def test_features_do_not_depend_on_price_level_tick_size_or_lot_size(rows: Rows, ticks: int, lots: float, shift: int) -> None:
    counts = np.isin(np.arange(len(FLOW_COLUMNS)), (3, 4, 5, 6))
    scaled = dataclasses.replace(
        rows,
        bid_ticks=np.where(rows.bid_sizes > 0, ticks * rows.bid_ticks + shift, 0).astype(np.int32),
        ask_ticks=np.where(rows.ask_sizes > 0, ticks * rows.ask_ticks + shift, 0).astype(np.int32),
        bid_sizes=rows.bid_sizes * np.float32(lots),
        ask_sizes=rows.ask_sizes * np.float32(lots),
        flow=rows.flow * np.where(counts, 1, lots).astype(np.float32),
    )

    here, there = (ENGINE.transform_rows(version, has_trades=True) for version in (rows, scaled))
    here[:, TICK_CLASS] += math.log(ticks)
    np.testing.assert_allclose(there, here, rtol=1e-7, atol=1e-7)


# --- the mirror --------------------------------------------------------------------------------------------------


@given(rows=any_rows(), has_trades=st.booleans())
@settings(max_examples=60, deadline=None)
def test_mirrored_rows_give_bit_for_bit_the_mirrored_features(rows: Rows, has_trades: bool) -> None:
    plain, exchanged = (ENGINE.transform_rows(version, has_trades=has_trades) for version in (rows, mirror(rows)))

    assert equal(mirrored(plain), exchanged)
    assert equal(mirrored(mirrored(plain)), plain)


def test_the_fitted_features_are_the_same_in_the_mirror(trained: Any) -> None:
    engine, rows = trained.registry.load(trained.result.version).engine, trained.recording.rows

    plain, exchanged = (engine.transform_rows(version, has_trades=True) for version in (rows, mirror(rows)))
    assert equal(mirrored(plain), exchanged)


@given(rows=any_rows())
@settings(max_examples=40, deadline=None)
def test_mirroring_twice_gives_the_rows_back(rows: Rows) -> None:
    twice = mirror(mirror(rows))

    assert all(equal(getattr(twice, field.name), getattr(rows, field.name)) for field in dataclasses.fields(Rows))


# --- the catalogue -----------------------------------------------------------------------------------------------


def test_the_catalogue_is_in_the_order_of_the_engine_and_names_nothing_twice() -> None:
    assert ENGINE.names == FEATURE_NAMES
    assert len(set(ALL_NAMES)) == len(ALL_NAMES) == len(FEATURES) + len(FITTED_FEATURES)


def test_every_mirror_leads_back() -> None:
    by_name = {feature.name: feature for feature in (*FEATURES, *FITTED_FEATURES)}

    for feature in by_name.values():
        assert feature.mirror in (SAME, NEGATED) or by_name[feature.mirror].mirror == feature.name
        assert feature.mirror != NEGATED or feature.low == -feature.high
    assert all(by_name[name].mirror == SAME for name in SHOCK_INPUTS)


def test_no_feature_looks_back_further_than_it_says(make_market: MarketMaker) -> None:
    rows = make_market(400, segments=1)
    for feature in FEATURES:
        column = INDEX[feature.name]
        within = last_rows(rows, feature.look_back_rows)
        whole, short = (ENGINE.transform(window_of(part))[column] for part in (rows, within))
        assert equal(short, whole), feature.name


def test_the_page_of_features_is_in_step_with_the_code() -> None:
    written = (Path(__file__).resolve().parents[2] / "docs" / "features.md").read_text()

    assert written == page(), "run: python -m ml_actor.features.catalogue > docs/features.md"


def test_groups_can_be_chosen_by_name() -> None:
    assert [ALL_NAMES[column] for column in columns_of("shock")] == ["shock_spread", "shock_depth", "shock_ofi", "shock"]
    with pytest.raises(KeyError, match="no feature group"):
        columns_of("magic")


@pytest.mark.recordings
def test_window_and_recording_agree_on_a_real_day(rebar_day: Callable[[str], Rows]) -> None:
    rows = select(rebar_day("20250605"), slice(0, 9_000))
    batch = ENGINE.transform_rows(rows, has_trades=True)

    for t in range(0, len(rows), 97):
        assert equal(batch[t], ENGINE.transform(window_of(window_ending_at(rows, t))))
