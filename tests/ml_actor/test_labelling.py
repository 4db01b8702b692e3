from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.window import Rows
from framework.wire import FeedbackItem
from ml_actor.features.engine import mirror, select
from ml_actor.labelling import (
    anchored,
    executable,
    meta_labels,
    rows_later,
    time_decay,
    time_later,
    tradable_rows,
    triple_barrier,
    uniqueness,
)
from ml_actor.labels import label_rows

MS = 1_000_000


def rows_of(half_ticks: list[int], *, times_ms: list[int] | None = None, segment: list[int] | None = None, spread: int = 1) -> Rows:
    n = len(half_ticks)
    mids = np.array(half_ticks)
    bid_ticks, ask_ticks = np.zeros((n, 10), np.int32), np.zeros((n, 10), np.int32)
    bid_ticks[:, 0] = (mids - spread) // 2
    ask_ticks[:, 0] = mids - bid_ticks[:, 0]
    sizes = np.zeros((n, 10), np.float32)
    sizes[:, 0] = 5
    return Rows(
        ts_event=np.array(times_ms or list(range(0, 500 * n, 500)), np.int64) * MS,
        sequence=np.arange(100, 100 + n),
        segment=np.array(segment or [0] * n, np.int64),
        bid_ticks=bid_ticks,
        bid_sizes=sizes,
        ask_ticks=ask_ticks,
        ask_sizes=sizes.copy(),
        flow=np.zeros((n, 17), np.float32),
    )


def test_an_order_trades_at_the_first_row_that_is_late_enough() -> None:
    rows = rows_of([201] * 5, times_ms=[0, 100, 100, 350, 400])

    assert tradable_rows(rows, 0).tolist() == [0, 1, 2, 3, 4]
    assert tradable_rows(rows, 100 * MS).tolist() == [1, 3, 3, -1, -1]
    assert tradable_rows(rows, 50 * MS).tolist() == [1, 3, 3, 4, -1]


def test_a_move_that_is_over_before_one_can_trade_is_not_counted() -> None:
    rows = rows_of([201, 205, 205, 205])
    starts = tradable_rows(rows, 500 * MS)

    assert anchored(rows, starts, rows_later(rows, starts, 1)).outcomes.tolist() == [0, 0, 0, 0]
    assert anchored(rows, np.arange(4), rows_later(rows, np.arange(4), 1)).outcomes[0] == 4


def test_a_clock_horizon_ends_at_the_book_that_holds_then_and_needs_the_segment_to_go_on() -> None:
    rows = rows_of([201, 203, 205, 207, 209], times_ms=[0, 400, 900, 1_500, 1_600], segment=[0, 0, 0, 0, 1])

    assert time_later(rows, np.arange(5), 1_000 * MS).tolist() == [2, 2, -1, -1, -1]
    assert anchored(rows, np.arange(5), time_later(rows, np.arange(5), 1_000 * MS)).outcomes.tolist() == [4, 2, 0, 0, 0]


def test_nothing_is_labelled_across_a_joint_of_segments() -> None:
    rows = rows_of([201, 205, 209, 213], segment=[0, 0, 7, 7])
    starts = tradable_rows(rows, 500 * MS)
    found = triple_barrier(rows, np.arange(4), barrier_half_ticks=np.full(4, 100), timeout_rows=2)

    assert starts.tolist() == [1, -1, 3, -1]
    assert rows_later(rows, np.arange(4), 1).tolist() == [1, -1, 3, -1]
    assert not found.is_valid.any()


def test_a_taker_keeps_the_move_less_the_spread_and_two_fees() -> None:
    rows = rows_of([201, 211, 201])  # 100/101, 105/106, 100/101
    ends = rows_later(rows, np.arange(3), 1)

    assert executable(rows, np.arange(3), ends, fee_ticks=0.0).outcomes.tolist() == [8, -8, 0]
    assert executable(rows, np.arange(3), ends, fee_ticks=1.0).outcomes.tolist() == [4, -4, 0]
    assert executable(rows, np.arange(3), ends, fee_ticks=2.0).outcomes.tolist() == [0, 0, 0]
    assert executable(rows, np.arange(3), ends, fee_ticks=1.9).classes[:2].tolist() == [2, 0]


@given(st.lists(st.integers(201, 231), min_size=2, max_size=30), st.integers(1, 4), st.sampled_from([0.0, 0.5]))
@settings(max_examples=60)
def test_mirrored_rows_have_the_opposite_outcome_under_every_label(mids: list[int], horizon: int, fee: float) -> None:
    rows = rows_of(mids)
    both = []
    for version in (rows, mirror(rows)):
        starts = tradable_rows(version, 500 * MS)
        ends = rows_later(version, starts, horizon)
        barrier = triple_barrier(version, starts, barrier_half_ticks=np.full(len(mids), 3), timeout_rows=horizon)
        both.append((anchored(version, starts, ends), executable(version, starts, ends, fee_ticks=fee), barrier))

    for plain, mirrored in zip(*both, strict=True):
        assert mirrored.outcomes.tolist() == (-plain.outcomes).tolist()
        assert mirrored.end_rows.tolist() == plain.end_rows.tolist()


def test_the_first_barrier_that_is_touched_decides() -> None:
    rows = rows_of([201, 202, 205, 195, 201])
    found = triple_barrier(rows, np.arange(5), barrier_half_ticks=np.array([4, 4, 4, 40, 4]), timeout_rows=2)

    assert found.outcomes.tolist() == [4, -7, -10, 0, 0]
    assert found.end_rows.tolist() == [2, 3, 3, -1, -1]
    assert found.is_valid.tolist() == [True, True, True, False, False]


