"""The real `halt`, on processes of their own that send as fast as they can.

    python -m tests.faults halt-processes --processes 30 --table docs/faults.md
    python -m tests.faults halt-processes --processes 1 --seed 17 --only hangs

A process answers, hangs while it goes on sending, or is stopped by SIGSTOP. Two moments count, both by the monotonic clock that all
processes share: when the byte of the kill switch is on the disk (an order whose last look at the byte was before may still be on its
way then, one and no more), and when `halt` has returned (none).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from framework.operations import control, kills
from tests.faults.tables import markdown, parser_of, show

ROOT: Final = Path(__file__).resolve().parents[2]
WAYS: Final = ("answers", "hangs", "is stopped")
HALTS: Final = 20
"""How often a process that answers is halted and resumed."""
KILL_AFTER_S: Final = 0.3


@dataclass
class Found:
    """What came of processes of one kind."""

    processes: int = 0
    halts: int = 0
    orders: int = 0
    on_their_way: int = 0
    killed: int = 0
    violations: list[str] = field(default_factory=list)


@dataclass
class Halt:
    """When the byte was there, when `halt` had returned, and when trading was opened again."""

    byte_ns: int
    done_ns: int
    open_ns: int


class Child:
    """A process that sends."""

    def __init__(self, directory: Path, hang_after: int) -> None:
        self.state_dir, self._peer = directory / "state", directory / "peer"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.halted_child", str(self.state_dir), str(self._peer), str(hang_after)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self.hears("up")
        if hang_after:
            self.hears("hangs")

    def hears(self, word: str) -> None:
        """Wait until it says so."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline().decode().strip() == word

    def send(self, number: signal.Signals) -> None:
        """Signal it."""
        self._process.send_signal(number)

    def end(self) -> None:
        """Kill it, if it is not dead yet."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def times(self) -> list[int]:
        """Return when each order arrived, ns."""
        lines = self._peer.read_text().splitlines() if self._peer.exists() else []
        return [int(line.split()[0]) for line in lines]


@contextmanager
def child(hang_after: int) -> Iterator[Child]:
    """Run a process in a directory of its own."""
    directory = Path(tempfile.mkdtemp(prefix="halts-"))
    one = Child(directory, hang_after)
    try:
        yield one
    finally:
        one.end()
        shutil.rmtree(directory, ignore_errors=True)


def run_one(way: str, seed: int, found: Found) -> None:
    """Halt one process, in one way."""
    rng = random.Random(f"{way}-{seed}")
    halts: list[Halt] = []
    with child(rng.randint(1, 300) if way == "hangs" else 0) as one:
        for _ in range(HALTS if way == "answers" else 1):
            time.sleep(rng.uniform(0.02, 0.4))
            if way == "is stopped":
                one.send(signal.SIGSTOP)
            halts.append(_halt(one, found))
        time.sleep(0.05)
        one.end()
        times = one.times()
    found.processes += 1
    found.orders += len(times)
    for halt in halts:
        _look(halt, times, f"{way}, seed {seed}", found)


def _halt(one: Child, found: Found) -> Halt:
    kills.write(one.state_dir, is_set=True)
    byte_ns = time.monotonic_ns()
    halted = kills.halt(one.state_dir, "a test asked", is_flattening=False, kill_after_s=KILL_AFTER_S, now_ns=time.time_ns())
    done_ns = time.monotonic_ns()
    found.halts += 1
    if halted.killed is not None:
        found.killed += 1
        return Halt(byte_ns, done_ns, time.monotonic_ns() + 10**12)
    time.sleep(0.02)
    open_ns = time.monotonic_ns()
    kills.clear(one.state_dir)
    control.ask(one.state_dir, control.Resume(confirm=True))
    return Halt(byte_ns, done_ns, open_ns)


def _look(halt: Halt, times: list[int], who: str, found: Found) -> None:
    on_their_way = sum(halt.byte_ns < one < halt.done_ns for one in times)
    after = sum(halt.done_ns < one < halt.open_ns for one in times)
    found.on_their_way += on_their_way
    if after or on_their_way > 1:
        found.violations.append(f"{who}: {on_their_way} orders left after the kill switch was set, {after} after the halt had returned")


def run(seed: int, processes: int, only: tuple[str, ...] = WAYS) -> dict[str, Found]:
    """Halt so many processes, one way after the other."""
    found = {way: Found() for way in only}
    for number in range(processes):
        way, one = only[number % len(only)], seed + number // len(only)
        before = len(found[way].violations)
        run_one(way, one, found[way])
        for text in found[way].violations[before:]:
            print(f"{text}\nreplay: python -m tests.faults halt-processes --processes 1 --seed {one} --only '{way}'", file=sys.stderr)
    return found


HEAD: Final = ("the process", "processes", "halts", "orders before", "on their way when the byte was set", "ended by `halt`", "violations")


def main(arguments: list[str]) -> int:
    """Halt processes from the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--processes", type=int, default=30)
    parser.add_argument("--only", nargs="*", default=list(WAYS), choices=list(WAYS))
    options = parser.parse_args(arguments)
    found = run(options.seed, options.processes, tuple(options.only))
    rows = [(way, one.processes, one.halts, one.orders, one.on_their_way, one.killed, len(one.violations)) for way, one in found.items()]
    show(options, "halt-processes", markdown(HEAD, rows))
    return 1 if any(one.violations for one in found.values()) else 0
