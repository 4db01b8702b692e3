"""The tail of a journal: the last records, those that come, a writer that goes on, and a file that goes away."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from framework.cli.door import enter
from framework.errors import ConfigError, StorageError
from framework.messages import CancelOrder, OrderUpdated, TradingStateChanged
from framework.model import OrderStatus, Side, TradingState
from framework.operations.lineup import HOME
from framework.research.journal_tail import BATCH, check_kinds, tail
from framework.research.record_words import record_line
from framework.trading.journal import Journal, Record

Write = Callable[..., None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def write(path: Path) -> Write:
    """Return a function that appends cancels (and changes of state) as a running process does."""
    journal = Journal(path)

    def append(count: int, *, has_states: bool = False) -> None:
        for number in range(count):
            name = f"s-{number}"
            journal.append("CancelOrder", CancelOrder(client_order_id=name, strategy_id="s", ts_event=number), key=name)
            if has_states:
                journal.append("TradingStateChanged", TradingStateChanged(ts_event=number, state=TradingState.ACTIVE, reason="x"))
        journal.flush()

    return append


def read(path: Path, count: int, *kinds: str, wait: Callable[[], bool] | None = None) -> list[int]:
    journal = Journal(path, is_read_only=True)
    found = [record.seq for record in tail(journal, path, count=count, kinds=kinds, wait=wait)]
    journal.close()
    return found


@pytest.mark.parametrize(("count", "expected"), [(3, [8, 9, 10]), (100, list(range(1, 11))), (0, [])])
def test_the_last_records_come_oldest_first(path: Path, write: Write, count: int, expected: list[int]) -> None:
    write(10)

    assert read(path, count) == expected


def test_of_one_kind_the_last_are_counted_by_that_kind(path: Path, write: Write) -> None:
    write(10, has_states=True)

    assert read(path, 3, "TradingStateChanged") == [16, 18, 20]
    assert read(path, 2, "TradingStateChanged", "CancelOrder") == [19, 20]


def test_more_than_a_batch_comes_whole(path: Path, write: Write) -> None:
    write(3 * BATCH + 7)

    assert read(path, 2 * BATCH + 5) == list(range(BATCH + 3, 3 * BATCH + 8))


def test_following_gives_each_record_once_while_somebody_writes(path: Path, write: Write) -> None:
    write(5)
    rounds = iter((3, 0, BATCH + 1))

    def wait() -> bool:
        count = next(rounds, None)
        if count is None:
            return False
        write(count)
        return True

    assert read(path, 2, wait=wait) == list(range(4, 5 + 3 + BATCH + 1 + 1))


def test_a_reader_does_not_keep_the_writer_from_emptying_its_log(path: Path, write: Write) -> None:
    write(10)
    journal = Journal(path, is_read_only=True)
    reader = tail(journal, path, count=5, kinds=(), wait=lambda: False)
    assert next(reader).seq == 6

    other = Journal(path)
    busy, _, _ = other._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    assert busy == 0
    other.close()
    journal.close()


def test_a_journal_that_is_replaced_ends_the_reading(path: Path, write: Write) -> None:
    write(3)

    def wait() -> bool:
        path.rename(path.with_name("moved.sqlite"))
        return True

    with pytest.raises(StorageError, match="moved or replaced"):
        read(path, 1, wait=wait)


@pytest.mark.parametrize("kind", ["cancelorder", "Message; DROP", "\x1b[31m", "", "Decimal", "Any"])
def test_a_name_that_is_no_kind_is_refused(path: Path, write: Write, kind: str) -> None:
    write(1)
    journal = Journal(path, is_read_only=True)

    with pytest.raises(ConfigError, match=r"--kind: found .*CancelOrder"):
        check_kinds(journal, (kind,))
    check_kinds(journal, ("SubmitOrder", "RunStarted"))  # none of them yet
    journal.close()


def test_what_others_wrote_reaches_no_terminal_as_it_is() -> None:
    update = OrderUpdated(
        client_order_id="s-1",
        strategy_id="s",
        instrument_id="X.Y",
        ts_event=1,
        side=Side.BUY,
        quantity=1,
        filled_quantity=0,
        average_ticks=None,
        limit_ticks=None,
        status=OrderStatus.REJECTED,
        reason="\x1b[2J\nERROR forged line",
    )

    line = record_line(Record(7, "OrderUpdated", "", 1_700_000_000_000_000_000, update))

    assert "\x1b" not in line
    assert "\n" not in line
    assert "2023-11-14 22:13:20.000000" in line


def test_the_verb_says_the_same_as_lines_and_as_json(path: Path, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(4)
    arguments = ["state", "tail", "-n", "2", "--state-dir", str(path.parent)]

    assert enter(arguments, lambda _: pytest.fail("nothing is started here")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert enter([*arguments, "--json"], lambda _: pytest.fail("nothing is started here")) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [line.split()[0] for line in lines] == ["3", "4"]
    assert [one["seq"] for one in found] == [3, 4]
    assert lines[1].endswith("CancelOrder         s-3")
    assert found[1]["message"]["client_order_id"] == "s-3"


def test_following_goes_on_until_ctrl_c_and_that_is_no_failure(path: Path, write: Write) -> None:
    write(2)
    command = [sys.executable, str(HOME / "main.py"), "state", "tail", "--follow", "-n", "1", "--state-dir", str(path.parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline().split()[0] == "2"
        write(1)
        assert running.stdout.readline().split()[0] == "3"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)

    assert (running.returncode, err) == (0, "")


WRITER = """
import sys
from pathlib import Path
from framework.messages import CancelOrder
from framework.trading.journal import Journal
journal = Journal(Path(sys.argv[1]))
while True:
    number = journal.last_seq + 1
    journal.append("CancelOrder", CancelOrder(client_order_id=f"s-{number}", strategy_id="s", ts_event=number), durable=number % 3 == 0)
"""


def test_following_outlives_a_writer_that_is_killed_and_shows_what_its_successor_writes_without_a_gap(path: Path, write: Write) -> None:
    write(1)
    tail = [sys.executable, str(HOME / "main.py"), "state", "tail", "--follow", "-n", "1", "--state-dir", str(path.parent)]
    with subprocess.Popen(tail, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        numbers = [int(running.stdout.readline().split()[0])]
        for _ in range(3):
            with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=HOME) as writer:
                numbers += [int(running.stdout.readline().split()[0]) for _ in range(50)]
                writer.kill()
        running.send_signal(signal.SIGINT)
        # Not `communicate`: it leaves out what `readline` has read ahead.
        numbers += [int(line.split()[0]) for line in running.stdout]
        assert running.stderr is not None
        err = running.stderr.read()

    assert (running.returncode, err) == (0, "")
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 150
