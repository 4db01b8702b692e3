"""What the gate remembers: how much was sent in the last second and minute, and which orders."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Final, NamedTuple

from framework.messages import SubmitOrder
from framework.model import NS_PER_S, OrderType, Side

MINUTE_NS: Final = 60 * NS_PER_S
_MARKET: Final = OrderType.MARKET


class Window:
    """A sum over the last `span_ns` of market time; what is older is forgotten."""

    __slots__ = ("_entries", "span_ns", "total")

    def __init__(self, span_ns: int) -> None:
        self.span_ns = span_ns
        self.total = Decimal(0)
        self._entries: deque[tuple[int, Decimal]] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, now_ns: int, amount: Decimal) -> None:
        """Count an amount."""
        self._entries.append((now_ns, amount))
        self.total += amount

    def prune(self, now_ns: int) -> Window:
        """Forget what is too old and return self."""
        entries = self._entries
        while entries and now_ns - entries[0][0] >= self.span_ns:
            self.total -= entries.popleft()[1]
        return self


class Sent(NamedTuple):
    """An order that left, as far as a repeat is told by it."""

    ts_event: int
    side: Side
    quantity: int
    limit_ticks: int | None
    client_order_id: str


class Throttles:
    """Windows by name of scope, made when first used."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, int], Window] = {}

    def window(self, scope: str, span_ns: int, now_ns: int) -> Window:
        """Return the window of a scope as it is now."""
        found = self._windows.get((scope, span_ns))
        if found is None:
            found = self._windows[scope, span_ns] = Window(span_ns)
        return found.prune(now_ns)

    def sizes(self) -> dict[tuple[str, int], int]:
        """Return how many entries each window holds."""
        return {name: len(window) for name, window in self._windows.items()}


class Recent:
    """The last orders of each strategy in each instrument, for as long as a repeat of them would be a duplicate."""

    MOST: Final = 1_000

    def __init__(self) -> None:
        self._sent: dict[tuple[str, str], deque[Sent]] = {}

    def note(self, order: SubmitOrder, now_ns: int) -> None:
        """Remember an order. One of the other side, or one that closes, ends the memory: buying again after a sale is no repeat."""
        sent = self._sent.setdefault((order.strategy_id, order.instrument_id), deque(maxlen=self.MOST))
        if sent and (order.reduce_only or sent[-1].side is not order.side):
            sent.clear()
        if order.reduce_only:
            return  # no order repeats it: to leave a position and to open the next one are two things
        sent.append(Sent(now_ns, order.side, order.quantity, _price(order), order.client_order_id))

    def forget(self, strategy_id: str, instrument_id: str, client_order_id: str) -> None:
        """Forget an order that ended without filling in full: to send it again is no repeat."""
        sent = self._sent.get((strategy_id, instrument_id))
        if sent:
            kept = [one for one in sent if one.client_order_id != client_order_id]
            sent.clear()
            sent.extend(kept)

    def twin(self, order: SubmitOrder, now_ns: int, window_ns: int) -> Sent | None:
        """Return an order of the last `window_ns` that this one repeats, or None."""
        sent = self._sent.get((order.strategy_id, order.instrument_id), ())
        for one in reversed(sent):
            if now_ns - one.ts_event >= window_ns:
                return None
            if (one.side, one.quantity, one.limit_ticks) == (order.side, order.quantity, _price(order)):
                return one
        return None


def _price(order: SubmitOrder) -> int | None:
    """Return the limit that was asked for: a market order of the journal has one that the gate gave it."""
    return None if order.order_type is _MARKET else order.limit_ticks
