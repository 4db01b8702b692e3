"""The strategy of `bench_backtest_peers` for Tidebook."""

from __future__ import annotations

from typing import ClassVar

from framework.messages import DomUpdated, TradeTick
from framework.model import NS_PER_MS, Side, TimeInForce
from framework.strategy import Strategy

QUOTE_NS = 100 * NS_PER_MS


class QuotingStrategy(Strategy):
    """Read the touch at each event; each 100 ms take back a quote that is off it, or send the one that is missing."""

    events_seen: ClassVar[int] = 0
    """How many events the last run of this process handed to it."""

    def on_start(self) -> None:
        self.events = 0
        self.bid = self.ask = 0
        self._due_ns = 0
        self._quotes = {Side.BUY: "", Side.SELL: ""}

    def on_trade_tick(self, tick: TradeTick) -> None:
        self.events += 1

    def on_dom(self, update: DomUpdated) -> None:
        self.events += 1
        book = update.book
        if not (book.bid_ticks and book.ask_ticks):
            return
        self.bid, self.ask = book.bid_ticks[0], book.ask_ticks[0]
        if book.ts_recv >= self._due_ns:
            self._due_ns = book.ts_recv + QUOTE_NS
            self._quote(Side.BUY, self.bid)
            self._quote(Side.SELL, self.ask)

    def _quote(self, side: Side, price: int) -> None:
        order = self.open_orders.get(self._quotes[side])
        if order is None:
            self._quotes[side] = self.submit(side, 1, limit_ticks=price, post_only=True, time_in_force=TimeInForce.GTC)
        elif order.limit_ticks != price:
            self.cancel(order.client_order_id)

    def on_stop(self) -> None:
        QuotingStrategy.events_seen = self.events
