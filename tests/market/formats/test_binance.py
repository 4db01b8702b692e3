"""Binance streams: the book follows the venue's rule of synchronisation, and agrees with the venue's own best quotes."""

from __future__ import annotations

import gzip
import json
import tempfile
from bisect import bisect_right
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.errors import ConfigError, IntegrityError
from framework.market.formats import open_feed, open_source
from framework.messages import BookInvalid, BookSnapshot, SessionChanged, TradeTick
from framework.model import NS_PER_MS, NS_PER_S, Side

FOLDER = "binance_futures_l2"
T0_MS = 1_723_161_255_000
BTC_PAIR = ("usdm_btcusdt_20240718.gz", "usdm_btcusdt_20240719.gz")


def line(number: int, message: dict[str, Any]) -> bytes:
    return f"{(T0_MS + number) * NS_PER_MS} {json.dumps(message, separators=(',', ':'))}\n".encode()


def depth(number: int, first: int, last: int, before: int, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> bytes:
    data = {"e": "depthUpdate", "E": T0_MS + number, "T": T0_MS + number, "s": "BTCUSDT", "U": first, "u": last, "pu": before}
    return line(number, {"stream": "btcusdt@depth@0ms", "data": data | {"b": bids, "a": asks}})


def trade(number: int, price: str, quantity: str, *, stream: str = "trade", is_maker: bool = True, kind: str = "MARKET") -> bytes:
    data = {"e": stream, "E": T0_MS + number, "T": T0_MS + number, "p": price, "q": quantity, "X": kind, "m": is_maker}
    return line(number, {"stream": f"btcusdt@{stream}", "data": data})


def snapshot(number: int, last: int) -> bytes:
    bids = [["100.0", "1.000"], ["99.9", "2.000"]]
    return line(number, {"lastUpdateId": last, "E": T0_MS, "T": T0_MS, "bids": bids, "asks": [["100.2", "3.000"]]})


def write(folder: Path, *lines: bytes, name: str = "btc.gz") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(b"".join(lines), mtime=0))
    return path


def events_of(path: Path) -> list[Any]:
    return list(open_source(path).events(0))


SYNCED = [depth(0, 1, 10, 0, [("98.0", "9.000")], []), snapshot(1, 20), depth(2, 15, 22, 10, [("99.9", "5.000")], [("100.1", "0.007")])]
"""An update from before the snapshot, the snapshot, and the update that spans it."""


def test_the_first_update_applied_spans_the_snapshot_and_older_ones_are_dropped(tmp_path: Path) -> None:
    (book,) = events_of(write(tmp_path, *SYNCED))

    assert (book.bid_ticks, book.bid_sizes) == ((1_000, 999), (1_000, 5_000))
    assert (book.ask_ticks, book.ask_sizes) == ((1_001, 1_002), (7, 3_000))
    assert (book.ts_event, book.ts_recv) == ((T0_MS + 2) * NS_PER_MS, (T0_MS + 2) * NS_PER_MS)


def test_updates_that_came_before_their_snapshot_are_applied_to_it(tmp_path: Path) -> None:
    spanning, after = depth(0, 15, 22, 10, [("99.9", "5.000")], []), depth(1, 23, 25, 22, [("100.0", "0")], [])

    (book,) = events_of(write(tmp_path, spanning, after, snapshot(2, 20)))

    assert (book.bid_ticks, book.bid_sizes) == ((999,), (5_000,))


def test_a_snapshot_older_than_the_first_update_is_passed_over_and_the_next_one_taken(tmp_path: Path) -> None:
    events = events_of(write(tmp_path, depth(0, 50, 60, 49, [], []), snapshot(1, 20), snapshot(2, 55), depth(3, 61, 62, 60, [], [])))

    assert [(type(event), event.ts_recv) for event in events] == [
        (BookSnapshot, (T0_MS + 2) * NS_PER_MS),
        (BookSnapshot, (T0_MS + 3) * NS_PER_MS),
    ]


