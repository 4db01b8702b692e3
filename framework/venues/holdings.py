"""What a venue holds for whom, and what that leaves to orders that may only reduce."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from framework.messages import SubmitOrder
from framework.venues.port import Holder

NOTHING_TO_REDUCE: Final = "reduce-only: there is no position left to reduce"
CLIPPED: Final = "reduce-only: clipped to the position"


class Holdings:
    """Signed positions by strategy and instrument: to the venue each strategy is an account of its own."""

    def __init__(self) -> None:
        self._lots: Counter[Holder] = Counter()

    def restore(self, positions: Mapping[Holder, int]) -> None:
        """Take positions of the run before; one that moved in this run is left alone."""
        for holder, lots in positions.items():
            self._lots.setdefault(holder, lots)

    def lots(self) -> dict[Holder, int]:
        """Return what is held, by holder."""
        return {holder: lots for holder, lots in self._lots.items() if lots}

    def book(self, intent: SubmitOrder, quantity: int) -> None:
        """Book an execution."""
        self._lots[intent.strategy_id, intent.instrument_id] += intent.side.sign * quantity

    def room(self, intent: SubmitOrder) -> int:
        """Return how many lots an order of this side can trade before it would enlarge or turn the position."""
        return max(0, -intent.side.sign * self._lots[intent.strategy_id, intent.instrument_id])
