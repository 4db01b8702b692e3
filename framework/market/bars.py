"""Bars from trade ticks, or from mids where a feed has no trades."""

from __future__ import annotations

from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.messages import Bar, BookSnapshot, Message, SessionChanged, TradeTick
from framework.model import NS_PER_S, Instrument, Side


class BarBuilder(Actor):
    """Publish a `Bar` per interval in which something happened.

    Intervals are aligned to the clock (a 1-s bar ends on the full second). A bar is published with the first event after its
    end, at the end's time stamp; intervals without an event have none. A session break drops what was begun.
    """

    def __init__(self, bus: EventBus, instrument: Instrument, *, interval_s: float = 1.0) -> None:
        super().__init__(f"bars:{instrument.instrument_id}")
        self._bus = bus
        self._instrument = instrument
        self._interval_s = interval_s
        self._interval_ns = round(interval_s * NS_PER_S)
        self._end_ns = 0
        self._ohlc: list[int] = []
        self._volumes = {Side.BUY: 0, Side.SELL: 0, None: 0}

    def on_start(self) -> None:
        """Subscribe to what bars are made of."""
        source = TradeTick if self._instrument.has_trades else BookSnapshot
        for message_type in (source, SessionChanged):
            self._bus.subscribe(self.name, message_type, self._instrument.instrument_id)

    def handle(self, message: Message) -> None:
        """Take a trade tick, a book or the end of a session."""
        match message:
            case TradeTick():
                self._take(message.ts_event, message.price_ticks)
                self._volumes[message.aggressor] += message.size
            case BookSnapshot() if message.bid_ticks and message.ask_ticks:
                self._take(message.ts_event, (message.bid_ticks[0] + message.ask_ticks[0]) // 2)
            case SessionChanged():
                self._reset()

    def _take(self, ts_event: int, ticks: int) -> None:
        if self._ohlc and ts_event >= self._end_ns:
            self._publish()
        if not self._ohlc:
            self._end_ns = (ts_event // self._interval_ns + 1) * self._interval_ns
            self._ohlc = [ticks, ticks, ticks, ticks]
        self._ohlc[1] = max(self._ohlc[1], ticks)
        self._ohlc[2] = min(self._ohlc[2], ticks)
        self._ohlc[3] = ticks

    def _publish(self) -> None:
        open_ticks, high_ticks, low_ticks, close_ticks = self._ohlc
        bar = Bar(
            instrument_id=self._instrument.instrument_id,
            ts_event=self._end_ns,
            interval_s=self._interval_s,
            open_ticks=open_ticks,
            high_ticks=high_ticks,
            low_ticks=low_ticks,
            close_ticks=close_ticks,
            volume=sum(self._volumes.values()),
            buy_volume=self._volumes[Side.BUY],
            sell_volume=self._volumes[Side.SELL],
        )
        self._reset()
        self._bus.publish(bar)

    def _reset(self) -> None:
        self._ohlc = []
        self._volumes = {Side.BUY: 0, Side.SELL: 0, None: 0}
