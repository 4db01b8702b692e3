from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from framework.window import Rows
from ml_actor import context, inputs, sequence
from ml_actor.features.engine import last_rows, mirror, select
from ml_actor.preparation import Recording

MarketMaker = Callable[..., Rows]


@pytest.fixture(scope="module")
def rows(make_market: MarketMaker) -> Rows:
    return make_market(700, seed=5, segments=2)


def column(names: tuple[str, ...], values: Any, name: str) -> Any:
    return values[:, names.index(name)]


def test_a_window_of_a_hundred_rows_gives_bit_for_bit_what_the_recording_gives(rows: Rows) -> None:
    batch = sequence.sequence_rows(rows)

    for row in (0, 5, 99, 100, 349, 350, 351, 420, 699):
        window = last_rows(select(rows, slice(0, row + 1)), sequence.LOOK_BACK_ROWS)
        np.testing.assert_array_equal(sequence.sequence_rows(window, first=len(window) - 1)[0], batch[row])


def test_mirrored_rows_give_the_same_numbers_in_another_order_and_sign(rows: Rows) -> None:
    begin = context.prior([rows])

    np.testing.assert_array_equal(sequence.sequence_rows(mirror(rows)), sequence.sequence_rows(rows)[:, sequence.ORDER] * sequence.SIGN)
    np.testing.assert_array_equal(context.context_rows(mirror(rows), begin), context.context_rows(rows, begin)[:, context.ORDER])
    recording, turned = (Recording(instrument_id="X", tick_size=1.0, has_trades=True, rows=version) for version in (rows, mirror(rows)))
    expected = inputs.all_rows(recording, begin)[:, inputs.ORDER] * inputs.SIGN
    np.testing.assert_array_equal(inputs.all_rows(turned, begin), expected)


def test_what_comes_later_changes_nothing(rows: Rows) -> None:
    recording = Recording(instrument_id="X", tick_size=1.0, has_trades=True, rows=rows)
    prefix = Recording(instrument_id="X", tick_size=1.0, has_trades=True, rows=select(rows, slice(0, 400)))
    begin = context.prior([rows])

    np.testing.assert_array_equal(inputs.all_rows(recording, begin)[:400], inputs.all_rows(prefix, begin))


def test_lagged_numbers_are_those_of_the_row_before_and_missing_at_the_start_of_a_segment(rows: Rows) -> None:
    found = sequence.sequence_rows(rows)
    bid, ask = rows.bid_sizes[:, 0].astype(float), rows.ask_sizes[:, 0].astype(float)
    lagged = column(sequence.NAMES, found, "imbalance_lag_3")

    np.testing.assert_allclose(lagged[10:300], ((bid - ask) / (bid + ask))[7:297])
    assert np.isnan(lagged[350:353]).all()
    assert np.isfinite(lagged[353])


def test_a_queue_tells_its_age_and_how_it_compares_with_its_largest_and_its_first(rows: Rows) -> None:
    found = sequence.sequence_rows(rows)
    row = 300
    born = row
    while rows.bid_ticks[born - 1, 0] == rows.bid_ticks[row, 0] and row - born < 99:
        born -= 1
    sizes = rows.bid_sizes[born : row + 1, 0].astype(float)

    assert column(sequence.NAMES, found, "bid_queue_age")[row] == np.log1p(row - born)
    assert column(sequence.NAMES, found, "bid_queue_size_to_peak")[row] == pytest.approx(np.log((sizes[-1] + 1) / (sizes.max() + 1)))
    assert column(sequence.NAMES, found, "bid_queue_size_to_birth")[row] == pytest.approx(np.log((sizes[-1] + 1) / (sizes[0] + 1)))


def test_a_market_of_ten_times_the_lots_and_another_tick_gives_the_same_numbers(rows: Rows) -> None:
    larger = dataclasses.replace(rows, bid_sizes=rows.bid_sizes * 16, ask_sizes=rows.ask_sizes * 16, flow=rows.flow.copy())
    larger.flow[:, :3] *= 16
    larger.flow[:, 7:] *= 16
    names = [number for number, name in enumerate(sequence.NAMES) if "_queue_" not in name]

    np.testing.assert_allclose(sequence.sequence_rows(larger)[:, names], sequence.sequence_rows(rows)[:, names], rtol=1e-6)


def test_long_averages_begin_at_the_prior_and_forget_it(rows: Rows) -> None:
    begin = context.prior([rows])
    turnover = column(context.NAMES, context.context_rows(rows, begin * np.array([1.0, 8.0, 1.0, 1.0])), "long_turnover_300")
    usual = column(context.NAMES, context.context_rows(rows, begin), "long_turnover_300")

    assert turnover[0] - usual[0] > 1.5
    assert 0 < turnover[-1] - usual[-1] < 1.0
