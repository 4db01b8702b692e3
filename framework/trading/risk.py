"""The one gate: every order passes one synchronous check, or is denied with a code and its numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from framework.config import RiskLimits
from framework.messages import BookSnapshot, SubmitOrder
from framework.model import NS_PER_S, OrderType, Side, TradingState

LARGEST: Final = 2**53


class RiskView(Protocol):
    """What the gate may look at. All of it is state of Execution, read at the instant of the check."""

    state: TradingState

    def is_journal_healthy(self) -> bool:
        """Return whether intents can be made durable."""

    def knows(self, instrument_id: str) -> bool:
        """Return whether the instrument exists and trades here."""

    def is_known_order(self, client_order_id: str) -> bool:
        """Return whether this id was ever used."""

    def book(self, instrument_id: str) -> BookSnapshot | None:
        """Return the last book, or None while it is unsound."""

    def position(self, strategy_id: str, instrument_id: str) -> int:
        """Return the signed position."""

    def open_quantity(self, strategy_id: str, instrument_id: str, side: Side) -> int:
        """Return what open orders of one side may still fill, UNKNOWN ones included."""

    def open_order_count(self, strategy_id: str, instrument_id: str) -> int:
        """Return how many orders are open."""


@dataclass(frozen=True, slots=True)
class Approved:
    """The order may go. A market order goes as a limit at the collar's edge, so it never trades beyond it."""

    order: SubmitOrder


@dataclass(frozen=True, slots=True)
class Denied:
    """The order may not go: `code` names the check, `detail` its numbers."""

    code: str
    detail: str

    def __str__(self) -> str:
        return f"{self.code} {self.detail}".rstrip()


Verdict = Approved | Denied
Check = Callable[[SubmitOrder, RiskView, int], str | None]


