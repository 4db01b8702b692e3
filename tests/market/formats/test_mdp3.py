"""CME packet captures: both feeds become one stream, the book follows the venue's rules, gaps are said, damage is refused."""

from __future__ import annotations

import lzma
import random
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.errors import ConfigError, IntegrityError, TidebookError
from framework.market.formats import open_feed, open_source, open_sources
from framework.messages import BookSnapshot, SessionChanged, TradeTick
from framework.model import NS_PER_S, Side

FOLDER = "cme_es_mdp3_pcap"
T0_S = 1_567_098_588
TICK = 25_000_000_000
END = 0x80
NEW, CHANGE, DELETE = 0, 1, 2


def entry(side: str, level: int, ticks: int, size: int, action: int = NEW, security: int = 7) -> bytes:
    return struct.pack("<qiIIiBBc5x", ticks * TICK, size, security, 1, 1, level, action, side.encode())


def book_message(*entries: bytes, indicator: int = END) -> bytes:
    body = struct.pack("<QBxx", T0_S * NS_PER_S, indicator) + struct.pack("<HB", 32, len(entries)) + b"".join(entries)
    return struct.pack("<HHHHH", 10 + len(body), 11, 46, 1, 9) + body


def trade_message(ticks: int, size: int, aggressor: int, security: int = 7) -> bytes:
    one = struct.pack("<qiIIiBB6x", ticks * TICK, size, security, 1, 2, aggressor, 0)
    body = struct.pack("<QBxx", T0_S * NS_PER_S, END) + struct.pack("<HB", len(one), 1) + one
    return struct.pack("<HHHHH", 10 + len(body), 11, 48, 1, 9) + body


def frame(sequence: int, *messages: bytes, port: int = 14_310, at_ns: int | None = None) -> bytes:
    payload = struct.pack("<IQ", sequence, T0_S * NS_PER_S) + b"".join(messages)
    udp = struct.pack(">HHHH", 1, port, 8 + len(payload), 0) + payload
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 1, 17, 0, b"\1" * 4, b"\xe0" * 4) + udp
    received_ns = sequence * 1_000 if at_ns is None else at_ns
    trailer = struct.pack(">8xII4x", T0_S, received_ns)
    whole = b"\0" * 12 + b"\x08\x00" + ip + trailer
    return struct.pack("<IIII", T0_S, 999_999_999, len(whole), len(whole)) + whole


def write(folder: Path, *frames: bytes, name: str = "a.pcap") -> Path:
    path = folder / name
    path.write_bytes(b"\x4d\x3c\xb2\xa1" + struct.pack("<HHiIII", 2, 4, 0, 0, 65_535, 1) + b"".join(frames))
    return path


WHOLE = book_message(
    *(entry("0", level, 101 - level, 10 + level) for level in range(1, 11)),
    *(entry("1", level, 100 + level, 20 + level) for level in range(1, 11)),
)
"""Ten bids 100, 99, ... and ten offers 101, 102, ..."""


def events_of(*paths: Path) -> list[Any]:
    (source,) = open_sources(paths)
    return list(source.events(0))


def book_after(folder: Path, *entries: bytes) -> BookSnapshot:
    event = events_of(write(folder, frame(1, WHOLE), frame(2, book_message(*entries))))[-1]
    assert isinstance(event, BookSnapshot)
    return event


def test_a_book_is_shown_when_every_level_is_known_with_the_hardwares_time(tmp_path: Path) -> None:
    part = book_message(entry("0", 1, 100, 1))

    (book,) = events_of(write(tmp_path, frame(1, part), frame(2, WHOLE)))

    assert (book.bid_ticks[:2], book.ask_ticks[:2], book.bid_sizes[:2]) == ((100, 99), (101, 102), (11, 12))
    assert (book.instrument_id, book.ts_event, book.ts_recv) == ("ES#7.CME", T0_S * NS_PER_S, T0_S * NS_PER_S + 2_000)


def test_new_pushes_down_delete_pulls_up_change_replaces(tmp_path: Path) -> None:
    inserted = book_after(tmp_path, entry("0", 2, 99, 1, DELETE), entry("0", 10, 90, 5))
    replaced = book_after(tmp_path, entry("1", 1, 101, 77, CHANGE))

    assert inserted.bid_ticks == (100, 98, 97, 96, 95, 94, 93, 92, 91, 90)
    assert (replaced.ask_sizes[0], len(replaced.ask_ticks)) == (77, 10)


