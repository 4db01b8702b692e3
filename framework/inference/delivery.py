"""Feedback on its way: per strategy an outbox, a client and an interval."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from framework.clock import Clock, Timer
from framework.inference.outbox import Outbox, OutboxSettings, to_item
from framework.messages import Feedback
from framework.model import NS_PER_S, Instrument
from framework.wire import FeedbackItem

OnAck = Callable[[tuple[str, ...]], None]


class FeedbackClient(Protocol):
    """What the delivery needs of an `MLClient`."""

    def send_feedback(self, items: Sequence[FeedbackItem], on_ack: OnAck) -> None:
        """Send a batch; `on_ack` is called later with the ids that are stored, or never."""


class Delivery:
    """Send one strategy's feedback in batches: when one is full, at each interval, and when the ML process comes back.

    `forget` is called with the ids that need not be kept any longer; `on_ack` is handed to the client. Without a client
    (no ML process) feedback is only kept, up to the bound.
    """

    def __init__(
        self,
        instrument: Instrument,
        settings: OutboxSettings,
        *,
        clock: Clock,
        client: FeedbackClient | None,
        forget: Callable[[tuple[str, ...]], None],
        on_ack: OnAck,
    ) -> None:
        self.instrument = instrument
        self.acknowledged = 0
        self.dropped = 0
        self._outbox = Outbox(settings)
        self._interval_ns = round(settings.send_interval_s * NS_PER_S)
        self._clock = clock
        self._client = client
        self._forget = forget
        self._on_ack = on_ack
        self._timer: Timer | None = None
        self._is_dropping = False
        self._log = logging.getLogger("FeedbackActor")

    def __len__(self) -> int:
        return len(self._outbox)

    def start(self, unsent: Sequence[Feedback]) -> None:
        """Send what an earlier run left, then go by interval."""
        for feedback in unsent:
            self._put(feedback)
        self._schedule()
        self.flush()

    def hand_over(self) -> tuple[Feedback, ...]:
        """Send no more; return what is unsent, for the delivery that takes over."""
        self._client = None
        self._cancel_timer()
        return self._outbox.pending()

    def finish(self) -> None:
        """Send all the rest now; what is not acknowledged before the process ends is sent by the next run."""
        self._cancel_timer()
        self._outbox.is_flushing = True
        self._send()

    def put(self, feedback: Feedback) -> None:
        """Take new feedback, and send a batch if one is full."""
        self._put(feedback)
        self._send()

    def flush(self) -> None:
        """Send everything that is unsent, batch after batch; a batch under way is taken for lost."""
        self._outbox.retry()
        self._send()

    def acknowledge(self, feedback_ids: tuple[str, ...]) -> None:
        """Forget what is stored over there, and send the next batch; no ids mean that the batch under way came to nothing."""
        if not feedback_ids:
            self._outbox.release()
            return
        known = self._outbox.acknowledge(feedback_ids)
        if known:
            self._is_dropping = False
            self.acknowledged += len(known)
            self._forget(known)
            self._send()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _put(self, feedback: Feedback) -> None:
        dropped = self._outbox.put(feedback)
        if not dropped:
            return
        if not self._is_dropping:
            self._log.warning("Feedback buffer of %s is full: the oldest is dropped", feedback.decision.strategy_id)
        self._is_dropping = True
        self.dropped += len(dropped)
        self._forget(dropped)

    def _send(self) -> None:
        if self._client is None:
            return
        batch = self._outbox.next_batch()
        if batch:
            self._client.send_feedback([to_item(feedback, self.instrument) for feedback in batch], self._on_ack)

    def _schedule(self) -> None:
        self._timer = self._clock.call_at(self._clock.now_ns() + self._interval_ns, self._by_interval)

    def _by_interval(self) -> None:
        # What is under way is left alone: at full speed hours of market time pass before an answer can be here.
        self._schedule()
        self._outbox.is_flushing = True
        self._send()
