"""The gate for market data: what is unsound is counted and announced, never passed on and never repaired."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from framework.clock import Clock, Timer
from framework.kernel.bus import EventBus
from framework.messages import Bar, BookInvalid, BookRecovered, BookSnapshot, MarketEvent, SessionChanged, TradeTick
from framework.model import NS_PER_S, Instrument
from framework.window import LEVELS


class _Stream:
    """What is known about one instrument's stream."""

    __slots__ = ("checked_ns", "gap_ns", "instrument", "is_open", "is_sound", "last_ns", "sequence", "timer")

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.gap_ns = round(instrument.session_gap_s * NS_PER_S)
        self.is_sound = True
        self.is_open = True
        self.last_ns = -1
        self.sequence = -1
        self.checked_ns = 0
        self.timer: Timer | None = None


class MarketData:
    """Check every event of a feed, hand the sound ones to `listeners` (the venue matches first), then publish them.

    A book that is crossed, locked, unsorted, deeper than 10 levels, with a size below 1, out of order or from an unknown
    instrument is counted by reason and goes no further. The first of a bad spell publishes `BookInvalid`, the next sound
    book `BookRecovered`. A repeated sequence is ignored and counted. A pause longer than the instrument's `session_gap_s`
    closes and opens the session; no book for `stale_after_s` within an open session is `BookInvalid` ("stale").
    """

    def __init__(
        self,
        bus: EventBus,
        clock: Clock,
        instruments: Iterable[Instrument],
        listeners: Sequence[Callable[[MarketEvent], None]] = (),
        *,
        stale_after_s: float = 5.0,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._streams = {instrument.instrument_id: _Stream(instrument) for instrument in instruments}
        self._listeners = tuple(listeners)
        self._stale_after_ns = round(stale_after_s * NS_PER_S)
        self._accept: Final[dict[type, Callable[[Any, _Stream], None]]] = {
            BookSnapshot: self._on_book,
            TradeTick: self._on_trade,
            SessionChanged: self._on_session,
            Bar: lambda event, _: self._pass_on(event),
        }
        self.events = 0
        self.refused: Counter[str] = Counter()

    def is_sound(self, instrument_id: str) -> bool:
        """Return whether the last book of the instrument was sound and is not stale."""
        stream = self._streams.get(instrument_id)
        return stream is not None and stream.is_sound and stream.is_open

    def accept(self, event: MarketEvent) -> None:
        """Take one event of the feed."""
        self.events += 1
        stream = self._streams.get(event.instrument_id)
        if stream is None:
            self.refused["unknown instrument"] += 1
            return
        self._accept[type(event)](event, stream)

    def _on_book(self, book: BookSnapshot, stream: _Stream) -> None:
        if book.sequence == stream.sequence:
            self.refused["repeated"] += 1
            return
        defect = book_defect(book) or _order_defect(book, stream)
        if defect:
            self._refuse(book, stream, defect)
            return
        if stream.last_ns >= 0 and book.ts_event - stream.last_ns > stream.gap_ns:
            self._announce_gap(book, stream)
        stream.sequence, stream.last_ns = book.sequence, book.ts_event
        if not stream.is_sound:
            stream.is_sound = True
            self._bus.publish(BookRecovered(instrument_id=book.instrument_id, ts_event=book.ts_event))
        if stream.timer is None:
            self._watch(stream)
        self._pass_on(book)

    def _on_trade(self, tick: TradeTick, stream: _Stream) -> None:
        if tick.size < 1:
            self.refused["trade size"] += 1
        elif stream.is_sound:
            self._pass_on(tick)
        else:
            self.refused["trade without a sound book"] += 1

    def _on_session(self, session: SessionChanged, stream: _Stream) -> None:
        stream.is_open = session.is_open
        stream.last_ns = -1
        self._pass_on(session)

    def _pass_on(self, event: MarketEvent) -> None:
        for listener in self._listeners:
            listener(event)
        self._bus.publish(event)

    def _refuse(self, book: BookSnapshot, stream: _Stream, defect: str) -> None:
        self.refused[defect] += 1
        if stream.is_sound:
            stream.is_sound = False
            self._bus.publish(BookInvalid(instrument_id=book.instrument_id, ts_event=self._clock.now_ns(), reason=defect))

    def _announce_gap(self, book: BookSnapshot, stream: _Stream) -> None:
        for is_open, ts_event in ((False, stream.last_ns), (True, book.ts_event)):
            self._pass_on(SessionChanged(instrument_id=book.instrument_id, ts_event=ts_event, is_open=is_open, reason="gap"))

    def _watch(self, stream: _Stream) -> None:
        when_ns = max(stream.last_ns, self._clock.now_ns()) + self._stale_after_ns
        stream.timer = self._clock.call_at(when_ns, lambda: self._check_stale(stream))

    def _check_stale(self, stream: _Stream) -> None:
        # One lazy timer per instrument: it looks at the last book when it fires, instead of being set anew by each.
        stream.timer = None
        if stream.last_ns < 0 or not stream.is_open:
            return
        if self._clock.now_ns() - stream.last_ns < self._stale_after_ns:
            self._watch(stream)
        elif stream.is_sound:
            stream.is_sound = False
            self.refused["stale"] += 1
            now_ns = self._clock.now_ns()
            self._bus.publish(BookInvalid(instrument_id=stream.instrument.instrument_id, ts_event=now_ns, reason="stale"))


def book_defect(book: BookSnapshot) -> str:
    """Return what is wrong with a book by itself, or an empty string."""
    bids, asks = book.bid_ticks, book.ask_ticks
    if bids and asks and bids[0] >= asks[0]:
        return "crossed" if bids[0] > asks[0] else "locked"
    if len(bids) != len(book.bid_sizes) or len(asks) != len(book.ask_sizes) or max(len(bids), len(asks)) > LEVELS:
        return "levels"
    if (book.bid_sizes and min(book.bid_sizes) < 1) or (book.ask_sizes and min(book.ask_sizes) < 1):
        return "size"
    if any([better <= worse for better, worse in itertools.pairwise(bids)]):
        return "unsorted"
    if any([better >= worse for better, worse in itertools.pairwise(asks)]):
        return "unsorted"
    return ""


def _order_defect(book: BookSnapshot, stream: _Stream) -> str:
    if book.sequence < stream.sequence:
        return "sequence backwards"
    return "time backwards" if book.ts_event < stream.last_ns else ""
