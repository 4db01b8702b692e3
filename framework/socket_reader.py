"""Messages of a zmq socket straight from the event loop, without a future for each of them.

A future costs the loop one more turn and about 10 us per message. The price: libzmq's descriptor tells of work inside
libzmq, not of messages, and any call on the socket may use up its wake-up (zmq_getsockopt(3), ZMQ_FD). So who sends
on the socket calls `wake` afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import zmq


class SocketReader:
    """Call `turn` on the running loop whenever `receive` may have something. Nobody else may await on this socket.

    A turn takes as many messages as it likes; if it leaves some, or anything else to do, it calls `again`. A `turn` that
    raises goes to the loop's exception handler, and reading goes on.
    """

    def __init__(self, socket: zmq.Socket[bytes], turn: Callable[[], None]) -> None:
        self._socket: Any = socket
        self._turn = turn
        self._fd = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next: asyncio.Handle | None = None

    def start(self) -> None:
        """Read from now on, what is there already included."""
        self._loop = asyncio.get_running_loop()
        self._fd = self._socket.get(zmq.FD)
        self._loop.add_reader(self._fd, self._turn)
        self.again()

    def stop(self) -> None:
        """Read no more. To be called before the socket closes."""
        if self._loop is None:
            return
        self._loop.remove_reader(self._fd)
        if self._next is not None:
            self._next.cancel()
        self._loop = self._next = None

    def receive(self) -> list[bytes] | None:
        """Return the next message; None if there is none now. Raises `zmq.ZMQError`."""
        return self._socket.recv_multipart(zmq.NOBLOCK) if self._is_readable() else None

    def again(self) -> None:
        """Have another turn soon; one is enough, however often this is called."""
        if self._next is None and self._loop is not None:
            self._next = self._loop.call_soon(self._take_turn)

    def wake(self) -> None:
        """Have a turn if something can be read: what comes in while one sends wakes nobody."""
        if self._is_readable():
            self.again()

    def _is_readable(self) -> bool:
        return bool(self._socket.get(zmq.EVENTS) & zmq.POLLIN)

    def _take_turn(self) -> None:
        self._next = None
        self._turn()
