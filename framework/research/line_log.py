"""A log of lines that several processes may share: JSON, only ever appended, each on disk before it counts."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Generic, TypeVar

import msgspec

from framework.errors import IntegrityError, StorageError

Line = TypeVar("Line")


class LineLog(Generic[Line]):
    """The lines of a file, of one kind. A line that a power loss cut is dropped.

    Raises `StorageError` if the disk does not take a line, `IntegrityError` if there is something else in the file.
    """

    def __init__(self, path: Path, kind: type[Line]) -> None:
        self._path = path
        self._kind = kind

    def append(self, make: Callable[[list[Line]], Line]) -> list[Line]:
        """Append what `make` makes of the lines that are there, with nobody in between; return all of them."""
        with self._open() as file:
            lines = self._read(file)
            lines.append(make(lines))
            file.write(msgspec.json.encode(lines[-1]) + b"\n")
            os.fsync(file.fileno())
        return lines

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        """Give the file, for us alone as long as the block lasts."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
        except OSError as exc:
            raise StorageError(f"{self._path}: the try cannot be recorded: {exc.strerror}; every look at a test has to be counted") from exc

    def _read(self, file: IO[bytes]) -> list[Line]:
        """Return the whole lines, and leave the file at their end, without what a power loss cut."""
        content = file.read()
        end = content.rfind(b"\n") + 1
        file.seek(end)
        file.truncate()
        try:
            return [msgspec.json.decode(line, type=self._kind) for line in content[:end].splitlines()]
        except msgspec.DecodeError as exc:
            raise IntegrityError(f"{self._path}: a line is not one of ours ({exc}); move the file away to count anew") from exc
