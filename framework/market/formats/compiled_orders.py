"""Market by order to books and trades, compiled: the rules of `databento_streams.OrderStream`, on the columns of a block of records.

The interpreted stream is the law: `tests/market/formats/test_compiled_orders.py` asks both the same and wants the same events and the
same refusals.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from framework.market.formats.compiled_levels import IS_CHANGED, change_level, empty_side, show
from framework.window import LEVELS, Int64Array

BID, ASK = ord("B"), ord("A")
ADD, CANCEL, MODIFY, CLEAR, TRADE = (ord(letter) for letter in "ACMRT")
LAST_OF_EVENT: Final = 0x80
SNAPSHOT: Final = 0x20
SHOW_AGAIN_NS: Final = 1_000_000_000
UNDEFINED_PRICE: Final = 2**63 - 1
_NOBODY, _BUYER, _SELLER = -1, 0, 1

FREE, TAKEN = 0, 1
KEY, IS_TAKEN, SIDE, PLACE, LOTS = range(5)
"""Columns of the table of orders: an open hash table, in which a key lies at its hash or in the next free rows after it."""
NEXT_BOOK_NS, SHOWN_NS, IS_CONTINUOUS, HAS_TRADED, UNKNOWN, ORDERS, LAST_BIDS, LAST_ASKS = range(8)
"""What the stream keeps beside its orders and levels. LAST_BIDS and LAST_ASKS: how many levels the last book had (-1: none was shown)."""


@njit(cache=True)
def _home(key: int, mask: int) -> int:
    mixed = key * -7046029254386353131  # 2**64 / golden ratio: Fibonacci hashing (Knuth, The Art of Computer Programming, 6.4)
    return int((mixed >> 20) & mask)


@njit(cache=True)
def _row_of(orders: Int64Array, key: int) -> int:
    """Return the row of an order, or the free one in which it would lie."""
    mask = orders.shape[0] - 1
    row = _home(key, mask)
    while orders[row, IS_TAKEN] == TAKEN and orders[row, KEY] != key:
        row = (row + 1) & mask
    return row


@njit(cache=True)
def _drop(orders: Int64Array, row: int) -> None:
    """Free a row, and move those behind it that were pushed on by it (Knuth, 6.4, algorithm R)."""
    mask = orders.shape[0] - 1
    free = row
    orders[free, IS_TAKEN] = FREE
    at = (row + 1) & mask
    while orders[at, IS_TAKEN] == TAKEN:
        home = _home(orders[at, KEY], mask)
        if ((at - home) & mask) >= ((at - free) & mask):
            for column in range(orders.shape[1]):
                orders[free, column] = orders[at, column]
            orders[at, IS_TAKEN] = FREE
            free = at
        at = (at + 1) & mask


@njit(cache=True)
def moved(orders: Int64Array, larger: Int64Array) -> None:
    """Put all orders into a larger table."""
    for row in range(orders.shape[0]):
        if orders[row, IS_TAKEN] == TAKEN:
            place = _row_of(larger, orders[row, KEY])
            for column in range(orders.shape[1]):
                larger[place, column] = orders[row, column]


@njit(cache=True)
def _is_off_tick(price: int, tick: int) -> bool:
    return price % tick != 0


@njit(cache=True)
def _add(orders: Int64Array, levels: Int64Array, facts: Int64Array, kept: Int64Array, side: int, ticks: int, size: int, key: int) -> None:
    ours, place = (0, ticks) if side == BID else (1, -ticks)
    row = _row_of(orders, key)
    kept[ORDERS] += orders[row, IS_TAKEN] == FREE
    orders[row, KEY], orders[row, IS_TAKEN], orders[row, SIDE], orders[row, PLACE], orders[row, LOTS] = key, TAKEN, ours, place, size
    change_level(levels[ours], facts[ours], place, size)


@njit(cache=True)
def _reduce(orders: Int64Array, levels: Int64Array, facts: Int64Array, kept: Int64Array, size: int, key: int) -> None:
    """Take lots out of an order, all of them where `size` is negative."""
    row = _row_of(orders, key)
    if orders[row, IS_TAKEN] == FREE:
        kept[UNKNOWN] += 1
        return
    side, place, lots = orders[row, SIDE], orders[row, PLACE], orders[row, LOTS]
    gone = lots if size < 0 else min(size, lots)
    change_level(levels[side], facts[side], place, -gone)
    if size >= 0 and gone < lots:
        orders[row, LOTS] = lots - gone
    else:
        _drop(orders, row)
        kept[ORDERS] -= 1


@njit(cache=True)
def _clear(orders: Int64Array, facts: Int64Array, kept: Int64Array) -> None:
    for row in range(orders.shape[0]):
        orders[row, IS_TAKEN] = FREE
    for side in range(2):
        facts[side, 0], facts[side, 1], facts[side, 2] = 0, 1, -(2**62)
    kept[IS_CONTINUOUS] = kept[HAS_TRADED] = kept[ORDERS] = 0


@njit(cache=True)
def _is_as_before(shown: Int64Array, last: Int64Array, bids: int, asks: int, kept: Int64Array) -> bool:
    if kept[LAST_BIDS] != bids or kept[LAST_ASKS] != asks:
        return False
    for side, count in ((0, bids), (2, asks)):
        for level in range(count):
            if shown[side, level] != last[side, level] or shown[side + 1, level] != last[side + 1, level]:
                return False
    return True


@njit(cache=True)
def _look(
    levels: Int64Array, facts: Int64Array, kept: Int64Array, last: Int64Array, shown: Int64Array, now_ns: int, interval_ns: int
) -> bool:
    """Write the book into `shown` and return whether it is to be published."""
    if now_ns < kept[NEXT_BOOK_NS]:
        return False
    is_due = now_ns >= kept[SHOWN_NS] + SHOW_AGAIN_NS
    if kept[IS_CONTINUOUS] and not is_due and not (facts[0, IS_CHANGED] or facts[1, IS_CHANGED]):
        return False
    bids = show(levels[0], facts[0], 1, shown[0], shown[1])
    asks = show(levels[1], facts[1], -1, shown[2], shown[3])
    if bids and asks and shown[0, 0] >= shown[2, 0]:
        kept[IS_CONTINUOUS] = kept[HAS_TRADED] = 0
    elif kept[HAS_TRADED]:
        kept[IS_CONTINUOUS] = 1
    if not kept[IS_CONTINUOUS] or (not is_due and _is_as_before(shown, last, bids, asks, kept)):
        return False
    for side in range(4):
        for level in range(LEVELS):
            last[side, level] = shown[side, level]
    kept[LAST_BIDS], kept[LAST_ASKS] = bids, asks
    kept[SHOWN_NS], kept[NEXT_BOOK_NS] = now_ns, now_ns + interval_ns
    return True


@njit(cache=True)
def _applied(
    orders: Int64Array, levels: Int64Array, facts: Int64Array, kept: Int64Array, action: int, side: int, price: int, size: int, key: int,
    tick: int,
) -> bool:  # fmt: skip
    """Apply one record; return False for a price between two ticks."""
    if action == CLEAR:
        _clear(orders, facts, kept)
        return True
    if action in (CANCEL, MODIFY):
        _reduce(orders, levels, facts, kept, size if action == CANCEL else -1, key)
    if action in (ADD, MODIFY) and side in (BID, ASK) and price != UNDEFINED_PRICE:
        if _is_off_tick(price, tick):
            return False
        _add(orders, levels, facts, kept, side, price // tick, size, key)
    return True


@njit(cache=True)
def _rebuild(
    fields: Int64Array, tick: int, interval_ns: int, orders: Int64Array, levels: Int64Array, facts: Int64Array, kept: Int64Array,
    last: Int64Array, trades: Int64Array, books: Int64Array, shown: Int64Array,
) -> tuple[int, int, int]:  # fmt: skip
    """Apply records (columns of `fields`); return how many trades and books there were, and the record refused (-1: none)."""
    trade_count = book_count = 0
    for row in range(fields.shape[1]):
        now_ns, price, size = fields[0, row], fields[1, row], fields[2, row]
        action, side, flags, key = fields[3, row], fields[4, row], fields[5, row], fields[6, row]
        if action == TRADE:
            if price != UNDEFINED_PRICE and size:
                kept[HAS_TRADED] = 1
                if _is_off_tick(price, tick):
                    return trade_count, book_count, row
                trades[0, trade_count], trades[1, trade_count], trades[2, trade_count] = row, price // tick, size
                trades[3, trade_count] = _BUYER if side == BID else _SELLER if side == ASK else _NOBODY
                trade_count += 1
        elif not _applied(orders, levels, facts, kept, action, side, price, size, key, tick):
            return trade_count, book_count, row
        is_end = flags & LAST_OF_EVENT and not flags & SNAPSHOT
        if is_end and _look(levels, facts, kept, last, shown[book_count], now_ns, interval_ns):
            books[0, book_count], books[1, book_count], books[2, book_count] = row, kept[LAST_BIDS], kept[LAST_ASKS]
            book_count += 1
    return trade_count, book_count, -1


class CompiledOrders:
    """The book of one instrument, rebuilt from blocks of records of market by order."""

    def __init__(self, tick: int, interval_ns: int) -> None:
        self._tick = tick
        self._interval_ns = interval_ns
        self._orders = np.zeros((1_024, 5), np.int64)
        self._levels = np.zeros((2, 2, 256), np.int64)
        self._facts = np.stack([empty_side(1)[1]] * 2)
        self._kept = np.array([0, 0, 0, 0, 0, 0, -1, -1], np.int64)
        self._last = np.zeros((4, LEVELS), np.int64)

    @property
    def unknown_orders(self) -> int:
        """Return how many records changed an order that nobody had added."""
        return int(self._kept[UNKNOWN])

    def take(self, fields: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array, int]:
        """Apply records, and return what they say.

        `fields` (rows): when received, price, size, action, side, flags, order id. Returned are columns of trades (rows: record, ticks,
        lots, who began), columns of books (rows: record, bid levels, ask levels), their levels (book, side's ticks and lots, level),
        and the record with a price between two ticks (-1: none; nothing after it is applied).
        """
        count = fields.shape[1]
        self._make_room(count)
        trades, books = np.empty((4, count), np.int64), np.empty((3, count), np.int64)
        shown = np.empty((count + 1, 4, LEVELS), np.int64)
        trade_count, book_count, refused = _rebuild(
            fields, self._tick, self._interval_ns, self._orders, self._levels, self._facts, self._kept, self._last, trades, books, shown
        )
        return trades[:, :trade_count], books[:, :book_count], shown[:book_count], refused

    def _make_room(self, count: int) -> None:
        needed = int(self._kept[ORDERS]) + count
        if 2 * needed > len(self._orders):
            larger = np.zeros((1 << (4 * needed - 1).bit_length(), 5), np.int64)
            moved(self._orders, larger)
            self._orders = larger
        deepest = int(self._facts[:, 0].max()) + count
        if deepest > self._levels.shape[2]:
            levels = np.zeros((2, 2, 2 * deepest), np.int64)
            levels[:, :, : self._levels.shape[2]] = self._levels
            self._levels = levels
