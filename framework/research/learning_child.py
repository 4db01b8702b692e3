"""Jobs for the learning libraries: a child process of `ml_actor`, listened to line by line, ended whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

import msgspec

from framework.errors import ConfigError, IntegrityError, StartRefused, StorageError, TidebookError
from framework.kernel.spawn import finding_us
from framework.logs import foreign

STOP_TIMEOUT_S: Final = 5.0
MAX_LINE_BYTES: Final = 16 << 20
_ERRORS: Final[dict[int, type[TidebookError]]] = {
    error.exit_code: error for error in (ConfigError, StartRefused, StorageError, IntegrityError)
}


class ChildFailed(TidebookError):
    """The child process ended without a result, or with a fault of its own."""


def run_job(module: str, job: msgspec.Struct, scratch: Path, on_line: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Run `python -m module --job FILE` with `job`, hand each line before the result to `on_line`, and return the result.

    Blocks until the child ends. `scratch` is a directory of the caller's. Raises the error of a refusal's exit code, or
    `ChildFailed` with the child's last words.
    """
    path, words = scratch / "job.json", scratch / "child.log"
    path.write_bytes(msgspec.json.encode(job))
    argv = (sys.executable, "-m", module, "--job", str(path))
    with words.open("wb") as errors, terminated_as_interrupt():
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=finding_us(os.environ))
        try:
            assert child.stdout is not None
            with child.stdout:
                result = _listen(child.stdout, on_line)
            code = child.wait()
        finally:
            _end(child)
    if result is None:
        raise ChildFailed(f"{module} ended with exit code {code} and no result ({_last_words(words, code)})")
    if not result.get("ok"):
        error = _ERRORS.get(int(result.get("exit_code", 1)))
        if error is None:
            _last_words(words, code)
            raise ChildFailed(foreign(str(result.get("reason", "")), 1_000))
        raise error(foreign(str(result.get("reason", "")), 1_000))
    return result


def _listen(stdout: IO[bytes], on_line: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
    result: dict[str, Any] | None = None
    while line := stdout.readline(MAX_LINE_BYTES):
        try:
            said = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            continue  # something that a library, or the code that is checked, printed
        if isinstance(said.get("result"), dict):
            result = said["result"]
        else:
            on_line(said)
    return result


def _last_words(words: Path, code: int) -> str:
    said = words.read_text(errors="replace").strip()
    if "TIDEBOOK_DEBUG" in os.environ:
        sys.stderr.write(said + "\n")
    last = said.rpartition("\n")[2]
    return "killed, or out of memory" if code < 0 else foreign(last, 300)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """Let SIGTERM unwind as an interrupt does, so that child and scratch directory go with us. Only in the main thread."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
