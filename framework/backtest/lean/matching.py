"""The matching engine of a lean backtest: the port of `MatchingEngine` on compiled rules."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from framework.backtest.lean.columns import MarketColumns
from framework.backtest.lean.compiled import SLOTS, displayed, match, quiet_until, take
from framework.backtest.lean.compiled_queue import LEFT, MODELS, SHOWN, TRADED
from framework.config import PaperConfig
from framework.errors import ConfigError
from framework.messages import BookSnapshot, TradeTick
from framework.model import Liquidity, Side
from framework.venues.matching import Execution, MatchingEngine
from framework.window import LEVELS

_NO_LIMIT: Final = 1 << 60
_NEVER: Final = 1 << 62
_BOOK_ROW, _RESTING, _NEXT = 0, 1, 5
_BIDS, _ASKS = (0, 3), (2, 4)
"""Where a side of a book has its prices among the levels, and its depth among the facts."""
LOOK_AHEAD: Final = 32
"""How many events are tried at a time for the first that fills something."""


def load_compiled(columns: MarketColumns, settings: PaperConfig) -> None:
    """Load the compiled rules (the first time on a machine, compile them: seconds), so that no run has to."""
    engine = CompiledEngine(columns, settings)
    for client_order_id, side in (("buy", Side.BUY), ("sell", Side.SELL)):
        engine.rest(client_order_id, side, 0, 1)
        engine.takeable(side, None, 1)
    count = min(len(columns.times), 2)
    engine.on_rows(0, count)
    engine.settle(0, count)


class CompiledEngine(MatchingEngine):
    """Match the orders of one instrument against `MarketColumns`. Events come by their places (`on_rows`), not as messages.

    At most 256 orders rest at a time; one more raises `ConfigError`.
    """

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
        of_orders = (*self._market, self._state, self._orders, self._ahead, self._line, self._taken)
        self._arrays, self._trial = (*of_orders, self._fills, power), (*of_orders, power)
        self._names: list[str] = [""] * SLOTS
        self._slots: dict[str, int] = {}
        self._free = list(range(SLOTS))[::-1]
        self._seen = self._upto = 0
        self._quiet_until = _NEVER
        self._shown: tuple[int, int, int, float | None] = (-1, 0, 0, None)

    # --- our side --------------------------------------------------------------------------------------------------------

    def takeable(self, side: Side, limit_ticks: int | None, quantity: int) -> int:
        """Return how many of `quantity` lots could be taken now within the limit."""
        rows = self._walk(side, limit_ticks, quantity, trial=1)
        return int(self._got[:rows, 1].sum()) if rows else 0

    def take(self, client_order_id: str, side: Side, limit_ticks: int | None, quantity: int) -> list[Execution]:
        """Trade up to `quantity` against what is displayed within the limit."""
        rows = self._walk(side, limit_ticks, quantity, trial=0)
        return [Execution(client_order_id, size, price_ticks, Liquidity.TAKER) for price_ticks, size in self._got[:rows].tolist()]

    def lots_at(self, side: Side, price_ticks: int) -> float | None:
        """Return how many lots of others rest at a price; None where the book does not show so far."""
        self._catch_up()
        row, sign = self._state.item(_BOOK_ROW), side.sign
        before = self._shown  # asked twice of each order: for its report, and when it joins
        if before[0] == row and before[1] == sign and before[2] == price_ticks and row >= 0:
            return before[3]
        levels, facts, _ = self._market
        lots = displayed(levels, facts, row, sign, price_ticks)
        self._shown = (row, sign, price_ticks, None if lots < 0 else lots)
        return self._shown[3]

    def rest(self, client_order_id: str, side: Side, limit_ticks: int, open_quantity: int) -> None:
        """Join the queue at the limit price, behind what is displayed there."""
        if not self._free:
            raise ConfigError(f"a lean backtest holds at most {SLOTS} resting orders; leave --lean out")
        slot = self._free.pop()
        shown = self.lots_at(side, limit_ticks)
        self._orders[slot] = (side.sign, limit_ticks, open_quantity, 0, 0, -1 if shown is None else shown, 0)
        self._ahead[slot] = math.nan if shown is None else shown
        count = self._state.item(_RESTING)
        self._line[count] = slot
        self._state[_RESTING] = count + 1
        self._quiet_until = 0
        self._names[slot], self._slots[client_order_id] = client_order_id, slot

    def resize(self, client_order_id: str, open_quantity: int) -> None:
        """Take a smaller size and keep the place; an order that was filled in full stays out."""
        slot = self._slots.get(client_order_id)
        if slot is not None:
            self._catch_up()
            self._orders[slot, LEFT] = open_quantity
            self._quiet_until = 0

    def remove(self, client_order_id: str) -> bool:
        """Leave the queue; return whether the order was there."""
        slot = self._slots.get(client_order_id)
        if slot is None:
            return False
        self._catch_up()
        count = self._state.item(_RESTING)
        at = self._line[:count].tolist().index(slot)
        self._line[at : count - 1] = self._line[at + 1 : count]
        self._state[_RESTING] = count - 1
        self._forget(slot)
        return True

    def close(self) -> None:
        """Forget the book, and let what rests stand last when the next session begins."""
        self._catch_up()
        self._state[_BOOK_ROW] = -1
        self._counts[:] = 0
        self._quiet_until = 0 if self._slots else _NEVER
        for slot in self._slots.values():
            self._ahead[slot] = math.nan
            self._orders[slot, SHOWN], self._orders[slot, TRADED] = -1, 0

    # --- the market's side -------------------------------------------------------------------------------------------------

    def on_rows(self, first: int, last: int) -> list[Execution]:
        """Take the events from `first` to before `last`, which follow those before them, and return what they fill.

        Events that fill nothing wait until somebody asks what stands in the book: then all of them are matched at once.
        """
        self._upto = last
        if last <= self._quiet_until:
            return []
        return self.settle(first, last)

    def settle(self, first: int, last: int) -> list[Execution]:
        """Match the events before `first`, then those to before `last`, if they fill anything; return what they fill."""
        self._match(self._seen, first)
        self._seen = first
        ahead = min(max(last, first + LOOK_AHEAD), len(self._index))
        quiet_until_event = quiet_until(self._index, first, ahead, *self._trial)
        if quiet_until_event >= last:
            self._quiet_until = quiet_until_event
            return []
        fills = self._match(first, last)
        self._seen = last
        self._quiet_until = 0 if self._slots else _NEVER
        return fills

    def _catch_up(self) -> None:
        if self._seen < self._upto:
            self._match(self._seen, self._upto)
            self._seen = self._upto

    def _match(self, first: int, last: int) -> list[Execution]:
        found: list[Execution] = []
        while first < last:
            filled = match(self._index, first, last, *self._arrays)
            if filled:
                found += self._executions(filled)
            first = self._state.item(_NEXT)
        return found

    def on_book(self, book: BookSnapshot) -> list[Execution]:  # noqa: ARG002 (the port's signature)
        """Do nothing: books come by `on_rows`."""
        return []

    def on_trade(self, tick: TradeTick) -> list[Execution]:  # noqa: ARG002 (the port's signature)
        """Do nothing: trades come by `on_rows`."""
        return []

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
        self._quiet_until = 0 if self._slots else _NEVER

    def _walk(self, side: Side, limit_ticks: int | None, quantity: int, trial: int) -> int:
        self._catch_up()
        levels, facts, _ = self._market
        row, sign = self._state.item(_BOOK_ROW), side.sign
        if row < 0 or (limit_ticks is not None and self._is_beyond(row, sign, limit_ticks)):
            return 0
        limit = sign * _NO_LIMIT if limit_ticks is None else limit_ticks
        if not trial and self._slots:
            self._quiet_until = 0
        return int(take(levels, facts, row, sign, limit, quantity, self._taken, self._counts, self._got, trial))

    def _is_beyond(self, row: int, sign: int, limit_ticks: int) -> bool:
        """Return whether the other side of the book is out of reach."""
        levels, facts, _ = self._market
        place, depth = _ASKS if sign > 0 else _BIDS
        return facts.item(row, depth) == 0 or (limit_ticks - levels.item(row, place, 0)) * sign < 0
