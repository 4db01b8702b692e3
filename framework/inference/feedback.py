"""`FeedbackActor`: what came of every decision, acted on or not, kept until the ML process has it.

A decision is open until its markouts are known and its trade has ended (or `outcome_after_s` is over). Then it becomes
feedback: into the journal first, sent in batches, forgotten only when acknowledged. At least once on the wire; the
feedback id is the decision id, so the store keeps it exactly once.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from framework.clock import Clock, Timer
from framework.errors import StorageError
from framework.inference.outbox import Outbox, OutboxSettings, to_item
from framework.inference.outcomes import FifoLots, Markout, Markouts, OpenDecision, Share
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.messages import (
    MARKOUT_HORIZONS_S,
    Bar,
    BookInvalid,
    BookSnapshot,
    DecisionMade,
    ExecutionReport,
    Feedback,
    Filled,
    Message,
    MLStateChanged,
    OrderUpdated,
    SessionChanged,
)
from framework.model import CLOSED, NS_PER_S, Instrument
from framework.trading.journal import Journal
from framework.wire import FeedbackItem

FEEDBACK: Final = "feedback"
CLOSED_TO: Final = "feedback_closed_to_seq"
Result = TypeVar("Result")
_SUBSCRIPTIONS: Final[tuple[type[Message], ...]] = (
    DecisionMade,
    OrderUpdated,
    Filled,
    BookSnapshot,
    Bar,
    SessionChanged,
    BookInvalid,
    MLStateChanged,
)
_LONGEST_MARKOUT_S: Final = max(MARKOUT_HORIZONS_S)


class FeedbackClient(Protocol):
    """What the actor needs of an `MLClient`."""

    def send_feedback(self, items: Sequence[FeedbackItem], on_ack: Callable[[tuple[str, ...]], None]) -> None:
        """Send a batch; `on_ack` is called later with the ids that are stored, or never."""


class FeedbackAcknowledged(Message, frozen=True, kw_only=True, gc=False):
    """The ML process has stored these ids (told by the client's socket to the actor)."""

    feedback_ids: tuple[str, ...]


class _Deployment:
    """What the actor keeps per strategy: its outbox, its lots, and who sends."""

    def __init__(self, instrument: Instrument, outbox: Outbox, lots: FifoLots, client: FeedbackClient | None) -> None:
        self.instrument = instrument
        self.outbox = outbox
        self.lots = lots
        self.client = client
        self.timer: Timer | None = None
        self.is_dropping = False

    def cancel_timer(self) -> None:
        """Send no more by interval."""
        if self.timer is not None:
            self.timer.cancel()


class FeedbackActor(Actor):
    """Follow decisions to their outcome. `add_strategy` comes before a strategy's first decision.

    Bounded: at most `max_open` open decisions (the oldest is closed with what is known, counted) and `max_pending`
    unsent ones per strategy (the oldest is dropped, counted). All times are market time.
    """

    def __init__(self, bus: EventBus, clock: Clock, journal: Journal, *, outcome_after_s: float = 60.0, max_open: int = 10_000) -> None:
        super().__init__(FEEDBACK)
        self._bus = bus
        self._clock = clock
        self._journal = journal
        if outcome_after_s < _LONGEST_MARKOUT_S:
            raise ValueError(f"outcome_after_s must be at least the longest markout, {_LONGEST_MARKOUT_S} s, got {outcome_after_s}")
        self._outcome_after_ns = round(outcome_after_s * NS_PER_S)
        self._max_open = max_open
        self._deployments: dict[str, _Deployment] = {}
        self._recovered: dict[str, list[Feedback]] = {}
        self._open: dict[str, OpenDecision] = {}
        self._decision_of_order: dict[str, str] = {}
        self._markouts: dict[str, Markouts] = {}
        self._last_bars: dict[str, Bar] = {}
        self._deadline: Timer | None = None
        self._last_seq = 0
        self._counts = {"recorded": 0, "closed": 0, "closed_early": 0, "ignored": 0, "acknowledged": 0, "dropped": 0, "journal_errors": 0}
        self._log = logging.getLogger("FeedbackActor")
        self._handlers: dict[type[Message], Callable[[Any], None]] = {
            DecisionMade: self._on_decision,
            OrderUpdated: self._on_order,
            Filled: self._on_fill,
            BookSnapshot: self._on_book,
            Bar: self._on_bar,
            SessionChanged: self._on_joint,
            BookInvalid: self._on_joint,
            MLStateChanged: self._on_ml_state,
            FeedbackAcknowledged: self._on_acknowledged,
        }

    def stats(self) -> dict[str, int]:
        """Return recorded, closed, closed_early, acknowledged, dropped, and what is open and pending now."""
        pending = sum(len(deployment.outbox) for deployment in self._deployments.values())
        return self._counts | {"open": len(self._open), "pending": pending + sum(map(len, self._recovered.values()))}

    def add_strategy(
        self,
        strategy_id: str,
        instrument: Instrument,
        *,
        settings: OutboxSettings,
        client: FeedbackClient | None,
        position_lots: int = 0,
        average_ticks: float = 0.0,
    ) -> None:
        """Follow a strategy's decisions from its recovered position on; its unsent feedback of earlier runs is sent first.

        A strategy that is deployed again keeps what it has here, under the new settings.
        """
        lots = FifoLots(instrument.tick_value, position_lots=position_lots, average_ticks=average_ticks)
        deployment = _Deployment(instrument, Outbox(settings), lots, client)
        before = self._deployments.get(strategy_id)
        if before is not None:
            before.cancel_timer()
            unsent = before.outbox.pending()
            deployment.lots = before.lots if before.instrument == instrument else lots
        else:
            unsent = tuple(self._recovered.pop(strategy_id, ()))
        self._deployments[strategy_id] = deployment
        for feedback in unsent:
            self._put(deployment, feedback)
        self._schedule_send(deployment)
        self._flush(deployment)

    def on_start(self) -> None:
        """Subscribe; read the unsent feedback of earlier runs, and close the decisions that a kill left open."""
        for message_type in _SUBSCRIPTIONS:
            self._bus.subscribe(self.name, message_type)
        self._last_seq = self._journal.last_seq
        for feedback in interrupted(self._journal, self._clock.now_ns(), at_most=self._max_open):
            self._journaled(functools.partial(self._keep, feedback))
        for feedback in self._journal.pending_feedback():
            self._recovered.setdefault(feedback.decision.strategy_id, []).append(feedback)

    def handle(self, message: Message) -> None:
        """Take one message."""
        self._handlers[type(message)](message)

    def on_stop(self) -> None:
        """Close every open decision with what is known; all of it waits in the journal for the next start."""
        for deployment in self._deployments.values():
            deployment.cancel_timer()
            deployment.client = None
        if self._deadline is not None:
            self._deadline.cancel()
        self._resolve_markouts(self._clock.now_ns())
        for decision_id in tuple(self._open):
            self._close(decision_id)

    # --- following decisions -----------------------------------------------------------------------------------------------

    def _on_decision(self, decision: DecisionMade) -> None:
        seq = self._journaled(lambda: self._journal.append("DecisionMade", decision, key=decision.decision_id)) or self._last_seq
        self._last_seq = seq
        self._counts["recorded"] += 1
        if decision.strategy_id not in self._deployments:
            self._counts["ignored"] += 1
            return
        entry = OpenDecision(decision, self._last_bars.get(decision.instrument_id), seq)
        self._open[decision.decision_id] = entry
        if len(self._open) > self._max_open:
            self._counts["closed_early"] += 1
            self._close(next(iter(self._open)))
        for client_order_id in decision.client_order_ids:
            self._decision_of_order[client_order_id] = decision.decision_id
        markouts = self._markouts.setdefault(decision.instrument_id, Markouts())
        self._take(markouts.add(decision))
        self._schedule_deadline()

    def _on_order(self, order: OrderUpdated) -> None:
        entry = self._open.get(self._decision_of_order.get(order.client_order_id, ""))
        if entry is None or order.status not in CLOSED or order.client_order_id not in entry.working:
            return
        entry.working.remove(order.client_order_id)
        entry.reported += order.filled_quantity
        self._close_if_complete(entry)

    def _on_fill(self, fill: Filled) -> None:
        deployment = self._deployments.get(fill.strategy_id)
        sender = self._open.get(self._decision_of_order.get(fill.client_order_id, ""))
        if sender is not None:
            sender.filled += fill.quantity
        touched = [] if sender is None else [sender]
        if deployment is not None and deployment.instrument.instrument_id == fill.instrument_id:
            touched += [entry for share in deployment.lots.apply(fill) if (entry := self._credit(share)) is not None]
        for entry in touched:
            self._close_if_complete(entry)

    def _credit(self, share: Share) -> OpenDecision | None:
        entry = self._open.get(share.decision_id or "")
        if entry is not None:
            entry.opened += share.opened
            entry.closed += share.closed
            entry.pnl += share.pnl
        return entry

    def _on_book(self, book: BookSnapshot) -> None:
        markouts = self._markouts.get(book.instrument_id)
        if markouts is not None:
            self._take(markouts.on_book(book))

    def _on_bar(self, bar: Bar) -> None:
        self._last_bars[bar.instrument_id] = bar

    def _on_joint(self, joint: SessionChanged | BookInvalid) -> None:
        markouts = self._markouts.get(joint.instrument_id)
        if markouts is not None:
            self._take(markouts.cut())

    def _take(self, resolved: list[Markout]) -> None:
        for markout in resolved:
            entry = self._open.get(markout.decision_id)
            if entry is None:
                continue
            entry.unknown_markouts -= 1
            if markout.ticks is not None:
                entry.markouts[markout.horizon_s] = markout.ticks
            self._close_if_complete(entry)

    def _resolve_markouts(self, until_ns: int) -> None:
        for markouts in self._markouts.values():
            self._take(markouts.resolve(until_ns))

    # --- closing them --------------------------------------------------------------------------------------------------------

    def _schedule_deadline(self) -> None:
        if self._deadline is None and self._open:
            oldest = next(iter(self._open.values()))
            self._deadline = self._clock.call_at(oldest.decision.ts_event + self._outcome_after_ns, self._on_deadline)

    def _on_deadline(self) -> None:
        """Close what is too old; books may have stopped coming, so the clock decides."""
        self._deadline = None
        latest_ns = self._clock.now_ns() - self._outcome_after_ns
        self._resolve_markouts(latest_ns + _LONGEST_MARKOUT_S * NS_PER_S)
        overdue = []
        for decision_id, entry in self._open.items():
            if entry.decision.ts_event > latest_ns:
                break
            overdue.append(decision_id)
        for decision_id in overdue:
            self._close(decision_id)
        self._schedule_deadline()

    def _close_if_complete(self, entry: OpenDecision) -> None:
        if entry.unknown_markouts == 0 and entry.has_ended() and entry.decision.decision_id in self._open:
            self._close(entry.decision.decision_id)

    def _close(self, decision_id: str) -> None:
        entry = self._open.pop(decision_id)
        for client_order_id in entry.decision.client_order_ids:
            self._decision_of_order.pop(client_order_id, None)
        feedback = entry.to_feedback(self._clock.now_ns())
        self._counts["closed"] += 1
        self._journaled(lambda: self._keep(feedback))
        deployment = self._deployments[entry.decision.strategy_id]
        self._put(deployment, feedback)
        self._send(deployment)

    def _keep(self, feedback: Feedback) -> None:
        """Put feedback into the journal together with the place up to which every decision is closed (for `interrupted`)."""
        self._journal.put_feedback(feedback)
        oldest = next(iter(self._open.values()), None)
        closed_to = self._last_seq if oldest is None else oldest.seq - 1
        self._journal.set_meta(CLOSED_TO, str(closed_to), durable=False)

    def _journaled(self, write: Callable[[], Result]) -> Result | None:
        """Write; a journal that fails stops new orders elsewhere, but what is in memory here goes on to the ML process."""
        try:
            return write()
        except StorageError as exc:
            if not self._counts["journal_errors"]:
                self._log.error("Feedback is no longer kept over a restart: %s", exc)
            self._counts["journal_errors"] += 1
            return None

    # --- sending it ----------------------------------------------------------------------------------------------------------

    def _put(self, deployment: _Deployment, feedback: Feedback) -> None:
        dropped = deployment.outbox.put(feedback)
        if dropped:
            if not deployment.is_dropping:
                self._log.warning("Feedback buffer of %s is full: the oldest is dropped", feedback.decision.strategy_id)
            deployment.is_dropping = True
            self._counts["dropped"] += len(dropped)
            self._forget(dropped)

    def _send(self, deployment: _Deployment) -> None:
        if deployment.client is None:
            return
        batch = deployment.outbox.next_batch()
        if batch:
            items = [to_item(feedback, deployment.instrument) for feedback in batch]
            deployment.client.send_feedback(items, self._tell_acknowledged)

    def _tell_acknowledged(self, feedback_ids: tuple[str, ...]) -> None:
        self._bus.tell(self.name, FeedbackAcknowledged(feedback_ids=feedback_ids))

    def _on_acknowledged(self, message: FeedbackAcknowledged) -> None:
        for deployment in self._deployments.values():
            known = deployment.outbox.acknowledge(message.feedback_ids)
            if known:
                deployment.is_dropping = False
                self._counts["acknowledged"] += len(known)
                self._forget(known)
                self._send(deployment)

    def _forget(self, feedback_ids: tuple[str, ...]) -> None:
        self._journaled(lambda: self._journal.acknowledge_feedback(feedback_ids))

    def _on_ml_state(self, change: MLStateChanged) -> None:
        if change.state == "UP":
            for deployment in self._deployments.values():
                self._flush(deployment)

    def _flush(self, deployment: _Deployment) -> None:
        deployment.outbox.retry()
        self._send(deployment)

    def _schedule_send(self, deployment: _Deployment) -> None:
        when_ns = self._clock.now_ns() + round(deployment.outbox.settings.send_interval_s * NS_PER_S)

        def send() -> None:
            self._flush(deployment)
            self._schedule_send(deployment)

        deployment.timer = self._clock.call_at(when_ns, send)


def interrupted(journal: Journal, now_ns: int, *, at_most: int) -> list[Feedback]:
    """Return feedback for the decisions that were open when the process died: executed or not, and nothing else is known.

    A restart is a joint, so there are no markouts. Reads every decision of the journal once.
    """
    closed_to = int(journal.get_meta(CLOSED_TO) or 0)
    records = (record for record in journal.records("DecisionMade") if record.seq > closed_to)
    opened = [(record.seq, record.message) for record in deque(records, maxlen=at_most) if isinstance(record.message, DecisionMade)]
    filled: set[str] = set()
    if any(decision.client_order_ids for _, decision in opened):
        reports = (record.message for record in journal.records("ExecutionReport"))
        filled = {report.client_order_id for report in reports if isinstance(report, ExecutionReport) and report.last_quantity > 0}
    entries = []
    for seq, decision in opened:
        entry = OpenDecision(decision, None, seq)
        # An open lot, as far as anybody knows: the outcome is EXECUTED.
        entry.filled = entry.opened = len(filled.intersection(decision.client_order_ids))
        entries.append(entry.to_feedback(now_ns))
    return entries
