"""Keep one child process alive: spawn, ready handshake, heartbeat, restart with back-off and budget, no orphans."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

log = logging.getLogger("ChildProcess")

READY_LINE_MAX: Final = 65_536


class ChildState(StrEnum):
    """Where a supervised child is."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    READY = "READY"
    BACKOFF = "BACKOFF"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildPolicy:
    """How patient the keeper is. A child that is silent for `heartbeat_interval_s * heartbeat_misses` hangs and is killed."""

    ready_timeout_s: float = 60.0
    heartbeat_interval_s: float = 0.5
    heartbeat_misses: int = 4
    max_restarts: int = 5
    restart_window_s: float = 60.0
    backoff_s: float = 0.2
    backoff_s_max: float = 10.0
    stop_timeout_s: float = 2.0


class ChildProcess:
    """Run `argv` as a child and keep it running.

    The child prints one JSON object as its first line on stdout when it is ready. Its stdin is a pipe that we hold open: its
    end means that we are gone. Death is noticed at once, a hang by `heard` not being called. All times are process time.
    `on_state(state, detail)` and `on_ready(first line)` are called on the loop and must not raise.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        policy: ChildPolicy,
        on_ready: Callable[[dict[str, Any]], None],
        on_state: Callable[[ChildState, str], None],
        env: Mapping[str, str] | None = None,
        log_path: Path | None = None,
    ) -> None:
        self._argv = tuple(argv)
        self._policy = policy
        self._on_ready = on_ready
        self._on_state = on_state
        self._env = dict(env) if env is not None else None
        self._log_path = log_path
        self._starts: deque[float] = deque(maxlen=policy.max_restarts + 1)
        self._task: asyncio.Task[None] | None = None
        self._last_heard_s = 0.0
        self._backoff_s = policy.backoff_s
        self.process: asyncio.subprocess.Process | None = None
        self.state = ChildState.STOPPED
        self._launches = 0
        self.early_exit_code: int | None = None
        self.deaths = 0
        self.hangs = 0

    @property
    def pid(self) -> int | None:
        """Return the child's process id while it runs."""
        return self.process.pid if self.process is not None and self.process.returncode is None else None

    @property
    def restarts(self) -> int:
        """Return how often the child was started again."""
        return max(0, self._launches - 1)

    def start(self) -> None:
        """Begin to keep the child alive, in a task of its own."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep(), name="child-process")

    def heard(self) -> None:
        """Note a sign of life."""
        self._last_heard_s = asyncio.get_running_loop().time()

    async def stop(self) -> None:
        """Ask the child to end, wait, then kill it. Returns when it is gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._end_process()
        self._set(ChildState.STOPPED, "")

    async def _keep(self) -> None:
        while True:
            if self._is_budget_spent():
                window_s, count = self._policy.restart_window_s, self._policy.max_restarts
                self._set(ChildState.FAILED, f"{count} restarts within {window_s:g} s are spent; see {self._log_path or 'its log'}")
                return
            detail = await self._run_once()
            self._set(ChildState.BACKOFF, f"{detail}; restart in {self._backoff_s:g} s")
            await asyncio.sleep(self._backoff_s)
            self._backoff_s = min(self._backoff_s * 2, self._policy.backoff_s_max)

    def _is_budget_spent(self) -> bool:
        now_s = asyncio.get_running_loop().time()
        is_spent = len(self._starts) > self._policy.max_restarts and now_s - self._starts[0] < self._policy.restart_window_s
        self._starts.append(now_s)
        return is_spent

    async def _run_once(self) -> str:
        """Run the child until it is gone; return how that came."""
        self._launches += 1
        self._set(ChildState.STARTING, "")
        try:
            await self._spawn()
            ready = await self._ready_line()
        except (OSError, ValueError, TimeoutError) as exc:
            await self._end_process()
            return f"did not start: {exc or type(exc).__name__}"
        self.heard()
        self._set(ChildState.READY, f"pid {self.pid}")
        self._on_ready(ready)
        return await self._watch()

    async def _spawn(self) -> None:
        stderr: IO[bytes] | None = self._log_path.open("ab") if self._log_path else None
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr if stderr is not None else sys.stderr,
                env=self._env,
                limit=READY_LINE_MAX,
                start_new_session=True,  # Ctrl-C reaches us only; we end the child in order
            )
        finally:
            if stderr is not None:
                stderr.close()

    async def _ready_line(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        async with asyncio.timeout(self._policy.ready_timeout_s):
            line = await self.process.stdout.readline()
        if not line:
            self.early_exit_code = await self.process.wait()
            raise ValueError(f"exit code {self.early_exit_code} before it was ready")
        ready = json.loads(line)
        if not isinstance(ready, dict):
            raise ValueError(f"first line must be a JSON object, got {line[:80]!r}")
        return ready

    async def _watch(self) -> str:
        assert self.process is not None
        gone = asyncio.ensure_future(self.process.wait())
        patience_s = self._policy.heartbeat_interval_s * self._policy.heartbeat_misses
        loop = asyncio.get_running_loop()
        settled_s = loop.time() + self._policy.restart_window_s
        try:
            while True:
                done, _ = await asyncio.wait((gone,), timeout=self._policy.heartbeat_interval_s)
                if done:
                    self.deaths += 1
                    return f"died: exit code {gone.result()}"
                if loop.time() - self._last_heard_s > patience_s:
                    self.hangs += 1
                    await self._kill()
                    return f"hung: no sign of life for {patience_s:g} s; killed"
                if loop.time() > settled_s:
                    self._backoff_s = self._policy.backoff_s
        finally:
            gone.cancel()

    async def _end_process(self) -> None:
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        # A stopped (SIGSTOP) child cannot hear SIGTERM; the wait is bounded and the kill is not to be ignored.
        try:
            async with asyncio.timeout(self._policy.stop_timeout_s):
                await process.wait()
        except TimeoutError:
            await self._kill()

    async def _kill(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            await self.process.wait()

    def _set(self, state: ChildState, detail: str) -> None:
        self.state = state
        log.debug("child process is %s %s", state, detail)
        self._on_state(state, detail)
