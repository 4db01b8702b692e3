"""The plain rule: when it enters, how it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework.messages import BookInvalid, BookSnapshot
from framework.model import Side
from strategies.book_imbalance import BookImbalanceStrategy, ImbalanceParameters, ImbalanceRule

S = 1_000_000_000


def test_the_weight_of_a_book_halves_in_its_half_life(make_book: Callable[..., BookSnapshot]) -> None:
    rule = ImbalanceRule(ImbalanceParameters(half_life_s=2.0, levels=1))

    rule.update(make_book(0, (5,), (5,)))
    rule.update(make_book(2 * S, (9,), (1,)))
    assert rule.imbalance == pytest.approx(0.4)
    assert not rule.is_warm
    rule.update(make_book(4 * S, (9,), (1,)))

    assert rule.imbalance == pytest.approx(0.6)
    assert rule.is_warm
    assert rule.side() is Side.BUY


def test_a_cold_rule_neither_enters_nor_closes(make_book: Callable[..., BookSnapshot]) -> None:
    rule = ImbalanceRule(ImbalanceParameters(half_life_s=2.0))
    rule.update(make_book(0, (1,), (9,)))
    rule.update(make_book(3 * S, (1,), (9,)))

    assert rule.imbalance < -0.3
    assert rule.side() is None
    assert not rule.is_against(1)
    rule.update(make_book(4 * S, (1,), (9,)))
    assert rule.is_against(1)
    assert not rule.is_against(-1)


def test_only_the_best_levels_count(make_book: Callable[..., BookSnapshot]) -> None:
    rule = ImbalanceRule(ImbalanceParameters(half_life_s=0.001, levels=2))

    rule.update(make_book(0, (1, 1, 100), (3, 3, 1)))
    rule.update(make_book(S, (1, 1, 100), (3, 3, 1)))

    assert rule.imbalance == pytest.approx(-0.5)


def test_a_one_sided_book_changes_nothing(make_book: Callable[..., BookSnapshot]) -> None:
    rule = ImbalanceRule(ImbalanceParameters(half_life_s=0.001))
    rule.update(make_book(0, (3,), (1,)))
    rule.update(make_book(S, (3,), (1,)))

    rule.update(make_book(2 * S, (), (7,)))
    rule.update(make_book(3 * S, (7,), ()))

    assert rule.imbalance == pytest.approx(0.5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(books=st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 1_000), st.integers(0, 1_000)), max_size=30))
def test_the_imbalance_stays_between_minus_one_and_one(books: list[tuple[int, int, int]], make_book: Any) -> None:
    rule = ImbalanceRule(ImbalanceParameters())

    for ts_event, bid, ask in sorted(books):
        rule.update(make_book(ts_event, (bid,), (ask,)))

        assert -1.0 <= rule.imbalance <= 1.0


def test_it_buys_with_the_imbalance_once_warm_and_only_once(stage: Any) -> None:
    stage.run(BookImbalanceStrategy)

    stage.books(0.6, 1.9)
    assert stage.sides == []
    stage.books(0.6, 2.0)

    assert stage.sides == ["BUY"]
    assert stage.reasons == ["IMBALANCE"]
    assert stage.market.decisions[0].client_order_ids == ("s1-1",)
    assert stage.market.orders[0].decision_id == stage.market.decisions[0].decision_id


def test_it_sells_short_unless_it_may_not(stage: Any) -> None:
    stage.run(BookImbalanceStrategy, allow_short=False)
    stage.books(-0.6, 5.0)
    assert stage.sides == []


def test_it_sells_with_the_imbalance(stage: Any) -> None:
    stage.run(BookImbalanceStrategy)
    stage.books(-0.6, 5.0)
    assert stage.sides == ["SELL"]


@pytest.mark.parametrize(
    ("imbalance", "mid_ticks", "seconds", "reason"),
    [
        (0.6, 1_008, 0.1, "TAKE_PROFIT"),
        (0.6, 998, 0.1, "STOP_LOSS"),
        (0.6, 1_000, 31.0, "MAX_HOLDING"),
        (-0.6, 1_000, 3.0, "IMBALANCE_TURNED"),
    ],
)
def test_a_long_is_left_by_ticks_time_or_reversal(imbalance: float, mid_ticks: int, seconds: float, reason: str, stage: Any) -> None:
    stage.run(BookImbalanceStrategy, take_profit_ticks=6, stop_loss_ticks=4, max_holding_s=30.0)
    stage.books(0.6, 3.0)

    stage.books(imbalance, seconds, mid_ticks=mid_ticks)

    assert stage.reasons[:2] == ["IMBALANCE", reason]
    assert stage.sides[:2] == ["BUY", "SELL"]
    assert stage.market.orders[1].reduce_only


def test_gain_and_loss_of_a_short_are_measured_at_the_ask(stage: Any) -> None:
    stage.run(BookImbalanceStrategy, take_profit_ticks=6, stop_loss_ticks=4)
    stage.books(-0.6, 3.0)
    stage.book(-0.6, mid_ticks=1_001)
    assert stage.reasons == ["IMBALANCE"]

    stage.book(-0.6, mid_ticks=1_002)

    assert stage.reasons == ["IMBALANCE", "STOP_LOSS"]


def test_exits_that_are_zero_are_off(stage: Any) -> None:
    stage.run(BookImbalanceStrategy, take_profit_ticks=0, stop_loss_ticks=0, max_holding_s=0.0)
    stage.books(0.6, 3.0)

    stage.books(0.6, 60.0, mid_ticks=2_000)
    stage.books(0.6, 60.0, mid_ticks=500)

    assert stage.reasons == ["IMBALANCE"]


def test_a_passive_entry_rests_at_its_own_best_price_and_is_canceled_when_stale(stage: Any) -> None:
    strategy = stage.run(BookImbalanceStrategy, entry="passive", entry_timeout_s=2.0)
    stage.books(0.6, 2.2)
    [order] = stage.market.orders
    assert order.limit_ticks == 999
    assert order.client_order_id in strategy.open_orders

    stage.books(0.1, 1.8)
    assert stage.market.canceled == []
    stage.books(0.1, 0.5)

    assert stage.market.canceled == [order.client_order_id]
    assert not strategy.open_orders


def test_it_stays_flat_for_a_pause_after_a_position(stage: Any) -> None:
    stage.run(BookImbalanceStrategy, entry_pause_s=5.0, max_holding_s=1.0)
    stage.books(0.6, 5.5)
    assert stage.reasons == ["IMBALANCE"]
    stage.books(0.6, 4.0)
    assert stage.reasons == ["IMBALANCE", "MAX_HOLDING"]
    stage.books(0.6, 5.0)
    assert stage.reasons[:3] == ["IMBALANCE", "MAX_HOLDING", "IMBALANCE"]


def test_nothing_is_sent_on_an_invalid_book(stage: Any) -> None:
    stage.run(BookImbalanceStrategy)
    stage.bus.publish(BookInvalid(instrument_id="TIDE.SIM", ts_event=1, reason="stale"))

    stage.books(0.6, 5.0)

    assert stage.sides == []
