"""The operator's door: typed commands as lines of JSON over a Unix socket in the state directory.

One request and one answer per connection. Only processes of the same user (and root) are heard; a request that is too long, too
slow or no command gets a typed answer or a closed connection, and never reaches the handler.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from framework.errors import ConfigError, StartRefused, StorageError, TidebookError
from framework.logs import foreign
from framework.operations.state_dir import StateDir

SOCKET_NAME: Final = "control.sock"
MAX_REQUEST: Final = 2 * 1024 * 1024
MAX_REPLY: Final = 16 * 1024 * 1024
MAX_CLIENTS: Final = 16
REQUEST_TIMEOUT_S: Final = 5.0
HANDLER_TIMEOUT_S: Final = 120.0
CLIENT_TIMEOUT_S: Final = 130.0
QUICK_TIMEOUT_S: Final = 10.0
"""For commands that a process in good order answers at once."""


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command"):
    """Base of every command."""


class Ping(Command, frozen=True, kw_only=True, tag="ping"):
    """Ask whether somebody is there; the answer has the pid."""


class GetStatus(Command, frozen=True, kw_only=True, tag="status"):
    """Ask for the status document."""


class ListStrategies(Command, frozen=True, kw_only=True, tag="strategies"):
    """Ask for the deployed strategies and their states."""


class Deploy(Command, frozen=True, kw_only=True, tag="deploy"):
    """Deploy a strategy from the text of its file; `path` is its name in complaints. A dry run only plans."""

    path: str
    text: str
    dry_run: bool = False


class Undeploy(Command, frozen=True, kw_only=True, tag="undeploy"):
    """Stop a strategy, cancel its orders, forget its deployment."""

    name: str


class Stop(Command, frozen=True, kw_only=True, tag="stop"):
    """End the run in order."""


class Halt(Command, frozen=True, kw_only=True, tag="halt"):
    """Set the kill switch: cancel every order, send none, also after a restart. `flatten` closes what is held."""

    reason: str = "operator"
    flatten: bool = False


class Resume(Command, frozen=True, kw_only=True, tag="resume"):
    """Clear the kill switch. Refused unless `confirm`."""

    confirm: bool = False


class Train(Command, frozen=True, kw_only=True, tag="train"):
    """Start a training now; `refit` is full, warm or "" (as due)."""

    reason: str = "operator"
    refit: Literal["", "full", "warm"] = ""


class Models(Command, frozen=True, kw_only=True, tag="models"):
    """Look at the model versions or decide about them, as `framework.wire.ModelsRequest`."""

    action: str = "list"
    version_id: str | None = None
    other_id: str | None = None
    reason: str = ""


class GetLimits(Command, frozen=True, kw_only=True, tag="limits"):
    """Ask for every limit of the gate that is in force."""


class TightenLimit(Command, frozen=True, kw_only=True, tag="tighten"):
    """Make a limit tighter; only a restart with other settings loosens it. `scope`: strategies, strategy:NAME, instrument:ID, account."""

    scope: str
    key: str
    value: str


class ResolveOrder(Command, frozen=True, kw_only=True, tag="resolve-order"):
    """Give an operator's word for what became of an UNKNOWN order: filled `quantity` lots at `price` (0: none), and it is over."""

    client_order_id: str
    quantity: int = 0
    price: str = ""
    confirm: bool = False


AnyCommand = (
    Ping | GetStatus | ListStrategies | Deploy | Undeploy | Stop | Halt | Resume | Train | Models | GetLimits | TightenLimit | ResolveOrder
)


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a command was not done. `exit_code` is the one that the CLI ends with."""

    message: str
    exit_code: int = 1


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a command: a result of JSON values, or a refusal."""

    result: Any = None
    refusal: Refusal | None = None


Handler = Callable[[AnyCommand], Awaitable[Any]]

_COMMANDS: Final = msgspec.json.Decoder(AnyCommand)
_REPLIES: Final = msgspec.json.Decoder(Reply)
_CREDENTIALS: Final = struct.Struct("iII")  # pid, uid, gid (socket(7), SO_PEERCRED)
_ERRORS: Final[dict[int, type[TidebookError]]] = {2: ConfigError, 3: StartRefused, 5: StorageError}


