"""Closed feedback on its way to the ML process: a bounded outbox, and the mission's structure on the wire."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from framework.config import StrategyFile
from framework.messages import Feedback
from framework.model import NS_PER_S, Instrument
from framework.wire import FeedbackItem

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How much feedback is kept, and when it is sent."""

    max_pending: int = 1_000
    batch_size: int = 50
    send_interval_s: float = 300.0

    @staticmethod
    def of(file: StrategyFile) -> OutboxSettings:
        """Take the mission's keys from a strategy's file."""
        return OutboxSettings(
            max_pending=file.max_feedback_buffer,
            batch_size=file.feedback_batch_size,
            send_interval_s=file.feedback_send_interval_minutes * 60,
        )


class Outbox:
    """Feedback of one strategy that the ML process has not acknowledged, oldest first; at most one batch is under way."""

    def __init__(self, settings: OutboxSettings) -> None:
        self.settings = settings
        self.is_flushing = False
        self._pending: dict[str, Feedback] = {}
        self._under_way: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self._pending)

    def pending(self) -> tuple[Feedback, ...]:
        """Return all of it."""
        return tuple(self._pending.values())

    def put(self, feedback: Feedback) -> tuple[str, ...]:
        """Keep `feedback`; return the ids that had to go for it, oldest first."""
        self._pending[feedback.feedback_id] = feedback
        surplus = len(self._pending) - self.settings.max_pending
        dropped = tuple(itertools.islice(self._pending, max(0, surplus)))
        for feedback_id in dropped:
            del self._pending[feedback_id]
        return dropped

    def next_batch(self) -> tuple[Feedback, ...]:
        """Return the batch to send now, oldest first; empty while one is under way, or too few wait and nobody flushes."""
        size = self.settings.batch_size
        if self._under_way or not self._pending or not (self.is_flushing or len(self._pending) >= size):
            self.is_flushing = self.is_flushing and bool(self._pending)
            return ()
        batch = tuple(itertools.islice(self._pending.values(), size))
        self._under_way = frozenset(feedback.feedback_id for feedback in batch)
        return batch

    def acknowledge(self, feedback_ids: tuple[str, ...]) -> tuple[str, ...]:
        """Forget what is stored over there; return the ids that were pending here. A batch may be answered in parts."""
        known = tuple(feedback_id for feedback_id in feedback_ids if self._pending.pop(feedback_id, None) is not None)
        self._under_way = self._under_way.difference(feedback_ids)
        return known

    def release(self) -> None:
        """Note that the batch under way came to nothing: it goes with the next one that is due."""
        self._under_way = frozenset()

    def retry(self) -> None:
        """Take the batch under way for lost: it will be sent again, under the same ids, with all the rest."""
        self._under_way = frozenset()
        self.is_flushing = True


def to_item(feedback: Feedback, instrument: Instrument) -> FeedbackItem:
    """Return `feedback` in the mission's structure: prices instead of ticks, ISO-8601 times in UTC."""
    decision = feedback.decision
    return FeedbackItem(
        timestamp=iso_utc(decision.ts_event),
        prediction_flow_type=decision.flow_type,
        prediction_confidence=decision.confidence,
        trade_executed=feedback.trade_executed,
        trade_outcome=feedback.trade_outcome,
        market_data_snapshot=_market_data_snapshot(feedback, instrument),
        dom_data_snapshot=_dom_data_snapshot(feedback, instrument),
        feedback_id=feedback.feedback_id,
        decision_id=decision.decision_id,
        prediction_id=decision.prediction_id or "",
        strategy_id=decision.strategy_id,
        instrument_id=decision.instrument_id,
        model_version=decision.model_version or "",
        ts_event=decision.ts_event,
        as_of_sequence=decision.as_of_sequence,
        action=decision.action,
        reason=decision.reason,
        pnl=None if feedback.pnl is None else float(feedback.pnl),
        markouts_ticks=feedback.markouts_ticks,
    )


def _market_data_snapshot(feedback: Feedback, instrument: Instrument) -> dict[str, Any]:
    bar = feedback.last_bar
    if bar is None:
        return {"timestamp": iso_utc(feedback.decision.ts_event), "open": None, "high": None, "low": None, "close": None, "volume": None}
    return {
        "timestamp": iso_utc(bar.ts_event),
        "open": float(instrument.price(bar.open_ticks)),
        "high": float(instrument.price(bar.high_ticks)),
        "low": float(instrument.price(bar.low_ticks)),
        "close": float(instrument.price(bar.close_ticks)),
        "volume": float(bar.volume * instrument.lot_size),
    }


def _dom_data_snapshot(feedback: Feedback, instrument: Instrument) -> dict[str, Any]:
    book = feedback.decision.book
    best = (book.bid_ticks[0], book.ask_ticks[0]) if book.bid_ticks and book.ask_ticks else None
    return {
        "timestamp": iso_utc(book.ts_event),
        "spread": float(instrument.price(best[1] - best[0])) if best else None,
        "mid_price": float(instrument.price(best[0] + best[1]) / 2) if best else None,
        "bid_levels": len(book.bid_ticks),
        "ask_levels": len(book.ask_ticks),
    }


def iso_utc(ns: int) -> str:
    """Return `ns` UTC as ISO-8601 with a Z, to the microsecond (none are printed when there are none)."""
    seconds, rest_ns = divmod(ns, NS_PER_S)
    moment = _EPOCH + timedelta(seconds=seconds, microseconds=rest_ns // 1_000)
    return moment.isoformat().replace("+00:00", "Z")
