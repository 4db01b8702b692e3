"""A second fold that follows the journal while it is written: it proves that state is what the journal says, and makes the snapshots."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

import msgspec

from framework.errors import TidebookError
from framework.trading.blotter import Blotter
from framework.trading.fold import JournalFold, order_facts
from framework.trading.journal import Journal, Record

EVERY: Final = 20_000
"""Records between two snapshots; a start reads no more than about so many."""
AT_THE_END: Final = 1_000
MOST_WAITING: Final = 2_000
log = logging.getLogger("Execution")


class SnapshotKeeper:
    """Follow the journal with the fold of the last start. Call `keep_up` about each second, and `finish` at the end.

    What differs from the live state is a fault of ours: it is said and counted, and no snapshot is taken any more (a start then reads
    every record since the last good one).
    """

    def __init__(self, journal: Journal, fold: JournalFold, live: Blotter, *, every: int = EVERY) -> None:
        self._journal = journal
        self._fold = fold
        self._live = live
        self._every = every
        self._waiting: deque[Record] = deque()
        self._last_seq = fold.replayed.snapshot_seq
        self.divergence = ""
        journal.on_append = self._follow

    def keep_up(self, now_ns: int) -> None:
        """Take what was written since, compare, and take a snapshot if it is time."""
        self._take_snapshot(now_ns, self._every)

    def finish(self, now_ns: int) -> None:
        """Take a last snapshot, so that the next start is short."""
        self._take_snapshot(now_ns, AT_THE_END)
        self._journal.on_append = None

    def differences(self) -> str:
        """Return how the state that runs differs from what the journal adds up to; empty if it does not."""
        self._catch_up()
        mine, theirs = _essence(self._fold.blotter), _essence(self._live)
        return next((f"{name}: {mine[name]!r} in the journal, {theirs[name]!r} live" for name in mine if mine[name] != theirs[name]), "")

    def _follow(self, record: Record) -> None:
        if record.kind in JournalFold.KINDS:
            self._waiting.append(record)
            if len(self._waiting) >= MOST_WAITING:
                self._catch_up()

    def _catch_up(self) -> None:
        while self._waiting:
            self._fold.take(self._waiting.popleft())

    def _take_snapshot(self, now_ns: int, every: int) -> None:
        if self.divergence or not self._journal.is_healthy:
            return
        self._catch_up()
        if self._journal.last_seq - self._last_seq < every:
            return
        self.divergence = self.differences()
        if self.divergence:
            log.critical("state differs from the journal (%s): no snapshot is taken; please report this", self.divergence)
            return
        try:
            self._last_seq = self._journal.take_snapshot(self._fold.to_bytes(), now_ns)
        except (TidebookError, msgspec.MsgspecError) as exc:
            log.error("no snapshot: %s", exc)


def _essence(blotter: Blotter) -> dict[str, object]:
    """Return what must be the same: orders, positions and the trading state."""
    return {
        "state": (blotter.state, blotter.state_reason),
        "orders": {name: order_facts(order) for name, order in blotter.open.items()},
        "positions": {
            key: (one.quantity, one.open_cost, one.realized, one.fees)
            for key, one in blotter.portfolio.everything().items()
            if one.fees or one.quantity or one.realized
        },
    }
