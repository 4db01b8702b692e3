"""ML first, the rule by default; the shipped configs are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from framework.messages import FailureReason, Prediction, PredictionFailed, PredictionReceived
from framework.model import FlowType
from framework.strategy import load_strategy_class, read_parameters
from framework.strict_yaml import load_strategy_file, load_strategy_text
from strategies.ml_futures import MLFuturesStrategy

CONFIGS = Path(__file__).resolve().parents[2] / "config" / "strategies"
MISSION_KEYS = {
    "max_dom_history",
    "min_dom_samples",
    "prediction_confidence_threshold",
    "prediction_cooldown_seconds",
    "max_feedback_buffer",
    "feedback_batch_size",
    "feedback_send_interval_minutes",
}


def predict(stage: Any, flow_type: FlowType, confidence: float = 0.9) -> None:
    now_ns = stage.clock.now_ns()
    prediction = Prediction(
        prediction_id="p1",
        strategy_id="s1",
        instrument_id="TIDE.SIM",
        flow_type=flow_type,
        confidence=confidence,
        p_down=0.05,
        p_flat=0.05,
        p_up=0.9,
        model_version="v1",
        is_calibrated=True,
        horizon_rows=20,
        as_of_ns=now_ns,
        as_of_sequence=stage.sequence,
        received_ns=now_ns,
        as_of_total_rows=100,
    )
    stage.bus.tell("s1", PredictionReceived(strategy_id="s1", prediction=prediction))
    stage.bus.drain()


def fail(stage: Any) -> None:
    failure = PredictionFailed(
        prediction_id="p1", strategy_id="s1", instrument_id="TIDE.SIM", ts_event=stage.clock.now_ns(), reason=FailureReason.NO_MODEL
    )
    stage.bus.tell("s1", failure)
    stage.bus.drain()


def test_without_ml_it_trades_as_the_plain_rule_does(stage: Any) -> None:
    stage.run(MLFuturesStrategy, take_profit_ticks=0, stop_loss_ticks=0)

    stage.books(0.6, 4.0)
    stage.books(-0.6, 3.0)

    assert stage.sides[:2] == ["BUY", "SELL"]
    assert stage.reasons[:2] == ["ML_DOWN", "ML_DOWN"]


def test_a_usable_prediction_comes_before_the_rule(stage: Any) -> None:
    stage.run(MLFuturesStrategy)
    stage.book(0.6)
    predict(stage, FlowType.NEUTRAL)
    stage.books(0.6, 5.0)
    assert stage.sides == []

    predict(stage, FlowType.STRONG_SELL)

    assert stage.sides == ["SELL"]
    assert stage.reasons[-1] == "ENTER_SHORT"


def test_a_position_from_ml_is_left_by_ticks_and_time(stage: Any) -> None:
    stage.run(MLFuturesStrategy, stop_loss_ticks=4)
    stage.book(0.0)
    predict(stage, FlowType.BUY)

    stage.book(0.0, mid_ticks=998)

    assert stage.sides == ["BUY", "SELL"]
    assert stage.reasons == ["ENTER_LONG", "STOP_LOSS"]


def test_the_rule_does_not_close_what_a_usable_prediction_holds(stage: Any) -> None:
    stage.run(MLFuturesStrategy, stop_loss_ticks=0, take_profit_ticks=0)
    stage.book(0.0)
    predict(stage, FlowType.BUY)

    stage.books(-0.6, 5.0)
    assert stage.sides == ["BUY"]
    fail(stage)

    assert stage.sides == ["BUY", "SELL"]
    assert stage.reasons[-1] == "ML_NO_MODEL"


def test_a_passive_entry_turns_a_position_at_market(stage: Any) -> None:
    stage.run(MLFuturesStrategy, entry="passive", stop_loss_ticks=0, take_profit_ticks=0)
    stage.book(0.0)
    predict(stage, FlowType.BUY)
    [entry] = stage.market.orders
    assert entry.limit_ticks == 999
    stage.market.fill(entry)
    stage.bus.drain()

    predict(stage, FlowType.SELL)

    assert (stage.market.orders[-1].limit_ticks, stage.market.orders[-1].quantity) == (None, 2)


def test_on_sell_ignore_never_goes_short(stage: Any) -> None:
    stage.run(MLFuturesStrategy, on_sell="ignore")
    stage.books(-0.6, 5.0)
    predict(stage, FlowType.STRONG_SELL)

    assert stage.sides == []


@pytest.mark.parametrize("name", ["ml_futures.yaml", "book_imbalance.yaml"])
def test_a_shipped_config_is_valid_and_says_every_key_of_its_parameters(name: str) -> None:
    file = load_strategy_file(CONFIGS / name)
    strategy_class = load_strategy_class(file.strategy)

    read_parameters(strategy_class, file)

    assert set(file.parameters) == set(strategy_class.Parameters.model_fields)


@pytest.mark.parametrize("name", ["ml_futures.yaml", "book_imbalance.yaml"])
def test_every_key_of_a_shipped_config_is_commented(name: str) -> None:
    lines = (CONFIGS / name).read_text().splitlines()

    for above, line in zip(["", *lines], lines, strict=False):
        is_key = ":" in line and not line.lstrip().startswith("#")
        assert not is_key or "#" in line or above.lstrip().startswith("#"), line


def test_the_ml_config_keeps_the_missions_keys() -> None:
    text = (CONFIGS / "ml_futures.yaml").read_text()

    assert set(yaml.safe_load(text)) >= MISSION_KEYS
    for key in ("ml_service", "host", "port", "timeout", "retry_attempts", "use_binary"):
        assert f"#   {key}:" in text or f"# {key}:" in text


def test_the_commented_ml_service_block_is_valid_once_uncommented() -> None:
    text = (CONFIGS / "ml_futures.yaml").read_text()
    start = text.index("# ml_service:")
    block = "\n".join(line.removeprefix("# ") for line in text[start : text.index("\n\n", start)].splitlines())

    uncommented = text[:start] + block + text[text.index("\n\n", start) :]

    file = load_strategy_text(uncommented, "ml_futures.yaml")

    assert file.ml_service is not None
    assert file.ml_service.use_binary is True
