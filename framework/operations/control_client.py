"""The side of the control socket that asks: for the command line, which may wait."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from framework import unix_sockets
from framework.errors import ConfigError, StartRefused, StorageError, TidebookError
from framework.operations.control_commands import AnyCommand, Reply
from framework.operations.state_dir import StateDir

SOCKET_NAME: Final = "control.sock"
MAX_REPLY: Final = 16 * 1024 * 1024
CLIENT_TIMEOUT_S: Final = 130.0
QUICK_TIMEOUT_S: Final = 10.0
"""For commands that a process in good order answers at once."""
_REPLIES: Final = msgspec.json.Decoder(Reply)
_ERRORS: Final[dict[int, type[TidebookError]]] = {2: ConfigError, 3: StartRefused, 5: StorageError}


class NobodyThere(StartRefused):
    """No process answers in this state directory."""


def ask(directory: Path, command: AnyCommand, *, timeout_s: float = CLIENT_TIMEOUT_S) -> Any:
    """Send one command and return its result. Blocks: for the CLI, never for the loop.

    Raises `NobodyThere` if no process listens, the error of the matching exit code if it refuses, `StorageError` if it does not answer.
    """
    try:
        with _connected(directory, timeout_s) as connection:
            connection.sendall(msgspec.json.encode(command) + b"\n")
            reply = _REPLIES.decode(_read_line(connection))
    except TimeoutError as exc:
        raise StorageError(_no_answer(directory, timeout_s)) from exc
    except (OSError, msgspec.DecodeError) as exc:
        raise StorageError(f"the framework in {directory} closed the connection without an answer: {exc}") from exc
    return _result(reply)


def _no_answer(directory: Path, timeout_s: float) -> str:
    pid = StateDir(directory).last_owner()
    way_out = f"; if it hangs: kill -9 {pid}, then this command works on what it left" if pid else ""
    return f"the framework in {directory} did not answer within {timeout_s:g} s{way_out}"


def _connected(directory: Path, timeout_s: float) -> socket.socket:
    try:
        return unix_sockets.connect(directory, SOCKET_NAME, timeout_s)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as exc:
        raise NobodyThere(f"nothing runs in {directory}; start it with: main.py start") from exc


def _read_line(connection: socket.socket) -> bytes:
    parts = bytearray()
    while not parts.endswith(b"\n"):
        part = connection.recv(65_536)
        if not part or len(parts) > MAX_REPLY:
            raise ConnectionError("it ended early" if not part else "it is too long")
        parts += part
    return bytes(parts)


def _result(reply: Reply) -> Any:
    if reply.refusal is None:
        return reply.result
    error = _ERRORS.get(reply.refusal.exit_code, TidebookError)(reply.refusal.message)
    error.exit_code = reply.refusal.exit_code
    raise error


Result = TypeVar("Result")


def ask_for(directory: Path, command: AnyCommand, kind: type[Result], *, timeout_s: float = CLIENT_TIMEOUT_S) -> Result:
    """Send one command and return its result as `kind` (a `msgspec.Struct`). Raises as `ask`."""
    return msgspec.convert(ask(directory, command, timeout_s=timeout_s), kind, strict=False)
