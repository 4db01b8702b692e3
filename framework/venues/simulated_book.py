"""The book of the simulated market: background queues, and our orders at their true place in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from framework.model import Liquidity, Side
from framework.window import LEVELS

DEPTH: Final = LEVELS + 2
OUT_OF_SIGHT: Final = 1_000_000_000
"""Lots in front of an order beyond the deepest level, until that level comes into sight and says how many there are."""


class OwnFill(NamedTuple):
    """One execution of one of our orders."""

    client_order_id: str
    side: Side
    quantity: int
    price_ticks: int
    liquidity: Liquidity


class Print(NamedTuple):
    """One public trade."""

    price_ticks: int
    size: int
    aggressor: Side


@dataclass(slots=True)
class Traded:
    """What happened in one go: public prints, and executions of our orders."""

    prints: list[Print] = field(default_factory=list)
    fills: list[OwnFill] = field(default_factory=list)


@dataclass(slots=True)
class Own:
    """Our order in the book, with the background lots in front of it."""

    client_order_id: str
    side: Side
    price_ticks: int
    left: int
    ahead: int


class Half:
    """One side: background sizes by distance from the best price, best first, `DEPTH` of them, and our orders by price.

    Our orders at one price stand in order of time. They may be better than the best background price, or beyond the deepest.
    """

    __slots__ = ("best", "own", "side", "sign", "sizes")

    def __init__(self, side: Side, best: int, sizes: list[int]) -> None:
        self.side = side
        self.sign = side.sign
        self.best = best
        self.sizes = sizes
        self.own: dict[int, list[Own]] = {}

    def price(self, level: int) -> int:
        """Return the price of a level in ticks."""
        return self.best - self.sign * level

    def level_of(self, price_ticks: int) -> int:
        """Return the level of a price: negative inside the spread, `DEPTH` and more out of sight."""
        return (self.best - price_ticks) * self.sign

    def size_at(self, price_ticks: int) -> int:
        """Return the background lots at a price."""
        level = self.level_of(price_ticks)
        return self.sizes[level] if 0 <= level < DEPTH else 0

    def own_within(self, price_ticks: int) -> list[int]:
        """Return the prices of our orders that are as good as `price_ticks` or better, best first."""
        if not self.own:
            return []
        return sorted((price for price in self.own if (price - price_ticks) * self.sign >= 0), reverse=self.sign > 0)

    def improve(self, size: int) -> None:
        """Put a new best level one tick further in."""
        self.best += self.sign
        self.sizes.insert(0, size)
        self.sizes.pop()

    def retreat(self, deep_size: int) -> None:
        """Drop what is left of the best level; a new one comes into sight at the deep end."""
        for order in self.own.get(self.best, ()):
            order.ahead = 0
        self.best -= self.sign
        self.sizes.pop(0)
        self.sizes.append(deep_size)
        for order in self.own.get(self.price(DEPTH - 1), ()):
            order.ahead = min(order.ahead, deep_size)


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

    def cancel(self, side: Side, level: int, size: int, place: float) -> None:
        """Take background lots out of a queue (one always stays). `place` in [0, 1) says where in the queue they stood."""
        half = self.halves[side]
        before = half.sizes[level]
        size = min(size, before - 1)
        half.sizes[level] = before - size
        if not half.own:
            return
        first = int(place * (before - size + 1))
        for order in half.own.get(half.price(level), ()):
            order.ahead -= max(0, min(order.ahead, first + size) - first)

    def trade(self, aggressor: Side, size: int) -> Traded:
        """Let a background order take up to `size` lots at the best price, leaving one background lot there."""
        half = self.halves[aggressor.opposite]
        traded = Traded()
        for price_ticks in half.own_within(half.best + half.sign):
            size -= self._eat(half, price_ticks, size, traded)
        self._eat(half, half.best, size, traded, keep=1)
        return traded

    def sweep(self, aggressor: Side, deep_size: int) -> Traded:
        """Let background orders take the whole best level, ours up to it included; the next level becomes the best."""
        half = self.halves[aggressor.opposite]
        traded = Traded()
        for price_ticks in half.own_within(half.best + half.sign):
            self._eat(half, price_ticks, OUT_OF_SIGHT, traded)
        self._eat(half, half.best, OUT_OF_SIGHT, traded)
        half.retreat(deep_size)
        return traded

    def improve(self, side: Side, size: int) -> Traded:
        """Let a background limit order come in one tick better than the best. It trades with our orders it meets there first."""
        half, other = self.halves[side], self.halves[side.opposite]
        price_ticks = half.best + half.sign
        traded = Traded()
        for own_ticks in other.own_within(price_ticks):
            size -= self._eat(other, own_ticks, size, traded)
        if size:
            half.improve(size)
        return traded

    # --- our orders -----------------------------------------------------------------------------------------------------

    def take(self, client_order_id: str, side: Side, quantity: int, limit_ticks: int | None, fresh: Callable[[], int]) -> Traded:
        """Let our order trade with the background within its limit and the levels in sight. It stops in front of our own orders.

        `fresh` draws the size of each level that comes into sight behind the levels that the order empties.
        """
        half = self.halves[side.opposite]
        traded = Traded()
        for _ in range(DEPTH):
            is_within = limit_ticks is None or (limit_ticks - half.best) * side.sign >= 0
            size = min(quantity, self._in_front_of_own(half)) if is_within else 0
            if not size:
                break
            quantity -= size
            traded.prints.append(Print(half.best, size, side))
            traded.fills.append(OwnFill(client_order_id, side, size, half.best, Liquidity.TAKER))
            self._pass_queue(half, size)
            if half.sizes[0]:
                break
            half.retreat(fresh())
        return traded

    def takeable(self, side: Side, quantity: int, limit_ticks: int | None) -> int:
        """Return how many of `quantity` lots would trade at once: with the levels in sight, up to the first order of our own."""
        half = self.halves[side.opposite]
        found = 0
        for level, size in enumerate(half.sizes):
            price_ticks = half.price(level)
            if limit_ticks is not None and (limit_ticks - price_ticks) * side.sign < 0:
                break
            within = half.own_within(price_ticks)
            if within:
                found += half.own[price_ticks][0].ahead if within[0] == price_ticks else 0
                break
            found += size
        return min(quantity, found)

    def would_cross(self, side: Side, limit_ticks: int | None) -> bool:
        """Return whether an order would trade now, with the background or with another one of ours."""
        half = self.halves[side.opposite]
        if limit_ticks is None or (limit_ticks - half.best) * side.sign >= 0:
            return True
        return bool(half.own_within(limit_ticks))

    def rest(self, client_order_id: str, side: Side, price_ticks: int, quantity: int) -> None:
        """Put our order at the end of the queue at its price. The caller sees to it that it does not cross."""
        half = self.halves[side]
        ahead = OUT_OF_SIGHT if half.level_of(price_ticks) >= DEPTH else half.size_at(price_ticks)
        order = Own(client_order_id, side, price_ticks, quantity, ahead)
        self.own[client_order_id] = order
        half.own.setdefault(price_ticks, []).append(order)

    def lots_at(self, side: Side, price_ticks: int) -> int | None:
        """Return the lots at a price, ours included; None beyond the levels in sight."""
        half = self.halves[side]
        if half.level_of(price_ticks) >= DEPTH:
            return None
        return half.size_at(price_ticks) + sum(order.left for order in half.own.get(price_ticks, ()))

    def resize(self, client_order_id: str, left: int) -> None:
        """Give our order what is left of it; one that was filled in full stays out."""
        order = self.own.get(client_order_id)
        if order is not None:
            order.left = left

    def remove(self, client_order_id: str) -> None:
        """Take our order out, if it is there."""
        order = self.own.pop(client_order_id, None)
        if order is None:
            return
        queue = self.halves[order.side].own[order.price_ticks]
        queue.remove(order)
        if not queue:
            del self.halves[order.side].own[order.price_ticks]

    def levels(self, side: Side) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return prices and sizes of the best 10 levels, ours included, best first."""
        half = self.halves[side]
        last = half.best - half.sign * LEVELS
        if not half.own:
            return tuple(range(half.best, last, -half.sign)), tuple(half.sizes[:LEVELS])
        sizes = dict(zip(range(half.best, last, -half.sign), half.sizes, strict=False))
        for price_ticks in half.own_within(last + half.sign):
            sizes[price_ticks] = sizes.get(price_ticks, 0) + sum(order.left for order in half.own[price_ticks])
        best = sorted(sizes, reverse=half.sign > 0)[:LEVELS]
        return tuple(best), tuple([sizes[price_ticks] for price_ticks in best])

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _eat(self, half: Half, price_ticks: int, size: int, traded: Traded, *, keep: int = 0) -> int:
        """Take up to `size` lots at one price, first in first out, leaving `keep` background lots; return how many."""
        left, passed = size, 0
        room = max(0, half.size_at(price_ticks) - keep)
        for order in tuple(half.own.get(price_ticks, ())):
            step = min(left, order.ahead - passed, room - passed)
            passed, left = passed + step, left - step
            if order.ahead > passed or not left:
                break
            left -= self._fill(order, min(left, order.left), traded)
        step = min(left, room - passed)
        passed, left = passed + step, left - step
        if passed:
            half.sizes[half.level_of(price_ticks)] -= passed
            for order in half.own.get(price_ticks, ()):
                order.ahead -= passed
        if left < size:
            traded.prints.append(Print(price_ticks, size - left, half.side.opposite))
        return size - left

    def _fill(self, order: Own, quantity: int, traded: Traded) -> int:
        order.left -= quantity
        traded.fills.append(OwnFill(order.client_order_id, order.side, quantity, order.price_ticks, Liquidity.MAKER))
        if order.left == 0:
            self.remove(order.client_order_id)
        return quantity

    def _in_front_of_own(self, half: Half) -> int:
        """Return how many lots at the best background price can be taken before one of our own orders is met."""
        within = half.own_within(half.best)
        if not within:
            return half.sizes[0]
        return half.own[half.best][0].ahead if within[0] == half.best else 0

    def _pass_queue(self, half: Half, size: int) -> None:
        half.sizes[0] -= size
        for order in half.own.get(half.best, ()):
            order.ahead -= size
