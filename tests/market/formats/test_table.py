"""Any CSV with a mapping file is a recording; what is wrong in it is refused with its line and the way out."""

from __future__ import annotations

import gzip
import lzma
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.errors import ConfigError, IntegrityError, TidebookError
from framework.market.formats import open_source
from framework.messages import Bar, BookSnapshot, TradeTick
from framework.model import NS_PER_S, Side

INSTRUMENT = """
instrument:
  instrument_id: XYZ.VENUE
  tick_size: 0.25
  lot_size: 1
  multiplier: 50
"""
BOOKS = f"""{INSTRUMENT}
delimiter: ";"
time: {{columns: [ts], unit: ns}}
receive_time: {{columns: [got], unit: ns}}
book: {{bid_price: "b{{level}}", bid_size: "bq{{level}}", ask_price: "a{{level}}", ask_size: "aq{{level}}", levels: 2, first_level: 1}}
"""
BOOK_ROWS = "ts;got;b1;bq1;b2;bq2;a1;aq1;a2;aq2\n1;5;99.75;3;99.5;4;100;2;100.25;1\n2;6;99.75;3;;;100;2;100.25;0\n"
TRADES = f"""{INSTRUMENT}
time: {{columns: [day, clock], format: "%d.%m.%Y %H:%M:%S", timezone: America/Chicago}}
trade: {{price: p, size: q, side: s, buy: [B, b], sell: [S]}}
"""
TRADE_ROWS = "day,clock,p,q,s\n24.01.2022,07:30:00,100.25,2,B\n24.01.2022,07:30:01,100,1,S\n24.01.2022,07:30:01,100,1,?\n"
BARS = f"""{INSTRUMENT}
time: {{columns: [t]}}
bar: {{open: o, high: h, low: l, close: c, volume: v, interval_s: 60}}
"""
BAR_ROWS = "t,o,h,l,c,v\n2024-01-02 00:00:00,100,101,99.75,100.5,7\n2024-01-02 00:01:00,100.5,100.5,100.5,100.5,1\n"


def write(folder: Path, mapping: str, rows: str, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_text(rows)
    (folder / f"{name}.yaml").write_text(mapping)
    return path


def events_of(path: Path, **settings: Any) -> list[Any]:
    return list(open_source(path, **settings).events(0))


def test_books_have_their_levels_and_both_times(tmp_path: Path) -> None:
    first, second = events_of(write(tmp_path, BOOKS, BOOK_ROWS))

    assert first == BookSnapshot(
        instrument_id="XYZ.VENUE",
        ts_event=1,
        ts_recv=5,
        sequence=0,
        bid_ticks=(399, 398),
        bid_sizes=(3, 4),
        ask_ticks=(400, 401),
        ask_sizes=(2, 1),
    )
    assert (second.bid_ticks, second.ask_ticks, second.sequence) == ((399,), (400,), 1)


def test_trades_have_their_side_and_the_time_of_their_place(tmp_path: Path) -> None:
    events = events_of(write(tmp_path, TRADES, TRADE_ROWS))

    opening = round(datetime(2022, 1, 24, 13, 30, tzinfo=UTC).timestamp()) * NS_PER_S
    assert [(one.ts_event - opening, one.price_ticks, one.size, one.aggressor) for one in events] == [
        (0, 401, 2, Side.BUY), (NS_PER_S, 400, 1, Side.SELL), (NS_PER_S, 400, 1, None),
    ]  # fmt: skip
    assert all(isinstance(one, TradeTick) for one in events)


def test_bars_are_stamped_with_their_end(tmp_path: Path) -> None:
    source = open_source(write(tmp_path, BARS, BAR_ROWS))
    first, _ = source.events(0)

    assert isinstance(first, Bar)
    assert first.ts_event == round(datetime(2024, 1, 2, 0, 1, tzinfo=UTC).timestamp()) * NS_PER_S == source.start_ns
    assert (first.open_ticks, first.high_ticks, first.low_ticks, first.close_ticks, first.volume) == (400, 404, 399, 402, 7)


def test_the_mapping_may_lie_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path, BARS, BAR_ROWS)
    (tmp_path / "data.csv.yaml").rename(tmp_path / "mapping.yaml")

    with pytest.raises(ConfigError, match="which is no recording; allowed are"):
        open_source(path)
    assert len(events_of(path, mapping=tmp_path / "mapping.yaml")) == 2


