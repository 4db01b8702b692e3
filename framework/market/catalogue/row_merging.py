"""Rows of several files of one instrument in one order of arrival, as `feed.merge_in_time` brings their events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from framework.market.formats.rows import Rows, in_one

_NEVER: Final = 2**62


class _Stream:
    """Rows that come in blocks, and those of them that were not taken yet."""

    def __init__(self, blocks: Iterator[Rows]) -> None:
        self._blocks = blocks
        self.waiting: Rows | None = None
        self.is_over = False

    def fill(self) -> None:
        """Read on until there are two different times, or no more: rows of the last time may go on in the next block."""
        while not self.is_over and (self.waiting is None or self.waiting.arrivals[0] == self.waiting.arrivals[-1]):
            block = next(self._blocks, None)
            self.is_over = block is None
            if block is not None and len(block):
                self.waiting = block if self.waiting is None else in_one([self.waiting, block], by="arrivals")

    def take_before(self, limit_ns: int) -> Rows | None:
        """Take what came before a time."""
        rows = self.waiting
        if rows is None:
            return None
        end = int(np.searchsorted(rows.arrivals, limit_ns))
        self.waiting = rows.part(end, len(rows)) if end < len(rows) else None
        return rows.part(0, end) if end else None


def merged_in_time(streams: Sequence[Iterator[Rows]]) -> Iterator[Rows]:
    """Merge rows that are each in order of arrival; of equal times those of the earlier stream come first. Holds a block of each."""
    live = [_Stream(blocks) for blocks in streams]
    while live:
        for stream in live:
            stream.fill()
        live = [stream for stream in live if stream.waiting is not None]
        limits = [int(stream.waiting.arrivals[-1]) for stream in live if stream.waiting is not None and not stream.is_over]
        limit_ns = min(limits, default=_NEVER)
        taken = [rows for stream in live if (rows := stream.take_before(limit_ns)) is not None]
        if taken:
            yield in_one(taken, by="arrivals")
