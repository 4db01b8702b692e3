"""The checks of the risk gate that bind in a backtest, without scopes and money: a strategy alone in one instrument.

The order and the words are those of `framework.trading.risk.checks`; a setting that needs any other check is refused (`unchecked`).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec

from framework.config import AccountLimits, RiskLimits, ScopeLimits
from framework.messages import BookSnapshot, ReplaceOrder, SubmitOrder, TradeTick
from framework.model import NS_PER_S, Side
from framework.trading.exposure import better, resting_price
from framework.trading.orders import Order
from framework.trading.risk.windows import MINUTE_NS, Recent, Window

ZERO: Final = Decimal(0)
_BUY: Final = Side.BUY
_MONEY: Final = (
    "max_order_notional",
    "max_notional_per_minute",
    "max_daily_loss",
    "max_drawdown",
    "max_consecutive_losses",
    "max_fills_unattended",
)


def unchecked(limits: RiskLimits) -> list[str]:
    """Return the settings of the gate that are set and that a lean backtest does not check."""
    found = [f"risk.{name}" for name in (*_MONEY, "flat_before_session_end_s") if getattr(limits, name)]
    found += [f"risk.account.{name}" for name in _set_in(limits.account, AccountLimits())]
    for group in ("strategies", "instruments"):
        scopes: dict[str, ScopeLimits] = getattr(limits, group)
        found += [f"risk.{group}.{name}" for name, scope in scopes.items() if _set_in(scope, ScopeLimits())]
    return found


def _set_in(scope: ScopeLimits, plain: ScopeLimits) -> list[str]:
    return [name for name in type(scope).model_fields if getattr(scope, name) != getattr(plain, name)]


class LeanGate:
    """Say why an order may not go. Market time only; what was let out counts towards the rates."""

    def __init__(self, limits: RiskLimits) -> None:
        self._limits = limits
        self._window_ns = round(limits.duplicate_window_s * NS_PER_S)
        self._age_ns = round(limits.max_book_age_s * NS_PER_S)
        self._second, self._minute, self._cancels = Window(NS_PER_S), Window(MINUTE_NS), Window(NS_PER_S)
        self.recent = Recent()
        self.book: BookSnapshot | None = None
        self.trade: TradeTick | None = None
        self.is_open = self.is_sound = True

    def denial(self, order: SubmitOrder, position: int, open_orders: Mapping[str, Order], now_ns: int, *, is_change: bool = False) -> str:
        """Return the code and the numbers of the first check that fails, empty if none does."""
        book, limits = self.book, self._limits
        if not self.is_open:
            return "INSTRUMENT the session is closed"
        if not 1 <= order.quantity <= limits.max_order_quantity:
            return f"MAX_ORDER_QUANTITY quantity={order.quantity} limit={limits.max_order_quantity}"
        if book is None or not self.is_sound or not (book.bid_ticks and book.ask_ticks):
            return "BOOK no sound two-sided book"
        if order.limit_ticks is not None and order.limit_ticks <= 0 < book.bid_ticks[-1]:
            return f"PRICE order_type={order.order_type} price_ticks={order.limit_ticks}"
        if abs(now_ns - book.ts_recv) > self._age_ns:
            return f"BOOK age_s={(now_ns - book.ts_recv) / NS_PER_S:.3f} limit={limits.max_book_age_s:g}"
        return (
            self._far(order, book, now_ns)
            or self._much(order, position, open_orders)
            or ("" if is_change else self._many(open_orders))
            or self._often(now_ns)
            or ("" if is_change else self._again(order, now_ns))
            or self._against_own(order, book, open_orders)
            or _turning(order, position, open_orders)
        )

    def denial_of_change(self, order: Order, change: ReplaceOrder, position: int, others: Mapping[str, Order], now_ns: int) -> str:
        """Return why an open order may not get other terms, empty if it may; `others` are the open orders without it.

        What only gets smaller is not asked about the market, and what passes counts towards the rates.
        """
        filled = order.filled_quantity
        total = order.quantity if change.quantity is None else change.quantity
        changed = msgspec.structs.replace(
            order.outgoing(),
            quantity=total - filled,
            limit_ticks=order.limit_ticks if change.limit_ticks is None else change.limit_ticks,
            ts_event=change.ts_event,
        )
        if change.limit_ticks is None and filled < total <= order.quantity:
            return "" if self.is_open else "INSTRUMENT the session is closed"
        denial = self.denial(changed, position, others, now_ns, is_change=True)
        if not denial:
            self.note(changed, now_ns)
        return denial

    def note(self, order: SubmitOrder, now_ns: int) -> None:
        """Count an order that left."""
        self._second.add(now_ns, ZERO)
        self._minute.add(now_ns, ZERO)
        self.recent.note(order, now_ns)

    def denial_of_cancel(self, now_ns: int) -> str:
        """Return why no other cancel may go now; empty: it may, and counts."""
        count, most = len(self._cancels.prune(now_ns)), self._limits.max_cancels_per_second
        if count >= most:
            return f"CANCEL_RATE last_second={count} limit={most}"
        self._cancels.add(now_ns, ZERO)
        return ""

    def marketable_limit(self, side: Side, open_orders: Mapping[str, Order]) -> int:
        """Return the limit of a market order: the collar's edge, or one tick short of our own order before it."""
        book = self.book
        assert book is not None
        edge = int(self._limits.price_collar_ticks)
        own = _best_resting(open_orders, side.opposite) if self._limits.prevent_self_trade else None
        if side is _BUY:
            limit = book.ask_ticks[0] + edge
            return limit if own is None else min(limit, own - 1)
        limit = book.bid_ticks[0] - edge
        return limit if own is None else max(limit, own + 1)

    # --- the checks --------------------------------------------------------------------------------------------------------

    def _far(self, order: SubmitOrder, book: BookSnapshot, now_ns: int) -> str:
        limit_ticks, limits, trade = order.limit_ticks, self._limits, self.trade
        if limit_ticks is None:
            return ""
        distance = abs(limit_ticks - (book.bid_ticks[0] + book.ask_ticks[0]) / 2)
        if distance > limits.price_collar_ticks:
            return f"PRICE_COLLAR distance_ticks={distance:g} limit={limits.price_collar_ticks}"
        most = limits.last_trade_collar_ticks
        if most and trade is not None and now_ns - trade.ts_event <= self._age_ns and abs(limit_ticks - trade.price_ticks) > most:
            return f"LAST_TRADE distance_ticks={abs(limit_ticks - trade.price_ticks)} limit={most}"
        return ""

    def _much(self, order: SubmitOrder, position: int, open_orders: Mapping[str, Order]) -> str:
        worst = position + order.side.sign * (_waiting(open_orders, order.side) + order.quantity)
        if abs(worst) > self._limits.max_position and not (order.reduce_only and abs(worst) <= abs(position)):
            return f"MAX_POSITION worst={worst} limit={self._limits.max_position}"
        return ""

    def _many(self, open_orders: Mapping[str, Order]) -> str:
        most = self._limits.max_open_orders
        return f"MAX_OPEN_ORDERS open={len(open_orders)} limit={most}" if len(open_orders) >= most else ""

    def _often(self, now_ns: int) -> str:
        limits = self._limits
        of_second, of_minute = len(self._second.prune(now_ns)), len(self._minute.prune(now_ns))
        if of_second >= limits.max_orders_per_second:
            return f"ORDER_RATE last_second={of_second} limit={limits.max_orders_per_second}"
        if limits.max_orders_per_minute and of_minute >= limits.max_orders_per_minute:
            return f"ORDER_RATE last_minute={of_minute} limit={limits.max_orders_per_minute}"
        return ""

    def _again(self, order: SubmitOrder, now_ns: int) -> str:
        twin = None if not self._window_ns or order.reduce_only else self.recent.twin(order, now_ns, self._window_ns)
        if twin is None:
            return ""
        window_s = self._limits.duplicate_window_s
        return f"DUPLICATE of={twin.client_order_id} age_s={(now_ns - twin.ts_event) / NS_PER_S:.3f} window={window_s:g}"

    def _against_own(self, order: SubmitOrder, book: BookSnapshot, open_orders: Mapping[str, Order]) -> str:
        side, limit_ticks = order.side, order.limit_ticks
        own = _best_resting(open_orders, side.opposite) if self._limits.prevent_self_trade else None
        if own is None:
            return ""
        limit = self.marketable_limit(side, open_orders) if limit_ticks is None else limit_ticks
        reach = book.ask_ticks[0] if side is _BUY else book.bid_ticks[0]
        is_clear = (limit - reach if limit_ticks is None else own - limit - side.sign) * side.sign >= 0
        return "" if is_clear else f"SELF_TRADE own={own} limit_ticks={limit}"


def _turning(order: SubmitOrder, position: int, open_orders: Mapping[str, Order]) -> str:
    if not order.reduce_only:
        return ""
    closing = _waiting(open_orders, order.side) + order.quantity
    is_reducing = position * order.side.sign < 0 and closing <= abs(position)
    return "" if is_reducing else f"REDUCE_ONLY position={position} side={order.side} quantity_with_open={closing}"


def _waiting(open_orders: Mapping[str, Order], side: Side) -> int:
    return sum([order.open_quantity for order in open_orders.values() if order.intent.side is side])


def _best_resting(open_orders: Mapping[str, Order], side: Side) -> int | None:
    prices = [price for order in open_orders.values() if order.intent.side is side and (price := resting_price(order)) is not None]
    return better(side)(prices) if prices else None
