"""What a compiled strategy may ask and do: functions to call from `@njit` code.

Nothing is sent before the call of the strategy is over; then the gate is asked, and the order travels. What became of it says `status`.
"""

from __future__ import annotations

from numba import njit

from framework.strategy.compiled.views import (
    AMEND,
    ASK_LOTS,
    ASK_TICKS,
    ASKED,
    BID_LOTS,
    BID_TICKS,
    CANCEL,
    DAY,
    DONE,
    FOK,
    GTC,
    IS_FULL,
    IS_POST_ONLY,
    LIFE,
    LIMIT,
    LOTS,
    MOST_COMMANDS,
    NO_LIMIT,
    NOW,
    PENDING_CANCEL,
    PENDING_NEW,
    PENDING_REPLACE,
    SEEN,
    SENT,
    SENT_NS,
    SIDE,
    SUBMIT,
    Market,
    Orders,
)

# --- the book ------------------------------------------------------------------------------------------------------------------


@njit(cache=True, inline="always")
def has_both(market: Market) -> bool:
    """Return whether the newest book has a bid and an ask."""
    return market.bids > 0 and market.asks > 0


@njit(cache=True, inline="always")
def best_bid(market: Market) -> int:
    """Return the best bid in ticks; of no use without `has_both`."""
    return market.levels[BID_TICKS, 0]  # type: ignore[no-any-return]


@njit(cache=True, inline="always")
def best_ask(market: Market) -> int:
    """Return the best ask in ticks; of no use without `has_both`."""
    return market.levels[ASK_TICKS, 0]  # type: ignore[no-any-return]


@njit(cache=True, inline="always")
def mid_ticks(market: Market) -> float:
    """Return the middle of the best prices in ticks; of no use without `has_both`."""
    return (market.levels[BID_TICKS, 0] + market.levels[ASK_TICKS, 0]) / 2  # type: ignore[no-any-return]


@njit(cache=True)
def imbalance(market: Market, depth: int) -> float:
    """Return (bid lots - ask lots) / (bid lots + ask lots) of the best `depth` levels; 0 of an empty book."""
    bid, ask = 0, 0
    for level in range(min(depth, market.bids)):
        bid += market.levels[BID_LOTS, level]
    for level in range(min(depth, market.asks)):
        ask += market.levels[ASK_LOTS, level]
    return (bid - ask) / (bid + ask) if bid + ask > 0 else 0.0


# --- own orders ----------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def status(orders: Orders, order: int) -> int:
    """Return the state of an order (`views`: PENDING_NEW to DENIED); 0 of an id that was never given."""
    if not 0 < order <= orders.counts[SENT]:
        return 0
    return orders.rows[order - 1, SEEN]  # type: ignore[no-any-return]


@njit(cache=True)
def is_open(orders: Orders, order: int) -> bool:
    """Return whether an order may still be filled: from the moment it was sent to its end; False for 0."""
    return 0 < status(orders, order) <= PENDING_REPLACE


@njit(cache=True)
def side_of(orders: Orders, order: int) -> int:
    """Return BUY or SELL."""
    return orders.rows[order - 1, SIDE]  # type: ignore[no-any-return]


@njit(cache=True)
def limit_of(orders: Orders, order: int) -> int:
    """Return the limit in ticks, as the venue has confirmed it last."""
    return orders.rows[order - 1, LIMIT]  # type: ignore[no-any-return]


@njit(cache=True)
def lots_of(orders: Orders, order: int) -> int:
    """Return the lots of an order, fills included."""
    return orders.rows[order - 1, LOTS]  # type: ignore[no-any-return]


@njit(cache=True)
def filled(orders: Orders, order: int) -> int:
    """Return the lots that are filled."""
    return orders.rows[order - 1, DONE]  # type: ignore[no-any-return]


@njit(cache=True)
def sent_ns(orders: Orders, order: int) -> int:
    """Return when an order was sent, ns UTC."""
    return orders.rows[order - 1, SENT_NS]  # type: ignore[no-any-return]


