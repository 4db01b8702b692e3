"""What the tests of the trading room share: an instrument, books, orders and a venue that says what it is told to say."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from framework.messages import BookSnapshot, SubmitOrder
from framework.model import NS_PER_S, Instrument, OrderType, Side, TimeInForce

NOW = 1_000 * NS_PER_S
INSTRUMENT = Instrument(instrument_id="A.X", tick_size=Decimal("0.25"), multiplier=Decimal(50))


def book(bids: Sequence[int] = (99, 98), asks: Sequence[int] = (101, 102), *, ts: int = NOW, sequence: int = 1) -> BookSnapshot:
    return BookSnapshot(
        instrument_id="A.X",
        ts_event=ts,
        ts_recv=ts,
        sequence=sequence,
        bid_ticks=tuple(bids),
        bid_sizes=(10,) * len(bids),
        ask_ticks=tuple(asks),
        ask_sizes=(10,) * len(asks),
    )


def submit(client_order_id: str = "o1", side: Side = Side.BUY, quantity: Any = 1, **fields: Any) -> SubmitOrder:
    fields.setdefault("order_type", OrderType.LIMIT if fields.get("limit_ticks", 100) is not None else OrderType.MARKET)
    return SubmitOrder(
        **{
            "client_order_id": client_order_id,
            "strategy_id": "s",
            "instrument_id": "A.X",
            "side": side,
            "quantity": quantity,
            "limit_ticks": 100,
            "time_in_force": TimeInForce.DAY,
            "ts_event": NOW,
            **fields,
        }
    )
