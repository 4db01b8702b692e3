"""`MLService` without sockets: a request's frames in, the answer's frames out.

Whatever comes in ends as an answer or as a counted drop, never as an exception. What must wait for a disk is handed
back as `Slow`, so that no prediction waits behind it; the model is one reference, swapped between two requests.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from framework import wire, wire_json
from framework.errors import ErrorCode, TidebookError, WireError
from framework.messages import HorizonPrediction
from framework.wire import PROTOCOL_VERSION
from ml_actor import model_verbs
from ml_actor.answered import Answered, Claim
from ml_actor.codecs import Call, Codec, codec_of
from ml_actor.ports import FeedbackSink, Learning, ModelStore, Predictor, Scored, Trainer
from ml_actor.registry import UnknownVersion
from ml_actor.training_job import REFITS

log = logging.getLogger("MLService")

NO_MODEL: Final = "no model yet; strategies use their default behaviour"
MAX_FRAMES: Final = 8
MAX_HEADER_READ: Final = 4_096
MAX_VERSIONS_LISTED: Final = 100
_SUM_TOLERANCE: Final = 1e-6
_ANSWERED_ONCE: Final = (wire.PredictRequest, wire.TrainRequest, wire.FeedbackRequest, wire.ModelsRequest)


@dataclass(frozen=True, slots=True)
class Slow:
    """An answer that needs a disk: call `run` in a thread (it never raises), then `finish` with its result on the loop."""

    run: Callable[[], Any]
    finish: Callable[[Any], list[bytes]]


@dataclass(frozen=True, slots=True)
class _Later:
    run: Callable[[], Any]
    reply: Callable[[Any], wire.Reply]


class MLService:
    """Answer predict, train, feedback, status, models and ping, in both encodings.

    `now_s` and `received_s` of `handle` are process time; `wall_ns` stamps feedback; `timer` measures computing, s.
    Owned by one event loop; only what `Slow.run` does happens elsewhere.
    """

    def __init__(
        self,
        models: ModelStore,
        trainer: Trainer,
        feedback: FeedbackSink,
        *,
        wall_ns: Callable[[], int],
        timer: Callable[[], float],
        learning: Learning | None = None,
    ) -> None:
        self.started_s = 0.0
        self.rim_stats: Callable[[], dict[str, Any]] = dict
        self._models = models
        self._trainer = trainer
        self._feedback = feedback
        self._wall_ns = wall_ns
        self._timer = timer
        self._learning = learning
        self._predictor: Predictor | None = None
        self._answered = Answered()
        self._counts: Counter[str] = Counter()
        self._compute_us: deque[float] = deque(maxlen=1_000)
        self._handlers: dict[type, Callable[[Any, float], wire.Reply | _Later]] = {
            wire.PredictRequest: self._predict,
            wire.Ping: self._ping,
            wire.TrainRequest: self._train,
            wire.FeedbackRequest: self._store_feedback,
            wire.StatusRequest: self._status,
            wire.ModelsRequest: self._list_models,
        }

    # --- the model ---------------------------------------------------------------------------------------------------

    @property
    def model_version(self) -> str:
        """Return the version that serves, or ""."""
        return self._predictor.version if self._predictor else ""

    def use(self, predictor: Predictor | None) -> None:
        """Serve from `predictor` from the next request on."""
        before = self.model_version
        self._predictor = self._learning.watch(predictor) if self._learning and predictor else predictor
        if self.model_version != before:
            log.info("Model %s serves (before: %s)", self.model_version or "none", before or "none")
            self._counts["model_changes"] += 1

    # --- requests ----------------------------------------------------------------------------------------------------

    def handle(self, frames: Sequence[bytes], now_s: float, received_s: float | None = None) -> list[bytes] | Slow | None:
        """Answer one message (frames behind the delimiter). None: dropped and counted, or answered by one that runs.

        `received_s` is when it came in: a request that waited beyond its deadline is not computed.
        """
        self._counts["requests"] += 1
        if not 1 <= len(frames) <= MAX_FRAMES or not frames[0]:
            self._counts["dropped"] += 1
            return None
        codec = codec_of(frames)
        try:
            call = codec.decode(frames)
        except WireError as exc:
            return [codec.encode(self._refusal(codec.request_id(frames), exc))]
        return self._answer_once(call, codec, now_s, now_s - received_s if received_s is not None else 0.0)

    def settle(self) -> None:
        """Do what can wait until an answer is on its way. To be called after each `handle`."""
        self._answered.settle()
        if self._learning is not None:
            self._learning.settle()

    def refuse_overload(self, frames: Sequence[bytes]) -> list[bytes] | None:
        """Answer a message that there is no room for with OVERLOADED; a long header is not read for its id."""
        if not 1 <= len(frames) <= MAX_FRAMES or not frames[0]:
            self._counts["dropped"] += 1
            return None
        codec = codec_of(frames)
        request_id = codec.request_id(frames) if len(frames[0]) <= MAX_HEADER_READ else ""
        return [codec.encode(self._refusal(request_id, WireError(ErrorCode.OVERLOADED, "too many requests wait; ask less often")))]

    def _answer_once(self, call: Call, codec: Codec, now_s: float, waited_s: float) -> list[bytes] | Slow | None:
        request_id = call.request.request_id
        if not request_id or not isinstance(call.request, _ANSWERED_ONCE):
            return self._answer(call, codec, now_s, waited_s)
        claim = self._answered.claim(request_id, call.content, now_s)
        if claim is Claim.NEW:
            return self._answer(call, codec, now_s, waited_s)
        self._counts["repeated"] += 1
        if claim is Claim.ANSWERED:
            return [self._answered.frame(request_id)]
        if claim is Claim.RUNNING:
            return None
        conflict = WireError(ErrorCode.ID_CONFLICT, "this request id came with another request before; ids must be unique")
        return [codec.encode(self._refusal(request_id, conflict))]

    def _answer(self, call: Call, codec: Codec, now_s: float, waited_s: float) -> list[bytes] | Slow:
        request = call.request
        reply: wire.Reply | _Later
        try:
            if isinstance(request, wire.PredictRequest):
                _check_deadline(request, waited_s)
            reply = self._handlers[type(request)](call, now_s)
        # A fault in a model or in our own code must cost one answer, not the service.
        except Exception as exc:  # noqa: BLE001
            reply = self._refusal(request.request_id, self._to_wire_error(exc))
        if isinstance(reply, _Later):
            return self._slow(reply, request, codec)
        return self._encoded(reply, request, codec)

    def _encoded(self, reply: wire.Reply, request: wire.Request, codec: Codec) -> list[bytes]:
        frame = codec.encode(reply)
        if isinstance(request, _ANSWERED_ONCE):
            self._answered.store(request.request_id, frame)
        return [frame]

    def _slow(self, later: _Later, request: wire.Request, codec: Codec) -> Slow:
        def run() -> Any:
            try:
                return later.run()
            # As in `_answer`; the thread must hand something back.
            except Exception as exc:  # noqa: BLE001
                return self._to_wire_error(exc)

        def finish(result: Any) -> list[bytes]:
            reply = self._refusal(request.request_id, result) if isinstance(result, WireError) else later.reply(result)
            return self._encoded(reply, request, codec)

        return Slow(run, finish)

    def _refusal(self, request_id: str, error: WireError) -> wire.ErrorReply:
        self._counts[f"refused_{error.code.lower()}"] += 1
        return wire.ErrorReply(version=PROTOCOL_VERSION, request_id=request_id, code=error.code, message=error.message[:1_000])

    def _to_wire_error(self, exc: Exception) -> WireError:
        if isinstance(exc, WireError):
            return exc
        if isinstance(exc, UnknownVersion):
            return WireError(ErrorCode.NOT_FOUND, str(exc))
        if isinstance(exc, TidebookError):
            log.error("%s", exc)
            return WireError(ErrorCode.REFUSED, str(exc))
        log.error("fault while answering", exc_info=exc)
        return WireError(ErrorCode.INTERNAL, "a fault in the service; its log says more")

    # --- one handler per request type --------------------------------------------------------------------------------

    def _predict(self, call: Call, now_s: float) -> wire.Reply:  # noqa: ARG002 (one signature for all)
        request, window, predictor = call.request, call.to_window(), self._predictor
        if predictor is None:
            raise WireError(ErrorCode.NO_MODEL, NO_MODEL)
        start_s = self._timer()
        scores = predictor.predict(window)
        compute_us = (self._timer() - start_s) * 1e6
        if not _is_sound(scores):
            self._counts["bad_predictions"] += 1
            log.error("Model %s predicted %s for %s: not probabilities", predictor.version, scores, window.instrument_id)
            raise WireError(ErrorCode.INTERNAL, "the model's numbers are no probabilities; its log says more")
        self._counts["predictions"] += 1
        self._compute_us.append(compute_us)
        return wire.PredictReply(
            version=PROTOCOL_VERSION,
            request_id=request.request_id,
            flow_type=scores.flow_type,
            confidence=scores.confidence,
            p_down=scores.p_down,
            p_flat=scores.p_flat,
            p_up=scores.p_up,
            model_version=predictor.version,
            is_calibrated=predictor.is_calibrated,
            horizon_rows=predictor.horizon_rows,
            as_of_ns=window.as_of_ns,
            as_of_sequence=window.as_of_sequence,
            regime=scores.regime,
            shock_score=scores.shock_score,
            compute_us=compute_us,
            instrument_id=window.instrument_id,
            wants_training=self._learning.wish[:1_000] if self._learning else "",
            horizons=scores.horizons,
        )

    def _ping(self, call: Call, now_s: float) -> wire.Reply:  # noqa: ARG002
        return wire.Pong(
            version=PROTOCOL_VERSION,
            request_id=call.request.request_id,
            state=self._state(),
            model_version=self.model_version,
            is_training=self._trainer.is_running,
            predictions=self._counts["predictions"],
            trainings=self._counts["trainings"],
        )

    def _state(self) -> str:
        if self._trainer.is_running:
            return "TRAINING"
        return "SERVING" if self._predictor else "NO_MODEL"

    def _train(self, call: Call, now_s: float) -> wire.Reply:  # noqa: ARG002
        request: wire.TrainRequest = call.request  # type: ignore[assignment]
        if request.refit not in ("", *REFITS):
            raise WireError(ErrorCode.BAD_FIELD, f"refit must be {' or '.join(REFITS)} or empty, got {request.refit!r}")
        job_id, is_new = self._trainer.start(request.reason, request.refit)
        self._counts["trainings"] += is_new
        return wire.TrainReply(version=PROTOCOL_VERSION, request_id=request.request_id, job_id=job_id, is_new=is_new)

    def _store_feedback(self, call: Call, now_s: float) -> _Later:  # noqa: ARG002
        request: wire.FeedbackRequest = call.request  # type: ignore[assignment]
        wire.check_feedback(request.items)
        items = [wire_json.with_id(item) for item in request.items]
        received_ns = self._wall_ns()

        def reply(new: int) -> wire.Reply:
            self._counts["feedback_new"] += new
            self._counts["feedback_again"] += len(items) - new
            ids = tuple(item.feedback_id for item in items)
            return wire.FeedbackReply(version=PROTOCOL_VERSION, request_id=request.request_id, feedback_ids=ids)

        return _Later(lambda: self._feedback.add(items, received_ns=received_ns), reply)

    def _status(self, call: Call, now_s: float) -> wire.Reply:
        return wire.StatusReply(version=PROTOCOL_VERSION, request_id=call.request.request_id, status=self.status(now_s))

    def status(self, now_s: float) -> dict[str, Any]:
        """Return the status document: state, model, counters, computing time, training, feedback."""
        predictor = self._predictor
        p50, p99 = np.percentile(self._compute_us, (50, 99)) if self._compute_us else (0.0, 0.0)
        return {
            "state": self._state(),
            "model_version": self.model_version,
            "is_calibrated": predictor is not None and predictor.is_calibrated,
            "window_rows": predictor.window_rows if predictor else 0,
            "horizon_rows": predictor.horizon_rows if predictor else 0,
            "uptime_s": round(now_s - self.started_s, 3),
            "compute_us": {"p50": round(float(p50), 1), "p99": round(float(p99), 1)},
            "counts": dict(sorted(self._counts.items())),
            "training": self._trainer.status(),
            "learning": self._learning.status() if self._learning else None,
            "feedback_stored": self._feedback.count,
            "rim": self.rim_stats(),
        }

    def _list_models(self, call: Call, now_s: float) -> _Later:  # noqa: ARG002
        request: wire.ModelsRequest = call.request  # type: ignore[assignment]

        def run() -> tuple[Predictor | None, str, tuple[dict[str, Any], ...], dict[str, Any]]:
            facts = model_verbs.carry_out(self._models, request)
            predictor = self._models.load_champion() if request.action in model_verbs.SWAPS else None
            return predictor, self._models.champion() or "", self._models.versions(), facts

        def reply(result: Any) -> wire.Reply:
            predictor, champion, versions, facts = result
            if predictor is not None:
                self.use(predictor)
            if self._learning is not None:
                facts["learning"] = self._learning.status()
            return _fitting(
                wire.ModelsReply(version=PROTOCOL_VERSION, request_id=request.request_id, champion=champion, versions=versions, facts=facts)
            )

        return _Later(run, reply)


def _check_deadline(request: wire.PredictRequest, waited_s: float) -> None:
    wire.check_timeout(request.timeout_ms)
    if waited_s * 1e3 >= request.timeout_ms:
        raise WireError(ErrorCode.EXPIRED, f"waited {waited_s * 1e3:.0f} ms, had {request.timeout_ms:.0f} ms")


def _is_sound(scores: Scored) -> bool:
    return math.isfinite(scores.shock_score) and _is_distribution(scores) and all(map(_is_distribution, scores.horizons))


def _is_distribution(said: Scored | HorizonPrediction) -> bool:
    down, flat, up = said.p_down, said.p_flat, said.p_up
    return (
        down >= 0
        and flat >= 0
        and up >= 0
        and abs(down + flat + up - 1) <= _SUM_TOLERANCE  # also: none of them is NaN, none above 1
        and 0 <= said.confidence <= 1
    )


def _fitting(reply: wire.ModelsReply) -> wire.ModelsReply:
    """Return the reply with as many of the newest versions as a frame holds."""
    count = MAX_VERSIONS_LISTED
    while True:
        cut = msgspec.structs.replace(reply, versions=reply.versions[:count])
        # Half a frame, because the JSON form is the longer one.
        if count <= 1 or len(wire.encode(cut)) <= wire.MAX_FRAME_BYTES // 2:
            return cut
        count //= 2
