"""What a compiled strategy sees: plain numbers and arrays with names. No compiler is loaded here."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from framework.model import OrderStatus, TimeInForce
from framework.window import LEVELS, Int64Array

BUY, SELL = 1, -1
BOOK, TRADE, ORDER, STATUS = 1, 2, 4, 8
"""What a call is about: the newest book, a trade, an order of ours that was filled or ended, or that trading opened or closed or
the book became sound or unsound. Together (`BOOK | TRADE`) they say what a strategy hears."""
BID_TICKS, BID_LOTS, ASK_TICKS, ASK_LOTS = range(4)
"""Rows of `Market.levels`."""
TRADE_NS, RECEIVED_NS, SEQUENCE, TRADE_TICKS, TRADE_LOTS, AGGRESSOR = range(6)
"""Places in `Market.trade`; the aggressor is BUY, SELL, or 0 where nobody said."""
DAY, GTC, IOC, FOK = range(4)
"""How long an order lives, as in `TimeInForce`."""
LIVES: Final = (TimeInForce.DAY, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK)

PENDING_NEW, NEW, PARTIALLY_FILLED, PENDING_CANCEL, PENDING_REPLACE, FILLED, CANCELED, EXPIRED, REJECTED, DENIED = range(1, 11)
"""States of an order, as in `OrderStatus`; those up to PENDING_REPLACE are open."""
STATES: Final = (
    OrderStatus.PENDING_NEW,
    OrderStatus.NEW,
    OrderStatus.PARTIALLY_FILLED,
    OrderStatus.PENDING_CANCEL,
    OrderStatus.PENDING_REPLACE,
    OrderStatus.FILLED,
    OrderStatus.CANCELED,
    OrderStatus.EXPIRED,
    OrderStatus.REJECTED,
    OrderStatus.DENIED,
)

SIDE, LOTS, LIMIT, LIFE, IS_POST_ONLY, SEEN, DONE, SENT_NS = range(8)
"""Columns of `Orders.rows`: side, lots and limit as they are now, life, whether it may not take; its state as the strategy knows it, lots
filled, and when it was sent, ns. What stands behind them is the host's."""
COLUMNS: Final = 32
NO_LIMIT: Final = -(1 << 62)
"""In place of the limit of an order at market, and of terms that a change leaves as they are."""
SENT, ASKED, IS_FULL, NOW = range(4)
"""Places in `Orders.counts`: orders ever made, commands that wait, whether there was no room for one, and the time of this call, ns."""
SUBMIT, CANCEL, AMEND = range(3)
MOST_COMMANDS: Final = 1_024
"""How many commands may be given at one time."""


class Market(NamedTuple):
    """What a call is about. Prices in ticks, sizes in lots, times in ns UTC.

    `levels` (4, 10): bid ticks, bid lots, ask ticks, ask lots of the newest book, best first, `bids` and `asks` of them are there.
    `trade` is the last trade heard (zeros before the first, and for strategies that do not hear TRADE). `order` is the id of the order
    that an ORDER call is about, else 0. `position` is signed; `average_ticks` what its lots cost, 0 when flat.
    """

    kind: int
    now_ns: int
    book_ns: int
    bids: int
    asks: int
    levels: Int64Array
    trade: Int64Array
    order: int
    position: int
    average_ticks: float
    is_open: bool
    is_sound: bool


class Orders(NamedTuple):
    """All orders of a strategy, by id from 1 (row id - 1 of `rows`), and the commands that it has given in this call."""

    rows: Int64Array
    commands: Int64Array
    counts: Int64Array


def empty_orders(room: int) -> Orders:
    """Return a table with room for so many orders."""
    return Orders(np.zeros((room, COLUMNS), np.int64), np.zeros((MOST_COMMANDS, 4), np.int64), np.zeros(4, np.int64))


NO_LEVELS: Final = np.zeros((4, LEVELS), np.int64)
NO_TRADE: Final = np.zeros(6, np.int64)
