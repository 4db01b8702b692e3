"""Files read as they are decompressed, block by block or line by line, whatever they are compressed with."""

from __future__ import annotations

import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa

from framework.errors import ConfigError, IntegrityError

BLOCK_BYTES: Final = 256 << 10
MAX_LINE_BYTES: Final = 8 << 20
HEAD_BYTES: Final = 64 << 10
BROKEN: Final = (pa.ArrowException, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RuntimeError)
"""What a cut or damaged file raises while it is read."""

_ZIP: Final = b"PK\x03\x04"
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_XZ: Final = b"\xfd7zXZ\x00"


class PlainBytes:
    """The content of a file, decompressed (gzip, zstd, xz, the only data file of a zip) or as it is. A context manager.

    `share` says how much of the file was read, 0 to 1. Raises `IntegrityError` for a cut or damaged file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()
        self._bytes = 1

    def __enter__(self) -> PlainBytes:
        try:
            self._raw = self._stack.enter_context(self.path.open("rb"))
            self._bytes = max(1, self.path.stat().st_size)
            self._file = _opened(self._raw, self.path)
        except BROKEN as exc:
            self._stack.close()
            raise damaged(self.path, exc) from exc
        except ConfigError:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def share(self) -> float:
        """Return how much of the file was read."""
        return 1.0 if self._raw.closed else min(1.0, self._raw.tell() / self._bytes)

    def read(self, count: int) -> bytes:
        """Return the next bytes, at most `count`; none at the end."""
        try:
            return bytes(self._file.read(count))
        except BROKEN as exc:
            raise damaged(self.path, exc) from exc

    def read_exactly(self, count: int) -> bytes:
        """Return the next `count` bytes. Raises `IntegrityError` if the file ends before."""
        parts: list[bytes] = []
        while count and (part := self.read(count)):
            parts.append(part)
            count -= len(part)
        if count:
            raise IntegrityError(f"{self.path}: ends in the middle of a record; fetch it again")
        return b"".join(parts)

    def blocks(self) -> Iterator[bytes]:
        """Yield the content in blocks."""
        while block := self.read(BLOCK_BYTES):
            yield block

    def lines(self) -> Iterator[bytes]:
        """Yield the lines without their ends (LF; a CR before it stays). Raises `IntegrityError` for one of more than 8 MiB."""
        rest = b""
        for block in self.blocks():
            first, *others = block.split(b"\n")
            rest += first
            if others:
                yield rest
                yield from others[:-1]
                rest = others[-1]
            if len(rest) > MAX_LINE_BYTES:
                raise IntegrityError(f"{self.path}: a line of more than {MAX_LINE_BYTES} bytes: a damaged file, or no text; fetch it again")
        if rest:
            yield rest


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file's content, decompressed. Raises `IntegrityError`."""
    with PlainBytes(path) as content:
        return content.read(HEAD_BYTES)


def damaged(path: Path, exc: BaseException) -> IntegrityError:
    """Return the error for a file that is cut or damaged."""
    return IntegrityError(f"{path}: cut or damaged: {str(exc)[:200] or type(exc).__name__}; fetch it again")


def _opened(raw: IO[bytes], path: Path) -> Any:
    magic = raw.read(6)
    raw.seek(0)
    if magic.startswith(_GZIP):
        return gzip.open(raw)
    if magic.startswith(_ZSTD):
        return pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
    if magic == _XZ:
        return lzma.open(raw)
    return _member(raw, path) if magic.startswith(_ZIP) else raw


def _member(raw: IO[bytes], path: Path) -> IO[bytes]:
    archive = zipfile.ZipFile(raw)
    names = [name for name in archive.namelist() if not name.endswith(("/", ".txt", ".md", ".CHECKSUM"))]
    if len(names) != 1:
        raise ConfigError(f"{path}: holds {len(names)} data files, which of them nobody can say; unpack it and name the files")
    return archive.open(names[0])