# --- commands ------------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def submit(orders: Orders, side: int, lots: int, limit: int, life: int = GTC) -> int:
    """Send a limit order and return its id; `life` is DAY, GTC, IOC or FOK.

    Raises `ValueError` for a side that is neither BUY nor SELL, a life that is none, and for less than a lot. With more than 1,024 commands
    in one call it returns 0, and the run ends.
    """
    if limit == NO_LIMIT:
        raise ValueError("submit needs a limit in ticks; without one there is submit_at_market")
    return _submit(orders, side, lots, limit, life)


@njit(cache=True)
def quote(orders: Orders, side: int, lots: int, limit: int, life: int = GTC) -> int:
    """Send a post-only order and return its id: it is rejected rather than take. `life` is DAY or GTC. Raises as `submit`."""
    if life > GTC:
        raise ValueError("post-only orders must rest: give them the life DAY or GTC")
    number = submit(orders, side, lots, limit, life)
    if number:
        orders.rows[number - 1, IS_POST_ONLY] = 1
    return number


@njit(cache=True)
def submit_at_market(orders: Orders, side: int, lots: int) -> int:
    """Send an order at market and return its id; the gate gives it the edge of its price collar as limit. Raises as `submit`."""
    return _submit(orders, side, lots, NO_LIMIT, DAY)


@njit(cache=True)
def cancel(orders: Orders, order: int) -> bool:
    """Ask the venue to cancel an order. Returns False when it is not open or a cancel is on its way."""
    if not is_open(orders, order) or orders.rows[order - 1, SEEN] == PENDING_CANCEL:
        return False
    orders.rows[order - 1, SEEN] = PENDING_CANCEL
    return _ask(orders, CANCEL, order, 0, NO_LIMIT)


@njit(cache=True)
def cancel_all(orders: Orders, since: int) -> int:
    """Cancel every open order with an id of `since` or more; return how many cancels were asked for."""
    count = 0
    for order in range(max(since, 1), orders.counts[SENT] + 1):
        count += cancel(orders, order)
    return count


@njit(cache=True)
def amend(orders: Orders, order: int, lots: int, limit: int) -> bool:
    """Ask for other terms of an open limit order: all its lots, fills included (0: as they are), and its limit (NO_LIMIT: as it is).

    Returns False when it is not open. An order that only gets smaller keeps its place in the queue.
    """
    if not is_open(orders, order) or orders.rows[order - 1, LIMIT] == NO_LIMIT:
        return False
    return _ask(orders, AMEND, order, lots, limit)


@njit(cache=True)
def _submit(orders: Orders, side: int, lots: int, limit: int, life: int) -> int:
    if lots < 1:
        raise ValueError("quantity must be a whole number of lots, at least 1")
    if side not in (1, -1):
        raise ValueError("side must be BUY or SELL")
    if not DAY <= life <= FOK:
        raise ValueError("life must be DAY, GTC, IOC or FOK")
    order = orders.counts[SENT] + 1
    if not _ask(orders, SUBMIT, order, lots, limit):
        return 0
    row = orders.rows[order - 1]
    row[SIDE], row[LOTS], row[LIMIT], row[LIFE], row[IS_POST_ONLY] = side, lots, limit, life, 0
    row[SEEN], row[DONE], row[SENT_NS] = PENDING_NEW, 0, orders.counts[NOW]
    orders.counts[SENT] = order
    return order  # type: ignore[no-any-return]


@njit(cache=True)
def _ask(orders: Orders, what: int, order: int, lots: int, limit: int) -> bool:
    place = orders.counts[ASKED]
    if place >= MOST_COMMANDS or order > len(orders.rows):
        orders.counts[IS_FULL] = 1
        return False
    command = orders.commands[place]
    command[0], command[1], command[2], command[3] = what, order, lots, limit
    orders.counts[ASKED] = place + 1
    return True
