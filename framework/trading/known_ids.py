"""Which order ids were ever used: the highest number of each kind answers mostly, and the journal's index where that cannot say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from framework.trading.journal import Journal

MOST_DIGITS: Final = 18
_NUMBER: Final = re.compile(r"^(.+?-d?)(\d+)$").match


class KnownIds:
    """Ids as everybody here makes them end in a number behind `-` or `-d`, and numbers only go up (`framework.trading.fold`).

    So an id beyond the highest number of its kind was never used, and nobody has to ask the disk. Until somebody has said what the
    journal holds (`take`), and for any other id, the journal is asked.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._highest: dict[str, int] | None = None

    def take(self, highest: Mapping[str, int]) -> None:
        """Take the highest number of each kind in the journal so far; from here on every id that is used has to be told."""
        self._highest = dict(highest)

    def use(self, client_order_id: str) -> None:
        """Note that an id is used."""
        if self._highest is None:
            return
        kind, number = parts_of(client_order_id)
        if number > self._highest.get(kind, 0):
            self._highest[kind] = number

    def is_used(self, client_order_id: str) -> bool:
        """Return whether an order of this id was ever sent, in this run or before."""
        if self._highest is not None and isinstance(client_order_id, str):  # nonsense is denied later, not here
            kind, number = parts_of(client_order_id)
            if number > self._highest.get(kind, 0):
                return False
        return self._journal.has_order(client_order_id)


def parts_of(used_id: str) -> tuple[str, int]:
    """Return kind and number of an id; the number of one that is made otherwise is -1, which is never the highest."""
    match = _NUMBER(used_id)
    if match is None or len(match[2]) > MOST_DIGITS:
        return "", -1
    return match[1], int(match[2])
