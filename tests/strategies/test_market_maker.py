"""The market maker: where it quotes, when it does not, and what it holds at most over a whole market."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework.messages import BookInvalid, BookSnapshot, HorizonPrediction, Prediction, SessionChanged
from framework.model import FlowType, Side
from strategies.market_maker import MarketMakerStrategy
from tests.backtest.conftest import answered, plan, recording  # noqa: F401 (fixtures)
from tests.backtest.test_engine import go


def quotes(stage: Any, **parameters: Any) -> Any:
    return stage.run(MarketMakerStrategy, **parameters)


def test_it_rests_on_both_sides_and_never_takes(stage: Any) -> None:
    quotes(stage)
    stage.book(0.0)

    assert [(str(order.side), order.limit_ticks, order.post_only) for order in stage.market.orders] == [
        ("BUY", 999, True),
        ("SELL", 1_001, True),
    ]


@pytest.mark.parametrize(
    ("position", "expected"),
    [(0, {Side.BUY: 999, Side.SELL: 1_001}), (2, {Side.BUY: 998, Side.SELL: 1_000}), (-2, {Side.BUY: 1_000, Side.SELL: 1_002})],
)
def test_quotes_lean_against_the_inventory(
    stage: Any, make_book: Callable[..., BookSnapshot], position: int, expected: dict[Side, int]
) -> None:
    strategy = quotes(stage, max_inventory=4, inventory_lean_ticks=2.0)
    strategy.position_lots = position

    assert strategy.prices(make_book(1, (5,), (5,))) == expected


def said(now_ns: int) -> Prediction:
    return Prediction(
        prediction_id="p",
        strategy_id="s1",
        instrument_id="TIDE.SIM",
        flow_type=FlowType.BUY,
        confidence=0.75,
        p_down=0.0,
        p_flat=0.5,
        p_up=0.5,
        model_version="v1",
        is_calibrated=True,
        horizon_rows=50,
        as_of_ns=now_ns,
        as_of_sequence=1,
        received_ns=now_ns,
        horizons=(HorizonPrediction(10, 1.0, 0.0, 0.0, FlowType.STRONG_SELL, 1.0),),
    )


@pytest.mark.parametrize(("horizon", "fair"), [(0, 1_001.0), (50, 1_001.0), (10, 998.0), (7, 1_001.0)])
def test_it_leans_with_the_horizon_that_is_asked_for_and_with_the_traded_one_where_that_is_not_known(
    stage: Any, make_book: Callable[..., BookSnapshot], horizon: int, fair: float
) -> None:
    strategy = quotes(stage, lean_horizon_rows=horizon, ml_lean_ticks=2.0)
    stage.book(0.0)
    strategy.on_prediction(said(stage.clock.now_ns()))

    assert strategy.fair_ticks(make_book(1, (5,), (5,))) == fair


@pytest.mark.parametrize(("position", "side"), [(3, Side.BUY), (-3, Side.SELL)])
def test_a_full_inventory_quotes_on_the_other_side_only(
    stage: Any, make_book: Callable[..., BookSnapshot], position: int, side: Side
) -> None:
    strategy = quotes(stage, max_inventory=3)
    strategy.position_lots = position

    prices = strategy.prices(make_book(1, (5,), (5,)))

    assert prices[side] is None
    assert prices[side.opposite] is not None


@pytest.fixture
def maker(stage: Any) -> MarketMakerStrategy:
    return quotes(stage)  # type: ignore[no-any-return]


@given(position=st.integers(-5, 5), half=st.floats(0.1, 5), lean=st.floats(0, 20), bid=st.integers(1, 1_000), width=st.integers(1, 6))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_quote_ever_crosses_the_other_side_or_the_own_one(
    maker: MarketMakerStrategy, make_book: Callable[..., BookSnapshot], position: int, half: float, lean: float, bid: int, width: int
) -> None:
    maker.parameters = MarketMakerStrategy.Parameters(max_inventory=9, half_spread_ticks=half, inventory_lean_ticks=lean)
    maker.position_lots = position
    book = msgspec.structs.replace(make_book(1, (5,), (5,)), bid_ticks=(bid,), ask_ticks=(bid + width,))

    prices = maker.prices(book)
    buy, sell = prices[Side.BUY], prices[Side.SELL]

    assert buy is not None
    assert sell is not None
    assert buy < book.ask_ticks[0]
    assert sell > book.bid_ticks[0]
    assert buy < sell


@pytest.mark.parametrize(
    "event",
    [
        BookInvalid(instrument_id="TIDE.SIM", ts_event=1, reason="crossed"),
        SessionChanged(instrument_id="TIDE.SIM", ts_event=1, is_open=False, reason="gap"),
    ],
    ids=["bad book", "closed session"],
)
def test_a_bad_book_and_a_closed_session_take_the_quotes_back(stage: Any, event: Any) -> None:
    strategy = quotes(stage)
    stage.book(0.0)
    assert len(strategy.open_orders) == 2

    stage.bus.publish(event)
    stage.bus.drain()

    assert stage.market.canceled == ["s1-1", "s1-2"]
    assert not strategy.open_orders


def test_over_a_whole_market_it_makes_most_of_its_fills_and_keeps_its_limit(
    plan: Callable[..., Any],  # noqa: F811
    answered: Callable[[], Any],  # noqa: F811
) -> None:
    shipped = plan("market_maker")
    run = go(replace(shipped), answered())
    held, most = 0, 0
    for fill in run.tape.fills:
        held += fill.side.sign * fill.quantity
        most = max(most, abs(held))
    makers = sum(fill.liquidity == "MAKER" for fill in run.tape.fills)

    assert len(run.tape.fills) > 10
    assert most <= shipped.deployment.parameters.max_inventory  # type: ignore[attr-defined]
    assert makers > 0.8 * len(run.tape.fills)
    assert {decision.reason for decision in run.tape.decisions} >= {"QUOTES_LEAN"}
