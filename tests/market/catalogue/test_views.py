"""Pictures, tables and continuous series out of the catalogue."""

from __future__ import annotations

import re
import struct
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from framework.errors import ConfigError
from framework.market.catalogue.continuous import ContinuousSource, RollRule
from framework.market.catalogue.exporting import export_events, mapping_of
from framework.market.catalogue.heatmap import COLUMNS, ROWS, collect, draw_html, draw_png
from framework.market.catalogue.importing import ImportOptions, import_files
from framework.market.catalogue.index import Catalogue
from framework.market.catalogue.png import png_of
from framework.market.formats import open_source
from framework.messages import Bar, SessionChanged
from framework.model import NS_PER_S, Instrument, Side


def pixels_of(png: bytes) -> Any:
    """Decode a PNG as the specification says, for pictures with filter 0."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, content, size = 8, b"", (0, 0)
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        body = png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length)[0] == zlib.crc32(kind + body)
        size = struct.unpack_from(">II", body) if kind == b"IHDR" else size
        content += body if kind == b"IDAT" else b""
        at += 12 + length
    rows = np.frombuffer(zlib.decompress(content), np.uint8).reshape(size[1], 1 + 3 * size[0])
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(size[1], size[0], 3)


def test_a_png_is_what_was_drawn() -> None:
    pixels = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)

    assert (pixels_of(png_of(pixels)) == pixels).all()


@pytest.fixture
def sheet(book: Any, trade: Any, instrument: Instrument) -> Any:
    books = [book(number, bid_sizes=(5, 500)) for number in range(100)]
    events = sorted([*books, trade(40, size=30), trade(60, aggressor=Side.SELL, price_ticks=100)], key=lambda one: one.ts_recv)
    return collect(events, instrument, books[0].ts_recv, books[-1].ts_recv)


def test_where_much_rests_the_picture_is_brighter(sheet: Any) -> None:
    pixels = pixels_of(draw_png(sheet)).astype(int).sum(axis=2)
    # Levels 98 .. 103 are drawn, 80 rows each: the large bid at 99 is in the second band from below.
    large, small = pixels[ROWS - 110, COLUMNS // 2], pixels[ROWS - 190, COLUMNS // 2 + 7]

    assert pixels.shape == (ROWS, COLUMNS)
    assert large > small


def test_the_page_needs_nothing_else_and_tells_each_trade(sheet: Any) -> None:
    page = draw_html(sheet, "ESH4.GLBX <depth>")

    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert "<script" not in page
    assert "ESH4.GLBX &lt;depth&gt;" in page
    assert len(re.findall("<circle", page)) == 2
    assert "BUY 30 at 25.25" in page
    assert "SELL 1 at 25.00" in page


def test_a_span_without_events_is_refused(instrument: Instrument, book: Any) -> None:
    with pytest.raises(ConfigError, match="no events from 2033-05-18 03:33:20 to"):
        collect([book(0)], instrument, 2_000_000_000 * NS_PER_S, 2_000_000_001 * NS_PER_S)


@pytest.mark.parametrize("what", ["books", "trades"])
def test_an_exported_csv_comes_back_by_its_mapping(tmp_path: Path, what: str, book: Any, trade: Any, instrument: Instrument) -> None:
    events = [book(0), trade(0, aggressor=None), book(1, bid_ticks=(), bid_sizes=()), trade(1), trade(2, aggressor=Side.SELL)]
    path = tmp_path / "out.csv"

    rows = export_events(events, {instrument.instrument_id: instrument}, what, path)
    (tmp_path / "out.csv.yaml").write_text(mapping_of(instrument, what, 60.0))

    back = list(open_source(path).events(0))
    same = [event for event in events if type(event) is type(back[0])]
    assert rows == len(back)
    assert [(one.ts_event, *_prices(one)) for one in back] == [(one.ts_event, *_prices(one)) for one in same]


def _prices(event: Any) -> tuple[Any, ...]:
    if hasattr(event, "aggressor"):
        return event.price_ticks, event.size, event.aggressor
    return event.bid_ticks, event.bid_sizes, event.ask_ticks, event.ask_sizes


def test_an_exported_parquet_has_prices_in_points(tmp_path: Path, trade: Any, instrument: Instrument) -> None:
    export_events([trade(0)], {instrument.instrument_id: instrument}, "trades", tmp_path / "out.parquet")

    assert pl.read_parquet(tmp_path / "out.parquet").row(0, named=True) | {"ts_event": 0, "ts_recv": 0} == {
        "instrument_id": "ESH4.GLBX", "ts_event": 0, "ts_recv": 0, "sequence": 0, "price": 25.25, "size": 1.0, "aggressor": "BUY",
    }  # fmt: skip


def test_an_export_of_nothing_leaves_no_file(tmp_path: Path, trade: Any, instrument: Instrument) -> None:
    with pytest.raises(ConfigError, match="no bars in there to export"):
        export_events([trade(0)], {instrument.instrument_id: instrument}, "bars", tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


# --- continuous series -----------------------------------------------------------------------------------------------------


def bars(folder: Path, name: str, days: dict[int, tuple[float, int]]) -> Path:
    """Write a contract's bars, one a day at noon: price and volume by day of March 2015."""
    path = folder / f"{name}_5m.csv"
    rows = [
        f"2015/3/{day}, 12:00:00, {price}, {price}, {price}, {price}, {volume}, 1, {volume}, 0" for day, (price, volume) in days.items()
    ]
    header = "Date, Time, Open, High, Low, Last, Volume, NumberOfTrades, BidVolume, AskVolume"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def two_contracts(tmp_path: Path) -> Catalogue:
    catalogue = Catalogue(tmp_path / "catalogue")
    old = bars(tmp_path, "ESH15", {2: (2_000, 90), 3: (2_001, 90), 4: (2_002, 40), 5: (2_003, 10)})
    new = bars(tmp_path, "ESM15", {3: (1_991, 10), 4: (1_992, 80), 5: (1_993, 90), 6: (1_994, 90)})
    import_files(catalogue, [old, new], ImportOptions())
    return catalogue


