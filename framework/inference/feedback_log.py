"""What feedback writes into the journal, and what it finds there after a kill."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Final

from framework.errors import StorageError
from framework.inference.outcomes import OpenDecision
from framework.messages import DecisionClosed, DecisionMade, Feedback
from framework.trading.fold import JournalFold, replay
from framework.trading.journal import Journal

CLEAN: Final = "feedback_stopped_cleanly"


class FeedbackLog:
    """Decisions, their closing and unsent feedback in the journal.

    A journal that fails stops new orders elsewhere; here it is counted and said once, and what is in memory goes on to the
    ML process.
    """

    def __init__(self, journal: Journal, past: JournalFold | None = None) -> None:
        self._journal = journal
        self._past = past
        self._log = logging.getLogger("FeedbackActor")
        self.errors = 0

    def record(self, decision: DecisionMade) -> None:
        """Write a decision."""
        self._write(lambda: self._journal.append("DecisionMade", decision, key=decision.decision_id))

    def keep(self, feedback: Feedback) -> None:
        """Write that a decision is closed, and keep its feedback until `forget`, both in one transaction."""
        self._write(functools.partial(self._keep, feedback))

    def forget(self, feedback_ids: tuple[str, ...]) -> None:
        """Let go of feedback that is stored over there, or dropped."""
        self._write(lambda: self._journal.acknowledge_feedback(feedback_ids))

    def recover(self, now_ns: int) -> list[Feedback]:
        """Return all unsent feedback, oldest first; after a kill, the decisions that it left open are closed first."""
        if self._journal.get_meta(CLEAN) == "no":
            for feedback in interrupted(self._past or replay(self._journal), now_ns):
                self.keep(feedback)
        self._write(lambda: self._journal.set_meta(CLEAN, "no"))
        return self._journal.pending_feedback()

    def mark_clean(self) -> None:
        """Write that every decision is closed: the next start need not look for open ones."""
        self._write(lambda: self._journal.set_meta(CLEAN, "yes"))

    def _keep(self, feedback: Feedback) -> None:
        self._journal.append("DecisionClosed", closing(feedback), key=feedback.feedback_id)
        self._journal.put_feedback(feedback)

    def _write(self, write: Callable[[], object]) -> None:
        try:
            write()
        except StorageError as exc:
            if self.errors == 0:
                self._log.error("Feedback is no longer kept over a restart: %s", exc)
            self.errors += 1


def closing(feedback: Feedback) -> DecisionClosed:
    """Return the event that says that a decision is closed."""
    return DecisionClosed(
        decision_id=feedback.decision.decision_id,
        strategy_id=feedback.decision.strategy_id,
        instrument_id=feedback.decision.instrument_id,
        ts_event=feedback.closed_ns,
        trade_outcome=feedback.trade_outcome,
        pnl=feedback.pnl,
        markouts_ticks=feedback.markouts_ticks,
    )


def interrupted(past: JournalFold, now_ns: int) -> list[Feedback]:
    """Return feedback for the decisions that were open when the process died: executed or not, and nothing else is known.

    A restart is a joint, so there are no markouts.
    """
    entries = [OpenDecision(decision, None) for decision in past.open_decisions.values()]
    for entry in entries:
        # An open lot, as far as anybody knows: the outcome is EXECUTED.
        entry.filled = entry.opened = sum(name in past.filled_orders for name in entry.decision.client_order_ids)
    return [entry.to_feedback(now_ns) for entry in entries]
