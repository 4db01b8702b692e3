from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.errors import IntegrityError, StorageError, TidebookError
from framework.messages import Action, CancelOrder, DecisionMade, ExecutionReport, Feedback, ReportKind
from framework.model import NS_PER_S, TradeOutcome
from framework.trading.journal import _OF_ORDER, Journal
from tests.trading.conftest import book, submit

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with closing(Journal(path)) as opened:
        yield opened


def edit(path: Path, statement: str, *parameters: Any) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute(statement, parameters)
        other.commit()


def seen_by_others(path: Path, table: str = "records") -> int:
    with closing(sqlite3.connect(path)) as other:
        return int(other.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def feedback(number: int, pnl: str = "12.50") -> Feedback:
    decision = DecisionMade(
        decision_id=f"d{number}",
        strategy_id="s",
        instrument_id="A.X",
        ts_event=number,
        action=Action.BUY,
        reason="agrees",
        prediction_id=None,
        flow_type=None,
        confidence=None,
        model_version=None,
        position_lots=0,
        book=book(),
    )
    return Feedback(
        feedback_id=f"f{number}",
        decision=decision,
        trade_executed=True,
        trade_outcome=TradeOutcome.PROFIT,
        pnl=Decimal(pnl),
        markouts_ticks={"1": 0.5},
        last_bar=None,
        closed_ns=number,
    )


# --- records -------------------------------------------------------------------------------------------------------------


def test_records_come_back_as_they_were_in_order_and_by_kind(journal: Journal) -> None:
    order = submit("o1")
    cancel = CancelOrder(client_order_id="o1", strategy_id="s", ts_event=2)
    report = ExecutionReport(client_order_id="o1", kind=ReportKind.FILLED, ts_event=3, last_quantity=1, fee=Decimal("0.85"))
    for message in (order, cancel, report):
        journal.append(type(message).__name__, message, durable=True, key="o1")

    assert [record.message for record in journal.records()] == [order, cancel, report]
    assert [record.seq for record in journal.records("ExecutionReport", "SubmitOrder")] == [1, 3]
    assert [record.ts_event for record in journal.records("CancelOrder")] == [2]


def test_a_durable_record_is_on_the_disk_when_append_returns_and_takes_what_waits_along(journal: Journal, path: Path) -> None:
    journal.append("SubmitOrder", submit("o1"))
    before = seen_by_others(path)
    journal.append("SubmitOrder", submit("o2"), durable=True)

    assert (before, seen_by_others(path)) == (0, 2)


def test_other_records_are_on_the_disk_after_a_flush(journal: Journal, path: Path) -> None:
    journal.append("SubmitOrder", submit("o1"))
    journal.flush()

    assert seen_by_others(path) == 1


def test_close_commits_what_waits(path: Path) -> None:
    journal = Journal(path)
    journal.append("SubmitOrder", submit("o1"))
    journal.close()

    assert seen_by_others(path) == 1


@given(st.lists(st.tuples(st.integers(1, 2**53), st.booleans()), max_size=20))
def test_any_mix_of_durable_and_waiting_records_comes_back_and_verifies(script: list[tuple[int, bool]]) -> None:
    journal = Journal(":memory:")
    for number, (quantity, durable) in enumerate(script):
        assert journal.append("SubmitOrder", submit(f"o{number}", quantity=quantity), durable=durable) == number + 1

    assert journal.verify() == len(script)
    assert [record.message.quantity for record in journal.records()] == [quantity for quantity, _ in script]  # type: ignore[attr-defined]
    journal.close()


def test_sequence_numbers_and_chain_go_on_after_reopening(path: Path) -> None:
    for number in range(3):
        with closing(Journal(path)) as journal:
            assert journal.last_seq == number
            assert journal.append("SubmitOrder", submit(f"o{number}"), durable=True) == number + 1
            assert journal.verify() == number + 1


# --- damage --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", [1, 3, 5])
def test_verify_names_the_first_record_with_a_flipped_byte(journal: Journal, path: Path, victim: int) -> None:
    for number in range(5):
        journal.append("SubmitOrder", submit(f"o{number}"), durable=True)
    with closing(sqlite3.connect(path)) as other:
        body = bytearray(other.execute("SELECT body FROM records WHERE seq = ?", (victim,)).fetchone()[0])
    body[len(body) // 2] ^= 1
    edit(path, "UPDATE records SET body = ? WHERE seq = ?", bytes(body), victim)

    with pytest.raises(IntegrityError, match=rf"record {victim} does not fit the hash chain"):
        journal.verify()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DELETE FROM records WHERE seq = 2", 2),
        ("UPDATE records SET ts_event = ts_event + 1 WHERE seq = 4", 4),
        ("UPDATE records SET record_key = 'x' WHERE seq = 3", 3),
        ("UPDATE records SET kind = 'CancelOrder' WHERE seq = 3", 3),
        ("UPDATE records SET chain = zeroblob(32) WHERE seq = 5", 5),
    ],
)
def test_verify_notices_whatever_is_changed_or_missing(journal: Journal, path: Path, statement: str, named: int) -> None:
    for number in range(5):
        journal.append("SubmitOrder", submit(f"o{number}"), durable=True)
    edit(path, statement)

    with pytest.raises(IntegrityError, match=rf"record {named} "):
        journal.verify()


