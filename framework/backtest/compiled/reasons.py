"""Why an order was denied, refused or ended: the numbers of the compiled rules, and the words of the interpreted ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from framework.backtest.lean.columns import MarketColumns
from framework.config import RiskLimits
from framework.messages import SessionChanged
from framework.model import NS_PER_S
from framework.strategy.compiled.views import NO_LIMIT, STATES
from framework.venues.open_orders import NOTHING_LEFT

(
    NONE,
    INSTRUMENT,
    MAX_ORDER_QUANTITY,
    NO_BOOK,
    PRICE,
    OLD_BOOK,
    PRICE_COLLAR,
    LAST_TRADE,
    MAX_POSITION,
    MAX_OPEN_ORDERS,
    RATE_SECOND,
    RATE_MINUTE,
    DUPLICATE,
    SELF_TRADE,
    CANCEL_RATE,
    NOT_REPLACEABLE,
    WOULD_TAKE,
    SESSION_CLOSED,
    HALTED,
    BEYOND_LIMITS,
    NOTHING_TO_TRADE,
    NOT_WHOLE,
    SESSION_ENDED,
    NOT_OPEN,
    FILLED_ALREADY,
) = range(25)
CODES: Final = {
    INSTRUMENT: "INSTRUMENT",
    MAX_ORDER_QUANTITY: "MAX_ORDER_QUANTITY",
    NO_BOOK: "BOOK",
    PRICE: "PRICE",
    OLD_BOOK: "BOOK",
    PRICE_COLLAR: "PRICE_COLLAR",
    LAST_TRADE: "LAST_TRADE",
    MAX_POSITION: "MAX_POSITION",
    MAX_OPEN_ORDERS: "MAX_OPEN_ORDERS",
    RATE_SECOND: "ORDER_RATE",
    RATE_MINUTE: "ORDER_RATE",
    DUPLICATE: "DUPLICATE",
    SELF_TRADE: "SELF_TRADE",
    CANCEL_RATE: "CANCEL_RATE",
    NOT_REPLACEABLE: "NOT_REPLACEABLE",
}
"""What the gate says, by its code."""


class Words:
    """Say a reason and its numbers as the interpreted rules do."""

    def __init__(self, columns: MarketColumns, limits: RiskLimits, name: str) -> None:
        instrument = columns.instrument
        lower, upper = instrument.lower_limit_ticks, instrument.upper_limit_ticks
        age, window, others = limits.max_book_age_s, limits.duplicate_window_s, columns.others
        self._say: dict[int, Callable[[int, int, int], str]] = {
            NONE: lambda *_: "",
            INSTRUMENT: lambda *_: "INSTRUMENT the session is closed",
            MAX_ORDER_QUANTITY: lambda a, b, _: f"MAX_ORDER_QUANTITY quantity={a} limit={b}",
            NO_BOOK: lambda *_: "BOOK no sound two-sided book",
            PRICE: lambda a, *_: f"PRICE order_type=LIMIT price_ticks={a}",
            OLD_BOOK: lambda a, *_: f"BOOK age_s={a / NS_PER_S:.3f} limit={age:g}",
            PRICE_COLLAR: lambda a, b, _: f"PRICE_COLLAR distance_ticks={a / 2:g} limit={b}",
            LAST_TRADE: lambda a, b, _: f"LAST_TRADE distance_ticks={a} limit={b}",
            MAX_POSITION: lambda a, b, _: f"MAX_POSITION worst={a} limit={b}",
            MAX_OPEN_ORDERS: lambda a, b, _: f"MAX_OPEN_ORDERS open={a} limit={b}",
            RATE_SECOND: lambda a, b, _: f"ORDER_RATE last_second={a} limit={b}",
            RATE_MINUTE: lambda a, b, _: f"ORDER_RATE last_minute={a} limit={b}",
            DUPLICATE: lambda a, b, _: f"DUPLICATE of={name}-{a} age_s={b / NS_PER_S:.3f} window={window:g}",
            SELF_TRADE: lambda a, b, _: f"SELF_TRADE own={a} limit_ticks={b}",
            CANCEL_RATE: lambda a, b, _: f"CANCEL_RATE last_second={a} limit={b}",
            NOT_REPLACEABLE: lambda a, *_: f"NOT_REPLACEABLE status={STATES[a - 1]}",
            WOULD_TAKE: lambda *_: "post-only order would take",
            SESSION_CLOSED: lambda *_: "session is closed",
            HALTED: lambda *_: "trading is halted",
            BEYOND_LIMITS: lambda a, *_: f"price {a} is beyond the price limits; allowed {lower} to {upper} ticks",
            NOTHING_TO_TRADE: lambda *_: NOTHING_LEFT,
            NOT_WHOLE: lambda *_: "fill or kill: not all of it can trade at once",
            SESSION_ENDED: lambda a, *_: _session_words(others[a]),
            NOT_OPEN: lambda *_: "order is not open",
            FILLED_ALREADY: lambda a, b, _: f"new quantity {a}, but {b} lots are filled already",
        }

    def of(self, reason: int, first: int, second: int, third: int) -> str:
        """Return the words of a reason."""
        return self._say[reason](first, second, third)


def _session_words(said: object) -> str:
    assert isinstance(said, SessionChanged)
    return f"session closed ({said.reason})"


def price_or_none(ticks: int) -> int | None:
    """Return a limit, None for an order at market."""
    return None if ticks == NO_LIMIT else ticks