def test_a_missing_update_closes_the_session_until_a_snapshot_fits_again(tmp_path: Path) -> None:
    lost = [depth(3, 30, 31, 29, [], []), depth(4, 32, 33, 31, [("100.1", "1.000")], []), snapshot(5, 31), depth(6, 34, 35, 33, [], [])]

    events = events_of(write(tmp_path, *SYNCED, *lost))

    assert [type(event) for event in events] == [BookSnapshot, SessionChanged, SessionChanged, BookSnapshot, BookSnapshot]
    assert (events[1].is_open, events[1].reason) == (False, "gap: depth updates after 22 are missing")
    assert events[2].is_open
    assert events[3].bid_ticks == (1_001, 1_000, 999)


def test_the_side_that_was_not_the_maker_began_the_trade_and_other_kinds_of_trade_are_dropped(tmp_path: Path) -> None:
    trades = [
        trade(3, "100.1", "0.005", is_maker=False),
        trade(4, "100.0", "1.000"),
        trade(5, "100.0", "1.000", kind="INSURANCE_FUND"),
        trade(6, "100.0", "1.000", stream="aggTrade"),
    ]

    events = [event for event in events_of(write(tmp_path, *SYNCED, *trades)) if isinstance(event, TradeTick)]

    assert [(one.price_ticks, one.size, one.aggressor) for one in events] == [(1_001, 5, Side.BUY), (1_000, 1_000, Side.SELL)]


def test_a_trade_that_came_twice_counts_once(tmp_path: Path) -> None:
    one = trade(3, "100.1", "0.005").replace(b'"p":', b'"t":7,"p":')
    source = open_source(write(tmp_path, *SYNCED, one, one))

    assert sum(isinstance(event, TradeTick) for event in source.events(0)) == 1
    assert source.notes["trades that came twice, left out"] == 1  # type: ignore[attr-defined]


def test_aggregated_trades_count_where_there_are_no_single_ones(tmp_path: Path) -> None:
    events = events_of(write(tmp_path, *SYNCED, trade(3, "100.1", "0.005", stream="aggTrade")))

    assert [event.size for event in events if isinstance(event, TradeTick)] == [5]


def test_a_file_without_a_snapshot_goes_on_with_the_book_of_the_one_before(tmp_path: Path, collect: Any) -> None:
    first = write(tmp_path, *SYNCED, name="a.gz")
    second = write(tmp_path, depth(9, 23, 30, 22, [("100.0", "0")], []), name="b.gz")

    events = collect(open_feed([second, first]))

    assert [event.bid_ticks for event in events] == [(1_000, 999), (999,)]
    assert [event.sequence for event in events] == [0, 1]
    with pytest.raises(ConfigError, match=r"b\.gz: holds no depth snapshot, .* name the recording before it too"):
        collect(open_feed([second]))


def test_a_file_without_a_snapshot_finds_the_one_of_the_day_before_in_its_folder(tmp_path: Path) -> None:
    write(tmp_path, *SYNCED, name="btc_20240731.gz")
    second = write(tmp_path, depth(9, 23, 30, 22, [("100.0", "0")], []), name="btc_20240801.gz")

    (book,) = events_of(second)

    assert book.bid_ticks == (999,)


