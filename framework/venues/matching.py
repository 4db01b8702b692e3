"""Matching our orders against a recorded market: what would have traded, at which price, from which place in the queue.

Rules (first version; risk-averse, so that paper is never better than live would have been):

- A taking order walks the visible levels up to its limit. What it took is not offered again until the level shows *more* than what
  we left there: `taken` lots are subtracted from a level until its displayed size rises, or its price disappears.
- A resting order joins behind the size displayed at its price. Trade ticks at its price by the other side reduce what is ahead,
  then fill it. A displayed size smaller than what is ahead moves it up to that size; cancels are never assumed to be ahead of it
  otherwise.
- A trade tick through its price, or a book whose other side reaches its price, fills it (the former in full, the latter from the levels
  displayed there, as a maker: our order was there first).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from framework.messages import BookSnapshot, SubmitOrder, TradeTick
from framework.model import Liquidity, OrderType, Side


class Execution(NamedTuple):
    """One execution that the matching engine decided on."""

    client_order_id: str
    quantity: int
    price_ticks: int
    liquidity: Liquidity


@dataclass(slots=True)
class Resting:
    """One of our orders in the recorded book, with the lots in front of it."""

    client_order_id: str
    side: Side
    limit_ticks: int
    open_quantity: int
    ahead: int


class MatchingEngine:
    """Match the orders of one instrument. Deterministic, no clock: callers say what happens in which order."""

    def __init__(self) -> None:
        self._book: BookSnapshot | None = None
        self._taken: dict[Side, dict[int, tuple[int, int]]] = {Side.BUY: {}, Side.SELL: {}}
        self.resting: dict[str, Resting] = {}

    # --- our side ------------------------------------------------------------------------------------------------------

    def take(self, order: SubmitOrder, quantity: int) -> list[Execution]:
        """Trade up to `quantity` against what is displayed within the limit (none: any price)."""
        fills = []
        for price_ticks, available in list(self._offered(order.side)):
            if quantity == 0 or not _is_within(order.side, order.limit_ticks, price_ticks):
                break
            size = min(quantity, available)
            self._note_taken(order.side, price_ticks, size)
            quantity -= size
            fills.append(Execution(order.client_order_id, size, price_ticks, Liquidity.TAKER))
        return fills

    def rest(self, order: SubmitOrder, open_quantity: int) -> None:
        """Join the queue at the limit price, behind what is displayed there."""
        assert order.order_type is OrderType.LIMIT
        assert order.limit_ticks is not None
        ahead = self._displayed(order.side, order.limit_ticks)
        self.resting[order.client_order_id] = Resting(order.client_order_id, order.side, order.limit_ticks, open_quantity, ahead)

    def remove(self, client_order_id: str) -> bool:
        """Leave the queue; return whether the order was there."""
        return self.resting.pop(client_order_id, None) is not None

    # --- the market's side -----------------------------------------------------------------------------------------------

    def on_book(self, book: BookSnapshot) -> list[Execution]:
        """Take the next book and return what it fills."""
        self._book = book
        self._forget_taken(book)
        fills: list[Execution] = []
        for order in list(self.resting.values()):
            fills += self._filled_by_book(order)
            order.ahead = min(order.ahead, self._displayed(order.side, order.limit_ticks))
        return self._settle(fills)

    def on_trade(self, tick: TradeTick) -> list[Execution]:
        """Take the next trade tick and return what it fills; orders at better prices and in front come first."""
        if tick.aggressor is None:
            return []
        fills = []
        left = tick.size
        side = tick.aggressor.opposite
        for order in sorted((own for own in self.resting.values() if own.side is side), key=lambda own: -own.side.sign * own.limit_ticks):
            distance = (order.limit_ticks - tick.price_ticks) * order.side.sign
            if distance > 0:
                fills.append(Execution(order.client_order_id, order.open_quantity, order.limit_ticks, Liquidity.MAKER))
            elif distance == 0:
                passed = min(order.ahead, left)
                order.ahead -= passed
                quantity = min(order.open_quantity, left - passed)
                left -= passed + quantity
                if quantity:
                    fills.append(Execution(order.client_order_id, quantity, order.limit_ticks, Liquidity.MAKER))
        return self._settle(fills)

    # --- inside ----------------------------------------------------------------------------------------------------------

    def _filled_by_book(self, order: Resting) -> Iterator[Execution]:
        quantity = order.open_quantity
        for price_ticks, available in list(self._offered(order.side)):
            if quantity == 0 or not _is_within(order.side, order.limit_ticks, price_ticks):
                break
            size = min(quantity, available)
            self._note_taken(order.side, price_ticks, size)
            quantity -= size
            yield Execution(order.client_order_id, size, order.limit_ticks, Liquidity.MAKER)

    def _settle(self, fills: list[Execution]) -> list[Execution]:
        for fill in fills:
            order = self.resting[fill.client_order_id]
            order.open_quantity -= fill.quantity
            if order.open_quantity == 0:
                del self.resting[fill.client_order_id]
        return fills

    def _offered(self, side: Side) -> Iterator[tuple[int, int]]:
        """Yield (price, lots) that a taker of `side` can have, best first, less what we took already."""
        book = self._book
        if book is None:
            return
        levels = zip(book.ask_ticks, book.ask_sizes, strict=True) if side is Side.BUY else zip(book.bid_ticks, book.bid_sizes, strict=True)
        taken = self._taken[side]
        for price_ticks, size in levels:
            left = size - taken.get(price_ticks, (0, 0))[0]
            if left > 0:
                yield price_ticks, left

    def _note_taken(self, side: Side, price_ticks: int, size: int) -> None:
        before, displayed = self._taken[side].get(price_ticks, (0, self._displayed(side.opposite, price_ticks)))
        self._taken[side][price_ticks] = (before + size, displayed)

    def _forget_taken(self, book: BookSnapshot) -> None:
        for side, ticks, sizes in ((Side.BUY, book.ask_ticks, book.ask_sizes), (Side.SELL, book.bid_ticks, book.bid_sizes)):
            if not self._taken[side]:
                continue
            shown = dict(zip(ticks, sizes, strict=True))
            self._taken[side] = {
                price: (lots, min(displayed, shown[price]))
                for price, (lots, displayed) in self._taken[side].items()
                if price in shown and shown[price] <= displayed
            }

    def _displayed(self, side: Side, price_ticks: int) -> int:
        book = self._book
        if book is None:
            return 0
        ticks, sizes = (book.bid_ticks, book.bid_sizes) if side is Side.BUY else (book.ask_ticks, book.ask_sizes)
        return sizes[ticks.index(price_ticks)] if price_ticks in ticks else 0


def _is_within(side: Side, limit_ticks: int | None, price_ticks: int) -> bool:
    return limit_ticks is None or (limit_ticks - price_ticks) * side.sign >= 0
