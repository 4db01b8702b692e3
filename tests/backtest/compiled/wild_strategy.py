"""A strategy that does everything at random, compiled; `wild_twin` is the same one in Python."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numba import njit
from pydantic import Field

from framework.strategy.compiled import BOOK, BUY, DAY, FOK, GTC, IOC, ORDER, SELL, STATUS, TRADE, CompiledStrategy, Market, Orders
from framework.strategy.compiled.verbs import amend, best_ask, best_bid, cancel, has_both, is_open, quote, submit, submit_at_market
from framework.strategy.compiled.views import NO_LIMIT, SENT

MULTIPLIER, ADDEND, MODULUS = 1_103_515_245, 12_345, 1 << 31
STATE = np.dtype([("seed", np.int64), ("often", np.int64), ("seen", np.int64), ("fills", np.int64), ("words", np.int64)])


@njit(cache=True)
def draw(state: Any, count: int) -> int:
    """Draw a number below `count`."""
    state.seed = (state.seed * MULTIPLIER + ADDEND) % MODULUS
    return (state.seed >> 8) % count  # type: ignore[no-any-return]


@njit(cache=True)
def act(market: Market, orders: Orders, state: Any) -> None:
    """Send, change or cancel something, or nothing."""
    state.seen += market.kind * 7 + market.position + market.bids + market.trade[3] % 5 + orders.counts[SENT] % 3
    state.fills += market.kind == ORDER
    state.words += market.kind == STATUS
    if not has_both(market) or draw(state, 1_000) >= state.often:
        return
    side = BUY if draw(state, 2) else SELL
    touch = best_bid(market) if side == BUY else best_ask(market)
    what, lots, price = draw(state, 9), 1 + draw(state, 4), touch + draw(state, 7) - 3
    newest = orders.counts[SENT] - draw(state, 4)
    if what == 0:
        submit(orders, side, lots, price, DAY)
    elif what == 1:
        submit(orders, side, lots, price, GTC)
    elif what == 2:
        submit(orders, side, lots, price, IOC)
    elif what == 3:
        submit(orders, side, lots, price, FOK)
    elif what == 4:
        quote(orders, side, lots, price, GTC if lots > 2 else DAY)
    elif what == 5:
        submit_at_market(orders, side, lots)
    elif what == 6 and newest > 0 and is_open(orders, newest):
        amend(orders, newest, lots, NO_LIMIT if draw(state, 2) else price)
    elif newest > 0:
        cancel(orders, newest)
        if what == 8:
            cancel(orders, newest)


class WildCompiled(CompiledStrategy):
    """Everything at random: `often` of a thousand calls act."""

    class Parameters(CompiledStrategy.Parameters):
        """How it is drawn."""

        seed: int = 1
        often: Annotated[int, Field(ge=0, le=1_000)] = 300

    State = STATE
    hears = BOOK | TRADE | ORDER | STATUS
    on_event = staticmethod(act)
