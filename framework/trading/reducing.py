"""Reduce-only orders after the gate: a position can become smaller while they rest or are held, and none may turn it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from framework.model import OrderStatus, Side
from framework.trading.orders import Order


class Reducing:
    """The reduce-only orders that are at a venue.

    `position` returns the signed lots of a strategy in an instrument, `open_quantity` what its open orders of one side may still
    fill. What follows is a function of orders and position as they are: the oldest order keeps its lots as far as the position reaches,
    the next one what is left. Orders whose fate is UNKNOWN or whose cancel is under way count too, at their worst.
    """

    def __init__(self, position: Callable[[str, str], int], open_quantity: Callable[[str, str, Side], int]) -> None:
        self._position = position
        self._open_quantity = open_quantity
        self._resting: dict[str, Order] = {}

    def note(self, order: Order) -> None:
        """Take an order that is new or has changed."""
        if order.intent.reduce_only and order.is_open and order.status is not OrderStatus.SUSPENDED:
            self._resting[order.intent.client_order_id] = order
        else:
            self._resting.pop(order.intent.client_order_id, None)

    @property
    def is_idle(self) -> bool:
        """Return whether none is at a venue."""
        return not self._resting

    def excess(self, instrument_id: str) -> Iterator[tuple[Order, int]]:
        """Yield the orders that could turn a position, each with the total that it may have."""
        rooms: dict[tuple[str, Side], int] = {}
        for order in self._resting.values():
            intent = order.intent
            if intent.instrument_id != instrument_id:
                continue
            holder = (intent.strategy_id, intent.side)
            room = rooms[holder] if holder in rooms else self.reach(order)
            rooms[holder] = max(0, room - order.open_quantity)
            if order.open_quantity > room:
                yield order, order.filled_quantity + room

    def protects(self, order: Order, entry: Order | None) -> bool:
        """Return whether an order is a way out of a position that is there or may still come: a stop or a leg that only reduces."""
        intent = order.intent
        is_exit = intent.reduce_only and (intent.order_type.is_stop or bool(intent.parent_id or intent.oco_id))
        return is_exit and (self.reach(order) > 0 or (entry is not None and entry.is_open))

    def reach(self, order: Order) -> int:
        """Return the lots of the position that an order of this side closes."""
        intent = order.intent
        return max(0, -intent.side.sign * self._position(intent.strategy_id, intent.instrument_id))

    def left_for(self, order: Order) -> int:
        """Return what the open orders at the venue leave of the position for one that is held."""
        intent = order.intent
        return max(0, self.reach(order) - self._open_quantity(intent.strategy_id, intent.instrument_id, intent.side))
