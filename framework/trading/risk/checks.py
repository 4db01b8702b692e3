"""The checks of the gate, one function a step. Each returns the numbers that deny the order, or None.

Comparisons are written so that NaN denies: a comparison with NaN is False, so each asks whether the order is within its limit.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import cached_property
from typing import Final

from framework.messages import BookSnapshot, SubmitOrder
from framework.model import NS_PER_S, OrderType, Side, TradingState
from framework.trading.order_terms import fault_in_terms
from framework.trading.risk.limits import LimitBook, Number, Scope
from framework.trading.risk.verdict import is_whole, text_of
from framework.trading.risk.view import Loss, RiskView
from framework.trading.risk.windows import MINUTE_NS, Recent, Throttles

DAY_S: Final = 86_400


class Case:
    """One order before the gate. What several checks need is worked out once, and only after the checks before have passed."""

    def __init__(self, order: SubmitOrder, view: RiskView, now_ns: int, *, limits: LimitBook, throttles: Throttles, recent: Recent) -> None:
        self.order = order
        self.view = view
        self.now_ns = now_ns
        self.limits = limits
        self.throttles = throttles
        self.recent = recent
        self._losses: dict[str, Loss] = {}

    @cached_property
    def scopes(self) -> tuple[Scope, ...]:
        """Return the scopes whose limits the order has to hold."""
        return self.limits.scopes(self.order.strategy_id, self.order.instrument_id)

    @cached_property
    def book(self) -> BookSnapshot | None:
        """Return the sound book of the instrument."""
        return self.view.book(self.order.instrument_id)

    @cached_property
    def worst_ticks(self) -> float:
        """Return the farthest price from zero that the order could trade at."""
        order = self.order
        if order.limit_ticks is not None:
            return abs(order.limit_ticks)
        return abs(marketable_limit(self)) if self.book is not None else 0.0

    @cached_property
    def order_notional(self) -> Decimal:
        """Return the money that the order could move."""
        return self.view.contract_value(self.order.instrument_id, self.worst_ticks) * self.order.quantity

    def loss(self, scope: Scope) -> Loss:
        """Return how a scope has done, worked out once an order."""
        found = self._losses.get(scope.name)
        if found is None:
            found = self._losses[scope.name] = self.view.loss(scope.strategy_id, scope.instrument_id)
        return found

    @cached_property
    def is_reducing(self) -> bool:
        """Return whether it cannot but make its strategy's position smaller, whatever else of that side fills."""
        return self.reduces(self.order.strategy_id)

    def reduces(self, strategy_id: str | None) -> bool:
        """Return whether a position cannot become larger or turn by this order and the open ones of its side."""
        order, view = self.order, self.view
        position = view.position(strategy_id, order.instrument_id)
        if position * order.side.sign >= 0:
            return False
        return view.open_quantity(strategy_id, order.instrument_id, order.side) + order.quantity <= abs(position)


# --- 1 to 4: who may trade at all -----------------------------------------------------------------------------------------


def state(case: Case) -> str | None:
    """1: the kill switch."""
    if case.view.is_killed():
        return "the kill switch is set"
    return "trading is halted" if case.view.state is TradingState.HALTED else None


def ready(case: Case) -> str | None:
    """2: reconciled with the venue, clock in order."""
    return case.view.why_not_ready() or None


def journal(case: Case) -> str | None:
    """3: intents can be made durable."""
    return None if case.view.is_journal_healthy() else "intents cannot be made durable"


def instrument(case: Case) -> str | None:
    """4: the instrument exists, and trades now."""
    order, view = case.order, case.view
    if not view.knows(order.instrument_id):
        return f"instrument_id={order.instrument_id}"
    return None if view.is_session_open(order.instrument_id) else "the session is closed"


def client_order_id(case: Case) -> str | None:
    """4: the id was never used."""
    name = case.order.client_order_id
    return f"client_order_id={name}" if case.view.is_known_order(name) else None


# --- 5 to 7: the order by itself, and against the market -----------------------------------------------------------------


