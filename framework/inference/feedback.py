"""`FeedbackActor`: what came of every decision, acted on or not, kept until the ML process has it.

A decision is open until its markouts are known and its trade has ended (or `outcome_after_s` is over). Then it becomes
feedback: into the journal first, sent in batches, forgotten only when acknowledged. At least once on the wire; the
feedback id is the decision id, so the store keeps it exactly once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from framework.clock import Clock, Timer
from framework.inference.delivery import Delivery, FeedbackClient
from framework.inference.feedback_log import FeedbackLog, closing
from framework.inference.outbox import OutboxSettings
from framework.inference.outcomes import FifoLots, Markout, Markouts, OpenDecision, Share
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.messages import (
    MARKOUT_HORIZONS_S,
    Bar,
    BookInvalid,
    BookSnapshot,
    DecisionMade,
    Feedback,
    Filled,
    Message,
    MLStateChanged,
    OrderUpdated,
    SessionChanged,
)
from framework.model import CLOSED, NS_PER_S, Instrument
from framework.trading.fold import JournalFold
from framework.trading.journal import Journal

FEEDBACK: Final = "feedback"
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


class FeedbackAcknowledged(Message, frozen=True, kw_only=True, gc=False):
    """The ML process has stored these ids (told by the client's socket to the actor)."""

    feedback_ids: tuple[str, ...]


class FeedbackActor(Actor):
    """Follow decisions to their outcome. `add_strategy` comes before a strategy's first decision.

    Bounded: at most `max_open` open decisions (the oldest is closed with what is known, counted) and `max_pending`
    unsent ones per strategy (the oldest is dropped, counted). All times are market time.
    """

    def __init__(
        self,
        bus: EventBus,
        clock: Clock,
        journal: Journal,
        *,
        past: JournalFold | None = None,
        outcome_after_s: float = 60.0,
        max_open: int = 10_000,
    ) -> None:
        super().__init__(FEEDBACK)
        self._bus = bus
        self._clock = clock
        self._kept = FeedbackLog(journal, past)
        if outcome_after_s < _LONGEST_MARKOUT_S:
            raise ValueError(f"outcome_after_s must be at least the longest markout, {_LONGEST_MARKOUT_S} s, got {outcome_after_s}")
        self._outcome_after_ns = round(outcome_after_s * NS_PER_S)
        self._max_open = max_open
        self._deliveries: dict[str, Delivery] = {}
        self._lots: dict[str, FifoLots] = {}
        self._recovered: dict[str, list[Feedback]] = {}
        self._open: dict[str, OpenDecision] = {}
        self._decision_of_order: dict[str, str] = {}
        self._markouts: dict[str, Markouts] = {}
        self._last_bars: dict[str, Bar] = {}
        self._deadline: Timer | None = None
        self._counts = {"recorded": 0, "closed": 0, "closed_early": 0, "ignored": 0}
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
        """Return recorded, closed, closed_early, ignored, acknowledged, dropped, journal_errors; open and pending now."""
        deliveries = self._deliveries.values()
        return self._counts | {
            "acknowledged": sum(delivery.acknowledged for delivery in deliveries),
            "dropped": sum(delivery.dropped for delivery in deliveries),
            "journal_errors": self._kept.errors,
            "open": len(self._open),
            "pending": sum(map(len, deliveries)) + sum(map(len, self._recovered.values())),
        }

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
        delivery = Delivery(
            instrument, settings, clock=self._clock, client=client, forget=self._kept.forget, on_ack=self._tell_acknowledged
        )
        before = self._deliveries.get(strategy_id)
        if before is not None:
            unsent = before.hand_over()
            delivery.acknowledged, delivery.dropped = before.acknowledged, before.dropped
        else:
            unsent = tuple(self._recovered.pop(strategy_id, ()))
        if before is None or before.instrument != instrument:
            self._lots[strategy_id] = FifoLots(instrument.tick_value, position_lots=position_lots, average_ticks=average_ticks)
        self._deliveries[strategy_id] = delivery
        delivery.start(unsent)

    def on_start(self) -> None:
        """Subscribe; read the unsent feedback of earlier runs, and close the decisions that a kill left open."""
        for message_type in _SUBSCRIPTIONS:
            self._bus.subscribe(self.name, message_type)
        for feedback in self._kept.recover(self._clock.now_ns()):
            self._recovered.setdefault(feedback.decision.strategy_id, []).append(feedback)

    def handle(self, message: Message) -> None:
        """Take one message."""
        self._handlers[type(message)](message)

    def on_stop(self) -> None:
        """Close every open decision with what is known, and send all of it; the next start sends what nobody acknowledged."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._resolve_markouts(self._clock.now_ns())
        for decision_id in tuple(self._open):
            self._close(decision_id)
        self._kept.mark_clean()
        for delivery in self._deliveries.values():
            delivery.finish()

    # --- following decisions -----------------------------------------------------------------------------------------------

    def _on_decision(self, decision: DecisionMade) -> None:
        self._kept.record(decision)
        self._counts["recorded"] += 1
        if decision.strategy_id not in self._deliveries:
            self._counts["ignored"] += 1
            self._log.error("Decision %s is not followed: nobody announced its strategy", decision.decision_id)
            return
        entry = OpenDecision(decision, self._last_bars.get(decision.instrument_id))
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
        # A close that waited for another order is not in its decision's list, but carries its id.
        sender = self._open.get(self._decision_of_order.get(fill.client_order_id, fill.decision_id or ""))
        if sender is not None:
            sender.filled += fill.quantity
        touched = [] if sender is None else [sender]
        delivery = self._deliveries.get(fill.strategy_id)
        if delivery is not None and delivery.instrument.instrument_id == fill.instrument_id:
            shares = self._lots[fill.strategy_id].apply(fill)
            touched += [entry for share in shares if (entry := self._credit(share)) is not None]
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
        self._kept.keep(feedback)
        self._bus.publish(closing(feedback))
        self._deliveries[entry.decision.strategy_id].put(feedback)

    # --- sending it ----------------------------------------------------------------------------------------------------------

    def _tell_acknowledged(self, feedback_ids: tuple[str, ...]) -> None:
        self._bus.tell(self.name, FeedbackAcknowledged(feedback_ids=feedback_ids))

    def _on_acknowledged(self, message: FeedbackAcknowledged) -> None:
        for delivery in self._deliveries.values():
            delivery.acknowledge(message.feedback_ids)

    def _on_ml_state(self, change: MLStateChanged) -> None:
        if change.state == "UP":
            for delivery in self._deliveries.values():
                delivery.flush()
