"""Positions and money, exact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Final

from framework.messages import ExecutionReport, Filled, PositionChanged, SubmitOrder
from framework.model import Instrument, Liquidity

MICRO: Final = 1_000_000
Key = tuple[str, str]
# Wide enough that no sum or product of prices, lots and fees is ever rounded; the default context keeps 28 digits.
_EXACT: Final = Context(prec=100)


@dataclass(slots=True)
class Position:
    """Net position of one strategy in one instrument.

    Money is kept in integer micro-ticks x lots, so nothing is ever lost to rounding: `realized` less the open cost is always
    minus the signed notional of all fills. A partial close takes the average cost of what it closes, rounded down to a
    micro-tick; the rest stays in the open cost and is realized with the last lot.
    """

    instrument: Instrument
    quantity: int = 0
    open_cost: int = 0
    realized: int = 0
    fees: Decimal = Decimal(0)
    _net: Decimal | None = None
    _micro_value: Decimal | None = None

    @property
    def average_ticks(self) -> float:
        """Return the average price of the open lots in ticks; 0 when flat."""
        return self.open_cost / self.quantity / MICRO if self.quantity else 0.0

    @property
    def realized_pnl(self) -> Decimal:
        """Return booked profit before fees."""
        return self._money(self.realized)

    @property
    def net_realized(self) -> Decimal:
        """Return booked profit after fees; worked out once after each fill, because the gate asks at every order."""
        if self._net is None:
            self._net = _EXACT.subtract(self.realized_pnl, self.fees)
        return self._net

    def unrealized_pnl(self, mark_ticks: float) -> Decimal:
        """Return profit of the open lots at a mark in ticks (half ticks are exact)."""
        return self._money(self.quantity * round(mark_ticks * MICRO) - self.open_cost)

    def apply(self, signed_quantity: int, price_ticks: int, fee: Decimal) -> None:
        """Book one fill."""
        self._net = None
        self.fees = _EXACT.add(self.fees, fee)
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
        if self._micro_value is None:
            instrument = self.instrument
            value = _EXACT.multiply(_EXACT.multiply(instrument.tick_size, instrument.multiplier), instrument.lot_size)
            self._micro_value = _EXACT.divide(value, Decimal(MICRO))
        return _EXACT.multiply(self._micro_value, Decimal(micro_tick_lots))


def fill_of(intent: SubmitOrder, report: ExecutionReport) -> Filled:
    """Return the execution that a report tells of, as an event of its order."""
    return Filled(
        client_order_id=intent.client_order_id,
        trade_id=report.trade_id,
        strategy_id=intent.strategy_id,
        instrument_id=intent.instrument_id,
        ts_event=report.ts_event,
        side=intent.side,
        quantity=report.last_quantity,
        price_ticks=report.last_ticks,
        fee=report.fee,
        liquidity=report.liquidity or Liquidity.TAKER,
        decision_id=intent.decision_id,
    )


class Portfolio:
    """Positions by strategy and instrument; the account in an instrument is the sum over strategies.

    Fills in instruments that this market does not have (of a run on another feed) are booked all the same, and shown again when
    their market is back.
    """

    def __init__(self, instruments: dict[str, Instrument]) -> None:
        self._instruments = dict(instruments)
        self._known = set(instruments)
        self._positions: dict[Key, Position] = {}
        self._net: Counter[str] = Counter()
        self.version = 0
        """Goes up with every change of a position."""

    def learn(self, instruments: Iterable[Instrument]) -> None:
        """Take the facts of instruments that other runs traded, so that their money can be counted."""
        for instrument in instruments:
            self._instruments.setdefault(instrument.instrument_id, instrument)

    def instrument(self, instrument_id: str) -> Instrument:
        """Return the facts of an instrument. Raises `KeyError` for one that nobody told of."""
        return self._instruments[instrument_id]

    def position(self, strategy_id: str, instrument_id: str) -> Position:
        """Return the position, a flat one if there never was a fill. Raises `KeyError` for an unknown instrument."""
        found = self._positions.get((strategy_id, instrument_id))
        return found if found is not None else Position(self._instruments[instrument_id])

    def positions(self) -> dict[Key, Position]:
        """Return all positions of this market that ever had a fill, by (strategy, instrument)."""
        return {key: position for key, position in self._positions.items() if key[1] in self._known}

    def everything(self) -> dict[Key, Position]:
        """Return all positions, also those in instruments of other markets."""
        return dict(self._positions)

    def restore(self, positions: dict[Key, Position]) -> None:
        """Take positions as they were; those of before are forgotten."""
        self.version += 1
        self._positions = dict(positions)
        self._net = Counter()
        for (_, instrument_id), position in positions.items():
            self._net[instrument_id] += position.quantity

    def net(self, instrument_id: str) -> int:
        """Return the position of all strategies together."""
        return self._net[instrument_id]

    def account(self, instrument_id: str) -> Position:
        """Return a sum over all strategies: net quantity, cost of what is open, money and fees, exact like each of them."""
        total = Position(self._instruments[instrument_id])
        for (_, own), position in self._positions.items():
            if own == instrument_id:
                total.quantity += position.quantity
                total.open_cost += position.open_cost
                total.realized += position.realized
                total.fees = _EXACT.add(total.fees, position.fees)
        return total

    def book(self, strategy_id: str, instrument_id: str) -> Position:
        """Return the position to book a fill on, a fresh one where there was none."""
        key = (strategy_id, instrument_id)
        found = self._positions.get(key)
        if found is None:
            instrument = self._instruments.setdefault(instrument_id, Instrument(instrument_id=instrument_id, tick_size=Decimal(1)))
            found = self._positions[key] = Position(instrument)
            self.version += 1
        return found

    def apply(self, fill: Filled) -> PositionChanged:
        """Book a fill and return the new position."""
        self.version += 1
        position = self.book(fill.strategy_id, fill.instrument_id)
        signed = fill.side.sign * fill.quantity
        position.apply(signed, fill.price_ticks, fill.fee)
        self._net[fill.instrument_id] += signed
        return PositionChanged(
            strategy_id=fill.strategy_id,
            instrument_id=fill.instrument_id,
            ts_event=fill.ts_event,
            quantity=position.quantity,
            average_ticks=position.average_ticks,
            realized_pnl=position.realized_pnl,
            fees=position.fees,
        )