def quantity(case: Case) -> str | None:
    """5 and 8: whole lots, within the largest order of every scope."""
    lots = case.order.quantity
    most = min(limit for scope in case.scopes if (limit := scope.get("max_order_quantity")))
    return None if is_whole(lots) and 1 <= lots <= most else f"quantity={text_of(lots)} limit={most}"


def price(case: Case) -> str | None:
    """6: the terms of its type, whole prices, above zero unless the market itself is below."""
    order, found = case.order, case.book
    prices = (order.limit_ticks, order.stop_ticks, order.trail_ticks)
    if not isinstance(order.order_type, OrderType) or not all(one is None or is_whole(one) for one in prices):
        return f"order_type={order.order_type} limit_ticks={text_of(order.limit_ticks)}"
    quote = (found.bid_ticks[0], found.ask_ticks[0]) if found and found.bid_ticks and found.ask_ticks else (None, None)
    fault = fault_in_terms(order, now_ns=case.now_ns, quote=quote, find=case.view.open_intent)
    if fault is not None:
        return fault
    is_below_zero = found is not None and bool(found.bid_ticks) and found.bid_ticks[-1] <= 0
    below = next((one for one in prices[:2] if one is not None and one <= 0), None)
    return None if below is None or is_below_zero else f"order_type={order.order_type} price_ticks={below}"


def book(case: Case) -> str | None:
    """7: a fresh, sound, two-sided book."""
    found = case.book
    if found is None or not (found.bid_ticks and found.ask_ticks):
        return "no sound two-sided book"
    # A book from the future is as little to be trusted as an old one.
    age_s = abs(case.now_ns - found.ts_recv) / NS_PER_S
    most_s = case.limits.get("max_book_age_s")
    return None if age_s <= most_s else f"age_s={age_s:.3f} limit={most_s:g}"


def collar(case: Case) -> str | None:
    """7: not farther from the mid than the collar."""
    if case.order.limit_ticks is None or case.book is None:
        return None
    distance = abs(case.order.limit_ticks - (case.book.bid_ticks[0] + case.book.ask_ticks[0]) / 2)
    most = case.limits.get("price_collar_ticks")
    return None if distance <= most else f"distance_ticks={distance:g} limit={most}"


def last_trade(case: Case) -> str | None:
    """7: not farther from the last trade than its collar, while that trade is as fresh as a book has to be."""
    most = case.limits.get("last_trade_collar_ticks")
    trade = case.view.last_trade(case.order.instrument_id) if most else None
    if trade is None or case.order.limit_ticks is None or case.now_ns - trade.ts_event > case.limits.get("max_book_age_s") * NS_PER_S:
        return None
    distance = abs(case.order.limit_ticks - trade.price_ticks)
    return None if distance <= most else f"distance_ticks={distance} limit={most}"


# --- 8 to 10: how much -------------------------------------------------------------------------------------------------


def notional(case: Case) -> str | None:
    """8: money of one order."""
    for scope in case.scopes:
        most = scope.get("max_order_notional")
        if most and not _is_at_most(case.order_notional, most):
            return f"scope={scope.name} notional={case.order_notional:.2f} limit={most}"
    return None


def position(case: Case) -> str | None:
    """9: the position as if everything open of that side filled, UNKNOWN orders too."""
    order, view = case.order, case.view
    for scope in case.scopes:
        most = scope.get("max_position")
        if not most:
            continue
        lots = view.position(scope.strategy_id, order.instrument_id)
        waiting = view.open_quantity(scope.strategy_id, order.instrument_id, order.side)
        worst = lots + order.side.sign * (waiting + order.quantity)
        if not (abs(worst) <= most or (order.reduce_only and abs(worst) <= abs(lots))):
            where = "" if scope.name == "strategy" else f"scope={scope.name} "
            return f"{where}worst={worst} limit={most}"
    return None


def open_orders(case: Case) -> str | None:
    """9: how many orders are open."""
    for scope in case.scopes:
        most = scope.get("max_open_orders")
        # The account's count is over all instruments; the others are for this one.
        where = None if scope.name == "account" else case.order.instrument_id
        if most and not (count := case.view.open_order_count(scope.strategy_id, where)) < most:
            return f"{'' if scope.name == 'strategy' else f'scope={scope.name} '}open={count} limit={most}"
    return None


