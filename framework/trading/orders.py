"""An order and the table of its states, in FIX's words."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from framework.messages import ExecutionReport, OrderUpdated, ReportKind, SubmitOrder
from framework.model import CLOSED, OPEN, OrderStatus, OrderType

LARGEST_FEE: Final = 1_000_000_000_000
S = OrderStatus
_ALIVE: Final = {
    ReportKind.ACCEPTED: S.ACCEPTED,
    ReportKind.REJECTED: S.REJECTED,
    ReportKind.CANCELED: S.CANCELED,
    ReportKind.EXPIRED: S.EXPIRED,
    ReportKind.CANCEL_REJECTED: S.ACCEPTED,
    ReportKind.LOST: S.UNKNOWN,
}
# What may come late or twice without telling anything new: the answer to a cancel that lost its race, an acknowledgement behind the fills.
_LATE: Final = (ReportKind.ACCEPTED, ReportKind.CANCEL_REJECTED, ReportKind.LOST)
NEXT: Final[dict[OrderStatus, dict[ReportKind, OrderStatus]]] = {
    S.SUBMITTED: _ALIVE,
    S.ACCEPTED: _ALIVE,
    S.PARTIALLY_FILLED: _ALIVE,
    S.PENDING_CANCEL: {**_ALIVE, ReportKind.ACCEPTED: S.PENDING_CANCEL},
    # Only evidence ends UNKNOWN: an acknowledgement is some, a refused cancel is none ("no such order" and "already filled" look alike).
    S.UNKNOWN: {**_ALIVE, ReportKind.CANCEL_REJECTED: S.UNKNOWN},
    S.FILLED: dict.fromkeys(_LATE, S.FILLED),
    S.CANCELED: dict.fromkeys((*_LATE, ReportKind.CANCELED), S.CANCELED),
    S.EXPIRED: dict.fromkeys((*_LATE, ReportKind.EXPIRED), S.EXPIRED),
    S.REJECTED: dict.fromkeys((*_LATE, ReportKind.REJECTED), S.REJECTED),
}
"""State and report to next state. ACCEPTED here means: alive, as far as the venue has confirmed it (`Order._alive`).

FILLED reports are not here: they move by quantity, in any state (`Order.apply`). A pair that is missing changes nothing and is counted
as an anomaly: a venue's text can be wrong, repeated or late."""


class Effect(StrEnum):
    """What a report did to an order. DUPLICATE told nothing new; UNBOOKABLE is a fill that cannot be true as it stands."""

    CHANGED = "CHANGED"
    FILLED = "FILLED"
    LATE_FILL = "LATE_FILL"
    DUPLICATE = "DUPLICATE"
    ANOMALY = "ANOMALY"
    UNBOOKABLE = "UNBOOKABLE"


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
    is_acknowledged: bool = False
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

        A fill is never lost: not before an acknowledgement, not after a cancel, not in any state. One that cannot be true (no
        trade id, no lots, more than was ordered, a fee that is no number) is left out and returned as UNBOOKABLE: our position
        may then differ from the venue's, and the caller has to stop and say so.
        """
        if report.kind is ReportKind.FILLED:
            return self._apply_fill(report)
        following = NEXT.get(self.status, {}).get(report.kind)
        if following is None:
            return Effect.ANOMALY
        if following is self.status in CLOSED:
            return Effect.DUPLICATE
        self.is_acknowledged |= report.kind is ReportKind.ACCEPTED
        self._note(report)
        self.status = self._alive() if following is OrderStatus.ACCEPTED else following
        return Effect.CHANGED

    def _apply_fill(self, report: ExecutionReport) -> Effect:
        if report.trade_id and report.trade_id in self.trade_ids:
            return Effect.DUPLICATE
        if not _is_bookable(report) or self.filled_quantity + report.last_quantity > self.intent.quantity:
            return Effect.UNBOOKABLE
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

    def _alive(self) -> OrderStatus:
        """Return the state of an order that is neither closed nor in doubt."""
        if self.filled_quantity:
            return OrderStatus.PARTIALLY_FILLED
        return OrderStatus.ACCEPTED if self.is_acknowledged else OrderStatus.SUBMITTED

    def _note(self, report: ExecutionReport) -> None:
        self.venue_order_id = report.venue_order_id or self.venue_order_id
        self.ts_event = report.ts_event
        self.reason = report.reason or self.reason

    def update(self) -> OrderUpdated:
        """Return the order as an event; a market order has no limit there, although the gate gave it one."""
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
            limit_ticks=intent.limit_ticks if intent.order_type is OrderType.LIMIT else None,
            status=self.status,
            reason=self.reason,
            decision_id=intent.decision_id,
        )


def _is_bookable(report: ExecutionReport) -> bool:
    return bool(report.trade_id) and report.last_quantity >= 1 and report.fee.is_finite() and abs(report.fee) < LARGEST_FEE
