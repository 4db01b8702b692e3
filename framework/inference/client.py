"""`MLClient`: ask the ML process without waiting. Exactly one outcome per request: an answer, an error or a timeout.

Deadlines are process time (the loop's), for the answer comes from another process. A late, repeated or foreign answer is
counted and dropped. While the process is away the circuit is open, and asking costs microseconds.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from framework import wire, wire_json
from framework.config import MLServiceConfig
from framework.errors import ErrorCode, TidebookError, WireError
from framework.inference.breaker import Breaker, Circuit, Sign
from framework.inference.requests import RequestTable, Result, quantile
from framework.inference.verdict import SERVICE_ANSWERED, judge
from framework.messages import FailureReason
from framework.window import Window
from framework.wire import PROTOCOL_VERSION, FeedbackItem, PredictReply, Reply, Request

log = logging.getLogger("MLClient")

Outcome = PredictReply | FailureReason
OnOutcome = Callable[[Outcome, str], None]
Answer = TypeVar("Answer", wire.TrainReply, wire.StatusReply, wire.ModelsReply)

_FEEDBACK_BYTES: Final = wire.MAX_FRAME_BYTES // 2


class Transport(Protocol):
    """A connection to the ML process that never waits."""

    def start(self, on_frames: Callable[[list[bytes]], None]) -> None:
        """Call `on_frames` with every message from now on."""

    def send(self, frames: list[bytes]) -> bool:
        """Send one message; False if it would block or there is no peer."""

    async def close(self) -> None:
        """Close the connection."""


class MLUnavailable(TidebookError):
    """The ML process did not answer: it is down, or took longer than the deadline."""


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the client asks. Times in s of process time."""

    use_binary: bool = True
    retry_attempts: int = 3
    heartbeat_interval_s: float = 0.5
    heartbeat_misses: int = 4
    command_timeout_s: float = 5.0
    max_in_flight: int = 1_024
    failures_to_open: int = 3

    @staticmethod
    def of(config: MLServiceConfig) -> ClientSettings:
        """Take the keys from `config/main.yaml`."""
        return ClientSettings(
            use_binary=config.use_binary,
            retry_attempts=config.retry_attempts,
            heartbeat_interval_s=config.heartbeat_interval_s,
            heartbeat_misses=config.heartbeat_misses,
        )


