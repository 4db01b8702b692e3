"""`OrderFlowAnalyzer`: the client side of predictions, one per strategy.

It checks whether a prediction is due, cuts the window, asks the ML process and tells the strategy how that ended. It
never waits: exactly one `PredictionReceived` or `PredictionFailed` follows each request, as a message. In lockstep (a
replay at full speed) that message is delivered at request time + configured latency of market time, whatever the
machine does; else when it arrives.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import msgspec

from framework.clock import Clock
from framework.config import MainConfig, StrategyFile
from framework.inference.decision import Cell, Cooldown, DecisionInputs, DecisionSettings, cell_of
from framework.inference.samples import SAMPLES
from framework.kernel.bus import EventBus
from framework.kernel.pacer import Pacer
from framework.messages import FailureReason, Prediction, PredictionFailed, PredictionReceived, TrainingWanted
from framework.model import NS_PER_MS, NS_PER_S, FlowType
from framework.window import DomView, Window
from framework.wire import PredictReply

Outcome = PredictReply | FailureReason
DeliverAt = Callable[[int, Callable[[], None]], Callable[[], None]]
"""`deliver_at(when_ns, deliver)` calls `deliver` once at market time `when_ns`, and lets market time reach it only after
the returned function was called (when the answer is here)."""


class PredictionClient(Protocol):
    """What the analyzer needs of an `MLClient`."""

    def request_prediction(self, window: Window, *, strategy_id: str, timeout_s: float, on_outcome: Callable[[Outcome, str], None]) -> str:
        """Send the window and return the prediction id. `on_outcome` is called exactly once, after this call."""


class AnalyzerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a prediction is due, how much it sees and how long it may take."""

    cooldown_s: float = 30.0
    min_dom_samples: int = 10
    window_rows: int = 100
    timeout_s: float = 5.0
    lockstep_latency_ms: float = 5.0

    @staticmethod
    def of(file: StrategyFile, main: MainConfig) -> AnalyzerSettings:
        """Take the keys from a strategy's file, and what it leaves open from `main.yaml`."""
        override = file.ml_service.timeout if file.ml_service else None
        return AnalyzerSettings(
            cooldown_s=file.prediction_cooldown_seconds,
            min_dom_samples=file.min_dom_samples,
            window_rows=min(main.training.window_rows, file.max_dom_history),
            timeout_s=main.ml_service.timeout if override is None else override,
            lockstep_latency_ms=main.replay.prediction_latency_ms,
        )


class Requested(msgspec.Struct, frozen=True):
    """A prediction was asked for."""

    prediction_id: str


class NotDue(msgspec.Struct, frozen=True):
    """No prediction was asked for; `reason` is the cell of the decision table that waits (or `ML_DOWN` without any ML)."""

    reason: Cell


class _InFlight:
    """One request and what became of it."""

    __slots__ = ("arrived", "is_delivered", "is_due", "outcome", "prediction_id", "request_ns", "total_rows", "window")

    def __init__(self, window: Window, request_ns: int, total_rows: int) -> None:
        self.window = window
        self.request_ns = request_ns
        self.total_rows = total_rows
        self.prediction_id = ""
        self.outcome: tuple[Outcome, str] | None = None
        self.arrived: Callable[[], None] | None = None
        self.is_due = False
        self.is_delivered = False


