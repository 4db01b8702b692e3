"""From a command to the venue: gate, journal, venue, in this order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from framework.clock import Clock
from framework.errors import IntegrityError, StorageError
from framework.messages import CancelOrder, ExecutionReport, Message, ReplaceOrder, ReportKind, SubmitList, SubmitOrder
from framework.model import IN_FLIGHT, NS_PER_S, OrderStatus
from framework.trading.blotter import Blotter
from framework.trading.journal import Journal, is_recordable
from framework.trading.order_states import REPLACEABLE, Effect, is_held
from framework.trading.order_terms import fault_in_list
from framework.trading.orders import Order
from framework.trading.questions import Questions
from framework.trading.risk import Approved, Denied, RiskGate, Verdict, is_whole
from framework.trading.sight import Sight
from framework.venues.port import Venue

QUESTIONS_A_RECORD: Final = 20
"""Questions of a run are numbered from the journal's last record: so many bits are left for those of one run."""
KILLED: Final = "the kill switch is set"
log = logging.getLogger("Execution")


class Outgoing:
    """Let orders, changes and cancels out. Every intent is durable before the venue is called; a denial is journalled and told."""

    def __init__(
        self,
        *,
        clock: Clock,
        blotter: Blotter,
        sight: Sight,
        gate: RiskGate,
        journal: Journal,
        venue: Venue,
        publish: Callable[[Message], None],
    ) -> None:
        self._clock = clock
        self._blotter = blotter
        self._sight = sight
        self._gate = gate
        self._journal = journal
        self._venue = venue
        self._publish = publish
        self.asked: dict[str, int] = {}
        """When something was last asked of the venue that it has not answered, by order, oldest first; the watch looks after it."""
        self.questions = Questions(blotter, journal.last_seq << QUESTIONS_A_RECORD)

    # --- orders --------------------------------------------------------------------------------------------------------------

    def submit(self, order: SubmitOrder, *, is_by_operator: bool = False) -> None:
        """Send an order or hold it, if the gate lets it."""
        verdict = self._check(order, is_by_operator=is_by_operator)
        if isinstance(verdict, Approved) and not self.record(verdict.order, key=order.client_order_id):
            verdict = Denied("JOURNAL", "intents cannot be made durable")
        if isinstance(verdict, Denied):
            self._deny(order, verdict)
        else:
            self._let_out(self._blotter.add(verdict.order), verdict.order, is_by_operator=is_by_operator)

    def submit_list(self, command: SubmitList) -> None:
        """Send all orders of a list, or none of them."""
        orders = command.orders
        fault = fault_in_list(orders, command.strategy_id)
        verdict: Verdict | None = None if fault is None else Denied("LIST", fault)
        approved: list[SubmitOrder] = []
        for order in orders if verdict is None else ():
            verdict = self._check(order)
            if isinstance(verdict, Denied):
                verdict = Denied(verdict.code, f"order={order.client_order_id} {verdict.detail}")
                break
            self._blotter.add(verdict.order)  # so that the next one is looked at with this one open
            approved.append(verdict.order)
        if not isinstance(verdict, Denied) and not self._record_all(approved):
            verdict = Denied("JOURNAL", "intents cannot be made durable")
        if isinstance(verdict, Denied):
            for order in approved:
                self._blotter.drop(order.client_order_id)
            for order in orders:
                self._deny(order, verdict)
            return
        for order in approved:
            self._let_out(self._blotter.open[order.client_order_id], order)

    def replace(self, change: ReplaceOrder) -> None:
        """Ask for other terms of an open order, if the gate lets them."""
        order = self._blotter.open.get(change.client_order_id)
        if order is None or order.intent.strategy_id != change.strategy_id:
            self._blotter.counts["changes_without_an_order"] += 1
            return
        denied = self._why_not_replace(order, change)
        if denied is not None:
            self._refuse_change(order, denied)
            return
        numbered = msgspec.structs.replace(change, revision=order.revision + 1, ts_event=self._clock.now_ns())
        if order.status is OrderStatus.SUSPENDED:
            self.hear(_replaced(order, numbered, self._clock.now_ns()))
        elif not self.record(numbered, key=change.client_order_id):
            self._refuse_change(order, Denied("JOURNAL", "intents cannot be made durable"))
        else:
            self._blotter.request_replace(numbered)
            self._blotter.counts["changes"] += 1
            self._publish(order.update())
            self._send_change(numbered)

    def cancel(self, order: Order) -> bool:
        """Ask the venue to cancel, unless its answer is not overdue; what is held here just ends. Return whether anything was asked."""
        intent = order.intent
        now_ns = self._clock.now_ns()
        if self.is_canceling(order):
            self._blotter.counts["cancels_under_way"] += 1
            return False
        self._blotter.counts["cancels"] += 1
        if order.status is OrderStatus.SUSPENDED:
            self.hear(ExecutionReport(client_order_id=intent.client_order_id, kind=ReportKind.CANCELED, ts_event=now_ns))
            return True
        command = CancelOrder(client_order_id=intent.client_order_id, strategy_id=intent.strategy_id, ts_event=now_ns)
        self._ask_for(intent.client_order_id)
        self._venue.cancel(intent.client_order_id)
        self._blotter.request_cancel(intent.client_order_id, now_ns)
        self._publish(order.update())
        self.record(command, durable=False, key=intent.client_order_id)
        return True

    def is_canceling(self, order: Order) -> bool:
        """Return whether the venue was asked to cancel an order, and its answer is not overdue."""
        asked_ns = self.asked.get(order.intent.client_order_id)
        if order.status is not OrderStatus.PENDING_CANCEL or asked_ns is None:
            return False
        return self._clock.now_ns() - asked_ns < float(self._gate.limits.get("answer_timeout_s")) * NS_PER_S

    # --- reports, the venue's and our own ------------------------------------------------------------------------------------

    def hear(self, report: ExecutionReport) -> Effect:
        """Journal a report, apply it, tell what it did."""
        self.record(report, key=report.client_order_id)
        effect, told = self._blotter.apply(report)
        for event in told:
            self._publish(event)
        if report.kind is not ReportKind.LOST:
            self._answered(report.client_order_id)
        order = self._blotter.find(report.client_order_id)
        if order is not None and effect is Effect.CHANGED and not order.is_open:
            # It ended short of its quantity: to send it again is no duplicate.
            self._gate.recent.forget(order.intent.strategy_id, order.intent.instrument_id, order.intent.client_order_id)
        if order is not None and not order.is_open:
            self.questions.forget(report.client_order_id)
        return effect

    def _answered(self, client_order_id: str) -> None:
        order = self._blotter.open.get(client_order_id)
        if order is None or order.status not in IN_FLIGHT:
            self.asked.pop(client_order_id, None)
        elif order.status is OrderStatus.UNKNOWN:
            self.asked.setdefault(client_order_id, self._clock.now_ns())

    # --- inside --------------------------------------------------------------------------------------------------------------

    def _check(self, order: SubmitOrder, *, is_by_operator: bool = False) -> Verdict:
        gate, now_ns = self._gate, self._clock.now_ns()
        check = gate.check_by_operator if is_by_operator else gate.check_held if is_held(order) else gate.check
        verdict = check(order, self._sight, now_ns)
        if not isinstance(verdict, Approved):
            return verdict
        approved = msgspec.structs.replace(verdict.order, seen=self._sight.seen(order))
        return Approved(approved) if is_recordable(approved) else Denied("MALFORMED", "a field has a value of the wrong type")

    def _let_out(self, order: Order, intent: SubmitOrder, *, is_by_operator: bool = False) -> None:
        self._blotter.counts["orders"] += 1
        self._publish(order.update())
        if order.status is not OrderStatus.SUSPENDED:
            self.send(intent, is_by_operator=is_by_operator)

    def send(self, intent: SubmitOrder, *, is_by_operator: bool = False) -> None:
        """Hand an order to the venue, unless the kill switch was set while its intent was made durable: a slow disk is no way around it."""
        name = intent.client_order_id
        if is_by_operator or not self._sight.is_killed():
            self._ask_for(name)
            self.questions.note(name)
            self._venue.submit(intent)
            return
        now_ns = self._clock.now_ns()
        self.hear(ExecutionReport(client_order_id=name, kind=ReportKind.CANCELED, ts_event=now_ns, reason=KILLED))

    def _send_change(self, change: ReplaceOrder) -> None:
        """Hand a change to the venue, under the same condition."""
        name = change.client_order_id
        if not self._sight.is_killed():
            self._ask_for(name)
            self.questions.note(name)
            self._venue.replace(change)
            return
        self.hear(
            ExecutionReport(
                client_order_id=name,
                kind=ReportKind.REPLACE_REJECTED,
                ts_event=self._clock.now_ns(),
                revision=change.revision,
                reason=KILLED,
            )
        )

    def _ask_for(self, client_order_id: str) -> None:
        self.asked.pop(client_order_id, None)
        self.asked[client_order_id] = self._clock.now_ns()

    def _why_not_replace(self, order: Order, change: ReplaceOrder) -> Denied | None:
        if order.status not in REPLACEABLE and order.status is not OrderStatus.SUSPENDED:
            return Denied("NOT_REPLACEABLE", f"status={order.status}")
        if not is_recordable(change):
            return Denied("MALFORMED", "a field has a value of the wrong type")
        # Its own open lots are what is changed: they must not count beside the new ones.
        self._blotter.exposure.forget(order.intent.client_order_id)
        try:
            return self._gate.check_replace(order, change, self._sight, self._clock.now_ns())
        finally:
            self._blotter.exposure.note(order)

    def _refuse_change(self, order: Order, denied: Denied) -> None:
        self._blotter.counts["changes_denied"] += 1
        update = msgspec.structs.replace(order.update(), reason=str(denied), ts_event=self._clock.now_ns())
        self.record(update, durable=False)
        self._publish(update)

    def _deny(self, order: SubmitOrder, verdict: Denied) -> None:
        self._blotter.counts["denied"] += 1
        self._blotter.counts[f"denied_{verdict.code.lower()}"] += 1
        denied = Order(_printable(order), status=OrderStatus.DENIED, reason=str(verdict), ts_event=self._clock.now_ns()).update()
        if is_recordable(denied):
            self.record(denied, durable=False, key=denied.client_order_id)
        self._publish(denied)

    def _record_all(self, orders: list[SubmitOrder]) -> bool:
        """Make several intents durable at once."""
        return all(self.record(order, durable=order is orders[-1], key=order.client_order_id) for order in orders)

    def record(self, message: Message, *, durable: bool = True, key: str = "") -> bool:
        """Journal a message; return whether it is there.

        A disk that fails must not keep a fill or a kill from taking effect: the gate sees `is_healthy` and lets nothing new out.
        """
        try:
            self._journal.append(type(message).__name__, message, durable=durable, key=key)
        except (StorageError, IntegrityError) as exc:
            self._blotter.counts["journal_failures"] += 1
            log.error("%s", exc)
            return False
        return True


def _replaced(order: Order, change: ReplaceOrder, now_ns: int) -> ExecutionReport:
    """Return the answer to a change of an order that is held here: nobody else has to be asked."""
    return ExecutionReport(
        client_order_id=order.intent.client_order_id,
        kind=ReportKind.REPLACED,
        ts_event=now_ns,
        quantity=change.quantity,
        limit_ticks=change.limit_ticks,
        stop_ticks=change.stop_ticks,
        revision=change.revision,
    )


def _printable(order: SubmitOrder) -> SubmitOrder:
    """Return a denied order with nonsense left out: a NaN in the journal could be written, but never read back."""
    return msgspec.structs.replace(
        order,
        quantity=order.quantity if is_whole(order.quantity) else 0,
        limit_ticks=order.limit_ticks if is_whole(order.limit_ticks) else None,
        stop_ticks=order.stop_ticks if is_whole(order.stop_ticks) else None,
    )
