"""The control socket: typed commands in, typed answers out, and nothing else gets through."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from framework import unix_sockets
from framework.errors import ConfigError, StartRefused, StorageError, TidebookError
from framework.operations import control
from framework.operations.control import ControlServer


class Handler:
    """Notes the commands that reach it."""

    def __init__(self, answer: Callable[[Any], Any] = lambda command: {"seen": type(command).__name__}) -> None:
        self.commands: list[control.AnyCommand] = []
        self.answer = answer

    async def __call__(self, command: control.AnyCommand) -> Any:
        self.commands.append(command)
        result = self.answer(command)
        return await result if isinstance(result, Awaitable) else result


@asynccontextmanager
async def serving(directory: Path, handler: Handler, **options: Any) -> AsyncIterator[ControlServer]:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = ControlServer(directory, handler, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def ask(directory: Path, command: control.AnyCommand, timeout_s: float = 5.0) -> Any:
    return await asyncio.to_thread(control.ask, directory, command, timeout_s=timeout_s)


async def raw(directory: Path, content: bytes, *, then_close: bool = False) -> bytes:
    with unix_sockets.short_address(directory, control.SOCKET_NAME) as address:
        reader, writer = await asyncio.open_unix_connection(address)
    writer.write(content)
    if then_close:
        writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def refusal(answer: bytes) -> str:
    reply = msgspec.json.decode(answer, type=control.Reply)
    assert reply.refusal is not None
    assert reply.refusal.exit_code == 2
    return reply.refusal.message


COMMANDS = [
    control.Ping(),
    control.GetStatus(),
    control.ListStrategies(),
    control.Deploy(path="a.yaml", text="name: x\n", dry_run=True),
    control.Undeploy(name="x"),
    control.Stop(),
    control.Halt(reason="too fast"),
    control.Resume(confirm=True),
    control.Train(),
    control.Models(action="promote", version_id="v1"),
]


async def test_every_command_arrives_as_it_was_sent_and_is_answered(tmp_path: Path) -> None:
    handler = Handler()
    async with serving(tmp_path, handler):
        answers = [await ask(tmp_path, command) for command in COMMANDS]

    assert handler.commands == COMMANDS
    assert answers == [{"seen": type(command).__name__} for command in COMMANDS]


def test_it_works_on_the_loop_of_the_trading_process(tmp_path: Path) -> None:
    async def talk() -> Any:
        async with serving(tmp_path, Handler()):
            return await ask(tmp_path, control.Ping())

    assert uvloop.run(talk()) == {"seen": "Ping"}


async def test_a_very_long_path_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    async with serving(deep, Handler()):
        assert await ask(deep, control.Ping()) == {"seen": "Ping"}


async def test_the_socket_is_for_its_owner_only_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with serving(tmp_path, Handler()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    assert not path.exists()


async def test_the_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    with pytest.raises(control.NobodyThere):
        await ask(tmp_path, control.Ping())

    async with serving(tmp_path, Handler()):
        assert await ask(tmp_path, control.Ping()) == {"seen": "Ping"}


async def test_a_socket_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "control.sock").mkdir()

    with pytest.raises(StorageError, match="control socket in"):
        await ControlServer(tmp_path, Handler()).start()


async def test_without_a_process_the_answer_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(StartRefused) as caught:
        await ask(tmp_path, control.GetStatus())

    assert str(caught.value) == f"nothing runs in {tmp_path}; start it with: main.py start"


@pytest.mark.parametrize(("error", "kind"), [(ConfigError, ConfigError), (StartRefused, StartRefused), (StorageError, StorageError)])
async def test_a_refusal_of_the_handler_reaches_the_caller_with_its_exit_code(
    tmp_path: Path, error: type[TidebookError], kind: type[TidebookError]
) -> None:
    def refuse(command: Any) -> Any:
        raise error("no such strategy: x")

    async with serving(tmp_path, Handler(refuse)):
        with pytest.raises(kind, match=r"^no such strategy: x$") as caught:
            await ask(tmp_path, control.Undeploy(name="x"))

    assert caught.value.exit_code == error.exit_code


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\n", "not a command: Input data was truncated"),
        (b"hello\n", "not a command: JSON is malformed: invalid character (byte 0)"),
        (b"{}\n", "not a command: Object missing required field `command`"),
        (b'{"command":"fly"}\n', "not a command: Invalid value 'fly' - at `$.command`"),
        (b'{"command":"ping","extra":1}\n', "not a command: Object contains unknown field `extra`"),
        (b'{"command":"halt","reason":7}\n', "not a command: Expected `str`, got `int` - at `$.reason`"),
        (b'{"command":"deploy"}\n', "not a command: Object missing required field `path`"),
        (b"[" * 100_000 + b"\n", "not a command: Expected `object`, got `array`"),
        (b'{"x":' + b"[" * 100_000 + b"\n", "not a command: maximum recursion depth exceeded"),
    ],
)
async def test_garbage_gets_a_typed_answer_and_hurts_nobody(tmp_path: Path, line: bytes, message: str) -> None:
    handler = Handler()
    async with serving(tmp_path, handler) as server:
        assert refusal(await raw(tmp_path, line)).startswith(message)
        assert server.refused["garbage"] == 1
        assert handler.commands == []
        assert await ask(tmp_path, control.Ping()) == {"seen": "Ping"}


async def test_a_request_without_an_end_is_garbage(tmp_path: Path) -> None:
    async with serving(tmp_path, Handler()) as server:
        assert refusal(await raw(tmp_path, b'{"command":"ping"}', then_close=True)) == "the command does not end with a newline"
        assert server.refused["garbage"] == 1


async def test_a_request_that_is_too_long_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, Handler()) as server:
        answer = await raw(tmp_path, b"x" * (control.MAX_REQUEST + 1) + b"\n")

    assert server.refused["too_long"] == 1
    assert answer == b"" or refusal(answer) == f"the command is longer than {control.MAX_REQUEST} bytes"


async def test_a_client_that_says_nothing_is_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path, Handler(), request_timeout_s=0.05) as server:
        assert await raw(tmp_path, b'{"command":') == b""
        assert server.refused["slow"] == 1


async def test_too_many_clients_at_once_are_told_so(tmp_path: Path) -> None:
    async with serving(tmp_path, Handler(), max_clients=2) as server:
        idle = [await asyncio.open_unix_connection(str(tmp_path / "control.sock")) for _ in range(2)]
        assert refusal(await raw(tmp_path, b'{"command":"ping"}\n')) == "more than 2 commands at once; try again"
        assert server.refused["busy"] == 1
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()


async def test_another_user_is_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = Handler()
    monkeypatch.setattr(unix_sockets, "peer_uid", lambda connection: os.geteuid() + 12_345)
    async with serving(tmp_path, handler) as server:
        assert refusal(await raw(tmp_path, b'{"command":"ping"}\n')) == "only the user that runs the framework may command it"
        assert server.refused["foreign_user"] == 1
        assert handler.commands == []


async def test_the_uid_of_the_peer_is_the_kernels_word(tmp_path: Path) -> None:
    seen: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(unix_sockets.peer_uid(writer.get_extra_info("socket")))
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "s")
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    await reader.read()
    writer.close()
    await writer.wait_closed()
    server.close()

    assert seen == [os.geteuid()]


async def test_a_process_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    async with serving(tmp_path, Handler(lambda command: asyncio.sleep(60))):
        with pytest.raises(StorageError, match=r"did not answer within 0\.05 s$"):
            await ask(tmp_path, control.Ping(), timeout_s=0.05)
        (tmp_path / "lock").write_text("4711\n")
        with pytest.raises(StorageError, match=r"0\.05 s; if it hangs: kill -9 4711, then this command works on what it left$"):
            await ask(tmp_path, control.Ping(), timeout_s=0.05)


async def test_stop_can_be_asked_for_over_the_socket_itself(tmp_path: Path) -> None:
    stopped = asyncio.Event()

    def answer(command: Any) -> Any:
        stopped.set()
        return {"stopping": True}

    async with serving(tmp_path, Handler(answer)):
        assert await ask(tmp_path, control.Stop()) == {"stopping": True}
        assert stopped.is_set()


class Version(msgspec.Struct):
    version_id: str
    age_s: float


async def test_a_result_can_be_read_as_its_type(tmp_path: Path) -> None:
    async with serving(tmp_path, Handler(lambda command: [Version("v1", 2.0)])):
        versions = await asyncio.to_thread(control.ask_for, tmp_path, control.Models(), list[Version])

    assert versions == [Version("v1", 2.0)]


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_no_bytes_kill_the_server(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    directory = tmp_path_factory.mktemp("state")

    async def attack() -> Any:
        async with serving(directory, Handler()):
            await raw(directory, content + b"\n")
            return await ask(directory, control.Ping())

    assert asyncio.run(attack()) == {"seen": "Ping"}
