"""LOBSTER: every row is a book of its own number, executions are trades of the other side, and a broken pair is refused by row."""

from __future__ import annotations

import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from framework.errors import ConfigError, IntegrityError
from framework.market.formats import open_feed, open_source
from framework.messages import BookInvalid, BookSnapshot, SessionChanged, TradeTick
from framework.model import NS_PER_S, Side

FOLDER = "lobster_20120621"
GOOG = "LOBSTER_SampleFile_GOOG_2012-06-21_10.zip"
GOOG_5 = "LOBSTER_SampleFile_GOOG_2012-06-21_5.zip"
AAPL = "LOBSTER_SampleFile_AAPL_2012-06-21_1.zip"
OPENING_NS = round(datetime(2012, 6, 21, 13, 30, tzinfo=UTC).timestamp()) * NS_PER_S  # 09:30 in New York

MESSAGES = [
    "34200.000000001,1,16,18,5853300,1",
    "34200.5,4,17,7,5859400,-1",
    "34200.5,5,0,3,5856350,1",
    "34201,3,16,18,5853300,1",
]
BOOKS = [
    "5859400,200,5853300,18,5859800,200,5853000,150",
    "5859400,193,5853300,18,5859800,200,5853000,150",
    "5859400,193,5853300,18,5859800,200,5853000,150",
    "5859400,193,5853000,150,9999999999,0,-9999999999,0",
]


def zipped(folder: Path, messages: list[str] = MESSAGES, books: list[str] = BOOKS, *, day: str = "2012-06-21") -> Path:
    path = folder / "sample.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for kind, lines in (("message", messages), ("orderbook", books)):
            archive.writestr(f"XYZ_{day}_34200000_57600000_{kind}_2.csv", "".join(f"{line}\n" for line in lines))
    return path


def events_of(path: Path) -> list[Any]:
    return list(open_source(path).events(0))


