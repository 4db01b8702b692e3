"""Requests that wait, client by client in turn, so that one that floods makes itself wait and nobody else."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, NamedTuple

MAX_PER_CLIENT: Final = 128
MAX_CLIENTS: Final = 64
MAX_BYTES: Final = 32 << 20


class Waiting(NamedTuple):
    """One message: the envelope to answer to (the client's identity first), its frames, when it came in, their bytes."""

    envelope: list[bytes]
    frames: list[bytes]
    received_s: float
    size: int


class WaitingRoom:
    """At most 128 messages of each of 64 clients, 64 MiB in all; what has no place is refused by `put`."""

    def __init__(self, *, per_client: int = MAX_PER_CLIENT, clients: int = MAX_CLIENTS, most_bytes: int = MAX_BYTES) -> None:
        self._per_client = per_client
        self._clients = clients
        self._most_bytes = most_bytes
        self._lines: OrderedDict[bytes, deque[Waiting]] = OrderedDict()
        self._bytes = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, message: Waiting) -> bool:
        """Let a message wait behind those of its client; False if there is no place for it."""
        line = self._lines.get(message.envelope[0])
        if self._bytes + message.size > self._most_bytes or (line is None and len(self._lines) >= self._clients):
            return False
        if line is None:
            line = self._lines[message.envelope[0]] = deque()
        elif len(line) >= self._per_client:
            return False
        line.append(message)
        self._bytes += message.size
        self._count += 1
        return True

    def next(self) -> Waiting:
        """Return the oldest message of the client whose turn it is."""
        client, line = next(iter(self._lines.items()))
        message = line.popleft()
        if line:
            self._lines.move_to_end(client)
        else:
            del self._lines[client]
        self._bytes -= message.size
        self._count -= 1
        return message
