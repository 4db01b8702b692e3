"""The real `halt` on a trading process whose venue lives in another one: it hangs, is stopped, is killed, and orders rest elsewhere.

    python -m tests.faults halt-elsewhere --processes 40 --table docs/faults.md
    python -m tests.faults halt-elsewhere --processes 1 --seed 17 --only 'is stopped'

Three processes each time: the trading core, the venue and the kill process. By seed the kill process is dead too, so that `halt` has to
do its work, and positions are to be closed. Afterwards a line of its own asks the venue what it still has, and a second life asks it
what became of every order: both have to say the same.
"""

from __future__ import annotations

import asyncio
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

from framework.errors import StorageError, TidebookError
from framework.operations import kills
from framework.venues.elsewhere.kill_line import PaperKillLine
from framework.venues.port import Standing
from tests.faults.elsewhere_child import second_life
from tests.faults.tables import markdown, parser_of, show

ROOT: Final = Path(__file__).resolve().parents[2]
WAYS: Final = ("answers", "hangs", "is stopped", "was killed")
KILL_AFTER_S: Final = 0.5
REST_S: Final = 6.0


@dataclass
class Found:
    """What came of processes of one kind."""

    processes: int = 0
    resting: int = 0
    held: int = 0
    kill_process_dead: int = 0
    flattened: int = 0
    slowest_s: float = 0.0
    violations: list[str] = field(default_factory=list)


class Cast:
    """A venue, a kill process and a trading core in one state directory."""

    def __init__(self, directory: Path) -> None:
        self.state_dir = directory / "state"
        self.state_dir.mkdir(mode=0o700)
        self._children: list[subprocess.Popen[bytes]] = []
        self._start("framework.operations.venue_process", str(self.state_dir))
        self.core: subprocess.Popen[bytes] | None = None
        self.killer: subprocess.Popen[bytes] | None = None

    def trade(self, seed: int, orders: int, way: str) -> None:
        """Start the core and let it trade; the kill process comes with it, as with `start`."""
        self.core = self._start("tests.faults.elsewhere_child", str(self.state_dir), str(seed), str(orders), way)
        self.killer = self._start("framework.operations.kill_process", str(self.state_dir))

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        child = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT, env=environment, **pipes)  # type: ignore[call-overload]
        self._children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline(), f"{module} did not start"
        return child  # type: ignore[no-any-return]

    def end(self) -> None:
        """Kill whoever is still there."""
        for child in self._children:
            child.kill()
            child.wait()
            assert child.stdout is not None
            child.stdout.close()


@contextmanager
def cast() -> Iterator[Cast]:
    """Run a cast in a directory of its own."""
    directory = Path(tempfile.mkdtemp(prefix="elsewhere-"))
    one = Cast(directory)
    try:
        yield one
    finally:
        one.end()
        shutil.rmtree(directory, ignore_errors=True)


def run_one(way: str, seed: int, found: Found) -> None:
    """Halt one cast, in one way."""
    rng = random.Random(f"{way}-{seed}")
    is_flattening, is_killer_dead = rng.random() < 0.5, rng.random() < 0.3
    with cast() as one:
        one.trade(seed, rng.randint(6, 20), way)
        before = standing_of(one)
        _strike(one, way, is_killer_dead=is_killer_dead)
        begin_s = time.monotonic()
        said = _halt(one, is_flattening=is_flattening)
        found.slowest_s = max(found.slowest_s, time.monotonic() - begin_s)
        after = rest(one, is_flattening=is_flattening)
        assert one.core is not None
        one.core.kill()
        one.core.wait()
        opened, positions = asyncio.run(second_life(one.state_dir))
    found.processes += 1
    found.resting += len(before.open_orders)
    found.held += sum(map(abs, before.positions.values()))
    found.flattened += is_flattening
    found.kill_process_dead += is_killer_dead
    look(f"{way}, seed {seed}", found, said=said, after=after, opened=opened, positions=positions, is_flattening=is_flattening)


def look(
    who: str,
    found: Found,
    *,
    said: str,
    after: Standing,
    opened: list[str],
    positions: dict[tuple[str, str], int],
    is_flattening: bool,
) -> None:
    """Write down what does not hold."""
    checks = (
        (said, f"halt said: {said}"),
        (after.open_orders, f"still open at the venue: {after.open_orders}"),
        (is_flattening and after.positions, f"still held: {after.positions}"),
        (opened, f"open by our own books: {opened}"),
        (positions != dict(after.positions), f"our books hold {positions}, the venue {after.positions}"),
    )
    found.violations += [f"{who}: {text}" for is_wrong, text in checks if is_wrong]


def _strike(one: Cast, way: str, *, is_killer_dead: bool) -> None:
    assert one.core is not None
    assert one.killer is not None
    if is_killer_dead:
        one.killer.kill()
        one.killer.wait()
    if way == "is stopped":
        one.core.send_signal(signal.SIGSTOP)
    if way == "was killed":
        one.core.kill()
        one.core.wait()


def _halt(one: Cast, *, is_flattening: bool) -> str:
    """Halt; return what went wrong, or nothing."""
    try:
        halted = kills.halt(one.state_dir, "a test asked", is_flattening=is_flattening, kill_after_s=KILL_AFTER_S, now_ns=time.time_ns())
    except TidebookError as exc:
        return str(exc)
    return "" if halted.is_done else kills.sentence(halted)


def standing_of(one: Cast) -> Standing:
    line = PaperKillLine(one.state_dir)
    try:
        return line.standing()
    finally:
        line.close()


def rest(one: Cast, *, is_flattening: bool) -> Standing:
    """Return what the venue has once it is at rest: a process that answers confirms, and closes, after `halt` has returned."""
    end_s = time.monotonic() + REST_S
    while True:
        try:
            found = standing_of(one)
        except StorageError:
            continue
        if not found.open_orders and not (is_flattening and found.positions):
            return found
        if time.monotonic() > end_s:
            return found
        time.sleep(0.05)


def run(seed: int, processes: int, only: tuple[str, ...] = WAYS) -> dict[str, Found]:
    """Halt so many casts, one way after the other."""
    found = {way: Found() for way in only}
    for number in range(processes):
        way, one = only[number % len(only)], seed + number // len(only)
        before = len(found[way].violations)
        run_one(way, one, found[way])
        for text in found[way].violations[before:]:
            sys.stderr.write(f"{text}\nreplay: python -m tests.faults halt-elsewhere --processes 1 --seed {one} --only '{way}'\n")
    return found


HEAD: Final = (
    "the process",
    "processes",
    "orders that rested",
    "lots held",
    "told to close",
    "kill process dead too",
    "slowest halt, s",
    "violations",
)


def main(arguments: list[str]) -> int:
    """Halt casts from the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--processes", type=int, default=40)
    parser.add_argument("--only", nargs="*", default=list(WAYS), choices=list(WAYS))
    options = parser.parse_args(arguments)
    found = run(options.seed, options.processes, tuple(options.only))
    rows = [
        (way, one.processes, one.resting, one.held, one.flattened, one.kill_process_dead, f"{one.slowest_s:.1f}", len(one.violations))
        for way, one in found.items()
    ]
    show(options, "halt-elsewhere", markdown(HEAD, rows))
    return 1 if any(one.violations for one in found.values()) else 0