def test_a_better_price_drops_the_tenth_level(tmp_path: Path) -> None:
    book = book_after(tmp_path, entry("1", 1, 101, 0, DELETE), entry("0", 1, 101, 3), entry("1", 10, 111, 9))

    assert (book.bid_ticks[0], book.bid_ticks[-1], len(book.bid_ticks)) == (101, 92, 10)
    assert (book.ask_ticks[0], book.ask_ticks[-1]) == (102, 111)


def test_the_book_is_looked_at_only_where_an_event_ends(tmp_path: Path) -> None:
    half = book_message(entry("0", 1, 105, 3), indicator=0)
    rest = book_message(entry("0", 1, 105, 0, DELETE), entry("0", 10, 91, 20))

    events = events_of(write(tmp_path, frame(1, WHOLE), frame(2, half), frame(3, rest)))

    assert [event.bid_ticks[0] for event in events] == [100, 100]


def test_trades_say_who_began_them(tmp_path: Path) -> None:
    events = events_of(write(tmp_path, frame(1, WHOLE), *(frame(2 + kind, trade_message(101, 3, kind)) for kind in (0, 1, 2))))

    assert [one.aggressor for one in events if isinstance(one, TradeTick)] == [None, Side.BUY, Side.SELL]


def test_of_two_feeds_each_packet_counts_once_and_the_gaps_of_one_are_filled_by_the_other(tmp_path: Path) -> None:
    trades = {number: trade_message(100, number, 1) for number in range(2, 9)}
    feed_a = [frame(1, WHOLE), *(frame(n, trades[n], at_ns=n * 1_000) for n in (2, 3, 5, 6, 8))]
    feed_b = [
        frame(1, WHOLE, port=15_310, at_ns=1_100),
        *(frame(n, trades[n], port=15_310, at_ns=n * 1_000 + 1_500) for n in (2, 4, 6, 7, 8)),
    ]

    (source,) = open_sources([write(tmp_path, *feed_a), write(tmp_path, *feed_b, name="b.pcap")])
    events: list[Any] = list(source.events(0))

    assert [one.size for one in events if isinstance(one, TradeTick)] == [2, 3, 4, 5, 6, 7, 8]
    assert not any(isinstance(one, SessionChanged) for one in events)
    assert [one.ts_recv for one in events] == sorted(one.ts_recv for one in events)
    assert source.notes["packets that came twice"] == 4  # type: ignore[attr-defined]


def test_what_neither_feed_has_closes_the_session_until_the_book_is_whole_again(tmp_path: Path) -> None:
    lost = [frame(1, WHOLE), frame(4, trade_message(100, 1, 1)), frame(5, WHOLE)]
    feed_b = [
        frame(n, message, port=15_310, at_ns=n * 1_000 + 500) for n, message in ((1, WHOLE), (4, trade_message(100, 1, 1)), (5, WHOLE))
    ]

    (source,) = open_sources([write(tmp_path, *lost), write(tmp_path, *feed_b, name="b.pcap")])
    events = list(source.events(0))

    assert [type(one) for one in events] == [BookSnapshot, SessionChanged, TradeTick, SessionChanged, BookSnapshot]
    assert source.notes["packets that are missing in every feed"] == 2  # type: ignore[attr-defined]


def test_securities_are_named_in_a_file_beside_the_capture(tmp_path: Path) -> None:
    (tmp_path / "instruments.yaml").write_text(
        "instruments:\n  - {instrument_id: ESU9.CME, tick_size: 0.25, multiplier: 50, security_id: 8}\n"
    )
    others = book_message(*(entry("0", level, 101 - level, 1) for level in range(1, 11)))
    own = WHOLE.replace(struct.pack("<I", 7), struct.pack("<I", 8))

    (book,) = events_of(write(tmp_path, frame(1, others, others), frame(2, own)))

    assert book.instrument_id == "ESU9.CME"