def test_a_record_that_cannot_be_decoded_is_named(journal: Journal, path: Path) -> None:
    journal.append("SubmitOrder", submit("o1"), durable=True)
    edit(path, "UPDATE records SET body = x'c1'")

    with pytest.raises(IntegrityError, match=r"record 1 \(SubmitOrder\) cannot be read"):
        list(journal.records())


def test_a_record_of_a_kind_that_this_version_does_not_know_is_named(journal: Journal, path: Path) -> None:
    journal.append("SubmitOrder", submit("o1"), durable=True)
    edit(path, "UPDATE records SET kind = 'Nonsense'")

    with pytest.raises(TidebookError, match="record 1 is of unknown kind 'Nonsense'"):
        list(journal.records())


def test_a_file_that_is_no_journal_is_refused_as_damaged(path: Path) -> None:
    path.write_bytes(b"not a database, whatever its name says" * 200)

    with pytest.raises(IntegrityError, match="restore the file from a backup"):
        Journal(path)


def test_pages_that_rotted_are_damage_wherever_they_are_met(path: Path) -> None:
    with closing(Journal(path)) as journal:
        for number in range(200):
            journal.append("SubmitOrder", submit(f"o{number}"), durable=number == 199)
    raw = bytearray(path.read_bytes())
    raw[4096 * 5 :] = b"\xa5" * (len(raw) - 4096 * 5)
    path.write_bytes(raw)

    def use() -> None:
        with closing(Journal(path)) as journal:
            list(journal.records())

    with pytest.raises(IntegrityError, match="restore the file from a backup"):
        use()


def test_a_journal_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    Journal(path).close()
    edit(path, "UPDATE meta SET value = '3' WHERE name = 'schema_version'")
    edit(path, "DROP TABLE feedback")
    before = path.read_bytes()

    with pytest.raises(StorageError, match="written by version 3 of the journal, this Tidebook reads 2"):
        Journal(path)
    assert path.read_bytes() == before


# --- a disk that fails ---------------------------------------------------------------------------------------------------


def test_a_database_of_another_program_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
        other.commit()
    before = path.read_bytes()

    with pytest.raises(StorageError, match="another program, with tables recipes"):
        Journal(path)
    assert path.read_bytes() == before


def test_the_history_of_one_order_is_found_by_its_id(journal: Journal) -> None:
    sent = [journal.append("SubmitOrder", submit(name), durable=True, key=name) for name in ("o1", "o2")]
    reports = [
        journal.append("ExecutionReport", ExecutionReport(client_order_id=name, kind=ReportKind.ACCEPTED, ts_event=1), key=name)
        for name in ("o2", "o1", "o2")
    ]
    journal.append("CancelOrder", CancelOrder(client_order_id="o2", strategy_id="s", ts_event=1), key="o2")

    assert [record.seq for record in journal.history("o2")] == [sent[1], reports[0], reports[2]]
    assert [record.seq for record in journal.history("o2", before=reports[2])] == [sent[1], reports[0]]
    assert journal.has_order("o1")
    assert not journal.has_order("o3")


def test_looking_for_an_order_reads_its_index_and_not_the_journal(journal: Journal) -> None:
    plans = [
        " ".join(row[3] for row in journal._db.execute(f"EXPLAIN QUERY PLAN SELECT 1 FROM records {_OF_ORDER} {more}", ("o1",)))
        for more in ("AND seq <= 9 ORDER BY seq", "AND kind = 'SubmitOrder' LIMIT 1")
    ]

    assert all("USING INDEX records_of_orders" in plan and "TEMP B-TREE" not in plan for plan in plans)


def test_a_locked_file_is_a_storage_error_and_the_journal_says_it_is_not_healthy(journal: Journal, path: Path) -> None:
    journal.append("SubmitOrder", submit("o1"), durable=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="locked"):
            journal.append("SubmitOrder", submit("o2"), durable=True)
        other.execute("ROLLBACK")

    assert not journal.is_healthy


