"""An operator's word for what became of an order, as the reports that a venue would have sent."""

from __future__ import annotations

from collections.abc import Iterator

from framework.errors import ConfigError
from framework.logs import foreign
from framework.messages import ExecutionReport, ReportKind
from framework.model import Liquidity
from framework.operations.control import ResolveOrder
from framework.trading.execution import ExecutionActor

REASON = "on an operator's word"


def operators_word(execution: ExecutionActor, command: ResolveOrder, now_ns: int) -> Iterator[ExecutionReport]:
    """Yield the fill that an operator speaks of, and the end of the order. Raises `ConfigError` for what cannot be true.

    The trade id is made of the order's id, so that the same word twice counts once; fees are not known and left out.
    """
    order = execution.blotter.open.get(command.client_order_id)
    if order is None:
        raise ConfigError(f"resolve-order: {foreign(command.client_order_id, 80)} is not open; see: main.py status")
    left = order.quantity - order.filled_quantity
    if not 0 <= command.quantity <= left:
        raise ConfigError(f"resolve-order: found {command.quantity} lots; allowed 0 to {left}")
    instrument = execution.portfolio.instrument(order.intent.instrument_id)
    if command.quantity:
        if not command.price:
            raise ConfigError("resolve-order: found a quantity without a price; allowed both, or neither")
        yield ExecutionReport(
            client_order_id=command.client_order_id,
            kind=ReportKind.FILLED,
            ts_event=now_ns,
            trade_id=f"OPERATOR-{command.client_order_id}",
            last_quantity=command.quantity,
            last_ticks=instrument.ticks(command.price),
            liquidity=Liquidity.TAKER,
            reason=REASON,
        )
    if command.quantity < left:
        yield ExecutionReport(client_order_id=command.client_order_id, kind=ReportKind.CANCELED, ts_event=now_ns, reason=REASON)
