"""The book of the simulated market: background queues, and our orders at their true place in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from framework.model import Liquidity, Side
from framework.window import LEVELS

DEPTH: Final = LEVELS + 2


class OwnFill(NamedTuple):
    """One execution of one of our orders."""

    client_order_id: str
    quantity: int
    price_ticks: int
    liquidity: Liquidity


class Print(NamedTuple):
    """One public trade."""

    price_ticks: int
    size: int
    aggressor: Side


@dataclass(slots=True)
class Own:
    """Our order in the book, with the background lots in front of it."""

    client_order_id: str
    side: Side
    price_ticks: int
    left: int
    ahead: int


class Half:
    """One side of the background book: sizes by distance from its best price, best first, `DEPTH` of them."""

    __slots__ = ("best", "sign", "sizes")

    def __init__(self, side: Side, best: int, sizes: list[int]) -> None:
        self.sign = side.sign
        self.best = best
        self.sizes = sizes

    def price(self, level: int) -> int:
        """Return the price of a level in ticks."""
        return self.best - self.sign * level

    def size_at(self, price_ticks: int) -> int:
        """Return the background lots at a price."""
        level = (self.best - price_ticks) * self.sign
        return self.sizes[level] if 0 <= level < DEPTH else 0

    def improve(self, size: int) -> None:
        """Put a new best level one tick further in."""
        self.best += self.sign
        self.sizes.insert(0, size)
        self.sizes.pop()

    def retreat(self, deep_size: int) -> None:
        """Drop the best level; a new one appears at the deep end."""
        self.best -= self.sign
        self.sizes.pop(0)
        self.sizes.append(deep_size)


class SimulatedBook:
    """Price-time priority in integer ticks and lots. Never crossed; a background level always has at least one lot.

    The background is kept as one number a level; each of our orders knows how many background lots stand in front of it,
    which is all that first-in-first-out needs. Later background orders join behind us.
    """

    def __init__(self, bids: Half, asks: Half) -> None:
        self.halves = {Side.BUY: bids, Side.SELL: asks}
        self.own: dict[str, Own] = {}

    @property
    def spread(self) -> int:
        """Return the background spread in ticks."""
        return self.halves[Side.SELL].best - self.halves[Side.BUY].best

    # --- background -----------------------------------------------------------------------------------------------------

    def add(self, side: Side, level: int, size: int) -> None:
        """Add background lots at the end of a level's queue."""
        self.halves[side].sizes[level] += size

    def cancel(self, side: Side, level: int, size: int, place: float) -> None:
        """Take background lots out of a queue (one always stays). `place` in [0, 1) says where in the queue they stood."""
        half = self.halves[side]
        before = half.sizes[level]
        size = min(size, before - 1)
        half.sizes[level] -= size
        price_ticks = half.price(level) if self.own else 0
        for order in self.own.values():
            if order.side is side and order.price_ticks == price_ticks and place * before < order.ahead:
                order.ahead = max(0, order.ahead - size)
        self._bound_ahead(side, level)

    def trade(self, aggressor: Side, size: int) -> tuple[list[Print], list[OwnFill]]:
        """Let a background order take up to `size` lots at the best price, leaving one background lot there."""
        half = self.halves[aggressor.opposite]
        prints, fills = self._take_own_inside(aggressor, half.best, size)
        size -= sum(fill.quantity for fill in fills)
        more_prints, more_fills = self._take_level(aggressor, half, size, keep=1)
        return prints + more_prints, fills + more_fills

    def sweep(self, aggressor: Side, deep_size: int) -> tuple[list[Print], list[OwnFill]]:
        """Let background orders take the whole best level, ours in it included; the next level becomes the best."""
        half = self.halves[aggressor.opposite]
        price_ticks, background = half.best, half.sizes[0]
        fills = [self._fill(order, order.left, order.price_ticks) for order in self._at_or_before(half, price_ticks)]
        half.retreat(deep_size)
        by_price: dict[int, int] = {price_ticks: background}
        for fill in fills:
            by_price[fill.price_ticks] = by_price.get(fill.price_ticks, 0) + fill.quantity
        return [Print(price, size, aggressor) for price, size in by_price.items()], fills

    def improve(self, side: Side, size: int) -> None:
        """Put a new background level one tick inside the spread. The caller sees to it that there is room."""
        self.halves[side].improve(size)

    def has_room(self) -> bool:
        """Return whether a background level fits inside the spread without crossing one of our orders."""
        bids, asks = self.halves[Side.BUY], self.halves[Side.SELL]
        own_bid = max((order.price_ticks for order in self.own.values() if order.side is Side.BUY), default=bids.best)
        own_ask = min((order.price_ticks for order in self.own.values() if order.side is Side.SELL), default=asks.best)
        return min(asks.best, own_ask) - max(bids.best, own_bid) > 1

    # --- our orders -----------------------------------------------------------------------------------------------------

    def take(self, client_order_id: str, side: Side, quantity: int, limit_ticks: int | None) -> tuple[list[Print], list[OwnFill]]:
        """Let our order trade against the background within its limit. Levels that it empties stay empty until `close_gaps`."""
        half = self.halves[side.opposite]
        prints, fills = [], []
        for level in range(DEPTH):
            price_ticks = half.price(level)
            if quantity == 0 or (limit_ticks is not None and (limit_ticks - price_ticks) * side.sign < 0):
                break
            size = min(quantity, half.sizes[level])
            if size == 0:
                continue
            half.sizes[level] -= size
            quantity -= size
            self._pass_queue(side.opposite, price_ticks, size)
            prints.append(Print(price_ticks, size, side))
            fills.append(OwnFill(client_order_id, size, price_ticks, Liquidity.TAKER))
        return prints, fills

    def emptied_levels(self, side: Side) -> int:
        """Return how many levels from the best on have no background lot left (we took them)."""
        sizes = self.halves[side].sizes
        return next((level for level, size in enumerate(sizes) if size), DEPTH)

    def crosses_own(self, side: Side, limit_ticks: int | None) -> bool:
        """Return whether an order of ours would trade with another one of ours."""
        return any(
            order.side is not side and (limit_ticks is None or (limit_ticks - order.price_ticks) * side.sign >= 0)
            for order in self.own.values()
        )

    def rest(self, client_order_id: str, side: Side, price_ticks: int, quantity: int) -> None:
        """Put our order at the end of the queue at its price."""
        ahead = self.halves[side].size_at(price_ticks)
        self.own[client_order_id] = Own(client_order_id, side, price_ticks, quantity, ahead)

    def remove(self, client_order_id: str) -> bool:
        """Take our order out; return whether it was there."""
        return self.own.pop(client_order_id, None) is not None

    def levels(self, side: Side) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return prices and sizes of the best 10 levels, ours included, best first."""
        half = self.halves[side]
        if not self.own and 0 not in half.sizes[:LEVELS]:
            return tuple([half.best - half.sign * level for level in range(LEVELS)]), tuple(half.sizes[:LEVELS])
        sizes = {half.price(level): size for level, size in enumerate(half.sizes) if size}
        for order in self.own.values():
            if order.side is side:
                sizes[order.price_ticks] = sizes.get(order.price_ticks, 0) + order.left
        best = sorted(sizes, reverse=side is Side.BUY)[:LEVELS]
        return tuple(best), tuple([sizes[price] for price in best])

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _take_own_inside(self, aggressor: Side, best: int, size: int) -> tuple[list[Print], list[OwnFill]]:
        prints, fills = [], []
        for order in self._at_or_before(self.halves[aggressor.opposite], best + self.halves[aggressor.opposite].sign):
            quantity = min(order.left, size)
            if quantity:
                size -= quantity
                fills.append(self._fill(order, quantity, order.price_ticks))
                prints.append(Print(order.price_ticks, quantity, aggressor))
        return prints, fills

    def _take_level(self, aggressor: Side, half: Half, size: int, *, keep: int) -> tuple[list[Print], list[OwnFill]]:
        price_ticks, fills, left = half.best, [], size
        waiting = [order for order in self.own.values() if order.side is not aggressor and order.price_ticks == price_ticks]
        for order in sorted(waiting, key=lambda own: own.ahead):
            passed = min(left, order.ahead, max(0, half.sizes[0] - keep))
            half.sizes[0] -= passed
            left -= passed
            for other in waiting:
                other.ahead = max(0, other.ahead - passed)
            quantity = min(left, order.left) if order.ahead == 0 else 0
            if quantity:
                left -= quantity
                fills.append(self._fill(order, quantity, price_ticks))
        rest = min(left, max(0, half.sizes[0] - keep))
        half.sizes[0] -= rest
        left -= rest
        traded = size - left
        return ([Print(price_ticks, traded, aggressor)] if traded else []), fills

    def _at_or_before(self, half: Half, price_ticks: int) -> list[Own]:
        found = [o for o in self.own.values() if o.side.sign == half.sign and (o.price_ticks - price_ticks) * half.sign >= 0]
        return sorted(found, key=lambda own: (-own.price_ticks * half.sign, own.ahead))

    def _fill(self, order: Own, quantity: int, price_ticks: int) -> OwnFill:
        order.left -= quantity
        if order.left == 0:
            del self.own[order.client_order_id]
        return OwnFill(order.client_order_id, quantity, price_ticks, Liquidity.MAKER)

    def _pass_queue(self, side: Side, price_ticks: int, size: int) -> None:
        for order in self.own.values():
            if order.side is side and order.price_ticks == price_ticks:
                order.ahead = max(0, order.ahead - size)

    def _bound_ahead(self, side: Side, level: int) -> None:
        half = self.halves[side]
        for order in self.own.values():
            if order.side is side and order.price_ticks == half.price(level):
                order.ahead = min(order.ahead, half.sizes[level])
