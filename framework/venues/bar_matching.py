"""Matching our orders against bars: what would have traded, said so that nobody is better off than with the prices in between.

A bar tells four prices and a volume, not the way between them. The rules:

- An order trades in the bar at whose open it stands: one that was decided on when a bar ended, in the next bar. One that comes more than
  a second after an open waits for the next; a stop that is set off in the bar does not.
- Taking orders get the open and `slippage_ticks` against them, within their limit.
- A resting order fills, at its own price, when the bar trades `through_ticks` beyond it: a touch fills nothing.
- A stop fills at its price, or where the way began if that is worse, and `slippage_ticks` against it.
- All fills of a bar together are at most `volume_share` of its volume, and at least one lot where anything traded.
- The way goes to the extreme first that is worse for what is open (`worse_first`), and a position that was opened on the way to the
  second one meets the first again: of a stop and a target in one bar it is the stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from framework.config import PaperConfig
from framework.messages import Bar, BookSnapshot
from framework.model import Liquidity, Side
from framework.venues.matching import Execution, MatchingEngine


class Phase(Enum):
    """Where a bar is: it stands at its open, is under way to one of its prices, or is over."""

    OPEN = "OPEN"
    UNDER_WAY = "UNDER_WAY"
    OVER = "OVER"


class HeldStop(NamedTuple):
    """A stop that is held on our side of the venue, with its present price."""

    client_order_id: str
    side: Side
    stop_ticks: int


@dataclass(slots=True)
class RestingInBars:
    """A limit order that waits for a bar to trade through it."""

    side: Side
    limit_ticks: int
    open_quantity: int


class BarEngine(MatchingEngine):
    """Match the orders of one instrument against its bars. Deterministic, no clock: the walk says what happens in which order."""

    def __init__(self, settings: PaperConfig) -> None:
        super().__init__()
        self.phase = Phase.OVER
        self._slippage_ticks = settings.bar_slippage_ticks
        self._through_ticks = settings.bar_through_ticks
        self._volume_share = settings.bar_volume_share
        self._resting: dict[str, RestingInBars] = {}
        self._set_off: dict[str, int] = {}
        self._open_ticks = 0
        self._at_ticks = 0
        self._room = 0

    # --- the walk's side -----------------------------------------------------------------------------------------------------

    @property
    def at_ticks(self) -> int:
        """Return where the price is."""
        return self._at_ticks

    def open(self, bar: Bar) -> list[Execution]:
        """Let a bar begin; return what its open fills."""
        self.phase = Phase.OPEN
        self._room = max(int(bar.volume * self._volume_share), 1) if bar.volume else 0
        self._open_ticks = self._at_ticks = bar.open_ticks
        self._set_off.clear()
        return self._traded_through(bar.open_ticks)

    def leave_open(self) -> None:
        """Let the price leave the open: who comes now waits for the next bar."""
        self.phase = Phase.UNDER_WAY

    def go(self, ticks: int, stops: Iterable[HeldStop]) -> list[Execution]:
        """Let the price go on to `ticks`; return what that fills. `stops` may be set off on the way."""
        self.leave_open()
        before, self._at_ticks = self._at_ticks, ticks
        for stop in stops:
            worse = max(before, stop.stop_ticks) if stop.side is Side.BUY else min(before, stop.stop_ticks)
            self._set_off[stop.client_order_id] = worse + stop.side.sign * self._slippage_ticks
        return self._traded_through(ticks)

    def finish(self) -> None:
        """Let the bar be over."""
        self.phase = Phase.OVER

    def may_trade(self, client_order_id: str) -> bool:
        """Return whether an order that comes now trades in this bar."""
        return self.phase is Phase.OPEN or client_order_id in self._set_off

    def resting_sides(self) -> set[Side]:
        """Return the sides on which orders rest."""
        return {order.side for order in self._resting.values()}

    # --- our side ------------------------------------------------------------------------------------------------------------

    def takeable(self, side: Side, limit_ticks: int | None, quantity: int) -> int:
        """Return how many of `quantity` lots could be taken at the open within the limit (none: any price)."""
        price_ticks = self._open_ticks + side.sign * self._slippage_ticks
        is_within = self.phase is Phase.OPEN and (limit_ticks is None or (limit_ticks - price_ticks) * side.sign >= 0)
        return min(quantity, self._room) if is_within else 0

    def take(self, client_order_id: str, side: Side, limit_ticks: int | None, quantity: int) -> list[Execution]:
        """Trade up to `quantity`: a stop that was set off at its own price, anything else at the open."""
        price_ticks = self._set_off.pop(client_order_id, None)
        if price_ticks is None:
            price_ticks = self._open_ticks + side.sign * self._slippage_ticks
            size = self.takeable(side, limit_ticks, quantity)
        else:
            is_within = limit_ticks is None or (limit_ticks - price_ticks) * side.sign >= 0
            size = min(quantity, self._room) if is_within else 0
        self._room -= size
        return [Execution(client_order_id, size, price_ticks, Liquidity.TAKER)] if size else []

    def lots_at(self, side: Side, price_ticks: int) -> float | None:  # noqa: ARG002
        """Return None: a bar shows no queue."""
        return None

    def rest(self, client_order_id: str, side: Side, limit_ticks: int, open_quantity: int) -> None:
        """Wait at the limit price."""
        self._resting[client_order_id] = RestingInBars(side, limit_ticks, open_quantity)

    def resize(self, client_order_id: str, open_quantity: int) -> None:
        """Take a smaller size."""
        order = self._resting.get(client_order_id)
        if order is not None:
            order.open_quantity = open_quantity

    def remove(self, client_order_id: str) -> bool:
        """Stop waiting; return whether the order did."""
        return self._resting.pop(client_order_id, None) is not None

    def close(self) -> None:
        """Let the session be over; what rests waits on."""
        self.phase = Phase.OVER

    def on_book(self, book: BookSnapshot) -> list[Execution]:  # noqa: ARG002
        """Fill nothing: quotes only stand in for what the bars say."""
        return []

    # --- inside --------------------------------------------------------------------------------------------------------------

    def _traded_through(self, ticks: int) -> list[Execution]:
        """Return the fills of orders that a trade at `ticks` went through, the better price first."""
        by_price = sorted(self._resting.items(), key=lambda one: -one[1].side.sign * one[1].limit_ticks)
        fills = []
        for client_order_id, order in by_price:
            size = min(order.open_quantity, self._room)
            if size and (order.limit_ticks - ticks) * order.side.sign >= self._through_ticks:
                self._room -= size
                order.open_quantity -= size
                fills.append(Execution(client_order_id, size, order.limit_ticks, Liquidity.MAKER))
                if not order.open_quantity:
                    del self._resting[client_order_id]
        return fills


def worse_first(bar: Bar, lots: int, resting: Iterable[Side], stops: Sequence[HeldStop]) -> tuple[int, int]:
    """Return the extremes of a bar in the order that is worse for what is open.

    With a position, its adverse one comes first. Without, the one that can open a position, so that the other can hurt it. Where
    nothing or both sides can, the nearer to the open.
    """
    down, up = (bar.low_ticks, bar.high_ticks), (bar.high_ticks, bar.low_ticks)
    if lots:
        return down if lots > 0 else up
    # Entries that are reached from above: limits to buy, stops to sell.
    is_down = Side.BUY in resting or any(stop.side is Side.SELL for stop in stops)
    is_up = Side.SELL in resting or any(stop.side is Side.BUY for stop in stops)
    if is_down != is_up:
        return down if is_down else up
    return down if bar.open_ticks - bar.low_ticks <= bar.high_ticks - bar.open_ticks else up


def adverse(bar: Bar, lots: int) -> int | None:
    """Return the extreme of a bar that hurts a position, None for none."""
    return None if not lots else bar.low_ticks if lots > 0 else bar.high_ticks