def closes(source: ContinuousSource) -> list[Decimal]:
    instrument = source.instruments[0]
    return [instrument.price(event.close_ticks) for event in source.events(0) if isinstance(event, Bar)]


def test_a_series_rolls_after_the_day_on_which_the_next_contract_traded_more(two_contracts: Catalogue) -> None:
    source = ContinuousSource(two_contracts, RollRule.named("ES.c.0.CME"))

    assert closes(source) == [2_000, 2_001, 2_002, 1_993, 1_994]
    assert [(roll.before, roll.after, roll.jump_ticks) for roll in source.rolls] == [("ESH15.CME", "ESM15.CME", -40)]
    joints = [event for event in source.events(0) if isinstance(event, SessionChanged)]
    assert [(one.is_open, one.reason) for one in joints] == [(is_open, "roll ESH15.CME to ESM15.CME") for is_open in (False, True)]


def test_an_adjusted_series_has_no_jump(two_contracts: Catalogue) -> None:
    source = ContinuousSource(two_contracts, RollRule.named("ES.a.0.CME"))

    assert closes(source) == [1_990, 1_991, 1_992, 1_993, 1_994]


def test_a_series_of_nothing_is_refused(two_contracts: Catalogue) -> None:
    with pytest.raises(ConfigError, match=r"NQ\.c\.0\.CME: no one kind of bars in the catalogue to join: found none of any contract"):
        ContinuousSource(two_contracts, RollRule.named("NQ.c.0.CME"))


@pytest.mark.recordings
def test_two_recorded_years_are_one_series(recordings: Path, tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "catalogue")
    paths = [recordings / "cme_es_bars_5m" / f"ES{month}15_5m.csv.zst" for month in "HMUZ"]
    total = sum(one.bars for one in import_files(catalogue, paths, ImportOptions()).imported)

    source = ContinuousSource(catalogue, RollRule.named("ES.c.0.CME"))

    times = [event.ts_event for event in source.events(0) if isinstance(event, Bar)]
    assert len(times) == total
    assert times == sorted(set(times))
    assert [roll.after for roll in source.rolls] == ["ESM15.CME", "ESU15.CME", "ESZ15.CME"]
