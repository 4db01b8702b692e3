"""`MLClient` against a transport that loses, repeats, delays and forges, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from framework import wire, wire_json
from framework.errors import ErrorCode, WireError
from framework.inference.breaker import TABLE, Breaker, Circuit, Sign
from framework.inference.client import ClientSettings, MLClient, MLUnavailable
from framework.kernel.simulation import SimulatedLoop, run_simulated
from framework.messages import FailureReason, HorizonPrediction
from framework.model import FlowType
from framework.window import BAR_COLUMNS, FLOW_COLUMNS, LEVELS, Rows, Window
from framework.wire import PROTOCOL_VERSION, FeedbackItem, PredictReply, PredictRequest


def make_window(sequence: int = 7, rows: int = 3) -> Window:
    level = np.arange(LEVELS, dtype=np.int32)
    return Window(
        instrument_id="TIDE.SIM",
        tick_size=0.25,
        has_trades=True,
        rows=Rows(
            ts_event=np.arange(rows, dtype=np.int64) + 1_000,
            sequence=np.arange(sequence - rows + 1, sequence + 1, dtype=np.int64),
            segment=np.zeros(rows, np.int64),
            bid_ticks=np.tile(100 - level, (rows, 1)),
            bid_sizes=np.ones((rows, LEVELS), np.float32),
            ask_ticks=np.tile(101 + level, (rows, 1)),
            ask_sizes=np.ones((rows, LEVELS), np.float32),
            flow=np.zeros((rows, len(FLOW_COLUMNS)), np.float32),
        ),
        bars=np.zeros((0, len(BAR_COLUMNS))),
    )


def reply_to(request_id: str, window: Window, **changes: Any) -> PredictReply:
    fields: dict[str, Any] = {
        "version": PROTOCOL_VERSION,
        "request_id": request_id,
        "flow_type": "BUY",
        "confidence": 0.7,
        "p_down": 0.1,
        "p_flat": 0.2,
        "p_up": 0.7,
        "model_version": "v1",
        "is_calibrated": True,
        "horizon_rows": 20,
        "as_of_ns": window.as_of_ns,
        "as_of_sequence": window.as_of_sequence,
        "regime": 1,
        "shock_score": 0.1,
        "compute_us": 50.0,
        "instrument_id": window.instrument_id,
    }
    return PredictReply(**(fields | changes))


def error_to(request_id: str, code: ErrorCode) -> wire.ErrorReply:
    return wire.ErrorReply(version=PROTOCOL_VERSION, request_id=request_id, code=code, message="because")


def pong_to(request_id: str, *, model_version: str = "v1", is_training: bool = False) -> wire.Pong:
    return wire.Pong(
        version=PROTOCOL_VERSION,
        request_id=request_id,
        state="SERVING",
        model_version=model_version,
        is_training=is_training,
        predictions=0,
        trainings=0,
    )


class FakeTransport:
    """Keeps what was sent; the test decides what comes back."""

    def __init__(self) -> None:
        self.has_peer = True
        self.sent: list[list[bytes]] = []
        self.is_closed = False

    def start(self, on_frames: Callable[[list[bytes]], None]) -> None:
        self._on_frames = on_frames

    def send(self, frames: list[bytes]) -> bool:
        if self.has_peer:
            self.sent.append(frames)
        return self.has_peer

    async def close(self) -> None:
        self.is_closed = True

    def deliver(self, message: wire.Reply | bytes) -> None:
        self._on_frames([message if isinstance(message, bytes) else wire.encode(message)])

    def requests(self, kind: type) -> list[Any]:
        return [request for frames in self.sent if isinstance(request := wire.decode_request(frames[0]), kind)]

    def last(self, kind: type = PredictRequest) -> Any:
        return self.requests(kind)[-1]


class Bench:
    """A started client, its transport, and what it said."""

    def __init__(self, **changes: Any) -> None:
        self.transport = FakeTransport()
        self.states: list[tuple[str, str]] = []
        self.heard = 0
        self.outcomes: list[tuple[Any, str]] = []
        self.client = MLClient(
            self.transport,
            settings=ClientSettings(**changes),
            run_id="run",
            session="s1",
            on_heard=self.hear,
            on_state_change=lambda state, detail: self.states.append((state, detail)),
        )
        self.client.start()

    def hear(self) -> None:
        self.heard += 1

    def ask(self, window: Window | None = None, *, timeout_s: float = 1.0) -> str:
        on_outcome = lambda outcome, detail: self.outcomes.append((outcome, detail))  # noqa: E731
        return self.client.request_prediction(window or make_window(), strategy_id="s", timeout_s=timeout_s, on_outcome=on_outcome)

    def answer(self, **changes: Any) -> None:
        request = self.transport.last()
        self.transport.deliver(reply_to(request.request_id, make_window(), **changes))

    def pong(self, **changes: Any) -> None:
        self.transport.deliver(pong_to(self.transport.last(wire.Ping).request_id, **changes))

    def reasons(self) -> list[Any]:
        return [outcome if isinstance(outcome, FailureReason) else "OK" for outcome, _ in self.outcomes]


def simulated(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_simulated(test, seed=1)

    run.__name__ = test.__name__
    return run


@simulated
async def test_a_request_is_a_header_and_the_window_behind_it() -> None:
    bench = Bench()
    window = make_window()

    prediction_id = bench.ask(window, timeout_s=0.25)

    header, payload = bench.transport.sent[-1]
    request = wire.decode_request(header)
    assert isinstance(request, PredictRequest)
    assert (prediction_id, request.request_id, request.timeout_ms) == ("run-1", "s1.run-1", 250.0)
    assert wire.decode_window(request, payload).as_of_sequence == window.as_of_sequence


@simulated
async def test_an_answer_before_the_deadline_is_the_outcome() -> None:
    bench = Bench()
    bench.ask()

    bench.answer()
    await asyncio.sleep(5)

    assert bench.reasons() == ["OK"]
    assert bench.client.stats()["received"] == 1


@simulated
async def test_the_outcome_never_comes_inside_the_call() -> None:
    bench = Bench(retry_attempts=0)
    bench.transport.has_peer = False

    bench.ask()
    before = list(bench.outcomes)
    await asyncio.sleep(0.001)

    assert before == []
    assert bench.reasons() == [FailureReason.ML_DOWN]


@simulated
async def test_no_answer_by_the_deadline_is_a_timeout_and_the_late_answer_is_counted() -> None:
    bench = Bench()
    bench.ask(timeout_s=0.5)

    await asyncio.sleep(0.499)
    before = list(bench.outcomes)
    await asyncio.sleep(0.002)
    bench.answer()

    assert before == []
    assert bench.reasons() == [FailureReason.TIMEOUT]
    assert bench.client.stats()["late"] == 1


@simulated
async def test_an_answer_that_overtakes_its_expired_timer_is_late_all_the_same() -> None:
    bench = Bench()
    bench.ask(timeout_s=0.5)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)

    loop._jumper.now_s += 0.6  # the loop stood still; its timers have not run yet
    bench.answer()

    assert bench.reasons() == [FailureReason.TIMEOUT]
    assert bench.client.stats()["late"] == 1


@simulated
async def test_repeated_and_foreign_answers_are_dropped_and_counted() -> None:
    bench = Bench()
    bench.ask()

    bench.answer()
    bench.answer()
    bench.transport.deliver(reply_to("somebody-else", make_window()))
    bench.transport.deliver(b"\xc1 garbage")

    stats = bench.client.stats()
    assert bench.reasons() == ["OK"]
    assert (stats["duplicate"], stats["unknown"], stats["bad_frames"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"instrument_id": "ES.SIM"}, "asked about TIDE.SIM"),
        ({"as_of_sequence": 6}, "about book 6, asked about 7"),
        ({"as_of_ns": 1}, "asked about 7"),
        ({"flow_type": "MAYBE"}, "unknown flow type"),
        ({"p_up": 0.8}, "do not sum to 1"),
        ({"horizons": (HorizonPrediction(5, 0.5, 0.5, 0.5, FlowType.SELL, 0.6),)}, "5 rows: probabilities 0.5, 0.5, 0.5 do not sum to 1"),
        ({"horizons": (HorizonPrediction(5, 0.5, 0.5, 0.0, FlowType.SELL, 1.5),)}, "5 rows: confidence 1.5"),
        ({"p_up": float("nan")}, "do not sum to 1"),
        ({"confidence": float("nan")}, "confidence nan"),
        ({"confidence": 1.5}, "confidence 1.5"),
        ({"shock_score": float("inf")}, "shock score inf"),
    ],
)
def test_an_answer_that_is_not_about_this_window_or_no_probability_is_a_bad_reply(changes: dict[str, Any], words: str) -> None:
    async def run() -> None:
        bench = Bench()
        bench.ask()

        bench.answer(**changes)

        ((reason, detail),) = bench.outcomes
        assert reason is FailureReason.BAD_REPLY
        assert words in detail

    run_simulated(run, seed=1)


@simulated
async def test_an_answer_of_another_type_is_a_bad_reply() -> None:
    bench = Bench()
    bench.ask()

    bench.transport.deliver(pong_to(bench.transport.last().request_id))

    assert bench.reasons() == [FailureReason.BAD_REPLY]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (ErrorCode.NO_MODEL, FailureReason.NO_MODEL),
        (ErrorCode.EXPIRED, FailureReason.EXPIRED),
        (ErrorCode.OVERLOADED, FailureReason.OVERLOADED),
        (ErrorCode.SCHEMA_MISMATCH, FailureReason.SCHEMA_MISMATCH),
        (ErrorCode.BAD_FIELD, FailureReason.REFUSED),
        (ErrorCode.INTERNAL, FailureReason.REFUSED),
    ],
)
def test_an_error_answer_becomes_its_reason(code: ErrorCode, reason: FailureReason) -> None:
    async def run() -> None:
        bench = Bench()
        bench.ask()

        bench.transport.deliver(error_to(bench.transport.last().request_id, code))

        assert bench.outcomes == [(reason, f"{code}: because")]

    run_simulated(run, seed=1)


@simulated
async def test_what_the_connection_did_not_take_is_sent_again_with_the_same_id_and_less_time() -> None:
    bench = Bench()
    bench.transport.has_peer = False
    bench.ask(timeout_s=1.0)
    await asyncio.sleep(0.01)

    bench.transport.has_peer = True
    await asyncio.sleep(0.05)

    (request,) = bench.transport.requests(PredictRequest)
    assert request.request_id == "s1.run-1"
    assert request.timeout_ms == pytest.approx(980)
    assert bench.client.stats()["retried"] == 1


@simulated
async def test_retries_end_after_the_attempts_allowed() -> None:
    bench = Bench(retry_attempts=2)
    bench.transport.has_peer = False

    bench.ask(timeout_s=30.0)
    await asyncio.sleep(1.0)

    assert bench.reasons() == [FailureReason.ML_DOWN]
    assert bench.client.stats()["retried"] == 2


@simulated
async def test_a_stale_window_is_never_sent_after_its_deadline() -> None:
    bench = Bench(retry_attempts=10)
    bench.transport.has_peer = False
    bench.ask(timeout_s=0.05)
    await asyncio.sleep(0.06)

    bench.transport.has_peer = True
    await asyncio.sleep(5.0)

    assert bench.transport.requests(PredictRequest) == []
    assert bench.reasons() == [FailureReason.ML_DOWN]


@simulated
async def test_a_loop_that_stood_still_over_the_deadline_sends_no_stale_window() -> None:
    bench = Bench()
    bench.transport.has_peer = False
    bench.ask(timeout_s=0.1)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)

    bench.transport.has_peer = True
    loop._jumper.now_s += 0.2  # both the retry and the deadline are due now, the retry first
    await asyncio.sleep(0.01)

    assert bench.transport.requests(PredictRequest) == []
    assert bench.reasons() == [FailureReason.TIMEOUT]


@simulated
async def test_a_lost_process_ends_predictions_at_once_and_commands_wait_for_its_successor() -> None:
    bench = Bench(command_timeout_s=10.0)
    bench.ask()
    training = asyncio.ensure_future(bench.client.train("new rows"))
    await asyncio.sleep(0.001)
    bench.transport.has_peer = False

    bench.client.peer_lost("died: exit code -9")
    lost = list(bench.outcomes)
    await asyncio.sleep(3.0)
    bench.transport.has_peer = True
    await asyncio.sleep(1.0)
    first, again = bench.transport.requests(wire.TrainRequest)
    bench.transport.deliver(wire.TrainReply(version=PROTOCOL_VERSION, request_id=again.request_id, job_id="j", is_new=True))

    assert lost == [(FailureReason.ML_DOWN, "died: exit code -9")]
    assert first.request_id == again.request_id
    assert (await training).job_id == "j"


@simulated
async def test_three_failures_in_a_row_open_the_circuit_and_asking_costs_nothing() -> None:
    bench = Bench()
    for _ in range(3):
        bench.ask(timeout_s=0.1)
        await asyncio.sleep(0.2)
    sent = len(bench.transport.requests(PredictRequest))

    bench.ask()
    await asyncio.sleep(0.001)

    assert bench.client.circuit is Circuit.OPEN
    assert len(bench.transport.requests(PredictRequest)) == sent == 3
    assert bench.reasons()[-1] is FailureReason.ML_DOWN


@simulated
async def test_a_heartbeat_half_opens_the_circuit_and_one_probe_closes_it() -> None:
    bench = Bench()
    bench.client.peer_lost("died")
    await asyncio.sleep(0.6)

    bench.pong()
    bench.ask()
    bench.ask()  # not while the probe is under way
    await asyncio.sleep(0.001)
    bench.answer()
    bench.ask()

    assert bench.reasons() == [FailureReason.ML_DOWN, "OK"]
    assert bench.client.circuit is Circuit.CLOSED
    assert len(bench.transport.requests(PredictRequest)) == 2


@simulated
async def test_no_model_is_an_answer_and_keeps_the_circuit_closed() -> None:
    bench = Bench()
    for _ in range(5):
        bench.ask()
        bench.transport.deliver(error_to(bench.transport.last().request_id, ErrorCode.NO_MODEL))

    assert bench.client.circuit is Circuit.CLOSED
    assert bench.reasons() == [FailureReason.NO_MODEL] * 5


@simulated
async def test_heartbeats_tell_up_model_training_and_down() -> None:
    bench = Bench(heartbeat_interval_s=0.5, heartbeat_misses=4)
    bench.pong(model_version="")
    await asyncio.sleep(0.5)
    bench.pong(model_version="", is_training=True)
    await asyncio.sleep(0.5)
    bench.pong(model_version="v7")
    await asyncio.sleep(0.5)
    bench.pong(model_version="v7")

    await asyncio.sleep(10.0)

    assert [state for state, _ in bench.states] == ["UP", "NO_MODEL", "TRAINING", "MODEL", "DOWN"]
    assert ("MODEL", "v7") in bench.states
    assert bench.heard == 4
    assert not bench.client.is_up


@simulated
async def test_a_new_model_version_is_learned_from_a_prediction() -> None:
    bench = Bench()
    bench.pong(model_version="v1")
    bench.ask()

    bench.answer(model_version="v2")

    assert bench.states == [("UP", ""), ("MODEL", "v1"), ("MODEL", "v2")]
    assert bench.client.model_version == "v2"


@simulated
async def test_a_loop_that_stood_still_does_not_take_the_service_for_dead() -> None:
    bench = Bench()
    bench.pong()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)

    loop._jumper.now_s += 60.0
    await asyncio.sleep(0.6)
    bench.pong()

    assert bench.client.is_up


@simulated
async def test_more_requests_than_the_table_holds_are_refused() -> None:
    bench = Bench(max_in_flight=3)

    for _ in range(4):
        bench.ask()
    await asyncio.sleep(0.001)

    assert bench.reasons() == [FailureReason.OVERLOADED, FailureReason.OVERLOADED]  # a ping is in flight too


@simulated
async def test_feedback_is_acknowledged_by_id_and_cut_to_frames() -> None:
    bench = Bench()
    items = [
        FeedbackItem(
            timestamp="2024-01-15T10:30:15Z",
            prediction_flow_type="BUY",
            prediction_confidence=0.75,
            trade_executed=True,
            trade_outcome="PROFIT",
            market_data_snapshot={},
            dom_data_snapshot={},
            feedback_id=f"f-{n}",
            reason="x" * 900,
        )
        for n in range(2_000)
    ]
    acknowledged: list[str] = []

    bench.client.send_feedback(items, acknowledged.extend)
    requests = bench.transport.requests(wire.FeedbackRequest)
    for request in requests:
        ids = tuple(item.feedback_id for item in request.items)
        bench.transport.deliver(wire.FeedbackReply(version=PROTOCOL_VERSION, request_id=request.request_id, feedback_ids=ids))

    assert len(requests) > 1
    assert acknowledged == [item.feedback_id for item in items]


@simulated
async def test_verbs_raise_what_the_service_says_or_that_it_does_not_answer() -> None:
    bench = Bench(command_timeout_s=1.0)
    promoting = asyncio.ensure_future(bench.client.models("promote", "v9"))
    await asyncio.sleep(0.001)
    bench.transport.deliver(error_to(bench.transport.last(wire.ModelsRequest).request_id, ErrorCode.NOT_FOUND))
    asking = asyncio.ensure_future(bench.client.status())

    with pytest.raises(WireError) as refused:
        await promoting
    with pytest.raises(MLUnavailable):
        await asking

    assert refused.value.code is ErrorCode.NOT_FOUND


@simulated
async def test_closing_ends_every_request_and_later_ones_too() -> None:
    bench = Bench()
    bench.ask()

    await bench.client.close()
    bench.ask()
    await asyncio.sleep(0.001)

    assert bench.reasons() == [FailureReason.ML_DOWN, FailureReason.ML_DOWN]
    assert bench.transport.is_closed


@simulated
async def test_in_json_mode_the_mission_s_structures_go_over_the_wire() -> None:
    bench = Bench(use_binary=False)
    bench.ask()

    (frame,) = bench.transport.sent[-1]
    sent = msgspec.json.decode(frame)
    bench.transport.deliver(wire_json.encode_reply(reply_to(sent["request_id"], make_window())))

    assert {"order_events", "market_data", "order_book"} <= sent.keys()
    assert len(sent["order_book"]["bids"]) == LEVELS
    assert bench.reasons() == ["OK"]


def test_the_breaker_has_an_answer_for_every_sign_in_every_state() -> None:
    assert set(TABLE) == {(circuit, sign) for circuit in Circuit for sign in Sign}


def test_a_failed_probe_opens_the_circuit_again() -> None:
    breaker = Breaker()
    for sign in (Sign.GONE, Sign.ALIVE, Sign.ASKED, Sign.FAILED):
        breaker.note(sign)

    assert breaker.circuit is Circuit.OPEN
    assert breaker.times_opened == 2


class OneOutcome(RuleBasedStateMachine):
    """Whatever the transport does, each request ends exactly once, in time, and never with an answer about something else."""

    @initialize(use_binary=st.booleans(), attempts=st.integers(0, 3))
    def begin(self, use_binary: bool, attempts: int) -> None:
        self.loop = SimulatedLoop(seed=7)
        self.ends: dict[str, list[Any]] = {}
        self.deadlines: dict[str, float] = {}
        self.windows: dict[str, Window] = {}
        self.sequence = 10
        self.call(lambda: setattr(self, "bench", Bench(use_binary=use_binary, retry_attempts=attempts, max_in_flight=8)))

    def call(self, function: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return function()

        return self.loop.run_until_complete(run())

    def sent(self) -> list[tuple[str, bytes]]:
        found = []
        for frames in self.bench.transport.sent:
            if wire_json.is_json(frames[0]):
                request_id = msgspec.json.decode(frames[0])["request_id"]
            else:
                request_id = wire.decode_request(frames[0]).request_id
            found.append((request_id, frames[0]))
        return found

    def deliver(self, message: wire.Reply | bytes) -> None:
        if not isinstance(message, bytes):
            message = wire_json.encode_reply(message) if self.bench.client._settings.use_binary is False else wire.encode(message)
        self.call(lambda: self.bench.transport.deliver(message))

    @rule(timeout_s=st.sampled_from([0.01, 0.1, 1.0, 5.0]))
    def ask(self, timeout_s: float) -> None:
        self.sequence += 1
        window = make_window(self.sequence)
        ends: list[Any] = []

        def request() -> str:
            prediction_id = self.bench.client.request_prediction(
                window, strategy_id="s", timeout_s=timeout_s, on_outcome=lambda outcome, _: ends.append((outcome, self.loop.time()))
            )
            assert not ends
            return prediction_id

        prediction_id = self.call(request)
        assert prediction_id not in self.ends
        self.ends[prediction_id], self.windows[prediction_id] = ends, window
        self.deadlines[prediction_id] = self.loop.time() + timeout_s

    @rule(data=st.data(), kind=st.sampled_from(["right", "wrong book", "error", "pong"]))
    def answer_any(self, data: st.DataObject, kind: str) -> None:
        """Answer any request that was ever sent: in or out of order, again, late."""
        sent = self.sent()
        if not sent:
            return
        request_id, _ = data.draw(st.sampled_from(sent))
        window = self.windows.get(request_id.removeprefix("s1."), make_window())
        messages = {
            "right": reply_to(request_id, window),
            "wrong book": reply_to(request_id, window, as_of_sequence=1),
            "error": error_to(request_id, ErrorCode.EXPIRED),
            "pong": pong_to(request_id),
        }
        self.deliver(messages[kind])

    @rule()
    def answer_heartbeat(self) -> None:
        pings = [request_id for request_id, _ in self.sent() if "-ping-" in request_id]
        if pings:
            self.deliver(pong_to(pings[-1]))

    @rule(garbage=st.binary(max_size=40))
    def receive_garbage(self, garbage: bytes) -> None:
        self.deliver(garbage)

    @rule()
    def receive_foreign(self) -> None:
        self.deliver(reply_to("nobody-1", make_window()))

    @rule(seconds=st.sampled_from([0.001, 0.05, 0.5, 3.0]))
    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @rule(has_peer=st.booleans())
    def connect(self, has_peer: bool) -> None:
        self.bench.transport.has_peer = has_peer

    @rule()
    def lose_peer(self) -> None:
        self.call(lambda: self.bench.client.peer_lost("died"))

    @invariant()
    def at_most_one_outcome_and_in_time(self) -> None:
        for prediction_id, ends in getattr(self, "ends", {}).items():
            assert len(ends) <= 1
            for outcome, when_s in ends:
                assert when_s <= self.deadlines[prediction_id] + 1e-6
                if isinstance(outcome, PredictReply):
                    assert outcome.as_of_sequence == self.windows[prediction_id].as_of_sequence

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.loop.run_until_complete(asyncio.sleep(6.0))
        assert all(len(ends) == 1 for ends in self.ends.values())
        assert len(self.bench.client._table or ()) <= self.bench.client._settings.heartbeat_misses + 1
        self.loop.run_until_complete(self.bench.client.close())
        self.loop.close()


OneOutcome.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestOneOutcome = OneOutcome.TestCase


@simulated
async def test_a_training_that_leaves_the_model_as_it_was_is_told_to_be_over() -> None:
    bench = Bench(heartbeat_interval_s=0.5, heartbeat_misses=4)
    bench.pong(model_version="v7")
    for is_training in (True, False):
        await asyncio.sleep(0.5)
        bench.pong(model_version="v7", is_training=is_training)

    assert [state for state, _ in bench.states] == ["UP", "MODEL", "TRAINING", "MODEL"]
