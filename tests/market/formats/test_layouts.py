"""Exported bars, Tardis files and Binance archives are known by their header; the recorded bars are those their publisher counts."""

from __future__ import annotations

import gzip
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from framework.errors import ConfigError
from framework.market.formats import open_feed, open_source
from framework.messages import Bar, BookSnapshot, SessionChanged, TradeTick
from framework.model import NS_PER_S, Side

TARDIS_TRADES = """exchange,symbol,timestamp,local_timestamp,id,side,price,amount
binance-futures,BTCUSDT,1700000000000000,1700000000001000,1,buy,37000.1,0.010
binance-futures,BTCUSDT,1700000000500000,1700000000501000,2,sell,37000.0,1.000
binance-futures,BTCUSDT,1700000000500000,1700000000501000,3,unknown,37000.0,1.000
"""
TARDIS_SNAPSHOT = """exchange,symbol,timestamp,local_timestamp,asks[0].price,asks[0].amount,bids[0].price,bids[0].amount,asks[1].price,\
asks[1].amount,bids[1].price,bids[1].amount
binance-futures,BTCUSDT,1700000000000000,1700000000001000,37000.2,1.5,37000.1,2,37000.4,1,37000.0,0.001
binance-futures,BTCUSDT,1700000001000000,1700000001001000,37000.1,1.5,37000.1,2,,,,
binance-futures,BTCUSDT,1700000002000000,1700000002001000,37000.2,1.5,37000.1,2,,,,
"""
TARDIS_BOOK = """exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount
binance-futures,BTCUSDT,1,10,false,bid,1,1
binance-futures,BTCUSDT,2,20,true,bid,37000.0,2
binance-futures,BTCUSDT,2,20,true,ask,37000.5,3
binance-futures,BTCUSDT,3,30,false,bid,37000.1,1
binance-futures,BTCUSDT,3,30,false,ask,37000.5,0
binance-futures,BTCUSDT,3,30,false,ask,37000.6,4
binance-futures,BTCUSDT,9,90,true,bid,36000.0,2
binance-futures,BTCUSDT,9,90,true,ask,36000.1,2
"""


def packed(folder: Path, text: str, name: str = "btc.csv.gz") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return path


def zipped(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.csv", text)
    return path


def events_of(path: Path) -> list[Any]:
    return list(open_source(path).events(0))


def test_tardis_trades_have_their_side_and_arrive_when_they_were_received(tmp_path: Path) -> None:
    events = events_of(packed(tmp_path, TARDIS_TRADES))

    assert [(one.price_ticks, one.size, one.aggressor) for one in events] == [
        (370_001, 10, Side.BUY), (370_000, 1_000, Side.SELL), (370_000, 1_000, None),
    ]  # fmt: skip
    assert (events[0].instrument_id, events[0].ts_recv - events[0].ts_event) == ("BTCUSDT.BINANCEUM", 1_000_000)


def test_tardis_snapshots_have_their_levels_and_locked_ones_are_left_out(tmp_path: Path) -> None:
    source = open_source(packed(tmp_path, TARDIS_SNAPSHOT))
    first, last = source.events(0)

    assert (first.bid_ticks, first.ask_sizes) == ((370_001, 370_000), (1_500, 1_000))  # type: ignore[union-attr]
    assert last.bid_ticks == (370_001,)  # type: ignore[union-attr]
    assert source.notes == {"crossed books left out": 1}  # type: ignore[attr-defined]


def test_a_tardis_book_is_shown_after_each_message_and_begins_anew_with_a_snapshot(tmp_path: Path) -> None:
    events = events_of(packed(tmp_path, TARDIS_BOOK))

    assert [type(one) for one in events] == [BookSnapshot, BookSnapshot, SessionChanged, SessionChanged, BookSnapshot]
    books = [one for one in events if isinstance(one, BookSnapshot)]
    assert [(one.bid_ticks, one.ask_ticks) for one in books] == [
        ((370_000,), (370_005,)), ((370_001, 370_000), (370_006,)), ((360_000,), (360_001,)),
    ]  # fmt: skip
    assert [one.ts_recv for one in books] == [20_000, 30_000, 90_000]
    assert [one.sequence for one in books] == [0, 1, 2]


def test_tardis_books_and_trades_of_one_symbol_are_one_market_and_two_of_a_kind_are_refused(tmp_path: Path, collect: Any) -> None:
    snapshots, trades = packed(tmp_path, TARDIS_SNAPSHOT, "a.gz"), packed(tmp_path, TARDIS_TRADES, "b.gz")
    feed = open_feed([trades, snapshots])

    assert [type(one) for one in collect(feed)] == [TradeTick, BookSnapshot, TradeTick, TradeTick, BookSnapshot]
    assert len(feed.instruments) == 1
    with pytest.raises(ConfigError, match=r"overlaps .* in time"):
        open_feed([trades, packed(tmp_path, TARDIS_TRADES, "c.gz")])


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (TARDIS_BOOK.replace("bid,37000.1", "bod,37000.1"), "line 5 has the side 'bod'"),
        (TARDIS_BOOK.replace("37000.6", "37000.65"), r"line 7 has the price 37000\.65"),
        (TARDIS_BOOK.replace(",3,30,false,bid", ",3,15,false,bid"), "line 5 is earlier than the line above it"),
        (TARDIS_BOOK.replace("BTCUSDT,9", "ETHUSDT,9"), "holds 2 symbols; split it by symbol"),
        (
            TARDIS_TRADES.replace("BTCUSDT", "NEWUSDT"),
            r"unknown symbol 'NEWUSDT': .* write NEWUSDT\.BINANCEUM into",
        ),
    ],
)
def test_a_broken_tardis_file_is_refused_with_its_line(tmp_path: Path, text: str, refusal: str) -> None:
    with pytest.raises(ConfigError, match=refusal):
        events_of(packed(tmp_path, text))


