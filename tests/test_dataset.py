"""The training dataset: nothing appended is lost, nothing damaged is used."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework.dataset import BackgroundDatasetWriter, DatasetWriter, read_dataset
from framework.dataset import writer as writer_module
from framework.dataset.tail import TAIL
from framework.errors import IntegrityError, StartRefused, StorageError
from framework.model import Instrument
from framework.window import FLOW_COLUMNS, LEVELS, Rows

ES = Instrument(instrument_id="ESH4.GLBX", tick_size=Decimal("0.25"), multiplier=Decimal(50))
RB = Instrument(instrument_id="rb2510.SHFE", tick_size=Decimal(1), multiplier=Decimal(10), has_trades=False)


def make_rows(count: int, *, first: int = 0, segment: int = 0) -> Rows:
    number = np.arange(first, first + count)
    return Rows(
        ts_event=number.astype(np.int64) * 1_000_000,
        sequence=number.astype(np.int64),
        segment=np.full(count, segment, np.int64),
        bid_ticks=(number[:, None] - np.arange(LEVELS)).astype(np.int32),
        bid_sizes=np.ones((count, LEVELS), np.float32),
        ask_ticks=(number[:, None] + 1 + np.arange(LEVELS)).astype(np.int32),
        ask_sizes=np.full((count, LEVELS), 2, np.float32),
        flow=np.tile(number[:, None], len(FLOW_COLUMNS)).astype(np.float32),
    )


def assert_same(found: Rows, expected: Rows, *, but_segment: bool = False) -> None:
    for name in Rows.__slots__:
        if not (but_segment and name == "segment"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
            assert getattr(found, name).dtype == getattr(expected, name).dtype


def filled(directory: Path, *, parts: int = 3, part_rows: int = 40) -> Path:
    writer = DatasetWriter(directory, part_rows=part_rows)
    for number in range(parts):
        writer.append(ES, make_rows(part_rows, first=number * part_rows))
    writer.close()
    return directory


def part_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("part-*.parquet"))


def test_rows_come_back_as_they_were_with_the_facts_of_their_instrument(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "set", part_rows=100)
    writer.append(ES, make_rows(150))
    writer.append(RB, make_rows(60, first=7))
    writer.close()

    read = read_dataset(tmp_path / "set", max_rows=1_000)

    assert read.refused == ()
    assert_same(read.instruments["ESH4.GLBX"].rows, make_rows(150))
    assert_same(read.instruments["rb2510.SHFE"].rows, make_rows(60, first=7), but_segment=True)
    assert (read.instruments["ESH4.GLBX"].tick_size, read.instruments["ESH4.GLBX"].has_trades) == (0.25, True)
    assert (read.instruments["rb2510.SHFE"].tick_size, read.instruments["rb2510.SHFE"].has_trades) == (1.0, False)


def test_a_part_is_sealed_by_itself_every_part_rows(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, part_rows=100)
    for number in range(25):
        writer.append(ES, make_rows(10, first=number * 10))

    assert [pq.ParquetFile(path).metadata.num_rows for path in part_files(tmp_path)] == [100, 100]
    assert writer.total_rows == 250
    assert writer.seal() == 50
    assert writer.seal() == 0
    writer.close()


def test_any_parquet_reader_opens_the_directory_with_manifest_and_tail_in_it(tmp_path: Path) -> None:
    writer = DatasetWriter(filled(tmp_path / "training_data.parquet"))
    writer.append(ES, make_rows(5, first=500))

    assert pl.read_parquet(tmp_path / "training_data.parquet" / "*.parquet").height == 120
    table = pq.read_table(tmp_path / "training_data.parquet")
    assert table.num_rows == 120
    assert table.schema.names == [
        "instrument_id", "tick_size", "has_trades", "ts_event", "sequence", "segment",
        "bid_ticks", "bid_sizes", "ask_ticks", "ask_sizes", "flow",
    ]  # fmt: skip
    writer.close()


def test_the_newest_rows_are_read_and_older_parts_are_not_even_opened(tmp_path: Path) -> None:
    filled(tmp_path)
    part_files(tmp_path)[0].write_bytes(b"garbage")

    read = read_dataset(tmp_path, max_rows=60)

    assert read.refused == ()
    assert read.instruments["ESH4.GLBX"].rows.sequence.tolist() == list(range(60, 120))


def test_a_directory_that_does_not_exist_is_an_empty_dataset(tmp_path: Path) -> None:
    read = read_dataset(tmp_path / "none", max_rows=10)

    assert (dict(read.instruments), read.refused, read.total_rows) == ({}, (), 0)


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("sound"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_part_with_one_flipped_bit_is_refused_whole(sound_set: Path, tmp_path: Path, data: st.DataObject) -> None:
    directory = tmp_path / "set"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(sound_set, directory)
    damaged = part_files(directory)[1]
    content = bytearray(damaged.read_bytes())
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    damaged.write_bytes(content)

    read = read_dataset(directory, max_rows=1_000)

    assert [part.name for part in read.refused] == [damaged.name]
    assert read.instruments["ESH4.GLBX"].rows.sequence.tolist() == [*range(40), *range(80, 120)]


@pytest.mark.parametrize("kept", [0, 1, 4, 100, -1])
def test_a_truncated_part_is_refused(tmp_path: Path, kept: int) -> None:
    damaged = part_files(filled(tmp_path))[2]
    damaged.write_bytes(damaged.read_bytes()[:kept])

    (refused,) = read_dataset(tmp_path, max_rows=1_000).refused

    assert str(refused).startswith(f"{damaged.name} has {damaged.stat().st_size} bytes, the manifest says")


def test_a_missing_part_an_unlisted_part_and_a_link_are_refused_with_their_reasons(tmp_path: Path) -> None:
    first, second, third = part_files(filled(tmp_path / "set"))
    first.unlink()
    second.rename(tmp_path / "elsewhere.parquet")
    second.symlink_to(tmp_path / "elsewhere.parquet")
    shutil.copy(third, third.with_name("part-extra.parquet"))

    read = read_dataset(tmp_path / "set", max_rows=1_000)

    assert sorted(map(str, read.refused)) == sorted(
        [
            "part-extra.parquet is not in the manifest",
            f"{first.name} is missing",
            f"{second.name} is not a plain file of the directory",
        ]
    )
    assert read.total_rows == 40


def test_a_part_of_another_schema_is_refused_even_when_its_hash_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, parts=1)
    with monkeypatch.context() as other_version:
        other_version.setattr(
            writer_module, "to_table", lambda *args, **facts: pl.DataFrame({"price": [float(n) for n in range(40)]}).to_arrow()
        )
        filled(tmp_path, parts=1)

    read = read_dataset(tmp_path, max_rows=1_000)

    assert [part.reason[:18] for part in read.refused] == ["has other columns "]
    assert read.total_rows == 40


def test_rows_on_both_sides_of_a_refused_part_are_of_different_segments(tmp_path: Path) -> None:
    part_files(filled(tmp_path))[1].unlink()

    rows = read_dataset(tmp_path, max_rows=1_000).instruments["ESH4.GLBX"].rows

    assert len(set(rows.segment[:40].tolist())) == len(set(rows.segment[40:].tolist())) == 1
    assert rows.segment[0] != rows.segment[-1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_manifest_with_one_flipped_bit_is_an_integrity_error(sound_set: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray((sound_set / "_manifest.json").read_bytes())
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    (tmp_path / "_manifest.json").write_bytes(content)

    with pytest.raises(IntegrityError, match=r"_manifest\.json"):
        read_dataset(tmp_path, max_rows=10)


def test_a_writer_refuses_a_damaged_manifest_and_says_the_way_out(tmp_path: Path) -> None:
    (filled(tmp_path) / "_manifest.json").write_text("{}")

    with pytest.raises(IntegrityError, match="move the directory away"):
        DatasetWriter(tmp_path)


# --- crashes ---------------------------------------------------------------------------------------------------------

_KILLED_WRITER = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from test_dataset import *
writer = DatasetWriter(Path({directory!r}), part_rows=100)
for number in range(1_000_000):
    writer.append(ES, make_rows(10, first=number * 10))
    print(number, flush=True)
"""


