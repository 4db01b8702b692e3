"""What the gate sees (`RiskView`): the blotter, the market, and whether anything forbids new risk altogether."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from framework.messages import BookInvalid, BookRecovered, BookSnapshot, Seen, SessionChanged, SubmitOrder, TradeTick
from framework.model import Instrument, Side, TradingState
from framework.trading.blotter import Blotter, worth
from framework.trading.journal import Journal
from framework.trading.risk.view import Loss, Tick

ZERO = Decimal(0)


class Sight:
    """State as the gate reads it, at the instant of a check. Market events come in through `on_...`."""

    def __init__(self, blotter: Blotter, journal: Journal, instruments: dict[str, Instrument], is_killed: Callable[[], bool]) -> None:
        self._blotter = blotter
        self._journal = journal
        self._instruments = instruments
        self._tick_values = {name: one.tick_value for name, one in instruments.items()}
        self._is_killed = is_killed
        self._books: dict[str, BookSnapshot] = {}
        self._last_books: dict[str, BookSnapshot] = {}
        self._invalid: set[str] = set()
        self._trades: dict[str, Tick] = {}
        self._closed_sessions: set[str] = set()
        self.unready: dict[str, str] = {}

    # --- the market ----------------------------------------------------------------------------------------------------------

    def on_book(self, book: BookSnapshot) -> None:
        """Take a book."""
        self._last_books[book.instrument_id] = book
        # Books wait in the data lane, so one from before the bad spell can be handled after the word that it began.
        if book.instrument_id not in self._invalid:
            self._books[book.instrument_id] = book
            self._blotter.held.on_book(book)
        if book.bid_ticks and book.ask_ticks:
            self._blotter.losses.on_mid(book.instrument_id, (book.bid_ticks[0] + book.ask_ticks[0]) / 2)

    def on_invalid(self, event: BookInvalid) -> None:
        """Trust no book until `on_recovered`."""
        self._invalid.add(event.instrument_id)
        self._books.pop(event.instrument_id, None)

    def on_recovered(self, event: BookRecovered) -> None:
        """Trust the books that come."""
        self._invalid.discard(event.instrument_id)

    def on_trade(self, tick: TradeTick) -> None:
        """Take a public trade."""
        self._trades[tick.instrument_id] = Tick(tick.price_ticks, tick.ts_event)
        self._blotter.held.on_trade(tick)

    def on_session(self, session: SessionChanged) -> None:
        """Take whether trading is open."""
        if session.is_open:
            self._closed_sessions.discard(session.instrument_id)
        else:
            self._closed_sessions.add(session.instrument_id)

    def last_book(self, instrument_id: str) -> BookSnapshot | None:
        """Return the last sound book, also while the present one is not."""
        return self._last_books.get(instrument_id)

    def seen(self, order: SubmitOrder) -> Seen:
        """Return what an order is let out on, for the journal."""
        instrument_id, book = order.instrument_id, self._books.get(order.instrument_id)
        position = self.position(order.strategy_id, instrument_id)
        waiting = self.open_quantity(order.strategy_id, instrument_id, order.side)
        if book is None:
            return Seen(None, 0, None, 0, 0, 0, position, waiting)
        bid_ticks, bid_lots = (book.bid_ticks[0], book.bid_sizes[0]) if book.bid_ticks else (None, 0)
        ask_ticks, ask_lots = (book.ask_ticks[0], book.ask_sizes[0]) if book.ask_ticks else (None, 0)
        return Seen(bid_ticks, bid_lots, ask_ticks, ask_lots, book.ts_event, book.sequence, position, waiting)

    # --- RiskView ------------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> TradingState:
        """Return the trading state."""
        return self._blotter.state

    def is_killed(self) -> bool:
        """Return whether the kill switch was set from outside."""
        return self._is_killed()

    def why_not_ready(self) -> str:
        """Return the first reason why nothing may go yet."""
        return next(iter(self.unready.values()), "")

    def is_journal_healthy(self) -> bool:
        """Return whether intents can be made durable."""
        return self._journal.is_healthy

    def knows(self, instrument_id: str) -> bool:
        """Return whether the instrument trades here."""
        return instrument_id in self._instruments

    def is_session_open(self, instrument_id: str) -> bool:
        """Return whether the feed has not said that it is closed."""
        return instrument_id not in self._closed_sessions

    def is_known_order(self, client_order_id: str) -> bool:
        """Return whether this id was ever used."""
        return self._blotter.is_known(client_order_id)

    def open_intent(self, client_order_id: str) -> SubmitOrder | None:
        """Return what was asked for with an open order."""
        order = self._blotter.open.get(client_order_id)
        return None if order is None else order.intent

    def book(self, instrument_id: str) -> BookSnapshot | None:
        """Return the last book, or None while it is unsound."""
        return self._books.get(instrument_id)

    def last_trade(self, instrument_id: str) -> Tick | None:
        """Return the last public trade."""
        return self._trades.get(instrument_id)

    def contract_value(self, instrument_id: str, price_ticks: float) -> Decimal:
        """Return the money that one lot is worth at a price."""
        if isinstance(price_ticks, int):
            return self._tick_values[instrument_id] * abs(price_ticks)
        return worth(self._instruments[instrument_id], price_ticks)

    def position(self, strategy_id: str | None, instrument_id: str) -> int:
        """Return the signed position of a strategy or of all."""
        if strategy_id is None:
            return self._blotter.portfolio.net(instrument_id)
        return self._blotter.portfolio.position(strategy_id, instrument_id).quantity

    def open_quantity(self, strategy_id: str | None, instrument_id: str, side: Side) -> int:
        """Return what open orders of one side may still fill."""
        return self._blotter.exposure.open_quantity(strategy_id, instrument_id, side)

    def open_order_count(self, strategy_id: str | None, instrument_id: str | None) -> int:
        """Return how many orders are open."""
        return self._blotter.exposure.open_order_count(strategy_id, instrument_id)

    def best_resting(self, instrument_id: str, side: Side) -> int | None:
        """Return the best price of our own resting orders of one side."""
        return self._blotter.exposure.best_resting(instrument_id, side)

    def gross_notional(self, without: str) -> Decimal:
        """Return the money in all other instruments, at its worst."""
        return sum((self._worst(instrument) for name, instrument in self._instruments.items() if name != without), ZERO)

    def margin_per_lot(self, instrument_id: str) -> Decimal:
        """Return the money that the venue wants for each open lot."""
        return self._instruments[instrument_id].margin_per_lot

    def margin(self, without: str, share: Decimal) -> Decimal:
        """Return the margin of all other instruments, at its worst."""
        return sum((self._margin(instrument, share) for name, instrument in self._instruments.items() if name != without), ZERO)

    def equity(self) -> Decimal:
        """Return realized and open profit of the account less fees."""
        return self._blotter.losses.equity()

    def loss(self, strategy_id: str | None, instrument_id: str | None) -> Loss:
        """Return how a scope has done."""
        return self._blotter.losses.loss((strategy_id, instrument_id))

    def _worst_lots(self, instrument_id: str) -> int:
        exposure, lots = self._blotter.exposure, self._blotter.portfolio.net(instrument_id)
        buys, sells = (exposure.open_quantity(None, instrument_id, side) for side in (Side.BUY, Side.SELL))
        return max(abs(lots + buys), abs(lots - sells))

    def _worst(self, instrument: Instrument) -> Decimal:
        name, worst = instrument.instrument_id, self._worst_lots(instrument.instrument_id)
        if not worst:
            return ZERO
        book = self._last_books.get(name)
        mark = (book.bid_ticks[0] + book.ask_ticks[0]) / 2 if book and book.bid_ticks and book.ask_ticks else self._cost(name)
        return worth(instrument, mark) * worst

    def _margin(self, instrument: Instrument, share: Decimal) -> Decimal:
        if instrument.margin_per_lot:
            return instrument.margin_per_lot * self._worst_lots(instrument.instrument_id)
        return self._worst(instrument) * share

    def _cost(self, instrument_id: str) -> float:
        return self._blotter.portfolio.account(instrument_id).average_ticks
