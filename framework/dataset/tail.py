"""The tail: rows since the last sealed part, in a file that a kill at any instant leaves readable.

After the magic comes a header record, then one record per append: `u32` length, `u32` CRC-32 of the payload (little endian),
payload (msgpack). Records are written with one `write` each, so the death of the process tears none; the loss of power
may tear the last ones, which the checksum shows.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from framework.dataset.parts import replace_file
from framework.dataset.schema import ROW_FIELDS
from framework.errors import StartRefused, StorageError
from framework.window import FLOW_COLUMNS, LEVELS, ROW_SCHEMA_HASH, Rows

TAIL: Final = "_tail.bin"
DAMAGED_TAIL: Final = "_tail.damaged"
_MAGIC: Final = b"TIDETAIL"
_HEAD: Final = struct.Struct("<II")
_DTYPES: Final = ("<i8", "<i8", "<i8", "<i4", "<f4", "<i4", "<f4", "<f4")
_SHAPES: Final = ((), (), (), (LEVELS,), (LEVELS,), (LEVELS,), (LEVELS,), (len(FLOW_COLUMNS),))


class _Header(msgspec.Struct, array_like=True, frozen=True):
    schema: str
    first_total: int


class Block(msgspec.Struct, array_like=True, frozen=True):
    """Consecutive rows of one instrument, as they stand in the tail (arrays as little-endian bytes in `ROW_FIELDS` order)."""

    instrument_id: str
    tick_size: float
    has_trades: bool
    count: int
    arrays: list[bytes]

    def rows(self) -> Rows:
        """Return the rows as arrays."""
        parts = zip(ROW_FIELDS, _DTYPES, _SHAPES, self.arrays, strict=True)
        fields: dict[str, Any] = {name: np.frombuffer(raw, dtype).reshape(self.count, *shape) for name, dtype, shape, raw in parts}
        return Rows(**fields)


def to_block(instrument_id: str, tick_size: float, rows: Rows, *, has_trades: bool) -> Block:
    """Return `rows` as one block of bytes."""
    arrays = [np.ascontiguousarray(getattr(rows, name), dtype).tobytes() for name, dtype in zip(ROW_FIELDS, _DTYPES, strict=True)]
    return Block(instrument_id, tick_size, has_trades, len(rows), arrays)


class Tail:
    """The open tail of one writer, which holds the directory's lock through it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / TAIL
        self.lost_bytes = 0
        self._descriptor = -1

    def open(self, sealed_rows: int) -> list[Block]:
        """Lock the file and return the blocks of a tail that `sealed_rows` has not overtaken.

        What follows the first torn record (or all, if its rows are of another schema) is counted in `lost_bytes`, and the file is
        kept as `_tail.damaged`. Raises `StartRefused` if another process has the lock.
        """
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = self.path.read_bytes()
        except BlockingIOError as exc:
            os.close(self._descriptor)
            raise StartRefused(f"{self.path.parent}: another process writes this dataset; stop it or choose another directory") from exc
        except OSError as exc:
            raise StorageError(f"{self.path}: cannot be opened: {exc.strerror}") from exc
        blocks = self._parse(content, sealed_rows)
        if self.lost_bytes:
            replace_file(self.path.with_name(DAMAGED_TAIL), content)
        return blocks

    def append(self, block: Block) -> None:
        """Write one record. Raises `StorageError`."""
        self._write(_record(msgspec.msgpack.encode(block)))

    def restart(self, sealed_rows: int) -> None:
        """Empty the tail: everything up to `sealed_rows` is in parts."""
        try:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        except OSError as exc:
            raise StorageError(f"{self.path}: cannot be emptied: {exc.strerror}") from exc
        self._write(_MAGIC + _record(msgspec.msgpack.encode(_Header(ROW_SCHEMA_HASH, sealed_rows))))

    def close(self) -> None:
        """Close the file and give up the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, record: bytes) -> None:
        begin = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        try:
            written = os.write(self._descriptor, record)
            if written != len(record):
                raise OSError(None, f"disk full after {written} of {len(record)} bytes")
        except OSError as exc:
            # A half-written record would hide every record after it.
            os.ftruncate(self._descriptor, begin)
            os.lseek(self._descriptor, begin, os.SEEK_SET)
            raise StorageError(f"{self.path}: cannot be written: {exc.strerror}; free space or choose another directory") from exc

    def _parse(self, content: bytes, sealed_rows: int) -> list[Block]:
        if not content:
            return []
        payloads, used = _split(content)
        self.lost_bytes = len(content) - used
        try:
            header = msgspec.msgpack.decode(payloads[0], type=_Header) if payloads else _Header("", 0)
            if header.schema != ROW_SCHEMA_HASH:
                self.lost_bytes = len(content)
                return []
            if header.first_total < sealed_rows:
                self.lost_bytes = 0
                return []
            return [msgspec.msgpack.decode(payload, type=Block) for payload in payloads[1:]]
        except msgspec.DecodeError:  # the checksum holds, so this was written by another version
            self.lost_bytes = len(content)
            return []


def peek(directory: Path, sealed_rows: int) -> list[Block]:
    """Return the blocks of a tail as it is at this instant, without its lock: a writer may go on meanwhile.

    Empty where there is none, or where `sealed_rows` has overtaken it. Raises `StorageError`.
    """
    tail = Tail(directory)
    try:
        content = tail.path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise StorageError(f"{tail.path}: cannot be read: {exc.strerror}") from exc
    return tail._parse(content, sealed_rows)


def _record(payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def _split(content: bytes) -> tuple[list[bytes], int]:
    """Return the payloads up to the first torn record, and how many bytes they take."""
    if not content.startswith(_MAGIC):
        return [], 0
    payloads = []
    offset = len(_MAGIC)
    while offset + _HEAD.size <= len(content):
        length, checksum = _HEAD.unpack_from(content, offset)
        payload = content[offset + _HEAD.size : offset + _HEAD.size + length]
        if len(payload) != length or zlib.crc32(payload) != checksum:
            break
        payloads.append(payload)
        offset += _HEAD.size + length
    return payloads, offset
