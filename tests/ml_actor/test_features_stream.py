"""A stream gives what windows give; context sees the bars that had ended, and nothing where there are none."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.window import Rows
from ml_actor.features.bars import SEEN_BARS, context_features, mirror_bars
from ml_actor.features.catalogue import CONTEXT_NAMES, FEATURE_NAMES, mirrored
from ml_actor.features.engine import AdvancedMLFeatureEngine, mirror, select
from ml_actor.features.shock_score import _deviation
from ml_actor.features.stream import ROOM, FeatureStream
from ml_actor.features.table import CONTEXT_FEATURES
from tests.ml_actor.feature_rows import any_rows, equal, window_ending_at, window_of

MarketMaker = Callable[..., Rows]
ENGINE = AdvancedMLFeatureEngine(window_rows=100)
IN_CONTEXT = AdvancedMLFeatureEngine(window_rows=100, with_context=True)


# --- the stream --------------------------------------------------------------------------------------------------


@given(rows=any_rows(), has_trades=st.booleans(), window_rows=st.sampled_from([7, 30, 100]), block=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_a_stream_gives_bit_for_bit_what_a_recording_gives(rows: Rows, has_trades: bool, window_rows: int, block: int) -> None:
    stream = FeatureStream(has_trades=has_trades, window_rows=window_rows)
    pushed = [stream.push(select(rows, slice(start, start + block))) for start in range(0, len(rows), block)]

    batch = AdvancedMLFeatureEngine(window_rows=window_rows).transform_rows(rows, has_trades=has_trades)
    assert equal(np.concatenate(pushed), batch)


def test_a_stream_of_many_look_backs_neither_drifts_nor_grows(make_market: MarketMaker) -> None:
    rows, stream = make_market(40 * ROOM * 100, segments=3), FeatureStream(has_trades=True)
    last = [stream.push(select(rows, slice(start, start + 1_000)))[-1] for start in range(0, len(rows), 1_000)]

    assert equal(np.array(last), ENGINE.transform_rows(rows, has_trades=True)[999::1_000])


def test_read_only_rows_can_be_pushed(make_market: MarketMaker) -> None:
    rows = make_market(50, segments=1)
    raw = {field.name: getattr(rows, field.name) for field in dataclasses.fields(Rows)}
    frozen = {name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape) for name, array in raw.items()}

    assert equal(FeatureStream(has_trades=True).push(Rows(**frozen)), ENGINE.transform_rows(rows, has_trades=True))


# --- context -----------------------------------------------------------------------------------------------------


def some_bars(rows: Rows, seed: int = 1, every_s: float = 0.5) -> Any:
    """Bars from 40 before the first row to the last row, with prices in ticks."""
    rng = np.random.default_rng(seed)
    start, end = rows.ts_event[0] / 1e9 - 40 * every_s, rows.ts_event[-1] / 1e9
    ends = np.arange(start, end + 3 * every_s, every_s)
    close = 1_000.0 + np.cumsum(rng.integers(-3, 4, len(ends)))
    opened = close - rng.integers(-2, 3, len(ends))
    high, low = np.maximum(opened, close) + rng.integers(0, 3, len(ends)), np.minimum(opened, close) - rng.integers(0, 3, len(ends))
    return np.stack([ends, opened, high, low, close, rng.integers(0, 50, len(ends)).astype(float)], axis=1)


@given(rows=any_rows(), seed=st.integers(0, 1_000))
@settings(max_examples=30, deadline=None)
def test_every_row_of_a_recording_sees_the_bars_that_its_window_brings(rows: Rows, seed: int) -> None:
    bars = some_bars(rows, seed)
    batch = IN_CONTEXT.transform_rows(rows, has_trades=True, bars=bars)

    for t in range(len(rows)):
        window = window_of(window_ending_at(rows, t))
        ended = bars[bars[:, 0] <= 1e-9 * rows.ts_event[t]][-100:]
        assert equal(batch[t], IN_CONTEXT.transform(dataclasses.replace(window, bars=ended)))


@given(rows=any_rows(), seed=st.integers(0, 1_000))
@settings(max_examples=30, deadline=None)
def test_a_bar_is_not_seen_before_its_end(rows: Rows, seed: int) -> None:
    bars, t = some_bars(rows, seed), len(rows) // 2
    changed = bars.copy()
    changed[bars[:, 0] > 1e-9 * rows.ts_event[t], 1:] += 7.0

    found, expected = (context_features(rows.ts_event, version)[: t + 1] for version in (changed, bars))
    assert equal(found, expected)


def test_without_bars_their_features_are_nan_and_the_session_clock_is_not(make_market: MarketMaker) -> None:
    features = IN_CONTEXT.transform(window_of(make_market(120, segments=1)))[len(FEATURE_NAMES) :]

    missing = [name for name, value in zip(CONTEXT_NAMES, features, strict=True) if math.isnan(value)]
    assert missing == [feature.name for feature in CONTEXT_FEATURES if feature.group == "bars"]


def test_context_stands_behind_everything_else_and_is_off_by_default(make_market: MarketMaker) -> None:
    rows = make_market(200, segments=1)

    assert IN_CONTEXT.names == FEATURE_NAMES + CONTEXT_NAMES
    assert equal(IN_CONTEXT.transform_rows(rows, has_trades=True)[:, : len(FEATURE_NAMES)], ENGINE.transform_rows(rows, has_trades=True))


def test_bars_follow_their_formulas(make_market: MarketMaker) -> None:
    rows = make_market(300, segments=1)
    bars = some_bars(rows)
    seen = bars[bars[:, 0] <= 1e-9 * rows.ts_event[-1]]
    ends, opened, high, low, close, volume = seen[-SEEN_BARS:].T
    unit = (high - low)[-20:].mean()

    found = dict(zip(CONTEXT_NAMES, context_features(rows.ts_event[-1:], bars)[0], strict=True))
    now_s = rows.ts_event[-1] / 1e9
    expected = {
        **{f"bar_return_{lag}": (close[-1] - close[-1 - lag]) / unit for lag in (1, 5, 20)},
        "bar_body": (close[-1] - opened[-1]) / (high[-1] - low[-1]),
        "bar_position": (2 * close[-1] - high[-1] - low[-1]) / (high[-1] - low[-1]),
        "bar_trend": (close[-1] - close[-21]) / np.abs(np.diff(close)).sum(),
        "bar_range_ratio": math.log((high - low)[-5:].mean() / unit),
        "bar_volume_ratio": math.log(volume[-5:].mean() / volume[-20:].mean()),
        "bar_age": math.log(1 + now_s - ends[-1]),
        "day_sin": math.sin(2 * math.pi * (now_s % 86_400) / 86_400),
        "day_cos": math.cos(2 * math.pi * (now_s % 86_400) / 86_400),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
    assert set(expected) == set(CONTEXT_NAMES)


@given(rows=any_rows(), seed=st.integers(0, 1_000))
@settings(max_examples=30, deadline=None)
def test_mirrored_rows_and_bars_give_bit_for_bit_the_mirrored_context(rows: Rows, seed: int) -> None:
    bars = some_bars(rows, seed)
    plain = IN_CONTEXT.transform_rows(rows, has_trades=True, bars=bars)
    exchanged = IN_CONTEXT.transform_rows(mirror(rows), has_trades=True, bars=mirror_bars(bars))

    assert equal(mirrored(plain, IN_CONTEXT.names), exchanged)


def test_bars_do_not_depend_on_price_level_or_tick_size(make_market: MarketMaker) -> None:
    rows = make_market(300, segments=1)
    bars = some_bars(rows)
    scaled = bars * np.array([1, 4, 4, 4, 4, 8.0]) + np.array([0, 512, 512, 512, 512, 0])

    np.testing.assert_allclose(context_features(rows.ts_event, scaled), context_features(rows.ts_event, bars), rtol=1e-9, atol=1e-9)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=60))
def test_the_deviation_that_is_found_by_halving_is_the_one_of_the_definition(numbers: list[int]) -> None:
    values = np.sort(np.array(numbers) / 8)
    middle = (len(values) - 1) // 2

    assert _deviation(values, middle) == np.sort(np.abs(values - values[middle]))[middle]
