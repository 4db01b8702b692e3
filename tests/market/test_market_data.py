"""The gate: every kind of bad event is counted and told once, and nothing bad passes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework.market.market_data import MarketData
from framework.messages import Bar, BookInvalid, BookRecovered, BookSnapshot, SessionChanged, TradeTick
from framework.model import NS_PER_S

BAD_BOOKS: dict[str, dict[str, Any]] = {
    "crossed": {"bid_ticks": (102, 99)},
    "locked": {"bid_ticks": (101, 99)},
    "size_not_positive": {"ask_sizes": (6, 0)},
    "unsorted": {"ask_ticks": (102, 101)},
    "ragged": {"bid_sizes": (5,)},
    "too_deep": {"bid_ticks": tuple(range(100, 89, -1)), "bid_sizes": (1,) * 11},
    "not_whole_numbers": {"bid_sizes": (5, float("nan"))},
    "out_of_range": {"ask_ticks": (101, 2**31)},
    "future": {"ts_recv": 0},
    "jump": {"bid_ticks": (2_000, 1_999), "ask_ticks": (2_001, 2_002)},
}


def counts(market_data: MarketData) -> dict[str, int]:
    return dict(market_data.refused)


def test_a_sound_book_reaches_the_listeners_first_and_then_the_bus(rig: Any, book: Any) -> None:
    rig.market_data.accept(book(0))

    assert rig.heard == [book(0)]
    assert rig.listener.got == []
    rig.bus.drain()
    assert rig.listener.got == [book(0)]
    assert rig.market_data.is_sound("ESH4.GLBX")


@pytest.mark.parametrize("reason", BAD_BOOKS)
def test_a_bad_book_is_counted_told_and_kept_from_everybody(rig: Any, book: Any, reason: str) -> None:
    rig.send(book(0))
    rig.market_data.accept(book(1, **BAD_BOOKS[reason]))
    rig.bus.drain()

    assert counts(rig.market_data) == {reason: 1}
    assert [message.reason for message in rig.listener.of(BookInvalid)] == [reason]
    assert rig.heard == rig.listener.of(BookSnapshot) == [book(0)]
    assert not rig.market_data.is_sound("ESH4.GLBX")


def test_of_several_faults_the_same_one_is_named_whether_or_not_the_prices_were_seen_before(rig: Any, book: Any) -> None:
    both = {"bid_ticks": (99, 100), "bid_sizes": (0, 5)}
    rig.send(book(0), book(1, **both), book(2), book(3, bid_sizes=(0, 5), ask_ticks=(102, 101)))

    assert counts(rig.market_data) == {"unsorted": 1, "size_not_positive": 1}


@pytest.mark.parametrize("text", ["101", None, 101.0, [101]])
def test_what_is_no_whole_number_is_refused_wherever_it_stands(rig: Any, book: Any, text: Any) -> None:
    for field in ("bid_ticks", "bid_sizes", "ask_ticks", "ask_sizes"):
        rig.market_data.accept(book(1, **{field: (text, 1)}))
    for field in ("sequence", "ts_recv"):
        rig.market_data.accept(book(1, **{field: text}))

    assert counts(rig.market_data) == {"not_whole_numbers": 6}


def test_a_bad_spell_is_told_once_and_ends_with_the_next_sound_book(rig: Any, book: Any) -> None:
    rig.send(book(0), book(1, **BAD_BOOKS["crossed"]), book(2, **BAD_BOOKS["locked"]), book(3), book(4))

    assert [(type(message), message.ts_event) for message in rig.listener.of(BookInvalid, BookRecovered)] == [
        (BookInvalid, book(1).ts_event),
        (BookRecovered, book(3).ts_event),
    ]
    assert rig.market_data.is_sound("ESH4.GLBX")
    assert rig.listener.of(BookSnapshot) == [book(0), book(3), book(4)]


def test_nothing_is_sound_before_its_first_book_and_that_is_no_news(rig: Any, book: Any) -> None:
    assert not rig.market_data.is_sound("ESH4.GLBX")
    rig.send(book(0))
    assert rig.listener.of(BookInvalid, BookRecovered) == []


def test_a_one_sided_book_is_sound(rig: Any, book: Any) -> None:
    rig.send(book(0, bid_ticks=(), bid_sizes=()))

    assert rig.market_data.is_sound("ESH4.GLBX")


def test_an_unknown_instrument_is_counted_and_dropped(rig: Any, book: Any) -> None:
    rig.send(book(0, instrument_id="NQH4.GLBX"))

    assert counts(rig.market_data) == {"unknown_instrument": 1}
    assert rig.heard == []
    assert not rig.market_data.is_sound("NQH4.GLBX")


def test_a_repeated_sequence_is_ignored_and_counted_and_no_spell(rig: Any, book: Any) -> None:
    rig.send(book(0), book(1), book(1))

    assert counts(rig.market_data) == {"repeat": 1}
    assert rig.heard == [book(0), book(1)]
    assert rig.market_data.is_sound("ESH4.GLBX")


def test_a_sequence_or_time_that_runs_backwards_opens_a_spell(make_rig: Any, book: Any) -> None:
    for late in (book(9, sequence=3), book(9, ts_event=book(2).ts_event)):
        rig = make_rig()
        rig.send(book(5))
        rig.market_data.accept(late)
        rig.bus.drain()
        assert [message.reason for message in rig.listener.of(BookInvalid)] in (["sequence_backwards"], ["time_backwards"])


def test_a_sequence_that_restarts_is_believed_after_three_books_in_a_row(rig: Any, book: Any) -> None:
    rig.send(book(5, sequence=1_000))
    rig.send(book(6, sequence=1), book(7, sequence=2), book(8, sequence=3), book(9, sequence=4))

    assert [one.sequence for one in rig.listener.of(BookSnapshot)] == [1_000, 3, 4]
    assert len(rig.listener.of(BookRecovered)) == 1


def test_late_copies_in_any_order_do_not_pass_for_a_restart(rig: Any, book: Any) -> None:
    rig.send(book(5, sequence=1_000), book(6, sequence=9), book(6, sequence=8), book(6, sequence=7), book(6, sequence=6))

    assert [one.sequence for one in rig.listener.of(BookSnapshot)] == [1_000]


def test_a_tenfold_jump_is_believed_after_three_books_in_a_row(rig: Any, book: Any) -> None:
    rig.send(book(0), *(book(number, **BAD_BOOKS["jump"]) for number in range(1, 5)))

    assert [one.sequence for one in rig.listener.of(BookSnapshot)] == [0, 3, 4]


def test_one_wild_book_between_sound_ones_never_becomes_the_measure(rig: Any, book: Any) -> None:
    wild = BAD_BOOKS["jump"]
    rig.send(book(0), book(1, **wild), book(2), book(3, **wild), book(4), book(5, **wild), book(6))

    assert counts(rig.market_data) == {"jump": 3}
    assert [one.sequence for one in rig.listener.of(BookSnapshot)] == [0, 2, 4, 6]


# --- sessions ----------------------------------------------------------------------------------------------------------


def test_a_pause_longer_than_the_session_gap_closes_and_opens_the_session(make_rig: Any, book: Any) -> None:
    rig = make_rig(stale_after_s=1e6)
    rig.send(book(0), book(600), book(1_201))

    assert [(change.is_open, change.reason, change.ts_event) for change in rig.listener.of(SessionChanged)] == [
        (False, "gap", book(1_201).ts_event),
        (True, "gap", book(1_201).ts_event),
    ]
    assert [type(message) for message in rig.listener.got[-3:]] == [SessionChanged, SessionChanged, BookSnapshot]


def test_after_a_gap_the_sequence_may_begin_anew(make_rig: Any, book: Any) -> None:
    rig = make_rig(stale_after_s=1e6)
    rig.send(book(5_000), book(10_000, sequence=0))

    assert [one.sequence for one in rig.listener.of(BookSnapshot)] == [5_000, 0]
    assert counts(rig.market_data) == {}


def test_a_session_that_the_venue_closed_is_neither_gap_nor_stale(rig: Any, book: Any) -> None:
    def change(number: int, *, is_open: bool) -> SessionChanged:
        return SessionChanged(instrument_id="ESH4.GLBX", ts_event=book(number).ts_event, is_open=is_open, reason="venue")

    rig.send(book(0), change(1, is_open=False))
    rig.wait_until(book(9_000).ts_event)
    rig.send(change(9_000, is_open=True), book(9_001, sequence=0))

    assert [one.reason for one in rig.listener.of(SessionChanged)] == ["venue", "venue", "gap", "gap"]
    assert rig.listener.of(BookInvalid) == []


# --- staleness -----------------------------------------------------------------------------------------------------------


def test_silence_of_five_seconds_makes_the_book_stale_once_until_the_next_book(rig: Any, book: Any) -> None:
    rig.send(book(0), book(1))
    rig.wait_until(book(1).ts_event + 5 * NS_PER_S - 1)
    assert rig.market_data.is_sound("ESH4.GLBX")

    rig.wait_until(book(1).ts_event + 30 * NS_PER_S)
    assert [(one.reason, one.ts_event) for one in rig.listener.of(BookInvalid)] == [("stale", book(1).ts_event + 5 * NS_PER_S)]
    assert not rig.market_data.is_sound("ESH4.GLBX")

    rig.send(book(400))
    assert rig.market_data.is_sound("ESH4.GLBX")
    assert len(rig.listener.of(BookRecovered)) == 1


def test_a_slow_feed_is_stale_after_ten_of_its_usual_gaps(make_rig: Any, book: Any) -> None:
    rig = make_rig(stale_after_s=5.0)
    rig.send(*(book(number * 20) for number in range(10)))  # a book every 2 s
    rig.wait_until(book(180).ts_event + 19 * NS_PER_S)
    assert rig.listener.of(BookInvalid) == []

    rig.wait_until(book(180).ts_event + 21 * NS_PER_S)
    assert [one.reason for one in rig.listener.of(BookInvalid)] == ["stale"]


def test_the_stale_check_keeps_one_timer_however_many_books_come(rig: Any, book: Any) -> None:
    rig.send(*(book(number) for number in range(40)))

    assert len(rig.clock._heap) == 1
    rig.market_data.stop()
    assert rig.clock.next_timer_ns() is None


# --- trades, bars, tap ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("trade_size_not_positive", {"size": 0}),
        ("trade_not_whole_numbers", {"price_ticks": 101.5}),
        ("trade_out_of_range", {"size": 2**31}),
        ("trade_future", {"ts_recv": 0}),
    ],
)
def test_a_bad_trade_is_counted_and_dropped_and_says_nothing_about_the_book(
    rig: Any, book: Any, trade: Any, reason: str, change: dict[str, Any]
) -> None:
    rig.send(book(0))
    rig.market_data.accept(trade(1, **change))
    rig.bus.drain()

    assert counts(rig.market_data) == {reason: 1}
    assert rig.listener.of(TradeTick, BookInvalid) == []
    assert rig.market_data.is_sound("ESH4.GLBX")


def test_a_trade_that_runs_backwards_is_dropped_and_one_of_the_same_instant_is_not(rig: Any, trade: Any) -> None:
    rig.send(trade(3), trade(3), trade(4))
    rig.market_data.accept(trade(2))

    assert counts(rig.market_data) == {"trade_time_backwards": 1}
    assert len(rig.heard) == 3


def test_bars_of_a_feed_pass(rig: Any, book: Any) -> None:
    bar = Bar(
        instrument_id="ESH4.GLBX", ts_event=book(0).ts_event, interval_s=60, open_ticks=1, high_ticks=2, low_ticks=1,
        close_ticks=2, volume=3, buy_volume=1, sell_volume=2,
    )  # fmt: skip
    rig.send(bar)

    assert rig.listener.of(Bar) == rig.heard == [bar]


def test_the_tap_sees_everything_as_it_came(make_rig: Any, book: Any) -> None:
    tapped: list[Any] = []
    rig = make_rig(tap=tapped.append)
    events = [book(0), book(1, **BAD_BOOKS["crossed"]), book(2, instrument_id="NQH4.GLBX")]
    rig.send(*events)

    assert tapped == events


def test_stats_name_what_was_accepted_and_refused(rig: Any, book: Any) -> None:
    rig.send(book(0), book(1, **BAD_BOOKS["crossed"]), book(2))

    assert rig.market_data.stats() == {"accepted": 2, "refused_crossed": 1}


NUMBERS = st.one_of(st.integers(-3, 300), st.integers(), st.floats(), st.none(), st.text(max_size=3))
TUPLES = st.lists(NUMBERS, max_size=12).map(tuple)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    books=st.lists(
        st.fixed_dictionaries(
            {name: TUPLES for name in ("bid_ticks", "bid_sizes", "ask_ticks", "ask_sizes")}
            | {"sequence": NUMBERS, "ts_event": st.integers(0, 10**10), "ts_recv": NUMBERS}
        ),
        max_size=8,
    )
)
def test_whatever_a_feed_sends_nothing_is_raised_and_only_sound_books_pass(make_rig: Any, book: Any, books: list[dict[str, Any]]) -> None:
    rig = make_rig()
    for number, changes in enumerate(books):
        rig.market_data.accept(book(number, **changes))

    for passed in rig.heard:
        assert isinstance(passed, BookSnapshot | SessionChanged)
        if isinstance(passed, BookSnapshot):
            assert list(passed.bid_ticks) == sorted(set(passed.bid_ticks), reverse=True)
            assert list(passed.ask_ticks) == sorted(set(passed.ask_ticks))
            assert all(size > 0 for size in passed.bid_sizes + passed.ask_sizes)
            assert not (passed.bid_ticks and passed.ask_ticks) or passed.bid_ticks[0] < passed.ask_ticks[0]
