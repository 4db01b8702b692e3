"""What the market did after a window, read from the windows that came later.

Each window shows the last rows of its instrument in one segment. Where a window overlaps the one before, its new rows continue
the tape; where it does not (a session break, a gap, a pause in asking), a new stretch begins, and no label crosses the joint.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from framework.window import Int64Array, Rows, Window
from ml_actor.trial import Move

KEPT_ROWS: Final = 4_096
LATELY: Final = 200


class Tape:
    """Mids and spreads of one instrument, by row number: 0, 1, 2 ... over all stretches.

    `usual_half_ticks` is the mean size of the moves that were labelled lately, those that moved at all.
    """

    def __init__(self, *, kept_rows: int = KEPT_ROWS) -> None:
        self.joints = 0
        self.usual_half_ticks = 2.0
        self._kept_rows = kept_rows
        self._first = 0
        self._next = 0
        self._key: Int64Array = np.empty((0, 2), np.int64)
        self._touch: Int64Array = np.empty((0, 2), np.int64)

    @property
    def first(self) -> int:
        """Return the number of the first row that is still known."""
        return self._first

    @property
    def last(self) -> int:
        """Return the number of the last row; -1 before any."""
        return self._next - 1

    def extend(self, window: Window) -> int:
        """Take in the rows that are new in `window`; return the number of its last row."""
        rows = window.rows
        key = np.stack((rows.ts_event, rows.sequence), axis=1)
        touch = np.stack((rows.bid_ticks[:, 0], rows.ask_ticks[:, 0]), axis=1).astype(np.int64)
        touch[(rows.bid_sizes[:, 0] <= 0) | (rows.ask_sizes[:, 0] <= 0)] = 0
        known = self._position(key[-1])
        if known is not None:
            return self._first + known
        overlap = _last_equal(key, self._key[-1]) if len(self._key) else None
        if overlap is None:
            self._begin()
            overlap = -1
        self._append(key[overlap + 1 :], touch[overlap + 1 :])
        return self.last

    def move(self, row: int, horizon_rows: int) -> Move | None:
        """Return what the mid did in `horizon_rows` rows after row `row`; None if that is not known, or a side was empty."""
        here, there = row - self._first, row + horizon_rows - self._first
        if here < 0 or there >= len(self._touch) or not (self._touch[here].any() and self._touch[there].any()):
            return None
        bid, ask = (int(tick) for tick in self._touch[here])
        return Move(int(self._touch[there].sum()) - bid - ask, 2 * (ask - bid), self.usual_half_ticks)

    def label(self, row: int, horizon_rows: int) -> Move | None:
        """Return `move`, and let its size count for those that come later."""
        found = self.move(row, horizon_rows)
        if found is not None and found.half_ticks:
            self.usual_half_ticks += (abs(found.half_ticks) - self.usual_half_ticks) / LATELY
        return found

    def _position(self, key: Int64Array) -> int | None:
        """Return where a row stands that is known already."""
        return _last_equal(self._key, key) if len(self._key) and key[0] <= self._key[-1, 0] else None

    def _begin(self) -> None:
        self.joints += bool(self._next)
        self._first = self._next
        self._key, self._touch = self._key[:0], self._touch[:0]

    def _append(self, key: Int64Array, touch: Int64Array) -> None:
        self._next += len(key)
        self._key = np.concatenate((self._key, key))[-self._kept_rows :]
        self._touch = np.concatenate((self._touch, touch))[-self._kept_rows :]
        self._first = self._next - len(self._key)


class RowLabels:
    """Labels of recorded rows, in segments; row `horizon_rows` after a row must be in the same one."""

    def __init__(self, rows: Rows, horizon_rows: int) -> None:
        self._horizon_rows = horizon_rows
        self._key = np.stack((rows.ts_event, rows.sequence), axis=1)
        self._run = np.cumsum(np.append(False, np.diff(rows.segment) != 0))
        self._touch = np.stack((rows.bid_ticks[:, 0], rows.ask_ticks[:, 0]), axis=1).astype(np.int64)
        self._touch[(rows.bid_sizes[:, 0] <= 0) | (rows.ask_sizes[:, 0] <= 0)] = 0

    def is_ahead(self, ts_event: int) -> bool:
        """Return whether the horizon of a row of this time is not recorded yet."""
        last = len(self._key) - 1 - self._horizon_rows
        return last < 0 or ts_event > self._key[last, 0]

    def move(self, ts_event: int, sequence: int) -> Move | None:
        """Return what the mid did after the row of this time and sequence; None if there is none, or no label."""
        here = _last_equal(self._key, np.array([ts_event, sequence]))
        there = -1 if here is None else here + self._horizon_rows
        if here is None or there >= len(self._key) or self._run[here] != self._run[there]:
            return None
        if not (self._touch[here].any() and self._touch[there].any()):
            return None
        bid, ask = (int(tick) for tick in self._touch[here])
        return Move(int(self._touch[there].sum()) - bid - ask, 2 * (ask - bid))


def _last_equal(keys: Int64Array, key: Int64Array) -> int | None:
    """Return the last position of `key` in `keys` (sorted by time), or None."""
    at = int(np.searchsorted(keys[:, 0], key[0], side="right")) - 1
    while at >= 0 and keys[at, 0] == key[0]:
        if keys[at, 1] == key[1]:
            return at
        at -= 1
    return None
