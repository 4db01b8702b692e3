"""Quote both sides of the book, compiled: the market maker without a model, at the speed of `backtest --compiled`.

    fair price = mid - inventory_lean_ticks * position / max_inventory + imbalance_lean_ticks * imbalance of the best levels

The lean against the inventory is that of `strategies.market_maker`; the lean with the imbalance stands where that one has a prediction.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from numba import njit
from pydantic import Field

from framework.strategy.compiled import BUY, DAY, SELL, STATUS, CompiledStrategy, Market, Orders
from framework.strategy.compiled.verbs import (
    amend,
    best_ask,
    best_bid,
    cancel,
    has_both,
    imbalance,
    is_open,
    limit_of,
    mid_ticks,
    quote,
    submit_at_market,
)

STATE = np.dtype(
    [
        *((name, np.int64) for name in ("order_quantity", "max_inventory", "stop_loss_ticks", "levels")),
        *((name, np.float64) for name in ("half_spread_ticks", "inventory_lean_ticks", "imbalance_lean_ticks")),
        *((name, np.int64) for name in ("bid", "ask", "exit")),
    ]
)
"""The parameters by their names, then the ids of the three orders that can be open."""


@njit(cache=True)
def fair_ticks(market: Market, state: Any) -> float:
    """Return the price around which both sides are quoted."""
    lean = state.inventory_lean_ticks * market.position / state.max_inventory
    return mid_ticks(market) - lean + state.imbalance_lean_ticks * imbalance(market, state.levels)  # type: ignore[no-any-return]


@njit(cache=True)
def keep(orders: Orders, side: int, order: int, price: int, lots: int) -> int:
    """Bring a quote to its price, or send it; return its id. Without lots it is taken back."""
    if not is_open(orders, order):
        return quote(orders, side, lots, price, DAY) if lots else 0
    if not lots:
        cancel(orders, order)
    elif limit_of(orders, order) != price:
        amend(orders, order, 0, price)
    return order


@njit(cache=True)
def has_lost(market: Market, state: Any) -> bool:
    """Return whether leaving now would lose as much as is allowed."""
    if state.stop_loss_ticks == 0 or market.position == 0:
        return False
    way_out = best_bid(market) if market.position > 0 else best_ask(market)
    return (way_out - market.average_ticks) * (1 if market.position > 0 else -1) <= -state.stop_loss_ticks  # type: ignore[no-any-return]


@njit(cache=True)
def leave(market: Market, orders: Orders, state: Any) -> None:
    """Take the quotes back; when they are gone, leave the position at market."""
    state.bid = keep(orders, BUY, state.bid, 0, 0)
    state.ask = keep(orders, SELL, state.ask, 0, 0)
    if not (is_open(orders, state.bid) or is_open(orders, state.ask) or is_open(orders, state.exit)):
        state.exit = submit_at_market(orders, -1 if market.position > 0 else 1, abs(market.position))


@njit(cache=True)
def on_event(market: Market, orders: Orders, state: Any) -> None:
    """Move both quotes to where they belong; leave what went too far against us; take the quotes back while nothing can be trusted."""
    if not (market.is_open and market.is_sound):
        state.bid = keep(orders, BUY, state.bid, 0, 0)
        state.ask = keep(orders, SELL, state.ask, 0, 0)
        return
    if market.kind == STATUS or not has_both(market) or is_open(orders, state.exit):
        return
    if has_lost(market, state):
        leave(market, orders, state)
        return
    fair, lots = fair_ticks(market, state), state.order_quantity
    bid = min(math.floor(fair - state.half_spread_ticks), best_ask(market) - 1)
    ask = max(math.ceil(fair + state.half_spread_ticks), best_bid(market) + 1)
    room = state.max_inventory - lots
    state.bid = keep(orders, BUY, state.bid, bid, lots if market.position <= room else 0)
    state.ask = keep(orders, SELL, state.ask, ask, lots if -market.position <= room else 0)


class CompiledQuoter(CompiledStrategy):
    """Keep one post-only order on each side; never hold more than `max_inventory` lots."""

    class Parameters(CompiledStrategy.Parameters):
        """Distances in ticks of the instrument, quantities in lots, times in s of market time."""

        order_quantity: Annotated[int, Field(ge=1)] = 1
        max_inventory: Annotated[int, Field(ge=1)] = 5
        half_spread_ticks: Annotated[float, Field(gt=0, le=1_000)] = 0.5
        inventory_lean_ticks: Annotated[float, Field(ge=0, le=1_000)] = 1.0
        imbalance_lean_ticks: Annotated[float, Field(ge=0, le=1_000)] = 0.5
        levels: Annotated[int, Field(ge=1, le=10)] = 3
        interval_s: Annotated[float, Field(ge=0, le=3_600)] = 0.5
        stop_loss_ticks: Annotated[int, Field(ge=0)] = 12

    State = STATE
    hears = CompiledStrategy.hears | STATUS
    on_event = staticmethod(on_event)
