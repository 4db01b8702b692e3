"""Values that several tests of this room look at."""

from __future__ import annotations

from decimal import Decimal

import pytest

from framework.model import FlowType, OrderStatus, Side, TradingState
from framework.operations.status import FeedbackStatus, LastPrediction, LoopLag, MLStatus, OpenOrder, Status, StrategyStatus


@pytest.fixture(scope="session")
def status() -> Status:
    """Return a status in which every part says something."""
    return Status(
        pid=4711,
        state_dir=".tidebook",
        market=("simulated",),
        market_time_ns=1_705_314_615_000_000_000,
        uptime_s=12.0,
        progress=0.4,
        trading_state=TradingState.HALTED,
        trading_reason="operator\x1b[31m",
        strategies=(
            StrategyStatus(
                name="ml_futures",
                strategy="strategies.ml_futures:MLFuturesStrategy",
                instrument_id="TIDE.SIM",
                position_lots=-2,
                average_price=Decimal("18500.25"),
                realized_pnl=Decimal("-12.50"),
                open_orders=(
                    OpenOrder(
                        client_order_id="ml_futures-1",
                        side=Side.BUY,
                        quantity=3,
                        filled_quantity=1,
                        limit_ticks=73_999,
                        limit_price=Decimal("18499.75"),
                        status=OrderStatus.PARTIALLY_FILLED,
                    ),
                ),
                last_prediction=LastPrediction(flow_type=FlowType.STRONG_BUY, confidence=0.734, age_s=0.4, model_version="v0003-1a2b3c4d"),
            ),
            StrategyStatus(
                name="broken", strategy="m:C", instrument_id="TIDE.SIM", state="QUARANTINED", reason="ZeroDivisionError: division by zero"
            ),
        ),
        ml=MLStatus(state="TRAINING", model_version="v0003-1a2b3c4d", restarts=1, training_progress=0.3, training_stage="fit"),
        feedback=FeedbackStatus(recorded=120, acknowledged=97, pending=20, dropped=3),
        loop_lag=LoopLag(p50_ms=0.1, p99_ms=2.3, max_ms=4.0),
        counters={"published": 12_345},
    )
