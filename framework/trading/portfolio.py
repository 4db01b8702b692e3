"""Positions and money, exact."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from framework.messages import Filled, PositionChanged
from framework.model import Instrument

MICRO: Final = 1_000_000
Key = tuple[str, str]


@dataclass(slots=True)
class Position:
    """Net position of one strategy in one instrument.

    Money is kept in integer micro-ticks x lots, so nothing is ever lost to rounding: `realized` plus the open cost is always
    minus the signed notional of all fills. A partial close takes the average cost of what it closes, rounded down to a
    micro-tick; the rest stays in the open cost and is realized with the last lot.
    """

    instrument: Instrument
    quantity: int = 0
    open_cost: int = 0
    realized: int = 0
    fees: Decimal = Decimal(0)

    @property
    def average_ticks(self) -> float:
        """Return the average price of the open lots in ticks; 0 when flat."""
        return self.open_cost / self.quantity / MICRO if self.quantity else 0.0

    @property
    def realized_pnl(self) -> Decimal:
        """Return booked profit before fees."""
        return self._money(self.realized)

    def unrealized_pnl(self, mark_ticks: float) -> Decimal:
        """Return profit of the open lots at a mark in ticks (half ticks are exact)."""
        return self._money(self.quantity * round(mark_ticks * MICRO) - self.open_cost)

    def apply(self, signed_quantity: int, price_ticks: int, fee: Decimal) -> None:
        """Book one fill."""
        self.fees += fee
        closing = 0
        if self.quantity * signed_quantity < 0:
            closing = min(abs(self.quantity), abs(signed_quantity)) * (1 if signed_quantity > 0 else -1)
            cost = -(self.open_cost * abs(closing) // abs(self.quantity))
            self.realized += -closing * price_ticks * MICRO + cost
            self.open_cost += cost
            self.quantity += closing
        opening = signed_quantity - closing
        self.quantity += opening
        self.open_cost += opening * price_ticks * MICRO

    def _money(self, micro_tick_lots: int) -> Decimal:
        return self.instrument.tick_value * micro_tick_lots / MICRO


class Portfolio:
    """Positions by strategy and instrument; the account's position in an instrument is the sum over strategies."""

    def __init__(self, instruments: dict[str, Instrument]) -> None:
        self._instruments = instruments
        self._positions: dict[Key, Position] = {}

    def position(self, strategy_id: str, instrument_id: str) -> Position:
        """Return the position, flat if there never was a fill. Raises `KeyError` for an unknown instrument."""
        key = (strategy_id, instrument_id)
        if key not in self._positions:
            self._positions[key] = Position(self._instruments[instrument_id])
        return self._positions[key]

    def positions(self) -> dict[Key, Position]:
        """Return all positions that ever had a fill, by (strategy, instrument)."""
        return dict(self._positions)

    def account_quantity(self, instrument_id: str) -> int:
        """Return the net position of all strategies in an instrument."""
        return sum(position.quantity for (_, own), position in self._positions.items() if own == instrument_id)

    def apply(self, fill: Filled) -> PositionChanged:
        """Book a fill and return the new position."""
        position = self.position(fill.strategy_id, fill.instrument_id)
        position.apply(fill.side.sign * fill.quantity, fill.price_ticks, fill.fee)
        return PositionChanged(
            strategy_id=fill.strategy_id,
            instrument_id=fill.instrument_id,
            ts_event=fill.ts_event,
            quantity=position.quantity,
            average_ticks=position.average_ticks,
            realized_pnl=position.realized_pnl,
            fees=position.fees,
        )
