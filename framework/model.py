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


# What is asked of every order is worked out once for each word below: Python 3.11 takes 0.2 us to look up a member such as `Side.BUY`.


class Side(StrEnum):
    """Direction of an order, a fill or an aggressor. `sign` is +1 for BUY and -1 for SELL."""

    BUY = "BUY"
    SELL = "SELL"

    sign: int

    def __init__(self, word: str) -> None:
        self.sign = 1 if word == "BUY" else -1

    @property
    def opposite(self) -> Side:
        """Return the other side."""
        return _OPPOSITE[self]


_OPPOSITE: Final = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}


class OrderType(StrEnum):
    """How an order may trade. `has_limit`: it needs a limit price; `is_stop`: it waits for a price before it may trade."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"
    TRAILING_STOP = "TRAILING_STOP"

    has_limit: bool
    is_stop: bool

    def __init__(self, word: str) -> None:
        self.has_limit = word in ("LIMIT", "STOP_LIMIT")
        self.is_stop = word in ("STOP", "STOP_LIMIT", "TRAILING_STOP")


class TimeInForce(StrEnum):
    """How long an order lives. DAY: to the end of the session. GTC, GTD: over breaks, GTD until `expire_ns`. FOK: all or nothing.

    `rests`: what does not trade at once stays in the book.
    """

    DAY = "DAY"
    GTC = "GTC"
    GTD = "GTD"
    IOC = "IOC"
    FOK = "FOK"

    rests: bool

    def __init__(self, word: str) -> None:
        self.rests = word not in ("IOC", "FOK")


class TriggerPrice(StrEnum):
    """Which price sets off a stop: the quote that it would trade at (a buy stop: the best ask), or the last trade."""

    QUOTE = "QUOTE"
    LAST = "LAST"


class OrderStatus(StrEnum):
    """State of one of our orders, in FIX's words (DENIED: our risk gate said no; REJECTED: the venue did).

    SUSPENDED: held here and not at the venue (a stop that waits for its price, a leg that waits for its entry). UNKNOWN is not FIX's:
    the answer to a request did not come, and only evidence ends it. A replaced order is NEW or PARTIALLY_FILLED again.
    """

    PENDING_NEW = "PENDING_NEW"
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    PENDING_CANCEL = "PENDING_CANCEL"
    PENDING_REPLACE = "PENDING_REPLACE"
    SUSPENDED = "SUSPENDED"
    UNKNOWN = "UNKNOWN"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"
    DENIED = "DENIED"
    # The names of version 0.1.
    SUBMITTED = "PENDING_NEW"
    ACCEPTED = "NEW"


IN_FLIGHT: Final = frozenset(
    {OrderStatus.PENDING_NEW, OrderStatus.PENDING_CANCEL, OrderStatus.PENDING_REPLACE, OrderStatus.UNKNOWN},
)
OPEN: Final = IN_FLIGHT | {OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.SUSPENDED}
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
    """What is traded. `instrument_id` is `SYMBOL.VENUE`; `multiplier` is money per 1.0 of price per unit of size.

    `margin_per_lot` is money that a venue wants for each open lot (0: none). Orders beyond `lower_limit_ticks` and `upper_limit_ticks`
    are refused where those are set.
    """

    instrument_id: str
    tick_size: Decimal
    multiplier: Decimal = Decimal(1)
    lot_size: Decimal = Decimal(1)
    currency: str = "USD"
    has_trades: bool = True
    session_gap_s: float = 60.0
    margin_per_lot: Decimal = Decimal(0)
    lower_limit_ticks: int | None = None
    upper_limit_ticks: int | None = None

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
