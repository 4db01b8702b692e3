"""Databento: a book rebuilt order by order is sound at every event's end, and trades agree over the schemas."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import date
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from framework.errors import ConfigError, IntegrityError
from framework.market.formats import open_feed, open_source, open_sources
from framework.market.formats.databento import read_definitions
from framework.market.formats.dbn_records import MBP_10
from framework.messages import Bar, BookInvalid, BookSnapshot, TradeTick
from framework.model import NS_PER_MS, NS_PER_S, Side

databento_dbn = pytest.importorskip("databento_dbn")

FOLDER = "cme_es_databento"
MBO = "esh4-glbx-mdp3-20231225.mbo.dbn.zst"
MBP_1 = "futures_mbp-1_2024-07-01T23-58_2024-07-02T00-02.dbn.zst"
TRADES = "futures_trades_2024-07-01T23-58_2024-07-02T00-02.dbn.zst"
BARS = "futures_ohlcv-1m_2024-07-01T23-40_2024-07-02T00-10.dbn.zst"
TRADES_FROM_NS = 1_719_878_280 * NS_PER_S  # 2024-07-01 23:58 UTC
TRADES_TO_NS = TRADES_FROM_NS + 240 * NS_PER_S
OPENING_NS = 1_703_545_200 * NS_PER_S  # 2023-12-25 23:00 UTC

LAST = 0x80
SNAPSHOT = 0x20


def order(action: str, side: str, price: float, size: int, order_id: int = 0, *, at_s: float = 0.0, flags: int = LAST) -> bytes:
    message = databento_dbn.MBOMsg(
        publisher_id=1,
        instrument_id=17077,
        ts_event=OPENING_NS + round(at_s * NS_PER_S),
        order_id=order_id,
        price=round(price * 1e9),
        size=size,
        action=databento_dbn.Action(action),
        side=databento_dbn.Side(side),
        ts_recv=OPENING_NS + round(at_s * NS_PER_S),
        flags=flags,
    )
    return bytes(message)


def write(path: Path, *records: bytes, schema: str = "mbo", symbol: str = "ESH4") -> Path:
    interval = SimpleNamespace(start_date=date(2023, 12, 25), end_date=date(2023, 12, 26), symbol="17077")
    metadata = databento_dbn.Metadata(
        dataset="GLBX.MDP3",
        start=OPENING_NS,
        stype_in=databento_dbn.SType.RAW_SYMBOL,
        stype_out=databento_dbn.SType.INSTRUMENT_ID,
        schema=databento_dbn.Schema(schema),
        symbols=[symbol],
        mappings=[SimpleNamespace(raw_symbol=symbol, intervals=[interval])],
    )
    path.write_bytes(bytes(metadata) + b"".join(records))
    return path


def events_of(path: Path, **settings: Any) -> list[Any]:
    return list(open_source(path, **settings).events(0))


OPEN = [
    order("A", "B", 4_800.00, 5, 1),
    order("A", "B", 4_799.75, 7, 2),
    order("A", "A", 4_800.25, 6, 3),
    order("T", "B", 4_800.25, 1, flags=0),
    order("C", "A", 4_800.25, 1, 3),
]
"""Two bids and an offer, and a first trade that starts continuous trading."""


def books_after(path: Path, *records: bytes) -> list[BookSnapshot]:
    events = events_of(write(path, *OPEN, *records))
    assert isinstance(events[0], TradeTick)
    assert events[1].bid_ticks == (19_200, 19_199)
    return [event for event in events[2:] if isinstance(event, BookSnapshot)]


def test_the_book_before_the_first_trade_is_not_shown_and_the_trade_comes_before_its_book(tmp_path: Path) -> None:
    trade, book = events_of(write(tmp_path / "es.dbn", *OPEN))

    assert (trade.price_ticks, trade.size, trade.aggressor) == (19_201, 1, Side.BUY)
    assert (book.bid_ticks, book.bid_sizes, book.ask_ticks, book.ask_sizes) == ((19_200, 19_199), (5, 7), (19_201,), (5,))
    assert book.sequence > trade.sequence


def test_the_instrument_has_the_facts_of_its_contract(tmp_path: Path) -> None:
    (instrument,) = open_source(write(tmp_path / "es.dbn", *OPEN)).instruments

    assert (instrument.instrument_id, str(instrument.tick_size), int(instrument.multiplier)) == ("ESH4.GLBX", "0.25", 50)
    assert (instrument.currency, instrument.has_trades) == ("USD", True)


@pytest.mark.parametrize(
    ("record", "bids", "asks"),
    [
        (order("A", "B", 4_800.00, 2, 9), {19_200: 7, 19_199: 7}, {19_201: 5}),
        (order("A", "A", 4_801.00, 2, 9), {19_200: 5, 19_199: 7}, {19_201: 5, 19_204: 2}),
        (order("C", "B", 4_800.00, 2, 1), {19_200: 3, 19_199: 7}, {19_201: 5}),
        (order("C", "B", 4_800.00, 5, 1), {19_199: 7}, {19_201: 5}),
        (order("M", "B", 4_799.75, 4, 1), {19_199: 11}, {19_201: 5}),
        (order("M", "B", 4_800.00, 1, 1), {19_200: 1, 19_199: 7}, {19_201: 5}),
        (order("M", "A", 4_802.00, 3, 77), {19_200: 5, 19_199: 7}, {19_201: 5, 19_208: 3}),
    ],
    ids=["add", "add a level", "cancel a part", "cancel all", "move", "shrink", "modify an unknown order"],
)
def test_each_action_changes_the_book_as_the_exchange_means_it(
    tmp_path: Path, record: bytes, bids: dict[int, int], asks: dict[int, int]
) -> None:
    (book,) = books_after(tmp_path / "es.dbn", record)

    assert dict(zip(book.bid_ticks, book.bid_sizes, strict=True)) == bids
    assert dict(zip(book.ask_ticks, book.ask_sizes, strict=True)) == asks


def test_fills_and_unknown_cancels_do_not_change_the_book(tmp_path: Path) -> None:
    assert books_after(tmp_path / "es.dbn", order("F", "B", 4_800.00, 5, 1), order("C", "B", 4_800.00, 5, 404)) == []


def test_the_book_is_looked_at_only_where_an_event_ends(tmp_path: Path) -> None:
    cross = order("A", "B", 4_801.00, 5, 9, flags=0)

    (book,) = books_after(tmp_path / "es.dbn", cross, order("C", "B", 4_801.00, 5, 9, flags=0), order("A", "B", 4_799.00, 1, 10))

    assert book.bid_ticks == (19_200, 19_199, 19_196)


def test_a_crossed_book_is_an_auction_and_nothing_is_shown_until_it_has_traded(tmp_path: Path) -> None:
    auction = [
        order("A", "B", 4_801.00, 1, 9, at_s=1),
        order("C", "B", 4_801.00, 1, 9, at_s=2),
        order("A", "B", 4_799.00, 1, 10, at_s=3),
    ]
    opening = [order("T", "N", 4_800.25, 2, at_s=4, flags=0), order("C", "A", 4_800.25, 2, 3, at_s=4)]

    assert books_after(tmp_path / "closed.dbn", *auction) == []
    (book,) = books_after(tmp_path / "reopened.dbn", *auction, *opening)
    assert (book.bid_ticks, book.ask_sizes) == ((19_200, 19_199, 19_196), (3,))


def test_a_clear_empties_the_book(tmp_path: Path) -> None:
    assert books_after(tmp_path / "es.dbn", order("R", "N", 0, 0), order("A", "B", 4_700.00, 1, 9)) == []


def test_snapshot_records_build_the_book_but_show_nothing(tmp_path: Path) -> None:
    resting = order("A", "B", 4_790.00, 3, 50, at_s=-9_000, flags=LAST | SNAPSHOT)
    events = events_of(write(tmp_path / "es.dbn", resting, *OPEN))

    assert events[-1].bid_ticks == (19_200, 19_199, 19_160)
    assert len(events) == 2


def test_books_can_be_thinned_out_to_one_per_interval(tmp_path: Path) -> None:
    adds = [order("A", "B", 4_799.00, 1, 10 + number, at_s=number * 0.03) for number in range(1, 21)]
    path = write(tmp_path / "es.dbn", *OPEN, *adds)

    every = [event for event in events_of(path) if isinstance(event, BookSnapshot)]
    thinned = [event for event in events_of(path, book_interval_ns=100 * NS_PER_MS) if isinstance(event, BookSnapshot)]

    assert len(every) == 21
    gaps = [after.ts_recv - before.ts_recv for before, after in pairwise(thinned)]
    assert min(gaps) >= 100 * NS_PER_MS
    assert {book.bid_sizes for book in thinned} < {book.bid_sizes for book in every}


def test_an_unchanged_book_is_shown_again_after_a_second_so_that_silence_means_silence(tmp_path: Path) -> None:
    deep = [order("A", "B", 4_700.00 - level, 1, 100 + level) for level in range(10)]
    below = [order("A", "B", 4_600.00, 1, 200 + number, at_s=1 + number * 0.25) for number in range(8)]

    shown = [event for event in events_of(write(tmp_path / "es.dbn", *OPEN, *deep, *below)) if isinstance(event, BookSnapshot)]

    assert [event.ts_recv - OPENING_NS for event in shown[-2:]] == [1 * NS_PER_S, 2 * NS_PER_S]


# --- refusals --------------------------------------------------------------------------------------------------------------


def test_an_unknown_symbol_and_an_unknown_schema_are_refused_with_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown symbol 'XXH4': .* known: futures of ES, MES"):
        open_source(write(tmp_path / "xx.dbn", *OPEN, symbol="XXH4"))
    with pytest.raises(ConfigError, match=r"schema 'tbbo' is not replayed, allowed are mbo, mbp-1, mbp-10, trades"):
        open_source(write(tmp_path / "quotes.dbn", schema="tbbo"))


def test_a_file_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no records of schema mbo"):
        open_source(write(tmp_path / "none.dbn"))


def test_a_price_between_two_ticks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"record 0: price 4800\.1 of ESH4\.GLBX is not a multiple of its tick size 0\.25"):
        events_of(write(tmp_path / "es.dbn", order("A", "B", 4_800.1, 1, 1)))


@pytest.mark.parametrize("kept", [3, 50, 200, -1, -57])
def test_a_cut_file_is_refused_at_once_and_named(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "es.dbn", *OPEN)
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises((ConfigError, IntegrityError), match=r"es\.dbn"):
        open_source(path)


def test_without_the_extra_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "es.dbn", *OPEN)
    monkeypatch.setitem(sys.modules, "databento_dbn", None)

    with pytest.raises(ConfigError, match=r"pip install 'tidebook\[databento\]'"):
        open_source(path)


def test_a_record_that_is_shorter_than_its_kind_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "es.dbn", *OPEN)
    content = bytearray(path.read_bytes())
    content[-56] = 5
    path.write_bytes(content)

    with pytest.raises(IntegrityError, match="a record of 20 bytes"):
        open_source(path)


def price_levels(count: int) -> bytes:
    """Return an mbp-10 record with `count` levels a side."""
    record = np.zeros(1, MBP_10)
    record["length"], record["rtype"], record["instrument_id"], record["flags"] = MBP_10.itemsize // 4, 10, 17_077, LAST
    record["ts_event"] = record["ts_recv"] = OPENING_NS
    record["action"], record["side"], record["price"], record["size"] = b"T", b"A", 4_800 * 10**9, 3
    for level in range(10):
        is_there = level < count
        record["levels"]["bid_px"][0, level] = (4_800 * 10**9 - level * 250_000_000) if is_there else 2**63 - 1
        record["levels"]["ask_px"][0, level] = (4_800 * 10**9 + (level + 1) * 250_000_000) if is_there else 2**63 - 1
        record["levels"]["bid_sz"][0, level], record["levels"]["ask_sz"][0, level] = (5 + level, 6 + level) if is_there else (0, 0)
    return record.tobytes()


def test_ten_levels_by_price_are_shown_without_those_that_are_not_there(tmp_path: Path) -> None:
    trade, book = events_of(write(tmp_path / "es.dbn", price_levels(3), schema="mbp-10"))

    assert (trade.price_ticks, trade.size, trade.aggressor) == (19_200, 3, Side.SELL)
    assert (book.bid_ticks, book.bid_sizes) == ((19_200, 19_199, 19_198), (5, 6, 7))
    assert (book.ask_ticks, book.ask_sizes) == ((19_201, 19_202, 19_203), (6, 7, 8))
    # The layout that was written is the library's.
    decoder = databento_dbn.DBNDecoder()
    decoder.write(write(tmp_path / "es.dbn", price_levels(3), schema="mbp-10").read_bytes())
    record = decoder.decode()[1]
    assert (record.levels[2].bid_px, record.levels[2].ask_sz) == (4_799_500_000_000, 8)


# --- the recordings --------------------------------------------------------------------------------------------------------


@pytest.mark.recordings
def test_the_recorded_hour_has_the_trades_that_its_publisher_counts_and_no_crossed_book(recordings: Path) -> None:
    source = open_source(recordings / FOLDER / MBO)
    events = list(source.events(0))

    trades = [event for event in events if isinstance(event, TradeTick)]
    books = [event for event in events if isinstance(event, BookSnapshot)]
    assert (len(trades), sum(trade.size for trade in trades)) == (2_973, 9_892)
    assert Counter(trade.aggressor for trade in trades) == {Side.BUY: 1_542, Side.SELL: 1_430, None: 1}
    assert (min(trade.price_ticks for trade in trades), max(trade.price_ticks for trade in trades)) == (19_201, 19_247)
    assert books[0].ts_recv == 1_703_545_200_106_846_211
    assert all(book.bid_ticks[0] < book.ask_ticks[0] for book in books)
    assert all(len(book.bid_ticks) == len(book.ask_ticks) == 10 for book in books)
    assert len(books) > 30_000
    assert source.read_share == 1.0


@pytest.mark.recordings
def test_the_recorded_hour_passes_the_gate_without_a_refused_book(recordings: Path, make_rig: Any) -> None:
    feed = open_feed([recordings / FOLDER / MBO])
    rig = make_rig(feed.instruments, stale_after_s=60.0)

    assert rig.run(feed)

    assert rig.listener.of(BookInvalid) == []
    assert rig.market_data.stats() == {"accepted": feed.delivered}
    assert len(rig.listener.of(TradeTick)) == 2_973


@pytest.mark.recordings
def test_trades_by_price_and_trades_alone_are_the_same_trades(recordings: Path) -> None:
    alone = events_of(recordings / FOLDER / TRADES)
    by_price = events_of(recordings / FOLDER / MBP_1)

    def facts(events: list[Any]) -> list[tuple[Any, ...]]:
        return [(one.ts_recv, one.price_ticks, one.size, one.aggressor) for one in events if isinstance(one, TradeTick)]

    assert facts(by_price) == facts(alone)
    assert (len(alone), sum(trade.size for trade in alone)) == (120, 253)
    books = [event for event in by_price if isinstance(event, BookSnapshot)]
    assert all(len(book.bid_ticks) == len(book.ask_ticks) == 1 and book.bid_ticks[0] < book.ask_ticks[0] for book in books)


@pytest.mark.recordings
def test_recorded_bars_are_those_of_the_recorded_trades(recordings: Path) -> None:
    bars = [one for one in events_of(recordings / FOLDER / BARS) if one.instrument_id == "ESU4.GLBX"]
    trades = [one for one in events_of(recordings / FOLDER / TRADES) if isinstance(one, TradeTick)]

    assert len(bars) == 30
    checked = 0
    for bar in bars:
        assert isinstance(bar, Bar)
        inside = [one for one in trades if bar.ts_event - 60 * NS_PER_S <= one.ts_event < bar.ts_event]
        if bar.ts_event - 60 * NS_PER_S >= TRADES_FROM_NS and bar.ts_event <= TRADES_TO_NS:
            prices = [one.price_ticks for one in inside]
            assert (bar.open_ticks, bar.high_ticks, bar.low_ticks, bar.close_ticks) == (prices[0], max(prices), min(prices), prices[-1])
            assert bar.volume == sum(one.size for one in inside)
            checked += 1
    assert checked == 4


@pytest.mark.recordings
def test_recorded_definitions_tell_about_the_files_named_with_them(recordings: Path) -> None:
    definitions = recordings / FOLDER / "futures_definition.dbn.zst"
    found = read_definitions(definitions)

    assert found is not None
    assert {name: (str(one.instrument.tick_size), int(one.instrument.multiplier)) for name, one in found.items()} == {
        "ESU4.GLBX": ("0.25", 50), "NQU4.GLBX": ("0.25", 20),
    }  # fmt: skip
    assert found["ESU4.GLBX"].expires_ns == 1_726_839_000 * NS_PER_S
    (source,) = open_sources([recordings / FOLDER / TRADES, definitions])
    assert source.instruments == (found["ESU4.GLBX"].instrument,)
    with pytest.raises(ConfigError, match="holds definitions only; name the market data too"):
        open_feed([definitions])


@pytest.mark.recordings
def test_any_flipped_bit_of_a_compressed_file_is_refused_and_named(recordings: Path, tmp_path: Path) -> None:
    content = (recordings / FOLDER / TRADES).read_bytes()
    path = tmp_path / "damaged.dbn.zst"
    for bit in range(0, len(content) * 8, len(content) * 8 // 60):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises((ConfigError, IntegrityError), match=r"damaged\.dbn\.zst"):
            events_of(path)
