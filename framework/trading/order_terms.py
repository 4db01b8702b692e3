"""What an order has to say, and what it must not: the terms of each type, checked before anything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from framework.messages import SubmitOrder
from framework.model import OrderType, Side, TimeInForce

Quote = tuple[int | None, int | None]
"""Best bid and best ask in ticks, None where there is none."""

_NEEDS: Final[dict[OrderType, tuple[str, ...]]] = {
    OrderType.MARKET: (),
    OrderType.LIMIT: ("limit_ticks",),
    OrderType.STOP: ("stop_ticks",),
    OrderType.STOP_LIMIT: ("stop_ticks", "limit_ticks"),
    OrderType.TRAILING_STOP: ("trail_ticks",),
}
_MAY_HAVE: Final[dict[OrderType, tuple[str, ...]]] = {OrderType.TRAILING_STOP: ("stop_ticks",)}
_MARKET, _LIMIT, _GTD = OrderType.MARKET, OrderType.LIMIT, TimeInForce.GTD
_PRICES: Final = ("limit_ticks", "stop_ticks", "trail_ticks")


def fault_in_terms(order: SubmitOrder, *, now_ns: int, quote: Quote, find: Callable[[str], SubmitOrder | None]) -> str | None:
    """Return what is wrong with the terms of an order, or None.

    `quote` is the market's at this instant; `find` returns an order by its id, for one that waits for another.
    """
    if _is_plain(order):
        return None
    faults = (_fault_in_prices, _fault_in_time, _fault_in_post_only)
    found = next((fault for check in faults if (fault := check(order, now_ns))), None)
    return found or _fault_in_stop(order, quote) or _fault_in_parent(order, find)


def _is_plain(order: SubmitOrder) -> bool:
    """Return whether this is a market or limit order with nothing to it that could be wrong: most are."""
    has_more = order.stop_ticks is not None or order.trail_ticks is not None or order.expire_ns is not None
    if has_more or order.post_only or order.parent_id or order.time_in_force is _GTD:
        return False
    return order.order_type is (_MARKET if order.limit_ticks is None else _LIMIT)


def fault_in_list(orders: tuple[SubmitOrder, ...], strategy_id: str) -> str | None:
    """Return what is wrong with a list of orders as a list, or None."""
    ids = [order.client_order_id for order in orders]
    if len(set(ids)) != len(ids) or not 2 <= len(ids) <= 10:
        return f"a list needs 2 to 10 orders with different ids, found {len(ids)}"
    if {order.strategy_id for order in orders} != {strategy_id} or len({order.instrument_id for order in orders}) != 1:
        return "the orders of a list belong to one strategy and one instrument"
    return None


def _fault_in_prices(order: SubmitOrder, _: int) -> str | None:
    needs = _NEEDS[order.order_type]
    may_have = needs + _MAY_HAVE.get(order.order_type, ())
    for name in _PRICES:
        value = getattr(order, name)
        if value is None and name in needs:
            return f"{order.order_type} needs {name}"
        if value is not None and name not in may_have:
            return f"{order.order_type} takes no {name}, found {value}"
    if order.trail_ticks is not None and order.trail_ticks < 1:
        return f"trail_ticks={order.trail_ticks}; allowed 1 or more"
    return None


def _fault_in_time(order: SubmitOrder, now_ns: int) -> str | None:
    if order.time_in_force is not TimeInForce.GTD:
        return None if order.expire_ns is None else f"expire_ns goes with GTD only, found {order.time_in_force}"
    if order.expire_ns is None:
        return "GTD needs expire_ns"
    return None if order.expire_ns > now_ns else f"expire_ns={order.expire_ns} is in the past, it is {now_ns}"


def _fault_in_post_only(order: SubmitOrder, _: int) -> str | None:
    if order.post_only and (not order.order_type.has_limit or not order.time_in_force.rests):
        return f"post-only needs a limit order that rests, found {order.order_type} {order.time_in_force}"
    return None


def _fault_in_stop(order: SubmitOrder, quote: Quote) -> str | None:
    """Return whether a stop is on the wrong side of the market; one that waits for another order is not looked at yet."""
    if order.stop_ticks is None or order.parent_id:
        return None
    bid, ask = quote
    reference = ask if order.side is Side.BUY else bid
    if reference is None or not is_reached(order.side, order.stop_ticks, reference):
        return None
    where, name = ("above", "ask") if order.side is Side.BUY else ("below", "bid")
    return f"a {order.side} stop belongs {where} the best {name}: stop_ticks={order.stop_ticks} {name}={reference}"


def _fault_in_parent(order: SubmitOrder, find: Callable[[str], SubmitOrder | None]) -> str | None:
    if not order.parent_id:
        return None
    parent = find(order.parent_id)
    if parent is None or (parent.strategy_id, parent.instrument_id) != (order.strategy_id, order.instrument_id):
        return f"parent_id={order.parent_id} is no open order of this strategy in this instrument"
    return None if not parent.parent_id else f"parent_id={order.parent_id} waits for another order itself"


def is_reached(side: Side, stop_ticks: int, price_ticks: int) -> bool:
    """Return whether a price sets off a stop of this side."""
    return (price_ticks - stop_ticks) * side.sign >= 0
