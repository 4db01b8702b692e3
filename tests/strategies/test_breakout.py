"""The breakout: its channel, its bracket, and the veto of the ML process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from framework.messages import Bar, FailureReason, Prediction, PredictionFailed
from framework.model import FlowType, OrderType, Side
from strategies.breakout import BreakoutStrategy, Candle, Channel
from tests.backtest.conftest import answered, plan, recording  # noqa: F401 (fixtures)
from tests.backtest.test_engine import go

S = 1_000_000_000


def bar(second: int, low: int, high: int, close: int | None = None) -> Bar:
    """A one-second bar that ends at `second`."""
    close = high if close is None else close
    return Bar(
        instrument_id="TIDE.SIM", ts_event=second * S, interval_s=1.0, open_ticks=low, high_ticks=high, low_ticks=low, close_ticks=close,
        volume=1, buy_volume=1, sell_volume=0,
    )  # fmt: skip


def test_a_candle_is_its_bars_and_ends_with_the_first_bar_of_the_next() -> None:
    channel = Channel(2, 5.0)

    finished = [channel.add(one) for one in (bar(1, 10, 12), bar(3, 9, 11), bar(5, 11, 13), bar(6, 20, 21))]

    assert finished[:3] == [None, None, None]
    assert finished[3] is not None
    assert (finished[3].low_ticks, finished[3].high_ticks, finished[3].close_ticks) == (9, 13, 13)


def test_a_true_range_reaches_back_to_the_close_before() -> None:
    channel = Channel(2, 1.0)
    channel.push(Candle(1, bar(1, 10, 12, close=11)))
    channel.push(Candle(2, bar(2, 15, 16)))

    assert channel.true_range_ticks() == (2 + 5) / 2


@pytest.mark.parametrize(("close", "side"), [(13, Side.BUY), (12, None), (9, Side.SELL), (10, None)])
def test_a_breakout_is_a_close_beyond_the_range(close: int, side: Side | None) -> None:
    channel = Channel(2, 1.0)
    for number in (1, 2):
        channel.push(Candle(number, bar(number, 10, 12)))

    assert channel.side_of(Candle(3, bar(3, 8, 14, close=close)), 1) is side


def breaking(stage: Any, **parameters: Any) -> Any:
    """A strategy whose market has just closed 5 ticks beyond a range of 1,000 to 1,004."""
    strategy = stage.run(BreakoutStrategy, candle_s=1.0, length=3, **parameters)
    stage.book(0.0)
    for number in range(1, 5):
        strategy.on_bar(bar(number, 1_000, 1_004, close=1_002))
    strategy.on_bar(bar(5, 1_003, 1_009))
    strategy.on_bar(bar(6, 1_009, 1_009))
    stage.bus.drain()
    return strategy


def test_without_any_ml_it_enters_with_a_target_and_a_stop_in_true_ranges(stage: Any) -> None:
    breaking(stage)

    [orders] = [message.orders for message in stage.market.lists]
    assert [order.order_type for order in orders] == [OrderType.MARKET, OrderType.LIMIT, OrderType.STOP]
    assert (orders[1].limit_ticks, orders[2].stop_ticks) == (1_009 + 12, 1_009 - 6)
    assert stage.reasons == ["ML_ML_DOWN"]


def test_it_may_abstain_without_a_prediction(stage: Any) -> None:
    breaking(stage, without_ml="abstain")

    assert stage.market.lists == []
    assert stage.reasons == ["ML_ML_DOWN"]


def said(flow_type: FlowType, confidence: float) -> Prediction:
    return Prediction(
        prediction_id="p1", strategy_id="s1", instrument_id="TIDE.SIM", flow_type=flow_type, confidence=confidence, p_down=0.1, p_flat=0.2,
        p_up=0.7, model_version="v1", is_calibrated=True, horizon_rows=10, as_of_ns=1, as_of_sequence=1, received_ns=2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("flow_type", "confidence", "reason", "entries"),
    [
        (FlowType.BUY, 0.9, "BREAKOUT", 1),
        (FlowType.STRONG_SELL, 0.9, "ML_VETO", 0),
        (FlowType.SELL, 0.55, "BREAKOUT", 1),
        (FlowType.NEUTRAL, 0.9, "BREAKOUT", 1),
    ],
)
def test_only_a_confident_prediction_against_it_is_a_veto(
    stage: Any, flow_type: FlowType, confidence: float, reason: str, entries: int
) -> None:
    strategy = breaking(stage, without_ml="abstain")
    strategy._waiting = Side.BUY

    strategy.on_prediction(said(flow_type, confidence))
    strategy.on_prediction(said(flow_type, confidence))  # one breakout, one answer
    stage.bus.drain()

    assert (stage.reasons[-1], len(stage.market.lists)) == (reason, entries)


def test_a_failed_request_is_as_no_ml(stage: Any) -> None:
    strategy = breaking(stage, without_ml="abstain")
    strategy._waiting = Side.BUY
    strategy.on_prediction_failed(
        PredictionFailed(prediction_id="p1", strategy_id="s1", instrument_id="TIDE.SIM", ts_event=1, reason=FailureReason.TIMEOUT)
    )
    stage.bus.drain()

    assert stage.reasons[-1] == "ML_TIMEOUT"
    assert stage.market.lists == []


def test_over_a_whole_market_each_entry_has_its_legs_and_no_position_is_larger_than_one_entry(
    plan: Callable[..., Any],  # noqa: F811
    answered: Callable[[], Any],  # noqa: F811
) -> None:
    shipped = plan("breakout")
    quick = shipped.deployment.parameters.model_copy(update={"candle_s": 1.0, "length": 5})
    run = go(replace(shipped, deployment=replace(shipped.deployment, parameters=quick)), answered())
    held, most = 0, 0
    for fill in run.tape.fills:
        held += fill.side.sign * fill.quantity
        most = max(most, abs(held))

    assert len(run.tape.fills) >= 2
    assert most == 1
    assert run.summary.orders % 3 in (0, 1)  # entries with two legs each, and at most one close at the end
