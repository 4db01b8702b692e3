from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_actor.edge import MoveSizes, edge, edges, fit_move_sizes

TICK = MoveSizes(rise_ticks=1.0, fall_ticks=1.0)
probability = st.floats(0, 0.5, allow_subnormal=False)


def test_sure_of_a_direction_is_not_worth_a_trade_when_the_move_does_not_pay_for_the_spread() -> None:
    assert edge(0.01, 0.30, TICK, spread_ticks=1.0, fee_ticks=0.0).side == 0


def test_a_move_that_pays_for_spread_and_fees_is_traded_for_what_is_left() -> None:
    found = edge(0.05, 0.75, MoveSizes(rise_ticks=4.0, fall_ticks=2.0), spread_ticks=1.0, fee_ticks=0.25)

    assert found.side == 1
    assert found.value_ticks == pytest.approx(0.75 * 4 - 0.05 * 2 - 1 - 0.5)
    assert edge(0.75, 0.05, MoveSizes(rise_ticks=2.0, fall_ticks=4.0), spread_ticks=1.0, fee_ticks=0.25).side == -1


def test_a_margin_asks_for_more_than_break_even() -> None:
    assert edge(0.0, 0.9, MoveSizes(rise_ticks=2.0, fall_ticks=2.0), spread_ticks=1.0, fee_ticks=0.0).side == 1
    assert edge(0.0, 0.9, MoveSizes(rise_ticks=2.0, fall_ticks=2.0), spread_ticks=1.0, fee_ticks=0.0, margin_ticks=0.9).side == 0


@given(probability, probability, st.floats(0, 5), st.floats(0, 1))
def test_one_row_and_many_rows_agree_and_the_mirror_image_is_worth_the_same(down: float, up: float, spread: float, fee: float) -> None:
    sizes = MoveSizes(rise_ticks=3.0, fall_ticks=3.0)
    found = edge(down, up, sizes, spread_ticks=spread, fee_ticks=fee)
    table = edges(np.array([[down, 1 - down - up, up]]), sizes, spread_ticks=np.array([spread]), fee_ticks=fee)

    assert table[0] == pytest.approx(found.side * found.value_ticks, abs=1e-12)
    turned = edge(up, down, sizes, spread_ticks=spread, fee_ticks=fee)
    assert (turned.side, turned.value_ticks) == (-found.side, found.value_ticks)


def test_sizes_are_the_mean_moves_beyond_the_threshold_in_ticks() -> None:
    assert fit_move_sizes(np.array([0, 2, -4, 0])) == MoveSizes(rise_ticks=1.5, fall_ticks=1.5)
    assert fit_move_sizes(np.array([0, 2, -4, 0]), 2.0).rise_ticks == 2.0
    assert fit_move_sizes(np.array([0, 0])).rise_ticks == 0.0


@pytest.mark.parametrize(("down", "up", "spread"), [(0.7, 0.7, 1.0), (-0.1, 0.5, 1.0), (float("nan"), 0.5, 1.0), (0.1, 0.5, -1.0)])
def test_what_is_no_prediction_is_refused(down: float, up: float, spread: float) -> None:
    with pytest.raises(ValueError, match=r"no probabilities|must be 0 or more"):
        edge(down, up, TICK, spread_ticks=spread, fee_ticks=0.0)
