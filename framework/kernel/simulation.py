"""Virtual time: an asyncio loop whose clock jumps, with seeded scheduling, and a hash of what happened.

Any test can run the whole trading process in simulated time. Nothing real is allowed on this loop (sockets, threads,
child processes, signals): what would reach for it raises `EscapedSimulation`, and a loop with nothing left to do raises
`Deadlock` instead of waiting for ever.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import random
import selectors
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, NoReturn, TypeVar, TypeVarTuple

import msgspec

from framework.errors import KernelError
from framework.messages import DomUpdated, Message

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class EscapedSimulation(KernelError):
    """Code on the virtual loop reached for something real."""


class Deadlock(KernelError):
    """Everybody waits and nothing is due."""


class _JumpingSelector(selectors.BaseSelector):
    """A selector without files: being asked to wait, it moves virtual time on."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Move time on by `timeout`. Raises `Deadlock` when asked to wait for ever."""
        if timeout is None:
            raise Deadlock("every task waits and no timer is set")
        self.now_s += max(0.0, timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> NoReturn:  # noqa: ARG002
        """Refuse: no files in virtual time."""
        raise EscapedSimulation("a file or socket was registered on the virtual loop")

    def unregister(self, fileobj: Any) -> NoReturn:  # noqa: ARG002
        """Refuse: no files in virtual time."""
        raise EscapedSimulation("a file or socket was unregistered on the virtual loop")

    def get_map(self) -> dict[Any, Any]:
        """Return no files."""
        return {}


class _Timer(asyncio.TimerHandle):
    """A timer that draws lots with those of exactly its own time; asyncio leaves that order undefined."""

    __slots__ = ("lot",)
    lot: float

    def __lt__(self, other: Any) -> bool:
        return (self.when(), self.lot) < (other.when(), other.lot)


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time. Callbacks that are ready together run in an order drawn from `seed`.

    A task has one ready step at a time, so its own steps keep their order; nobody may rely on the order between tasks, nor
    on that of plain callbacks that `call_soon` set together, nor on that of timers of the same instant. Timers of different
    instants keep their order. What iterates over a set of tasks or futures (the abort of a `TaskGroup`) follows memory
    addresses on any loop: a trace must not depend on it.
    """

    def __init__(self, *, seed: int) -> None:
        super().__init__()
        self._jumper = _JumpingSelector()
        self._selector = self._jumper
        self._random = random.Random(seed)
        self._born: weakref.WeakKeyDictionary[asyncio.Task[Any], None] = weakref.WeakKeyDictionary()

    def time(self) -> float:
        """Return virtual process time, s."""
        return self._jumper.now_s

    def stall(self, seconds: float) -> None:
        """Let time pass inside a callback, as a loop that is blocked does: all that falls due meanwhile is late together."""
        self._jumper.now_s += seconds

    def create_task(self, *arguments: Any, **options: Any) -> asyncio.Task[Any]:
        """Create a task and remember the order."""
        task = super().create_task(*arguments, **options)
        self._born[task] = None
        return task

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that are not done, in order of creation (`asyncio.all_tasks` is a set)."""
        return [task for task in self._born if not task.done()]

    def call_at(
        self, when: float, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call `callback` at virtual time `when`, s."""
        self._check_closed()  # type: ignore[attr-defined]
        timer = _Timer(when, callback, args, self, context)
        timer.lot = self._random.random()
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def call_soon_threadsafe(
        self, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        """Refuse calls from other threads before they change anything."""
        if threading.get_ident() != self._thread_id:  # type: ignore[attr-defined]
            raise EscapedSimulation("another thread called into the virtual loop")
        return self.call_soon(callback, *args, context=context)

    def _run_once(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        if len(ready) > 1:
            shuffled = list(ready)
            self._random.shuffle(shuffled)
            ready.clear()
            ready.extend(shuffled)
        super()._run_once()  # type: ignore[misc]

    def _process_events(self, event_list: list[Any]) -> None:
        """No files, no events."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """There is none."""


REFUSED: Final[dict[str, str]] = {
    "a socket": (
        "add_reader add_writer remove_reader remove_writer sock_accept sock_connect sock_recv sock_recv_into sock_recvfrom"
        " sock_recvfrom_into sock_sendall sock_sendfile sock_sendto sendfile start_tls create_connection create_server"
        " create_datagram_endpoint create_unix_connection create_unix_server connect_accepted_socket getaddrinfo getnameinfo"
    ),
    "a pipe": "connect_read_pipe connect_write_pipe",
    "a child process": "subprocess_exec subprocess_shell",
    "a thread": "run_in_executor set_default_executor",
    "a signal handler": "add_signal_handler remove_signal_handler",
}


def _refusal(what: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise EscapedSimulation(f"{what} was asked for on the virtual loop")

    return refuse


for _what, _names in REFUSED.items():
    for _name in _names.split():
        setattr(SimulatedLoop, _name, _refusal(_what))


def run_simulated(make_coroutine: Callable[[], Coroutine[Any, Any, Result]], *, seed: int) -> Result:
    """Run `make_coroutine()` to its end in virtual time, cancel what is left, and return its result."""
    loop = SimulatedLoop(seed=seed)
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(make_coroutine())
    finally:
        try:
            _cancel_leftovers(loop)
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _cancel_leftovers(loop: SimulatedLoop) -> None:
    leftovers = loop.tasks()
    for task in leftovers:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())


class TraceHash:
    """Hash every message in order (a `tap` of the bus): two runs are the same when their digests are."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._encoder = msgspec.msgpack.Encoder(order="deterministic")
        self.count = 0

    def __call__(self, message: Message) -> None:
        """Take one message."""
        self.count += 1
        self._hash.update(type(message).__name__.encode() + b"\0")
        self._hash.update(self._encoder.encode(_encodable(message)))

    def hexdigest(self) -> str:
        """Return the digest of all messages so far."""
        return self._hash.hexdigest()


def _encodable(message: Message) -> object:
    if not isinstance(message, DomUpdated):
        return message
    # The view is a live object, and its newest row is the book that stands beside it.
    return (message.instrument_id, message.ts_event, message.sequence, message.book)
