"""The kill switch from outside: it closes the gate of a process that hangs, and ends that process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from framework.errors import StartRefused
from framework.messages import ExecutionReport, SubmitOrder
from framework.model import Side, TradingState
from framework.operations import kills, offline
from framework.operations.venue_halt import Emptied, empty
from framework.venues.port import Standing

ROOT = Path(__file__).resolve().parents[2]
HANGING = """
import sys, time
from pathlib import Path
from framework.operations import kills
from framework.operations.state_dir import StateDir
with StateDir(Path(sys.argv[1])):
    is_set = kills.reader(Path(sys.argv[1]))
    print("up", flush=True)
    while not is_set():  # a strategy that never gives the loop its turn
        time.sleep(0.01)
    print("seen", flush=True)
    while True:
        time.sleep(1)
"""


def state_of(state_dir: Path) -> tuple[TradingState, str]:
    with offline.open_journal(state_dir) as journal:
        found = offline.trading_state(journal)
    return found.state, found.reason


def test_a_halt_reaches_a_process_that_hangs_and_ends_it(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    child = subprocess.Popen([sys.executable, "-c", HANGING, str(state_dir)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        halted = kills.halt(state_dir, "it hangs", is_flattening=False, kill_after_s=0.5, now_ns=7)

        assert halted.killed == child.pid
        assert child.stdout.readline() == "seen\n"
        assert child.wait(timeout=10) in (-signal.SIGTERM, -signal.SIGKILL)
    finally:
        child.kill()
        child.communicate()
    state, reason = state_of(state_dir)
    assert state is TradingState.HALTED
    assert f"process {halted.killed} did not answer and was killed" in reason
    assert kills.is_set(state_dir)


def test_a_halt_while_nothing_runs_is_written_into_the_journal(tmp_path: Path) -> None:
    assert kills.halt(tmp_path / "state", "night", is_flattening=False, kill_after_s=1.0, now_ns=7) == kills.Halted()
    assert state_of(tmp_path / "state") == (TradingState.HALTED, "night")


def test_nobody_can_close_positions_while_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match="nobody is there to close positions"):
        kills.halt(tmp_path / "state", "night", is_flattening=True, kill_after_s=1.0, now_ns=7)
    assert state_of(tmp_path / "state")[0] is TradingState.HALTED


def test_the_switch_is_seen_at_once_by_whoever_reads_it(tmp_path: Path) -> None:
    is_set = kills.reader(tmp_path)
    seen = [is_set()]
    kills.write(tmp_path, is_set=True)
    seen.append(is_set())
    kills.clear(tmp_path)
    seen.append(is_set())

    assert seen == [False, True, False]
    assert (tmp_path / kills.NAME).stat().st_mode & 0o777 == 0o600


def test_what_a_halt_left_at_a_venue_elsewhere_is_said_and_is_no_success() -> None:
    done = kills.Halted(killed=7, at_venue=Emptied(canceled=("o1",), closed={"s A.X": 2}))
    left = kills.Halted(at_venue=Emptied(unconfirmed=("o2",), left={"s A.X": -1}))

    assert kills.sentence(done) == (
        "trading is HALTED; process 7 did not answer and was killed; "
        "1 orders canceled at the venue (o1); closed +2 of s A.X; none is open there"
    )
    assert kills.sentence(left) == "trading is HALTED; 0 orders canceled at the venue; STILL OPEN: o2; STILL HELD: -1 of s A.X"
    assert (done.is_done, left.is_done) == (True, False)


class Line:
    """A kill line to a venue that confirms only the third cancel."""

    def __init__(self, cancels_needed: int) -> None:
        self._needed = cancels_needed
        self.cancels = 0

    def standing(self) -> Standing:
        return Standing(() if self.cancels >= self._needed else ("o1", "o2"), {}, ("o0",))

    def cancel_everything(self) -> None:
        self.cancels += 1

    def best(self, instrument_id: str, side: Side) -> int | None:
        raise NotImplementedError

    def send(self, order: SubmitOrder) -> tuple[ExecutionReport, ...]:
        raise NotImplementedError


def test_a_venue_is_asked_to_cancel_until_it_confirms() -> None:
    line = Line(3)

    assert empty(line, sleep=lambda _: None) == Emptied(canceled=("o0", "o1", "o2"))
    assert line.cancels == 3


def test_orders_that_a_venue_never_confirms_stay_listed() -> None:
    line = Line(1_000)

    assert empty(line, within_s=1.0, sleep=lambda _: None) == Emptied(canceled=("o0",), unconfirmed=("o1", "o2"))
    assert line.cancels == 10
