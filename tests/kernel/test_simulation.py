from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from framework.kernel.simulation import Deadlock, EscapedSimulation, TraceHash, run_simulated
from framework.messages import BookRecovered

ROOT = Path(__file__).resolve().parents[2]


async def race(names: str = "abcdef") -> str:
    order: list[str] = []

    async def run(name: str) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            order.append(name)

    await asyncio.gather(*(run(name) for name in names))
    return "".join(order)


def test_the_same_seed_schedules_alike_and_other_seeds_differently() -> None:
    runs = {seed: run_simulated(race, seed=seed) for seed in range(5)}

    assert run_simulated(race, seed=3) == runs[3]
    assert len(set(runs.values())) > 1


def test_virtual_time_jumps() -> None:
    async def main() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    assert run_simulated(main, seed=0) == 86_400


def test_waiting_for_what_never_comes_is_a_deadlock() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run_simulated(main, seed=0)


def test_threads_and_child_processes_are_refused() -> None:
    async def thread() -> None:
        await asyncio.to_thread(threading.get_ident)

    async def child() -> None:
        await asyncio.create_subprocess_exec("true")

    for main in (thread, child):
        with pytest.raises(EscapedSimulation):
            run_simulated(main, seed=0)


def test_a_trace_hash_depends_on_content_and_order_and_not_on_the_hash_seed() -> None:
    script = (
        "from framework.kernel.simulation import TraceHash; from framework.messages import BookRecovered\n"
        "t = TraceHash()\n"
        "for name in {'x': 1, 'y': 2}: t(BookRecovered(instrument_id=name, ts_event=1))\n"
        "print(t.hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2")
    }
    other = TraceHash()
    for name in ("y", "x"):
        other(BookRecovered(instrument_id=name, ts_event=1))

    assert len(digests) == 1
    assert other.hexdigest() not in digests
