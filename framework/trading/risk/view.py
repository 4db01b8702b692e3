"""What the gate may look at: state of Execution, read at the instant of the check. None for a name means all of them."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple, Protocol

from framework.messages import BookSnapshot, SubmitOrder
from framework.model import Side, TradingState


class Tick(NamedTuple):
    """A price and when it was."""

    price_ticks: int
    ts_event: int


class Loss(NamedTuple):
    """How a scope has done, in money: since the day began, since its best, and losing trades and fills in a row."""

    day: Decimal
    drawdown: Decimal
    losses_in_a_row: int
    fills_unattended: int


class RiskView(Protocol):
    """State that the gate decides on."""

    @property
    def state(self) -> TradingState:
        """Return the trading state."""

    def is_killed(self) -> bool:
        """Return whether somebody set the kill switch from outside: true at once, whatever the loop is doing."""

    def why_not_ready(self) -> str:
        """Return what has to happen before any order may go (reconciliation, a clock that is off), or nothing."""

    def is_journal_healthy(self) -> bool:
        """Return whether intents can be made durable."""

    def knows(self, instrument_id: str) -> bool:
        """Return whether the instrument exists and trades here."""

    def is_session_open(self, instrument_id: str) -> bool:
        """Return whether its session is open, as far as the feed has said."""

    def is_known_order(self, client_order_id: str) -> bool:
        """Return whether this id was ever used."""

    def open_intent(self, client_order_id: str) -> SubmitOrder | None:
        """Return what was asked for with an order that is open, None if it is not."""

    def book(self, instrument_id: str) -> BookSnapshot | None:
        """Return the last book, or None while it is unsound."""

    def last_trade(self, instrument_id: str) -> Tick | None:
        """Return the last public trade, or None."""

    def contract_value(self, instrument_id: str, price_ticks: float) -> Decimal:
        """Return the money that one lot is worth at a price, never below zero."""

    def position(self, strategy_id: str | None, instrument_id: str) -> int:
        """Return the signed position of a strategy, or of all of them."""

    def open_quantity(self, strategy_id: str | None, instrument_id: str, side: Side) -> int:
        """Return what open orders of one side may still fill, UNKNOWN ones included at their worst."""

    def open_order_count(self, strategy_id: str | None, instrument_id: str | None) -> int:
        """Return how many orders are open."""

    def best_resting(self, instrument_id: str, side: Side) -> int | None:
        """Return the best price of our own open orders of one side, over all strategies; None where there is none."""

    def gross_notional(self, without: str) -> Decimal:
        """Return the money in all instruments but one: position and open orders at their worst."""

    def margin_per_lot(self, instrument_id: str) -> Decimal:
        """Return the money that the venue wants for each open lot, 0 where it names none."""

    def margin(self, without: str, share: Decimal) -> Decimal:
        """Return the margin of all instruments but one at their worst: by lots where the venue names one, else that share of the money."""

    def equity(self) -> Decimal:
        """Return realized and open profit of the account less fees."""

    def loss(self, strategy_id: str | None, instrument_id: str | None) -> Loss:
        """Return how a scope has done."""
