"""The operator's door: typed commands as lines of JSON over a Unix socket in the state directory.

One request and one answer per connection. Only processes of the same user (and root) are heard; a request that is too long, too
slow or no command gets a typed answer or a closed connection, and never reaches the handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from framework import unix_sockets
from framework.errors import ConfigError, StorageError, TidebookError
from framework.logs import foreign
from framework.operations.control_client import MAX_REPLY, QUICK_TIMEOUT_S, SOCKET_NAME, NobodyThere, ask, ask_for
from framework.operations.control_commands import (
    AnyCommand,
    Deploy,
    GetLimits,
    GetStatus,
    Halt,
    ListStrategies,
    Models,
    Ping,
    Refusal,
    Reply,
    ResolveOrder,
    Resume,
    Stop,
    TightenLimit,
    Train,
    Undeploy,
)

__all__ = [
    "MAX_REPLY",
    "MAX_REQUEST",
    "QUICK_TIMEOUT_S",
    "SOCKET_NAME",
    "AnyCommand",
    "ControlServer",
    "Deploy",
    "GetLimits",
    "GetStatus",
    "Halt",
    "ListStrategies",
    "Models",
    "NobodyThere",
    "Ping",
    "Refusal",
    "Reply",
    "ResolveOrder",
    "Resume",
    "Stop",
    "TightenLimit",
    "Train",
    "Undeploy",
    "ask",
    "ask_for",
]
MAX_REQUEST: Final = 2 * 1024 * 1024
MAX_CLIENTS: Final = 16
REQUEST_TIMEOUT_S: Final = 5.0
HANDLER_TIMEOUT_S: Final = 120.0

Handler = Callable[[AnyCommand], Awaitable[Any]]

_COMMANDS: Final = msgspec.json.Decoder(AnyCommand)


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
        try:
            listener = unix_sockets.listen(self._directory, SOCKET_NAME)
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_REQUEST)
        except OSError as exc:
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
        if not unix_sockets.is_ours(writer.get_extra_info("socket")):
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