def test_a_killed_writer_loses_no_row_that_append_returned_for(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[1])
    script = _KILLED_WRITER.format(root=root, tests=str(Path(__file__).parent), directory=str(tmp_path / "set"))
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    appended = -1
    while appended < 234:
        appended = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    appended = max(map(int, child.stdout.read().split()), default=appended)
    child.wait()
    child.stdout.close()

    DatasetWriter(tmp_path / "set").close()
    rows = read_dataset(tmp_path / "set", max_rows=1_000_000).instruments["ESH4.GLBX"].rows

    assert len(rows) >= (appended + 1) * 10
    assert rows.sequence.tolist() == list(range(len(rows)))


@pytest.mark.parametrize("torn_bytes", [1, 7, 100, 2_000])
def test_a_torn_tail_loses_at_most_the_torn_record(tmp_path: Path, torn_bytes: int) -> None:
    writer = DatasetWriter(tmp_path / "set")
    for number in range(5):
        writer.append(ES, make_rows(10, first=number * 10))
    torn = tmp_path / "torn"
    shutil.copytree(tmp_path / "set", torn)
    os.truncate(torn / TAIL, (torn / TAIL).stat().st_size - torn_bytes)

    reopened = DatasetWriter(torn)

    assert reopened.total_rows == 40
    assert reopened.lost_tail_bytes > 0
    assert (torn / "_tail.damaged").stat().st_size > reopened.lost_tail_bytes
    assert read_dataset(torn, max_rows=100).total_rows == 40
    reopened.close()
    writer.close()


