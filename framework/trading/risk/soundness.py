"""What is asked of an order by itself: its sender, its terms, its market, its age. Steps 1 to 7 and 13 to 16 of the gate."""

from __future__ import annotations

from framework.model import NS_PER_S, OrderType, Side, TradingState
from framework.trading.order_terms import fault_in_terms
from framework.trading.risk.case import Case, marketable_limit
from framework.trading.risk.verdict import is_whole, text_of

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
    most = min([limit for _, limit in case.bound["max_order_quantity"]])
    return None if is_whole(lots) and 1 <= lots <= most else f"quantity={text_of(lots)} limit={most}"


def price(case: Case) -> str | None:
    """6: the terms of its type, whole prices, above zero unless the market itself is below."""
    order, found = case.order, case.book
    prices = (order.limit_ticks, order.stop_ticks, order.trail_ticks)
    if not isinstance(order.order_type, OrderType) or not all([one is None or is_whole(one) for one in prices]):
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


# --- 13 to 16: how often, against whom, how late ---------------------------------------------------------------------------


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
