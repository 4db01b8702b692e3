"""Labels from the windows of later requests, never across a joint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from framework.window import BAR_COLUMNS, Rows, Window
from ml_actor.features.engine import select
from ml_actor.labels import label_rows
from ml_actor.tape import Tape
from ml_actor.trial import Move

Market = Callable[..., Rows]


def window(rows: Rows, end: int, length: int = 100) -> Window:
    return Window(
        instrument_id="ES.SIM",
        tick_size=0.25,
        has_trades=True,
        rows=select(rows, slice(max(0, end + 1 - length), end + 1)),
        bars=np.empty((0, len(BAR_COLUMNS))),
    )


@pytest.fixture(scope="module")
def rows(make_market: Market) -> Rows:
    return make_market(2_000, seed=5, segments=1)


@pytest.mark.parametrize("step", [1, 7, 99])
def test_overlapping_windows_give_the_labels_that_training_would_give(rows: Rows, step: int) -> None:
    tape, truth = Tape(), label_rows(rows, horizon_rows=20, min_history=1)
    ends = range(99, 2_000, step)
    numbers = [tape.extend(window(rows, end)) for end in ends]

    assert tape.joints == 0
    checked = 0
    for end, number in zip(ends, numbers, strict=True):
        move = tape.move(number, 20)
        if move is not None:
            assert move.half_ticks == truth.moves[end]
            assert move.spread_half_ticks == 2 * (rows.ask_ticks[end, 0] - rows.bid_ticks[end, 0])
            checked += 1
    assert checked > 15


def test_a_window_that_does_not_overlap_begins_a_new_stretch_and_no_label_crosses_it(rows: Rows) -> None:
    tape = Tape()
    before = tape.extend(window(rows, 200))
    after = tape.extend(window(rows, 400))

    assert tape.joints == 1
    assert after > before
    assert all(tape.move(before, horizon) is None for horizon in range(1, 200))


def test_a_window_of_the_next_segment_never_labels_the_one_before(rows: Rows) -> None:
    # After a joint the trading process sends rows of the new segment only.
    tape = Tape()
    before = tape.extend(window(rows, 200))
    tape.extend(window(rows, 205, length=5))

    assert tape.joints == 1
    assert tape.move(before, 1) is None


def test_the_same_window_again_adds_nothing(rows: Rows) -> None:
    tape = Tape()
    numbers = [tape.extend(window(rows, end)) for end in (150, 150, 120, 150)]

    assert numbers == [99, 99, 69, 99]
    assert tape.last == 99


def test_a_row_without_one_side_of_the_book_is_no_label(rows: Rows) -> None:
    sizes = rows.bid_sizes.copy()
    sizes[210, 0] = 0
    tape = Tape()
    number = tape.extend(window(rows, 200))
    tape.extend(window(replace(rows, bid_sizes=sizes), 230))

    assert tape.move(number, 10) is None
    assert isinstance(tape.move(number, 9), Move)


def test_rows_of_one_instant_are_told_apart_by_their_sequence(rows: Rows) -> None:
    same: Any = replace(rows, ts_event=np.full(len(rows), 7, np.int64))
    tape = Tape()
    first = tape.extend(window(same, 150))
    second = tape.extend(window(same, 170))

    assert (tape.joints, second - first) == (0, 20)


def test_a_market_that_starts_its_clock_again_begins_a_new_stretch(rows: Rows) -> None:
    tape = Tape()
    tape.extend(window(rows, 1_500))
    tape.extend(window(rows, 300))

    assert tape.joints == 1


def test_only_the_last_rows_are_kept(rows: Rows) -> None:
    tape = Tape(kept_rows=50)
    number = tape.extend(window(rows, 200))
    for end in range(205, 400, 5):
        tape.extend(window(rows, end))

    assert tape.move(number, 20) is None
    assert tape.last - tape.first + 1 == 50
