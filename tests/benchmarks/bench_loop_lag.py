"""How late the trading loop is, whatever the ML process does. Prints one JSON object.

    python -m tests.benchmarks.bench_loop_lag [--duration 20] [--repeats 3] [--quick]

Each condition is the whole trading process (simulated market at speed 1, the demo strategy, journal, dataset) in a process of
its own, with a timer of 2 ms on its loop: `off` has no ML process, `up` a healthy one, `stopped` one under SIGSTOP for the
whole run, `killed` one that gets SIGKILL every second, `training` one that trains without a pause. `empty` is the limit: the
same timer on a loop that does nothing else. Conditions take turns; figures are medians over the repeats, ratios are to `off`.
Quantiles are the upper bounds of bins that are 25 % wide, so a ratio of 1.25 is one bin. When even
`empty` is late (`is_quiet` false), the machine is busy with something else: the ratios then say nothing and `is_met` is null.
Loopback only; nothing is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

import framework.app as app
from framework.kernel.loop_lag import LoopLagMonitor
from framework.operations import first_training
from framework.operations.options import StartOptions
from framework.operations.trading_process import TradingProcess
from framework.strict_yaml import load_main_config

CONDITIONS = ("empty", "off", "up", "stopped", "killed", "training")
QUICK_CONDITIONS = ("empty", "off", "up")
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99_9": 0.999}
TARGET_RATIO = 1.5
QUIET_MS = 3.0
TIMER_S = 0.002
HISTORY_S = 600
ROOT = Path(__file__).resolve().parents[2]


# --- one condition, in its own process ---------------------------------------------------------------------------------------


def config_text(condition: str) -> str:
    """Return the settings of a condition: a port of its own, a budget that a second-by-second killer cannot exhaust."""
    patience = 1_000_000 if condition == "stopped" else 4  # a hung process must stay, not be replaced
    lines = {
        "client": "{host: 127.0.0.1, port: 0}",
        "server": "{host: 127.0.0.1, port: 0}",
        "mode": "off" if condition == "off" else "spawn",
        "max_restarts": "100000",
        "heartbeat_misses": str(patience),
    }
    return "ml_service:\n" + "".join(f"  {key}: {value}\n" for key, value in lines.items())


class Disturber:
    """Do to the ML process what the condition says, from a thread, until the run ends."""

    def __init__(self, condition: str, process: TradingProcess, loop: asyncio.AbstractEventLoop) -> None:
        self._process = process
        self._loop = loop
        self._ended = threading.Event()
        self.done = 0
        acts: dict[str, Callable[[], None]] = {
            "stopped": lambda: self._signal(signal.SIGSTOP),
            "killed": lambda: self._signal(signal.SIGKILL),
            "training": lambda: self._call(self._train),
        }
        self._thread = threading.Thread(target=self._run, args=(acts.get(condition),))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        self._signal(signal.SIGCONT)

    def _run(self, act: Callable[[], None] | None) -> None:
        while act is not None and not self._ended.is_set():
            act()
            self.done += 1
            self._ended.wait(1.0)

    def _signal(self, number: signal.Signals) -> None:
        pid = self._process.link.child.pid if self._process.link is not None else None
        if pid is not None:
            os.kill(pid, number)

    def _call(self, act: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(act)

    def _train(self) -> None:
        if self._process.trainings.share is None:
            self._process.trainings.request("benchmark")


def run_condition(condition: str, state_dir: Path, duration_s: float) -> dict[str, Any]:
    if condition == "empty":
        return uvloop.run(run_empty(duration_s))
    path = state_dir / "bench.yaml"
    path.write_text(config_text(condition), encoding="utf-8")
    options = StartOptions(
        config=load_main_config(path),
        config_path=path,
        state_dir=state_dir,
        duration_s=duration_s,
        is_headless=True,
        is_json=True,
    )
    made: list[tuple[TradingProcess, Disturber]] = []
    build = app.build

    def build_with_fine_timer(*arguments: Any, **options: Any) -> TradingProcess:
        process = build(*arguments, **options)
        disturber = Disturber(condition, process, asyncio.get_running_loop())
        process.lag = MonitorAndDisturb(disturber)
        made.append((process, disturber))
        return process

    app.build = build_with_fine_timer
    first_training.HISTORY_S = HISTORY_S  # how good the model is does not matter here
    summary = app.run_framework(options)
    ((process, disturber),) = made
    counted = ("events", "predictions", "predictions_failed", "decisions", "orders", "restarts", "trainings", "reason")
    return figures(process.lag) | {"disturbed": disturber.done} | {name: getattr(summary, name) for name in counted}


class MonitorAndDisturb(LoopLagMonitor):
    """The lag monitor starts when the market opens and stops when it closes: the disturber does too."""

    def __init__(self, disturber: Disturber) -> None:
        super().__init__(interval_s=TIMER_S, timer=time.perf_counter)
        self._disturber = disturber

    def start(self) -> None:
        super().start()
        self._disturber.start()

    def stop(self) -> None:
        super().stop()
        self._disturber.stop()


async def run_empty(duration_s: float) -> dict[str, Any]:
    monitor = LoopLagMonitor(interval_s=TIMER_S, timer=time.perf_counter)
    monitor.start()
    await asyncio.sleep(duration_s)
    monitor.stop()
    return figures(monitor)


def figures(monitor: LoopLagMonitor) -> dict[str, Any]:
    quantiles = {name: round(monitor.quantile_ms(share), 3) for name, share in QUANTILES.items()}
    return quantiles | {"max": round(monitor.max_ms, 3), "samples": monitor.samples}


# --- all of them -------------------------------------------------------------------------------------------------------------


def in_process_of_its_own(condition: str, state_dir: Path, duration_s: float) -> dict[str, Any]:
    command = (sys.executable, "-m", "tests.benchmarks.bench_loop_lag", "--one", condition)
    command += ("--state-dir", str(state_dir), "--duration", str(duration_s))
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=duration_s + 150, check=False)
    if ran.returncode:
        raise SystemExit(f"{condition}: exit code {ran.returncode}\n{ran.stderr[-3_000:]}")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def measure(conditions: tuple[str, ...], duration_s: float, repeats: int, *, is_thorough: bool = True) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {condition: [] for condition in conditions}
    with tempfile.TemporaryDirectory(prefix="tidebook-lag-") as folder:
        base = Path(folder) / "base"
        base.mkdir(mode=0o700)
        if is_thorough:
            in_process_of_its_own("up", base, 1.0)  # trains the first model, which every run then begins with
        for repeat in range(repeats):
            for condition in conditions:
                state_dir = Path(folder) / f"{condition}-{repeat}"
                shutil.copytree(base, state_dir, ignore=shutil.ignore_patterns("*.sock", "lock"))
                state_dir.chmod(0o700)
                runs[condition].append(in_process_of_its_own(condition, state_dir, duration_s))
                shutil.rmtree(state_dir)
    return report(runs) | {"duration_s": duration_s, "repeats": repeats, "load_average": round(os.getloadavg()[0], 2)}


def report(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    lag_ms = {
        condition: {name: statistics.median(run[name] for run in found) for name in (*QUANTILES, "max")}
        for condition, found in runs.items()
    }
    ratios = {
        condition: {name: round(lag[name] / max(lag_ms["off"][name], 1e-3), 2) for name in QUANTILES}
        for condition, lag in lag_ms.items()
        if condition not in ("empty", "off")
    }
    last = {
        condition: {key: value for key, value in found[-1].items() if key not in (*QUANTILES, "max")} for condition, found in runs.items()
    }
    is_quiet = lag_ms["empty"]["p99_9"] <= QUIET_MS
    return {
        "benchmark": "loop_lag",
        "lag_ms": lag_ms,
        "ratio_to_off": ratios,
        "target_ratio": TARGET_RATIO,
        "is_quiet": is_quiet,
        "is_met": all(ratio["p99_9"] <= TARGET_RATIO for ratio in ratios.values()) if is_quiet else None,
        "last_runs": last,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=20.0, help="seconds of one run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short turn of three conditions")
    parser.add_argument("--one", choices=CONDITIONS, help=argparse.SUPPRESS)
    parser.add_argument("--state-dir", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(run_condition(chosen.one, chosen.state_dir, chosen.duration)))
    elif chosen.quick:
        print(json.dumps(measure(QUICK_CONDITIONS, 2.0, 1, is_thorough=False)))
    else:
        print(json.dumps(measure(CONDITIONS, chosen.duration, chosen.repeats)))


if __name__ == "__main__":
    main()
