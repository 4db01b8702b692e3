"""Stub ML processes that are there in milliseconds: forked from one that has imported everything, so that a thousand can be killed.

`Nursery(path)` is the mother; `argv(path)` is the command line of a child. That is a small program which hands its pipes to the mother,
lives as long as the service that she forks, and dies with it; if it is killed, the service is.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from framework.parent_death import die_with_parent
from ml_actor.composition import warm_up
from tests.inference import stub_service

ROOT: Final = Path(__file__).resolve().parents[2]
LAUNCHER: Final = """
import socket, sys
with socket.socket(socket.AF_UNIX) as mother:
    mother.connect(sys.argv[1])
    socket.send_fds(mother, [b"x"], [0, 1, 2])
    mother.recv(1)
"""


def argv(path: Path) -> tuple[str, ...]:
    """Return the command line of one service."""
    return (sys.executable, "-I", "-S", "-c", LAUNCHER, str(path))


class Nursery:
    """The mother, as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Nursery:
        self._mother = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery", str(self._path)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
            stdout=subprocess.PIPE,
        )
        assert self._mother.stdout is not None
        self._mother.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        self._mother.kill()
        self._mother.wait()
        assert self._mother.stdout is not None
        self._mother.stdout.close()


# --- the mother ---------------------------------------------------------------------------------------------------------------


def _fork(connection: socket.socket, listener: socket.socket) -> int:
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
    pid = os.fork()
    if pid == 0:
        listener.close()
        connection.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        _serve()
    for descriptor in descriptors:
        os.close(descriptor)
    return pid


def _serve() -> None:
    """Be a stub service until its end; never return."""
    try:
        die_with_parent()
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        uvloop.run(stub_service.main("tcp://127.0.0.1:0", 0.0))
    finally:
        os._exit(0)


class _Pair(NamedTuple):
    """A launcher's connection, and the service that was forked for it."""

    connection: socket.socket
    watch: int
    pid: int


def _attend(listener: socket.socket) -> None:
    """Fork for whoever connects; see to it that launcher and service end together."""
    watched = selectors.DefaultSelector()
    watched.register(listener, selectors.EVENT_READ)
    while True:
        ready = {key.data: None for key, _ in watched.select()}  # both of a pair may be ready at once
        for pair in ready:
            if pair is not None:
                _end(pair, watched)
                continue
            connection, _ = listener.accept()
            pid = _fork(connection, listener)
            born = _Pair(connection, os.pidfd_open(pid), pid)
            for one in (born.connection, born.watch):
                watched.register(one, selectors.EVENT_READ, born)


def _end(pair: _Pair, watched: selectors.BaseSelector) -> None:
    with suppress(ProcessLookupError):
        os.kill(pair.pid, signal.SIGKILL)
    os.waitpid(pair.pid, 0)
    for one in (pair.connection, pair.watch):
        watched.unregister(one)
    os.close(pair.watch)
    pair.connection.close()


def main(path: str) -> None:
    """Listen until somebody kills us."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        warm_up(100)
        print("up", flush=True)
        _attend(listener)


if __name__ == "__main__":
    die_with_parent()
    main(sys.argv[1])
