"""An order and the table of its states, in FIX's words."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from framework.messages import ExecutionReport, OrderUpdated, ReportKind, SubmitOrder
from framework.model import CLOSED, OPEN, OrderStatus

S = OrderStatus
_ALIVE: Final = {
    ReportKind.REJECTED: S.REJECTED,
    ReportKind.CANCELED: S.CANCELED,
    ReportKind.EXPIRED: S.EXPIRED,
    ReportKind.LOST: S.UNKNOWN,
}
NEXT: Final[dict[OrderStatus, dict[ReportKind, OrderStatus]]] = {
    S.SUBMITTED: {**_ALIVE, ReportKind.ACCEPTED: S.ACCEPTED, ReportKind.CANCEL_REJECTED: S.SUBMITTED},
    S.ACCEPTED: {**_ALIVE, ReportKind.ACCEPTED: S.ACCEPTED, ReportKind.CANCEL_REJECTED: S.ACCEPTED},
    S.PARTIALLY_FILLED: {**_ALIVE, ReportKind.ACCEPTED: S.PARTIALLY_FILLED, ReportKind.CANCEL_REJECTED: S.PARTIALLY_FILLED},
    S.PENDING_CANCEL: {**_ALIVE, ReportKind.ACCEPTED: S.PENDING_CANCEL, ReportKind.CANCEL_REJECTED: S.ACCEPTED},
    # Only evidence ends UNKNOWN; an acknowledgement is evidence too.
    S.UNKNOWN: {**_ALIVE, ReportKind.ACCEPTED: S.ACCEPTED, ReportKind.CANCEL_REJECTED: S.UNKNOWN},
}
"""State and report to next state. FILLED reports are not here: they move by quantity, in any state (`Order.apply`).
A pair that is missing changes nothing and is counted as an anomaly: a venue's text can be wrong, repeated or late."""


class Effect(StrEnum):
    """What a report did to an order."""

    CHANGED = "CHANGED"
    FILLED = "FILLED"
    DUPLICATE = "DUPLICATE"
    LATE_FILL = "LATE_FILL"
    ANOMALY = "ANOMALY"


@dataclass(slots=True)
class Order:
    """One of our orders. `apply` is the only way its state changes; filled quantity and notional are exact integers."""

    intent: SubmitOrder
    status: OrderStatus = OrderStatus.SUBMITTED
    filled_quantity: int = 0
    filled_notional_ticks: int = 0
    venue_order_id: str = ""
    reason: str = ""
    ts_event: int = 0
    trade_ids: set[str] = field(default_factory=set)

    @property
    def is_open(self) -> bool:
        """Return whether the venue may still fill it."""
        return self.status in OPEN

    @property
    def open_quantity(self) -> int:
        """Return what may still be filled, at its worst; 0 once closed."""
        return self.intent.quantity - self.filled_quantity if self.is_open else 0

    @property
    def average_ticks(self) -> float | None:
        """Return the average fill price in ticks."""
        return self.filled_notional_ticks / self.filled_quantity if self.filled_quantity else None

    def request_cancel(self) -> None:
        """Note that a cancel is on its way (not while UNKNOWN: that stays until there is evidence)."""
        if self.status in (OrderStatus.SUBMITTED, OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED):
            self.status = OrderStatus.PENDING_CANCEL

    def apply(self, report: ExecutionReport) -> Effect:
        """Move by one report and return what it did.

        A fill is never lost: not before an acknowledgement, not after a cancel. Only a repeated `trade_id` and a fill beyond
        the order's quantity are refused.
        """
        if report.kind is ReportKind.FILLED:
            return self._apply_fill(report)
        following = NEXT.get(self.status, {}).get(report.kind)
        if following is None:
            return Effect.ANOMALY
        if following is OrderStatus.ACCEPTED and self.filled_quantity:
            following = OrderStatus.PARTIALLY_FILLED
        self._note(report)
        self.status = following
        return Effect.CHANGED

    def _apply_fill(self, report: ExecutionReport) -> Effect:
        if report.trade_id in self.trade_ids:
            return Effect.DUPLICATE
        if report.last_quantity < 1 or self.filled_quantity + report.last_quantity > self.intent.quantity:
            return Effect.ANOMALY
        is_late = self.status in CLOSED
        self.trade_ids.add(report.trade_id)
        self.filled_quantity += report.last_quantity
        self.filled_notional_ticks += report.last_quantity * report.last_ticks
        self._note(report)
        if self.filled_quantity == self.intent.quantity:
            self.status = OrderStatus.FILLED
        elif not is_late and self.status is not OrderStatus.PENDING_CANCEL:
            self.status = OrderStatus.PARTIALLY_FILLED
        return Effect.LATE_FILL if is_late else Effect.FILLED

    def _note(self, report: ExecutionReport) -> None:
        self.venue_order_id = report.venue_order_id or self.venue_order_id
        self.ts_event = report.ts_event
        self.reason = report.reason or self.reason

    def update(self) -> OrderUpdated:
        """Return the order as an event."""
        intent = self.intent
        return OrderUpdated(
            client_order_id=intent.client_order_id,
            strategy_id=intent.strategy_id,
            instrument_id=intent.instrument_id,
            ts_event=self.ts_event or intent.ts_event,
            side=intent.side,
            quantity=intent.quantity,
            filled_quantity=self.filled_quantity,
            average_ticks=self.average_ticks,
            limit_ticks=intent.limit_ticks,
            status=self.status,
            reason=self.reason,
            decision_id=intent.decision_id,
        )
