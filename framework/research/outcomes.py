"""What became of a decision, from wherever its feedback is."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from framework.messages import DecisionClosed
from framework.trading.journal_view import JournalView
from framework.wire import FeedbackItem

Facts = dict[str, Any]


def outcome_of(journal: JournalView, feedback_store: Path, decision_id: str) -> Facts:
    """Return how a decision ended: the journal's word, and markouts from unsent feedback or from the store of the ML process.

    `feedback` says where its feedback is now. Markouts are signed by the market.
    """
    closed = next(iter(journal.keyed(DecisionClosed, decision_id)), None)
    if closed is None:
        return {"state": "open: its markouts or its trade have not ended, or the last second was lost"}
    facts: Facts = {
        "state": "closed",
        "trade_outcome": closed.trade_outcome,
        "pnl": str(closed.pnl) if closed.pnl is not None else None,
        "closed_ns": closed.ts_event,
    }
    pending = journal.pending_feedback(decision_id)
    stored = None if pending is not None else _stored_markouts(feedback_store, decision_id)
    kept = pending.markouts_ticks if pending is not None else stored
    facts["feedback"] = "waits for the ML process" if pending is not None else "the ML process took it"
    markouts = closed.markouts_ticks if closed.markouts_ticks is not None else kept
    return facts if markouts is None else facts | {"markouts_ticks": markouts}


def _stored_markouts(path: Path, feedback_id: str) -> dict[str, float] | None:
    """Return the markouts in the ML process's store; None where it is not there, or not to be read now."""
    if not path.is_file():
        return None
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=1.0)
    except sqlite3.Error:
        return None
    try:
        row = database.execute("SELECT body FROM feedback WHERE feedback_id = ?", (feedback_id,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=FeedbackItem).markouts_ticks
    except (sqlite3.Error, msgspec.DecodeError):
        return None
    finally:
        database.close()
