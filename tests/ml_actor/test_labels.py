from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.window import Rows
from ml_actor import splits
from ml_actor.features.engine import mirror, select
from ml_actor.labels import DOWN, FLAT, UP, label_rows

MarketMaker = Callable[..., Rows]


def rows_with_mids(half_ticks: list[int], segment: list[int] | None = None) -> Rows:
    """One-level rows whose bid + ask in ticks is `half_ticks`; 0 stands for a book without an ask."""
    n = len(half_ticks)
    mids = np.array(half_ticks)
    bid_ticks, ask_ticks = np.zeros((n, 10), np.int32), np.zeros((n, 10), np.int32)
    bid_ticks[:, 0], ask_ticks[:, 0] = (mids - 1) // 2, mids - (mids - 1) // 2
    sizes = np.zeros((n, 10), np.float32)
    sizes[:, 0] = 5
    ask_sizes = np.where(mids[:, None] == 0, 0, sizes).astype(np.float32)
    return Rows(
        ts_event=np.arange(n),
        sequence=np.arange(n),
        segment=np.array(segment or [0] * n, np.int64),
        bid_ticks=bid_ticks,
        bid_sizes=sizes,
        ask_ticks=ask_ticks,
        ask_sizes=ask_sizes,
        flow=np.zeros((n, 17), np.float32),
    )


def test_a_label_is_the_sign_of_the_move_of_the_mid_from_the_row_to_the_horizon() -> None:
    labels = label_rows(rows_with_mids([201, 202, 201, 199, 199]), horizon_rows=2, min_history=1)

    assert labels.moves.tolist() == [0, -3, -2, 0, 0]
    assert labels.classes[:3].tolist() == [FLAT, DOWN, DOWN]
    assert labels.is_valid.tolist() == [True, True, True, False, False]


def test_half_a_tick_is_a_move() -> None:
    assert label_rows(rows_with_mids([201, 202]), horizon_rows=1, min_history=1).classes[0] == UP


def test_no_label_crosses_a_joint_of_segments() -> None:
    labels = label_rows(rows_with_mids([201, 205, 209, 213], [0, 0, 7, 7]), horizon_rows=1, min_history=1)

    assert labels.is_valid.tolist() == [True, False, True, False]


def test_a_segment_number_that_comes_back_is_another_segment() -> None:
    labels = label_rows(rows_with_mids([201, 205, 209, 213], [0, 1, 0, 0]), horizon_rows=2, min_history=1)

    assert not labels.is_valid.any()


def test_rows_with_too_little_history_or_an_empty_side_have_no_label() -> None:
    labels = label_rows(rows_with_mids([201, 201, 0, 203, 203, 203]), horizon_rows=1, min_history=2)

    assert labels.is_valid.tolist() == [False, False, False, True, True, False]


def test_fewer_rows_than_the_horizon_give_no_label() -> None:
    assert not label_rows(rows_with_mids([201, 203]), horizon_rows=5, min_history=1).is_valid.any()


@given(st.lists(st.integers(101, 140), min_size=3, max_size=60), st.integers(1, 10))
@settings(max_examples=50, deadline=None)
def test_mirrored_rows_have_the_opposite_label(mids: list[int], horizon: int) -> None:
    rows = rows_with_mids(mids)
    plain, mirrored = (label_rows(version, horizon_rows=horizon, min_history=1) for version in (rows, mirror(rows)))

    assert mirrored.moves.tolist() == (-plain.moves).tolist()
    assert mirrored.is_valid.tolist() == plain.is_valid.tolist()


# --- slices ------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), horizon=st.integers(1, 40), embargo=st.integers(0, 120))
@settings(max_examples=20, deadline=None)
def test_slices_follow_each_other_in_time_and_no_label_or_look_back_reaches_over(
    make_market: MarketMaker, seed: int, horizon: int, embargo: int
) -> None:
    rows = make_market(1_500, seed=seed, segments=3)
    labels = label_rows(rows, horizon_rows=horizon, min_history=10)
    cuts = splits.cut_times(rows.ts_event[labels.is_valid])
    slices = splits.assign(rows.ts_event, labels, cuts, horizon_rows=horizon, embargo_rows=embargo)

    used = [np.flatnonzero(slices == number) for number in range(4)]
    for earlier, later in itertools.pairwise(used):
        assert rows.ts_event[earlier[-1] + horizon] < rows.ts_event[later[0]]
        assert later[0] - (earlier[-1] + horizon) > embargo
    assert labels.is_valid[np.concatenate(used)].all()


def test_two_instruments_are_cut_at_the_same_times(make_market: MarketMaker) -> None:
    long, short = make_market(2_000, seed=1), make_market(400, seed=2)
    late = dataclasses.replace(short, ts_event=short.ts_event + int(long.ts_event[1_200] - short.ts_event[0]))
    labels = [label_rows(rows, horizon_rows=5, min_history=10) for rows in (long, late)]
    cuts = splits.cut_times(np.concatenate([rows.ts_event[found.is_valid] for rows, found in zip((long, late), labels, strict=True)]))

    for rows, found in zip((long, late), labels, strict=True):
        slices = splits.assign(rows.ts_event, found, cuts, horizon_rows=5, embargo_rows=20)
        for number in range(4):
            times = rows.ts_event[slices == number]
            assert (np.searchsorted(cuts, times, side="right") == number).all()


@given(st.lists(st.integers(0, 50), max_size=30))
def test_running_times_never_go_back_and_keep_every_step_forward(times: list[int]) -> None:
    given_times = np.array(times, np.int64)
    running = splits.running_times(given_times)

    steps, run_steps = np.diff(given_times), np.diff(running)
    assert (run_steps == np.where(steps < 0, 1, steps)).all()


def test_select_and_labels_agree_on_a_prefix(make_market: MarketMaker) -> None:
    rows = make_market(300, segments=1)
    whole = label_rows(rows, horizon_rows=7, min_history=10)
    prefix = label_rows(select(rows, slice(0, 200)), horizon_rows=7, min_history=10)

    assert prefix.moves[:193].tolist() == whole.moves[:193].tolist()