def test_each_row_is_a_book_of_its_number_and_trades_come_ahead_of_their_books(tmp_path: Path) -> None:
    events = events_of(zipped(tmp_path))

    assert [(type(event), event.sequence) for event in events] == [
        (BookSnapshot, 0), (TradeTick, 1), (BookSnapshot, 1), (TradeTick, 2), (BookSnapshot, 2), (BookSnapshot, 3),
    ]  # fmt: skip
    assert [event.ts_event - OPENING_NS for event in events] == [1, *[NS_PER_S // 2] * 4, NS_PER_S]
    assert (events[0].bid_ticks, events[0].bid_sizes) == ((58_533, 58_530), (18, 150))
    assert (events[0].ask_ticks, events[0].ask_sizes) == ((58_594, 58_598), (200, 200))


def test_the_aggressor_is_the_side_that_did_not_rest(tmp_path: Path) -> None:
    trades = [event for event in events_of(zipped(tmp_path)) if isinstance(event, TradeTick)]

    assert [(one.price_ticks, one.size, one.aggressor) for one in trades] == [(58_594, 7, Side.BUY), (58_563, 3, Side.SELL)]


def test_a_hidden_execution_between_two_cents_counts_at_the_one_that_is_worse_for_the_aggressor(tmp_path: Path) -> None:
    bought = [MESSAGES[0], "34200.5,5,0,3,5856350,-1", *MESSAGES[2:]]

    trades = [event for event in events_of(zipped(tmp_path, bought)) if isinstance(event, TradeTick)]

    assert [one.price_ticks for one in trades] == [58_564, 58_563]


def test_levels_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    last = events_of(zipped(tmp_path))[-1]

    assert (last.bid_ticks, last.ask_ticks, last.ask_sizes) == ((58_530,), (58_594,), (193,))


def test_halts_close_and_open_the_session_and_a_cross_has_no_aggressor(tmp_path: Path) -> None:
    messages = [MESSAGES[0], "34200.5,7,0,0,-1,-1", "34201,7,0,0,1,-1", "34201,6,-1,900,5853300,-1"]

    events = events_of(zipped(tmp_path, messages))

    assert [event.is_open for event in events if isinstance(event, SessionChanged)] == [False, True]
    assert [event.aggressor for event in events if isinstance(event, TradeTick)] == [None]


def test_winter_time_is_an_hour_later_in_utc(tmp_path: Path) -> None:
    source = open_source(zipped(tmp_path, day="2012-01-20"))

    assert datetime.fromtimestamp(source.start_ns // NS_PER_S, UTC).hour == 14


def test_an_unpacked_pair_is_the_same_recording(tmp_path: Path) -> None:
    path = zipped(tmp_path)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)

    for kind in ("message", "orderbook"):
        assert events_of(tmp_path / f"XYZ_2012-06-21_34200000_57600000_{kind}_2.csv") == events_of(path)


@pytest.mark.parametrize(
    ("messages", "books", "refusal"),
    [
        (MESSAGES[::-1], BOOKS, "message row 1 is earlier than the row before"),
        (MESSAGES[:3], BOOKS, "the message file ends after row 2"),
        (MESSAGES, BOOKS[:2], "the order-book file ends after row 1"),
        ([], [], "the message file holds no rows"),
        ([*MESSAGES[:2], "34200.5,9,0,3,5856350,1", MESSAGES[3]], BOOKS, "message row 2 has the unknown type 9"),
        ([MESSAGES[0], "34200.5,4,17,7,5859450,-1", *MESSAGES[2:]], BOOKS, r"message row 1 has the price 585\.945"),
        (MESSAGES, [*BOOKS[:3], BOOKS[3].replace("5853000", "5853050")], r"order-book row 3 has the price 585\.305"),
        ([*MESSAGES[:2], "34200.5,4,17", MESSAGES[3]], BOOKS, r"line 3: Expected 6 columns, got 3.*in its message file"),
        ([*MESSAGES[:2], "34200.5,4,17,x,5859450,-1", MESSAGES[3]], BOOKS, r"line 3: .* invalid value 'x'.*in its message file"),
    ],
    ids=["reordered", "short messages", "short books", "empty", "unknown type", "trade off tick", "level off tick", "short row", "text"],
)
def test_a_broken_pair_is_refused_with_file_and_row(tmp_path: Path, messages: list[str], books: list[str], refusal: str) -> None:
    path = zipped(tmp_path, messages, books)

    with pytest.raises((ConfigError, IntegrityError), match=refusal) as refused:
        events_of(path)
    assert str(path) in str(refused.value)


def test_a_zip_of_something_else_and_a_lonely_half_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("letter.txt", "hello")
    lonely = tmp_path / "XYZ_2012-06-21_34200000_57600000_message_2.csv"
    lonely.write_text("\n".join(MESSAGES))

    with pytest.raises(ConfigError, match=r"other\.zip: "):
        open_source(tmp_path / "other.zip")
    with pytest.raises(ConfigError, match=r"orderbook_2\.csv: is missing beside"):
        open_source(lonely)


# --- the recordings --------------------------------------------------------------------------------------------------------


@pytest.mark.recordings
@pytest.mark.parametrize(("name", "rows", "levels"), [(GOOG_5, 112_673, 5), (AAPL, 118_497, 1)])
def test_a_recorded_day_has_its_rows_and_levels_and_no_crossed_book(recordings: Path, name: str, rows: int, levels: int) -> None:
    books = [event for event in events_of(recordings / FOLDER / name) if isinstance(event, BookSnapshot)]

    assert [book.sequence for book in books] == list(range(rows))
    assert {len(book.bid_ticks) for book in books} == {len(book.ask_ticks) for book in books} == {levels}
    assert all(book.bid_ticks[0] < book.ask_ticks[0] for book in books)


@pytest.mark.recordings
def test_ten_recorded_levels_pass_the_gate_without_a_refused_book(recordings: Path, make_rig: Any) -> None:
    feed = open_feed([recordings / FOLDER / GOOG])
    rig = make_rig(feed.instruments, stale_after_s=600.0)

    assert rig.run(feed)

    assert rig.listener.of(BookInvalid) == []
    assert rig.market_data.stats() == {"accepted": 147_916 + 11_678}
    # Type 4 and 5 rows of the message file with direction -1 and 1, counted with awk.
    assert Counter(one.aggressor for one in rig.listener.of(TradeTick)) == {Side.BUY: 5_808, Side.SELL: 5_870}


@pytest.mark.recordings
def test_a_flipped_bit_in_the_zip_is_refused_or_changes_nothing_that_is_read(recordings: Path, tmp_path: Path) -> None:
    content = (recordings / FOLDER / AAPL).read_bytes()
    path = tmp_path / "damaged.zip"
    for byte in range(200_000, len(content) - 100_000, len(content) // 3):
        damaged = bytearray(content)
        damaged[byte] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises((ConfigError, IntegrityError), match=r"damaged\.zip"):
            events_of(path)
