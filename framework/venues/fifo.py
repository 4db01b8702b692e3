"""Exact queues, where the recording tells of every order: who stands ahead of ours is known by name.

Rules beside those of `framework.venues.matching`, which go on for taking orders and for a book that crosses:

- A resting order joins behind the orders that rest at its price then. They leave one by one: canceled, filled, or changed to another
  price or a larger size (a smaller size keeps its place).
- A fill of somebody's order that stands behind ours (later at the same price, or at a worse one) would have been ours, up to its size.
- After the recording cleared its book, ours stand behind whoever rests there when trading goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from framework.market.order_log import OrderAction, OrderChange
from framework.messages import TradeTick
from framework.model import Liquidity, Side
from framework.venues.matching import Execution, MatchingEngine, Resting

Queue = dict[int, int]
"""Orders at one price by id, oldest first, with their lots."""


@dataclass(slots=True)
class ExactPlace:
    """The orders ahead of ours by id; None until it joins."""

    orders: Queue | None

    @property
    def ahead(self) -> float | None:
        """Return the lots in front of it."""
        return None if self.orders is None else float(sum(self.orders.values()))

    def see(self, displayed: int, now_ns: int) -> None:
        """Sizes say nothing here."""

    def trade(self, size: int, now_ns: int) -> int:  # noqa: ARG002 (the port's signature)
        """Trades say nothing here: the orders that they fill do."""
        return 0

    def lead(self) -> None:
        """Stand first."""
        self.orders = {}

    def leave_session(self) -> None:
        """Stand last in the next session."""
        self.orders = None


class FifoEngine(MatchingEngine):
    """Match the orders of one instrument by the log of everybody's orders, which is read up to the time that `advance` names."""

    reads_ahead = True

    def __init__(self, log: Iterator[OrderChange]) -> None:
        super().__init__()
        self._log = log
        self._next = next(log, None)
        self._orders: dict[int, tuple[Side, int]] = {}
        self._queues: dict[tuple[Side, int], Queue] = {}
        self.unknown_orders = 0

    def lots_at(self, side: Side, price_ticks: int) -> float | None:
        """Return how many lots the log has at a price."""
        return float(sum(self._queues.get((side, price_ticks), {}).values()))

    def rest(self, client_order_id: str, side: Side, limit_ticks: int, open_quantity: int) -> None:
        """Join the queue at the limit price, behind the orders that rest there."""
        place = ExactPlace(dict(self._queues.get((side, limit_ticks), {})))
        self._join(Resting(client_order_id, side, limit_ticks, open_quantity, place))

    def on_trade(self, tick: TradeTick) -> list[Execution]:  # noqa: ARG002 (the orders that it fills say more)
        """Return nothing: fills come from the log."""
        return []

    def advance(self, until_ns: int) -> list[Execution]:
        """Read the log up to a time and return what it fills."""
        fills: list[Execution] = []
        while self._next is not None and self._next.ts_recv <= until_ns:
            fills += _ACTIONS[self._next.action](self, self._next)
            self._next = next(self._log, None)
        return fills

    # --- one record at a time --------------------------------------------------------------------------------------------

    def _add(self, change: OrderChange) -> list[Execution]:
        if change.order_id in self._orders:
            self._set(self._orders[change.order_id], change.order_id, 0)
        if change.side is not None and change.size > 0:
            key = (change.side, change.price_ticks)
            self._orders[change.order_id] = key
            self._queues.setdefault(key, {})[change.order_id] = change.size
        return []

    def _cancel(self, change: OrderChange) -> list[Execution]:
        key = self._orders.get(change.order_id)
        if key is None:
            self.unknown_orders += 1
            return []
        left = self._queues[key][change.order_id] - change.size
        self._set(key, change.order_id, max(0, left))
        return []

    def _change(self, change: OrderChange) -> list[Execution]:
        key = self._orders.get(change.order_id)
        if key is None:
            self.unknown_orders += 1
        elif (change.side, change.price_ticks) == key and change.size <= self._queues[key][change.order_id]:
            self._set(key, change.order_id, change.size)
            return []
        else:
            self._set(key, change.order_id, 0)
        return self._add(change)

    def _clear(self, _: OrderChange) -> list[Execution]:
        self._orders.clear()
        self._queues.clear()
        for order in self.resting.values():
            order.place.leave_session()
        return []

    def _fill(self, change: OrderChange) -> list[Execution]:
        """Return what of a fill of somebody's order would have been ours."""
        if not self.resting or change.side is None:
            return []
        fills, left = [], change.size
        for order in self._bids if change.side is Side.BUY else self._asks:
            if not left or not self._is_ahead(order, change):
                continue
            quantity = min(left, order.open_quantity)
            left -= quantity
            fills.append(Execution(order.client_order_id, quantity, order.limit_ticks, Liquidity.MAKER))
        return self._settle(fills)

    def _is_ahead(self, order: Resting, change: OrderChange) -> bool:
        """Return whether our order stands before the one that was filled."""
        distance = (order.limit_ticks - change.price_ticks) * order.side.sign
        if distance != 0:
            return distance > 0
        return change.order_id not in self._ahead_of(order)

    def _ahead_of(self, order: Resting) -> Queue:
        place = order.place
        assert isinstance(place, ExactPlace)
        if place.orders is None:
            place.orders = dict(self._queues.get((order.side, order.limit_ticks), {}))
        return place.orders

    def _set(self, key: tuple[Side, int], order_id: int, lots: int) -> None:
        """Give an order of the log another size where it stands; 0 takes it out."""
        queues = [
            self._queues[key],
            *(self._known_ahead(order) for order in self.resting.values() if (order.side, order.limit_ticks) == key),
        ]
        for queue in queues:
            if order_id in queue and lots:
                queue[order_id] = lots
            else:
                queue.pop(order_id, None)
        if not lots:
            del self._orders[order_id]
            if not self._queues[key]:
                del self._queues[key]

    def _known_ahead(self, order: Resting) -> Queue:
        place = order.place
        return place.orders if isinstance(place, ExactPlace) and place.orders is not None else {}


_ACTIONS: Final[dict[OrderAction, Callable[[FifoEngine, OrderChange], list[Execution]]]] = {
    OrderAction.ADD: FifoEngine._add,
    OrderAction.CANCEL: FifoEngine._cancel,
    OrderAction.CHANGE: FifoEngine._change,
    OrderAction.CLEAR: FifoEngine._clear,
    OrderAction.FILL: FifoEngine._fill,
}
