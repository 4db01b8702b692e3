"""Start a program without holding the loop up, and hear of its first line and its death.

A loop's own way to start a program copies the page tables of this process, which takes the loop milliseconds; `Popen` in a
thread does not. The thread stays until the program has ended: on Linux a child that asks to die with its parent
(`PR_SET_PDEATHSIG`) dies with the *thread* that started it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO, Final

FIRST_LINE_MAX: Final = 65_536
LOG_MAX_BYTES: Final = 16_000_000


def finding_us(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` with our packages where we found them: wherever we were called from, a child finds the same ones."""
    home = str(Path(__file__).resolve().parents[2])
    return {**environ, "PYTHONPATH": os.pathsep.join([home, *filter(None, [environ.get("PYTHONPATH")])])}


class SpawnedChild(asyncio.Protocol):
    """A program that runs in a session of its own. `first_line` of its stdout and `gone` are futures; later output is discarded.

    Its stdin is a pipe that we hold open: its end means that we are gone.
    """

    def __init__(self, process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self.first_line: asyncio.Future[bytes] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._process = process
        self._begun = bytearray()
        self._pipe: asyncio.BaseTransport | None = None

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Return the exit code, or minus the signal; None while it runs."""
        return self._process.returncode

    def how_it_ended(self) -> str:
        """Return the exit code or the signal in words."""
        code = self._process.returncode or 0
        return f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"

    def terminate(self) -> None:
        """Ask it to end."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """Kill it and everything that it started."""
        # Its session is a process group of its own, named after it for as long as anybody is in it.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close our ends of its pipes."""
        if self._pipe is not None:
            self._pipe.close()
        assert self._process.stdin is not None
        with suppress(OSError):  # nothing is in it that could be lost
            self._process.stdin.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the pipe of its stdout."""
        self._pipe = transport

    def data_received(self, data: bytes) -> None:
        """Collect until the first line is whole or too long."""
        if self.first_line.done():
            return
        self._begun += data
        if b"\n" in self._begun or len(self._begun) > FIRST_LINE_MAX:
            self.first_line.set_result(bytes(self._begun.partition(b"\n")[0]))

    def end(self) -> None:
        """Note the death, also while somebody else still holds the pipes."""
        if not self.gone.done():
            self.gone.set_result(None)


async def spawn(argv: Sequence[str], *, env: Mapping[str, str] | None = None, log_path: Path | None = None) -> SpawnedChild:
    """Start `argv`; its stderr is appended to `log_path`, or is ours. Raises `OSError`.

    Not to be cancelled half-way: that would leave a child that nobody knows.
    """
    loop = asyncio.get_running_loop()
    started: asyncio.Future[SpawnedChild] = loop.create_future()

    def call(callback: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended before the child
            loop.call_soon_threadsafe(callback, *arguments)

    def live() -> None:
        try:
            process = _popen(argv, env, log_path)
        except OSError as exc:
            call(started.set_exception, exc)
            return
        child = SpawnedChild(process, loop)
        call(started.set_result, child)
        process.wait()
        call(child.end)

    threading.Thread(target=live, name=f"child-{Path(argv[0]).name}", daemon=True).start()
    child = await started
    await loop.connect_read_pipe(lambda: child, child._process.stdout)
    return child


def _popen(argv: Sequence[str], env: Mapping[str, str] | None, log_path: Path | None) -> subprocess.Popen[bytes]:
    with _open_log(log_path) if log_path is not None else nullcontext() as log:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=env,
            start_new_session=True,  # Ctrl-C reaches us only; we end the child in order
        )


def _open_log(path: Path) -> IO[bytes]:
    """Open the log to append to it; one that has grown too large becomes the previous one."""
    if path.exists() and path.stat().st_size > LOG_MAX_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")
