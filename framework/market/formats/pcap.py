"""Packet captures (libpcap, micro- or nanoseconds, either byte order): UDP payloads with the time of the capturing hardware.

Some capture switches append a 20-byte trailer to each frame: 8 bytes, then seconds and nanoseconds of the hardware's receive time, big
endian, then 4 bytes. Where those seconds agree with the packet header they are the better time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from framework.errors import ConfigError, IntegrityError
from framework.market.formats.lines import PlainBytes
from framework.model import NS_PER_S

MAGICS: Final = {
    b"\x4d\x3c\xb2\xa1": ("<", 1), b"\xa1\xb2\x3c\x4d": (">", 1), b"\xd4\xc3\xb2\xa1": ("<", 1_000), b"\xa1\xb2\xc3\xd4": (">", 1_000),
}  # fmt: skip
"""Byte order and ns per unit of the fraction."""
PCAPNG: Final = b"\x0a\x0d\x0d\x0a"

_MAX_FRAME: Final = 256 << 10
_ETHERNET: Final = 1
_IPV4, _VLAN, _UDP = 0x0800, 0x8100, 17
_TRAILER_BYTES: Final = 20
_TRAILER: Final = struct.Struct(">8xII4x")
_MAX_SKEW_S: Final = 10


class Packet(NamedTuple):
    """One UDP payload: number in the file (from 0), receive time (ns UTC), destination port."""

    number: int
    received_ns: int
    port: int
    payload: bytes


def is_head(head: bytes) -> bool:
    """Return whether a file that begins so is a packet capture."""
    return head[:4] in MAGICS or head[:4] == PCAPNG


class Capture:
    """A capture file, read lazily; `share` says how far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.share = 0.0

    def packets(self) -> Iterator[Packet]:
        """Yield the UDP packets. Raises `ConfigError` (not Ethernet, pcapng) or `IntegrityError` (cut or damaged)."""
        with PlainBytes(self.path) as content:
            order, fraction_ns = self._read_header(content.read_exactly(24))
            header = struct.Struct(f"{order}IIII")
            rest = b""
            number = 0
            for block in content.blocks():
                raw = rest + block
                at = 0
                while len(raw) - at >= 16:
                    seconds, fraction, length, _ = header.unpack_from(raw, at)
                    if length > _MAX_FRAME:
                        raise IntegrityError(f"{self.path}: packet {number} claims {length} bytes: cut or damaged; fetch it again")
                    if len(raw) - at - 16 < length:
                        break
                    frame = raw[at + 16 : at + 16 + length]
                    at += 16 + length
                    packet = _udp(number, frame, seconds, fraction * fraction_ns)
                    number += 1
                    if packet is not None:
                        yield packet
                rest = raw[at:]
                self.share = content.share
            if rest:
                raise IntegrityError(f"{self.path}: ends in the middle of packet {number}: it is cut; fetch it again")
        self.share = 1.0

    def _read_header(self, raw: bytes) -> tuple[str, int]:
        if raw[:4] == PCAPNG:
            raise ConfigError(f"{self.path}: is a pcapng file; convert it with: editcap -F nsecpcap IN OUT")
        if raw[:4] not in MAGICS:
            raise ConfigError(f"{self.path}: is no packet capture, it begins with {raw[:4]!r}")
        order, fraction_ns = MAGICS[raw[:4]]
        link = struct.unpack_from(f"{order}I", raw, 20)[0]
        if link != _ETHERNET:
            raise ConfigError(f"{self.path}: captured on link type {link}, allowed is Ethernet (1)")
        return order, fraction_ns


def _udp(number: int, frame: bytes, seconds: int, fraction_ns: int) -> Packet | None:
    at = 14
    if len(frame) < at:
        return None
    kind = int.from_bytes(frame[12:14], "big")
    if kind == _VLAN:
        kind, at = int.from_bytes(frame[16:18], "big"), 18
    if kind != _IPV4 or len(frame) < at + 28 or frame[at + 9] != _UDP:
        return None
    udp = at + (frame[at] & 15) * 4
    port, length = struct.unpack_from(">HH", frame, udp + 2)
    ip_end = at + int.from_bytes(frame[at + 2 : at + 4], "big")
    return Packet(number, _received_ns(frame, ip_end, seconds, fraction_ns), port, frame[udp + 8 : udp + length])


def _received_ns(frame: bytes, ip_end: int, seconds: int, fraction_ns: int) -> int:
    if len(frame) - ip_end >= _TRAILER_BYTES:
        hardware_s, hardware_ns = _TRAILER.unpack_from(frame, len(frame) - _TRAILER_BYTES)
        if abs(hardware_s - seconds) <= _MAX_SKEW_S and hardware_ns < NS_PER_S:
            return int(hardware_s * NS_PER_S + hardware_ns)
    return seconds * NS_PER_S + fraction_ns
