"""Feeds: what brings market events in, and the replay of recorded ones on the clock."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Final, Protocol

from framework.clock import Clock, Timer
from framework.messages import BookSnapshot, MarketEvent, TradeTick
from framework.model import Instrument

Sink = Callable[[MarketEvent], None]
_RECEIVED: Final = (BookSnapshot, TradeTick)


class Feed(Protocol):
    """A source of market events. `start` schedules the first event and returns; nothing here blocks."""

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return what the events are about."""

    @property
    def progress(self) -> float:
        """Return how much was delivered, 0 to 1, or NaN where nobody knows."""

    def start(self, clock: Clock, sink: Sink, on_end: Callable[[], None]) -> None:
        """Begin to hand events to `sink`, in order of time; `on_end` is called once, after the last."""

    def stop(self) -> None:
        """Hand out nothing more. `on_end` is not called then."""


def arrival_ns(event: MarketEvent) -> int:
    """Return when `event` reached us: `ts_recv`, or `ts_event` of a kind that has only that."""
    return event.ts_recv if isinstance(event, _RECEIVED) else event.ts_event


def merge_in_time(sources: Sequence[Iterable[MarketEvent]]) -> Iterator[MarketEvent]:
    """Merge sources that are each in order of arrival; of equal times the earlier source comes first."""
    return iter(sources[0]) if len(sources) == 1 else heapq.merge(*sources, key=arrival_ns)


class ReplayFeed:
    """Hand recorded events to the sink at their times of arrival.

    `events` must be in order of arrival and is read one event ahead, so a lazy source keeps memory bounded. There is one timer
    at a time; events of one instant share it. What the source raises (for example `IntegrityError` for a damaged page)
    leaves the timer.
    """

    def __init__(
        self,
        events: Iterable[MarketEvent],
        instruments: Iterable[Instrument],
        *,
        progress: Callable[[], float] | None = None,
    ) -> None:
        self._events = iter(events)
        self._instruments = tuple(instruments)
        self._progress = progress
        self._ahead: MarketEvent | None = None
        self._has_looked = False
        self._timer: Timer | None = None
        self.delivered = 0

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return what the events are about."""
        return self._instruments

    @property
    def progress(self) -> float:
        """Return how much of the source was read, 0 to 1, or NaN where nobody knows."""
        return math.nan if self._progress is None else self._progress()

    @property
    def first(self) -> MarketEvent | None:
        """Return the next event (before `start`: the first), or None if there is none. Reads it."""
        return self._peek()

    @property
    def start_ns(self) -> int | None:
        """Return the arrival of the next event (before `start`: of the first), or None if there is none. Reads it."""
        event = self._peek()
        return None if event is None else arrival_ns(event)

    def start(self, clock: Clock, sink: Sink, on_end: Callable[[], None]) -> None:
        """Schedule the first event."""
        self._clock = clock
        self._sink = sink
        self._on_end = on_end
        self._schedule()

    def read(self) -> Iterator[MarketEvent]:
        """Yield the events without a clock: for who wants them all, now."""
        if (first := self._peek()) is not None:
            yield first
            yield from self._events

    def stop(self) -> None:
        """Cancel the timer and let go of the source."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if isinstance(self._events, Generator):
            self._events.close()
        self._ahead = None

    def _peek(self) -> MarketEvent | None:
        if not self._has_looked:
            self._has_looked = True
            self._ahead = next(self._events, None)
        return self._ahead

    def _schedule(self) -> None:
        event = self._peek()
        if event is None:
            self._timer = None
            self._on_end()
            return
        self._due_ns = arrival_ns(event)
        self._timer = self._clock.call_at(self._due_ns, self._deliver)

    def _deliver(self) -> None:
        sink, events, due_ns = self._sink, self._events, self._due_ns
        event = self._ahead
        while event is not None:
            # `arrival_ns`, without a call for each event.
            kind = type(event)
            at_ns = event.ts_recv if kind is BookSnapshot or kind is TradeTick else event.ts_event  # type: ignore[union-attr]
            if at_ns > due_ns:
                self._due_ns = at_ns
                self._timer = self._clock.call_at(at_ns, self._deliver)
                return
            self.delivered += 1
            sink(event)
            if self._timer is None:  # the sink stopped us
                return
            self._ahead = event = next(events, None)
        self._schedule()
