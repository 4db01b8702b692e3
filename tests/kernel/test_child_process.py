"""Real child processes: the promise is about processes. On both loops: the standard one and the one that trades."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from framework.errors import KernelError
from framework.kernel import spawn
from framework.kernel.child_process import NEXT_STATES, ChildPolicy, ChildProcess, ChildState
from framework.parent_death import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
READY = "import sys; print('{\"port\": 7}', flush=True); sys.stdin.read()"
QUICK = ChildPolicy(heartbeat_interval_s=0.05, heartbeat_misses=4, backoff_s=0.01, backoff_s_max=0.05, max_restarts=3)
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    def run(loop_name: str, **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
            runner.run(test(**arguments))

    asked = inspect.signature(test)
    loop_name = inspect.Parameter("loop_name", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = asked.replace(parameters=[*asked.parameters.values(), loop_name])  # type: ignore[attr-defined]
    run.__name__ = test.__name__
    return pytest.mark.parametrize("loop_name", LOOPS)(run)


class Keeper:
    def __init__(
        self,
        script: str,
        policy: ChildPolicy = QUICK,
        *,
        program: str = sys.executable,
        log_path: Path | None = None,
        env: Mapping[str, str] | None = None,
        refuse: bool = False,
    ) -> None:
        self.ready: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.states: list[tuple[ChildState, str]] = []
        self.failed = asyncio.Event()
        self._refuse = refuse
        self.child = ChildProcess(
            (program, "-c", script), policy=policy, on_ready=self._on_ready, on_state=self._on_state, log_path=log_path, env=env
        )

    def _on_ready(self, line: dict[str, Any]) -> None:
        if self._refuse:
            raise KeyError("endpoint")
        self.ready.put_nowait(line)

    def _on_state(self, state: ChildState, detail: str) -> None:
        self.states.append((state, detail))
        if state is ChildState.FAILED:
            self.failed.set()

    def details(self, state: ChildState) -> list[str]:
        return [detail for found, detail in self.states if found is state]

    async def __aenter__(self) -> Keeper:
        self.child.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.child.stop()
        for (before, _d), (after, _e) in zip(self.states, self.states[1:], strict=False):
            assert after in NEXT_STATES[before]


async def keep_hearing(child: ChildProcess) -> None:
    while True:
        child.heard()
        await asyncio.sleep(0)


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while _is_alive(pid):
            await asyncio.sleep(0)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@on_both_loops
async def test_the_ready_line_is_handed_over() -> None:
    async with Keeper(READY) as keeper:
        assert await keeper.ready.get() == {"port": 7}
        assert keeper.child.state is ChildState.READY


@on_both_loops
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
        assert (keeper.child.deaths, keeper.child.hangs, keeper.child.restarts) == (1, 0, 1)
        assert keeper.details(ChildState.BACKOFF) == ["died: signal 9 (Killed); restart in 0.01 s"]


@on_both_loops
async def test_a_stopped_child_is_found_by_heartbeat_and_replaced() -> None:
    async with Keeper(READY) as keeper:
        await keeper.ready.get()
        first = keeper.child.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        await keeper.ready.get()

        assert (keeper.child.deaths, keeper.child.hangs) == (0, 1)
        assert keeper.child.pid != first
        assert not _is_alive(first)
        assert [state for state, _ in keeper.states][:4] == [ChildState.STARTING, ChildState.READY, ChildState.HUNG, ChildState.BACKOFF]


@on_both_loops
async def test_a_stall_of_our_own_loop_is_not_blamed_on_the_child() -> None:
    async with Keeper(READY) as keeper:
        await keeper.ready.get()
        first = keeper.child.pid
        hearing = asyncio.create_task(keep_hearing(keeper.child))
        for _ in range(2):
            time.sleep(2 * QUICK.heartbeat_interval_s * QUICK.heartbeat_misses)  # what blocks the loop, not a wait
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        hearing.cancel()

        assert (keeper.child.pid, keeper.child.hangs) == (first, 0)


@on_both_loops
async def test_a_crash_loop_backs_off_and_ends_when_the_budget_is_spent() -> None:
    async with Keeper("raise SystemExit(3)") as keeper:
        await keeper.failed.wait()

        assert (keeper.child.restarts, keeper.child.early_exit_code) == (3, 3)
        assert keeper.states[-1][1].startswith("3 restarts within 60 s are spent")
        waits = (0.01, 0.02, 0.04, 0.05)
        assert keeper.details(ChildState.BACKOFF) == [f"did not start: exit code 3 before it was ready; restart in {s} s" for s in waits]


@on_both_loops
async def test_after_a_failure_an_operator_can_start_it_again_with_a_fresh_budget(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    async with Keeper(f"import os; os.path.exists({str(mended)!r}) or exit(3); {READY}") as keeper:
        await keeper.failed.wait()
        mended.touch()
        keeper.child.start()

        assert await keeper.ready.get() == {"port": 7}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import sys; print('hello', flush=True); sys.stdin.read()", "Expecting value"),
        ("import sys; print('[1]', flush=True); sys.stdin.read()", "first line must be a JSON object"),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\n'); sys.stdout.flush(); sys.stdin.read()", "can't decode"),
        ("import sys; print('x' * 200_000, flush=True); sys.stdin.read()", "Expecting value"),
    ],
    ids=["text", "list", "bytes", "endless"],
)
@on_both_loops
async def test_a_first_line_that_is_no_json_object_is_no_start(script: str, reason: str) -> None:
    async with Keeper(script, replace(QUICK, max_restarts=0)) as keeper:
        await keeper.failed.wait()

        (detail,) = keeper.details(ChildState.BACKOFF)
        assert detail.startswith("did not start: ")
        assert reason in detail
        assert keeper.child.pid is None


@on_both_loops
async def test_a_ready_line_that_its_reader_cannot_use_is_no_start() -> None:
    async with Keeper(READY, replace(QUICK, max_restarts=0), refuse=True) as keeper:
        await keeper.failed.wait()

        (detail,) = keeper.details(ChildState.BACKOFF)
        assert detail.startswith("did not start: ready line {'port': 7} was refused: KeyError: 'endpoint'")
        assert keeper.child.pid is None


@on_both_loops
async def test_a_child_that_never_gets_ready_is_ended() -> None:
    async with Keeper("import sys; sys.stdin.read()", replace(QUICK, max_restarts=0, ready_timeout_s=0.05)) as keeper:
        await keeper.failed.wait()

        assert keeper.details(ChildState.BACKOFF) == ["did not start: no ready line within 0.05 s; restart in 0.01 s"]
        assert keeper.child.pid is None


@on_both_loops
async def test_a_child_that_was_not_ready_in_time_gets_twice_as_long_at_the_next_start() -> None:
    slow = "import time; time.sleep(0.4); " + READY

    async with Keeper(slow, replace(QUICK, max_restarts=20, ready_timeout_s=0.05, ready_timeout_s_max=3.2)) as keeper:
        await keeper.ready.get()

        waits = [detail.split(" s;")[0].rpartition(" ")[2] for detail in keeper.details(ChildState.BACKOFF)]
        assert waits[:4] == ["0.05", "0.1", "0.2", "0.4"]
        assert all(float(wait) <= 3.2 for wait in waits)


@on_both_loops
async def test_a_program_that_is_not_there_is_no_start() -> None:
    async with Keeper("", replace(QUICK, max_restarts=1), program="/no/such/program") as keeper:
        await keeper.failed.wait()

        assert all("No such file or directory" in detail for detail in keeper.details(ChildState.BACKOFF))


@on_both_loops
async def test_a_child_that_prints_much_is_not_blocked_by_it() -> None:
    script = "import sys; print('{}', flush=True); print('x' * 3_000_000, flush=True); sys.exit(7)"
    async with Keeper(script, replace(QUICK, max_restarts=0)) as keeper:
        hearing = asyncio.create_task(keep_hearing(keeper.child))
        await keeper.failed.wait()
        hearing.cancel()

        assert keeper.details(ChildState.BACKOFF) == ["died: exit code 7; restart in 0.01 s"]


@on_both_loops
async def test_the_death_of_a_child_is_noticed_although_its_own_child_holds_its_stdout_and_that_one_goes_too() -> None:
    grandchild = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    script = f"{grandchild}; print('{{\"pid\": %d}}' % p.pid, flush=True); sys.exit(7)"
    async with Keeper(script, replace(QUICK, max_restarts=0)) as keeper:
        hearing = asyncio.create_task(keep_hearing(keeper.child))
        pid = (await keeper.ready.get())["pid"]
        await keeper.failed.wait()
        hearing.cancel()

        assert keeper.details(ChildState.BACKOFF) == ["died: exit code 7; restart in 0.01 s"]
        await until_gone(pid)


@on_both_loops
async def test_what_a_hung_child_started_goes_with_it() -> None:
    grandchild = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    async with Keeper(f"{grandchild}; print('{{\"pid\": %d}}' % p.pid, flush=True); sys.stdin.read()") as keeper:
        pid = (await keeper.ready.get())["pid"]
        await keeper.ready.get()  # nobody calls heard()

        await until_gone(pid)


@on_both_loops
async def test_stop_asks_first_and_then_kills() -> None:
    polite = f"import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); {READY}"
    codes = []
    for script in (polite, DEAF):
        keeper = Keeper(script, replace(QUICK, stop_timeout_s=5.0 if script is polite else 0.05, heartbeat_interval_s=10.0))
        keeper.child.start()
        await keeper.ready.get()
        await asyncio.gather(keeper.child.stop(), keeper.child.stop())
        await keeper.child.stop()
        assert keeper.child._child is not None
        codes.append(keeper.child._child.exit_code)
        assert [state for state, _ in keeper.states] == [ChildState.STARTING, ChildState.READY, ChildState.STOPPED]

    assert codes == [0, -signal.SIGKILL]


@pytest.mark.parametrize("turns", [0, 1, 5, 50])
@on_both_loops
async def test_a_stop_while_it_starts_leaves_nothing_behind(turns: int, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    keeper = Keeper(f"import os; open({str(pid_file)!r}, 'w').write(str(os.getpid())); {READY}")
    keeper.child.start()
    for _ in range(turns):
        await asyncio.sleep(0)
    await keeper.child.stop()

    assert keeper.child.pid is None
    if pid_file.exists() and pid_file.read_text():
        assert not _is_alive(int(pid_file.read_text()))


@on_both_loops
async def test_environment_and_log_reach_the_child_and_a_log_that_is_too_long_becomes_the_previous_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawn, "LOG_MAX_BYTES", 10)
    log_path = tmp_path / "child.log"
    log_path.write_text("much too long already")
    script = "import os, sys; sys.stderr.write(os.environ['WORD']); exit(1)"
    async with Keeper(script, replace(QUICK, max_restarts=1), log_path=log_path, env={"WORD": "hello"}) as keeper:
        await keeper.failed.wait()

        assert f"see {log_path}" in keeper.states[-1][1]
    assert log_path.read_text() == "hellohello"
    assert (tmp_path / "child.log.1").read_text() == "much too long already"


@on_both_loops
async def test_a_bug_in_a_callback_ends_in_a_failure_that_is_seen_and_leaves_no_child_alone() -> None:
    states: list[tuple[ChildState, str]] = []
    failed = asyncio.Event()

    def on_state(state: ChildState, detail: str) -> None:
        states.append((state, detail))
        if state is ChildState.READY:
            raise ZeroDivisionError("a bug")
        if state is ChildState.FAILED:
            failed.set()

    child = ChildProcess((sys.executable, "-c", READY), policy=QUICK, on_ready=lambda _: None, on_state=on_state)
    child.start()
    await failed.wait()

    assert states[-1] == (ChildState.FAILED, "keeper raised ZeroDivisionError: a bug")
    assert child.pid is None
    await child.stop()


def test_a_step_that_is_not_in_the_table_is_a_bug() -> None:
    child = ChildProcess(("true",), policy=QUICK, on_ready=lambda _: None, on_state=lambda *_: None)

    with pytest.raises(KernelError, match="cannot go from STOPPED to READY"):
        child._set(ChildState.READY, "")


PARENT = """
import asyncio, sys
from framework.kernel.child_process import ChildPolicy, ChildProcess
child = ChildProcess(
    (sys.executable, "-c", sys.argv[1]),
    policy=ChildPolicy(), on_ready=lambda line: print(line["pid"], flush=True), on_state=lambda *_: None,
)
async def main():
    child.start()
    while True:
        child.heard()
        await asyncio.sleep(0.1)
asyncio.run(main())
"""
MORTAL = """
import os, time
from framework.parent_death import die_with_parent
die_with_parent()
print('{"pid": %d}' % os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    "script", [MORTAL, "import os; print('{\"pid\": %d}' % os.getpid(), flush=True); " + READY], ids=["prctl", "stdin"]
)
@on_both_loops
async def test_a_child_dies_with_its_parent(script: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    child_pid = int(parent.stdout.readline())

    parent.kill()
    parent.wait()
    parent.stdout.close()

    await until_gone(child_pid)


def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    script = "from framework.parent_death import die_with_parent; die_with_parent(1 + 2**22)"

    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert "the parent process is gone" in ended.stderr
    assert die_with_parent.__doc__ is not None
