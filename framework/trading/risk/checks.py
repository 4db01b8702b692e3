"""The checks of the gate, one function a step, in their order. Each returns the numbers that deny the order, or None.

Comparisons are written so that NaN denies: a comparison with NaN is False, so each asks whether the order is within its limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from framework.trading.risk.amounts import (
    daily_loss,
    drawdown,
    fills,
    gross,
    losses_in_a_row,
    margin,
    notional,
    notional_rate,
    open_orders,
    order_rate,
    position,
    session_end,
)
from framework.trading.risk.case import Case
from framework.trading.risk.soundness import (
    book,
    client_order_id,
    collar,
    duplicate,
    instrument,
    intent_age,
    journal,
    last_trade,
    prediction_age,
    price,
    quantity,
    ready,
    reduce_only,
    self_trade,
    state,
)

Steps = tuple[tuple[str, Callable[[Case], str | None]], ...]
STEPS: Final[Steps] = (
    ("HALTED", state),
    ("NOT_READY", ready),
    ("JOURNAL", journal),
    ("INSTRUMENT", instrument),
    ("DUPLICATE_ID", client_order_id),
    ("MAX_ORDER_QUANTITY", quantity),
    ("PRICE", price),
    ("BOOK", book),
    ("PRICE_COLLAR", collar),
    ("LAST_TRADE", last_trade),
    ("MAX_ORDER_NOTIONAL", notional),
    ("MAX_POSITION", position),
    ("MAX_OPEN_ORDERS", open_orders),
    ("GROSS_EXPOSURE", gross),
    ("MARGIN", margin),
    ("DAILY_LOSS", daily_loss),
    ("DRAWDOWN", drawdown),
    ("CONSECUTIVE_LOSSES", losses_in_a_row),
    ("FILLS_UNATTENDED", fills),
    ("SESSION_END", session_end),
    ("ORDER_RATE", order_rate),
    ("NOTIONAL_RATE", notional_rate),
    ("DUPLICATE", duplicate),
    ("SELF_TRADE", self_trade),
    ("REDUCE_ONLY", reduce_only),
    ("INTENT_AGE", intent_age),
    ("PREDICTION_AGE", prediction_age),
)
"""Codes and checks in their order; the first that fails decides."""


def _only(*codes: str) -> Steps:
    return tuple((code, check) for code, check in STEPS if code in codes)


def _without(*codes: str) -> Steps:
    return tuple((code, check) for code, check in STEPS if code not in codes)


BY_OPERATOR: Final = _only("JOURNAL", "INSTRUMENT", "DUPLICATE_ID", "PRICE", "BOOK", "SELF_TRADE", "REDUCE_ONLY")
HELD: Final = _only(
    "HALTED",
    "NOT_READY",
    "JOURNAL",
    "INSTRUMENT",
    "DUPLICATE_ID",
    "MAX_ORDER_QUANTITY",
    "PRICE",
    "MAX_OPEN_ORDERS",
    "ORDER_RATE",
    "INTENT_AGE",
)
"""What an order has to hold that waits here; the rest is asked when it goes."""
RELEASED: Final = _without("DUPLICATE_ID", "MAX_OPEN_ORDERS", "DUPLICATE", "INTENT_AGE", "PREDICTION_AGE")
CHANGED: Final = _without("DUPLICATE_ID", "MAX_OPEN_ORDERS", "DUPLICATE", "PREDICTION_AGE", "FILLS_UNATTENDED")
CHANGED_HELD: Final = tuple(step for step in HELD if step in CHANGED)
SHRUNK: Final = _only("HALTED", "JOURNAL", "INSTRUMENT", "MAX_ORDER_QUANTITY")
CODES: Final = tuple(code for code, _ in STEPS)
