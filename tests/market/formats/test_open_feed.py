"""The door: what a path is, its content says; everything else is refused in one clear sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from framework.errors import ConfigError, IntegrityError, TidebookError
from framework.market.formats import open_feed, open_source
from framework.market.recording import Recorder
from framework.messages import BookSnapshot, SessionChanged
from framework.model import Instrument

DAYS = ["rb_20250605", "rb_20250606", "rb_20250609"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "is empty"),
        (b"hello, this is text", r"begins with b.hello, this is text., which is no recording"),
        (b"\x80\x04\x95pickle", "which is no recording"),
        (b"\x1f\x8b\x08\x00" + b"\0" * 50, "cut or damaged"),
        (b"PAR1" + b"\0" * 200, "cut or damaged Parquet"),
        (b"PAR1PAR1", "cut or damaged Parquet"),
        (b"DBN\x03" + b"\xff" * 200, "cut or damaged|middle of a record"),
        (b"DBN", "middle of a record|holds no records|cut or damaged"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 200, "cut or damaged"),
    ],
    ids=["empty", "text", "pickle", "gzip", "parquet head", "tiny parquet", "dbn head", "dbn magic", "zstd head"],
)
def test_garbage_is_refused_with_the_name_of_the_file_and_what_it_is(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "garbage.parquet"
    path.write_bytes(content)

    with pytest.raises((ConfigError, IntegrityError), match=found) as refused:
        open_feed([path])
    assert str(path) in str(refused.value)
    assert len(str(refused.value)) < 600


def test_refusals_say_what_is_allowed(tmp_path: Path) -> None:
    for paths in ([], [tmp_path / "absent"], [tmp_path / "text"]):
        (tmp_path / "text").write_text("time,price\n1,2\n")
        with pytest.raises(ConfigError, match="allowed are recordings made by --record"):
            open_feed(paths)


def test_a_parquet_file_of_another_layout_is_refused_with_its_columns(tmp_path: Path) -> None:
    pl.DataFrame({"time": [1], "price": [2.0]}).write_parquet(tmp_path / "other.parquet")

    with pytest.raises(ConfigError, match=r"another layout \(columns time, price"):
        open_feed([tmp_path / "other.parquet"])


def test_a_pipe_is_refused_without_reading_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ConfigError, match="neither a file nor a directory"):
        open_feed([tmp_path / "pipe"])


def test_the_name_of_a_file_does_not_matter(tmp_path: Path, instrument: Instrument, book: Any) -> None:
    recorder = Recorder(tmp_path / "run.dbn.zst", [instrument])
    recorder.start()
    recorder.record(book(0))
    recorder.close()

    assert list(open_source(tmp_path / "run.dbn.zst").events(0)) == [book(0)]


@pytest.fixture
def two_runs(tmp_path: Path, instrument: Instrument, book: Any) -> tuple[Path, Path]:
    for name, first in (("a", 0), ("b", 5_000)):
        recorder = Recorder(tmp_path / name, [instrument])
        recorder.start()
        for number in range(first, first + 3):
            recorder.record(book(number))
        recorder.close()
    return tmp_path / "a", tmp_path / "b"


def test_recordings_of_one_instrument_follow_each_other_in_time_however_they_are_named(
    two_runs: tuple[Path, Path], collect: Any, book: Any
) -> None:
    feed = open_feed(two_runs[::-1])

    assert collect(feed) == [book(number) for number in (0, 1, 2, 5_000, 5_001, 5_002)]
    assert len(feed.instruments) == 1
    assert feed.progress == 1.0


def test_the_same_recording_twice_is_refused(two_runs: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="overlaps"):
        open_feed([two_runs[0], two_runs[1], two_runs[0]])


def test_recordings_of_different_instruments_are_merged_in_time(
    two_runs: tuple[Path, Path], tmp_path: Path, instrument: Instrument, book: Any, collect: Any
) -> None:
    other = Instrument(instrument_id="NQH4.GLBX", tick_size=instrument.tick_size)
    recorder = Recorder(tmp_path / "nq", [other])
    recorder.start()
    for number in (1, 4_000, 6_000):
        recorder.record(book(number, instrument_id="NQH4.GLBX"))
    recorder.close()

    feed = open_feed([*two_runs, tmp_path / "nq"])

    assert [one.instrument_id for one in feed.instruments] == ["ESH4.GLBX", "NQH4.GLBX"]
    assert [(one.instrument_id[:2], one.sequence) for one in collect(feed)] == [
        ("ES", 0), ("ES", 1), ("NQ", 1), ("ES", 2), ("NQ", 4_000), ("ES", 5_000), ("ES", 5_001), ("ES", 5_002), ("NQ", 6_000),
    ]  # fmt: skip


@pytest.mark.recordings
def test_three_recorded_days_replay_as_one_stream_with_rising_sequences(recordings: Path, make_rig: Any) -> None:
    feed = open_feed([recordings / "shfe_rb_l2" / f"{name}.parquet" for name in reversed(DAYS)])
    rig = make_rig(feed.instruments)

    assert rig.run(feed)

    sequences = [one.sequence for one in rig.listener.of(BookSnapshot)]
    assert sequences == list(range(123_704))
    opened = [one for one in rig.listener.of(SessionChanged) if one.is_open]
    assert len(opened) == 3 * 5 + 2
    assert set(rig.market_data.refused) == {"stale"}


@pytest.mark.recordings
def test_a_damaged_snapshot_file_is_refused_or_fails_with_its_name_and_never_otherwise(recordings: Path, tmp_path: Path) -> None:
    sound = (recordings / "shfe_rb_l2" / "rb_20250605.parquet").read_bytes()
    path = tmp_path / "damaged.parquet"
    for trial in range(12):
        damaged = bytearray(sound)
        damaged[-1 - trial * 700] ^= 0x10  # the footer, which everything else hangs on
        path.write_bytes(damaged)
        try:
            for _ in open_source(path).events(0):
                pass
        except TidebookError as exc:
            assert str(path) in str(exc)  # noqa: PT017 (a flipped statistic does no harm, so not every trial raises)