def test_a_tail_of_another_schema_is_kept_aside_and_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other_version:
        other_version.setattr("framework.dataset.tail.ROW_SCHEMA_HASH", "0" * 16)
        old = DatasetWriter(tmp_path / "set")
        old.append(ES, make_rows(10))
        shutil.copytree(tmp_path / "set", tmp_path / "upgraded")
        old.close()

    writer = DatasetWriter(tmp_path / "upgraded")
    writer.append(ES, make_rows(3))
    writer.close()

    assert read_dataset(tmp_path / "upgraded", max_rows=100).total_rows == 3
    assert (tmp_path / "upgraded" / "_tail.damaged").stat().st_size == writer.lost_tail_bytes


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_in_the_tail_loses_the_rows_from_there_on_and_invents_none(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("set")
    writer = DatasetWriter(directory / "sound")
    for number in range(5):
        writer.append(ES, make_rows(10, first=number * 10))
    shutil.copytree(directory / "sound", directory / "flipped")
    writer.close()
    tail = directory / "flipped" / TAIL
    content = bytearray(tail.read_bytes())
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    tail.write_bytes(content)

    DatasetWriter(directory / "flipped").close()

    read = read_dataset(directory / "flipped", max_rows=100).instruments
    found = read["ESH4.GLBX"].rows.sequence.tolist() if read else []
    assert found == list(range(len(found)))
    assert len(found) < 50


def crashed_copies(writer: DatasetWriter, monkeypatch: pytest.MonkeyPatch, into: Path) -> list[Path]:
    """Seal, and keep a copy of the directory as it was before each step that reaches the disk."""
    copies: list[Path] = []

    def before(step: str) -> None:
        copies.append(into / f"{len(copies)}-{step}")
        shutil.copytree(writer.directory, copies[-1])

    real_part, real_manifest, real_restart = writer_module.write_part, writer_module.write_manifest, writer._tail.restart
    monkeypatch.setattr(writer_module, "write_part", lambda *args: (before("part"), real_part(*args))[1])
    monkeypatch.setattr(writer_module, "write_manifest", lambda *args: (before("manifest"), real_manifest(*args))[1])
    monkeypatch.setattr(writer._tail, "restart", lambda *args: (before("tail"), real_restart(*args))[1])
    writer.seal()
    monkeypatch.undo()
    before("end")
    return copies


def test_a_crash_between_any_two_steps_of_a_seal_loses_nothing_and_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = DatasetWriter(tmp_path / "set")
    writer.append(ES, make_rows(10))
    writer.append(RB, make_rows(10))
    writer.append(ES, make_rows(10, first=10))

    copies = crashed_copies(writer, monkeypatch, tmp_path)

    assert [path.name[2:] for path in copies] == ["part", "part", "manifest", "tail", "end"]
    for directory in copies:
        DatasetWriter(directory).close()
        read = read_dataset(directory, max_rows=1_000)
        assert read.refused == (), directory.name
        assert read.instruments["ESH4.GLBX"].rows.sequence.tolist() == list(range(20))
        assert read.instruments["rb2510.SHFE"].rows.sequence.tolist() == list(range(10))
    writer.close()


def test_a_second_writer_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path)

    with pytest.raises(StartRefused, match="another process"):
        DatasetWriter(tmp_path)

    writer.close()
    DatasetWriter(tmp_path).close()


def test_a_disk_that_refuses_keeps_the_rows_and_seals_them_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = DatasetWriter(tmp_path, part_rows=100)
    with monkeypatch.context() as full_disk:

        def refuse(*_: object) -> tuple[int, str]:
            raise StorageError("disk full")

        full_disk.setattr(writer_module, "write_part", refuse)
        with pytest.raises(StorageError):
            writer.append(ES, make_rows(100))
    assert writer.total_rows == 100

    assert writer.seal() == 100
    assert read_dataset(tmp_path, max_rows=1_000).total_rows == 100
    writer.close()


# --- segments --------------------------------------------------------------------------------------------------------


def test_segments_stay_unique_over_restarts(tmp_path: Path) -> None:
    for run in range(3):
        writer = DatasetWriter(tmp_path)
        writer.append(ES, make_rows(10, first=run * 100, segment=0))
        writer.append(ES, make_rows(10, first=run * 100 + 10, segment=1))
        writer.close()

    segments = read_dataset(tmp_path, max_rows=1_000).instruments["ESH4.GLBX"].rows.segment

    assert len(set(segments.tolist())) == 6
    assert (np.diff(segments) >= 0).all()


