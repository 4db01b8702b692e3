"""Orders carry the age of the prediction that they are based on, and the gate refuses those of an old one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from framework.backtest.engine import Plan, Source
from framework.backtest.latency import Constant
from framework.config import MainConfig, RiskLimits
from framework.messages import Action, BookSnapshot, FailureReason, Prediction, PredictionFailed, PredictionReceived
from framework.model import FlowType, OrderStatus
from framework.strategy import MLStrategy
from strategies.market_maker import MarketMakerStrategy
from tests.backtest.conftest import answered, plan, recording  # noqa: F401 (fixtures)
from tests.backtest.test_engine import go

S = 1_000_000_000


def predict(stage: Any, *, age_s: float) -> int:
    now_ns = stage.clock.now_ns()
    prediction = Prediction(
        prediction_id="p1",
        strategy_id="s1",
        instrument_id="TIDE.SIM",
        flow_type=FlowType.BUY,
        confidence=0.9,
        p_down=0.05,
        p_flat=0.05,
        p_up=0.9,
        model_version="v1",
        is_calibrated=True,
        horizon_rows=20,
        as_of_ns=now_ns - round(age_s * S),
        as_of_sequence=stage.sequence,
        received_ns=now_ns,
        as_of_total_rows=100,
    )
    stage.bus.tell("s1", PredictionReceived(strategy_id="s1", prediction=prediction))
    stage.bus.drain()
    return prediction.as_of_ns


class Buyer(MLStrategy):
    """Buys by default too."""

    def default_action(self, book: BookSnapshot) -> Action:
        return Action.BUY


def test_an_order_on_a_prediction_says_which_row_the_prediction_saw_last(stage: Any) -> None:
    stage.run(MLStrategy)
    stage.book(0.0)

    as_of_ns = predict(stage, age_s=0.4)

    assert [order.as_of_ns for order in stage.market.orders] == [as_of_ns]


@pytest.mark.parametrize("reason", [FailureReason.NO_MODEL, FailureReason.TIMEOUT])
def test_the_default_behaviour_is_based_on_no_prediction(stage: Any, reason: FailureReason) -> None:
    stage.run(Buyer)
    stage.book(0.0)

    failure = PredictionFailed(prediction_id="p1", strategy_id="s1", instrument_id="TIDE.SIM", ts_event=stage.clock.now_ns(), reason=reason)
    stage.bus.tell("s1", failure)
    stage.bus.drain()

    assert [order.as_of_ns for order in stage.market.orders] == [None]


def test_an_old_prediction_that_the_default_behaviour_replaces_is_not_what_its_order_is_based_on(stage: Any) -> None:
    stage.run(Buyer)
    stage.book(0.0)

    predict(stage, age_s=5.0)

    assert [order.as_of_ns for order in stage.market.orders] == [None]


def test_an_exit_after_a_prediction_is_based_on_none(stage: Any) -> None:
    strategy = stage.run(MLStrategy)
    stage.book(0.0)
    predict(stage, age_s=0.1)

    strategy.close()
    stage.bus.drain()

    assert [order.as_of_ns is None for order in stage.market.orders] == [False, True]


def test_the_quotes_of_a_market_maker_are_based_on_what_they_lean_with(stage: Any) -> None:
    strategy = stage.run(MarketMakerStrategy, requote_s=0.0)
    stage.book(0.0)
    blind = list(stage.market.orders)
    as_of_ns = predict(stage, age_s=0.1)
    strategy.cancel_all()

    stage.book(0.0)

    assert [order.as_of_ns for order in blind] == [None, None]
    assert [order.as_of_ns for order in stage.market.orders[2:]] == [as_of_ns, as_of_ns]


def test_the_gate_denies_what_is_based_on_an_older_prediction_than_it_allows(
    plan: Callable[..., Plan],  # noqa: F811
    answered: Callable[[], Source],  # noqa: F811
) -> None:
    strict, patient = (
        go(
            replace(plan("ml_futures", settings=MainConfig(risk=RiskLimits(max_prediction_age_s=limit_s))), latency=Constant(250.0)),
            answered(),
        )
        for limit_s in (0.2, 0.3)
    )

    denials = [order.reason.split()[0] for order in strict.tape.orders if order.status is OrderStatus.DENIED]
    assert set(denials) == {"PREDICTION_AGE"}
    assert all(order.status is not OrderStatus.DENIED for order in patient.tape.orders)
    assert patient.summary.orders > 10
