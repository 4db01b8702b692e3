"""The words everybody uses: instruments, sides, order and flow types.

Prices are integer ticks and sizes integer lots everywhere inside; `Instrument` converts at the rim. Times are integer
nanoseconds UTC. Money is `Decimal`.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

from framework.errors import OffTickPrice

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000


class Side(StrEnum):
    """Direction of an order, a fill or an aggressor."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        """Return +1 for BUY and -1 for SELL."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """Return the other side."""
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    """How an order may trade."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"


class TimeInForce(StrEnum):
    """How long an order lives."""

    DAY = "DAY"
    IOC = "IOC"


class OrderStatus(StrEnum):
    """State of one of our orders, in FIX's words (DENIED: our risk gate said no; REJECTED: the venue did)."""

    SUBMITTED = "SUBMITTED"
    ACCEPTED = "ACCEPTED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    PENDING_CANCEL = "PENDING_CANCEL"
    UNKNOWN = "UNKNOWN"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"
    DENIED = "DENIED"


IN_FLIGHT: Final = frozenset({OrderStatus.SUBMITTED, OrderStatus.PENDING_CANCEL, OrderStatus.UNKNOWN})
OPEN: Final = IN_FLIGHT | {OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED}
CLOSED: Final = frozenset(OrderStatus) - OPEN


class Liquidity(StrEnum):
    """Whether a fill rested in the book (MAKER) or took from it (TAKER)."""

    MAKER = "MAKER"
    TAKER = "TAKER"


class FlowType(StrEnum):
    """What a prediction says (the mission's `prediction_flow_type`)."""

    STRONG_SELL = "STRONG_SELL"
    SELL = "SELL"
    NEUTRAL = "NEUTRAL"
    BUY = "BUY"
    STRONG_BUY = "STRONG_BUY"

    @property
    def direction(self) -> int:
        """Return -1, 0 or +1."""
        return _DIRECTION[self]


_DIRECTION: Final = {
    FlowType.STRONG_SELL: -1,
    FlowType.SELL: -1,
    FlowType.NEUTRAL: 0,
    FlowType.BUY: 1,
    FlowType.STRONG_BUY: 1,
}


class TradeOutcome(StrEnum):
    """How an executed decision ended (the mission's `trade_outcome`; a decision that did not trade has None)."""

    PROFIT = "PROFIT"
    LOSS = "LOSS"
    BREAKEVEN = "BREAKEVEN"
    EXECUTED = "EXECUTED"


class TradingState(StrEnum):
    """What the risk gate lets through."""

    ACTIVE = "ACTIVE"
    REDUCE_ONLY = "REDUCE_ONLY"
    HALTED = "HALTED"


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """What is traded. `instrument_id` is `SYMBOL.VENUE`; `multiplier` is money per 1.0 of price per unit of size."""

    instrument_id: str
    tick_size: Decimal
    multiplier: Decimal = Decimal(1)
    lot_size: Decimal = Decimal(1)
    currency: str = "USD"
    has_trades: bool = True
    session_gap_s: float = 60.0

    @property
    def symbol(self) -> str:
        """Return the venue's spelling."""
        return self.instrument_id.rpartition(".")[0]

    @property
    def venue(self) -> str:
        """Return the venue's name."""
        return self.instrument_id.rpartition(".")[2]

    @property
    def tick_value(self) -> Decimal:
        """Return the money that one tick is worth for one lot."""
        return self.tick_size * self.multiplier * self.lot_size

    def price(self, ticks: int) -> Decimal:
        """Return the price of `ticks`."""
        return self.tick_size * ticks

    def ticks(self, price: Decimal | float | str) -> int:
        """Return `price` in ticks. Raises `OffTickPrice` if it is not finite or lies between two ticks."""
        exact = Decimal(str(price))
        if not exact.is_finite():
            raise OffTickPrice(f"{self.instrument_id}: price must be finite, got {price!r}")
        count = exact / self.tick_size
        if count != count.to_integral_value():
            raise OffTickPrice(f"{self.instrument_id}: price {price} is not a multiple of the tick size {self.tick_size}")
        return int(count)
