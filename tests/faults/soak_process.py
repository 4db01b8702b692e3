"""Minutes in real time: a trading process and its ML process as users run them, and a fault from outside every ten seconds."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

from framework.errors import TidebookError
from framework.model import TradingState
from framework.operations import control, kills
from tests.faults.held import CALM_S, EVERY_S, Found, Sample

ROOT: Final = Path(__file__).resolve().parents[2]
SERVING: Final = ("UP", "MODEL", "TRAINING")
UP_WITHIN_S: Final = 600.0
WELL_WITHIN_S: Final = 60.0
ANSWER_S: Final = 20.0


class Victim:
    """The processes, as somebody outside sees them."""

    def __init__(self, directory: Path) -> None:
        self.state_dir, self._samples = directory / "state", directory / "samples.jsonl"
        self._log = (directory / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.soak_child", str(self.state_dir), "0", str(self._samples)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def ask(self, command: control.AnyCommand) -> Any:
        """Command it."""
        return control.ask(self.state_dir, command, timeout_s=ANSWER_S)

    def status(self) -> dict[str, Any]:
        """Return its status document, or nothing while it has no socket."""
        try:
            found: dict[str, Any] = self.ask(control.GetStatus())
        except TidebookError:
            return {}
        return found

    def is_well(self) -> bool:
        """Return whether it trades and its ML process answers."""
        found = self.status()
        return bool(found) and found["trading_state"] == TradingState.ACTIVE and found["ml"]["state"] in SERVING

    def until_well(self, within_s: float) -> bool:
        """Wait for that; return whether it came."""
        end_s = time.monotonic() + within_s
        while time.monotonic() < end_s and self.process.poll() is None:
            if self.is_well():
                return True
            time.sleep(0.5)
        return False

    def ml(self) -> psutil.Process | None:
        """Return its ML process, if it has one now."""
        with suppress(psutil.NoSuchProcess):
            for one in psutil.Process(self.process.pid).children():
                with suppress(psutil.NoSuchProcess):
                    if "ml_actor" in one.cmdline():
                        return one
        return None

    def samples(self) -> list[Sample]:
        """Return what it held when."""
        lines = self._samples.read_bytes().splitlines() if self._samples.exists() else []
        return [Sample(**json.loads(line)) for line in lines]

    def end(self) -> dict[str, Any]:
        """Stop it in order; return its summary."""
        with suppress(TidebookError):
            self.ask(control.Stop())
        try:
            output, _ = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, _ = self.process.communicate()
        self._log.close()
        last = output.decode().strip().rpartition("\n")[2]
        summary: dict[str, Any] = json.loads(last) if last.startswith("{") else {}
        return summary


class Nemesis:
    """What can be done to them from outside."""

    def __init__(self, victim: Victim, seed: int) -> None:
        self._victim = victim
        self._rng = random.Random(f"soak-process-{seed}")
        self.acts: dict[str, Callable[[], None]] = {
            "ML process killed": lambda: self._signal_ml(signal.SIGKILL),
            "ML process stopped": lambda: self._signal_ml(signal.SIGSTOP),
            "halt and resume": self._halt,
            "trading process stopped for a second": self._pause,
            "garbage on the control socket": self._garbage,
            "strategy deployed again": self._deploy,
        }

    def strike(self) -> str:
        """Do one of them; return which."""
        name = self._rng.choice(tuple(self.acts))
        self.acts[name]()
        return name

    def _signal_ml(self, number: signal.Signals) -> None:
        one = self._victim.ml()
        if one is not None:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(number)

    def _halt(self) -> None:
        flattens = self._rng.random() < 0.5
        kills.halt(self._victim.state_dir, "a test asked", is_flattening=flattens, kill_after_s=ANSWER_S, now_ns=time.time_ns())
        time.sleep(self._rng.uniform(0.1, 3.0))
        kills.clear(self._victim.state_dir)
        self._victim.ask(control.Resume(confirm=True))

    def _pause(self) -> None:
        self._victim.process.send_signal(signal.SIGSTOP)
        time.sleep(1.0)
        self._victim.process.send_signal(signal.SIGCONT)

    def _garbage(self) -> None:
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as one, suppress(OSError):
                one.settimeout(1.0)
                one.connect(str(self._victim.state_dir / control.SOCKET_NAME))
                one.sendall(self._rng.randbytes(self._rng.randint(1, 100_000)))

    def _deploy(self) -> None:
        path = ROOT / "config" / "strategies" / "book_imbalance.yaml"
        with suppress(TidebookError):
            self._victim.ask(control.Undeploy(name="book_imbalance"))
        self._victim.ask(control.Deploy(path=str(path), text=path.read_text()))


def run(seed: int, seconds: float) -> Found:
    """Run so long, and say what came of it."""
    found = Found(f"processes, seed {seed}")
    directory = Path(tempfile.mkdtemp(prefix="soak-"))
    victim = Victim(directory)
    try:
        if victim.until_well(UP_WITHIN_S):
            torment(victim, seed, seconds, found)
        else:
            found.violations.append(f"it did not start: {(directory / 'log').read_text()[-500:]}")
        summary = victim.end()
    finally:
        victim.process.kill()
        found.samples = victim.samples()
        shutil.rmtree(directory, ignore_errors=True)
    found.events, found.orders, found.predictions = (int(summary.get(name, 0)) for name in ("events", "orders", "predictions"))
    if summary.get("exit_code", 1) != 0:
        found.violations.append(f"it ended with {summary.get('exit_code')}: {summary.get('reason')}")
    return found


def torment(victim: Victim, seed: int, seconds: float, found: Found) -> None:
    """Strike every ten seconds; in the end everything has to be well again."""
    nemesis, began_s = Nemesis(victim, seed), time.monotonic()
    while time.monotonic() - began_s + EVERY_S + CALM_S <= seconds and victim.process.poll() is None:
        next_s = time.monotonic() + EVERY_S
        try:
            found.faults[nemesis.strike()] += 1
        except TidebookError as exc:
            found.violations.append(f"a command failed: {exc}")
        time.sleep(max(0.0, next_s - time.monotonic()))
    time.sleep(CALM_S if seconds > 2 * CALM_S else 1.0)
    found.lasted_s = time.monotonic() - began_s
    if not victim.until_well(WELL_WITHIN_S):
        found.violations.append(f"not well again {WELL_WITHIN_S:g} s after the last fault: {json.dumps(victim.status())[:400]}")
