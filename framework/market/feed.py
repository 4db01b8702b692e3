"""Feeds: streams of market events that schedule themselves on the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from framework.clock import Clock, Timer
from framework.messages import MarketEvent
from framework.model import Instrument


class Feed(Protocol):
    """A stream of market events. Lives on the clock it is started with; never blocks."""

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return the instruments whose events it brings."""

    @property
    def start_ns(self) -> int:
        """Return the market time just before its first event."""

    @property
    def progress(self) -> float:
        """Return how much of it is done, 0 to 1, or nan where nobody knows."""

    def start(self, clock: Clock, sink: Callable[[MarketEvent], None], on_end: Callable[[], None]) -> None:
        """Begin: events go to `sink` at their market time, `on_end` is called after the last one."""

    def stop(self) -> None:
        """End: no further event."""


class ReplayFeed:
    """Events in time order from an iterator that reads lazily; events of one time stamp arrive in one timer.

    Market time is the events' `ts_recv` (when we could have known), which must not run backwards in `events`.
    """

    def __init__(self, instruments: tuple[Instrument, ...], events: Iterator[MarketEvent], *, total_events: int | None = None) -> None:
        self._instruments = instruments
        self._events = events
        self._total_events = total_events
        self._seen = 0
        self._timer: Timer | None = None
        self._pending = next(events, None)

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return the instruments of the recording."""
        return self._instruments

    @property
    def start_ns(self) -> int:
        """Return the time of the first event."""
        return 0 if self._pending is None else arrival_ns(self._pending)

    @property
    def progress(self) -> float:
        """Return the share of events that were played, or nan."""
        return self._seen / self._total_events if self._total_events else float("nan")

    def start(self, clock: Clock, sink: Callable[[MarketEvent], None], on_end: Callable[[], None]) -> None:
        """Schedule the first event."""
        self._clock, self._sink, self._on_end = clock, sink, on_end
        self._schedule()

    def stop(self) -> None:
        """Cancel the next event."""
        if self._timer is not None:
            self._timer.cancel()
        self._pending = None

    def _schedule(self) -> None:
        if self._pending is None:
            self._on_end()
            return
        self._timer = self._clock.call_at(arrival_ns(self._pending), self._play)

    def _play(self) -> None:
        event = self._pending
        if event is None:
            return
        due_ns = arrival_ns(event)
        while event is not None and arrival_ns(event) <= due_ns:
            self._seen += 1
            self._sink(event)
            event = next(self._events, None)
        self._pending = event
        self._schedule()


def arrival_ns(event: MarketEvent) -> int:
    """Return when an event reached us, ns UTC; events without a receive time reach us at once."""
    received: int = getattr(event, "ts_recv", event.ts_event)
    return received
