"""What hostile peers do: each attack runs until its time is over and returns how often it did it, and what it got for it."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, NamedTuple

import zmq

from framework import wire
from framework.operations.control import SOCKET_NAME
from framework.wire import MAX_FRAME_BYTES
from tests.benchmarks.bench_prediction_round_trip import make_window

CROWD: Final = 20
SILENT: Final = 100
GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
"""The first 64 bytes of ZMTP 3.0, after which a peer would have to say READY."""
BITE_S: Final = 0.02


class Keys(NamedTuple):
    """What an attacker has for CURVE: a pair of its own that nobody allowed, and the server's public key."""

    public: bytes
    secret: bytes
    server: bytes


class Target(NamedTuple):
    """Where to go; `keys` if the service wants some."""

    at: str
    keys: Keys | None = None


Attack = Callable[[Target, float], tuple[int, int]]


# --- on the ML process' socket -----------------------------------------------------------------------------------------------------


def dealer(target: Target, keys: Keys | None = None) -> zmq.Socket[bytes]:
    """Return a connected DEALER."""
    one: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    one.linger = 0
    one.sndhwm = 100
    if keys is not None:
        one.curve_publickey, one.curve_secretkey, one.curve_serverkey = keys
    one.connect(target.at)
    return one


def request(name: str, rows: int = 100) -> list[bytes]:
    """Return a sound request."""
    window = make_window(rows=rows)
    return [b"", wire.encode(wire.predict_request(window, request_id=name, timeout_ms=1_000.0)), wire.encode_window(window)]


def _crowd(target: Target, end_s: float, messages: list[list[bytes]], *, keys: Keys | None = None, reads: bool = False) -> tuple[int, int]:
    """Let twenty connections send as fast as they are taken; count what was sent and what came back."""
    sent = received = 0
    with ExitStack() as stack:
        many = [stack.enter_context(dealer(target, keys)) for _ in range(CROWD)]
        while time.monotonic() < end_s:
            before = sent
            for one in many:
                with suppress(zmq.Again):
                    one.send_multipart(messages[sent % len(messages)], zmq.NOBLOCK)
                    sent += 1
                while reads and one.poll(0):
                    one.recv_multipart()
                    received += 1
            if sent == before:
                time.sleep(BITE_S)
    return sent, received


def flood(target: Target, end_s: float) -> tuple[int, int]:
    """Send the largest sound requests over 20 connections, and never read."""
    return _crowd(target, end_s, [request(f"flood-{number}", wire.MAX_WINDOW_ROWS) for number in range(4)])


def garbage(target: Target, end_s: float) -> tuple[int, int]:
    """Send the largest frames of noise over 20 connections."""
    return _crowd(target, end_s, [[b"", os.urandom(300), os.urandom(MAX_FRAME_BYTES)], [os.urandom(MAX_FRAME_BYTES)]])


def many_frames(target: Target, end_s: float) -> tuple[int, int]:
    """Send messages of thousands of frames."""
    return _crowd(target, end_s, [[b"x" * 500] * 5_000])


def too_large(target: Target, end_s: float) -> tuple[int, int]:
    """Send frames that are too long."""
    return _crowd(target, end_s, [[b"", bytes(4 * MAX_FRAME_BYTES)]])


def without_keys(target: Target, end_s: float) -> tuple[int, int]:
    """Ask without any keys, and hope for an answer."""
    return _crowd(target, end_s, [request("stranger")], reads=True)


def with_wrong_keys(target: Target, end_s: float) -> tuple[int, int]:
    """Ask with keys that nobody allowed, and hope for an answer."""
    return _crowd(target, end_s, [request("stranger")], keys=target.keys, reads=True)


def _tcp(target: Target) -> socket.socket:
    host, _, port = target.at.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=2)


def strangers(target: Target, end_s: float) -> tuple[int, int]:
    """Open connections one after the other and write what is no ZMTP."""
    rng, done = random.Random(1), 0
    while time.monotonic() < end_s:
        with suppress(OSError), _tcp(target) as one:
            one.sendall(rng.choice((b"GET / HTTP/1.1\r\n\r\n", rng.randbytes(20_000), GREETING + rng.randbytes(5_000))))
            done += 1
        time.sleep(BITE_S / 4)
    return done, 0


def half_open(target: Target, end_s: float) -> tuple[int, int]:
    """Open a hundred connections, begin to greet, and say no more."""
    return _silent(lambda: _tcp(target), (b"", GREETING[:10], GREETING), end_s)


def _silent(connect: Callable[[], socket.socket], words: tuple[bytes, ...], end_s: float) -> tuple[int, int]:
    with ExitStack() as stack:
        for number in range(SILENT):
            with suppress(OSError):
                one = stack.enter_context(connect())
                one.sendall(words[number % len(words)])
        time.sleep(max(0.0, end_s - time.monotonic()))
    return SILENT, 0


def all_at_once(target: Target, end_s: float) -> tuple[int, int]:
    """Do everything at the same time, each over connections of its own."""
    done: list[tuple[int, int]] = []
    threads = [
        threading.Thread(target=lambda act=act: done.append(act(target, end_s)))
        for act in (flood, garbage, many_frames, too_large, strangers, half_open)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return sum(number for number, _ in done), sum(got for _, got in done)


# --- on the operator's socket ------------------------------------------------------------------------------------------------------


def _unix(target: Target) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(2.0)
    one.connect(str(Path(target.at) / SOCKET_NAME))
    return one


def _lines(target: Target, end_s: float, lines: Callable[[], Iterator[bytes]]) -> tuple[int, int]:
    """Let twenty threads connect, write and leave, again and again."""
    counts = [0] * CROWD

    def attack(number: int) -> None:
        while time.monotonic() < end_s:
            with suppress(OSError), _unix(target) as one:
                for line in lines():
                    one.sendall(line)
                counts[number] += 1
            time.sleep(BITE_S)

    threads = [threading.Thread(target=attack, args=(number,)) for number in range(CROWD)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return sum(counts), 0


def endless_lines(target: Target, end_s: float) -> tuple[int, int]:
    """Write lines that do not end."""
    return _lines(target, end_s, lambda: iter([b"x" * (1 << 20)] * 8))


def noise(target: Target, end_s: float) -> tuple[int, int]:
    """Write what is no command."""
    return _lines(target, end_s, lambda: iter([b'{"command":"stat\n', os.urandom(5_000) + b"\n"]))


def commands(target: Target, end_s: float) -> tuple[int, int]:
    """Send sound commands as fast as possible and do not read the answers."""
    return _lines(target, end_s, lambda: iter([b'{"command":"ping"}\n']))


def silent(target: Target, end_s: float) -> tuple[int, int]:
    """Open a hundred connections and say nothing, or half a command."""
    return _silent(lambda: _unix(target), (b"", b'{"command":'), end_s)


ON_SERVICE: Final[dict[str, Attack]] = {
    "20 connections flood": flood,
    "garbage": garbage,
    "thousands of frames": many_frames,
    "frames too long": too_large,
    "other protocols": strangers,
    "half-open connections": half_open,
    "all at once": all_at_once,
}
ON_KEYED: Final[dict[str, Attack]] = {"no keys": without_keys, "wrong keys": with_wrong_keys, "half-open connections": half_open}
ON_CONTROL: Final[dict[str, Attack]] = {
    "endless lines": endless_lines,
    "garbage": noise,
    "20 connections command": commands,
    "silent connections": silent,
}
