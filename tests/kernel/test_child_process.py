"""Real child processes: the promise is about processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from framework.kernel.child_process import ChildPolicy, ChildProcess, ChildState

ROOT = Path(__file__).resolve().parents[2]
READY = "import sys; print('{\"port\": 7}', flush=True); sys.stdin.read()"
QUICK = ChildPolicy(heartbeat_interval_s=0.05, heartbeat_misses=4, backoff_s=0.01, backoff_s_max=0.05, max_restarts=3)


class Keeper:
    def __init__(self, script: str, policy: ChildPolicy = QUICK) -> None:
        self.ready: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.states: list[tuple[ChildState, str]] = []
        self.failed = asyncio.Event()
        self.child = ChildProcess((sys.executable, "-c", script), policy=policy, on_ready=self.ready.put_nowait, on_state=self._on_state)

    def _on_state(self, state: ChildState, detail: str) -> None:
        self.states.append((state, detail))
        if state is ChildState.FAILED:
            self.failed.set()

    async def __aenter__(self) -> Keeper:
        self.child.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.child.stop()


async def keep_hearing(child: ChildProcess) -> None:
    while True:
        child.heard()
        await asyncio.sleep(0)


async def test_the_ready_line_is_handed_over() -> None:
    async with Keeper(READY) as keeper:
        assert await keeper.ready.get() == {"port": 7}
        assert keeper.child.state is ChildState.READY


async def test_a_killed_child_is_restarted_at_once() -> None:
    async with Keeper(READY) as keeper:
        await keeper.ready.get()
        first = keeper.child.pid
        assert first is not None
        hearing = asyncio.create_task(keep_hearing(keeper.child))
        os.kill(first, signal.SIGKILL)
        await keeper.ready.get()
        hearing.cancel()

        assert keeper.child.pid not in (None, first)
        assert (keeper.child.deaths, keeper.child.restarts) == (1, 1)


async def test_a_stopped_child_is_found_by_heartbeat_and_replaced() -> None:
    async with Keeper(READY) as keeper:
        await keeper.ready.get()
        first = keeper.child.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        await keeper.ready.get()

        assert keeper.child.hangs == 1
        assert keeper.child.pid != first


async def test_a_crash_loop_ends_when_the_budget_is_spent() -> None:
    async with Keeper("raise SystemExit(3)") as keeper:
        await keeper.failed.wait()

        assert keeper.child.restarts == 3
        assert keeper.states[-1][1].startswith("3 restarts within 60 s are spent")
        assert any("exit code 3 before it was ready" in detail for _, detail in keeper.states)


async def test_a_first_line_that_is_no_json_object_is_no_start() -> None:
    async with Keeper("import sys; print('hello', flush=True); sys.stdin.read()") as keeper:
        await keeper.failed.wait()

        assert any("did not start" in detail for _, detail in keeper.states)
        assert keeper.child.pid is None


async def test_a_child_dies_with_its_parent() -> None:
    script = textwrap.dedent(
        """
        import subprocess, sys, time
        code = "from framework.parent_death import *; import time; die_with_parent(); print(1, flush=True); time.sleep(60)"
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        child.stdout.readline()
        print(child.pid, flush=True)
        time.sleep(60)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    child_pid = int(parent.stdout.readline())

    parent.kill()
    parent.wait()
    parent.stdout.close()

    async with asyncio.timeout(10):
        while _is_alive(child_pid):
            await asyncio.sleep(0)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
