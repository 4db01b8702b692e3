"""Unix sockets in a directory of our own: short addresses, and who is at the other end."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_CREDENTIALS: Final = struct.Struct("iII")  # pid, uid, gid (socket(7), SO_PEERCRED)


@contextmanager
def short_address(directory: Path, name: str) -> Iterator[str]:
    """Yield an address of a socket that is short whatever its directory is called (the kernel allows 108 bytes)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def listen(directory: Path, name: str) -> socket.socket:
    """Return a socket that is bound in a directory, mode 0600, and does not block. What lies there is taken away. Raises `OSError`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        (directory / name).unlink(missing_ok=True)
        with short_address(directory, name) as address:
            listener.bind(address)
        (directory / name).chmod(0o600)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def connect(directory: Path, name: str, timeout_s: float) -> socket.socket:
    """Return a connection to a socket in a directory; every wait on it ends after `timeout_s`. Raises `OSError`."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(timeout_s)
        with short_address(directory, name) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def peer_uid(connection: socket.socket) -> int:
    """Return the user of the process at the other end: the kernel says so."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(credentials)[1]
    return uid


def is_ours(connection: socket.socket) -> bool:
    """Return whether the process at the other end is of this user or root."""
    return peer_uid(connection) in {os.geteuid(), 0}


def is_served(directory: Path, name: str, timeout_s: float = 1.0) -> bool:
    """Return whether somebody listens at a socket in a directory."""
    try:
        connect(directory, name, timeout_s).close()
    except OSError:
        return False
    return True
