"""Replay: recorded events on the clock, in order, one timer at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest

from framework.clock import EventClock
from framework.errors import IntegrityError
from framework.market.feed import ReplayFeed, arrival_ns, merge_in_time
from framework.messages import MarketEvent, SessionChanged
from framework.model import NS_PER_S


def test_events_arrive_in_order_each_at_its_own_time(instrument: Any, book: Any, trade: Any, run: Any) -> None:
    events = [book(0), trade(1), trade(1), book(1), book(5)]
    clock = EventClock()
    arrived: list[tuple[int, MarketEvent]] = []

    assert run(ReplayFeed(events, [instrument]), clock, lambda event: arrived.append((clock.now_ns(), event)))

    assert arrived == [(event.ts_recv, event) for event in events]


def test_events_of_one_instant_share_one_timer(instrument: Any, book: Any, trade: Any) -> None:
    clock, arrived = EventClock(), []
    feed = ReplayFeed([trade(1), trade(1), book(1), book(2)], [instrument])
    feed.start(clock, arrived.append, lambda: None)

    clock.advance_to(clock.next_timer_ns() or 0)

    assert len(arrived) == 3


def test_an_event_arrives_when_we_received_it_not_when_the_venue_made_it(instrument: Any, book: Any) -> None:
    late = book(0, ts_recv=book(0).ts_event + 7 * NS_PER_S)

    assert ReplayFeed([late], [instrument]).start_ns == late.ts_event + 7 * NS_PER_S
    assert arrival_ns(SessionChanged(instrument_id="X.Y", ts_event=3, is_open=True, reason="")) == 3


def test_the_source_is_read_one_event_ahead_and_no_further(instrument: Any, book: Any) -> None:
    read = 0

    def source() -> Any:
        nonlocal read
        for number in range(100):
            read += 1
            yield book(number)

    clock = EventClock()
    feed = ReplayFeed(source(), [instrument])
    feed.start(clock, lambda _: None, lambda: None)
    for _ in range(10):
        clock.advance_to(clock.next_timer_ns() or 0)

    assert read == 11


def test_a_stopped_feed_delivers_nothing_more_closes_its_source_and_does_not_say_end(instrument: Any, book: Any, run: Any) -> None:
    closed = []

    def source() -> Any:
        try:
            for number in range(100):
                yield book(number)
        finally:
            closed.append(True)

    arrived: list[MarketEvent] = []
    feed = ReplayFeed(source(), [instrument])

    def stop_at_the_third(event: MarketEvent) -> None:
        arrived.append(event)
        if len(arrived) == 3:
            feed.stop()

    assert not run(feed, EventClock(), stop_at_the_third)
    assert (len(arrived), closed) == (3, [True])
    feed.stop()


def test_an_empty_feed_ends_at_once_and_has_no_start(instrument: Any, run: Any) -> None:
    assert run(ReplayFeed([], [instrument]), EventClock(), lambda _: None)
    assert ReplayFeed([], [instrument]).start_ns is None


def test_progress_is_nan_where_nobody_knows_and_the_sources_own_otherwise(instrument: Any) -> None:
    assert math.isnan(ReplayFeed([], [instrument]).progress)
    assert ReplayFeed([], [instrument], progress=lambda: 0.25).progress == 0.25


def test_sources_merge_in_time_and_of_equal_times_the_first_named_comes_first(book: Any) -> None:
    first = [book(0, instrument_id="A.X"), book(2, instrument_id="A.X")]
    second = [book(0, instrument_id="B.X"), book(1, instrument_id="B.X"), book(2, instrument_id="B.X")]

    merged = list(merge_in_time([first, second]))

    assert [(event.instrument_id[0], event.sequence) for event in merged] == [("A", 0), ("B", 0), ("B", 1), ("A", 2), ("B", 2)]


def test_damage_that_shows_late_leaves_the_timer_with_its_own_error(instrument: Any, book: Any, run: Any) -> None:
    def source() -> Any:
        yield book(0)
        raise IntegrityError("part 7 is damaged")

    with pytest.raises(IntegrityError, match="part 7"):
        run(ReplayFeed(source(), [instrument]), EventClock(), lambda _: None)
