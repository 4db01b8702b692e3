"""What stands between the trading process and the ML process, and does them harm: one for bytes, one for messages.

Each runs on a loop and in a thread of its own. `fault` is what goes wrong now ("" for nothing); `struck` counts how often each did.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import zmq
import zmq.asyncio

Message = list[bytes]
LONGEST_S: Final = 0.4


class Proxy(Protocol):
    """Harm by name. `endpoint` is where the client connects; `target` is the service, which may move."""

    fault: str
    struck: Counter[str]
    target: str

    @property
    def faults(self) -> Sequence[str]: ...

    @property
    def endpoint(self) -> str: ...

    async def serve(self) -> None:
        """Carry until cancelled."""


class BytesProxy:
    """A TCP proxy: delays, cuts, swallows, stops reading, spoils and trickles what flows, each way."""

    faults: Sequence[str] = ("delay", "cut", "refuse", "half-open", "stopped reader", "garbage", "trickle")

    def __init__(self, seed: int) -> None:
        self.fault = self.target = ""
        self.struck: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def endpoint(self) -> str:
        """Return where to connect."""
        return f"tcp://127.0.0.1:{self._port}"

    async def serve(self) -> None:
        """Carry until cancelled; what is open when a cut begins is reset."""
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            while True:
                await asyncio.sleep(0.01)
                if self.fault in ("cut", "refuse"):
                    self.struck[self.fault] += len(self._writers)
                    self._reset()
        finally:
            server.close()
            self._reset()

    def _reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault == "refuse":
            writer.transport.abort()
            return
        place = urlsplit(self.target)
        try:
            their_reader, their_writer = await asyncio.open_connection(place.hostname, place.port)
        except OSError:
            writer.transport.abort()
            return
        both = (writer, their_writer)
        self._writers.update(both)
        with suppress(OSError):
            await asyncio.gather(self._pump(reader, their_writer), self._pump(their_reader, writer))
        for one in both:
            one.transport.abort()
            self._writers.discard(one)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await self._read(reader):
            async for part in self._parts(data):
                writer.write(part)
                await writer.drain()
        writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        while self.fault == "stopped reader":
            self.struck[self.fault] += 1
            await asyncio.sleep(0.02)
        return await reader.read(65_536)

    async def _parts(self, data: bytes) -> AsyncIterator[bytes]:
        fault, rng = self.fault, self._rng
        self.struck[fault] += fault in ("delay", "half-open", "garbage", "trickle")
        if fault == "delay":
            await asyncio.sleep(rng.uniform(0.0, LONGEST_S))
        elif fault == "half-open":
            return  # both believe that it was sent
        elif fault == "garbage":
            data = spoiled(data, rng)
        elif fault == "trickle":
            for at in range(0, min(len(data), 200), 3):
                yield data[at : at + 3]
                await asyncio.sleep(0.0005)
            data = data[200:]
        yield data


class MessagesProxy:
    """A ZMQ proxy: loses, delays, repeats, reorders, spoils and misaddresses whole messages, each way."""

    faults: Sequence[str] = ("lose", "delay", "duplicate", "reorder", "garbage", "wrong frames", "old answers")

    def __init__(self, seed: int) -> None:
        self.fault = self.target = ""
        self.struck: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._context = zmq.asyncio.Context()
        self._front = self._context.socket(zmq.ROUTER)
        self._port = self._front.bind_to_random_port("tcp://127.0.0.1")
        self._backs: dict[tuple[bytes, str], zmq.asyncio.Socket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: Message = []

    @property
    def endpoint(self) -> str:
        """Return where to connect."""
        return f"tcp://127.0.0.1:{self._port}"

    async def serve(self) -> None:
        """Carry until cancelled."""
        try:
            while True:
                identity, *frames = await self._front.recv_multipart()
                self._start(self._carry(frames, self._back(identity).send_multipart))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._context.destroy(linger=0)

    def _back(self, identity: bytes) -> zmq.asyncio.Socket:
        key = (identity, self.target)
        if key not in self._backs:
            socket = self._backs[key] = self._context.socket(zmq.DEALER)
            socket.linger = 0
            socket.connect(self.target)
            self._start(self._answer(identity, socket))
        return self._backs[key]

    async def _answer(self, identity: bytes, socket: zmq.asyncio.Socket) -> None:
        while True:
            frames = await socket.recv_multipart()
            self._start(self._carry(frames, lambda answer: self._front.send_multipart([identity, *answer])))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, frames: Message, send: Callable[[Message], Any]) -> None:
        fault, rng = self.fault, self._rng
        before, self._last = self._last, frames
        if not fault or rng.random() < 0.3:
            await send(frames)
            return
        self.struck[fault] += 1
        if fault in ("delay", "reorder"):
            await asyncio.sleep(rng.uniform(0.0, LONGEST_S if fault == "delay" else 0.02))
        for one in self._instead(fault, frames, before):
            await send(one)

    def _instead(self, fault: str, frames: Message, before: Message) -> list[Message]:
        rng = self._rng
        match fault:
            case "lose":
                return []
            case "duplicate":
                return [frames] * rng.randint(2, 4)
            case "garbage":
                return [[frames[0], *(spoiled(one, rng) for one in frames[1:])]]
            case "wrong frames":
                return [rng.choice((frames[:1], frames[1:] or [b""], [*frames, b"", b"more"], [b""] * 3))]
            case "old answers":
                return [before or frames, frames]
        return [frames]


def spoiled(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with some changed, some gone or some between."""
    if not data:
        return rng.randbytes(3)
    at, until = sorted((rng.randrange(len(data)), rng.randrange(len(data) + 1)))
    way = rng.randrange(3)
    if way == 0:
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    return data[:at] + (rng.randbytes(rng.randrange(1, 40)) if way == 1 else b"") + data[until:]


class Running:
    """A proxy at work in a thread of its own, as a context manager."""

    def __init__(self, make: Callable[[], Proxy]) -> None:
        self._make = make
        self._is_up = threading.Event()

    def __enter__(self) -> Proxy:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="proxy", daemon=True)
        self._thread.start()
        self._is_up.wait(10)
        return self.proxy

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)

    async def _main(self) -> None:
        self._loop, self.proxy = asyncio.get_running_loop(), self._make()
        self._task = self._loop.create_task(self.proxy.serve())
        await asyncio.sleep(0.01)
        self._is_up.set()
        with suppress(asyncio.CancelledError):
            await self._task
