"""What single orders did in a market by order: for a venue that keeps exact queues. It never goes over the bus."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from framework.model import Side


class OrderAction(StrEnum):
    """What happened to somebody's order. A FILL does not change the book: the CANCEL or CHANGE that follows it does."""

    ADD = "ADD"
    CANCEL = "CANCEL"
    CHANGE = "CHANGE"
    FILL = "FILL"
    CLEAR = "CLEAR"


class OrderChange(NamedTuple):
    """One record. `size` is the lots added, taken out, filled, or (CHANGE) the new size; `ts_recv` is when it reached us, ns UTC."""

    ts_recv: int
    action: OrderAction
    order_id: int
    side: Side | None
    price_ticks: int
    size: int
