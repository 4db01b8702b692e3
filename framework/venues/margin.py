"""Margin at a venue: one account over all strategies, exact, which refuses what it does not cover and calls when it no longer does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from framework.config import PaperConfig
from framework.messages import BookSnapshot, SubmitOrder
from framework.model import Instrument, Side
from framework.trading.portfolio import Portfolio, Position
from framework.trading.records import MarginCalled
from framework.venues.matcher import OpenOrder
from framework.venues.port import Booked

ACCOUNT: Final = ""
ZERO: Final = Decimal(0)


class MarginAccount:
    """Cash, positions and fees of everybody here together, against what their lots need.

    Equity is `cash` with realized and open profit (at the mid of the last two-sided book, before that at cost) less fees. An order is
    covered if, with everything open of its side filled, the initial margin of all instruments is at most the equity, or if it does
    not raise that margin. When the maintenance margin of what is held is more than the equity, that is a margin call, until it no longer
    is. Nothing is liquidated.
    """

    def __init__(self, cash: Decimal, instruments: Iterable[Instrument], maintenance: Mapping[str, Decimal]) -> None:
        self._cash = cash
        self._initial = {one.instrument_id: one.margin_per_lot for one in instruments if one.margin_per_lot}
        self._maintenance = {name: maintenance.get(name, initial) for name, initial in self._initial.items()}
        self._portfolio = Portfolio({one.instrument_id: one for one in instruments})
        self._marks: dict[str, float] = {}
        self.is_called = False

    @staticmethod
    def of(settings: PaperConfig, instruments: Iterable[Instrument]) -> MarginAccount | None:
        """Return the account that the settings ask for, None without one."""
        if not settings.cash:
            return None
        maintenance = {name: margin.maintenance for name, margin in settings.margins.items()}
        return MarginAccount(settings.cash, with_margins(settings, instruments), maintenance)

    # --- what happens --------------------------------------------------------------------------------------------------------

    def restore(self, booked: Mapping[str, Booked]) -> None:
        """Take what was booked in runs before; an instrument that has traded in this one is left alone."""
        for instrument_id, one in booked.items():
            position = self._portfolio.book(ACCOUNT, instrument_id)
            if position == Position(position.instrument):
                position.quantity, position.open_cost, position.realized, position.fees = one

    def book(self, intent: SubmitOrder, quantity: int, price_ticks: int, fee: Decimal) -> None:
        """Book an execution."""
        self._portfolio.book(ACCOUNT, intent.instrument_id).apply(intent.side.sign * quantity, price_ticks, fee)

    def mark(self, book: BookSnapshot) -> None:
        """Take the market's price."""
        if book.bid_ticks and book.ask_ticks:
            self._marks[book.instrument_id] = (book.bid_ticks[0] + book.ask_ticks[0]) / 2

    def call(self, now_ns: int) -> MarginCalled | None:
        """Return the margin call that begins or ends now."""
        equity, maintenance = self.equity(), self.maintenance()
        is_short = maintenance > equity
        if is_short is self.is_called:
            return None
        self.is_called = is_short
        return MarginCalled(ts_event=now_ns, equity=equity, maintenance=maintenance, is_over=not is_short)

    # --- what it says --------------------------------------------------------------------------------------------------------

    def equity(self) -> Decimal:
        """Return cash with all profit less fees."""
        return sum((self._profit(name, one) for (_, name), one in self._portfolio.positions().items()), self._cash)

    def maintenance(self) -> Decimal:
        """Return what the lots that are held need."""
        return sum((need * abs(self._lots(name)) for name, need in self._maintenance.items()), ZERO)

    def refusal(self, order: SubmitOrder, quantity: int, others: Iterable[OpenOrder]) -> str:
        """Return why an order of so many lots is not covered beside the other open ones, empty if it is."""
        others = tuple(others)
        before = self._needed(order.instrument_id, others, None, 0)
        wanted = self._needed(order.instrument_id, others, order.side, quantity)
        if wanted <= before:
            return ""
        needed, equity = self._needed_elsewhere(order.instrument_id, others) + wanted, self.equity()
        return "" if needed <= equity else f"MARGIN initial={needed:.2f} equity={equity:.2f}"

    def reduces(self, order: OpenOrder) -> bool:
        """Return whether an open order is on the side that makes the account's position smaller, and no larger than that."""
        lots = self._lots(order.intent.instrument_id)
        return lots * order.side.sign < 0 and order.left <= abs(lots)

    # --- inside ----------------------------------------------------------------------------------------------------------------

    def _lots(self, instrument_id: str) -> int:
        return self._portfolio.position(ACCOUNT, instrument_id).quantity

    def _profit(self, instrument_id: str, position: Position) -> Decimal:
        mark = self._marks.get(instrument_id)
        return position.net_realized + (position.unrealized_pnl(mark) if mark is not None and position.quantity else ZERO)

    def _needed_elsewhere(self, instrument_id: str, others: tuple[OpenOrder, ...]) -> Decimal:
        return sum((self._needed(name, others, None, 0) for name in self._initial if name != instrument_id), ZERO)

    def _needed(self, instrument_id: str, others: tuple[OpenOrder, ...], side: Side | None, quantity: int) -> Decimal:
        """Return the initial margin of an instrument if everything open of the worse side fills."""
        waiting = {one: quantity if one is side else 0 for one in Side}
        for order in others:
            if order.intent.instrument_id == instrument_id:
                waiting[order.side] += order.left
        lots = self._lots(instrument_id)
        worst = max(abs(lots + waiting[Side.BUY]), abs(lots - waiting[Side.SELL]))
        return self._initial.get(instrument_id, ZERO) * worst


def with_margins(settings: PaperConfig, instruments: Iterable[Instrument]) -> tuple[Instrument, ...]:
    """Return instruments with the initial margins of the settings where those name them."""
    return tuple(
        msgspec.structs.replace(one, margin_per_lot=settings.margins[one.instrument_id].initial)
        if one.instrument_id in settings.margins
        else one
        for one in instruments
    )
