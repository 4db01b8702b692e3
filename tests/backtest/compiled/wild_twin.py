"""The strategy of `wild_strategy`, written once more: in Python, on the hooks of `Strategy`."""

from __future__ import annotations

from typing import ClassVar

from framework.messages import BookInvalid, BookRecovered, DomUpdated, OrderUpdated, PositionChanged, SessionChanged, TradeTick
from framework.model import OrderStatus, Side, TimeInForce
from framework.strategy import Strategy
from framework.strategy.compiled import BOOK, ORDER, STATUS, TRADE

ENDS = (OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED)


class WildTwin(Strategy):
    """Everything at random, by the same draws."""

    class Parameters(Strategy.Parameters):
        seed: int = 1
        often: int = 300

    parameters: Parameters
    left: ClassVar[tuple[int, ...]] = ()

    def on_start(self) -> None:
        self.seed, self.seen, self.fills, self.words = self.parameters.seed, 0, 0, 0
        self.names: list[str] = []
        self.done: dict[str, int] = {}
        self.last_price = 0

    def on_dom(self, update: DomUpdated) -> None:
        self.act(BOOK)

    def on_trade_tick(self, tick: TradeTick) -> None:
        self.last_price = tick.price_ticks
        self.act(TRADE)

    def on_order(self, order: OrderUpdated) -> None:
        if order.filled_quantity > self.done.get(order.client_order_id, 0):
            self.done[order.client_order_id] = order.filled_quantity
        elif order.status in ENDS:
            self.act(ORDER)

    def on_position(self, position: PositionChanged) -> None:
        self.act(ORDER)

    def on_session(self, session: SessionChanged) -> None:
        self.act(STATUS)

    def on_book_invalid(self, event: BookInvalid) -> None:
        self.act(STATUS)

    def on_book_recovered(self, event: BookRecovered) -> None:
        self.act(STATUS)

    def on_stop(self) -> None:
        type(self).left = (self.seed, self.parameters.often, self.seen, self.fills, self.words)

    def draw(self, count: int) -> int:
        self.seed = (self.seed * 1_103_515_245 + 12_345) % (1 << 31)
        return (self.seed >> 8) % count

    def act(self, kind: int) -> None:
        book = self.book
        bids = len(book.bid_ticks) if book else 0
        self.seen += kind * 7 + self.position_lots + bids + self.last_price % 5 + len(self.names) % 3
        self.fills += kind == ORDER
        self.words += kind == STATUS
        if book is None or not (book.bid_ticks and book.ask_ticks) or self.draw(1_000) >= self.parameters.often:
            return
        side = Side.BUY if self.draw(2) else Side.SELL
        touch = book.bid_ticks[0] if side is Side.BUY else book.ask_ticks[0]
        what, lots, price = self.draw(9), 1 + self.draw(4), touch + self.draw(7) - 3
        newest = len(self.names) - self.draw(4)
        force = {0: TimeInForce.DAY, 1: TimeInForce.GTC, 2: TimeInForce.IOC, 3: TimeInForce.FOK}.get(what)
        if force is not None:
            self.names.append(self.submit(side, lots, limit_ticks=price, time_in_force=force))
        elif what == 4:
            force = TimeInForce.GTC if lots > 2 else TimeInForce.DAY
            self.names.append(self.submit(side, lots, limit_ticks=price, time_in_force=force, post_only=True))
        elif what == 5:
            self.names.append(self.submit(side, lots))
        elif what == 6 and newest > 0 and (order := self.open_orders.get(self.names[newest - 1])):
            limit = None if self.draw(2) else price
            if order.limit_ticks is not None:
                self.amend(order.client_order_id, quantity=lots, limit_ticks=limit)
        elif what != 6 and newest > 0:
            self.cancel(self.names[newest - 1])
