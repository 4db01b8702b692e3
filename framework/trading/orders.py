"""An order of ours: what it is, what was asked of it, and what was heard."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Final

import msgspec

from framework.messages import ExecutionReport, OrderUpdated, ReplaceOrder, ReportKind, SubmitOrder
from framework.model import CLOSED, OPEN, OrderStatus, OrderType
from framework.trading.order_states import AT_THE_VENUE, CANCELABLE, NEXT, Effect, is_held

LARGEST_FEE: Final = 1_000_000_000_000
# Wide enough that no sum of fees is ever rounded; the default context keeps 28 digits.
_EXACT: Final = Context(prec=100)
S = OrderStatus
R = ReportKind
# Bound once: as `ReportKind.FILLED` a word is looked up in 0.2 us (Python 3.11), several times for each report.
_FILL, _ACCEPTED, _REPLACED, _TRIGGERED = R.FILLED, R.ACCEPTED, R.REPLACED, R.TRIGGERED
_NEW, _PENDING_NEW, _PENDING_CANCEL, _FILLED, _SUSPENDED, _UNKNOWN = (
    S.NEW,
    S.PENDING_NEW,
    S.PENDING_CANCEL,
    S.FILLED,
    S.SUSPENDED,
    S.UNKNOWN,
)
_ANSWERS: Final = (R.REPLACED, R.REPLACE_REJECTED)
_TELL_TERMS: Final = (R.ACCEPTED, R.REPLACED, R.RELEASED, R.RESTATED)
_SAID_AGAIN: Final = (R.ACCEPTED, R.RESTATED)
"""What a venue says of an order that is open when it is asked, beside its fills and the answers to changes."""
_CHANGED, _HAS_FILLED = Effect.CHANGED, Effect.FILLED


@dataclass(slots=True)
class Order:
    """One of our orders. `apply` is the only way its state changes; filled quantity, notional and fees are exact.

    `intent` is what was asked for first; `quantity`, `limit_ticks` and `stop_ticks` are the present terms. `wanted` is the quantity
    that was asked for last: `quantity` may be less, because another order of its group has filled. `revision` is the number of the
    last change that was asked for, `changing` that change while its answer is not here, `terms_revision` the number of the last one
    that the venue took; `is_triggered`: a stop that was set off.
    """

    intent: SubmitOrder
    status: OrderStatus = OrderStatus.PENDING_NEW
    filled_quantity: int = 0
    filled_notional_ticks: int = 0
    fees: Decimal = Decimal(0)
    venue_order_id: str = ""
    reason: str = ""
    ts_event: int = 0
    is_acknowledged: bool = False
    trade_ids: set[str] = field(default_factory=set)
    quantity: int = field(init=False)
    wanted: int = field(init=False)
    limit_ticks: int | None = field(init=False)
    stop_ticks: int | None = field(init=False)
    revision: int = 0
    answered_revision: int = 0
    terms_revision: int = 0
    changing: ReplaceOrder | None = None
    is_triggered: bool = False

    def __post_init__(self) -> None:
        intent = self.intent
        self.quantity, self.limit_ticks, self.stop_ticks = intent.quantity, intent.limit_ticks, intent.stop_ticks
        self.wanted = intent.quantity
        if self.status is _PENDING_NEW and is_held(intent):
            self.status = OrderStatus.SUSPENDED

    @property
    def is_open(self) -> bool:
        """Return whether it may still be filled."""
        return self.status in OPEN

    @property
    def open_quantity(self) -> int:
        """Return what may still be filled, at its worst; 0 once closed, and 0 while it is held here (the gate sees it when it goes)."""
        if not self.is_open or self.status is _SUSPENDED:
            return 0
        return self._most - self.filled_quantity

    @property
    def average_ticks(self) -> float | None:
        """Return the average fill price in ticks."""
        return self.filled_notional_ticks / self.filled_quantity if self.filled_quantity else None

    @property
    def _most(self) -> int:
        """Return the largest total that the venue may think it has."""
        asked = self.changing.quantity if self.changing is not None else None
        return self.quantity if asked is None else max(self.quantity, asked)

    def outgoing(self) -> SubmitOrder:
        """Return the order that the venue is asked for: a stop as what it becomes, with its present terms."""
        order_type = AT_THE_VENUE[self.intent.order_type]
        return msgspec.structs.replace(
            self.intent,
            quantity=self.quantity,
            order_type=order_type,
            limit_ticks=self.limit_ticks if order_type is OrderType.LIMIT else None,
            stop_ticks=None,
            trail_ticks=None,
            parent_id="",
            oco_id="",
        )

    # --- what we ask for -------------------------------------------------------------------------------------------------

    def request_cancel(self, ts_event: int) -> None:
        """Note that a cancel is on its way since then (not while UNKNOWN: that stays until there is evidence)."""
        if self.status in CANCELABLE:
            self.status, self.ts_event = OrderStatus.PENDING_CANCEL, max(self.ts_event, ts_event)

    def request_replace(self, change: ReplaceOrder) -> None:
        """Note that a change is on its way. The caller asks only for an order in `REPLACEABLE`, with the next revision."""
        self.revision, self.changing, self.status = change.revision, change, OrderStatus.PENDING_REPLACE
        self.ts_event = max(self.ts_event, change.ts_event)

    # --- what we hear ----------------------------------------------------------------------------------------------------

    def apply(self, report: ExecutionReport) -> Effect:
        """Move by one report and return what it did.

        A fill is never lost: not before an acknowledgement, not after a cancel, not in any state. One that cannot be true (no
        trade id, no lots, more than was ordered, a fee that is no number) is left out and returned as UNBOOKABLE: our position
        may then differ from the venue's, and the caller has to stop and say so.
        """
        if report.kind is _FILL:
            return self._apply_fill(report)
        following = NEXT.get(self.status, {}).get(report.kind)
        if following is None:
            return Effect.ANOMALY
        if following is self.status in CLOSED or self._is_old_answer(report):
            self._remember_word(report)
            return Effect.DUPLICATE
        self.is_acknowledged |= report.kind is _ACCEPTED
        self.is_triggered |= report.kind is _TRIGGERED
        self._note(report)
        self._take_terms(report)
        self.status = following
        self._settle()
        return _CHANGED

    def knows(self, report: ExecutionReport) -> bool:
        """Return whether a report says again what was said before: applied, it would change nothing.

        The first acknowledgement and the first answer to a change are news, also when they come behind the end. Nothing is known of
        an order that is UNKNOWN but its fills: what is said again is the evidence that ends it. A refused cancel is always news.
        """
        if report.kind is _FILL:
            return bool(report.trade_id) and report.trade_id in self.trade_ids
        if self.status is _UNKNOWN:
            return False
        if report.kind in _ANSWERS:
            return self._is_old_answer(report)
        if report.kind is _ACCEPTED and not (self.is_acknowledged and report.venue_order_id in ("", self.venue_order_id)):
            return False
        return report.kind in _SAID_AGAIN and (self.status in CLOSED or not self._has_other_terms(report))

    def _has_other_terms(self, report: ExecutionReport) -> bool:
        quantity = None if report.quantity is None else max(report.quantity, self.filled_quantity)
        told = ((quantity, self.quantity), (report.limit_ticks, self.limit_ticks), (report.stop_ticks, self.stop_ticks))
        return not self._is_overtaken(report) and any(new not in (None, old) for new, old in told)

    def _is_overtaken(self, report: ExecutionReport) -> bool:
        """Return whether a venue's word about terms is older than the last change that it took.

        A change that was refused, or made before the order left, says nothing about what the venue has.
        """
        return report.kind in _SAID_AGAIN and 0 < self.terms_revision > report.revision and self.is_acknowledged

    def _remember_word(self, report: ExecutionReport) -> None:
        """Remember what came behind the end of the order, so that it is news only once."""
        self.is_acknowledged |= report.kind is _ACCEPTED
        if report.kind in _ANSWERS:
            self.answered_revision = max(self.answered_revision, report.revision)

    def _apply_fill(self, report: ExecutionReport) -> Effect:
        if report.trade_id and report.trade_id in self.trade_ids:
            return Effect.DUPLICATE
        if not _is_bookable(report) or self.filled_quantity + report.last_quantity > self._most:
            return Effect.UNBOOKABLE
        is_late = self.status in CLOSED
        self.trade_ids.add(report.trade_id)
        self.filled_quantity += report.last_quantity
        self.filled_notional_ticks += report.last_quantity * report.last_ticks
        self.fees = _EXACT.add(self.fees, report.fee)
        self._note(report)
        # More than the old total: the change has happened, although nobody has said so yet.
        self.quantity = max(self.quantity, self.filled_quantity)
        if not is_late and self.status is not _PENDING_CANCEL:
            self.status = _NEW
        self._settle()
        return Effect.LATE_FILL if is_late else _HAS_FILLED

    def _is_old_answer(self, report: ExecutionReport) -> bool:
        return report.kind in _ANSWERS and report.revision <= self.answered_revision

    def _take_terms(self, report: ExecutionReport) -> None:
        """Take the terms that a report tells of, and end the change that it answers."""
        if report.kind in _TELL_TERMS and not self._is_overtaken(report):
            # Never below what has been filled: a report that was overtaken by a fill cannot undo it.
            self.quantity = self.quantity if report.quantity is None else max(report.quantity, self.filled_quantity)
            self.limit_ticks = self.limit_ticks if report.limit_ticks is None else report.limit_ticks
            self.stop_ticks = self.stop_ticks if report.stop_ticks is None else report.stop_ticks
        if report.kind is _REPLACED:
            self.wanted = self.wanted if report.quantity is None else report.quantity
            self.terms_revision = self.terms_revision if self.status is _SUSPENDED else report.revision
        if report.kind in _ANSWERS:
            self.answered_revision = report.revision
            self.revision = max(self.revision, report.revision)
            if self.changing is not None and self.changing.revision <= report.revision:
                self.changing = None
        elif self.status is _UNKNOWN and report.quantity is not None and self._has_seen_change(report):
            self.changing = None  # asked what became of it, the venue tells the terms: that is the answer

    def _has_seen_change(self, report: ExecutionReport) -> bool:
        """Return whether a venue's word about terms is from after the change was asked for: one from before says nothing about it."""
        change = self.changing
        return change is None or report.revision >= change.revision or report.ts_event >= change.ts_event

    def _settle(self) -> None:
        """Bring the status in line with what is filled and what is asked for; NEW becomes as much as the venue has confirmed."""
        if self.filled_quantity >= self._most:
            self.status = _FILLED
        elif self.status is _NEW:
            self.status = self._alive()

    def _alive(self) -> OrderStatus:
        if self.changing is not None:
            return OrderStatus.PENDING_REPLACE
        if self.filled_quantity:
            return OrderStatus.PARTIALLY_FILLED
        return _NEW if self.is_acknowledged else _PENDING_NEW

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
            quantity=self.quantity,
            filled_quantity=self.filled_quantity,
            average_ticks=self.average_ticks,
            limit_ticks=self.limit_ticks if intent.order_type.has_limit else None,
            status=self.status,
            reason=self.reason,
            decision_id=intent.decision_id,
            order_type=intent.order_type,
            stop_ticks=self.stop_ticks,
            time_in_force=intent.time_in_force,
        )


def _is_bookable(report: ExecutionReport) -> bool:
    return bool(report.trade_id) and report.last_quantity >= 1 and report.fee.is_finite() and abs(report.fee) < LARGEST_FEE