@pytest.mark.parametrize(
    ("lines", "refusal"),
    [
        ([*SYNCED[:2], depth(-5, 21, 22, 20, [], [])], "line 3 was received before the line above it"),
        (
            [*SYNCED, depth(3, 23, 24, 22, [("100.05", "1")], [])],
            r"line 4: 100\.05 is not a multiple of the tick size 0\.1; fetch .*instruments\.yaml",
        ),
        ([*SYNCED, depth(3, 23, 24, 22, [("100.0", "0.0004")], [])], r"line 4: 0\.0004 is not a multiple of the lot size 0\.001"),
        ([*SYNCED, depth(3, 23, 24, 22, [("x", "1")], [])], "line 4: 'x' is no number"),
        ([*SYNCED, line(3, {"stream": "btcusdt@depth@0ms", "data": {"e": "depthUpdate"}})], "line 4 is not what its stream sends"),
        ([*SYNCED, SYNCED[-1][:60]], "line 4 is no receive time with a JSON message"),
        ([*SYNCED, trade(3, "1", "1").replace(b"btcusdt@", b"ethusdt@")], "the streams of one symbol, found BTCUSDT, ETHUSDT"),
        ([one.replace(b"btcusdt@", b"zzz@") for one in SYNCED], r"unknown symbol 'ZZZ': .* write ZZZ\.BINANCEUM into .*instruments\.yaml"),
    ],
    ids=["reordered", "off tick", "off lot", "no number", "fields missing", "cut line", "two symbols", "unknown symbol"],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path: Path, lines: list[bytes], refusal: str) -> None:
    path = write(tmp_path, *lines)

    with pytest.raises((ConfigError, IntegrityError), match=refusal) as refused:
        events_of(path)
    assert str(path) in str(refused.value)


@given(st.integers(0, 400))
def test_a_cut_file_is_refused_wherever_it_was_cut(kept: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), *SYNCED)
        content = path.read_bytes()
        path.write_bytes(content[: min(kept, len(content) - 1)])
        with pytest.raises((ConfigError, IntegrityError), match=r"btc\.gz"):
            events_of(path)


# --- the recordings --------------------------------------------------------------------------------------------------------


@pytest.mark.recordings
def test_the_recorded_night_of_two_files_passes_the_gate(recordings: Path, make_rig: Any) -> None:
    feed = open_feed([recordings / FOLDER / name for name in BTC_PAIR])
    rig = make_rig(feed.instruments)

    assert rig.run(feed)

    assert rig.listener.of(BookInvalid) == rig.listener.of(SessionChanged) == []
    assert rig.market_data.stats() == {"accepted": 9_017 + 10_701}
    assert {len(book.bid_ticks) for book in rig.listener.of(BookSnapshot)} == {10}


@pytest.mark.recordings
def test_the_rebuilt_best_prices_are_those_of_the_venues_own_quotes(recordings: Path) -> None:
    path = recordings / FOLDER / BTC_PAIR[0]
    messages = [json.loads(one.partition(b" ")[2]) for one in gzip.decompress(path.read_bytes()).splitlines()]
    quotes = [(one["data"]["u"], one["data"]) for one in messages if one.get("data", {}).get("e") == "bookTicker"]
    known = [number for number, _ in quotes]
    updates = {one["data"]["T"] * NS_PER_MS: one["data"]["u"] for one in messages if one.get("data", {}).get("e") == "depthUpdate"}

    books = [event for event in events_of(path) if isinstance(event, BookSnapshot)]

    assert books
    for book in {book.ts_event: book for book in books}.values():
        quote = quotes[bisect_right(known, updates[book.ts_event]) - 1][1]
        assert book.bid_ticks[0] == round(float(quote["b"]) * 10)
        assert book.ask_ticks[0] == round(float(quote["a"]) * 10)
        assert book.bid_sizes[0] == round(float(quote["B"]) * 1000)


@pytest.mark.recordings
def test_books_beyond_the_range_of_the_snapshot_are_counted(recordings: Path) -> None:
    source = open_source(recordings / FOLDER / "usdm_btcusdt_20240808.gz")
    events = list(source.events(0))

    assert (sum(isinstance(one, BookSnapshot) for one in events), sum(isinstance(one, TradeTick) for one in events)) == (6_546, 21_313)
    assert source.notes["books with levels beyond the range of the snapshot"] > 722  # type: ignore[attr-defined]
    assert source.end_ns - source.start_ns > 340 * NS_PER_S