def test_a_symbol_that_nobody_knows_is_defined_in_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "instruments.yaml").write_text("instruments:\n  - {instrument_id: NEWUSDT.BINANCEUM, tick_size: 0.1, lot_size: 0.001}\n")

    first, *_ = events_of(packed(tmp_path, TARDIS_TRADES.replace("BTCUSDT", "NEWUSDT")))

    assert (first.instrument_id, first.price_ticks) == ("NEWUSDT.BINANCEUM", 370_001)


@pytest.mark.parametrize("has_header", [True, False])
def test_binance_archives_of_aggregated_trades_are_read_with_and_without_a_header(tmp_path: Path, *, has_header: bool) -> None:
    header = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n" if has_header else ""
    rows = "1,37000.1,0.5,10,10,1700000000000,true\n2,37000.2,0.001,11,12,1700000000001,false\n"

    events = events_of(zipped(tmp_path, "BTCUSDT-aggTrades-2023-11-14", header + rows))

    assert [(one.price_ticks, one.size, one.aggressor) for one in events] == [(370_001, 500, Side.SELL), (370_002, 1, Side.BUY)]
    assert events[0].ts_event == 1_700_000_000 * NS_PER_S


def test_binance_archives_of_quotes_and_bars_are_read(tmp_path: Path) -> None:
    quotes = "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time\n"
    quotes += "1,36999.9,1,37000.0,2,1700000000000,1\n"
    bars = "1700000000000,37000,37001,36999,37000.5,3,1700000059999,1,9,1.25,1,0\n"

    (book,) = events_of(zipped(tmp_path, "BTCUSDT-bookTicker-2023-11-14", quotes))
    (bar,) = events_of(zipped(tmp_path, "BTCUSDT-1m-2023-11", bars))

    assert (book.bid_ticks, book.bid_sizes, book.ask_ticks) == ((369_999,), (1_000,), (370_000,))
    assert (bar.ts_event, bar.interval_s, bar.volume, bar.buy_volume, bar.sell_volume) == (
        1_700_000_060 * NS_PER_S,
        60,
        3_000,
        1_250,
        1_750,
    )


def test_bars_whose_name_does_not_say_what_they_are_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("timestamp_utc,open,high,low,close,volume\n2024-01-01 00:00:00,1,1,1,1,1\n")

    with pytest.raises(ConfigError, match="its name does not say which contract and interval it is"):
        open_source(path)


# --- the recordings --------------------------------------------------------------------------------------------------------


@pytest.mark.recordings
def test_nine_recorded_years_of_bars_are_as_many_as_their_publisher_counts(recordings: Path) -> None:
    bars = [bar for path in sorted((recordings / "cme_es_bars_5m").glob("*.zst")) for bar in events_of(path)]

    assert len(bars) == 627_831
    assert sum(bar.volume for bar in bars) == 3_272_121_259
    assert sum(bar.buy_volume + bar.sell_volume != bar.volume for bar in bars) == 3
    assert min(bar.ts_event for bar in bars) == round(datetime(2014, 12, 24, 0, 5, tzinfo=UTC).timestamp()) * NS_PER_S


@pytest.mark.recordings
@pytest.mark.parametrize(("name", "count"), [("ES", 9_419), ("NQ", 9_128)])
def test_recorded_volumetric_bars_end_at_their_time_and_add_up(recordings: Path, name: str, count: int) -> None:
    bars = events_of(recordings / "cme_index_volumetric_1m" / f"{name}_volumetric_1m.csv.zst")

    assert len(bars) == count
    assert all(isinstance(bar, Bar) and bar.buy_volume + bar.sell_volume == bar.volume for bar in bars)
    assert bars[0].ts_event == round(datetime(2026, 2, 5, 23, 1, tzinfo=UTC).timestamp()) * NS_PER_S


@pytest.mark.recordings
def test_a_recorded_month_of_currency_bars_replays_as_a_feed(recordings: Path, collect: Any) -> None:
    feed = open_feed([recordings / "cme_6e_bars_1m" / "6EH4_1min_20240101_20240131.csv.gz"])

    bars = collect(feed)

    assert len(bars) == 29_996
    assert str(feed.instruments[0].tick_size) == "0.00005"
    assert bars[0].ts_event == round(datetime(2024, 1, 1, 23, 2, tzinfo=UTC).timestamp()) * NS_PER_S


def test_depth_by_distance_is_no_book_and_says_what_to_take(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-bookDepth-2024-08-08.csv"
    path.write_text("timestamp,percentage,depth,notional\n2024-08-08 00:00:09,-5,8254.8,450.1\n")
    with pytest.raises(ConfigError, match="no book can be made of it; take the archive bookTicker"):
        open_source(path)
