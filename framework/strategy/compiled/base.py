"""`CompiledStrategy`: a strategy whose decisions are one compiled function, run whole, lean, on paper and live like any other.

A backtest with `--compiled` runs the function without this class around it, in one compiled loop. Everywhere else this class calls it
from the hooks of `Strategy`, with the same numbers before it, and sends what it asks for.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import numpy as np

from framework.messages import (
    BookInvalid,
    BookRecovered,
    BookSnapshot,
    DomUpdated,
    OrderUpdated,
    PositionChanged,
    SessionChanged,
    TradeTick,
)
from framework.model import NS_PER_S, OrderStatus, Side
from framework.strategy.base import Strategy
from framework.strategy.compiled.views import (
    ASKED,
    BOOK,
    CANCEL,
    DONE,
    IS_FULL,
    IS_POST_ONLY,
    LIFE,
    LIMIT,
    LIVES,
    LOTS,
    MOST_COMMANDS,
    NO_LEVELS,
    NO_LIMIT,
    NO_TRADE,
    NOW,
    ORDER,
    SEEN,
    SENT,
    SIDE,
    STATES,
    STATUS,
    SUBMIT,
    TRADE,
    Market,
    Orders,
    empty_orders,
)
from framework.window import LEVELS, Int64Array

NOTHING: Final = np.dtype([("unused", np.int64)])
_CODES: Final = {state: code for code, state in enumerate(STATES, 1)}
_SIGNS: Final = {Side.BUY: 1, Side.SELL: -1, None: 0}
_ENDS: Final = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED})


class CompiledStrategy(Strategy):
    """Subclass it, name a compiled function as `on_event` and what it remembers as `State`.

    `on_event(market, orders, state)` is called for what `hears` names: BOOK (the newest book of each instant), TRADE, ORDER (an order
    of ours was filled or ended), STATUS (a session or soundness changed); for books at most every `interval_s` of market time
    (a parameter).
    `state` is one record of `State`, whose fields begin with the parameter of their name, the others with 0 (`prepare` may change that).
    Raise nothing but `ValueError`; call only `@njit` functions, those of `framework.strategy.compiled.verbs` among them.
    """

    State: ClassVar[np.dtype[Any]] = NOTHING
    hears: ClassVar[int] = BOOK
    on_event: ClassVar[Any] = None

    def __init_subclass__(cls) -> None:
        """Listen to trades only where they are asked for: a recording without any is no fault then."""
        super().__init_subclass__()
        if cls.hears & TRADE:
            cls.on_trade_tick = CompiledStrategy._on_tick  # type: ignore[method-assign, assignment]

    @classmethod
    def interval_ns(cls, parameters: Strategy.Parameters) -> int:
        """Return how long books are left out after a call for one: the parameter `interval_s`, if there is one; 0: not at all."""
        return round(float(getattr(parameters, "interval_s", 0.0)) * NS_PER_S)

    @classmethod
    def prepare(cls, state: Any, parameters: Any) -> None:
        """Fill in what the function remembers, before the first event."""

    @classmethod
    def first_state(cls, parameters: Strategy.Parameters) -> Any:
        """Return the record that the function begins with."""
        record = np.zeros(1, cls.State)[0]
        for name in set(cls.State.names or ()) & set(type(parameters).model_fields):
            record[name] = getattr(parameters, name)
        cls.prepare(record, parameters)
        return record

    # --- hosted by the hooks of a strategy --------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Begin, with the orders of the run before gone: the function does not know them."""
        self._state = self.first_state(self.parameters)
        self._interval_ns = self.interval_ns(self.parameters)
        self._orders = empty_orders(MOST_COMMANDS)
        self._names: list[str] = []
        self._ids: dict[str, int] = {}
        self._levels, self._bids, self._asks, self._book_ns = NO_LEVELS, 0, 0, 0
        self._trade = NO_TRADE
        self._is_trading = True
        self._due_ns = 0
        self._filled = 0
        self.cancel_all()

    def on_dom(self, update: DomUpdated) -> None:
        """Call the function for a book."""
        self._levels, self._bids, self._asks = _levels_of(update.book)
        self._book_ns = update.book.ts_event
        if self.now_ns >= self._due_ns:
            self._due_ns = self.now_ns + self._interval_ns
            self._call(BOOK)

    def _on_tick(self, tick: TradeTick) -> None:
        """Call the function for a trade."""
        sign = _SIGNS[tick.aggressor]
        self._trade = np.array([tick.ts_event, tick.ts_recv, tick.sequence, tick.price_ticks, tick.size, sign], np.int64)
        self._call(TRADE)

    def on_order(self, order: OrderUpdated) -> None:
        """Write down what became of an order; call the function where it ended, for a fill when the position is known."""
        number = self._ids.get(order.client_order_id, 0)
        if not number:
            return
        row = self._orders.rows[number - 1]
        is_fill = order.filled_quantity > row[DONE]
        row[SEEN], row[DONE], row[LOTS] = _CODES[order.status], order.filled_quantity, order.quantity
        if order.limit_ticks is not None:
            row[LIMIT] = order.limit_ticks
        if is_fill:
            self._filled = number
        elif order.status in _ENDS:
            self._call(ORDER, number)

    def on_position(self, position: PositionChanged) -> None:  # noqa: ARG002 (a hook)
        """Call the function for the fill that moved it."""
        if self._filled:
            self._call(ORDER, self._filled)

    def on_session(self, session: SessionChanged) -> None:
        """Call the function when trading opens or closes."""
        self._is_trading = session.is_open
        self._call(STATUS)

    def on_book_invalid(self, event: BookInvalid) -> None:  # noqa: ARG002 (a hook)
        """Call the function when a book was refused."""
        self._call(STATUS)

    def on_book_recovered(self, event: BookRecovered) -> None:  # noqa: ARG002 (a hook)
        """Call the function when books are sound again."""
        self._call(STATUS)

    def _call(self, kind: int, order: int = 0) -> None:
        if not self.hears & kind:
            return
        self._orders.counts[NOW] = self.now_ns
        self.on_event(self._market(kind, order), self._orders, self._state)
        self._send()

    def _market(self, kind: int, order: int) -> Market:
        return Market(
            kind=kind,
            now_ns=self.now_ns,
            book_ns=self._book_ns,
            bids=self._bids,
            asks=self._asks,
            levels=self._levels,
            trade=self._trade,
            order=order,
            position=self.position_lots,
            average_ticks=float(self.average_ticks),
            is_open=self._is_trading,
            is_sound=self.is_book_sound,
        )

    # --- commands ---------------------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        """Send what the function asked for, in its order, and keep room for the next call."""
        orders = self._orders
        if orders.counts[IS_FULL]:
            raise ValueError(f"{self.strategy_id}: more than {MOST_COMMANDS:,} commands in one call")
        asked, orders.counts[ASKED] = int(orders.counts[ASKED]), 0
        for what, number, lots, limit in orders.commands[:asked].tolist():
            if what == SUBMIT:
                self._submit(number, lots, None if limit == NO_LIMIT else limit)
            elif what == CANCEL:
                self.cancel(self._names[number - 1])
            else:
                self.amend(self._names[number - 1], quantity=lots or None, limit_ticks=None if limit == NO_LIMIT else limit)
        if orders.counts[SENT] + MOST_COMMANDS > len(orders.rows):
            self._orders = Orders(np.concatenate((orders.rows, np.zeros_like(orders.rows))), orders.commands, orders.counts)

    def _submit(self, number: int, lots: int, limit_ticks: int | None) -> None:
        row = self._orders.rows[number - 1]
        side, life = Side.BUY if row[SIDE] > 0 else Side.SELL, LIVES[row[LIFE]]
        name = self.submit(side, lots, limit_ticks=limit_ticks, time_in_force=life, post_only=bool(row[IS_POST_ONLY]))
        self._names.append(name)
        self._ids[name] = number


def _levels_of(book: BookSnapshot) -> tuple[Int64Array, int, int]:
    levels = np.zeros((4, LEVELS), np.int64)
    for row, side in enumerate((book.bid_ticks, book.bid_sizes, book.ask_ticks, book.ask_sizes)):
        levels[row, : len(side)] = side
    return levels, len(book.bid_ticks), len(book.ask_ticks)
