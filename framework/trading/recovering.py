"""What a start does with the past: take it from the fold of the journal, hand it to the venue, and ask what became of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from framework.clock import Clock
from framework.messages import ExecutionReport, ReportKind
from framework.model import OrderStatus
from framework.trading.blotter import Blotter
from framework.trading.fold import Facts, restore_blotter
from framework.trading.orders import Order
from framework.trading.outgoing import Outgoing
from framework.trading.portfolio import Portfolio, Position
from framework.trading.risk import RiskGate, Tightening, limits_digest
from framework.trading.sight import Sight
from framework.venues.port import Booked, RestingOrder, Venue

RECONCILING: Final = "reconciling"
log = logging.getLogger("Execution")


class Recovery:
    """Bring Execution's parts to where the last run left them. The gate stays closed until nothing of it is UNKNOWN any more."""

    def __init__(self, clock: Clock, *, venue: Venue, gate: RiskGate, blotter: Blotter, sight: Sight, out: Outgoing) -> None:
        self._clock = clock
        self._venue = venue
        self._gate = gate
        self._blotter = blotter
        self._sight = sight
        self._out = out

    def take(self, facts: Facts) -> None:
        """Take orders, positions, losses, rates and tightened limits."""
        restore_blotter(self._blotter, facts)
        if facts.limits_digest == limits_digest(self._gate.limits.config):
            for change in facts.tightened:
                self._gate.limits.tighten(Tightening(scope=change.scope, key=change.key, value=change.value))
        for order in facts.sent:
            if self._sight.knows(order.instrument_id):
                ticks = order.limit_ticks or 0
                self._gate.note(order, self._sight.contract_value(order.instrument_id, ticks) * order.quantity, order.ts_event)

    def hand_over(self, orders: list[Order]) -> tuple[str, ...]:
        """Give the venue orders, positions and money back, and doubt every order; return the ids to ask about."""
        wanted = [order for order in orders if order.status is not OrderStatus.SUSPENDED]
        portfolio = self._blotter.portfolio
        positions = {holder: position.quantity for holder, position in portfolio.positions().items() if position.quantity}
        booked = {name: Booked(one.quantity, one.open_cost, one.realized, one.fees) for name, one in _accounts(portfolio)}
        self._venue.restore(tuple(resting(order) for order in wanted if order.is_acknowledged), positions, booked)
        for order in wanted:
            name, now_ns = order.intent.client_order_id, self._clock.now_ns()
            self._out.hear(ExecutionReport(client_order_id=name, kind=ReportKind.LOST, ts_event=now_ns, reason="the last run ended"))
            self._out.asked[name] = now_ns
            self._out.questions.note(name)
        if wanted:
            self._sight.unready[RECONCILING] = "the venue has not said yet what became of the orders of the last run"
        return tuple(order.intent.client_order_id for order in wanted)

    def finish(self, orders: list[Order]) -> None:
        """Open the gate once nothing of the last run is UNKNOWN any more."""
        if RECONCILING in self._sight.unready and not any(order.status is OrderStatus.UNKNOWN for order in orders):
            del self._sight.unready[RECONCILING]
            log.info("reconciled: the venue has said what became of every order of the last run")


def _accounts(portfolio: Portfolio) -> Iterator[tuple[str, Position]]:
    """Yield what the account has in each instrument that ever traded."""
    for instrument_id in sorted({instrument_id for _, instrument_id in portfolio.positions()}):
        yield instrument_id, portfolio.account(instrument_id)


def resting(order: Order) -> RestingOrder:
    """Return an order as a venue knows it."""
    return RestingOrder(
        intent=order.outgoing(),
        venue_order_id=order.venue_order_id,
        quantity=order.quantity,
        filled_quantity=order.filled_quantity,
        limit_ticks=order.limit_ticks,
    )