def test_a_killed_run_and_the_next_one_share_no_segment(tmp_path: Path) -> None:
    killed = DatasetWriter(tmp_path / "set")
    killed.append(ES, make_rows(10))
    shutil.copytree(tmp_path / "set", tmp_path / "restarted")
    killed.close()

    writer = DatasetWriter(tmp_path / "restarted")
    writer.append(ES, make_rows(10, first=10))
    writer.close()

    segments = read_dataset(tmp_path / "restarted", max_rows=100).instruments["ESH4.GLBX"].rows.segment
    assert len(set(segments.tolist())) == 2


@pytest.mark.parametrize(
    ("second", "after_gap"),
    [
        (make_rows(10, first=100, segment=4), False),
        (make_rows(10, first=5, segment=5), False),
        (make_rows(10, first=100, segment=5), True),
    ],
    ids=["segment runs backwards", "sequence runs backwards", "rows were left out"],
)
def test_a_joint_between_two_appends_starts_a_segment(tmp_path: Path, second: Rows, after_gap: bool) -> None:
    writer = DatasetWriter(tmp_path)
    writer.append(ES, make_rows(10, segment=5))
    writer.append(ES, second, after_gap=after_gap)
    writer.close()

    segments = read_dataset(tmp_path, max_rows=100).instruments["ESH4.GLBX"].rows.segment
    assert len(set(segments.tolist())) == 2


def test_consecutive_appends_of_one_segment_stay_one_segment(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path)
    writer.append(ES, make_rows(10, segment=5))
    writer.append(RB, make_rows(10, segment=0))
    writer.append(ES, make_rows(10, first=10, segment=5))
    writer.close()

    segments = read_dataset(tmp_path, max_rows=100).instruments["ESH4.GLBX"].rows.segment
    assert len(set(segments.tolist())) == 1


# --- in the background -----------------------------------------------------------------------------------------------


def test_the_background_writer_writes_the_same_dataset(tmp_path: Path) -> None:
    writer = BackgroundDatasetWriter(tmp_path, part_rows=100)
    for number in range(30):
        writer.append(ES, make_rows(10, first=number * 10))

    assert writer.seal().result(10) == 0
    writer.append(ES, make_rows(10, first=300))
    assert writer.seal().result(10) == 10
    assert read_dataset(tmp_path, max_rows=1_000).total_rows == writer.total_rows == 310
    writer.close()


def test_a_full_queue_drops_and_counts_and_the_next_rows_start_a_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = BackgroundDatasetWriter(tmp_path, max_jobs=1)
    is_writing, may_write = threading.Event(), threading.Event()
    real_append = writer._writer.append

    def slow_append(*args: Any, **facts: Any) -> None:
        is_writing.set()
        may_write.wait(10)
        real_append(*args, **facts)

    monkeypatch.setattr(writer._writer, "append", slow_append)
    writer.append(ES, make_rows(10))
    is_writing.wait(10)
    writer.append(ES, make_rows(10, first=10))
    writer.append(ES, make_rows(10, first=20))
    may_write.set()
    while writer.seal().exception(10):
        pass
    writer.append(ES, make_rows(10, first=30))
    writer.close()

    rows = read_dataset(tmp_path, max_rows=100).instruments["ESH4.GLBX"].rows
    assert writer.dropped_rows == 10
    assert writer.total_rows == len(rows) == 30
    assert rows.segment[9] == rows.segment[19] != rows.segment[20]


def test_a_failing_disk_is_counted_and_told_not_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = BackgroundDatasetWriter(tmp_path)

    def refuse(_: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(writer._writer._tail, "append", refuse)
    writer.append(ES, make_rows(10))
    assert writer.seal().result(10) == 0
    monkeypatch.undo()
    writer.append(ES, make_rows(10, first=10))
    writer.close()

    assert (writer.dropped_rows, writer.failure, writer.total_rows) == (10, "disk full", 10)
    assert read_dataset(tmp_path, max_rows=100).total_rows == 10


def test_after_close_rows_are_dropped_and_counted_and_seal_fails(tmp_path: Path) -> None:
    writer = BackgroundDatasetWriter(tmp_path)
    writer.close()
    writer.append(ES, make_rows(3))

    assert writer.dropped_rows == 3
    with pytest.raises(StorageError):
        writer.seal().result(1)


def test_rows_of_one_segment_keep_their_order_when_a_tail_is_sealed_at_the_next_start(tmp_path: Path) -> None:
    killed = DatasetWriter(tmp_path / "set")
    rows = make_rows(30)
    for start in range(0, 30, 10):
        killed.append(ES, replace(rows, **{name: getattr(rows, name)[start : start + 10] for name in Rows.__slots__}))
    shutil.copytree(tmp_path / "set", tmp_path / "copy")
    killed.close()

    DatasetWriter(tmp_path / "copy").close()

    assert_same(read_dataset(tmp_path / "copy", max_rows=100).instruments["ESH4.GLBX"].rows, rows)
