"""Keep one child process alive: spawn, ready handshake, heartbeat, restart with back-off and budget, no orphans."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

from framework.errors import KernelError

log = logging.getLogger("ChildProcess")

READY_LINE_MAX: Final = 65_536
LOG_MAX_BYTES: Final = 16_000_000


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
    """How patient the keeper is. A child that is not heard in `heartbeat_misses` intervals in a row hangs and is killed."""

    ready_timeout_s: float = 60.0
    heartbeat_interval_s: float = 0.5
    heartbeat_misses: int = 4
    max_restarts: int = 5
    restart_window_s: float = 60.0
    backoff_s: float = 0.2
    backoff_s_max: float = 10.0
    stop_timeout_s: float = 2.0


class _Listener(asyncio.SubprocessProtocol):
    """The first line of the child's stdout, and its death. What comes after that line is read and discarded."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.first_line: asyncio.Future[bytes] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._begun = bytearray()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Collect until the first line is whole or too long."""
        if fd != 1 or self.first_line.done():
            return
        self._begun += data
        if b"\n" in self._begun or len(self._begun) > READY_LINE_MAX:
            self.first_line.set_result(bytes(self._begun.partition(b"\n")[0]))

    def process_exited(self) -> None:
        """Note the death, also while somebody else still holds the pipes."""
        if not self.gone.done():
            self.gone.set_result(None)


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
        self._transport: asyncio.SubprocessTransport | None = None
        self.state = ChildState.STOPPED
        self._launches = 0
        self.early_exit_code: int | None = None  # of the last child that ended before it was ready
        self.deaths = 0
        self.hangs = 0

    @property
    def pid(self) -> int | None:
        """Return the child's process id while it runs."""
        transport = self._transport
        return transport.get_pid() if transport is not None and transport.get_returncode() is None else None

    @property
    def restarts(self) -> int:
        """Return how often the child was started again."""
        return max(0, self._launches - 1)

    def start(self) -> None:
        """Begin to keep the child alive, in a task of its own; again, with a fresh budget, after it FAILED."""
        if self._task is None or self._task.done():
            self._starts.clear()
            self._backoff_s = self._policy.backoff_s
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
            line, transport = await self._spawn()
        except OSError as exc:
            return f"did not start: {exc}"
        try:
            self._hand_over(await self._ready_line(line, transport))
            self._set(ChildState.READY, f"pid {self.pid}")
            return await self._until_end(line, transport)
        except _NotReady as exc:
            return f"did not start: {exc}"
        finally:
            await self._end(line, transport)

    async def _spawn(self) -> tuple[_Listener, asyncio.SubprocessTransport]:
        # Shielded: a spawn that is cancelled half-way leaves a child that nobody knows.
        spawning = asyncio.ensure_future(self._spawned())
        try:
            line, transport = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            with suppress(OSError):
                await self._end(*await spawning)
            raise
        self._transport = transport
        return line, transport

    async def _spawned(self) -> tuple[_Listener, asyncio.SubprocessTransport]:
        loop = asyncio.get_running_loop()
        with _open_log(self._log_path) if self._log_path else nullcontext() as stderr:
            transport, line = await loop.subprocess_exec(
                lambda: _Listener(loop),
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr or sys.stderr,
                env=self._env,
                start_new_session=True,  # Ctrl-C reaches us only; we end the child in order
            )
        return line, transport

    async def _ready_line(self, line: _Listener, transport: asyncio.SubprocessTransport) -> dict[str, Any]:
        timeout_s = self._policy.ready_timeout_s
        await asyncio.wait((line.first_line, line.gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if line.gone.done():
            self.early_exit_code = transport.get_returncode()
            raise _NotReady(f"{_how(transport)} before it was ready")
        if not line.first_line.done():
            raise _NotReady(f"no ready line within {timeout_s:g} s")
        text = line.first_line.result()
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

    async def _until_end(self, line: _Listener, transport: asyncio.SubprocessTransport) -> str:
        # Misses are counted, not time: an interval in which our own loop stood still is one miss, however long it was.
        policy, loop, misses = self._policy, asyncio.get_running_loop(), 0
        settled_s = loop.time() + policy.restart_window_s
        while misses < policy.heartbeat_misses:
            self._is_heard = False
            await asyncio.wait((line.gone,), timeout=policy.heartbeat_interval_s)
            if line.gone.done():
                self.deaths += 1
                return f"died: {_how(transport)}"
            misses = 0 if self._is_heard else misses + 1
            if loop.time() > settled_s:
                self._backoff_s = policy.backoff_s
        self.hangs += 1
        self._set(ChildState.HUNG, f"no sign of life for {policy.heartbeat_interval_s * policy.heartbeat_misses:g} s")
        _kill(transport)
        return "hung and was killed"

    async def _end(self, line: _Listener, transport: asyncio.SubprocessTransport) -> None:
        """Ask the child to end if it lives, wait, kill it and what it left behind; then close our ends of its pipes."""
        if not line.gone.done():
            with suppress(ProcessLookupError):
                transport.terminate()
            await asyncio.wait((line.gone,), timeout=self._policy.stop_timeout_s)
        _kill(transport)
        await line.gone
        transport.close()

    def _set(self, state: ChildState, detail: str) -> None:
        if state not in NEXT_STATES[self.state]:
            raise KernelError(f"a child process cannot go from {self.state} to {state}")
        self.state = state
        log.debug("child process is %s %s", state, detail)
        self._on_state(state, detail)


class _NotReady(Exception):
    """The child did not get ready; says why."""


def _kill(transport: asyncio.SubprocessTransport) -> None:
    # Its session is a process group of its own, named after it for as long as anybody is in it: what it started goes with it.
    with suppress(ProcessLookupError):
        os.killpg(transport.get_pid(), signal.SIGKILL)


def _how(transport: asyncio.SubprocessTransport) -> str:
    code = transport.get_returncode() or 0
    return f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"


def _open_log(path: Path) -> IO[bytes]:
    """Open the log to append to it; one that has grown too large becomes the previous one."""
    if path.exists() and path.stat().st_size > LOG_MAX_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")
