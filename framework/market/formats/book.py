"""Price levels in order: what every format that sends changes instead of whole books rebuilds its book with."""

from __future__ import annotations

import sys
from bisect import bisect_left, insort
from typing import Final

from framework.window import LEVELS

_NOWHERE: Final = sys.maxsize
Levels = tuple[tuple[int, ...], tuple[int, ...]]


class BookSide:
    """Resting lots by price, with the prices kept in order (ascending `key`, best first).

    `is_changed` says whether what `best` returned last may be another now.
    """

    def __init__(self, sign: int) -> None:
        self._sign = sign  # -1 for bids: the highest price comes first
        self._lots: dict[int, int] = {}
        self._keys: list[int] = []
        self._worst_shown = _NOWHERE
        self.is_changed = True

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, tick: int, lots: int) -> None:
        """Change the lots at a price by `lots`; a price with none left is gone."""
        self.put(tick, self._lots.get(self._sign * tick, 0) + lots)

    def put(self, tick: int, lots: int) -> None:
        """Set the lots at a price; a price with none is gone."""
        key = self._sign * tick
        if key <= self._worst_shown:
            self.is_changed = True
        if lots > 0:
            if key not in self._lots:
                insort(self._keys, key)
            self._lots[key] = lots
        elif key in self._lots:
            del self._lots[key]
            del self._keys[bisect_left(self._keys, key)]

    def best(self, count: int = LEVELS) -> Levels:
        """Return ticks and lots of the best levels."""
        keys = self._keys[:count]
        lots, sign = self._lots, self._sign
        self._worst_shown = keys[-1] if len(keys) == count else _NOWHERE
        self.is_changed = False
        return tuple([sign * key for key in keys]), tuple([lots[key] for key in keys])