def test_what_was_refused_is_never_written_later_and_the_chain_has_no_gap(journal: Journal, path: Path) -> None:
    journal.append("SubmitOrder", submit("o1"), durable=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError):
            journal.append("SubmitOrder", submit("refused"), durable=True)
        other.execute("ROLLBACK")
    journal.append("SubmitOrder", submit("o2"), durable=True)

    assert [record.message.client_order_id for record in journal.records()] == ["o1", "o2"]  # type: ignore[attr-defined]
    assert journal.verify() == 2
    assert not journal.is_healthy


FULL_DISK = """
import resource, signal, sys
from framework.errors import StorageError
from framework.trading.journal import _OF_ORDER, Journal
from tests.trading.conftest import submit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(sys.argv[1])
journal.append("SubmitOrder", submit("first"), durable=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, resource.RLIM_INFINITY))
acknowledged = 1
try:
    while True:
        journal.append("SubmitOrder", submit(f"o{acknowledged}"), durable=True)
        acknowledged += 1
except StorageError:
    assert not journal.is_healthy
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append("SubmitOrder", submit("after"), durable=True)
print(acknowledged)
"""


def test_a_full_disk_is_a_storage_error_and_loses_nothing_that_was_acknowledged(path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert ran.returncode == 0, ran.stderr
    acknowledged = int(ran.stdout)
    with closing(Journal(path)) as journal:
        assert journal.verify() == acknowledged + 1
        assert [record.message.client_order_id for record in journal.records()][-1] == "after"  # type: ignore[attr-defined]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(StorageError):
        Journal(tmp_path / "journal.sqlite")
    tmp_path.chmod(0o700)


# --- kill -9 -------------------------------------------------------------------------------------------------------------

APPENDING = """
import sys
from framework.trading.journal import _OF_ORDER, Journal
from tests.trading.conftest import submit
journal = Journal(sys.argv[1])
while True:
    number = journal.last_seq
    journal.append("SubmitOrder", submit(f"waits{number}"))
    print(journal.append("SubmitOrder", submit(f"o{number}"), durable=True), flush=True)
"""


def test_every_acknowledged_record_survives_kill_9(path: Path) -> None:
    acknowledged = 0
    for lines in (1, 40, 150):
        with subprocess.Popen([sys.executable, "-c", APPENDING, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(lines):
                child.stdout.readline()
            child.send_signal(signal.SIGKILL)
            said = child.stdout.read().splitlines()
        with closing(Journal(path)) as journal:
            acknowledged = max(acknowledged + 2 * lines, *(int(line) for line in said), 0)
            assert journal.verify() >= acknowledged
            acknowledged = journal.last_seq


# --- feedback outbox, deployments, facts ---------------------------------------------------------------------------------


def test_feedback_waits_oldest_first_until_it_is_acknowledged(path: Path) -> None:
    with closing(Journal(path)) as journal:
        for number in (3, 1, 2):
            journal.put_feedback(feedback(number))
        journal.acknowledge_feedback(("f1", "never-sent"))

    with closing(Journal(path)) as journal:
        assert journal.pending_feedback() == [feedback(3), feedback(2)]


def test_the_same_feedback_again_replaces_it(journal: Journal) -> None:
    journal.put_feedback(feedback(1, pnl="1.00"))
    journal.put_feedback(feedback(1, pnl="2.00"))

    assert journal.pending_feedback() == [feedback(1, pnl="2.00")]


def test_a_deployment_is_replaced_by_name_survives_and_can_be_removed(path: Path) -> None:
    with closing(Journal(path)) as journal:
        journal.put_deployment("b", "{}", "d1", 1)
        journal.put_deployment("a", "{}", "d2", 2)
        journal.put_deployment("b", '{"x": 1}', "d3", 3 * NS_PER_S)
        assert seen_by_others(path, "deployments") == 2

    with closing(Journal(path)) as journal:
        assert list(journal.deployments()) == ["a", "b"]
        assert journal.deployments()["b"] == ("b", '{"x": 1}', "d3", 3 * NS_PER_S)
        assert (journal.remove_deployment("b"), journal.remove_deployment("b")) == (True, False)
        assert list(journal.deployments()) == ["a"]


def test_a_small_fact_is_remembered_and_replaced(path: Path) -> None:
    with closing(Journal(path)) as journal:
        journal.set_meta("clean", "no")
        journal.set_meta("clean", "yes", durable=False)

    with closing(Journal(path)) as journal:
        assert (journal.get_meta("clean"), journal.get_meta("unknown")) == ("yes", None)