@pytest.mark.parametrize("suffix", ["gz", "xz", "zip"])
def test_a_compressed_file_is_the_same_recording(tmp_path: Path, suffix: str) -> None:
    plain = events_of(write(tmp_path, TRADES, TRADE_ROWS))
    path = write(tmp_path, TRADES, "", f"packed.{suffix}")
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("packed.csv", TRADE_ROWS)
    else:
        path.write_bytes(gzip.compress(TRADE_ROWS.encode()) if suffix == "gz" else lzma.compress(TRADE_ROWS.encode()))

    assert events_of(path) == plain


@pytest.mark.parametrize(
    ("mapping", "rows", "refusal"),
    [
        (BOOKS, BOOK_ROWS.replace("99.5;4", "99.4;4"), r"line 2 has the price 99\.4, not a multiple of 0\.25; check the tick size"),
        (BOOKS, BOOK_ROWS.replace("99.5;4", "99.5;4.5"), r"line 2 has the size 4\.5, not a multiple of 1; say .* what a lot is"),
        (BOOKS, BOOK_ROWS.replace("\n2;6;99.75", "\n2;6;100"), r"line 3 is a crossed or locked book; `crossed: skip`"),
        (BOOKS, BOOK_ROWS.replace("2;6;", "2;4;"), "line 3 is earlier than the line above it; sort the file by time"),
        (BOOKS, BOOK_ROWS.replace("ts;got;b1", "ts;got;b9"), r"has no column b1; it has ts, got, b9"),
        (BOOKS, BOOK_ROWS[:-12], "a row is cut or holds no number: .*line 3"),
        (BOOKS, BOOK_ROWS.splitlines()[0], "holds no rows below its header"),
        (TRADES, TRADE_ROWS.replace("100.25,2", ",2"), "line 2 has no price or size"),
        (TRADES, TRADE_ROWS.replace("100.25,2", "x,2"), "a row is cut or holds no number: .*line 2"),
        (TRADES, TRADE_ROWS.replace("07:30:01,100,1,S", "7h30,100,1,S"), "a time does not read"),
        (BARS, BAR_ROWS.replace("00:01:00", "00:00:00"), "line 3 repeats the time of the line above it; .* drop what is twice"),
        (BARS, BAR_ROWS.replace("100,101,99.75", "100,99.75,101"), "line 2 is no bar: open or close lie outside low and high"),
        (BARS.replace("tick_size: 0.25", "tick_size: 0.25\n  ticks: 3"), BAR_ROWS, r"csv\.yaml:\d+:\d+: .*ticks"),
        (BARS + "trade: {price: o, size: v}\n", BAR_ROWS, "book, trade, bar: found 2 of them; allowed exactly one"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line_and_the_way_out(tmp_path: Path, mapping: str, rows: str, refusal: str) -> None:
    path = write(tmp_path, mapping, rows)

    with pytest.raises((ConfigError, IntegrityError), match=refusal) as refused:
        events_of(path)
    assert "data.csv" in str(refused.value)


def test_crossed_rows_are_left_out_and_counted_where_the_mapping_says_so(tmp_path: Path) -> None:
    mapping = BOOKS.replace("levels: 2,", "levels: 2, crossed: skip,")
    source = open_source(write(tmp_path, mapping, BOOK_ROWS.replace("\n2;6;99.75", "\n2;6;100")))

    assert len(list(source.events(0))) == 1
    assert source.notes == {"crossed books left out": 1}  # type: ignore[attr-defined]


@given(st.binary(max_size=200), st.integers(0, len(BOOK_ROWS)))
def test_garbage_in_a_mapped_file_never_ends_in_anything_but_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int
) -> None:
    folder = tmp_path_factory.mktemp("junk")
    path = write(folder, BOOKS, BOOK_ROWS)
    path.write_bytes(BOOK_ROWS.encode()[:at] + junk + BOOK_ROWS.encode()[at:])

    try:
        events_of(path)
    except TidebookError as exc:
        assert str(path) in str(exc)  # noqa: PT017 (some junk lies where nobody looks)
