"""Sound frames in, broken ones out: seeded and fast (microseconds a case), so that case N of a seed is the same bytes everywhere."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

JUNK: Final = (
    b"\xc1",
    b"\xc0",
    b"\xdb\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\x7f\xff\xff\xff",
    b"\xd8\x01" + b"x" * 16,
    b"\xc7\xff\x01" + b"x" * 8,
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80" + b"\0" * 7,
    b"\xcb\x7f\xf8" + b"\0" * 6,
    b"\xcb\x7f\xf0" + b"\0" * 6,
    b"\x91" * 40,
    b"\x81" * 40,
    b"\x91" * 5_000,
    b"[" * 5_000,
    b'{"a":' * 2_000,
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0.0",
    b"9" * 40,
    b"9" * 5_000,
    b"18446744073709551616",
    b'"\\ud800"',
    b"\\u0000",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b'"2024-02-30T25:61:61Z"',
    b'"0000-01-01T00:00:00Z"',
    b'"9999-12-31T23:59:59-23:59"',
    b"\xff\xfe\xfd",
    b"\0" * 16,
    b"\x80\x04\x95cos\nsystem\n",
)


class Mutator:
    """Sound frames in, broken ones out; the same seed breaks them in the same way."""

    def __init__(self, sound: Sequence[bytes], seed: int) -> None:
        self._sound = sound
        self._rng = random.Random(seed)
        self._ways: tuple[Callable[[bytearray], bytearray], ...] = (
            self._flip,
            self._flip,
            self._set,
            self._junk,
            self._junk,
            self._over,
            self._cut,
            self._hole,
            self._twice,
            self._splice,
            self._float,
        )

    def next(self) -> bytes:
        """Return the next broken frame (one in a hundred stays sound, as far as one mutation can)."""
        rng = self._rng
        frame = bytearray(rng.choice(self._sound))
        for _ in range(1 if rng.random() < 0.7 else rng.randint(2, 5)):
            frame = rng.choice(self._ways)(frame) if frame else bytearray(rng.randbytes(4))
        return bytes(frame)

    def _at(self, frame: bytearray) -> int:
        return int(self._rng.random() * len(frame))

    def _flip(self, frame: bytearray) -> bytearray:
        frame[self._at(frame)] ^= 1 << int(self._rng.random() * 8)
        return frame

    def _set(self, frame: bytearray) -> bytearray:
        frame[self._at(frame)] = self._rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x5B, 0x7B, int(self._rng.random() * 256)))
        return frame

    def _junk(self, frame: bytearray) -> bytearray:
        at = self._at(frame)
        frame[at:at] = self._rng.choice(JUNK)
        return frame

    def _over(self, frame: bytearray) -> bytearray:
        """Put junk where a value may be: over what stands between two commas, colons or brackets, or anywhere."""
        at = self._at(frame)
        begins = [found for found in (frame.find(mark, at) for mark in (b":", b",", b"[")) if found >= 0]
        begin = min(begins) + 1 if begins else at
        ends = [found for found in (frame.find(mark, begin) for mark in (b",", b"}", b"]")) if found >= 0]
        frame[begin : min(ends) if ends else begin + int(self._rng.random() * 9)] = self._rng.choice(JUNK)
        return frame

    def _cut(self, frame: bytearray) -> bytearray:
        return frame[: self._at(frame)]

    def _hole(self, frame: bytearray) -> bytearray:
        at = self._at(frame)
        del frame[at : at + 1 + int(self._rng.random() * 40)]
        return frame

    def _twice(self, frame: bytearray) -> bytearray:
        at = self._at(frame)
        frame[at:at] = frame[at : at + 1 + int(self._rng.random() * 60)]
        return frame

    def _splice(self, frame: bytearray) -> bytearray:
        other = self._rng.choice(self._sound)
        return frame[: self._at(frame)] + other[int(self._rng.random() * len(other)) :]

    def _float(self, frame: bytearray) -> bytearray:
        """Write a number that is none, or an extreme one, over eight aligned bytes."""
        at = self._at(frame) & ~7
        extreme = self._rng.choice((b"\0\0\0\0\0\0\xf8\x7f", b"\0\0\xc0\x7f\0\0\x80\xff", b"\xff" * 7 + b"\x7f", b"\0" * 7 + b"\x80"))
        frame[at : at + 8] = extreme[: len(frame) - at]
        return frame
