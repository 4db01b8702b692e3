"""The compiled rules behind the port of `MatchingEngine`, so that both can be asked the same."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from framework.backtest.compiled.matching import SLOTS, displayed, match, take
from framework.backtest.compiled.queues import LEFT, MODELS, PRICE, SHOWN, SIDE, TRADED
from framework.backtest.lean.columns import MarketColumns
from framework.config import PaperConfig
from framework.model import Liquidity, Side
from framework.venues.matching import Execution, MatchingEngine
from framework.window import LEVELS

_NO_LIMIT: Final = 1 << 60
_NEVER: Final = 1 << 62
_BOOK_ROW, _RESTING, _NEXT = 0, 1, 5


class CompiledEngine(MatchingEngine):
    """Match the orders of one instrument against `MarketColumns`. Events come by their places (`on_rows`), not as messages."""

    def __init__(self, columns: MarketColumns, settings: PaperConfig) -> None:
        super().__init__()
        index = np.stack((columns.kinds, columns.places), axis=1) if len(columns.times) else np.zeros((0, 2), np.int64)
        self._index = np.ascontiguousarray(index)
        self._market = (columns.levels, columns.book_facts, columns.trades)
        self._state = np.array([-1, 0, 0, 0, MODELS[settings.queue_model], 0], np.int64)
        self._counts = self._state[2:4]
        self._orders = np.zeros((SLOTS, 7), np.int64)
        self._ahead = np.full(SLOTS, np.nan)
        self._line = np.zeros(SLOTS, np.int64)
        self._taken = np.zeros((2, LEVELS * 2, 2), np.int64)
        self._fills = np.zeros((SLOTS * LEVELS * 4, 3), np.int64)
        self._got = np.zeros((LEVELS, 2), np.int64)
        power = float(settings.queue_power)
        self._arrays = (*self._market, self._state, self._orders, self._ahead, self._line, self._taken, self._fills, power)
        self._names: list[str] = [""] * SLOTS
        self._slots: dict[str, int] = {}
        self._free = list(range(SLOTS))[::-1]
        self._seen, self._upto = _NEVER, 0

    def takeable(self, side: Side, limit_ticks: int | None, quantity: int) -> int:
        """Return how many of `quantity` lots could be taken now within the limit."""
        rows = self._walk(side, limit_ticks, quantity, trial=1)
        return int(self._got[:rows, 1].sum())

    def take(self, client_order_id: str, side: Side, limit_ticks: int | None, quantity: int) -> list[Execution]:
        """Trade up to `quantity` against what is displayed within the limit."""
        rows = self._walk(side, limit_ticks, quantity, trial=0)
        return [Execution(client_order_id, size, price_ticks, Liquidity.TAKER) for price_ticks, size in self._got[:rows].tolist()]

    def lots_at(self, side: Side, price_ticks: int) -> float | None:
        """Return how many lots of others rest at a price; None where the book does not show so far."""
        self._catch_up()
        levels, facts, _ = self._market
        lots = displayed(levels, facts, self._state[_BOOK_ROW], side.sign, price_ticks)
        return None if lots < 0 else lots

    def rest(self, client_order_id: str, side: Side, limit_ticks: int, open_quantity: int) -> None:
        """Join the queue at the limit price, behind what is displayed there."""
        slot = self._free.pop()
        shown = self.lots_at(side, limit_ticks)
        order = self._orders[slot]
        order[:] = 0
        order[SIDE], order[PRICE], order[LEFT] = side.sign, limit_ticks, open_quantity
        order[SHOWN] = -1 if shown is None else shown
        self._ahead[slot] = math.nan if shown is None else shown
        self._line[self._state[_RESTING]] = slot
        self._state[_RESTING] += 1
        self._names[slot], self._slots[client_order_id] = client_order_id, slot

    def resize(self, client_order_id: str, open_quantity: int) -> None:
        """Take a smaller size and keep the place; an order that was filled in full stays out."""
        slot = self._slots.get(client_order_id)
        if slot is not None:
            self._orders[slot, LEFT] = open_quantity

    def remove(self, client_order_id: str) -> bool:
        """Leave the queue; return whether the order was there."""
        slot = self._slots.get(client_order_id)
        if slot is None:
            return False
        count = int(self._state[_RESTING])
        at = int(np.flatnonzero(self._line[:count] == slot)[0])
        self._line[at : count - 1] = self._line[at + 1 : count]
        self._state[_RESTING] = count - 1
        self._forget(slot)
        return True

    def close(self) -> None:
        """Forget the book, and let what rests stand last when the next session begins."""
        self._catch_up()
        self._state[_BOOK_ROW] = -1
        self._counts[:] = 0
        for slot in self._slots.values():
            self._ahead[slot] = math.nan
            self._orders[slot, SHOWN], self._orders[slot, TRADED] = -1, 0

    def on_rows(self, first: int, last: int) -> list[Execution]:
        """Take the events from `first` to before `last`, and return what they fill."""
        if not self._slots:  # nothing rests: who asks next looks at all of it at once
            self._seen, self._upto = min(self._seen, first), last
            return []
        self._catch_up()
        return self._match(first, last)

    def _catch_up(self) -> None:
        if self._seen < self._upto:
            self._match(self._seen, self._upto)
        self._seen = _NEVER

    def _match(self, first: int, last: int) -> list[Execution]:
        found: list[Execution] = []
        while first < last:
            filled = match(self._index, first, last, *self._arrays)
            if filled:
                found += self._executions(filled)
            first = self._state[_NEXT]
        return found

    def _executions(self, filled: int) -> list[Execution]:
        found = []
        for slot, quantity, price_ticks in self._fills[:filled].tolist():
            found.append(Execution(self._names[slot], quantity, price_ticks, Liquidity.MAKER))
        for slot in {slot for slot in self._fills[:filled, 0].tolist() if self._orders[slot, LEFT] == 0}:
            self._forget(slot)
        return found

    def _forget(self, slot: int) -> None:
        del self._slots[self._names[slot]]
        self._names[slot] = ""
        self._free.append(slot)

    def _walk(self, side: Side, limit_ticks: int | None, quantity: int, trial: int) -> int:
        self._catch_up()
        levels, facts, _ = self._market
        limit = side.sign * _NO_LIMIT if limit_ticks is None else limit_ticks
        row = self._state[_BOOK_ROW]
        return int(take(levels, facts, row, side.sign, limit, quantity, self._taken, self._counts, self._got, trial))