class MLClient:
    """Requests to one ML process over one transport, on the loop that called `start`. Only the verbs and `close` suspend.

    `run_id` begins every prediction id (`<run_id>-<n>`). `session` goes before the ids on the wire and must differ between
    any two processes that talk to one service, for it answers a repeated id once. `on_heard` is called for every sound
    message of the service; `on_state_change(state, detail)` with UP, DOWN, MODEL (and its version), NO_MODEL, TRAINING.
    `timer` measures round trips and rules nothing.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        settings: ClientSettings,
        run_id: str,
        session: str = "",
        on_heard: Callable[[], None] = lambda: None,
        on_state_change: Callable[[str, str], None] = lambda _state, _detail: None,
    ) -> None:
        self.timer: Callable[[], float] = time.perf_counter
        self.on_heard = on_heard
        self.on_state_change = on_state_change
        self.is_up = False
        self.model_version = ""
        self._transport = transport
        self._settings = settings
        self._run_id = run_id
        self._prefix = f"{session}." if session else ""
        self._breaker = Breaker(failures_to_open=settings.failures_to_open)
        self._counts: Counter[str] = Counter()
        self._prediction_numbers = itertools.count(1)
        self._command_numbers = itertools.count(1)
        self._silent_beats = 0
        self._has_said_down = False
        self._model_state = ("", "")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._table: RequestTable | None = None
        self._heartbeat: asyncio.TimerHandle | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, and begin to ask for signs of life."""
        self._loop = asyncio.get_running_loop()
        self._table = RequestTable(self._loop, self._transport.send, self._counts, self.timer)
        self._transport.start(self._on_frames)
        self._beat()

    async def close(self) -> None:
        """End every request (ML_DOWN) and close the transport. Later requests end with ML_DOWN too."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._breaker.note(Sign.GONE)
        table, self._table = self._table, None
        if table is not None:
            table.end_all("the client was closed")
        await self._transport.close()

    def peer_lost(self, detail: str) -> None:
        """Note that the process is gone: predictions end now, commands wait for its successor until their deadline."""
        self._set_down(detail)
        if self._table is not None:
            self._table.lose_peer(detail)

    @property
    def circuit(self) -> Circuit:
        """Return the state of the circuit breaker."""
        return self._breaker.circuit

    def stats(self) -> dict[str, float]:
        """Return sent, received, late, duplicate, unknown, bad_frames, retried, failed by reason, and round trips in us."""
        trips = self._table.round_trips_s if self._table is not None else ()
        return {
            **dict.fromkeys(("sent", "received", "late", "duplicate", "unknown", "bad_frames", "retried"), 0),
            **self._counts,
            "in_flight": len(self._table or ()),
            "circuit_opened": self._breaker.times_opened,
            "round_trip_p50_us": quantile(trips, 0.5) * 1e6,
            "round_trip_p99_us": quantile(trips, 0.99) * 1e6,
        }

    # --- predictions -------------------------------------------------------------------------------------------------

    def request_prediction(self, window: Window, *, strategy_id: str, timeout_s: float, on_outcome: OnOutcome) -> str:  # noqa: ARG002
        """Send `window` and return the prediction id. `on_outcome(outcome, detail)` is called exactly once, after this call.

        The outcome is a reply that came before the deadline and is about this window, or the reason why there is none.
        """
        prediction_id = f"{self._run_id}-{next(self._prediction_numbers)}"
        table, refusal = self._table, self._refusal()
        if table is None or refusal is not None:
            reason, detail = refusal or (FailureReason.ML_DOWN, "the client is not running")
            asyncio.get_running_loop().call_soon(self._fail, on_outcome, reason, detail)
            return prediction_id
        self._breaker.note(Sign.ASKED)
        request_id = self._prefix + prediction_id
        table.open(
            request_id,
            lambda left_s: self._predict_frames(window, request_id, min(left_s * 1e3, wire.MAX_TIMEOUT_MS)),
            lambda result, detail: self._end_prediction(window, on_outcome, result, detail),
            timeout_s=timeout_s,
            attempts=self._settings.retry_attempts,
        )
        return prediction_id

    def _refusal(self) -> tuple[FailureReason, str] | None:
        if not self._breaker.lets_through:
            return FailureReason.ML_DOWN, "the ML process does not answer"
        if self._table is not None and len(self._table) >= self._settings.max_in_flight:
            return FailureReason.OVERLOADED, f"{len(self._table)} requests are in flight"
        return None

    def _predict_frames(self, window: Window, request_id: str, timeout_ms: float) -> list[bytes]:
        if not self._settings.use_binary:
            return [wire_json.encode_predict(window, request_id=request_id, timeout_ms=timeout_ms)]
        return [wire.encode(wire.predict_request(window, request_id=request_id, timeout_ms=timeout_ms)), wire.encode_window(window)]

    def _end_prediction(self, window: Window, on_outcome: OnOutcome, result: Result, detail: str) -> None:
        outcome, wrong = judge(result, window)
        if isinstance(outcome, FailureReason):
            self._breaker.note(Sign.ANSWERED if outcome in SERVICE_ANSWERED else Sign.FAILED)
            self._fail(on_outcome, outcome, detail or wrong)
            return
        self._breaker.note(Sign.ANSWERED)
        self._note_served(outcome.model_version)
        on_outcome(outcome, "")

    def _fail(self, on_outcome: OnOutcome, reason: FailureReason, detail: str) -> None:
        self._counts[f"failed_{reason.lower()}"] += 1
        on_outcome(reason, detail)

    # --- feedback and the operator's verbs ----------------------------------------------------------------------------

    def send_feedback(self, items: Sequence[FeedbackItem], on_ack: Callable[[tuple[str, ...]], None]) -> None:
        """Send items in as many messages as they need.

        `on_ack` is called later, once per message: with the ids that are stored, or with none when that message came to nothing.
        """

        def on_end(result: Result, detail: str) -> None:
            if isinstance(result, wire.FeedbackReply):
                on_ack(result.feedback_ids)
            else:
                self._counts["feedback_failed"] += 1
                log.warning("Feedback is not stored yet: %s", detail or result)
                on_ack(())

        for batch in _batches(items):
            self._command(functools.partial(_feedback_request, batch), on_end)

    async def train(self, reason: str, refit: str = "") -> wire.TrainReply:
        """Ask for a training (`refit` full, warm or "": as due). Raises `MLUnavailable`, or `WireError` with the service's code."""
        return await self._ask(
            wire.TrainReply,
            lambda request_id: wire.TrainRequest(version=PROTOCOL_VERSION, request_id=request_id, reason=reason[:1_000], refit=refit),
        )

    async def status(self) -> dict[str, Any]:
        """Return the service's status document. Raises as `train`."""
        reply = await self._ask(wire.StatusReply, lambda request_id: wire.StatusRequest(version=PROTOCOL_VERSION, request_id=request_id))
        return reply.status

    async def models(self, action: str = "list", version_id: str = "", *, other_id: str = "", reason: str = "") -> wire.ModelsReply:
        """Look at versions or decide about them (`wire.ModelsRequest`). Raises as `train`."""

        def build(request_id: str) -> wire.ModelsRequest:
            return wire.ModelsRequest(
                version=PROTOCOL_VERSION,
                request_id=request_id,
                action=action,
                version_id=version_id,
                other_id=other_id,
                reason=reason[:1_000],
            )

        return await self._ask(wire.ModelsReply, build)

    async def _ask(self, kind: type[Answer], build: Callable[[str], Request]) -> Answer:
        answer: asyncio.Future[tuple[Result, str]] = asyncio.get_running_loop().create_future()

        def on_end(result: Result, detail: str) -> None:
            if not answer.cancelled():
                answer.set_result((result, detail))

        self._command(build, on_end)
        result, detail = await answer
        if isinstance(result, kind):
            return result
        if isinstance(result, wire.ErrorReply):
            code = ErrorCode(result.code) if result.code in ErrorCode.__members__ else ErrorCode.INTERNAL
            raise WireError(code, result.message)
        raise MLUnavailable(f"the ML process did not answer ({detail or type(result).__name__}); `status` says how it is")

    def _command(self, build: Callable[[str], Request], on_end: Callable[[Result, str], None]) -> None:
        if self._table is None:
            asyncio.get_running_loop().call_soon(on_end, FailureReason.ML_DOWN, "the client is not running")
            return
        request_id = f"{self._prefix}{self._run_id}-command-{next(self._command_numbers)}"
        frame = self._frame(build(request_id))
        timeout_s = self._settings.command_timeout_s
        self._table.open(request_id, lambda _: [frame], on_end, timeout_s=timeout_s, attempts=math.inf, survives=True)

    def _frame(self, request: Request) -> bytes:
        return wire.encode(request) if self._settings.use_binary else wire_json.encode_request(request)

    # --- signs of life -----------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Ask for a sign of life; too many beats without one and the process counts as away.

        Beats are counted, not seconds: a loop that stood still for a while has not waited.
        """
        assert self._loop is not None
        assert self._table is not None
        if self._silent_beats >= self._settings.heartbeat_misses:
            self._set_down(f"no sign of life for {self._silent_beats * self._settings.heartbeat_interval_s:g} s")
        self._silent_beats += 1
        request_id = f"{self._prefix}{self._run_id}-ping-{next(self._command_numbers)}"
        frame = self._frame(wire.Ping(version=PROTOCOL_VERSION, request_id=request_id))
        patience_s = self._settings.heartbeat_interval_s * self._settings.heartbeat_misses
        self._table.open(request_id, lambda _: [frame], self._on_pong, timeout_s=patience_s, attempts=0)
        self._heartbeat = self._loop.call_later(self._settings.heartbeat_interval_s, self._beat)

    def _on_pong(self, result: Result, _detail: str) -> None:
        if isinstance(result, wire.Pong):
            self._breaker.note(Sign.ALIVE)
            serving = "MODEL" if result.model_version else "NO_MODEL"
            self._note_model("TRAINING" if result.is_training else serving, result.model_version)

    def _on_frames(self, frames: list[bytes]) -> None:
        try:
            reply: Reply = wire_json.decode_reply(frames[0]) if wire_json.is_json(frames[0]) else wire.decode_reply(frames[0])
        except WireError as exc:
            self._counts["bad_frames"] += 1
            log.debug("A message of the ML process cannot be read: %s", exc)
            return
        self._silent_beats = 0
        self.on_heard()
        if not self.is_up:
            self._set_up()
        if self._table is not None:
            self._table.answer(reply)

    def _set_up(self) -> None:
        self.is_up, self._has_said_down = True, False
        self._model_state = ("", "")
        log.info("ML service answers")
        self.on_state_change("UP", "")

    def _set_down(self, detail: str) -> None:
        self._breaker.note(Sign.GONE)
        was_up, self.is_up = self.is_up, False
        if self._has_said_down:
            return
        self._has_said_down = True
        log.warning("%s: %s", "ML service is away" if was_up else "Failed to initialize ML service client", detail)
        self.on_state_change("DOWN", detail)

    def _note_served(self, version: str) -> None:
        """Note the version of an answer; it says nothing of a training, whose end a pong tells."""
        if self._model_state != ("TRAINING", version):
            self._note_model("MODEL", version)

    def _note_model(self, state: str, version: str) -> None:
        if (state, version) != self._model_state:
            self._model_state = (state, version)
            self.model_version = version
            self.on_state_change(state, version)


def _feedback_request(batch: tuple[FeedbackItem, ...], request_id: str) -> Request:
    return wire.FeedbackRequest(version=PROTOCOL_VERSION, request_id=request_id, items=batch)


def _batches(items: Sequence[FeedbackItem]) -> Iterator[tuple[FeedbackItem, ...]]:
    """Cut items into batches that fit into a frame in either encoding."""
    batch: list[FeedbackItem] = []
    size = 0
    for item in items:
        item_bytes = len(msgspec.json.encode(item))
        if batch and (size + item_bytes > _FEEDBACK_BYTES or len(batch) >= wire.MAX_FEEDBACK_ITEMS):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(item)
        size += item_bytes
    if batch:
        yield tuple(batch)
