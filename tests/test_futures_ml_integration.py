"""The mission's integration test, on real processes and sockets. Runs under pytest, and as a script:

    python tests/test_futures_ml_integration.py

It validates: ML service client initialization, DOM accumulation and buffering, prediction requests and responses, trading decision logic,
error handling and fallback behavior; beside that the mission's plain REQ client, feedback, and retraining while predictions go on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from framework.clock import EventClock
from framework.config import MainConfig, MLServiceConfig, SimulatedMarketConfig
from framework.dataset import DatasetWriter
from framework.inference.client import ClientSettings, MLClient
from framework.inference.decision import Cell, Cooldown, DecisionInputs, DecisionSettings, OnSell, decide
from framework.inference.transport import ZmqTransport
from framework.kernel.bus import EventBus
from framework.kernel.child_process import ChildState
from framework.market.bars import BarBuilder
from framework.market.dom import DomBuffer, DomBufferActor
from framework.market.market_data import MarketData
from framework.messages import Action, FailureReason, Prediction
from framework.model import FlowType
from framework.operations.first_training import history_events, record_history, train_and_wait
from framework.operations.ml_link import MLLink
from framework.operations.options import StartOptions
from framework.venues.simulated import INSTRUMENT, generate_history
from framework.window import Window
from framework.wire import FeedbackItem, PredictReply

TIMEOUT_S = 60.0
SETTINGS = MLServiceConfig(heartbeat_interval_s=0.2, heartbeat_misses=4)
Outcome = tuple[PredictReply | FailureReason, str]


class Service:
    """A real ML process with a client, in a state directory of its own."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.endpoint = ""
        self.states: list[tuple[str, str]] = []
        self._changed = asyncio.Event()
        transport = ZmqTransport()
        self.client = MLClient(
            transport,
            settings=ClientSettings.of(SETTINGS),
            run_id="test",
            session=os.urandom(4).hex(),
            on_heard=lambda: self.link.heard(),
            on_state_change=self._on_state,
        )
        config = state_dir / "main.yaml"
        config.write_text("ml_service:\n  server:\n    port: 0\ntraining:\n  min_rows: 1000\n")
        self.link = MLLink(SETTINGS, client=self.client, transport=transport, config_path=config, state_dir=state_dir)
        on_ready = self.link.child._on_ready

        def note_endpoint(ready: dict[str, Any]) -> None:
            self.endpoint = str(ready["endpoint"])
            on_ready(ready)

        self.link.child._on_ready = note_endpoint

    def _on_state(self, state: str, detail: str) -> None:
        self.states.append((state, detail))
        self._changed.set()

    async def wait_for(self, state: str) -> None:
        """Wait until the client reports `state`, from now or before."""
        async with asyncio.timeout(TIMEOUT_S):
            while state not in (name for name, _ in self.states):
                self._changed.clear()
                await self._changed.wait()

    async def ask(self, window: Window, *, timeout_s: float = 10.0) -> Outcome:
        """Request one prediction and return its one outcome."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.client.request_prediction(
            window, strategy_id="test", timeout_s=timeout_s, on_outcome=lambda result, detail: outcome.set_result((result, detail))
        )
        async with asyncio.timeout(TIMEOUT_S):
            return await outcome


@asynccontextmanager
async def running_service(state_dir: Path) -> AsyncIterator[Service]:
    service = Service(state_dir)
    service.link.start()
    try:
        await service.wait_for("NO_MODEL")
        yield service
    finally:
        await service.link.stop()


async def train_first_model(service: Service) -> str:
    options = StartOptions(config=MainConfig(), config_path=None, state_dir=service.state_dir)
    writer = DatasetWriter(service.state_dir / "training_data.parquet")
    await record_history(history_events(options), writer, lambda _stage, _share: None)
    writer.close()
    ended = await train_and_wait(service.client, "test", lambda _stage, _share: None)
    assert ended.state == "DONE", ended
    return ended.version


def fill_dom(seconds: float = 15.0, *, max_rows: int = 100) -> DomBuffer:
    bus, clock = EventBus(), EventClock()
    buffer = DomBuffer(INSTRUMENT, max_rows)
    actor = DomBufferActor(bus, buffer)
    bus.register(actor)
    actor.on_start()
    bars = BarBuilder(bus, clock, INSTRUMENT)
    bus.register(bars)
    bars.on_start()
    market_data = MarketData(bus, clock, (INSTRUMENT,))
    for event in generate_history(SimulatedMarketConfig(), seed=11, duration_s=seconds):
        clock.advance_to(event.ts_event)
        market_data.accept(event)
        bus.drain()
    return buffer


def prediction(flow_type: FlowType, confidence: float) -> Prediction:
    return Prediction(
        prediction_id="p1",
        strategy_id="test",
        instrument_id="TIDE.SIM",
        flow_type=flow_type,
        confidence=confidence,
        p_down=0.1,
        p_flat=0.2,
        p_up=0.7,
        model_version="v1",
        is_calibrated=True,
        horizon_rows=20,
        as_of_ns=0,
        as_of_sequence=1,
        received_ns=0,
        as_of_total_rows=100,
    )


def decided(outcome: Prediction | FailureReason | None, *, rows: int = 100) -> tuple[Action, Cell]:
    decision = decide(
        DecisionInputs(
            position_lots=0,
            has_open_orders=False,
            is_book_sound=True,
            cooldown=Cooldown.READY,
            rows=rows,
            total_rows=rows,
            now_ns=0,
            outcome=outcome,
            settings=DecisionSettings(min_dom_samples=10, confidence_threshold=0.6, on_sell=OnSell.SHORT),
        )
    )
    return decision.action, decision.reason


# --- the mission's five points ---------------------------------------------------------------------------------------------


async def test_ml_service_client_initialization(tmp_path: Path) -> None:
    async with running_service(tmp_path) as service:
        assert service.client.is_up
        assert service.client.model_version == ""
        outcome, detail = await service.ask(fill_dom().window(100))

    assert outcome is FailureReason.NO_MODEL
    assert "no model yet" in detail


def test_dom_data_accumulation_and_buffering() -> None:
    buffer = fill_dom(max_rows=100)

    window = buffer.window(100)
    assert (buffer.total_rows, buffer.row_count, len(window.rows)) == (150, 100, 100)
    assert window.rows.bid_ticks.shape == window.rows.ask_sizes.shape == (100, 10)
    assert (window.rows.bid_ticks[:, 0] < window.rows.ask_ticks[:, 0]).all()
    assert window.rows.flow[:, 0].sum() > 0
    assert len(window.bars) > 5


async def test_ml_prediction_requests_and_responses_and_retraining_while_they_go_on(tmp_path: Path) -> None:
    window = fill_dom().window(100)
    async with running_service(tmp_path) as service:
        version = await train_first_model(service)
        outcome, _ = await service.ask(window)

        assert isinstance(outcome, PredictReply)
        assert outcome.flow_type in FlowType.__members__
        assert 0 <= outcome.confidence <= 1
        assert abs(outcome.p_down + outcome.p_flat + outcome.p_up - 1) < 1e-6
        assert (outcome.model_version, outcome.as_of_ns) == (version, window.as_of_ns)

        training = asyncio.ensure_future(train_and_wait(service.client, "again", lambda _stage, _share: None))
        answered = 0
        while not training.done():
            meanwhile, _ = await service.ask(window)
            answered += isinstance(meanwhile, PredictReply)
            await asyncio.sleep(0)
        assert (await training).state == "DONE"
        assert answered > 50


async def test_a_plain_req_client_in_the_missions_json_gets_a_prediction_and_its_feedback_is_stored_once(tmp_path: Path) -> None:
    async with running_service(tmp_path) as service:
        await train_first_model(service)
        context = zmq.asyncio.Context()
        socket = context.socket(zmq.REQ)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(service.endpoint)
        try:
            reply = await exchange(socket, MISSION_REQUEST)
            stored = [await exchange(socket, MISSION_FEEDBACK) for _ in range(2)]
            garbage = await exchange(socket, "{not json")
        finally:
            socket.close()
            context.term()
        counted = (await service.client.status())["feedback_stored"]

    assert reply["prediction_flow_type"] in FlowType.__members__
    assert 0 <= reply["prediction_confidence"] <= 1
    assert stored[0] == stored[1]
    assert counted == 1
    assert garbage["error"]["code"] == "DECODE"


def test_trading_decision_logic() -> None:
    assert decided(prediction(FlowType.STRONG_BUY, 0.9))[0] is Action.BUY
    assert decided(prediction(FlowType.BUY, 0.6))[0] is Action.BUY
    assert decided(prediction(FlowType.SELL, 0.75))[0] is Action.SELL
    assert decided(prediction(FlowType.NEUTRAL, 0.9))[0] is Action.ABSTAIN
    assert decided(prediction(FlowType.BUY, 0.45))[0] is Action.DEFAULT
    assert decided(prediction(FlowType.BUY, float("nan")))[0] is not Action.BUY
    assert decided(None, rows=3) == (Action.ABSTAIN, Cell.INSUFFICIENT_DOM)


async def test_error_handling_and_fallback_behavior(tmp_path: Path) -> None:
    window = fill_dom().window(100)
    async with running_service(tmp_path) as service:
        pid = service.link.child.pid
        assert pid is not None

        os.kill(pid, signal.SIGKILL)
        await service.wait_for("DOWN")
        outcome, _ = await service.ask(window)
        assert outcome in (FailureReason.ML_DOWN, FailureReason.TIMEOUT, FailureReason.NO_MODEL)
        service.states.clear()
        await service.wait_for("UP")
        assert service.link.child.restarts == 1

        stopped = service.link.child.pid
        assert stopped is not None
        os.kill(stopped, signal.SIGSTOP)
        started_s = time.monotonic()
        outcome, _ = await service.ask(window, timeout_s=0.3)
        assert outcome in (FailureReason.TIMEOUT, FailureReason.ML_DOWN)
        assert time.monotonic() - started_s < 5.0
        service.states.clear()
        await service.wait_for("UP")
        assert service.link.child.hangs == 1
        assert service.link.child.state is ChildState.READY

    for failure in FailureReason:
        assert decided(failure)[0] is Action.DEFAULT


async def test_feedback_is_stored_once_and_acknowledged_by_id(tmp_path: Path) -> None:
    item = FeedbackItem(
        timestamp="2024-01-15T10:30:15Z",
        prediction_flow_type="BUY",
        prediction_confidence=0.75,
        trade_executed=True,
        trade_outcome="PROFIT",
        market_data_snapshot={},
        dom_data_snapshot={},
        feedback_id="f1",
        instrument_id="TIDE.SIM",
    )
    async with running_service(tmp_path) as service:
        for _ in range(2):
            acknowledged: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
            service.client.send_feedback([item], acknowledged.set_result)
            async with asyncio.timeout(TIMEOUT_S):
                assert await acknowledged == ("f1",)
        assert (await service.client.status())["feedback_stored"] == 1


async def exchange(socket: zmq.asyncio.Socket, text: str) -> dict[str, Any]:
    await socket.send(text.encode())
    async with asyncio.timeout(TIMEOUT_S):
        reply: dict[str, Any] = msgspec.json.decode(await socket.recv())
    return reply


MISSION_REQUEST = """
{
    "order_events": [],
    "market_data": {
        "timestamp": ["2024-01-15T10:30:14Z", "2024-01-15T10:30:15Z"],
        "open": [5000.0, 5000.25], "high": [5000.5, 5000.5], "low": [5000.0, 5000.0], "close": [5000.25, 5000.25], "volume": [120, 80]
    },
    "order_book": {
        "bids": [[5000.25, 31], [5000.0, 60], [4999.75, 72], [4999.5, 80]],
        "asks": [[5000.5, 12], [5000.75, 51], [5001.0, 70], [5001.25, 90]]
    }
}
"""

MISSION_FEEDBACK = """
{
    "timestamp": "2024-01-15T10:30:15Z",
    "prediction_flow_type": "BUY",
    "prediction_confidence": 0.75,
    "trade_executed": true,
    "trade_outcome": "PROFIT",
    "market_data_snapshot": {
        "timestamp": "2024-01-15T10:30:15Z", "open": 18500.0, "high": 18525.0, "low": 18495.0, "close": 18520.0, "volume": 1500.0
    },
    "dom_data_snapshot": {
        "timestamp": "2024-01-15T10:30:15Z", "spread": 2.5, "mid_price": 18520.0, "bid_levels": 10, "ask_levels": 10
    }
}
"""


# --- as a script --------------------------------------------------------------------------------------------------------------

STEPS: tuple[tuple[str, Callable[..., Coroutine[Any, Any, None] | None]], ...] = (
    ("ML service client initialization", test_ml_service_client_initialization),
    ("DOM data accumulation and buffering", test_dom_data_accumulation_and_buffering),
    (
        "ML prediction requests and responses, and retraining meanwhile",
        test_ml_prediction_requests_and_responses_and_retraining_while_they_go_on,
    ),
    (
        "the mission's JSON from a plain REQ socket",
        test_a_plain_req_client_in_the_missions_json_gets_a_prediction_and_its_feedback_is_stored_once,
    ),
    ("Trading decision logic", test_trading_decision_logic),
    ("Error handling and fallback behavior", test_error_handling_and_fallback_behavior),
    ("Feedback loop", test_feedback_is_stored_once_and_acknowledged_by_id),
)


def main() -> int:
    """Run every step, print what it validated, and return how many failed."""
    failed = 0
    for number, (title, step) in enumerate(STEPS, 1):
        started_s = time.monotonic()
        problem = run_step(step)
        failed += problem is not None
        mark = "ok" if problem is None else f"FAILED: {problem}"
        print(f"{number}. {title}: {mark} ({time.monotonic() - started_s:.1f} s)", flush=True)
    print(f"{len(STEPS) - failed} passed, {failed} failed")
    return 1 if failed else 0


def run_step(step: Callable[..., Coroutine[Any, Any, None] | None]) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            started = step(*([Path(folder)] if asyncio.iscoroutinefunction(step) else []))
            if started is not None:
                asyncio.run(started)
        except Exception as exc:  # noqa: BLE001  # a script says which step failed and goes on
            return f"{type(exc).__name__}: {exc}"
    return None


if __name__ == "__main__":
    sys.exit(main())