def gross(case: Case) -> str | None:
    """10: money at risk over all instruments, at its worst."""
    most = case.scopes[-1].get("max_gross_notional")
    if not most or case.is_reducing:
        return None
    total = gross_with(case)
    return None if _is_at_most(total, most) else f"gross={total:.2f} limit={most}"


def margin(case: Case) -> str | None:
    """10: cash and profit cover their share of it."""
    account = case.scopes[-1]
    cash = account.get("cash")
    if not cash or case.is_reducing:
        return None
    wanted = gross_with(case) * Decimal(str(account.get("margin_share")))
    there = Decimal(cash) + case.view.equity()
    return None if _is_at_most(wanted, there) else f"margin={wanted:.2f} available={there:.2f}"


def gross_with(case: Case) -> Decimal:
    """Return the gross exposure of the account if this order goes too."""
    order, view = case.order, case.view
    instrument_id = order.instrument_id
    lots = view.position(None, instrument_id)
    buys, sells = (
        view.open_quantity(None, instrument_id, side) + (order.quantity if order.side is side else 0) for side in (Side.BUY, Side.SELL)
    )
    worst = max(abs(lots + buys), abs(lots - sells))
    return view.gross_notional(instrument_id) + view.contract_value(instrument_id, case.worst_ticks) * worst


# --- 11: how it went so far ----------------------------------------------------------------------------------------------


def daily_loss(case: Case) -> str | None:
    """11: what was lost today, open positions at the market."""
    for scope in case.scopes:
        most = scope.get("max_daily_loss")
        if most and not case.is_reducing and not _is_below(lost := -case.loss(scope).day, most):
            return f"scope={scope.name} lost={lost:.2f} limit={most}"
    return None


def drawdown(case: Case) -> str | None:
    """11: what was lost since the best."""
    for scope in case.scopes:
        most = scope.get("max_drawdown")
        if most and not case.is_reducing and not _is_below(lost := case.loss(scope).drawdown, most):
            return f"scope={scope.name} lost={lost:.2f} limit={most}"
    return None


def losses_in_a_row(case: Case) -> str | None:
    """11: losing trades in a row."""
    for scope in case.scopes:
        most = scope.get("max_consecutive_losses")
        if most and not case.is_reducing and not (count := case.loss(scope).losses_in_a_row) < most:
            return f"scope={scope.name} losses={count} limit={most}"
    return None


def fills(case: Case) -> str | None:
    """13: fills since an operator last resumed."""
    for scope in case.scopes:
        most = scope.get("max_fills_unattended")
        if most and not case.is_reducing and not (count := case.loss(scope).fills_unattended) < most:
            return f"scope={scope.name} fills={count} limit={most}"
    return None


def session_end(case: Case) -> str | None:
    """11: shortly before the session ends, only what reduces."""
    lead_s = case.limits.get("flat_before_session_end_s")
    if not lead_s or case.is_reducing:
        return None
    left_s = seconds_to_session_end(case.limits, case.now_ns)
    return None if left_s > lead_s else f"ends_in_s={left_s:.1f} limit={lead_s:g}"


def seconds_to_session_end(limits: LimitBook, now_ns: int) -> float:
    """Return how long the session still lasts, s: up to a day."""
    of_day_s = now_ns / NS_PER_S % DAY_S
    return (float(limits.get("session_ends_hour_utc")) * 3_600 - of_day_s) % DAY_S


# --- 12 to 16: how fast, how often, against whom, how late ------------------------------------------------------------------


def order_rate(case: Case) -> str | None:
    """12: orders in a second and in a minute."""
    for scope in case.scopes:
        for key, span_ns, name in (("max_orders_per_second", NS_PER_S, "last_second"), ("max_orders_per_minute", MINUTE_NS, "last_minute")):
            most = scope.get(key)
            if most and not (count := len(case.throttles.window(scope_name(scope), span_ns, case.now_ns))) < most:
                return f"{'' if scope.name == 'strategy' else f'scope={scope.name} '}{name}={count} limit={most}"
    return None


