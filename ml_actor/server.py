"""The rim of `MLService`: one ROUTER socket, read for its whole life by one turn of the loop after another.

What has come in is answered one at a time, client by client in turn; what waits is bounded, and its deadline is looked at
before any computing. Answers are sent without waiting: a client that does not read loses its answers, nobody else does.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

from framework.config import MLServer
from framework.errors import ErrorCode, StartRefused, WireError
from framework.socket_reader import SocketReader
from framework.wire import MAX_FRAME_BYTES
from ml_actor.curve import check_curve_files, secure, start_authenticator
from ml_actor.service import MAX_FRAMES, MLService, Slow
from ml_actor.waiting import Waiting, WaitingRoom

log = logging.getLogger("MLService")

Result = TypeVar("Result")
RECEIVE_HWM: Final = 2
"""Of each connection: twenty that send as much as they may are to cost tens of MiB, not hundreds."""
SEND_HWM: Final = 64
BACKLOG: Final = 64
HANDSHAKE_MS: Final = 2_000
TAKEN_AT_ONCE: Final = 4
ANSWERS_PER_TURN: Final = 32
MAX_SLOW: Final = 64
MIN_LIBZMQ: Final = (4, 3, 5)


def endpoint_of(server: MLServer) -> str:
    """Return the endpoint to bind. Raises `StartRefused` for a host beyond loopback without CURVE keys."""
    host = "127.0.0.1" if server.host == "localhost" else server.host
    if not _is_loopback(host) and server.curve is None:
        raise StartRefused(
            f"ml_service.server.host {server.host} would let anybody on the network use this service; bind 127.0.0.1, "
            "or give ml_service.server.curve its keys and the folder of clients that may connect"
        )
    return f"tcp://[{host}]:{server.port}" if ":" in host else f"tcp://{host}:{server.port}"


def check_ipc(endpoint: str) -> None:
    """Raise `StartRefused` unless an ipc endpoint is a file in a directory that nobody else may enter."""
    path = Path(endpoint.removeprefix("ipc://"))
    if str(path).startswith("@") or not path.parent.is_dir() or stat.S_IMODE(path.parent.stat().st_mode) & 0o077:
        raise StartRefused(f"{endpoint}: the socket must be a file in a directory of mode 0700 (any local user can reach another one)")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class RouterServer:
    """Serve an `MLService` on one endpoint. `start` binds; `close` ends it. Runs slow answers in one thread, in order."""

    def __init__(self, service: MLService, endpoint: str, *, server: MLServer | None = None) -> None:
        self.endpoint = endpoint
        self._service = service
        self._curve = server.curve if server else None
        self._waiting = WaitingRoom()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ml-slow")
        self._slow: set[asyncio.Task[None]] = set()
        self._counts = dict.fromkeys(("received", "bad_envelopes", "too_large", "overloaded", "unroutable", "undelivered"), 0)
        self._context: zmq.asyncio.Context | None = None
        self._socket: Any = None
        self._plain: Any = None
        self._reader: SocketReader
        self._loop: asyncio.AbstractEventLoop
        self._authenticator: AsyncioAuthenticator | None = None
        service.rim_stats = self.stats

    def stats(self) -> dict[str, Any]:
        """Return counters of the rim, and how many requests wait."""
        return {**self._counts, "waiting": len(self._waiting), "slow": len(self._slow)}

    def start(self) -> None:
        """Bind and serve. `endpoint` then names the port that was found. Raises `StartRefused`."""
        check_libzmq(zmq.zmq_version_info())
        if self.endpoint.startswith("ipc://"):
            check_ipc(self.endpoint)
        if self._curve is not None:
            check_curve_files(self._curve)
        self._context = zmq.asyncio.Context()
        self._socket = self._open(self._context)
        # The same socket without futures, which cost 5 to 10 us each: no answer waits to be sent, and the loop reads by itself.
        self._plain = zmq.Socket.shadow(self._socket)
        self._reader = SocketReader(self._plain, self._serve)
        if self._curve is not None:
            self._authenticator = start_authenticator(self._context, self._curve)
            secure(self._socket, self._curve)
        self._bind()
        self._loop = asyncio.get_running_loop()
        self._service.started_s = self._loop.time()
        self._reader.start()

    async def close(self) -> None:
        """Stop serving, wait for what the thread has begun, close the socket."""
        if self._context is not None:
            self._reader.stop()
        await asyncio.gather(*self._slow, return_exceptions=True)
        self._thread.shutdown(wait=True)
        if self._authenticator is not None:
            self._authenticator.stop()
        if self._context is not None:
            self._socket.close(linger=0)
            self._context.term()
            self._context = None

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Run what waits for a disk, after what is being run already. Suspends."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- socket ------------------------------------------------------------------------------------------------------

    def _open(self, context: zmq.asyncio.Context) -> zmq.asyncio.Socket:
        socket = context.socket(zmq.ROUTER)
        options = {
            zmq.ROUTER_MANDATORY: 1,
            zmq.ROUTER_HANDOVER: 0,
            zmq.LINGER: 0,
            zmq.MAXMSGSIZE: MAX_FRAME_BYTES,
            zmq.RCVHWM: RECEIVE_HWM,
            zmq.SNDHWM: SEND_HWM,
            zmq.HANDSHAKE_IVL: HANDSHAKE_MS,
            zmq.BACKLOG: BACKLOG,
            zmq.IPV6: int("[" in self.endpoint),
        }
        for option, value in options.items():
            socket.set(option, value)
        return socket

    def _bind(self) -> None:
        try:
            self._socket.bind(self.endpoint)
        except zmq.ZMQError as exc:
            self._socket.close(linger=0)
            if self._authenticator is not None:
                self._authenticator.stop()
            raise StartRefused(
                f"cannot bind {self.endpoint}: {exc.strerror}; stop what uses it, or set another ml_service.server.port"
            ) from exc
        self.endpoint = self._socket.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()

    # --- serving -----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Answer what has come, until there is no more or the loop should have its turn. A fault costs one message."""
        try:
            self._take_all()
            for _ in range(ANSWERS_PER_TURN):
                if not self._waiting:
                    return
                self._answer(self._waiting.next())
                self._take_all()
        finally:
            if self._waiting:
                self._reader.again()

    def _take_all(self) -> None:
        """Take in what has arrived, so that the time it waits is known and what is too much is refused at once."""
        for _ in range(TAKEN_AT_ONCE):
            message = self._reader.receive()
            if message is None:
                return
            self._take(message)
        self._reader.again()

    def _take(self, message: list[bytes]) -> None:
        waiting = self._opened(message)
        if waiting is not None and not self._waiting.put(waiting):
            self._counts["overloaded"] += 1
            self._send(waiting.envelope, self._service.refuse_overload(waiting.frames))

    def _opened(self, message: list[bytes]) -> Waiting | None:
        """Take the envelope off; None for what is no request, counted."""
        self._counts["received"] += 1
        envelope = 2 if len(message) > 1 and message[1] == b"" else 1  # a DEALER may leave the delimiter out
        frames = message[envelope:]
        size = sum(map(len, frames))
        if len(frames) > MAX_FRAMES or not frames:
            self._counts["bad_envelopes"] += 1
            return None
        if size > 2 * MAX_FRAME_BYTES:
            self._counts["too_large"] += 1
            return None
        return Waiting(message[:envelope], frames, self._loop.time(), size)

    def _answer(self, waiting: Waiting) -> None:
        envelope = waiting.envelope
        answer = self._service.handle(waiting.frames, self._loop.time(), waiting.received_s)
        if not isinstance(answer, Slow):
            self._send(envelope, answer)
            self._service.settle()
            return
        if len(self._slow) >= MAX_SLOW:
            self._counts["overloaded"] += 1
            self._send(envelope, answer.finish(WireError(ErrorCode.OVERLOADED, f"{MAX_SLOW} requests wait for the disk")))
            return
        task = self._loop.create_task(self._answer_later(envelope, answer), name="ml-slow")
        self._slow.add(task)
        task.add_done_callback(self._slow.discard)

    async def _answer_later(self, envelope: list[bytes], answer: Slow) -> None:
        self._send(envelope, answer.finish(await self.in_thread(answer.run)))
        self._reader.wake()

    def _send(self, envelope: list[bytes], frames: list[bytes] | None) -> None:
        if frames is None:
            return
        try:
            self._plain.send_multipart([*envelope, *frames], zmq.NOBLOCK)
        except zmq.ZMQError as exc:
            self._count_undelivered(exc)

    def _count_undelivered(self, failure: zmq.ZMQError) -> None:
        self._counts["unroutable" if failure.errno == zmq.EHOSTUNREACH else "undelivered"] += 1


def check_libzmq(version: tuple[int, int, int]) -> None:
    """Raise `StartRefused` for a libzmq with known holes."""
    if version < MIN_LIBZMQ:
        found, least = (".".join(map(str, numbers)) for numbers in (version, MIN_LIBZMQ))
        raise StartRefused(f"libzmq {found} is too old for a server, at least {least} is needed; upgrade pyzmq")
