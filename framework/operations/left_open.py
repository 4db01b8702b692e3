"""The positions that a run leaves behind, and what protects each of them until the next start."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from framework.messages import OrderUpdated
from framework.model import Instrument, OrderStatus
from framework.operations.options import LeftOpen
from framework.trading.execution import ExecutionActor


def left_open(execution: ExecutionActor, instruments: Mapping[str, Instrument]) -> tuple[LeftOpen, ...]:
    """Return each position that is not flat, in order of strategy and instrument."""
    found = []
    for (strategy_id, instrument_id), position in sorted(execution.portfolio.positions().items()):
        if position.quantity:
            instrument = instruments[instrument_id]
            found.append(
                LeftOpen(
                    strategy_id=strategy_id,
                    instrument_id=instrument_id,
                    quantity=position.quantity,
                    average_price=_price(instrument, position.average_ticks),
                    protected_by=tuple(_words(instrument, order) for order in execution.protection(strategy_id, instrument_id)),
                )
            )
    return tuple(found)


def _words(instrument: Instrument, order: OrderUpdated) -> str:
    terms = f"{order.client_order_id} {order.order_type} {order.side} {order.quantity - order.filled_quantity}"
    prices = [
        f"{name} {instrument.price(ticks):f}"
        for name, ticks in (("stop", order.stop_ticks), ("limit", order.limit_ticks))
        if ticks is not None
    ]
    place = "held here: it waits for the next start" if order.status is OrderStatus.SUSPENDED else "at the venue"
    return f"{' '.join([terms, *prices])} ({place})"


def _price(instrument: Instrument, ticks: float) -> Decimal:
    return (instrument.tick_size * Decimal(repr(ticks))).normalize()
