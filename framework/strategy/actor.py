"""`StrategyActor`: runs one strategy on the bus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from framework.kernel.actor import Actor
from framework.messages import (
    Bar,
    BookInvalid,
    BookRecovered,
    DomUpdated,
    Filled,
    Message,
    OrderUpdated,
    PositionChanged,
    PredictionFailed,
    PredictionReceived,
    SessionChanged,
    TradeTick,
)
from framework.strategy.base import Strategy

SUBSCRIPTIONS: Final[tuple[type[Message], ...]] = (
    DomUpdated,
    OrderUpdated,
    PositionChanged,
    Filled,
    BookInvalid,
    BookRecovered,
    SessionChanged,
)
ON_DEMAND: Final[dict[type[Message], str]] = {TradeTick: "on_trade_tick", Bar: "on_bar"}
"""Messages that are frequent and change no state: subscribed to only if the strategy overrides the hook."""


def overrides(strategy_class: type[Strategy], hook: str) -> bool:
    """Return whether a strategy listens: it has a hook of its own."""
    return getattr(strategy_class, hook) is not getattr(Strategy, hook)


class StrategyActor(Actor):
    """Deliver the messages of a strategy's instrument to its hooks, its own orders, fills and positions only.

    State (`book`, `position_lots`, `open_orders`) is applied before the hook runs. What a hook raises goes up to the bus.
    """

    def __init__(self, strategy: Strategy) -> None:
        super().__init__(strategy.strategy_id)
        self.strategy = strategy
        self._handlers: dict[type[Message], Callable[[Any], None]] = {
            DomUpdated: self._on_dom,
            TradeTick: strategy.on_trade_tick,
            Bar: strategy.on_bar,
            PredictionReceived: self._on_prediction,
            PredictionFailed: strategy.on_prediction_failed,
            OrderUpdated: self._on_order,
            Filled: self._on_fill,
            PositionChanged: self._on_position,
            BookInvalid: self._on_book_invalid,
            BookRecovered: self._on_book_recovered,
            SessionChanged: strategy.on_session,
        }

    def on_start(self) -> None:
        """Subscribe, then start the strategy."""
        bus, instrument_id = self.strategy.context.bus, self.strategy.instrument.instrument_id
        overridden = [kind for kind, hook in ON_DEMAND.items() if overrides(type(self.strategy), hook)]
        for message_type in (*SUBSCRIPTIONS, *overridden):
            bus.subscribe(self.name, message_type, instrument_id)
        self.strategy.on_start()

    def handle(self, message: Message) -> None:
        """Apply one message and call its hook. Raises whatever the hook raises."""
        self._handlers[type(message)](message)

    def on_stop(self) -> None:
        """Stop the strategy; an outcome that is still to come is dropped."""
        if self.strategy.context.analyzer is not None:
            self.strategy.context.analyzer.stop()
        self.strategy.on_stop()

    def _on_dom(self, update: DomUpdated) -> None:
        self.strategy.apply_book(update.book)
        self.strategy.on_dom(update)

    def _on_prediction(self, received: PredictionReceived) -> None:
        self.strategy.on_prediction(received.prediction)

    def _on_order(self, order: OrderUpdated) -> None:
        if order.strategy_id == self.name:
            self.strategy.apply_order(order)
            self.strategy.on_order(order)

    def _on_fill(self, fill: Filled) -> None:
        if fill.strategy_id == self.name:
            self.strategy.on_fill(fill)

    def _on_position(self, position: PositionChanged) -> None:
        if position.strategy_id == self.name:
            self.strategy.apply_position(position)
            self.strategy.on_position(position)

    def _on_book_invalid(self, event: BookInvalid) -> None:
        self.strategy.apply_soundness(is_sound=False)
        self.strategy.on_book_invalid(event)

    def _on_book_recovered(self, event: BookRecovered) -> None:
        self.strategy.apply_soundness(is_sound=True)
        self.strategy.on_book_recovered(event)
