"""The recorder: every row once, in blocks, and trainings when they are due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from framework.clock import EventClock
from framework.config import TrainingConfig
from framework.dataset import BackgroundDatasetWriter, read_dataset
from framework.errors import StorageError
from framework.inference.samples import SampleRecorder, TrainingTrigger
from framework.kernel.bus import EventBus
from framework.messages import BookSnapshot, DomUpdated, TrainingWanted
from framework.model import Instrument
from framework.window import Rows

S = 1_000_000_000
TIDE = Instrument(instrument_id="TIDE.SIM", tick_size=Decimal("0.25"))


class MemoryWriter:
    """A dataset in memory; `log` has every call in order."""

    def __init__(self) -> None:
        self.sequences: list[int] = []
        self.log: list[str] = []
        self.is_full = False

    @property
    def total_rows(self) -> int:
        return len(self.sequences)

    def append(self, instrument: Instrument, rows: Rows, *, after_gap: bool = False) -> None:
        if self.is_full:
            raise StorageError("no space left")
        assert instrument == TIDE
        if after_gap:
            self.log.append("gap")
        self.log.append(f"append {len(rows)}")
        self.sequences += rows.sequence.tolist()

    def seal(self) -> int:
        self.log.append("seal")
        return len(self.sequences)


class House:
    def __init__(
        self, dom: Any, book: Callable[..., BookSnapshot], writer: Any = None, request_training: Any = None, **trigger: Any
    ) -> None:
        self.bus, self.clock, self.dom, self.make_book = EventBus(), EventClock(0), dom, book
        self.writer = writer or MemoryWriter()
        self.asked: list[str] = []
        self.recorder = SampleRecorder(
            self.bus,
            self.clock,
            self.writer,
            trigger=TrainingTrigger(**({"min_rows": 0} | trigger)),
            request_training=request_training or self.request_training,
        )
        self.bus.register(self.recorder)
        self.recorder.on_start()
        self.recorder.add_instrument(TIDE, max_dom_history=dom.max_rows)

    def request_training(self, reason: str, refit: str) -> None:
        self.writer.log.append("train")
        self.asked.append(reason)

    def rows(self, count: int, *, drain: bool = True) -> None:
        for _ in range(count):
            sequence = self.dom.total_rows + 1
            book = self.make_book(sequence, sequence)
            self.dom.append(book)
            self.bus.publish(DomUpdated(instrument_id="TIDE.SIM", ts_event=sequence, sequence=sequence, book=book, dom=self.dom))
            if drain:
                self.bus.drain()
        self.bus.drain()


@pytest.fixture
def build(dom: Any, book: Callable[..., BookSnapshot]) -> Callable[..., House]:
    def make(max_rows: int = 100, **trigger: Any) -> House:
        dom.books.clear()
        dom.max_rows = max_rows
        return House(dom, book, **trigger)

    return make


def test_rows_are_appended_in_blocks_and_the_rest_at_the_stop(build: Callable[..., House]) -> None:
    house = build()

    house.rows(120)
    assert house.writer.log == ["append 50", "append 50"]
    house.recorder.on_stop()

    assert house.writer.sequences == list(range(1, 121))
    assert house.recorder.stats() == {"rows": 120, "lost_rows": 0, "trainings_requested": 0, "storage_errors": 0}


def test_a_small_buffer_gets_smaller_blocks(build: Callable[..., House]) -> None:
    house = build(max_rows=10)

    house.rows(12)

    assert house.writer.log == ["append 5", "append 5"]


def test_rows_that_a_lagging_loop_conflates_are_pulled_all_the_same(build: Callable[..., House]) -> None:
    house = build()

    house.rows(90, drain=False)

    assert house.writer.sequences == list(range(1, 91))


def test_rows_that_the_buffer_went_over_are_counted(build: Callable[..., House]) -> None:
    house = build(max_rows=40)

    house.rows(100, drain=False)

    assert house.writer.sequences == list(range(61, 101))
    assert house.writer.log == ["gap", "append 40"]
    assert house.recorder.stats()["lost_rows"] == 60
    house.rows(20)
    assert house.writer.log == ["gap", "append 40", "append 20"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(bursts=st.lists(st.tuples(st.integers(1, 120), st.booleans()), max_size=8), max_rows=st.integers(2, 100))
def test_every_row_is_appended_once_or_counted_as_lost(bursts: Any, max_rows: int, build: Callable[..., House]) -> None:
    house = build(max_rows=max_rows)

    for count, drain in bursts:
        house.rows(count, drain=drain)
    house.recorder.on_stop()

    sequences, stats = house.writer.sequences, house.recorder.stats()
    assert sequences == sorted(set(sequences))
    assert stats["rows"] == len(sequences)
    assert stats["rows"] + stats["lost_rows"] == house.dom.total_rows


def test_a_training_follows_enough_new_rows_and_sees_them_sealed(build: Callable[..., House]) -> None:
    house = build(after_new_rows=100)

    house.rows(220)

    assert house.asked == ["100 new rows", "100 new rows"]
    assert house.writer.log[:4] == ["append 50", "append 50", "seal", "train"]


def test_no_training_before_there_is_enough_to_learn_from(build: Callable[..., House]) -> None:
    house = build(after_new_rows=50, every_minutes=1.0, min_rows=200)

    house.rows(150)
    house.clock.advance_to(60 * S)
    assert house.asked == []
    house.rows(50)

    assert house.asked == ["200 new rows"]


def test_the_schedule_trains_on_new_rows_only(build: Callable[..., House]) -> None:
    house = build(every_minutes=5.0)
    house.rows(10)

    house.clock.advance_to(300 * S)
    house.clock.advance_to(600 * S)

    assert house.asked == ["every 5 minutes"]
    assert house.writer.sequences == list(range(1, 11))
    house.rows(1)
    house.clock.advance_to(900 * S)
    assert len(house.asked) == 2


def test_a_training_that_drift_wants_is_asked_for_once_its_cooldown_is_over(build: Callable[..., House]) -> None:
    house = build(drift_cooldown_minutes=5.0)
    wanted = TrainingWanted(ts_event=0, reason="drift: outcome")

    def want(at_s: int) -> None:
        house.clock.advance_to(at_s * S)
        house.bus.tell("samples", wanted)
        house.bus.drain()

    want(1)
    assert house.asked == []  # nothing new to learn from
    house.rows(10)
    want(2)
    want(3)
    house.rows(10)
    want(200)
    assert house.asked == ["drift: outcome"]
    want(303)
    assert house.asked == ["drift: outcome"] * 2


def test_without_a_cooldown_drift_asks_for_nothing(build: Callable[..., House]) -> None:
    house = build()
    house.rows(10)
    house.bus.tell("samples", TrainingWanted(ts_event=0, reason="drift"))
    house.bus.drain()

    assert house.asked == []


def test_triggers_can_be_turned_off_and_the_schedule_ends_with_the_recorder(build: Callable[..., House]) -> None:
    assert TrainingTrigger.of(TrainingConfig(after_new_rows=0, drift_cooldown_minutes=0.0)) == TrainingTrigger(min_rows=3_000)
    house = build(every_minutes=1.0)
    house.rows(10)
    house.recorder.on_stop()

    house.clock.advance_to(600 * S)

    assert house.asked == []


async def test_a_training_sees_the_rows_that_were_recorded_in_the_background(build: Callable[..., House], tmp_path: Path) -> None:
    directory = tmp_path / "training_data.parquet"
    writer = BackgroundDatasetWriter(directory)
    seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    house = build(
        writer=writer,
        after_new_rows=100,
        request_training=lambda *_: seen.set_result(read_dataset(directory, max_rows=1_000).total_rows),
    )

    house.rows(100)
    async with asyncio.timeout(10):
        rows = await seen
    writer.close()

    assert rows == 100


async def test_a_seal_that_fails_costs_the_training_and_not_the_recording(
    build: Callable[..., House], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = BackgroundDatasetWriter(tmp_path / "training_data.parquet")
    house = build(writer=writer)
    house.rows(50)
    writer.close()

    house.recorder.train_now("by hand")
    for _ in range(5):
        await asyncio.sleep(0)

    assert house.asked == []
    assert house.recorder.stats()["storage_errors"] == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_full_disk_ends_the_recording_and_not_the_trading(build: Callable[..., House], caplog: pytest.LogCaptureFixture) -> None:
    house = build(after_new_rows=1, every_minutes=1.0)
    house.writer.is_full = True

    house.rows(200)

    assert house.writer.log == []
    assert house.asked == []
    assert house.recorder.stats()["storage_errors"] == 1
    assert [record.message for record in caplog.records] == ["Training samples are no longer recorded: no space left"]
