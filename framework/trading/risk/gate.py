"""The one gate: every order passes one synchronous check, or is denied with a code and its numbers."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from framework.config import RiskLimits
from framework.messages import ReplaceOrder, SubmitOrder
from framework.model import NS_PER_S, OrderStatus, OrderType
from framework.trading.orders import Order
from framework.trading.risk.case import Case, marketable_limit
from framework.trading.risk.checks import (
    BY_OPERATOR,
    CHANGED,
    CHANGED_HELD,
    HELD,
    RELEASED,
    SHRUNK,
    STEPS,
    Steps,
)
from framework.trading.risk.limits import LimitBook
from framework.trading.risk.verdict import Approved, Denied, Verdict, is_whole
from framework.trading.risk.view import RiskView
from framework.trading.risk.windows import MINUTE_NS, Recent, Throttles


class RiskGate:
    """Check orders against limits. `check` is synchronous, has no I/O, and treats NaN and nonsense as a reason to deny.

    Every comparison is written so that a number that is none denies. What was approved counts towards the rates at once.
    """

    def __init__(self, limits: RiskLimits | LimitBook) -> None:
        self.limits = limits if isinstance(limits, LimitBook) else LimitBook(limits)
        self.throttles = Throttles()
        self.recent = Recent()

    def check(self, order: SubmitOrder, view: RiskView, now_ns: int) -> Verdict:
        """Return `Approved` with the order as it may go, or `Denied`."""
        return self._check(STEPS, order, view, now_ns)

    def check_by_operator(self, order: SubmitOrder, view: RiskView, now_ns: int) -> Verdict:
        """Check an order that flattens a position for the operator: halted or not, it has to be sound and may only reduce."""
        return self._check(BY_OPERATOR, order, view, now_ns)

    def check_held(self, order: SubmitOrder, view: RiskView, now_ns: int) -> Verdict:
        """Check an order that is to be held here (a stop, a leg): what depends on the market is asked when it is released."""
        return self._check(HELD, order, view, now_ns)

    def check_release(self, order: SubmitOrder, view: RiskView, now_ns: int) -> Verdict:
        """Check a held order that goes to the venue now: everything but what was settled when it came."""
        return self._check(RELEASED, order, view, now_ns)

    def check_replace(self, order: Order, change: ReplaceOrder, view: RiskView, now_ns: int) -> Denied | None:
        """Check an order as it would be after a change, its own open lots left out of `view`. What only gets smaller passes but a halt."""
        filled = order.filled_quantity
        total = order.quantity if change.quantity is None else change.quantity
        shape = order.intent if order.status is OrderStatus.SUSPENDED else order.outgoing()
        changed = msgspec.structs.replace(
            shape,
            quantity=total - filled if is_whole(total) else total,
            limit_ticks=shape.limit_ticks if change.limit_ticks is None else change.limit_ticks,
            stop_ticks=shape.stop_ticks if change.stop_ticks is None else change.stop_ticks,
            ts_event=change.ts_event,
        )
        is_shrinking = change.limit_ticks is None and change.stop_ticks is None and is_whole(total) and filled < total <= order.quantity
        held = SHRUNK if is_shrinking else CHANGED_HELD if order.status is OrderStatus.SUSPENDED else CHANGED
        case = self._case(changed, view, now_ns)
        denied = self._first_denial(held, case)
        if denied is None and not is_shrinking:
            self.note(changed, case.order_notional, now_ns)
        return denied

    def _check(self, steps: Steps, order: SubmitOrder, view: RiskView, now_ns: int) -> Verdict:
        case = self._case(order, view, now_ns)
        denied = self._first_denial(steps, case)
        if denied is not None:
            return denied
        approved = self._inside_collar(case) if steps is not HELD and steps is not CHANGED_HELD else order
        self.note(order, case.order_notional, now_ns)
        return Approved(approved)

    def _case(self, order: SubmitOrder, view: RiskView, now_ns: int) -> Case:
        return Case(order, view, now_ns, limits=self.limits, throttles=self.throttles, recent=self.recent)

    def _first_denial(self, steps: Steps, case: Case) -> Denied | None:
        for code, check in steps:
            detail = check(case)
            if detail is not None:
                return Denied(code, detail)
        return None

    def may_cancel(self, strategy_id: str, now_ns: int) -> Denied | None:
        """Return why a strategy may not cancel now, or None. Cancels have a throttle of their own, and no other check."""
        most = self.limits.get("max_cancels_per_second")
        window = self.throttles.window(f"cancels:{strategy_id}", NS_PER_S, now_ns)
        if not len(window) < most:
            return Denied("CANCEL_RATE", f"last_second={len(window)} limit={most}")
        window.add(now_ns, Decimal(0))
        return None

    def note(self, order: SubmitOrder, notional: Decimal, ts_event: int) -> None:
        """Count an order that left, towards every rate that has a limit (also one of the run before, in order of time)."""
        for scope in self.limits.scopes(order.strategy_id, order.instrument_id):
            limits, name = scope.limits, scope.counted_as
            if limits.get("max_orders_per_second"):
                self.throttles.window(name, NS_PER_S, ts_event).add(ts_event, notional)
            if limits.get("max_orders_per_minute") or limits.get("max_notional_per_minute"):
                self.throttles.window(name, MINUTE_NS, ts_event).add(ts_event, notional)
        self.recent.note(order, ts_event)

    def _inside_collar(self, case: Case) -> SubmitOrder:
        """Return a market order as a limit at the collar's edge, or just short of our own order there."""
        order = case.order
        if order.order_type is not OrderType.MARKET or order.limit_ticks is not None:
            return order
        return msgspec.structs.replace(order, limit_ticks=marketable_limit(case))
