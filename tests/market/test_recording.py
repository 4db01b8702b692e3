"""Recording: what came in comes back the same, and a damaged recording is no recording."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework.dataset import DatasetWriter
from framework.errors import ConfigError, IntegrityError, StorageError
from framework.market import recording as recording_module
from framework.market.formats import open_feed, open_source
from framework.market.recording import Recorder
from framework.messages import Bar, BookSnapshot, MarketEvent, SessionChanged, TradeTick
from framework.model import Instrument, Side


def record(directory: Path, instrument: Instrument, events: Iterable[MarketEvent], **settings: Any) -> Recorder:
    recorder = Recorder(directory, [instrument], **settings)
    recorder.start()
    for event in events:
        recorder.record(event)
    recorder.close()
    return recorder


def replayed(directory: Path) -> list[MarketEvent]:
    return list(open_source(directory).events(0))


@pytest.fixture
def events(book: Any, trade: Any) -> list[MarketEvent]:
    """Return events of every kind and shape that a recording can hold."""
    return [
        book(0),
        trade(0, aggressor=None),
        trade(0, aggressor=Side.SELL, size=9),
        book(1, bid_ticks=(), bid_sizes=()),
        SessionChanged(instrument_id="ESH4.GLBX", ts_event=book(2).ts_event, is_open=False, reason="halt"),
        SessionChanged(instrument_id="ESH4.GLBX", ts_event=book(2).ts_event, is_open=True, reason=""),
        book(3, ts_recv=book(3).ts_event + 17, bid_ticks=tuple(range(100, 90, -1)), bid_sizes=tuple(range(1, 11))),
        book(2, bid_ticks=(103, 104)),
        trade(3),
    ]


def test_a_recording_replays_the_same_events_in_the_same_order(tmp_path: Path, instrument: Instrument, events: list[MarketEvent]) -> None:
    recorder = record(tmp_path, instrument, events)

    assert (recorder.recorded_events, recorder.dropped_events, recorder.failure) == (9, 0, "")
    assert replayed(tmp_path) == events
    assert open_source(tmp_path).instruments == (instrument,)


SIZES = st.lists(st.integers(1, 2**40), max_size=10).map(tuple)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(SIZES, min_size=1, max_size=30), part_events=st.integers(1, 9))
def test_books_of_any_depth_come_back_over_any_cut_into_parts(
    tmp_path_factory: pytest.TempPathFactory, instrument: Instrument, book: Any, sizes: list[tuple[int, ...]], part_events: int
) -> None:
    directory = tmp_path_factory.mktemp("recording")
    books = [
        book(
            number,
            bid_sizes=one,
            bid_ticks=tuple(range(100, 100 - len(one), -1)),
            ask_sizes=one,
            ask_ticks=tuple(range(101, 101 + len(one))),
        )
        for number, one in enumerate(sizes)
    ]
    record(directory, instrument, books, part_events=part_events, max_parts_waiting=1_000)

    assert replayed(directory) == books
    assert len(list(directory.glob("part-*.parquet"))) == -(-len(books) // part_events)


def test_a_part_is_cut_by_market_time_too(tmp_path: Path, instrument: Instrument, book: Any) -> None:
    record(tmp_path, instrument, [book(number * 10) for number in range(10)], part_s=3.0)

    assert [pl.read_parquet(path).height for path in sorted(tmp_path.glob("*.parquet"))] == [4, 4, 2]


def test_a_second_run_records_behind_the_first(tmp_path: Path, instrument: Instrument, book: Any, trade: Any) -> None:
    other = Instrument(instrument_id="NQH4.GLBX", tick_size=Decimal("0.25"), multiplier=Decimal(20))
    record(tmp_path, instrument, [book(0), book(1)])
    record(tmp_path, other, [trade(9, instrument_id="NQH4.GLBX")])

    assert replayed(tmp_path) == [book(0), book(1), trade(9, instrument_id="NQH4.GLBX")]
    assert set(open_source(tmp_path).instruments) == {instrument, other}


def test_other_facts_of_the_same_instrument_are_refused(tmp_path: Path, instrument: Instrument, book: Any) -> None:
    record(tmp_path, instrument, [book(0)])

    with pytest.raises(IntegrityError, match=r"other facts of ESH4\.GLBX; choose another directory"):
        Recorder(tmp_path, [Instrument(instrument_id="ESH4.GLBX", tick_size=Decimal(1))]).start()


def test_bars_are_left_out(tmp_path: Path, instrument: Instrument, book: Any) -> None:
    bar = Bar(
        instrument_id="ESH4.GLBX", ts_event=1, interval_s=1, open_ticks=1, high_ticks=1, low_ticks=1, close_ticks=1,
        volume=1, buy_volume=0, sell_volume=1,
    )  # fmt: skip
    record(tmp_path, instrument, [bar, book(0)])

    assert replayed(tmp_path) == [book(0)]


def test_any_parquet_reader_opens_the_directory(tmp_path: Path, instrument: Instrument, events: list[MarketEvent]) -> None:
    record(tmp_path, instrument, events)

    table = pl.read_parquet(tmp_path / "*.parquet")
    assert table["kind"].value_counts().sort("kind").rows() == [("book", 4), ("session", 2), ("trade", 3)]


def test_a_disk_that_is_behind_drops_whole_parts_and_counts_them(
    tmp_path: Path, instrument: Instrument, book: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_writing, may_write = threading.Event(), threading.Event()
    real_write = recording_module.write_part

    def slow_write(*args: Any) -> Any:
        is_writing.set()
        may_write.wait(10)
        return real_write(*args)

    monkeypatch.setattr(recording_module, "write_part", slow_write)
    recorder = Recorder(tmp_path, [instrument], part_events=2, max_parts_waiting=1)
    recorder.start()
    recorder.record(book(0))
    recorder.record(book(1))
    is_writing.wait(10)
    for number in range(2, 7):
        recorder.record(book(number))
    may_write.set()
    recorder.close()

    assert (recorder.recorded_events, recorder.dropped_events) == (5, 2)
    assert [one.sequence for one in replayed(tmp_path) if isinstance(one, BookSnapshot)] == [0, 1, 2, 3, 6]


def test_a_failing_disk_and_an_event_that_is_no_row_are_counted_and_told(
    tmp_path: Path, instrument: Instrument, book: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = record(tmp_path / "nan", instrument, [book(0, bid_sizes=(1, "x")), book(1)], part_events=1)
    assert (recorder.recorded_events, recorder.dropped_events) == (1, 1)
    assert recorder.failure

    def refuse(*_: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(recording_module, "write_part", refuse)
    recorder = record(tmp_path / "full", instrument, [book(0)])
    assert (recorder.recorded_events, recorder.dropped_events, recorder.failure) == (0, 1, "disk full")


def test_a_directory_of_something_else_is_refused(tmp_path: Path, instrument: Instrument) -> None:
    DatasetWriter(tmp_path).close()
    (tmp_path / "other").mkdir()
    writer = DatasetWriter(tmp_path / "set")
    writer.close()

    with pytest.raises(ConfigError, match="without a recording in it"):
        open_source(tmp_path / "other")


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path: Path, instrument: Instrument, book: Any) -> Path:
    record(tmp_path / "run", instrument, [book(number) for number in range(30)], part_events=10)
    return tmp_path / "run"


def test_every_flipped_bit_is_an_integrity_error_that_names_the_part(recorded: Path) -> None:
    part = sorted(recorded.glob("*.parquet"))[1]
    sound = part.read_bytes()
    for bit in range(0, len(sound) * 8, len(sound) * 8 // 50):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        part.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=part.name):
            replayed(recorded)


def test_a_missing_part_is_an_integrity_error_at_once(recorded: Path) -> None:
    sorted(recorded.glob("*.parquet"))[1].unlink()

    with pytest.raises(IntegrityError, match="is missing; restore it, or record again"):
        open_source(recorded)


def test_one_part_alone_is_refused_with_the_directory_to_name(recorded: Path) -> None:
    with pytest.raises(ConfigError, match="one part of a recording; name its directory"):
        open_source(sorted(recorded.glob("*.parquet"))[0])


# --- the round trip ------------------------------------------------------------------------------------------------------


@pytest.mark.recordings
def test_a_recorded_replay_replays_as_the_same_run(recordings: Path, tmp_path: Path, make_rig: Any) -> None:
    original = open_feed([recordings / "cme_es_databento" / "esh4-glbx-mdp3-20231225.mbo.dbn.zst"])
    recorder = Recorder(tmp_path, original.instruments, may_wait=True)
    recorder.start()
    first = make_rig(original.instruments, tap=recorder.record)
    assert first.run(original)
    recorder.close()

    again = open_feed([tmp_path])
    second = make_rig(again.instruments)
    assert second.run(again)

    assert again.instruments == original.instruments
    assert recorder.recorded_events == original.delivered == again.delivered
    assert second.listener.got == first.listener.got
    assert second.heard == first.heard
    assert len(first.listener.of(TradeTick)) == 2_973