def test_a_path_that_touches_nothing_is_flat_at_its_timeout() -> None:
    found = triple_barrier(rows_of([201, 202, 201, 202]), np.arange(4), barrier_half_ticks=np.full(4, 5), timeout_rows=2)

    assert (found.outcomes[0], found.end_rows[0], found.is_valid[0]) == (0, 2, True)


def test_without_latency_and_on_the_event_clock_the_label_is_that_of_the_models() -> None:
    rows = rows_of([201, 202, 201, 199, 199, 204])
    found = anchored(rows, np.arange(6), rows_later(rows, np.arange(6), 2))
    labels = label_rows(rows, horizon_rows=2, min_history=1)

    assert found.outcomes.tolist() == labels.moves.tolist()
    assert found.is_valid.tolist() == labels.is_valid.tolist()


def test_what_comes_behind_the_outcome_changes_no_label() -> None:
    rows = rows_of([201, 203, 202, 206, 201, 203, 209, 201])
    whole, prefix = (
        triple_barrier(part, np.arange(len(part)), barrier_half_ticks=np.full(len(part), 3), timeout_rows=3)
        for part in (rows, select(rows, slice(0, 6)))
    )
    done = prefix.is_valid

    assert done.any()
    assert prefix.outcomes[done].tolist() == whole.outcomes[:6][done].tolist()


# --- a strategy's own trades ---------------------------------------------------------------------------------------


def item(**changes: Any) -> FeedbackItem:
    fields: dict[str, Any] = {
        "timestamp": "2024-01-15T10:30:15Z",
        "prediction_flow_type": "BUY",
        "prediction_confidence": 0.7,
        "trade_executed": True,
        "trade_outcome": "PROFIT",
        "market_data_snapshot": {},
        "dom_data_snapshot": {},
        "instrument_id": "ES.SIM",
        "as_of_sequence": 102,
        "action": "BUY",
        "pnl": 4.0,
        "markouts_ticks": {},
    }
    return FeedbackItem(**(fields | changes))


def test_meta_labels_are_the_executed_decisions_with_their_side_and_result() -> None:
    feedback = [
        item(),
        item(as_of_sequence=101, action="SELL", trade_outcome="LOSS", pnl=-12.5),
        item(as_of_sequence=103, trade_executed=False, trade_outcome=None),
        item(as_of_sequence=103, trade_outcome="BREAKEVEN"),
        item(as_of_sequence=103, instrument_id="NQ.SIM"),
        item(as_of_sequence=9),
        # The prediction was not followed, and what the default behaviour did in its place is not told here.
        item(as_of_sequence=103, prediction_flow_type="BUY", action="DEFAULT"),
        item(as_of_sequence=104, action="CLOSE"),
        item(),
    ]
    found = meta_labels(rows_of([201] * 5), "ES.SIM", feedback)

    assert found.rows.tolist() == [1, 2]
    assert found.sides.tolist() == [-1, 1]
    assert found.has_won.tolist() == [False, True]
    assert found.pnl.tolist() == [-12.5, 4.0]
    assert len(meta_labels(rows_of([201]), "ES.SIM", []).rows) == 0


# --- weights -------------------------------------------------------------------------------------------------------


def test_a_label_that_shares_its_life_weighs_less() -> None:
    rows = rows_of([201] * 7)
    found = anchored(rows, np.arange(7), np.array([1, -1, -1, 5, 5, -1, -1]))
    weights = uniqueness(found)

    assert weights[0] == 1.0
    assert weights[3] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert weights[4] == pytest.approx(1 / 2)
    assert weights[[1, 2, 5, 6]].tolist() == [0, 0, 0, 0]


def test_overlapping_labels_together_weigh_about_as_much_as_the_time_they_cover() -> None:
    rows = rows_of([201] * 200)
    found = anchored(rows, np.arange(200), rows_later(rows, np.arange(200), 9))

    assert uniqueness(found).sum() == pytest.approx(20, rel=0.1)


def test_weights_halve_with_age_and_a_half_life_must_be_positive() -> None:
    assert time_decay(np.array([0, 5, 10]) * 1_000_000_000, 5.0).tolist() == [0.25, 0.5, 1.0]
    with pytest.raises(ValueError, match="half_life_s is 0"):
        time_decay(np.arange(3), 0)


def test_a_clock_that_starts_again_at_a_joint_finds_no_row_of_the_other_segment() -> None:
    rows = rows_of([201] * 6, times_ms=[1_000, 1_500, 2_000, 0, 500, 1_000], segment=[0, 0, 0, 1, 1, 1])

    assert tradable_rows(rows, 500 * MS).tolist() == [1, 2, -1, 4, 5, -1]


def test_a_book_without_a_side_has_no_outcome() -> None:
    rows = rows_of([201, 203, 205])
    rows = dataclasses.replace(rows, ask_sizes=np.where(np.arange(3)[:, None] == 1, 0, rows.ask_sizes).astype(np.float32))

    assert anchored(rows, np.arange(3), rows_later(rows, np.arange(3), 1)).is_valid.tolist() == [False, False, False]
    assert anchored(rows, np.arange(3), rows_later(rows, np.arange(3), 2)).outcomes.tolist() == [4, 0, 0]
