"""A feed of bars that lets each price of a bar happen at its time, with quotes that stand in for the books that nobody recorded."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from framework.clock import Clock, Timer
from framework.config import PaperConfig
from framework.market.feed import ReplayFeed, Sink, arrival_ns
from framework.messages import Bar, BookSnapshot, MarketEvent
from framework.model import NS_PER_S, Instrument
from framework.venues.bar_matching import adverse, worse_first
from framework.venues.bar_venue import BarVenue

LOOK_AHEAD_NS: Final = 86_400 * NS_PER_S
"""Bars of at most a day are walked: that far the feed is read ahead, to know a bar when it begins."""
OPEN_NS: Final = NS_PER_S
"""How long a bar stands at its open (at most a quarter of it): who comes later waits for the next."""
GAP_INTERVALS: Final = 5
"""A silence of more bars than this is a break of the session, if it is not one already by the instrument's own facts."""


@dataclass(slots=True)
class _Way:
    """What is known of one instrument's bar that is under way."""

    sequence: int = 0
    shown_lots: int = 1
    extremes: tuple[int, int] = (0, 0)
    lots: int = 0
    finished_ns: int = 0


class BarWalk:
    """Deliver the events of `feed`, in order of time. A bar of an instrument in `in_bars` begins at its start and takes its way to its end.

    Where nothing is open or held, there is only the quote at its close, and the bar. Otherwise quotes at its open and extremes come
    before, at which the venue fills and stops are set off. A quote is one level a side, `bar_slippage_ticks` around the price (at an
    extreme: on the side where it traded). The bar itself comes at its end: nobody knows it before.
    """

    def __init__(
        self,
        feed: ReplayFeed,
        venue: BarVenue,
        settings: PaperConfig,
        instruments: Iterable[Instrument],
        in_bars: Mapping[str, float],
    ) -> None:
        self._feed = feed
        self._venue = venue
        self._half = settings.bar_slippage_ticks
        self._share = settings.bar_volume_share
        self._ways = {instrument_id: _Way() for instrument_id in in_bars}
        self._instruments = tuple(_with_gap(one, in_bars.get(one.instrument_id)) for one in instruments)
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._timer: Timer | None = None
        self._is_stopped = False

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return what the events are about."""
        return self._instruments

    @property
    def progress(self) -> float:
        """Return how much of the source was read."""
        return self._feed.progress

    @property
    def start_ns(self) -> int | None:
        """Return when the first event, or the first bar, begins."""
        first = self._feed.first
        if first is None:
            return None
        is_walked = isinstance(first, Bar) and first.instrument_id in self._ways
        return arrival_ns(first) - (round(first.interval_s * NS_PER_S) if is_walked and isinstance(first, Bar) else 0)

    def start(self, clock: Clock, sink: Sink, on_end: Callable[[], None]) -> None:
        """Begin."""
        self._clock, self._sink, self._on_end = clock, sink, on_end
        self._events: Iterator[MarketEvent] = self._feed.read()
        self._ahead = next(self._events, None)
        self._read_until(clock.now_ns())
        self._schedule()

    def stop(self) -> None:
        """Hand out nothing more."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self._feed.stop()

    # --- time ----------------------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._due and self._ahead is not None:
            self._read_until(arrival_ns(self._ahead) - LOOK_AHEAD_NS)
        if not self._due:
            self._on_end()
            return
        self._timer = self._clock.call_at(self._due[0][0], self._run_due)

    def _run_due(self) -> None:
        at_ns, _, act = heapq.heappop(self._due)
        self._read_until(at_ns)
        act()
        if not self._is_stopped:
            self._schedule()

    def _read_until(self, now_ns: int) -> None:
        """Read all that may begin until now."""
        while self._ahead is not None and arrival_ns(self._ahead) <= now_ns + LOOK_AHEAD_NS:
            event, self._ahead = self._ahead, next(self._events, None)
            if isinstance(event, Bar) and event.instrument_id in self._ways:
                self._plan_bar(event)
            else:
                self._plan(arrival_ns(event), partial(self._sink, event))

    def _plan(self, at_ns: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (at_ns, next(self._numbers), act))

    def _plan_bar(self, bar: Bar) -> None:
        way, end_ns = self._ways[bar.instrument_id], bar.ts_event
        # A bar that overlaps the one before it has the time that is left.
        begin_ns = max(end_ns - round(bar.interval_s * NS_PER_S), way.finished_ns) + 1
        way.finished_ns = end_ns
        length_ns = end_ns - begin_ns
        self._plan(begin_ns, partial(self._open, bar, way))
        later_ns = [begin_ns + length_ns // 2, begin_ns + length_ns * 3 // 4]
        self._plan(begin_ns + min(length_ns // 4, OPEN_NS), partial(self._first, bar, way, later_ns))
        self._plan(end_ns, partial(self._finish, bar, way))

    # --- the way of a bar ----------------------------------------------------------------------------------------------------

    def _open(self, bar: Bar, way: _Way) -> None:
        instrument_id = bar.instrument_id
        if self._venue.is_busy(instrument_id):
            self._quote(bar, way, bar.open_ticks - self._half, bar.open_ticks + self._half)
        self._venue.execute(self._venue.engine_of(instrument_id).open(bar))
        self._venue.let_in(instrument_id)

    def _first(self, bar: Bar, way: _Way, later_ns: list[int]) -> None:
        """Go to the first extreme, and from there to the others; a way that nobody minds goes straight to its end."""
        venue, instrument_id = self._venue, bar.instrument_id
        venue.engine_of(instrument_id).leave_open()
        if not venue.is_busy(instrument_id):
            return
        resting, stops = venue.engine_of(instrument_id).resting_sides(), venue.stops(instrument_id)
        way.extremes = worse_first(bar, venue.lots(instrument_id), resting, stops)
        self._plan(later_ns[0], partial(self._second, bar, way))
        self._plan(later_ns[1], partial(self._again, bar, way))
        self._go(bar, way, way.extremes[0])

    def _second(self, bar: Bar, way: _Way) -> None:
        way.lots = self._venue.lots(bar.instrument_id)
        self._go(bar, way, way.extremes[1])

    def _again(self, bar: Bar, way: _Way) -> None:
        """Meet the first extreme again, if a position that it hurts was opened on the way to the second."""
        lots = self._venue.lots(bar.instrument_id)
        if lots != way.lots and adverse(bar, lots) == way.extremes[0]:
            self._go(bar, way, way.extremes[0])

    def _go(self, bar: Bar, way: _Way, ticks: int) -> None:
        venue, instrument_id = self._venue, bar.instrument_id
        engine = venue.engine_of(instrument_id)
        is_busy = venue.is_busy(instrument_id)
        venue.execute(engine.go(ticks, venue.stops(instrument_id)))
        if is_busy:
            low_ticks = ticks if ticks == bar.low_ticks else ticks - 2 * self._half
            self._quote(bar, way, low_ticks, low_ticks + 2 * self._half)

    def _finish(self, bar: Bar, way: _Way) -> None:
        venue, instrument_id = self._venue, bar.instrument_id
        venue.execute(venue.engine_of(instrument_id).go(bar.close_ticks, venue.stops(instrument_id)))
        venue.engine_of(instrument_id).finish()
        way.shown_lots = max(int(bar.volume * self._share), 1)
        self._quote(bar, way, bar.close_ticks - self._half, bar.close_ticks + self._half)
        self._sink(bar)

    def _quote(self, bar: Bar, way: _Way, bid_ticks: int, ask_ticks: int) -> None:
        now_ns = self._clock.now_ns()
        way.sequence += 1
        self._sink(
            BookSnapshot(
                instrument_id=bar.instrument_id,
                ts_event=now_ns,
                ts_recv=now_ns,
                sequence=way.sequence,
                bid_ticks=(bid_ticks,),
                bid_sizes=(way.shown_lots,),
                ask_ticks=(ask_ticks,),
                ask_sizes=(way.shown_lots,),
            )
        )


def _with_gap(instrument: Instrument, interval_s: float | None) -> Instrument:
    if interval_s is None:
        return instrument
    return msgspec.structs.replace(instrument, session_gap_s=max(instrument.session_gap_s, GAP_INTERVALS * interval_s))
