"""Bars: open, high, low, close and volume of an interval, from trade ticks or, where a feed has none, from mids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from framework.clock import Clock, Timer
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.messages import Bar, BookSnapshot, Message, SessionChanged, TradeTick
from framework.model import NS_PER_S, Instrument, Side


class BarBuilder(Actor):
    """Build the bars of one instrument and publish each when its interval is over in market time.

    Intervals start at whole multiples of `interval_s` since the epoch; an event at the very end belongs to the next one. An interval
    without a trade (a two-sided book, for mids) has no bar. A print that comes late counts into the bar of its arrival.
    Mids between two ticks are rounded down.
    """

    def __init__(self, bus: EventBus, clock: Clock, instrument: Instrument, *, interval_s: float = 1.0) -> None:
        super().__init__(f"bars:{instrument.instrument_id}")
        self._bus = bus
        self._clock = clock
        self._instrument = instrument
        self._interval_s = interval_s
        self._interval_ns = round(interval_s * NS_PER_S)
        self._timer: Timer | None = None
        self._end_ns = 0
        self._prices: list[int] | None = None  # open, high, low, close of the interval that runs
        self._volume = 0
        self._buy_volume = 0
        self._sell_volume = 0
        self._handlers: dict[type[Message], Callable[[Any], None]] = {
            TradeTick if instrument.has_trades else BookSnapshot: self._on_trade if instrument.has_trades else self._on_book,
            SessionChanged: self._on_session,
        }

    def on_start(self) -> None:
        """Subscribe to what the bars are made of."""
        for message_type in self._handlers:
            self._bus.subscribe(self.name, message_type, self._instrument.instrument_id)

    def on_stop(self) -> None:
        """Forget the interval that runs: half a bar is no bar."""
        if self._timer is not None:
            self._timer.cancel()
        self._prices = None

    def handle(self, message: Message) -> None:
        """Count the message into the interval that runs."""
        self._handlers[type(message)](message)

    def _on_trade(self, trade: TradeTick) -> None:
        self._add(trade.ts_event, trade.price_ticks)
        self._volume += trade.size
        if trade.aggressor is Side.BUY:
            self._buy_volume += trade.size
        elif trade.aggressor is Side.SELL:
            self._sell_volume += trade.size

    def _on_book(self, book: BookSnapshot) -> None:
        if book.bid_ticks and book.ask_ticks:
            self._add(book.ts_event, (book.bid_ticks[0] + book.ask_ticks[0]) // 2)

    def _on_session(self, change: SessionChanged) -> None:
        if not change.is_open:
            self._emit()

    def _add(self, ts_event: int, price: int) -> None:
        if ts_event >= self._end_ns:
            self._emit()
        if self._prices is None:
            self._begin(ts_event, price)
            return
        prices = self._prices
        prices[1] = max(prices[1], price)
        prices[2] = min(prices[2], price)
        prices[3] = price

    def _begin(self, ts_event: int, price: int) -> None:
        self._prices = [price] * 4
        self._volume = self._buy_volume = self._sell_volume = 0
        # What comes late, after the interval of its time was published, begins the next one.
        self._end_ns = (max(ts_event, self._end_ns) // self._interval_ns + 1) * self._interval_ns
        self._timer = self._clock.call_at(self._end_ns, self._emit)

    def _emit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._prices is None:
            return
        open_ticks, high_ticks, low_ticks, close_ticks = self._prices
        self._prices = None
        self._bus.publish(
            Bar(
                instrument_id=self._instrument.instrument_id,
                ts_event=self._end_ns,
                interval_s=self._interval_s,
                open_ticks=open_ticks,
                high_ticks=high_ticks,
                low_ticks=low_ticks,
                close_ticks=close_ticks,
                volume=self._volume,
                buy_volume=self._buy_volume,
                sell_volume=self._sell_volume,
            )
        )
