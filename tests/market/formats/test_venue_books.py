"""SGX states and Bybit order books: what their files promise, and what is left out or refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from framework.errors import ConfigError, IntegrityError
from framework.market.formats import open_source
from framework.messages import BookSnapshot, SessionChanged

SGX = "Bid,Bid_Quantity,Ask,Ask_Quantity\r\r\n" + "".join(
    f"TimeStamp,2014-01-29D{clock}.000000001\r\r\n{rows}"
    for clock, rows in [
        ("08:59:59", "662000.0,50.0,689500.0,2.0\r\r\n"),
        ("09:00:00", "672000.0,16.0,672500.0,16.0\r\r\n671500.0,1.0,673000.0,4.0\r\r\n"),
        ("09:00:01", "672500.0,16.0,672500.0,16.0\r\r\n"),
        ("09:00:02", "672000.0,17.0,672500.0,16.0\r\r\n"),
    ]
)


def bybit(folder: Path, *messages: tuple[str, int, list[list[str]]]) -> Path:
    path = folder / "xrp.zip"
    lines = [
        {"topic": "orderbook.500.XRPUSDT", "type": kind, "ts": 1_000 + n, "data": {"s": "XRPUSDT", "b": bids, "a": [], "u": update}}
        for n, (kind, update, bids) in enumerate(messages)
    ]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xrp.data", "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    return path


def events_of(path: Path) -> list[Any]:
    return list(open_source(path).events(0))


def test_sgx_states_of_the_session_are_books_and_the_others_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "cn.csv"
    path.write_bytes(SGX.encode())
    source = open_source(path)

    books = list(source.events(0))

    assert [(book.bid_ticks, book.ask_sizes) for book in books] == [((1_344, 1_343), (16, 4)), ((1_344,), (16,))]  # type: ignore[union-attr]
    assert dict(source.notes) == {  # type: ignore[attr-defined]
        "states before the opening left out": 1,
        "locked or crossed states left out": 1,
    }


@pytest.mark.parametrize(
    ("old", "new", "refusal"),
    [
        ("09:00:02", "08:00:02", "line 9 is earlier than the state above it"),
        ("672000.0,17.0", "672001.0,17.0", r"below line 9: 672001\.0 is not a multiple of the tick size 500; fetch the file again"),
        ("D09:00:02", " 09:00:02", "line 9 has no time"),
        ("672000.0,17.0,672500.0,16.0", "672000.0,17.0,672", "below line 9 a level has not four columns"),
    ],
)
def test_a_broken_sgx_file_is_refused_with_its_line(tmp_path: Path, old: str, new: str, refusal: str) -> None:
    path = tmp_path / "cn.csv"
    path.write_bytes(SGX.replace(old, new).encode())

    with pytest.raises((ConfigError, IntegrityError), match=refusal):
        events_of(path)


def test_bybit_deltas_change_the_snapshot_and_a_missing_one_closes_the_session(tmp_path: Path) -> None:
    path = bybit(
        tmp_path,
        ("snapshot", 7, [["1.9531", "10"], ["1.9530", "20"]]),
        ("delta", 8, [["1.9531", "0"]]),
        ("delta", 10, [["1.9530", "5"]]),
        ("delta", 11, []),
        ("snapshot", 20, [["1.9000", "1"]]),
    )

    events = events_of(path)

    assert [type(one) for one in events] == [BookSnapshot, BookSnapshot, SessionChanged, SessionChanged, BookSnapshot]
    assert [one.bid_ticks for one in events if isinstance(one, BookSnapshot)] == [(19_531, 19_530), (19_530,), (19_000,)]
    assert (events[2].reason, events[3].is_open) == ("gap: updates after 8 are missing", True)


@pytest.mark.parametrize(
    ("level", "refusal"),
    [
        (["1.95305", "5"], r"line 2: 1\.95305 is not a multiple of the tick size 0\.0001; fetch .* or write .* into instruments\.yaml"),
        (["1.9530", "0.55"], r"line 2: 0\.55 is not a multiple of the lot size"),
        (["much", "5"], "line 2: 'much' is no number"),
    ],
    ids=["off tick", "off lot", "no number"],
)
def test_a_broken_bybit_file_is_refused_with_its_line(tmp_path: Path, level: list[str], refusal: str) -> None:
    path = bybit(tmp_path, ("snapshot", 7, [["1.9531", "10"]]), ("delta", 8, [level]))

    with pytest.raises(ConfigError, match=refusal) as refused:
        events_of(path)
    assert str(path) in str(refused.value)


# --- the recordings --------------------------------------------------------------------------------------------------------


@pytest.mark.recordings
def test_the_recorded_sgx_day_has_its_states(recordings: Path) -> None:
    source = open_source(recordings / "sgx_a50_l2" / "cn_20140129_book3.csv.zst")

    books = list(source.events(0))

    assert len(books) + sum(source.notes.values()) == 25_309  # type: ignore[attr-defined]
    assert source.notes["locked or crossed states left out"] == 3  # type: ignore[attr-defined]


@pytest.mark.recordings
def test_the_recorded_bybit_seconds_are_fifty_books_of_ten_levels(recordings: Path) -> None:
    books = events_of(recordings / "bybit_l2" / "xrpusdt_ob500_20241201.zip")

    assert len(books) == 50
    assert all(len(book.bid_ticks) == len(book.ask_ticks) == 10 and book.bid_ticks[0] < book.ask_ticks[0] for book in books)
