"""A plain rule: follow the smoothed imbalance of the best levels, leave by time, ticks or reversal."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from framework.messages import Action, BookSnapshot, DomUpdated
from framework.model import NS_PER_S, Side
from framework.strategy import Strategy


class ImbalanceParameters(Strategy.Parameters):
    """Settings of the rule and of its exits. Thresholds are imbalances, 0 to 1; 0 turns a tick or time exit off."""

    levels: Annotated[int, Field(ge=1, le=10)] = 3
    half_life_s: Annotated[float, Field(gt=0, le=3_600)] = 1.0
    entry_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.3
    exit_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.15
    entry: Literal["market", "passive"] = "market"
    entry_timeout_s: Annotated[float, Field(gt=0)] = 2.0
    entry_pause_s: Annotated[float, Field(ge=0)] = 1.0
    max_holding_s: Annotated[float, Field(ge=0)] = 30.0
    take_profit_ticks: Annotated[int, Field(ge=0)] = 6
    stop_loss_ticks: Annotated[int, Field(ge=0)] = 4


class ImbalanceRule:
    """Smoothed imbalance (bid - ask) / (bid + ask) of the best levels, -1 to 1.

    Exponential smoothing in market time (weight 1/2 after `half_life_s`), warm after two half-lives. A one-sided book says
    nothing and changes nothing.
    """

    def __init__(self, parameters: ImbalanceParameters) -> None:
        self._parameters = parameters
        self._first_ns: int | None = None
        self._last_ns = 0
        self.imbalance = 0.0
        self.is_warm = False

    def update(self, book: BookSnapshot) -> None:
        """Take one book."""
        bid, ask = sum(book.bid_sizes[: self._parameters.levels]), sum(book.ask_sizes[: self._parameters.levels])
        if not (book.bid_ticks and book.ask_ticks and bid + ask > 0):
            return
        if self._first_ns is None:
            self._first_ns = self._last_ns = book.ts_event
        half_lives = (book.ts_event - self._last_ns) / NS_PER_S / self._parameters.half_life_s
        self.imbalance += ((bid - ask) / (bid + ask) - self.imbalance) * (1 - 0.5**half_lives)
        self._last_ns = book.ts_event
        self.is_warm = book.ts_event - self._first_ns >= 2 * self._parameters.half_life_s * NS_PER_S

    def side(self) -> Side | None:
        """Return the side to enter on, or None."""
        if not self.is_warm or abs(self.imbalance) < self._parameters.entry_threshold:
            return None
        return Side.BUY if self.imbalance > 0 else Side.SELL

    def is_against(self, position_lots: int) -> bool:
        """Return whether the imbalance has turned against a position."""
        sign = 1 if position_lots > 0 else -1
        return self.is_warm and position_lots != 0 and -sign * self.imbalance >= self._parameters.exit_threshold


def exit_by_price_or_time(strategy: Strategy, parameters: ImbalanceParameters, book: BookSnapshot) -> str | None:
    """Return STOP_LOSS, TAKE_PROFIT or MAX_HOLDING when it is time to leave, measured at the price that leaving would get."""
    exit_side = book.bid_ticks if strategy.position_lots > 0 else book.ask_ticks
    if exit_side:
        sign = 1 if strategy.position_lots > 0 else -1
        gain_ticks = sign * (exit_side[0] - strategy.average_ticks)
        if 0 < parameters.stop_loss_ticks <= -gain_ticks:
            return "STOP_LOSS"
        if 0 < parameters.take_profit_ticks <= gain_ticks:
            return "TAKE_PROFIT"
    return "MAX_HOLDING" if 0 < parameters.max_holding_s <= strategy.position_age_s else None


def enter(strategy: Strategy, parameters: ImbalanceParameters, side: Side, quantity: int, decision_id: str) -> str:
    """Send the entry: at market, or resting at the best price of its own side. A turn of the position goes at market."""
    own_side = () if strategy.book is None else strategy.book.bid_ticks if side is Side.BUY else strategy.book.ask_ticks
    is_passive = parameters.entry == "passive" and own_side and strategy.position_lots == 0
    return strategy.submit(side, quantity, limit_ticks=own_side[0] if is_passive else None, decision_id=decision_id)


def cancel_stale_entries(strategy: Strategy, parameters: ImbalanceParameters) -> None:
    """Cancel resting entries that are older than `entry_timeout_s`."""
    for order in tuple(strategy.open_orders.values()):
        if order.limit_ticks is not None and strategy.order_age_s(order.client_order_id) >= parameters.entry_timeout_s:
            strategy.cancel(order.client_order_id)


class BookImbalanceStrategy(Strategy):
    """Enter with the imbalance when flat; leave when it turns, after a time, or at a gain or loss in ticks."""

    class Parameters(ImbalanceParameters):
        """`order_quantity` in lots; `allow_short`: whether to sell from flat."""

        order_quantity: Annotated[int, Field(ge=1)] = 1
        allow_short: bool = True

    parameters: Parameters
    rule: ImbalanceRule

    def on_start(self) -> None:
        """Start the rule cold."""
        self.rule = ImbalanceRule(self.parameters)

    def on_dom(self, update: DomUpdated) -> None:
        """Smooth, then leave or enter."""
        self.rule.update(update.book)
        cancel_stale_entries(self, self.parameters)
        if not self.is_book_sound or self.refused_age_s < self.parameters.entry_pause_s:
            return
        if self.position_lots != 0:
            self._leave(update.book)
        elif not self.open_orders and self.position_age_s >= self.parameters.entry_pause_s:
            self._enter()

    def _leave(self, book: BookSnapshot) -> None:
        reason = exit_by_price_or_time(self, self.parameters, book)
        if reason is None and self.rule.is_against(self.position_lots):
            reason = "IMBALANCE_TURNED"
        if reason is None or self.is_closing:
            return
        decision_id = self.next_decision_id()
        order_id = self.close(decision_id=decision_id)
        self.record_decision(Action.CLOSE, reason, decision_id=decision_id, client_order_ids=(order_id,) if order_id else ())
        self.log.info("Closing position: %s", reason)

    def _enter(self) -> None:
        side = self.rule.side()
        if side is None or (side is Side.SELL and not self.parameters.allow_short):
            return
        decision_id = self.next_decision_id()
        order_id = enter(self, self.parameters, side, self.parameters.order_quantity, decision_id)
        self.record_decision(Action(side.value), "IMBALANCE", decision_id=decision_id, client_order_ids=(order_id,))
        self.log.info("%s %d lots: imbalance %.2f", side, self.parameters.order_quantity, self.rule.imbalance)
