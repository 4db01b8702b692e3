"""What is asked of an order and all that is open already: money, lots, losses, rates. Steps 8 to 12 of the gate."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Final

from framework.model import NS_PER_S
from framework.trading.risk.case import Case
from framework.trading.risk.limits import LimitBook, Number
from framework.trading.risk.windows import MINUTE_NS

DAY_S: Final = 86_400


# --- 8 to 10: how much -------------------------------------------------------------------------------------------------


def notional(case: Case) -> str | None:
    """8: money of one order."""
    for scope, most in case.bound.get("max_order_notional", ()):
        if not _is_at_most(case.order_notional, most):
            return f"scope={scope.name} notional={case.order_notional:.2f} limit={most}"
    return None


def position(case: Case) -> str | None:
    """9: the position as if everything open of that side filled, UNKNOWN orders too."""
    order, view = case.order, case.view
    for scope, most in case.bound.get("max_position", ()):
        lots = view.position(scope.strategy_id, order.instrument_id)
        waiting = view.open_quantity(scope.strategy_id, order.instrument_id, order.side)
        worst = lots + order.side.sign * (waiting + order.quantity)
        if not (abs(worst) <= most or (order.reduce_only and abs(worst) <= abs(lots))):
            where = "" if scope.name == "strategy" else f"scope={scope.name} "
            return f"{where}worst={worst} limit={most}"
    return None


def open_orders(case: Case) -> str | None:
    """9: how many orders are open."""
    for scope, most in case.bound.get("max_open_orders", ()):
        # The account's count is over all instruments; the others are for this one.
        where = None if scope.name == "account" else case.order.instrument_id
        if not (count := case.view.open_order_count(scope.strategy_id, where)) < most:
            return f"{'' if scope.name == 'strategy' else f'scope={scope.name} '}open={count} limit={most}"
    return None


def gross(case: Case) -> str | None:
    """10: money at risk over all instruments, at its worst."""
    most = case.scopes[-1].get("max_gross_notional")
    if not most or case.is_reducing:
        return None
    total = case.gross_notional
    return None if _is_at_most(total, most) else f"gross={total:.2f} limit={most}"


def margin(case: Case) -> str | None:
    """10: cash and profit cover the margin: what the venue wants for each lot, or their share of the money."""
    account = case.scopes[-1]
    cash = account.get("cash")
    if not cash or case.is_reducing:
        return None
    wanted = case.margin(_exact(account.get("margin_share")))
    there = _exact(cash) + case.view.equity()
    return None if _is_at_most(wanted, there) else f"margin={wanted:.2f} available={there:.2f}"


# --- 11: how it went so far ----------------------------------------------------------------------------------------------


def daily_loss(case: Case) -> str | None:
    """11: what was lost today, open positions at the market."""
    for scope, most in case.bound.get("max_daily_loss", ()):
        if not case.is_reducing and not _is_below(lost := -case.loss(scope).day, most):
            return f"scope={scope.name} lost={lost:.2f} limit={most}"
    return None


def drawdown(case: Case) -> str | None:
    """11: what was lost since the best."""
    for scope, most in case.bound.get("max_drawdown", ()):
        if not case.is_reducing and not _is_below(lost := case.loss(scope).drawdown, most):
            return f"scope={scope.name} lost={lost:.2f} limit={most}"
    return None


def losses_in_a_row(case: Case) -> str | None:
    """11: losing trades in a row."""
    for scope, most in case.bound.get("max_consecutive_losses", ()):
        if not case.is_reducing and not (count := case.loss(scope).losses_in_a_row) < most:
            return f"scope={scope.name} losses={count} limit={most}"
    return None


def fills(case: Case) -> str | None:
    """13: fills since an operator last resumed."""
    for scope, most in case.bound.get("max_fills_unattended", ()):
        if not case.is_reducing and not (count := case.loss(scope).fills_unattended) < most:
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


# --- 12: how fast --------------------------------------------------------------------------------------------------------


_RATES: Final = (("max_orders_per_second", NS_PER_S, "last_second"), ("max_orders_per_minute", MINUTE_NS, "last_minute"))


def order_rate(case: Case) -> str | None:
    """12: orders in a second and in a minute."""
    for scope in case.scopes:
        for key, span_ns, name in _RATES:
            most = scope.limits.get(key)
            if most and not (count := len(case.throttles.window(scope.counted_as, span_ns, case.now_ns))) < most:
                return f"{'' if scope.name == 'strategy' else f'scope={scope.name} '}{name}={count} limit={most}"
    return None


def notional_rate(case: Case) -> str | None:
    """12: money in a minute."""
    for scope, most in case.bound.get("max_notional_per_minute", ()):
        total = case.throttles.window(scope.counted_as, MINUTE_NS, case.now_ns).total + case.order_notional
        if not _is_at_most(total, most):
            return f"scope={scope.name} last_minute={total:.2f} limit={most}"
    return None


@lru_cache(maxsize=256)
def _exact(number: Number) -> Decimal:
    return Decimal(str(number))


def _is_at_most(amount: Decimal, most: Number) -> bool:
    # Comparing a Decimal that is no number raises: nothing that is no number is within a limit.
    return not amount.is_nan() and not (isinstance(most, Decimal) and most.is_nan()) and amount <= most


def _is_below(amount: Decimal, most: Number) -> bool:
    return not amount.is_nan() and amount < most
