"""Round trips by hand, the surest calls, and deflation against published numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from framework.multiplicity import deflated, expected_best, probability_above, sharpe
from framework.window import Rows
from ml_actor.evaluate.economics import NEXT_ROW, at_coverages, by_confidence, calls, entries, surest, trips
from ml_actor.evaluate.metrics import make_blocks


@pytest.fixture
def rows(make_market: Callable[..., Rows]) -> Rows:
    """Ten rows, 100 ms apart, two sessions; the bid rises a tick a row, the spread is two ticks."""
    some = make_market(10, segments=1)
    bid = np.arange(10)[:, None] + 1_000 - np.arange(10)[None, :]
    return replace(
        some,
        ts_event=np.arange(10) * 100_000_000,
        segment=np.repeat([0, 1], [7, 3]),
        bid_ticks=bid.astype(np.int32),
        ask_ticks=(2 * np.arange(10)[:, None] + 1_002 - np.arange(10)[:, None] + np.arange(10)[None, :]).astype(np.int32),
    )


def test_an_order_meets_the_last_book_at_its_arrival_and_none_of_another_session(rows: Rows) -> None:
    where = np.array([0, 3, 6])

    assert entries(rows, where, 0).tolist() == [0, 3, 6]
    assert entries(rows, where, 50).tolist() == [0, 3, 6]
    assert entries(rows, where, 250).tolist() == [2, 5, 6]
    assert entries(rows, where, NEXT_ROW).tolist() == [1, 4, 6]


def test_of_one_instant_an_order_meets_the_last_book(rows: Rows) -> None:
    times = rows.ts_event.copy()
    times[1] = times[0]

    assert entries(replace(rows, ts_event=times), np.array([0]), 0).tolist() == [1]


def test_a_taker_crosses_the_spread_twice(rows: Rows) -> None:
    trip = trips(rows, np.array([0]), 4)["0"]

    assert trip.move.tolist() == [4]
    assert trip.net(np.array([1])).tolist() == [4 - 2]  # bought at 1002, sold at 1004
    assert trip.net(np.array([-1])).tolist() == [-4 - 2]


def test_an_order_that_comes_too_late_pays_the_spread_for_nothing(rows: Rows) -> None:
    trip = trips(rows, np.array([0]), 1)["250"]

    assert (trip.move.tolist(), trip.buyer.tolist(), trip.seller.tolist()) == ([0], [-2], [-2])


def test_the_surest_are_called_and_ties_go_to_the_earlier_row() -> None:
    sides, confidence = calls(np.array([[0.1, 0.5, 0.4], [0.4, 0.5, 0.1], [0.2, 0.6, 0.2], [0.0, 0.1, 0.9]]))

    assert sides.tolist() == [1, -1, 1, 1]
    assert surest(confidence, 0.5).tolist() == [0, 3]
    assert surest(confidence, 0.01).tolist() == [3]


def test_coverage_counts_a_row_that_did_not_move_as_wrong_and_takes_the_fee_twice(rows: Rows) -> None:
    where = np.arange(4)
    said = np.tile([0.1, 0.2, 0.7], (4, 1))
    blocks = make_blocks(np.zeros(4, np.int64), where, 1, seed=7)

    found = at_coverages(said, np.array([2, 1, 2, 2]), trips(rows, where, 2), np.full(4, 0.25), blocks)["0.2"]

    assert found["calls"] == 1
    assert found["precision"]["value"] == 1
    assert found["by_latency"]["0"]["move_ticks"]["value"] == 2
    assert found["by_latency"]["0"]["net_ticks"]["value"] == 2 - 2 - 0.5
    assert [one["rows"] for one in by_confidence(said, trips(rows, where, 2)["0"])] == [1, 1, 1, 1]


def test_what_luck_shows_is_that_of_the_paper() -> None:
    """Bailey & Lopez de Prado (2014), the numerical example: 100 trials of variance 1/2 a year, 2.5 a year over 1,250 days."""
    luck = expected_best(0.5 / 250, 100)

    assert luck == pytest.approx(0.1132, abs=0.0002)
    assert probability_above(luck, 2.5 / 250**0.5, count=1_250, skewness=-3, tails=10) == pytest.approx(0.9004, abs=0.001)


def test_luck_is_nothing_for_one_try_and_grows_with_tries() -> None:
    assert expected_best(1.0, 1) == 0
    assert expected_best(1.0, 2) < expected_best(1.0, 10) < expected_best(1.0, 1_000)


def test_deflation_takes_skill_away_that_many_tries_explain() -> None:
    observations = np.random.default_rng(5).normal(0.15, 1.0, 400)

    once, often = deflated(observations, 1, []), deflated(observations, 500, [])

    assert once["probability"] > 0.95
    assert often["probability"] < once["probability"] - 0.3
    assert once["sharpe"] == pytest.approx(sharpe(observations))


def test_what_never_varies_has_no_probability() -> None:
    assert np.isnan(deflated(np.zeros(10), 1, [])["probability"])
    assert np.isnan(deflated(np.ones(2), 1, [])["probability"])
