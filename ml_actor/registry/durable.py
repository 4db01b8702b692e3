"""Files that are there whole or not at all, whatever kills the process or the power."""

from __future__ import annotations

import os
from pathlib import Path

from framework.errors import IntegrityError


def read_at_most(path: Path, most: int) -> bytes:
    """Read a file whole, at most one byte more than allowed. Raises `IntegrityError` if it is not there."""
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as exc:
        raise IntegrityError(f"{path}: cannot be read ({exc.strerror}); roll back or retrain") from exc


def write_synced(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 and wait until the disk has it. Not atomic: for names that nobody reads yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, content: bytes) -> None:
    """Replace a file atomically: readers see the old bytes or the new ones."""
    temporary = path.with_name(f".new-{path.name}")
    write_synced(temporary, content)
    os.replace(temporary, path)
    sync_directory(path.parent)


def append_line(path: Path, line: bytes) -> None:
    """Append a line and wait until the disk has it. A line that a crash cut off before stays one unreadable line."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        file.write(b"\n" * is_torn + line + b"\n")
        os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Wait until the disk has the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
