"""Virtual time: an asyncio loop whose clock jumps, with seeded scheduling, and a hash of what happened.

Any test can run the whole trading process in simulated time. Nothing real is allowed on this loop (sockets, threads,
child processes, signals): what would reach for it raises `EscapedSimulation`, and a loop with nothing left to do raises
`Deadlock` instead of waiting for ever.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from framework.errors import KernelError
from framework.messages import DomUpdated, Message

Result = TypeVar("Result")
LONGEST_IDLE_S: Final = 30 * 24 * 3600.0


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
        if timeout is None or timeout > LONGEST_IDLE_S:
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


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time. Callbacks that are ready together run in an order drawn from `seed`.

    A task has one ready step at a time, so its own steps keep their order; nobody may rely on the order between tasks.
    """

    def __init__(self, *, seed: int) -> None:
        super().__init__()
        self._jumper = _JumpingSelector()
        self._selector = self._jumper
        self._random = random.Random(seed)

    def time(self) -> float:
        """Return virtual process time, s."""
        return self._jumper.now_s

    def stall(self, seconds: float) -> None:
        """Let time pass inside a callback, as a loop that is blocked does: all that falls due meanwhile is late together."""
        self._jumper.now_s += seconds

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

    def _write_to_self(self) -> NoReturn:
        raise EscapedSimulation("another thread called into the virtual loop")

    def run_in_executor(self, *_: Any) -> NoReturn:  # type: ignore[override]
        """Refuse: no threads in virtual time."""
        raise EscapedSimulation("a thread was asked for on the virtual loop")

    def add_signal_handler(self, *_: Any) -> NoReturn:  # type: ignore[override]
        """Refuse: no signals in virtual time."""
        raise EscapedSimulation("a signal handler was set on the virtual loop")

    async def subprocess_exec(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: no child processes in virtual time."""
        raise EscapedSimulation("a child process was started on the virtual loop")

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """There is none."""


def run_simulated(main: Callable[[], Coroutine[Any, Any, Result]], *, seed: int) -> Result:
    """Run `main()` to its end in virtual time, cancel what is left, and return its result."""
    loop = SimulatedLoop(seed=seed)
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main())
    finally:
        leftovers = asyncio.all_tasks(loop)
        for task in leftovers:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()


class TraceHash:
    """Hash every message in order (a `tap` of the bus): two runs are the same when their digests are."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._encoder = msgspec.msgpack.Encoder(order="deterministic")
        self.count = 0

    def __call__(self, message: Message) -> None:
        """Take one message."""
        self.count += 1
        self._hash.update(type(message).__name__.encode())
        # The view in DomUpdated is a live object, and its row is the book that stands beside it.
        self._hash.update(self._encoder.encode(message.book if isinstance(message, DomUpdated) else message))

    def hexdigest(self) -> str:
        """Return the digest of all messages so far."""
        return self._hash.hexdigest()