@pytest.mark.parametrize(
    ("frames", "refusal"),
    [
        ([frame(1, WHOLE), frame(2, book_message(entry("0", 11, 90, 1)))], "packet 2: an entry is at level 11"),
        ([frame(1, WHOLE), frame(2, WHOLE.replace(struct.pack("<q", 100 * TICK), struct.pack("<q", 100 * TICK + 1)))], "not a multiple"),
        ([frame(2, WHOLE), frame(1, WHOLE)], "packet 1 was captured before the one above it; sort it: reordercap"),
        ([frame(1, WHOLE)[:-3]], "ends in the middle of packet 0"),
        ([frame(1, WHOLE[:6] + struct.pack("<H", 2) + WHOLE[8:])], "is of schema 2, allowed is 1"),
        ([frame(1, WHOLE), frame(2, WHOLE, port=14_318)], "must hold one channel, found"),
        ([frame(1, trade_message(1, 1, 1))], r"holds no book refresh \(template 46\)"),
        ([frame(1, struct.pack("<HHHHH", 32, 11, 47, 1, 9) + bytes(22))], r"single orders \(template 47\).*Databento mbo"),
        ([frame(1, WHOLE, port=14_999)], "nobody told what security 7 of channel 999 is; write it with its security_id"),
        ([], "holds no UDP packets"),
    ],
)
def test_a_broken_or_foreign_capture_is_refused_with_its_packet(tmp_path: Path, frames: list[bytes], refusal: str) -> None:
    path = write(tmp_path, *frames)

    with pytest.raises((ConfigError, IntegrityError), match=refusal) as refused:
        events_of(path)
    assert str(path) in str(refused.value)


def test_pcapng_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(b"\x0a\x0d\x0d\x0a" + b"\0" * 60)

    with pytest.raises(ConfigError, match="editcap -F nsecpcap"):
        open_source(path)


@given(st.lists(st.tuples(st.integers(0, 1_500), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 1_500))
def test_damage_ends_in_a_clear_error_or_in_events(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]], kept: int
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    path = write(folder, frame(1, WHOLE), frame(2, trade_message(100, 1, 1), book_message(entry("0", 1, 100, 5, CHANGE))))
    content = bytearray(path.read_bytes())
    for at, value in flips:
        content[at % len(content)] = value
    path.write_bytes(content[: len(content) - kept % 40])

    try:
        events_of(path)
    except TidebookError as exc:
        assert str(path) in str(exc)  # noqa: PT017 (a changed size does no harm)


# --- the recordings --------------------------------------------------------------------------------------------------------


@pytest.mark.recordings
def test_both_recorded_feeds_are_one_stream_with_the_trades_that_were_counted(recordings: Path) -> None:
    paths = sorted((recordings / FOLDER).glob("*.xz"))
    (source,) = open_sources(paths)
    events = list(source.events(0))

    trades = [event for event in events if isinstance(event, TradeTick)]
    books = [event for event in events if isinstance(event, BookSnapshot)]
    assert (len(trades), sum(trade.size for trade in trades)) == (844, 6_468)
    assert Counter(type(event) for event in events) == {TradeTick: 844, BookSnapshot: 19_005}
    assert round((books[0].ts_recv - source.start_ns) / NS_PER_S, 1) == 2.4  # when all 20 levels are known
    assert all(book.bid_ticks[0] < book.ask_ticks[0] and len(book.bid_ticks) == len(book.ask_ticks) == 10 for book in books)
    notes: Counter[str] = source.notes  # type: ignore[attr-defined]
    assert notes["packets that came twice"] == 22_627
    assert round(notes[f"packets that came first in {paths[0].name}"] / 22_627, 3) == 0.903


@pytest.mark.recordings
def test_recorded_feeds_with_different_holes_are_the_same_stream_as_the_whole_one(recordings: Path, tmp_path: Path) -> None:
    paths = sorted((recordings / FOLDER).glob("*.xz"))
    draw = random.Random(7)
    holed = []
    for number, path in enumerate(paths):
        raw = lzma.decompress(path.read_bytes())
        kept, at = [raw[:24]], 24
        while at < len(raw) and len(kept) < 4_000:
            length = struct.unpack_from("<I", raw, at + 8)[0] + 16
            # A hole in one feed lies where the other has none.
            if len(kept) % 2 != number or draw.random() > 0.1:
                kept.append(raw[at : at + length])
            else:
                kept.append(b"")
            at += length
        holed.append(tmp_path / path.name)
        holed[-1].write_bytes(b"".join(kept))
    whole = list(open_feed(holed)._events)
    assert not any(isinstance(event, SessionChanged) for event in whole)
    assert sum(isinstance(event, BookSnapshot) for event in whole) > 1_000