def notional_rate(case: Case) -> str | None:
    """12: money in a minute."""
    for scope in case.scopes:
        most = scope.get("max_notional_per_minute")
        if most:
            total = case.throttles.window(scope_name(scope), MINUTE_NS, case.now_ns).total + case.order_notional
            if not _is_at_most(total, most):
                return f"scope={scope.name} last_minute={total:.2f} limit={most}"
    return None


def duplicate(case: Case) -> str | None:
    """13: the same order again, with nothing in between that would make it a new one."""
    window_s = case.limits.get("duplicate_window_s")
    if not window_s or case.order.reduce_only:
        return None  # reduce-only truth is asked below: a repeated close cannot close twice
    twin = case.recent.twin(case.order, case.now_ns, round(window_s * NS_PER_S))
    if twin is None:
        return None
    return f"of={twin.client_order_id} age_s={(case.now_ns - twin.ts_event) / NS_PER_S:.3f} window={window_s:g}"


def self_trade(case: Case) -> str | None:
    """14: cannot trade with an open order of ours, of any strategy. A market order stops short of it where there is room."""
    order, found = case.order, case.book
    own = case.view.best_resting(order.instrument_id, order.side.opposite) if case.limits.config.prevent_self_trade else None
    if own is None or found is None:
        return None
    limit = marketable_limit(case) if order.limit_ticks is None else order.limit_ticks
    reach = found.ask_ticks[0] if order.side is Side.BUY else found.bid_ticks[0]
    # A market order already stops short of ours: it needs room to trade at all before it.
    is_clear = (limit - reach if order.limit_ticks is None else own - limit - order.side.sign) * order.side.sign >= 0
    return None if is_clear else f"own={own} limit_ticks={limit}"


def marketable_limit(case: Case) -> int:
    """Return the limit that a market order goes with: the collar's edge, or one tick short of our own order before it."""
    order, found = case.order, case.book
    assert found is not None
    edge, sign = int(case.limits.get("price_collar_ticks")), order.side.sign
    limit = (found.ask_ticks[0] if order.side is Side.BUY else found.bid_ticks[0]) + sign * edge
    own = case.view.best_resting(order.instrument_id, order.side.opposite) if case.limits.config.prevent_self_trade else None
    if own is None:
        return limit
    return min(limit, own - 1) if order.side is Side.BUY else max(limit, own + 1)


def reduce_only(case: Case) -> str | None:
    """15: reduce-only, by the order or by the trading state, is what cannot enlarge or turn the position."""
    order, view = case.order, case.view
    if (not order.reduce_only and view.state is not TradingState.REDUCE_ONLY) or case.is_reducing:
        return None
    lots = view.position(order.strategy_id, order.instrument_id)
    closing = view.open_quantity(order.strategy_id, order.instrument_id, order.side) + order.quantity
    return f"position={lots} side={order.side} quantity_with_open={closing}"


def intent_age(case: Case) -> str | None:
    """16: sent by its strategy just now."""
    age_s = (case.now_ns - case.order.ts_event) / NS_PER_S
    most_s = case.limits.get("max_intent_age_s")
    return None if age_s <= most_s else f"age_s={age_s:.3f} limit={most_s:g}"


def prediction_age(case: Case) -> str | None:
    """16: the prediction behind it is still young. What only reduces needs none."""
    as_of_ns = case.order.as_of_ns
    if as_of_ns is None or case.is_reducing:
        return None
    age_s = (case.now_ns - as_of_ns) / NS_PER_S
    most_s = case.limits.get("max_prediction_age_s")
    return None if age_s <= most_s else f"age_s={age_s:.3f} limit={most_s:g}"


def _is_at_most(amount: Decimal, most: Number) -> bool:
    # Comparing a Decimal that is no number raises: nothing that is no number is within a limit.
    return not amount.is_nan() and not (isinstance(most, Decimal) and most.is_nan()) and amount <= most


def _is_below(amount: Decimal, most: Number) -> bool:
    return not amount.is_nan() and amount < most


def scope_name(scope: Scope) -> str:
    """Return the name under which a scope is counted."""
    return f"{scope.name}:{scope.strategy_id or scope.instrument_id or ''}"


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
