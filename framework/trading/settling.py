"""What is held here until its time comes, and orders that belong together: done until nothing follows any more."""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from framework.clock import Clock
from framework.logs import foreign
from framework.messages import ExecutionReport, ReplaceOrder, ReportKind
from framework.trading.blotter import Blotter
from framework.trading.contingent import Cancel, Release, Say, Shrink
from framework.trading.journal import Journal
from framework.trading.orders import Order
from framework.trading.outgoing import Outgoing
from framework.trading.risk import Denied, RiskGate
from framework.trading.sight import Sight

MOST_ACTS: Final = 1_000
PASSING: Final = frozenset(
    {"NOT_READY", "JOURNAL", "INSTRUMENT", "BOOK", "PRICE_COLLAR", "LAST_TRADE", "ORDER_RATE", "NOTIONAL_RATE", "SELF_TRADE"}
)
"""Codes that may no longer hold in a moment: a stop that was set off is tried again. Any other ends it."""
log = logging.getLogger("Execution")


class Settling:
    """Carry out what `Contingencies` says, order by order, through the same way out as everything else."""

    def __init__(self, clock: Clock, *, blotter: Blotter, sight: Sight, gate: RiskGate, journal: Journal, out: Outgoing) -> None:
        self._clock = clock
        self._blotter = blotter
        self._sight = sight
        self._gate = gate
        self._journal = journal
        self._out = out

    def settle(self, instrument_id: str) -> None:
        """Do what follows for orders that are held or belong together, until nothing does."""
        held = self._blotter.held
        held_up: set[str] = set()
        for _ in range(MOST_ACTS):
            act = None if held.is_idle else held.review(instrument_id, self._clock.now_ns(), held_up)
            if act is None:
                return
            if not self._do(act) and isinstance(act, Release):
                held_up.add(act.client_order_id)
        log.error("contingent orders in %s do not come to rest", foreign(instrument_id))

    def _do(self, act: Say | Release | Cancel | Shrink) -> bool:
        """Do one thing; return whether there may be another."""
        match act:
            case Say(report):
                self._out.hear(report)
            case Release(name):
                return self._release(self._blotter.open[name])
            case Cancel(name):
                self._out.cancel(self._blotter.open[name])
            case Shrink(name, quantity):
                intent = self._blotter.open[name].intent
                now_ns = self._clock.now_ns()
                self._out.replace(ReplaceOrder(client_order_id=name, strategy_id=intent.strategy_id, ts_event=now_ns, quantity=quantity))
        return True

    def _release(self, order: Order) -> bool:
        now_ns = self._clock.now_ns()
        verdict = self._gate.check_release(msgspec.structs.replace(order.outgoing(), ts_event=now_ns), self._sight, now_ns)
        name = order.intent.client_order_id
        if isinstance(verdict, Denied):
            self._blotter.counts["releases_denied"] += 1
            if verdict.code in PASSING:
                return False
            self._out.hear(ExecutionReport(client_order_id=name, kind=ReportKind.CANCELED, ts_event=now_ns, reason=str(verdict)))
            return True
        report = ExecutionReport(
            client_order_id=name,
            kind=ReportKind.RELEASED,
            ts_event=now_ns,
            limit_ticks=verdict.order.limit_ticks,
            quantity=order.quantity,
            seen=self._sight.seen(verdict.order),
        )
        if not self._journal.is_healthy:
            return False
        self._out.hear(report)
        if self._journal.is_healthy:
            self._out.send(verdict.order)
        return True