class RiskGate:
    """Check orders against limits. `check` is synchronous, has no I/O, and treats NaN and nonsense as a reason to deny.

    Checks run in a fixed order, and the first that fails decides: state, journal, instrument, id, quantity, price, book,
    collar, reduce-only, position at its worst, open orders, rate. Limits can be tightened at run time, never loosened.
    """

    def __init__(self, limits: RiskLimits) -> None:
        self._limits = limits
        self._sent: dict[str, deque[int]] = {}
        self._checks: Final[tuple[tuple[str, Check], ...]] = (
            ("HALTED", self._state),
            ("JOURNAL", self._journal),
            ("INSTRUMENT", self._instrument),
            ("DUPLICATE_ID", self._id),
            ("MAX_ORDER_QUANTITY", self._quantity),
            ("PRICE", self._price),
            ("BOOK", self._book),
            ("PRICE_COLLAR", self._collar),
            ("REDUCE_ONLY", self._reduce_only),
            ("MAX_POSITION", self._position),
            ("MAX_OPEN_ORDERS", self._open_orders),
            ("ORDER_RATE", self._rate),
        )

    def check(self, order: SubmitOrder, view: RiskView, now_ns: int) -> Verdict:
        """Return `Approved` with the order as it may go, or `Denied`."""
        for code, check in self._checks:
            detail = check(order, view, now_ns)
            if detail is not None:
                return Denied(code, detail)
        self._sent[order.strategy_id].append(now_ns)
        return Approved(self._inside_collar(order, view))

    def _state(self, _: SubmitOrder, view: RiskView, __: int) -> str | None:
        return "trading is halted" if view.state is TradingState.HALTED else None

    def _journal(self, _: SubmitOrder, view: RiskView, __: int) -> str | None:
        return None if view.is_journal_healthy() else "intents cannot be made durable"

    def _instrument(self, order: SubmitOrder, view: RiskView, _: int) -> str | None:
        return None if view.knows(order.instrument_id) else f"instrument_id={order.instrument_id}"

    def _id(self, order: SubmitOrder, view: RiskView, _: int) -> str | None:
        return f"client_order_id={order.client_order_id}" if view.is_known_order(order.client_order_id) else None

    def _quantity(self, order: SubmitOrder, _: RiskView, __: int) -> str | None:
        is_within = is_whole(order.quantity) and 1 <= order.quantity <= self._limits.max_order_quantity
        return None if is_within else f"quantity={_text(order.quantity)} limit={self._limits.max_order_quantity}"

    def _price(self, order: SubmitOrder, _: RiskView, __: int) -> str | None:
        has_price = is_whole(order.limit_ticks)
        is_sound = has_price if order.order_type is OrderType.LIMIT else order.limit_ticks is None
        return None if is_sound else f"order_type={order.order_type} limit_ticks={_text(order.limit_ticks)}"

    def _book(self, order: SubmitOrder, view: RiskView, now_ns: int) -> str | None:
        book = view.book(order.instrument_id)
        if book is None or not (book.bid_ticks and book.ask_ticks):
            return "no sound two-sided book"
        # A book from the future is as little to be trusted as an old one.
        age_s = abs(now_ns - book.ts_recv) / NS_PER_S
        # Written so that NaN fails: a comparison with NaN is False.
        return None if age_s <= self._limits.max_book_age_s else f"age_s={age_s:.3f} limit={self._limits.max_book_age_s:g}"

    def _collar(self, order: SubmitOrder, view: RiskView, _: int) -> str | None:
        book = view.book(order.instrument_id)
        if order.limit_ticks is None or book is None:
            return None
        distance = abs(order.limit_ticks - (book.bid_ticks[0] + book.ask_ticks[0]) / 2)
        return (
            None if distance <= self._limits.price_collar_ticks else f"distance_ticks={distance:g} limit={self._limits.price_collar_ticks}"
        )

    def _reduce_only(self, order: SubmitOrder, view: RiskView, _: int) -> str | None:
        if not order.reduce_only and view.state is not TradingState.REDUCE_ONLY:
            return None
        position = view.position(order.strategy_id, order.instrument_id)
        closing = view.open_quantity(order.strategy_id, order.instrument_id, order.side) + order.quantity
        reduces = position * order.side.sign < 0 and closing <= abs(position)
        return None if reduces else f"position={position} side={order.side} quantity_with_open={closing}"

    def _position(self, order: SubmitOrder, view: RiskView, _: int) -> str | None:
        position = view.position(order.strategy_id, order.instrument_id)
        waiting = view.open_quantity(order.strategy_id, order.instrument_id, order.side)
        worst = position + order.side.sign * (waiting + order.quantity)
        is_within = abs(worst) <= self._limits.max_position or (order.reduce_only and abs(worst) <= abs(position))
        return None if is_within else f"worst={worst} limit={self._limits.max_position}"

    def _open_orders(self, order: SubmitOrder, view: RiskView, _: int) -> str | None:
        count = view.open_order_count(order.strategy_id, order.instrument_id)
        return None if count < self._limits.max_open_orders else f"open={count} limit={self._limits.max_open_orders}"

    def _rate(self, order: SubmitOrder, _: RiskView, now_ns: int) -> str | None:
        sent = self._sent.setdefault(order.strategy_id, deque())
        while sent and now_ns - sent[0] >= NS_PER_S:
            sent.popleft()
        recent = len(sent)
        return None if recent < self._limits.max_orders_per_second else f"last_second={recent} limit={self._limits.max_orders_per_second}"

    def _inside_collar(self, order: SubmitOrder, view: RiskView) -> SubmitOrder:
        book = view.book(order.instrument_id)
        if order.order_type is not OrderType.MARKET or book is None:
            return order
        edge = self._limits.price_collar_ticks
        limit_ticks = book.ask_ticks[0] + edge if order.side is Side.BUY else book.bid_ticks[0] - edge
        return msgspec.structs.replace(order, limit_ticks=limit_ticks)


def is_whole(number: object) -> bool:
    """Return whether this is an integer that the journal can hold and a float can show."""
    return isinstance(number, int) and not isinstance(number, bool) and abs(number) <= LARGEST


def _text(number: object) -> str:
    # Python refuses to print an integer of thousands of digits, and a denial must not raise.
    return f"beyond {LARGEST}" if isinstance(number, int) and abs(number) > LARGEST else str(number)
