"""Kill and starve the trading room at write system calls, one after the other, and look at what is left."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from framework.trading.journal import Journal
from tests.trading.room import Room

ROOT = Path(__file__).resolve().parents[2]
POINTS = [
    *(("pwrite64", "signal=SIGKILL", n) for n in range(20, 90, 11)),
    *(("fdatasync", "signal=SIGKILL", n) for n in range(2, 20, 5)),
    ("fdatasync", "error=EIO", 12),
    ("pwrite64", "error=ENOSPC", 60),
]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(("call", "fault", "number"), POINTS)
def test_nothing_that_was_acknowledged_is_lost_at_a_write(tmp_path: Path, call: str, fault: str, number: int) -> None:
    path = tmp_path / "journal.sqlite"
    when = f"{number}+" if fault.startswith("error") else str(number)
    tracer = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={when}"]
    child = subprocess.run(
        [*tracer, sys.executable, "-m", "tests.trading.crashing_child", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if "ptrace" in child.stderr:
        pytest.skip("this machine does not allow strace")
    said = child.stdout.splitlines()
    sent = {line.split()[1] for line in said if line.startswith("sent")}
    filled = {line.split()[1] for line in said if line.startswith("filled")}

    assert "healthy" not in said
    with closing(Journal(path)) as journal:
        room = Room(journal)
        room.execution.recover()
        intended = {record.key for record in journal.records("SubmitOrder")}
        booked = {record.key for record in journal.records("ExecutionReport")}
        assert sent <= intended
        assert len(intended - sent) <= 1
        assert filled <= booked <= intended
        assert room.execution.position("s", "A.X") == len(booked)
