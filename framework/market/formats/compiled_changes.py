"""Changes of levels to books, compiled: the rules of `tardis.TardisBookSource.events`, on the columns of a block of rows.

The interpreted source is the law: `tests/market/formats/test_tardis_rows.py` asks both the same.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from framework.market.formats.compiled_levels import COUNT, IS_CHANGED, NOWHERE, WORST_SHOWN, empty_side, put_level, show
from framework.window import LEVELS, Int64Array

HAS_BEFORE, RECEIVED, HAPPENED, IS_BUILDING, HAS_BEGUN, CROSSED = range(6)
"""What is kept from row to row: the times of the row before, whether a snapshot is being read, whether one ever was, crossed books."""


@njit(cache=True)
def _show(levels: Int64Array, facts: Int64Array, kept: Int64Array, books: Int64Array, shown: Int64Array, count: int, row: int) -> int:
    """Write the book after the row before, unless it is crossed; return how many books there are now."""
    bids = show(levels[0], facts[0], 1, shown[count, 0], shown[count, 1])
    asks = show(levels[1], facts[1], -1, shown[count, 2], shown[count, 3])
    if bids and asks and shown[count, 0, 0] >= shown[count, 2, 0]:
        kept[CROSSED] += 1
        return count
    books[0, count], books[1, count], books[2, count] = row, bids, asks
    books[3, count], books[4, count] = kept[HAPPENED], kept[RECEIVED]
    return count + 1


@njit(cache=True)
def _begin(facts: Int64Array, kept: Int64Array) -> None:
    for side in range(2):
        facts[side, COUNT], facts[side, IS_CHANGED], facts[side, WORST_SHOWN] = 0, 1, NOWHERE
    kept[HAS_BEGUN] = 1


@njit(cache=True)
def _rebuild(
    fields: Int64Array, levels: Int64Array, facts: Int64Array, kept: Int64Array, books: Int64Array, shown: Int64Array, joints: Int64Array
) -> tuple[int, int, int]:
    """Apply rows; return how many books and joints there were, and the row of neither side (-1: none)."""
    book_count = joint_count = 0
    for row in range(fields.shape[1]):
        received, is_snapshot, side = fields[0, row], fields[2, row], fields[3, row]
        if kept[HAS_BEFORE] and received != kept[RECEIVED] and kept[HAS_BEGUN]:
            book_count = _show(levels, facts, kept, books, shown, book_count, row)
        if is_snapshot and not kept[IS_BUILDING]:
            if kept[HAS_BEGUN]:
                joints[joint_count] = row
                joint_count += 1
            _begin(facts, kept)
        kept[IS_BUILDING] = is_snapshot
        if kept[HAS_BEGUN]:
            if side < 0:
                return book_count, joint_count, row
            sign = 1 if side == 0 else -1
            put_level(levels[side], facts[side], sign * fields[4, row], fields[5, row])
        kept[HAS_BEFORE], kept[RECEIVED], kept[HAPPENED] = 1, received, fields[1, row]
    return book_count, joint_count, -1


class CompiledChanges:
    """The book of one symbol, kept current by blocks of rows."""

    def __init__(self) -> None:
        self._levels = np.zeros((2, 2, 1_024), np.int64)
        self._facts = np.stack([empty_side(1)[1]] * 2)
        self._kept = np.zeros(6, np.int64)

    @property
    def crossed(self) -> int:
        """Return how many books were crossed."""
        return int(self._kept[CROSSED])

    def take(self, fields: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array, int]:
        """Apply rows, and return what they show.

        `fields` (rows): received, happened, whether of a snapshot, side (0 bid, 1 ask, -1 neither), ticks, lots. Returned are columns of
        books (rows: row that ended the message, bid levels, ask levels, happened, received), their levels (book, side's ticks and lots,
        level), the rows at which the recorder had connected again, and the row of neither side (-1: none).
        """
        count = fields.shape[1]
        self._make_room(count)
        books, joints = np.empty((5, count), np.int64), np.empty(count, np.int64)
        shown = np.empty((count + 1, 4, LEVELS), np.int64)
        book_count, joint_count, refused = _rebuild(fields, self._levels, self._facts, self._kept, books, shown, joints)
        return books[:, :book_count], shown[:book_count], joints[:joint_count], refused

    def last(self) -> tuple[Int64Array, Int64Array]:
        """Return the book after the last row, as `take` does."""
        books, shown = np.zeros((5, 1), np.int64), np.empty((1, 4, LEVELS), np.int64)
        has_any = self._kept[HAS_BEFORE] and self._kept[HAS_BEGUN]
        count = _show(self._levels, self._facts, self._kept, books, shown, 0, 0) if has_any else 0
        return books[:, :count], shown[:count]

    def _make_room(self, count: int) -> None:
        deepest = int(self._facts[:, COUNT].max()) + count
        if deepest > self._levels.shape[2]:
            levels = np.zeros((2, 2, 2 * deepest), np.int64)
            levels[:, :, : self._levels.shape[2]] = self._levels
            self._levels = levels
