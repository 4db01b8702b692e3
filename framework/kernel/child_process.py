"""Keep one child process alive: spawn, ready handshake, heartbeat, restart with back-off and budget, no orphans."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from framework.errors import KernelError
from framework.kernel.spawn import SpawnedChild, spawn

log = logging.getLogger("ChildProcess")


class ChildState(StrEnum):
    """Where a supervised child is."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    READY = "READY"
    HUNG = "HUNG"
    BACKOFF = "BACKOFF"
    FAILED = "FAILED"


_ENDS: Final = frozenset({ChildState.FAILED, ChildState.STOPPED})
NEXT_STATES: Final[Mapping[ChildState, frozenset[ChildState]]] = {
    ChildState.STOPPED: frozenset({ChildState.STARTING}),
    ChildState.STARTING: frozenset({ChildState.READY, ChildState.BACKOFF}) | _ENDS,
    ChildState.READY: frozenset({ChildState.HUNG, ChildState.BACKOFF}) | _ENDS,
    ChildState.HUNG: frozenset({ChildState.BACKOFF}) | _ENDS,
    ChildState.BACKOFF: frozenset({ChildState.STARTING}) | _ENDS,
    ChildState.FAILED: frozenset({ChildState.STARTING, ChildState.STOPPED}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildPolicy:
    """How patient the keeper is. A child that is not heard in `heartbeat_misses` intervals in a row hangs and is killed.

    One that was not ready in time gets twice as long at the next start, `ready_timeout_s_max` at most: a slow machine that compiles for
    the first time would begin anew for ever.
    """

    ready_timeout_s: float = 60.0
    ready_timeout_s_max: float = 600.0
    heartbeat_interval_s: float = 0.5
    heartbeat_misses: int = 4
    max_restarts: int = 5
    restart_window_s: float = 60.0
    backoff_s: float = 0.2
    backoff_s_max: float = 10.0
    stop_timeout_s: float = 2.0


class ChildProcess:
    """Run `argv` as a child and keep it running.

    The child prints one JSON object as its first line on stdout when it is ready; what it prints there later is discarded,
    its stderr goes to `log_path`. Its stdin is a pipe that we hold open: its end means that we are gone. Death is noticed
    at once, a hang by `heard` not being called. All times are process time. `on_state(state, detail)` and `on_ready(first
    line)` are called on the loop; an `on_ready` that raises refuses the child.
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
        self._is_heard = False
        self._backoff_s = policy.backoff_s
        self._patience_s = policy.ready_timeout_s
        self._child: SpawnedChild | None = None
        self.state = ChildState.STOPPED
        self._launches = 0
        self.early_exit_code: int | None = None  # of the last child that ended before it was ready
        self.deaths = 0
        self.hangs = 0

    @property
    def pid(self) -> int | None:
        """Return the child's process id while it runs."""
        child = self._child
        return child.pid if child is not None and child.exit_code is None else None

    @property
    def restarts(self) -> int:
        """Return how often the child was started again."""
        return max(0, self._launches - 1)

    def start(self) -> None:
        """Begin to keep the child alive, in a task of its own; again, with a fresh budget, after it FAILED."""
        if self._task is None or self._task.done():
            self._starts.clear()
            self._backoff_s, self._patience_s = self._policy.backoff_s, self._policy.ready_timeout_s
            self._task = asyncio.get_running_loop().create_task(self._keep(), name="child-process")

    def heard(self) -> None:
        """Note a sign of life."""
        self._is_heard = True

    async def stop(self) -> None:
        """Ask the child to end, wait, then kill it. Returns when it is gone."""
        if self._task is not None:
            if not self._task.cancelling():  # a second call waits with the first and does not cut it short
                self._task.cancel()
            await asyncio.wait((self._task,))
            self._task = None
        if self.state is not ChildState.STOPPED:
            self._set(ChildState.STOPPED, "")

    async def _keep(self) -> None:
        try:
            while not self._is_budget_spent():
                detail = await self._run_once()
                self._set(ChildState.BACKOFF, f"{detail}; restart in {self._backoff_s:g} s")
                await asyncio.sleep(self._backoff_s)
                self._backoff_s = min(self._backoff_s * 2, self._policy.backoff_s_max)
            spent = f"{self._policy.max_restarts} restarts within {self._policy.restart_window_s:g} s are spent"
            self._set(ChildState.FAILED, f"{spent}; see {self._log_path or 'its log'}")
        # The keeper is a supervisor: a bug in a callback must not leave a child that nobody watches, nor pass in silence.
        except Exception as exc:
            log.exception("the keeper of the child process raised", exc_info=exc)
            self._set(ChildState.FAILED, f"keeper raised {type(exc).__name__}: {exc}")

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
            child = await self._spawn()
        except OSError as exc:
            return f"did not start: {exc}"
        try:
            self._hand_over(await self._ready_line(child))
            self._patience_s = self._policy.ready_timeout_s
            self._set(ChildState.READY, f"pid {self.pid}")
            return await self._until_end(child)
        except _NotReady as exc:
            return f"did not start: {exc}"
        finally:
            await self._end(child)

    async def _spawn(self) -> SpawnedChild:
        # Shielded: a spawn that is cancelled half-way leaves a child that nobody knows.
        spawning = asyncio.ensure_future(spawn(self._argv, env=self._env, log_path=self._log_path))
        try:
            self._child = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            with suppress(OSError):
                await self._end(await spawning)
            raise
        return self._child

    async def _ready_line(self, child: SpawnedChild) -> dict[str, Any]:
        timeout_s = self._patience_s
        await asyncio.wait((child.first_line, child.gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if child.gone.done():
            self.early_exit_code = child.exit_code
            raise _NotReady(f"{child.how_it_ended()} before it was ready")
        if not child.first_line.done():
            self._patience_s = min(timeout_s * 2, self._policy.ready_timeout_s_max)
            raise _NotReady(f"no ready line within {timeout_s:g} s")
        text = child.first_line.result()
        try:
            ready = json.loads(text)
        except ValueError as exc:
            raise _NotReady(f"first line must be a JSON object, got {text[:80]!r} ({exc})") from None
        if not isinstance(ready, dict):
            raise _NotReady(f"first line must be a JSON object, got {text[:80]!r}")
        return ready

    def _hand_over(self, ready: dict[str, Any]) -> None:
        try:
            self._on_ready(ready)
        # The line comes from another program: what its reader cannot use is a child that does not start.
        except Exception as exc:
            raise _NotReady(f"ready line {ready} was refused: {type(exc).__name__}: {exc}") from exc

    async def _until_end(self, child: SpawnedChild) -> str:
        # Misses are counted, not time: an interval in which our own loop stood still is one miss, however long it was.
        policy, loop, misses = self._policy, asyncio.get_running_loop(), 0
        settled_s = loop.time() + policy.restart_window_s
        while misses < policy.heartbeat_misses:
            self._is_heard = False
            await asyncio.wait((child.gone,), timeout=policy.heartbeat_interval_s)
            if child.gone.done():
                self.deaths += 1
                return f"died: {child.how_it_ended()}"
            misses = 0 if self._is_heard else misses + 1
            if loop.time() > settled_s:
                self._backoff_s = policy.backoff_s
        self.hangs += 1
        self._set(ChildState.HUNG, f"no sign of life for {policy.heartbeat_interval_s * policy.heartbeat_misses:g} s")
        child.kill()
        return "hung and was killed"

    async def _end(self, child: SpawnedChild) -> None:
        """Ask the child to end if it lives, wait, kill it and what it left behind; then close our ends of its pipes."""
        if not child.gone.done():
            child.terminate()
            await asyncio.wait((child.gone,), timeout=self._policy.stop_timeout_s)
        child.kill()
        await child.gone
        child.close()

    def _set(self, state: ChildState, detail: str) -> None:
        if state not in NEXT_STATES[self.state]:
            raise KernelError(f"a child process cannot go from {self.state} to {state}")
        self.state = state
        log.debug("child process is %s %s", state, detail)
        self._on_state(state, detail)


class _NotReady(Exception):
    """The child did not get ready; says why."""
