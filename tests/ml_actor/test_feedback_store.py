"""The feedback store: each id once, durably, and in one file that says when it is damaged."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from framework.errors import IntegrityError, StorageError
from framework.wire import FeedbackItem
from ml_actor.feedback_store import FeedbackStore
from ml_actor.outcomes import read_feedback

ROOT = Path(__file__).resolve().parents[2]


def item(number: int, outcome: str | None = "PROFIT") -> FeedbackItem:
    return FeedbackItem(
        timestamp="2024-01-15T10:30:15Z",
        prediction_flow_type="BUY",
        prediction_confidence=0.75,
        trade_executed=True,
        trade_outcome=outcome,
        market_data_snapshot={"close": 18520.0},
        dom_data_snapshot={"spread": 2.5},
        feedback_id=f"d-{number}",
        instrument_id="TIDE.SIM",
        markouts_ticks={"5": 1.5},
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    opened = FeedbackStore(tmp_path / "ml_feedback.sqlite")
    opened.open()
    yield opened
    opened.close()


def test_an_id_is_stored_once_and_keeps_what_it_said_first(store: FeedbackStore, tmp_path: Path) -> None:
    assert store.add([item(1), item(2)], received_ns=1) == 2
    assert store.add([item(2, outcome=None), item(3), item(3)], received_ns=2) == 1

    store.export_for_training(tmp_path / "feedback.jsonl")

    assert store.count == 3
    assert read_feedback(tmp_path / "feedback.jsonl") == (item(1), item(2), item(3))


def test_the_newest_are_exported_in_order_of_arrival(store: FeedbackStore, tmp_path: Path) -> None:
    store.add([item(n) for n in range(10)], received_ns=1)

    assert store.export_for_training(tmp_path / "out.jsonl", newest=3) == 3
    assert [entry.feedback_id for entry in read_feedback(tmp_path / "out.jsonl")] == ["d-7", "d-8", "d-9"]


def test_what_was_stored_is_there_after_opening_again(store: FeedbackStore, tmp_path: Path) -> None:
    store.add([item(1)], received_ns=1)
    store.close()
    again = FeedbackStore(tmp_path / "ml_feedback.sqlite")
    again.open()

    assert again.count == 1
    assert again.add([item(1)], received_ns=2) == 0


def test_beyond_its_size_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path / "f.sqlite", max_items=5)
    store.open()

    store.add([item(n) for n in range(4)], received_ns=1)
    store.add([item(n) for n in range(4, 8)], received_ns=1)
    store.export_for_training(tmp_path / "out.jsonl")

    assert (store.count, store.deleted) == (5, 3)
    assert [entry.feedback_id for entry in read_feedback(tmp_path / "out.jsonl")] == [f"d-{n}" for n in range(3, 8)]


def test_only_the_owner_can_read_the_files(store: FeedbackStore, tmp_path: Path) -> None:
    store.add([item(1)], received_ns=1)
    store.export_for_training(tmp_path / "out.jsonl")

    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ml_feedback.sqlite"
    path.write_bytes(b"this is not a database, far from it" * 200)

    with pytest.raises(IntegrityError, match=r"ml_feedback\.sqlite.*move it away"):
        FeedbackStore(path).open()


def test_a_damaged_database_is_named(store: FeedbackStore, tmp_path: Path) -> None:
    store.add([item(n) for n in range(500)], received_ns=1)
    store.close()
    path = tmp_path / "ml_feedback.sqlite"
    content = bytearray(path.read_bytes())
    content[4_096 : 4_096 * 6] = b"\xff" * (4_096 * 5)
    path.write_bytes(content)

    with pytest.raises(IntegrityError, match=r"ml_feedback\.sqlite"):
        FeedbackStore(path).open()


def test_a_locked_or_closed_or_linked_store_is_a_storage_error(store: FeedbackStore, tmp_path: Path) -> None:
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "ml_feedback.sqlite")
    with pytest.raises(StorageError, match="link"):
        FeedbackStore(tmp_path / "link.sqlite").open()

    store._connection.execute("PRAGMA busy_timeout=10")  # type: ignore[union-attr]
    blocker = sqlite3.connect(tmp_path / "ml_feedback.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked"):
        store.add([item(1)], received_ns=1)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert store.add([item(1)], received_ns=1) == 1

    store.close()
    with pytest.raises(StorageError, match="closed"):
        store.add([item(2)], received_ns=1)


WRITER = """
import sys
from pathlib import Path
from framework.wire import FeedbackItem
from ml_actor.feedback_store import FeedbackStore
store = FeedbackStore(Path(sys.argv[1]))
store.open()
number = store.count
while True:
    ids = [f"d-{number + n}" for n in range(3)]
    store.add([FeedbackItem(timestamp="", prediction_flow_type=None, prediction_confidence=None, trade_executed=False, trade_outcome=None,
        market_data_snapshot={}, dom_data_snapshot={}, feedback_id=one) for one in ids], received_ns=1)
    number += 3
    print(number, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite"
    for lines in (1, 4, 9):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert writer.stdout is not None
        acknowledged = 0
        for _ in range(lines):
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = int(([str(acknowledged), *writer.stdout.read().split()])[-1])
        writer.wait()
        writer.stdout.close()

        store = FeedbackStore(path)
        store.open()
        assert store.count >= acknowledged
        assert store.count % 3 == 0  # a batch is there whole or not at all
        store.close()