class ControlServer:
    """Answer commands on `control.sock` in `directory`. `handler` runs on the loop; a `TidebookError` from it is an answer.

    `refused` counts by reason what never reached the handler.
    """

    def __init__(
        self, directory: Path, handler: Handler, *, max_clients: int = MAX_CLIENTS, request_timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        self._directory = directory
        self._handler = handler
        self._max_clients = max_clients
        self._request_timeout_s = request_timeout_s
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self.refused: dict[str, int] = {"busy": 0, "foreign_user": 0, "garbage": 0, "slow": 0, "too_long": 0}

    async def start(self) -> None:
        """Bind (mode 0600) and listen. Call it while owning the lock: a socket that lies there is a dead process's."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            (self._directory / SOCKET_NAME).unlink(missing_ok=True)
            with _short_address(self._directory) as address:
                listener.bind(address)
            (self._directory / SOCKET_NAME).chmod(0o600)
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_REQUEST)
        except OSError as exc:
            listener.close()
            raise StorageError(f"control socket in {self._directory}: {exc.strerror}") from exc

    async def stop(self) -> None:
        """Close the socket and every connection, and remove the file."""
        if self._server is None:
            return
        self._server.close()
        clients = tuple(self._clients - {asyncio.current_task()})
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        self._server = None
        (self._directory / SOCKET_NAME).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            await self._exchange(reader, writer)
        except (ConnectionError, TimeoutError):
            self.refused["slow"] += 1
        except asyncio.CancelledError:
            pass  # by `stop`; Python 3.11's stream protocol would log the cancel of its own task as a fault
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self._clients.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request: AnyCommand | Reply | None = self._refuse_client(writer)
        if request is None:
            async with asyncio.timeout(self._request_timeout_s):
                request = await self._read(reader)
        reply = request if isinstance(request, Reply) else await self._answer(request)
        async with asyncio.timeout(self._request_timeout_s):
            writer.write(_encoded(reply))
            await writer.drain()
            if reply is request:
                await _take_leave(reader, writer)

    def _refuse_client(self, writer: asyncio.StreamWriter) -> Reply | None:
        if len(self._clients) > self._max_clients:
            return self._refused("busy", f"more than {self._max_clients} commands at once; try again")
        if _peer_uid(writer) not in {os.geteuid(), 0}:
            return self._refused("foreign_user", "only the user that runs the framework may command it")
        return None

    async def _read(self, reader: asyncio.StreamReader) -> AnyCommand | Reply:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            return self._refused("too_long", f"the command is longer than {MAX_REQUEST} bytes")
        except asyncio.IncompleteReadError:
            return self._refused("garbage", "the command does not end with a newline")
        try:
            command: AnyCommand = _COMMANDS.decode(line)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
            return self._refused("garbage", f"not a command: {foreign(str(exc))}")
        return command

    async def _answer(self, command: AnyCommand) -> Reply:
        try:
            async with asyncio.timeout(HANDLER_TIMEOUT_S):
                return Reply(result=await self._handler(command))
        except TimeoutError:
            return Reply(refusal=Refusal(message=f"no result within {HANDLER_TIMEOUT_S:.0f} s"))
        except TidebookError as exc:
            return Reply(refusal=Refusal(message=str(exc), exit_code=exc.exit_code))

    def _refused(self, reason: str, message: str) -> Reply:
        self.refused[reason] += 1
        return Reply(refusal=Refusal(message=message, exit_code=ConfigError.exit_code))


def _encoded(reply: Reply) -> bytes:
    line = msgspec.json.encode(reply)
    if len(line) > MAX_REPLY:
        line = msgspec.json.encode(Reply(refusal=Refusal(message=f"the answer is longer than {MAX_REPLY} bytes")))
    return line + b"\n"


async def _take_leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read away what a refused client still sends: closing on unread bytes would take the answer from it."""
    writer.write_eof()
    while await reader.read(65_536):
        pass


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(credentials)[1]
    return uid


@contextmanager
def _short_address(directory: Path) -> Iterator[str]:
    """Yield an address of the socket that is short whatever the directory is called (the kernel allows 108 bytes)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


# --- the client ------------------------------------------------------------------------------------------------------


class NobodyThere(StartRefused):
    """No process answers in this state directory."""


def ask(directory: Path, command: AnyCommand, *, timeout_s: float = CLIENT_TIMEOUT_S) -> Any:
    """Send one command and return its result. Blocks: for the CLI, never for the loop.

    Raises `NobodyThere` if no process listens, the error of the matching exit code if it refuses, `StorageError` if it does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
            connection.settimeout(timeout_s)
            _connect(connection, directory)
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


def _connect(connection: socket.socket, directory: Path) -> None:
    try:
        with _short_address(directory) as address:
            connection.connect(address)
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
