"""The table of an order's states, in FIX's words: which report leads from which state to which."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from framework.messages import ReportKind, SubmitOrder
from framework.model import OrderStatus, OrderType

S = OrderStatus
R = ReportKind
# NEW stands for "alive, as far as the venue has confirmed it": see `Order._settle`.
_ALIVE: Final = {
    R.ACCEPTED: S.NEW,
    R.REJECTED: S.REJECTED,
    R.CANCELED: S.CANCELED,
    R.EXPIRED: S.EXPIRED,
    R.CANCEL_REJECTED: S.NEW,
    R.REPLACED: S.NEW,
    R.REPLACE_REJECTED: S.NEW,
    R.TRIGGERED: S.NEW,
    R.RELEASED: S.NEW,
    R.RESTATED: S.NEW,
    R.LOST: S.UNKNOWN,
}
# What may come late or twice without telling anything new: the answer to a request that lost its race, an acknowledgement behind the fills.
_LATE: Final = (R.ACCEPTED, R.CANCEL_REJECTED, R.REPLACED, R.REPLACE_REJECTED, R.TRIGGERED, R.RELEASED, R.RESTATED, R.LOST)


def _staying(status: OrderStatus, *kinds: ReportKind) -> dict[ReportKind, OrderStatus]:
    return dict.fromkeys(kinds, status)


NEXT: Final[dict[OrderStatus, dict[ReportKind, OrderStatus]]] = {
    S.PENDING_NEW: _ALIVE,
    S.NEW: _ALIVE,
    S.PARTIALLY_FILLED: _ALIVE,
    S.PENDING_CANCEL: _ALIVE | _staying(S.PENDING_CANCEL, R.ACCEPTED, R.REPLACED, R.REPLACE_REJECTED, R.TRIGGERED, R.RELEASED, R.RESTATED),
    S.PENDING_REPLACE: _ALIVE | _staying(S.PENDING_REPLACE, R.ACCEPTED, R.CANCEL_REJECTED, R.TRIGGERED, R.RELEASED, R.RESTATED),
    # Held here: only we speak of it, until it is released. A venue that speaks of it all the same has it.
    S.SUSPENDED: _ALIVE
    | {R.RELEASED: S.PENDING_NEW}
    | _staying(S.SUSPENDED, R.CANCEL_REJECTED, R.REPLACED, R.REPLACE_REJECTED, R.TRIGGERED, R.RESTATED),
    # Only evidence ends UNKNOWN: an acknowledgement is some, a refusal is none ("no such order" and "already filled" look alike).
    S.UNKNOWN: _ALIVE | _staying(S.UNKNOWN, R.CANCEL_REJECTED, R.REPLACE_REJECTED),
    S.FILLED: _staying(S.FILLED, *_LATE),
    S.CANCELED: _staying(S.CANCELED, *_LATE, R.CANCELED),
    S.EXPIRED: _staying(S.EXPIRED, *_LATE, R.EXPIRED),
    S.REJECTED: _staying(S.REJECTED, *_LATE, R.REJECTED),
}
"""State and report to next state.

FILLED reports are not here: they move by quantity, in any state (`Order.apply`). A pair that is missing changes nothing and is counted
as an anomaly: a venue's text can be wrong, repeated or late."""
CANCELABLE: Final = frozenset({S.PENDING_NEW, S.NEW, S.PARTIALLY_FILLED, S.PENDING_REPLACE})
REPLACEABLE: Final = frozenset({S.NEW, S.PARTIALLY_FILLED})


AT_THE_VENUE: Final = {
    OrderType.MARKET: OrderType.MARKET,
    OrderType.LIMIT: OrderType.LIMIT,
    OrderType.STOP: OrderType.MARKET,
    OrderType.STOP_LIMIT: OrderType.LIMIT,
    OrderType.TRAILING_STOP: OrderType.MARKET,
}
"""What an order is once it may trade."""


_STOPS: Final = tuple(order_type for order_type in OrderType if order_type.is_stop)


class Effect(StrEnum):
    """What a report did to an order. DUPLICATE told nothing new; UNBOOKABLE is a fill that cannot be true as it stands."""

    CHANGED = "CHANGED"
    FILLED = "FILLED"
    LATE_FILL = "LATE_FILL"
    DUPLICATE = "DUPLICATE"
    ANOMALY = "ANOMALY"
    UNBOOKABLE = "UNBOOKABLE"


NO_CHANGE: Final = frozenset({Effect.DUPLICATE, Effect.ANOMALY, Effect.UNBOOKABLE})
"""What leaves the order as it was."""


def is_held(intent: SubmitOrder) -> bool:
    """Return whether Execution holds an order like this before a venue hears of it: a stop, or a leg that waits for its entry."""
    return intent.order_type in _STOPS or bool(intent.parent_id)
