"""What `state verify | replay | diff | export` say."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from framework.cli import door
from framework.errors import ConfigError, StartRefused
from framework.messages import SubmitOrder
from framework.operations import state_views as views
from framework.operations.options import StartOptions, Summary
from framework.operations.state_dir import StateDir
from framework.trading.fold import FORMAT, replay
from framework.trading.journal import Journal
from tests.trading.conftest import submit
from tests.trading.room import Room, fill


def nobody(_: StartOptions) -> Summary:
    raise AssertionError("nothing is to be started")


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Four records: two orders, one filled, with a snapshot in between."""
    with StateDir(tmp_path / "state") as state:
        journal = Journal(state.journal)
        room = Room(journal)
        room.tell(submit("o-1", quantity=2), fill(2, 100, "t1", "o-1"))
        journal.take_snapshot(replay(journal).to_bytes(), 1)
        room.tell(submit("o-2", limit_ticks=99))
        journal.close()
    return tmp_path / "state"


def say(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = door.enter(arguments, nobody)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_verify_counts_records_and_proves_the_snapshot(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = say(capsys, "state", "verify", "--state-dir", str(state_dir), "--json")

    found = json.loads(out)
    assert code == 0
    assert (found["records"], found["snapshots"], found["runs"], found["ended_in_order"]) == (4, [2], 0, False)
    assert found["by_kind"] == {"ExecutionReport": 1, "SnapshotTaken": 1, "SubmitOrder": 2}


def test_verify_finds_a_changed_record_and_a_snapshot_that_is_not_true(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(state_dir / "journal.sqlite")
    journal.take_snapshot(replay(journal, until=2).to_bytes(), 1)  # sound by its digest, but of another record
    journal.close()
    code, _, err = say(capsys, "state", "verify", "--state-dir", str(state_dir))
    assert code == 6
    assert "the snapshot at record 4 is not what the records add up to" in err

    journal = Journal(state_dir / "journal.sqlite")
    journal._db.execute("UPDATE records SET ts_event = 3 WHERE seq = 2")
    journal.close()
    code, _, err = say(capsys, "state", "verify", "--state-dir", str(state_dir))
    assert code == 6
    assert "record 2 does not fit the hash chain" in err


def test_verify_leaves_a_snapshot_of_another_version_aside(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(state_dir / "journal.sqlite")
    facts = msgspec.structs.replace(replay(journal, until=2).facts(), format=FORMAT - 1)
    journal.take_snapshot(msgspec.msgpack.encode(facts), 1)
    journal.close()
    code, out, _ = say(capsys, "state", "verify", "--state-dir", str(state_dir), "--json")

    assert code == 0
    assert json.loads(out)["snapshots"] == [2]


def test_replay_shows_the_state_behind_any_record(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states = [json.loads(say(capsys, "state", "replay", "--until", str(n), "--state-dir", str(state_dir), "--json")[1]) for n in range(5)]

    assert [len(one["orders"]) for one in states] == [0, 1, 0, 0, 1]
    assert [[position["quantity"] for position in one["positions"]] for one in states] == [[], [], [2], [2], [2]]
    assert say(capsys, "state", "replay", "--until", "9", "--state-dir", str(state_dir))[0] == ConfigError.exit_code


def test_diff_names_what_differs_and_can_be_asked_to_fail(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = say(capsys, "state", "diff", "2", "3", "--check", "--state-dir", str(state_dir), "--json")
    assert (code, json.loads(out)) == (0, [])

    code, out, _ = say(capsys, "state", "diff", "2", str(state_dir), "--check", "--state-dir", str(state_dir), "--json")

    assert code == 6
    assert {one["path"] for one in json.loads(out)} == {"ids.o-", "orders.o-2", "sent"}


def test_export_writes_records_as_lines(state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = say(capsys, "state", "export", "--kind", "SubmitOrder", "--since", "2", "--state-dir", str(state_dir))
    [line] = [json.loads(text) for text in out.splitlines()]
    assert (code, line["seq"], line["key"], line["message"]["limit_ticks"]) == (0, 4, "o-2", 99)

    file = tmp_path / "out.jsonl"
    assert say(capsys, "state", "export", "--out", str(file), "--state-dir", str(state_dir))[0] == 0
    assert len(file.read_text().splitlines()) == 4
    assert say(capsys, "state", "export", "--out", str(file), "--state-dir", str(state_dir))[0] == ConfigError.exit_code


def test_a_journal_that_is_not_there_is_said_so_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="there is no journal"), views.reading(tmp_path / "nowhere"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_looking_works_while_somebody_owns_the_journal(state_dir: Path) -> None:
    with StateDir(state_dir) as state:
        owner = Journal(state.journal)
        owner.append("SubmitOrder", submit("o-3"), durable=True, key="o-3")
        with views.reading(state_dir) as journal:
            seen = [record.message.client_order_id for record in journal.records() if isinstance(record.message, SubmitOrder)]
        owner.close()

    assert seen == ["o-1", "o-2", "o-3"]