class OrderFlowAnalyzer:
    """Ask for predictions on behalf of one strategy. Lives on the event loop; no method suspends.

    `deliver_at` makes it lockstep; without it, `catch_up` runs before each delivery, so that market time is up to date. In lockstep
    `draw_latency_ns` gives the latency of each request; without it, that is `lockstep_latency_ms`.
    """

    def __init__(
        self,
        *,
        strategy_id: str,
        instrument_id: str,
        settings: AnalyzerSettings,
        client: PredictionClient,
        bus: EventBus,
        clock: Clock,
        log: logging.Logger,
        deliver_at: DeliverAt | None = None,
        catch_up: Callable[[], None] | None = None,
        draw_latency_ns: Callable[[], int] | None = None,
    ) -> None:
        self.is_book_sound = True
        self._strategy_id = strategy_id
        self._instrument_id = instrument_id
        self._settings = settings
        self._decision_settings = DecisionSettings(min_dom_samples=settings.min_dom_samples)
        self._cooldown_ns = round(settings.cooldown_s * NS_PER_S)
        self._client = client
        self._bus = bus
        self._clock = clock
        self._log = log
        self._deliver_at = deliver_at
        self._catch_up = catch_up
        self._draw_latency_ns = draw_latency_ns or (lambda: round(settings.lockstep_latency_ms * NS_PER_MS))
        self._in_flight: _InFlight | None = None
        self._ready_ns: int | None = None
        self._requested = 0
        self._received = 0
        self._late_dropped = 0
        self._failed: Counter[FailureReason] = Counter()
        self._failing_with: FailureReason | None = None

    def stats(self) -> dict[str, int]:
        """Return the counters: requested, received, late_dropped, and failed by reason."""
        failed = {f"failed_{reason.lower()}": count for reason, count in sorted(self._failed.items())}
        return {"requested": self._requested, "received": self._received, "late_dropped": self._late_dropped, **failed}

    def cooldown(self, now_ns: int) -> Cooldown:
        """Return whether a request is in flight, or the cooldown since the last request still runs."""
        if self._in_flight is not None:
            return Cooldown.IN_FLIGHT
        return Cooldown.COOLING if self._ready_ns is not None and now_ns < self._ready_ns else Cooldown.READY

    def has_sound_book(self, dom: DomView) -> bool:
        """Return whether the book is valid and has both sides."""
        return self.is_book_sound and dom.mid_ticks() is not None

    def request(self, dom: DomView, now_ns: int) -> Requested | NotDue:
        """Ask for a prediction on the last rows of `dom` if one is due. Copies the window; never raises for a missing ML process."""
        cell = self._cell(dom, now_ns)
        if cell is not Cell.PREDICTION_DUE:
            return NotDue(cell)
        self._log.info("Requesting ML prediction for trading decision...")
        slot = _InFlight(dom.window(self._settings.window_rows), now_ns, dom.total_rows)
        slot.prediction_id = self._client.request_prediction(
            slot.window,
            strategy_id=self._strategy_id,
            timeout_s=self._settings.timeout_s,
            on_outcome=functools.partial(self._on_outcome, slot),
        )
        self._in_flight = slot
        self._ready_ns = now_ns + self._cooldown_ns
        self._requested += 1
        if self._deliver_at is not None:
            # After the request: were it to raise, market time would be held for an answer that nobody owes.
            slot.arrived = self._deliver_at(now_ns + self._draw_latency_ns(), functools.partial(self._come_due, slot))
        return Requested(slot.prediction_id)

    def stop(self) -> None:
        """Forget the request in flight: its outcome will be dropped and counted."""
        self._in_flight = None

    def _cell(self, dom: DomView, now_ns: int) -> Cell:
        return cell_of(
            DecisionInputs(
                position_lots=0,
                has_open_orders=False,
                is_book_sound=self.has_sound_book(dom),
                cooldown=self.cooldown(now_ns),
                rows=dom.row_count,
                total_rows=dom.total_rows,
                now_ns=now_ns,
                outcome=None,
                settings=self._decision_settings,
            )
        )

    def _on_outcome(self, slot: _InFlight, outcome: Outcome, detail: str) -> None:
        if slot.outcome is not None:
            self._late_dropped += 1
            return
        slot.outcome = (outcome, detail)
        if slot.arrived is not None:
            # The timer at request + latency delivers; from here on market time may reach it.
            slot.arrived()
            if not slot.is_due:
                return
        elif self._catch_up is not None:
            self._catch_up()
        self._deliver(slot, outcome, detail)

    def _come_due(self, slot: _InFlight) -> None:
        slot.is_due = True
        if slot.outcome is not None:
            self._deliver(slot, *slot.outcome)

    def _deliver(self, slot: _InFlight, outcome: Outcome, detail: str) -> None:
        if slot.is_delivered or slot is not self._in_flight:
            self._late_dropped += 1
            return
        slot.is_delivered = True
        self._in_flight = None
        message = self._message(slot, outcome, detail)
        if isinstance(message, PredictionReceived):
            self._received += 1
            self._failing_with = None
            prediction = message.prediction
            self._log.info("ML prediction received: %s with confidence %.2f", prediction.flow_type, prediction.confidence)
            self._pass_on_wish(outcome)
        else:
            self._note_failure(message)
        self._bus.tell(self._strategy_id, message)

    def _pass_on_wish(self, outcome: Outcome) -> None:
        """Tell the sample recorder that the service would like to be trained, at the market time of the answer."""
        if isinstance(outcome, PredictReply) and outcome.wants_training:
            self._bus.tell(SAMPLES, TrainingWanted(ts_event=self._clock.now_ns(), reason=outcome.wants_training))

    def _note_failure(self, failure: PredictionFailed) -> None:
        self._failed[failure.reason] += 1
        if failure.reason is not self._failing_with:
            self._failing_with = failure.reason
            self._log.warning("ML prediction failed: %s %s", failure.reason, failure.detail)

    def _message(self, slot: _InFlight, outcome: Outcome, detail: str) -> PredictionReceived | PredictionFailed:
        if isinstance(outcome, FailureReason):
            return self._failure(slot, outcome, detail)
        window = slot.window
        if outcome.flow_type not in FlowType.__members__:
            return self._failure(slot, FailureReason.BAD_REPLY, f"unknown flow type {outcome.flow_type!r}")
        if outcome.as_of_sequence != window.as_of_sequence:
            words = f"answer about book {outcome.as_of_sequence}, asked about {window.as_of_sequence}"
            return self._failure(slot, FailureReason.BAD_REPLY, words)
        return PredictionReceived(strategy_id=self._strategy_id, prediction=self._prediction(slot, outcome))

    def _failure(self, slot: _InFlight, reason: FailureReason, detail: str) -> PredictionFailed:
        return PredictionFailed(
            prediction_id=slot.prediction_id,
            strategy_id=self._strategy_id,
            instrument_id=self._instrument_id,
            ts_event=self._clock.now_ns(),
            reason=reason,
            detail=detail,
        )

    def _prediction(self, slot: _InFlight, reply: PredictReply) -> Prediction:
        now_ns = self._clock.now_ns()
        return Prediction(
            prediction_id=slot.prediction_id,
            strategy_id=self._strategy_id,
            instrument_id=self._instrument_id,
            flow_type=FlowType(reply.flow_type),
            confidence=reply.confidence,
            p_down=reply.p_down,
            p_flat=reply.p_flat,
            p_up=reply.p_up,
            model_version=reply.model_version,
            is_calibrated=reply.is_calibrated,
            horizon_rows=reply.horizon_rows,
            as_of_ns=slot.window.as_of_ns,
            as_of_sequence=slot.window.as_of_sequence,
            received_ns=now_ns,
            regime=reply.regime,
            shock_score=reply.shock_score,
            # In market time: in lockstep it is the configured latency, so that the same input gives the same message.
            round_trip_us=(now_ns - slot.request_ns) / 1e3,
            as_of_total_rows=slot.total_rows,
            horizons=reply.horizons,
        )


def hold_time_for(pacer: Pacer, clock: Clock) -> DeliverAt:
    """Return the lockstep delivery of `pacer`: market time reaches the due time only once the answer is here."""

    def deliver_at(when_ns: int, deliver: Callable[[], None]) -> Callable[[], None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Asked for now, not when the answer comes: the order of timers must not depend on the ML process.
        clock.call_at(when_ns, deliver)
        pacer.hold(when_ns - 1, done)

        def arrived() -> None:
            if not done.done():
                done.set_result(None)

        return arrived

    return deliver_at
