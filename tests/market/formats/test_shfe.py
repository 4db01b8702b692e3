"""SHFE snapshots: books as they stand in the file, trades estimated from volume and average price."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.errors import ConfigError
from framework.market.formats import open_feed, open_source
from framework.market.formats.rows import BUYER, NOBODY, SELLER
from framework.market.formats.shfe import NO_QUOTE, ShfeSource, split_lots
from framework.messages import BookInvalid, BookSnapshot, SessionChanged, TradeTick
from framework.model import Side

NIGHT_US = 1_749_042_000_513_174  # 2025-06-04 21:00:00.5 China time
AUCTION_US = 1_749_041_940_518_402  # a minute before


def make_row(number: int, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "instrumentID": "rb2510",
        "exchangeID": "SHFE",
        "epochTime": NIGHT_US + number * 500_000,
        "volume_chg": 0.0,
        "avgprice": float("nan"),
    }
    for level in range(1, 6):
        row |= {f"bid{level}": 2_974.0 - level, f"bidSize{level}": 10.0 * level, f"ask{level}": 2_973.0 + level, f"askSize{level}": 5.0}
    return row | changes


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    pl.DataFrame(rows).write_parquet(path)
    return path


def events_of(path: Path) -> list[Any]:
    return list(open_source(path).events(0))


def test_a_row_is_a_book_in_ticks_and_lots_stamped_in_utc_nanoseconds(tmp_path: Path) -> None:
    (book,) = events_of(write(tmp_path / "day.parquet", [make_row(0)]))

    assert book == BookSnapshot(
        instrument_id="rb2510.SHFE",
        ts_event=NIGHT_US * 1_000,
        ts_recv=NIGHT_US * 1_000,
        sequence=0,
        bid_ticks=(2_973, 2_972, 2_971, 2_970, 2_969),
        bid_sizes=(10, 20, 30, 40, 50),
        ask_ticks=(2_974, 2_975, 2_976, 2_977, 2_978),
        ask_sizes=(5, 5, 5, 5, 5),
    )


def test_the_instrument_has_the_facts_of_its_product(tmp_path: Path) -> None:
    (instrument,) = open_source(write(tmp_path / "day", [make_row(0, instrumentID="au2508")])).instruments

    assert (instrument.instrument_id, str(instrument.tick_size), int(instrument.multiplier)) == ("au2508.SHFE", "0.02", 1_000)
    assert (instrument.currency, instrument.has_trades, instrument.session_gap_s) == ("CNY", True, 5.0)


def test_levels_without_a_size_or_a_price_are_left_out(tmp_path: Path) -> None:
    row = make_row(0, askSize1=0.0, askSize2=0.0, askSize3=0.0, askSize4=0.0, askSize5=0.0, bid5=float("nan"), bidSize4=0.0)
    (book,) = events_of(write(tmp_path / "limit", [row]))

    assert (book.ask_ticks, book.ask_sizes) == ((), ())
    assert (book.bid_ticks, book.bid_sizes) == ((2_973, 2_972, 2_971), (10, 20, 30))


def test_trades_come_just_before_the_book_at_the_quote_of_the_row_before(tmp_path: Path) -> None:
    moved = {f"{side}{level}": price + 3 for level in range(1, 6) for side, price in (("bid", 2_974.0 - level), ("ask", 2_973.0 + level))}
    path = write(tmp_path / "day", [make_row(0), make_row(1, volume_chg=10.0, avgprice=2_973.3, **moved)])

    first, sold, bought, second = events_of(path)

    assert [type(event) for event in (first, sold, bought, second)] == [BookSnapshot, TradeTick, TradeTick, BookSnapshot]
    assert (sold.price_ticks, sold.size, sold.aggressor) == (2_973, 7, Side.SELL)
    assert (bought.price_ticks, bought.size, bought.aggressor) == (2_974, 3, Side.BUY)
    assert sold.ts_event == bought.ts_event == second.ts_event
    assert sold.sequence == bought.sequence == second.sequence == 1


@pytest.mark.parametrize("auction_us", [AUCTION_US, AUCTION_US + 12 * 3_600 * 1_000_000])
def test_the_opening_auctions_make_no_trades(tmp_path: Path, auction_us: int) -> None:
    rows = [make_row(0, epochTime=auction_us - 500_000), make_row(1, epochTime=auction_us, volume_chg=3_628.0, avgprice=2_974.0)]

    assert [type(event) for event in events_of(write(tmp_path / "day", rows))] == [BookSnapshot, BookSnapshot]


def test_the_first_row_of_a_file_makes_no_trades(tmp_path: Path) -> None:
    assert len(events_of(write(tmp_path / "day", [make_row(0, volume_chg=9.0, avgprice=2_974.0)]))) == 1


def test_the_quote_before_reaches_over_the_chunks_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "day", [make_row(number, volume_chg=2.0, avgprice=2_974.0) for number in range(50)])
    whole = events_of(path)
    monkeypatch.setattr("framework.market.formats.shfe.CHUNK_ROWS", 7)

    assert events_of(path) == whole
    assert len(whole) == 99


def split(lots: int, average: float, bid: int, ask: int) -> list[tuple[int, int, int]]:
    _, *columns = split_lots(np.array([lots]), np.array([average]), np.array([bid]), np.array([ask]))
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(lots=st.integers(1, 100_000), bid=st.integers(2_900, 3_000), spread=st.integers(1, 4), place=st.floats(-1, 2))
def test_split_lots_are_whole_add_up_and_lean_to_the_nearer_side(lots: int, bid: int, spread: int, place: float) -> None:
    average = bid + place * spread
    trades = split(lots, average, bid, bid + spread)
    sold = sum(size for price, size, aggressor in trades if (price, aggressor) == (bid, SELLER))
    bought = sum(size for price, size, aggressor in trades if (price, aggressor) == (bid + spread, BUYER))

    assert sold + bought == lots
    assert all(size > 0 for _, size, _ in trades)
    if 0 <= place <= 1:
        assert abs((sold * bid + bought * (bid + spread)) / lots - average) <= 0.5 * spread / lots + 1e-6
    else:
        assert (sold if place < 0 else bought) == lots


def test_without_a_quote_on_both_sides_nobody_is_the_aggressor() -> None:
    assert split(7, 2_973.6, NO_QUOTE, 2_975) == [(2_974, 7, NOBODY)]


# --- refusals --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([make_row(1), make_row(0)], "row 1 is earlier than the row before"),
        ([make_row(0), make_row(1, instrumentID="rb2601")], "must hold one instrument"),
        ([make_row(0, instrumentID="xx2510")], "unknown product 'xx2510', known are ag, al"),
        ([make_row(0, instrumentID="")], "unknown product ''"),
    ],
)
def test_a_file_that_cannot_be_replayed_is_refused_at_once_and_named(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    path = write(tmp_path / "bad.parquet", rows)

    with pytest.raises(ConfigError, match=message) as refused:
        open_source(path)
    assert str(path) in str(refused.value)


def test_a_price_between_two_ticks_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.parquet", [make_row(0, bid1=2_973.5)])

    with pytest.raises(ConfigError, match=r"price 2973\.5 is not a multiple of the tick size"):
        events_of(path)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    pl.DataFrame([make_row(0)]).clear().write_parquet(path)

    with pytest.raises(ConfigError, match="holds no rows"):
        ShfeSource(path)


# --- the recordings --------------------------------------------------------------------------------------------------------


@pytest.mark.recordings
@pytest.mark.parametrize(("name", "rows"), [("rb_20250605", 41_201), ("rb_20250606", 41_230), ("rb_20250609", 41_273)])
def test_a_recorded_day_replays_whole_sound_and_with_its_volume(recordings: Path, make_rig: Any, name: str, rows: int) -> None:
    path = recordings / "shfe_rb_l2" / f"{name}.parquet"
    feed = open_feed([path])
    rig = make_rig(feed.instruments, stale_after_s=1e6)

    assert rig.run(feed)

    file = pl.read_parquet(path, columns=["volume_chg", "updateTime"])
    in_auction = pl.col("updateTime").str.starts_with("20:59") | pl.col("updateTime").str.starts_with("08:59")
    expected_lots = int(file.filter(~in_auction)["volume_chg"].sum())
    books = rig.listener.of(BookSnapshot)
    assert len(books) == rows
    assert all(len(book.bid_ticks) == len(book.ask_ticks) == 5 for book in books)
    assert sum(trade.size for trade in rig.listener.of(TradeTick)) == expected_lots
    assert [change.reason for change in rig.listener.of(SessionChanged)] == ["gap"] * 10
    assert rig.listener.of(BookInvalid) == []
    assert feed.progress == 1.0


@pytest.mark.recordings
def test_the_estimated_split_agrees_with_the_recorders_own(recordings: Path, collect: Any) -> None:
    path = recordings / "shfe_rb_l2" / "rb_20250605.parquet"
    file = pl.read_parquet(path, columns=["volume_chg", "market_hit_ask"])
    bought = dict.fromkeys(range(file.height), 0)
    for event in collect(open_feed([path])):
        if isinstance(event, TradeTick) and event.aggressor is Side.BUY:
            bought[event.sequence] += event.size

    theirs, lots = file["market_hit_ask"].to_list(), file["volume_chg"].to_list()
    inside = [row for row in range(2, file.height) if 0 <= theirs[row] <= lots[row] and lots[row]]
    agreeing = sum(abs(bought[row] - theirs[row]) <= 1.01 for row in inside)

    assert len(inside) > 20_000
    assert agreeing / len(inside) > 0.99
