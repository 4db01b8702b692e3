"""Matching our orders against a recorded market: what would have traded, at which price, from which place in the queue.

Rules (risk-averse where the recording does not say, so that paper is not better than live would have been):

- A taking order walks the visible levels up to its limit. What it took stays taken: of that level there is only what it left, plus
  what the level *grows* by from one book to the next, and never more than is displayed. A price that disappears starts afresh.
- A resting order joins behind the size displayed at its price; at a price deeper than the book shows, behind all that the level
  displays when it comes into view. How it moves up is the queue model's (`framework.venues.queue_models`); a level that is out of
  view says nothing.
- A trade tick at its price by the other side fills what passes everybody ahead of it. With the risk-averse model a tick that is not
  newer than a book which moved the order up is in that book already.
- A trade tick through its price fills it up to the traded size: who sold below our bid would have sold to us. All our fills of one
  tick together are never more than its size. A tick without an aggressor fills nothing.
- A book whose other side reaches its price fills it from the levels displayed there, at its own price, as a maker: it was there first.
- Among our own orders the better price comes first, then the earlier one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from framework.messages import BookSnapshot, TradeTick
from framework.model import Liquidity, Side
from framework.venues.queue_models import Place, QueueModel, RiskAverse

Taken = dict[int, tuple[int, int]]
"""Of the levels of a side that we took from, by price: lots that are left, and lots that the last book displayed there."""
_FAR: Final = 1 << 62
"""Ticks beyond every price."""
# A word that is bound here is found at once; as `Side.BUY` it is looked up in 0.2 us (Python 3.11), at every trade and book.
_BUY: Final = Side.BUY
_MAKER: Final = Liquidity.MAKER


class Execution(NamedTuple):
    """One execution that the matching engine decided on."""

    client_order_id: str
    quantity: int
    price_ticks: int
    liquidity: Liquidity


@dataclass(slots=True)
class Resting:
    """One of our orders in the recorded book, with its place in the queue."""

    client_order_id: str
    side: Side
    limit_ticks: int
    open_quantity: int
    place: Place

    @property
    def ahead(self) -> float | None:
        """Return the lots in front of it; None while its level was never in view."""
        return self.place.ahead


class MatchingEngine:
    """Match the orders of one instrument. Deterministic, no clock: callers say what happens in which order."""

    reads_ahead = False
    """Whether `advance` has anything to say."""

    def __init__(self, queue_model: QueueModel = RiskAverse) -> None:
        self._queue_model = queue_model
        self._book: BookSnapshot | None = None
        self._left_of_asks: Taken = {}
        self._left_of_bids: Taken = {}
        self.resting: dict[str, Resting] = {}
        self._watch()

    # --- our side ------------------------------------------------------------------------------------------------------

    def takeable(self, side: Side, limit_ticks: int | None, quantity: int) -> int:
        """Return how many of `quantity` lots could be taken now within the limit (none: any price)."""
        if self._is_out_of_reach(side, limit_ticks):
            return 0
        within = (available for price_ticks, _, available in self._offered(side) if _is_within(side, limit_ticks, price_ticks))
        return min(quantity, sum(within))

    def take(self, client_order_id: str, side: Side, limit_ticks: int | None, quantity: int) -> list[Execution]:
        """Trade up to `quantity` against what is displayed within the limit (none: any price)."""
        if self._is_out_of_reach(side, limit_ticks):
            return []
        taken = self._take(side, limit_ticks, quantity)
        return [Execution(client_order_id, size, price_ticks, Liquidity.TAKER) for price_ticks, size in taken]

    def lots_at(self, side: Side, price_ticks: int) -> float | None:
        """Return how many lots of others rest at a price; None where the book does not show so far."""
        return self._displayed(side, price_ticks)

    def rest(self, client_order_id: str, side: Side, limit_ticks: int, open_quantity: int) -> None:
        """Join the queue at the limit price, behind what is displayed there."""
        place = self._queue_model(self._displayed(side, limit_ticks))
        self._join(Resting(client_order_id, side, limit_ticks, open_quantity, place))

    def resize(self, client_order_id: str, open_quantity: int) -> None:
        """Take a smaller size and keep the place; an order that was filled in full stays out."""
        order = self.resting.get(client_order_id)
        if order is not None:
            order.open_quantity = open_quantity

    def remove(self, client_order_id: str) -> bool:
        """Leave the queue; return whether the order was there."""
        if self.resting.pop(client_order_id, None) is None:
            return False
        self._watch()
        return True

    def close(self) -> None:
        """Forget the book: the session is over, and the next one opens with another, in which what still rests stands at the end."""
        self._book = None
        for order in self.resting.values():
            order.place.leave_session()
        self._left_of_asks, self._left_of_bids = {}, {}

    def advance(self, until_ns: int) -> list[Execution]:  # noqa: ARG002 (for engines that read more than books and trades)
        """Let the market go on to a time, as far as it is known beside its events; return what that fills."""
        return []

    # --- the market's side -----------------------------------------------------------------------------------------------

    def on_book(self, book: BookSnapshot) -> list[Execution]:
        """Take the next book and return what it fills."""
        bids, asks = book.bid_ticks, book.ask_ticks
        if self._left_of_asks:
            self._left_of_asks = _refreshed(self._left_of_asks, asks, book.ask_sizes)
        if self._left_of_bids:
            self._left_of_bids = _refreshed(self._left_of_bids, bids, book.bid_sizes)
        self._book = book
        if (asks and asks[0] <= self.highest_bid) or (bids and bids[0] >= self.lowest_ask):
            return self._cross(book)
        if self._bids:
            self._show(self._bids, bids, book.bid_sizes, book.ts_event)
        if self._asks:
            self._show(self._asks, asks, book.ask_sizes, book.ts_event)
        return []

    def _cross(self, book: BookSnapshot) -> list[Execution]:
        """Take a book that reaches our orders."""
        fills: list[Execution] = []
        for order in sorted(self.resting.values(), key=_priority):
            taken = self._take(order.side, order.limit_ticks, order.open_quantity)
            fills += [Execution(order.client_order_id, size, order.limit_ticks, _MAKER) for _, size in taken]
            displayed = self._displayed(order.side, order.limit_ticks)
            if displayed is not None:
                order.place.see(displayed, book.ts_event)
        return self._settle(fills)

    def on_trade(self, tick: TradeTick) -> list[Execution]:
        """Take the next trade tick and return what it fills."""
        left, price_ticks, is_bought = tick.size, tick.price_ticks, tick.aggressor is _BUY
        if tick.aggressor is None or (price_ticks < self.lowest_ask if is_bought else price_ticks > self.highest_bid):
            return []
        fills: list[Execution] = []
        for order in self._asks if is_bought else self._bids:
            distance = price_ticks - order.limit_ticks if is_bought else order.limit_ticks - price_ticks
            if distance < 0:
                break
            if distance > 0:
                order.place.lead()
            reaching = order.place.trade(left, tick.ts_event) if distance == 0 else left
            quantity = min(order.open_quantity, reaching)
            if quantity:
                left -= quantity
                fills.append(Execution(order.client_order_id, quantity, order.limit_ticks, _MAKER))
        return self._settle(fills) if fills else fills

    # --- inside ----------------------------------------------------------------------------------------------------------

    def _join(self, order: Resting) -> None:
        self.resting[order.client_order_id] = order
        self._watch()

    def _watch(self) -> None:
        """Sort what rests, and know the best prices of it: most events reach neither."""
        orders = self.resting.values()
        self._bids = [order for order in orders if order.side is _BUY]
        self._asks = [order for order in orders if order.side is not _BUY]
        for own in (self._bids, self._asks):
            if len(own) > 1:
                own.sort(key=_priority)
        self.highest_bid = self._bids[0].limit_ticks if self._bids else -_FAR
        self.lowest_ask = self._asks[0].limit_ticks if self._asks else _FAR

    def _is_out_of_reach(self, side: Side, limit_ticks: int | None) -> bool:
        """Return whether the other side of the book is beyond a limit."""
        if self._book is None or limit_ticks is None:
            return False
        if side is _BUY:
            asks = self._book.ask_ticks
            return not asks or asks[0] > limit_ticks
        bids = self._book.bid_ticks
        return not bids or bids[0] < limit_ticks

    def _show(self, orders: list[Resting], ticks: tuple[int, ...], sizes: tuple[int, ...], now_ns: int) -> None:
        """Show a side of a book that fills nothing to our orders of it."""
        for order in orders:
            if ticks and ticks[0] == order.limit_ticks:  # at the touch: `_displayed` without a look at the whole side
                order.place.see(sizes[0], now_ns)
                continue
            displayed = self._displayed(order.side, order.limit_ticks)
            if displayed is not None:
                order.place.see(displayed, now_ns)

    def _settle(self, fills: list[Execution]) -> list[Execution]:
        for fill in fills:
            order = self.resting[fill.client_order_id]
            order.open_quantity -= fill.quantity
            if order.open_quantity == 0:
                del self.resting[fill.client_order_id]
                self._watch()
        return fills

    def _take(self, side: Side, limit_ticks: int | None, quantity: int) -> list[tuple[int, int]]:
        """Take up to `quantity` from the other side within the limit; return (price, lots) per level."""
        left, taken = self._left_of(side), []
        for price_ticks, shown, available in self._offered(side):
            if quantity == 0 or not _is_within(side, limit_ticks, price_ticks):
                break
            size = min(quantity, available)
            left[price_ticks] = (available - size, shown)
            quantity -= size
            taken.append((price_ticks, size))
        return taken

    def _left_of(self, side: Side) -> Taken:
        return self._left_of_asks if side is _BUY else self._left_of_bids

    def _offered(self, side: Side) -> Iterator[tuple[int, int, int]]:
        """Yield (price, lots displayed, lots that a taker of `side` can have), best first: less what we took already."""
        if self._book is None:
            return
        left = self._left_of(side)
        for price_ticks, shown in _levels(self._book, side.opposite):
            available = left[price_ticks][0] if price_ticks in left else shown
            if available > 0:
                yield price_ticks, shown, available

    def _displayed(self, side: Side, price_ticks: int) -> int | None:
        """Return the size displayed at a price, 0 between levels, None where the book does not show so far."""
        if self._book is None:
            return None
        ticks, sizes = (self._book.bid_ticks, self._book.bid_sizes) if side is _BUY else (self._book.ask_ticks, self._book.ask_sizes)
        if price_ticks in ticks:
            return sizes[ticks.index(price_ticks)]
        if not ticks:
            return None
        is_deeper = ticks[-1] > price_ticks if side is _BUY else ticks[-1] < price_ticks
        return None if is_deeper else 0


def _priority(order: Resting) -> int:
    return -order.side.sign * order.limit_ticks


def _refreshed(left: Taken, ticks: tuple[int, ...], sizes: tuple[int, ...]) -> Taken:
    """Return what is left of each level that we took from and that the next book still shows."""
    found = {}
    for price_ticks, (available, shown) in left.items():
        if price_ticks in ticks:
            size = sizes[ticks.index(price_ticks)]
            found[price_ticks] = (min(size, available + max(0, size - shown)), size)
    return found


def _levels(book: BookSnapshot, side: Side) -> Iterable[tuple[int, int]]:
    ticks, sizes = (book.bid_ticks, book.bid_sizes) if side is _BUY else (book.ask_ticks, book.ask_sizes)
    return zip(ticks, sizes, strict=True)


def _is_within(side: Side, limit_ticks: int | None, price_ticks: int) -> bool:
    return limit_ticks is None or (limit_ticks - price_ticks) * side.sign >= 0
