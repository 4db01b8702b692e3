"""A strategy that does everything that a lean backtest knows, at random, and looks at everything while it does."""

from __future__ import annotations

from random import Random
from typing import Any

from framework.messages import DomUpdated, Filled, OrderUpdated, SessionChanged, TradeTick
from framework.model import Side, TimeInForce
from framework.strategy import Strategy


class WildStrategy(Strategy):
    """Order, change, cancel and close by chance; note what was seen."""

    seen: list[tuple[Any, ...]]

    class Parameters(Strategy.Parameters):
        seed: int = 1
        share: float = 0.2

    parameters: Parameters

    def on_start(self) -> None:
        self.chance = Random(self.parameters.seed)
        type(self).seen = []

    def on_trade_tick(self, tick: TradeTick) -> None:
        if self.book is not None and self.book.ask_ticks and self.chance.random() < self.parameters.share / 10:
            self.submit(Side.BUY, 1, limit_ticks=self.book.ask_ticks[0], time_in_force=TimeInForce.IOC)

    def on_dom(self, update: DomUpdated) -> None:
        if self.chance.random() >= self.parameters.share or not (update.book.bid_ticks and update.book.ask_ticks):
            return
        side = self.chance.choice([Side.BUY, Side.SELL])
        touch = update.book.bid_ticks[0] if side is Side.BUY else update.book.ask_ticks[0]
        self.chance.choice([self._quote, self._quote, self._cross, self._cancel, self._amend, self._leave, self._look])(side, touch)

    def on_order(self, order: OrderUpdated) -> None:
        if order.status == "DENIED":
            self.seen.append(("denied", order.client_order_id, order.ts_event, order.reason.split()[0]))

    def on_fill(self, fill: Filled) -> None:
        self.seen.append(("fill", self.now_ns, fill.client_order_id, fill.price_ticks, fill.quantity, self.position_lots))

    def on_session(self, session: SessionChanged) -> None:
        self.seen.append(("session", session.ts_event, session.is_open))

    def _quote(self, side: Side, touch: int) -> None:
        away = self.chance.choice([-1, 0, 0, 1, 2])
        self.submit(
            side,
            self.chance.randint(1, 12),
            limit_ticks=touch - away * side.sign,
            post_only=self.chance.random() < 0.5,
            time_in_force=self.chance.choice([TimeInForce.DAY, TimeInForce.GTC]),
        )

    def _cross(self, side: Side, touch: int) -> None:
        force = self.chance.choice([TimeInForce.IOC, TimeInForce.FOK])
        self.submit(side, self.chance.randint(1, 5), limit_ticks=touch + 2 * side.sign, time_in_force=force)

    def _cancel(self, _side: Side, _touch: int) -> None:
        if self.open_orders:
            self.cancel(self.chance.choice(sorted(self.open_orders)))

    def _amend(self, _side: Side, touch: int) -> None:
        if self.open_orders:
            name = self.chance.choice(sorted(self.open_orders))
            self.amend(name, quantity=self.chance.randint(1, 10), limit_ticks=self.chance.choice([None, touch]))

    def _leave(self, _side: Side, _touch: int) -> None:
        self.close()

    def _look(self, _side: Side, _touch: int) -> None:
        window = self.dom.window(20)
        self.seen.append(
            (
                "window",
                self.now_ns,
                self.dom.total_rows,
                self.dom.row_count,
                window.rows.ts_event.tolist(),
                window.rows.flow.round(3).tolist(),
            )
        )
