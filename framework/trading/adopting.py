"""Orders and trades on our account that nobody here sent."""

from __future__ import annotations

import logging
from collections.abc import Container

from framework.logs import foreign
from framework.messages import ExecutionReport, ReportKind, SubmitOrder
from framework.model import OrderType, TimeInForce
from framework.trading.blotter import EXTERNAL, Blotter
from framework.trading.journal import is_recordable
from framework.trading.outgoing import Outgoing
from framework.trading.records import OrderAdopted

log = logging.getLogger("Execution")


def adopt(report: ExecutionReport, instruments: Container[str], blotter: Blotter, out: Outgoing) -> bool:
    """Take an order or a trade that nobody here sent, if the venue says what it is; it counts for all, credits none."""
    is_told = report.side is not None and report.kind in (ReportKind.ACCEPTED, ReportKind.FILLED)
    if report.instrument_id not in instruments or not is_told:
        return False
    order = adopted_intent(report)
    if not is_recordable(order) or order.quantity < 1 or not out.record(order, key=order.client_order_id):
        return False
    note = OrderAdopted(
        ts_event=report.ts_event,
        client_order_id=report.client_order_id,
        venue_order_id=report.venue_order_id,
        reason=report.reason,
    )
    out.record(note)
    blotter.adopt(note)
    blotter.add(order)
    blotter.counts["adopted"] += 1
    log.warning("adopted as EXTERNAL: order %s in %s", foreign(report.client_order_id), foreign(report.instrument_id))
    return True


def adopted_intent(report: ExecutionReport) -> SubmitOrder:
    """Return what somebody else must have asked for, as far as the venue's word tells."""
    assert report.side is not None
    return SubmitOrder(
        client_order_id=report.client_order_id,
        strategy_id=EXTERNAL,
        instrument_id=report.instrument_id,
        side=report.side,
        quantity=report.quantity if report.quantity is not None else report.last_quantity,
        order_type=OrderType.LIMIT,
        limit_ticks=report.limit_ticks if report.limit_ticks is not None else report.last_ticks,
        time_in_force=TimeInForce.GTC,
        ts_event=report.ts_event,
    )
