"""An open order at a venue, and the market side of a venue that trades it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from framework.clock import Timer
from framework.messages import SubmitOrder
from framework.model import OrderType, Side

_MARKET: Final = OrderType.MARKET


@dataclass(slots=True)
class OpenOrder:
    """An order that is open at the venue, with its present terms."""

    intent: SubmitOrder
    venue_order_id: str
    quantity: int
    limit_ticks: int | None
    filled: int = 0
    timer: Timer | None = None

    @property
    def client_order_id(self) -> str:
        """Return our id of it."""
        return self.intent.client_order_id

    @property
    def side(self) -> Side:
        """Return its side."""
        return self.intent.side

    @property
    def left(self) -> int:
        """Return the lots that are left to trade."""
        return self.quantity - self.filled

    @property
    def rests(self) -> bool:
        """Return whether what does not trade at once stays in the book."""
        return self.intent.order_type is not _MARKET and self.intent.time_in_force.rests


class Matcher(Protocol):
    """The market side of a venue."""

    def refusal(self, order: SubmitOrder) -> str:
        """Return why the venue does not take an order like this now; empty: it does."""

    def takeable(self, order: OpenOrder) -> int:
        """Return how many lots of `order` would trade at once, `order.left` at most."""

    def take(self, order: OpenOrder) -> None:
        """Trade what can be traded at once (through `OpenOrders.fill`)."""

    def ahead(self, order: OpenOrder) -> float | None:
        """Return how many lots stand at its price before it, if it joins now; None where that is not known."""

    def rest(self, order: OpenOrder) -> None:
        """Let what is left join its queue, or end the order."""

    def resize(self, order: OpenOrder) -> None:
        """Take the smaller size of an order that keeps its place, if it rests."""

    def remove(self, order: OpenOrder) -> None:
        """Take an order out of the book, if it rests."""

    def advance(self, now_ns: int) -> None:
        """Let the market go on to the time at which something arrives."""
