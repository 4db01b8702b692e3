"""CME MDP 3.0 from packet captures of its incremental feeds A and B: arbitration, and the book by price of the busiest security.

Both feeds carry the same packets; of each the first to arrive counts. What neither carries is a gap: the session closes, the book is
forgotten, and opens when it is whole again. A book is built by the venue's rules for market by price (new inserts and pushes down, delete
pulls up, ten levels) and looked at only where an event ends. The slice has no snapshot: nothing is shown until all twenty
levels are known. Times are the venue's `TransactTime` and the capture hardware's receive time.

Layouts: CME MDP 3.0 SBE schema 1, templates 46 (book refresh) and 48 (trade summary); others are passed over and counted in `notes`.
"""

from __future__ import annotations

import heapq
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, Final

from framework.errors import ConfigError, IntegrityError
from framework.market.formats.definitions import find_instrument, securities_beside
from framework.market.formats.mdp3_book import SecurityBook
from framework.market.formats.pcap import Capture, Packet
from framework.messages import MarketEvent
from framework.model import Instrument

CHANNELS: Final = {310: "ES", 318: "NQ", 342: "RTY", 344: "YM"}
"""Root symbol of the futures on a channel; the last three digits of the UDP port name the channel."""
SCHEMA: Final = 1
BOOK: Final = 46
ORDERS: Final = 47
TRADES: Final = 48
RESET: Final = 4
END_OF_EVENT: Final = 0x80
MAX_WAITING: Final = 10_000

_PACKET_HEAD: Final = struct.Struct("<IQ")
_MESSAGE_HEAD: Final = struct.Struct("<HHHHH")
_BLOCK: Final = struct.Struct("<QB")
_GROUP: Final = struct.Struct("<HB")
_BOOK_ENTRY: Final = struct.Struct("<qiIIiBBc")
_TRADE_ENTRY: Final = struct.Struct("<qiIIiBB")
_MIN_ENTRY: Final = {BOOK: _BOOK_ENTRY.size, TRADES: _TRADE_ENTRY.size}

Entries = list[tuple[Any, ...]]


class Mdp3Source:
    """One channel from one capture, or from those of both of its feeds. Opening reads each once, from end to end.

    Raises `ConfigError` (no MDP 3.0, another version, different channels) or `IntegrityError` (cut or damaged).
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.path = paths[0]
        self.paths = tuple(paths)
        self.read_share = 0.0
        self.next_sequence = 0
        self.packet = 0
        self.notes: Counter[str] = Counter()
        self._captures = [Capture(path) for path in paths]
        self._names = [path.name for path in paths]
        self._entries: Counter[int] = Counter()
        self._has_orders = False
        self._channels: set[int] = set()
        self.start_ns = self.end_ns = 0
        for capture in self._captures:
            self._scan(capture)
        self._books = self._choose()
        self.instruments: tuple[Instrument, ...] = tuple(book.instrument for book in self._books.values())

    def where(self) -> str:
        """Return which packet the last event came from, by its sequence number."""
        return f"packet {self.packet}"

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield trades as they come and the book at the ends of events, numbered from `first_sequence`."""
        self.next_sequence = first_sequence
        self.notes.clear()
        self._books = self._choose()
        received_ns = 0
        for packet, is_after_gap in self._arbitrated():
            # A packet that waited for the one before it is known since that one came.
            received_ns = max(received_ns, packet.received_ns)
            if is_after_gap:
                yield from self._numbered(self._forget(received_ns))
            yield from self._numbered(self._take(packet, received_ns))
        self.read_share = 1.0

    def _numbered(self, events: Iterator[MarketEvent]) -> Iterator[MarketEvent]:
        for event in events:
            yield event
            self.next_sequence += 1

    # --- what the captures hold -----------------------------------------------------------------------------------------------

    def _scan(self, capture: Capture) -> None:
        last: int | None = None
        for packet in capture.packets():
            if last is not None and packet.received_ns < last:
                raise ConfigError(
                    f"{capture.path}: packet {packet.number} was captured before the one above it; sort it: reordercap IN OUT"
                )
            last = packet.received_ns
            self._channels.add(packet.port % 1_000)
            self.start_ns = min(self.start_ns or packet.received_ns, packet.received_ns)
            for template, _, entries in _messages(packet, capture.path):
                self._has_orders |= template == ORDERS
                if template == BOOK:
                    self._entries.update(entry[2] for entry in entries)
        if last is None:
            raise ConfigError(f"{capture.path}: holds no UDP packets")
        self.end_ns = max(self.end_ns, last)

    def _choose(self) -> dict[int, SecurityBook]:
        if len(self._channels) != 1:
            raise ConfigError(f"{self.path}: must hold one channel, found {sorted(self._channels)}; split the capture by UDP port")
        if not self._entries:
            if self._has_orders:
                raise ConfigError(
                    f"{self.path}: holds single orders (template {ORDERS}) and no price levels (template {BOOK}): captures of orders alone "
                    "are not read; capture the channel's refreshes of price levels too, or bring the same hours as Databento mbo"
                )
            raise ConfigError(f"{self.path}: holds no book refresh (template {BOOK}); captures of MDP 3.0 version 9 and later are read")
        written = {number: one for number, one in securities_beside(self.path).items() if number in self._entries}
        if written:
            return {number: SecurityBook(one) for number, one in written.items()}
        busiest = self._entries.most_common(1)[0][0]
        return {busiest: SecurityBook(self._named(busiest))}

    def _named(self, security: int) -> Instrument:
        (channel,) = self._channels
        root = CHANNELS.get(channel)
        if root is None:
            raise ConfigError(
                f"{self.path}: nobody told what security {security} of channel {channel} is; "
                "write it with its security_id into instruments.yaml beside the capture"
            )
        facts = find_instrument(root, "CME", self.path)
        return Instrument(instrument_id=f"{root}#{security}.CME", tick_size=facts.tick_size, multiplier=facts.multiplier)

    # --- packets to events -----------------------------------------------------------------------------------------------------

    def _arbitrated(self) -> Iterator[tuple[Packet, bool]]:
        """Yield each packet once, in the order of sequence numbers, and whether some are missing before it."""
        streams = [zip(capture.packets(), repeat(feed)) for feed, capture in enumerate(self._captures)]
        latest = [-1] * len(streams)
        waiting: dict[int, Packet] = {}
        expected: int | None = None
        for packet, feed in heapq.merge(*streams, key=lambda one: one[0].received_ns):
            sequence = _sequence_of(packet)
            latest[feed] = max(latest[feed], sequence)
            expected = sequence if expected is None else expected
            if sequence < expected or sequence in waiting:
                self.notes["packets that came twice"] += 1
                continue
            self.notes[f"packets that came first in {self._names[feed]}"] += 1
            waiting[sequence] = packet
            has_gap = expected not in waiting and (min(latest) > expected or len(waiting) > MAX_WAITING)
            if has_gap:
                self.notes["packets that are missing in every feed"] += min(waiting) - expected
                expected = min(waiting)
            while expected in waiting:
                self.packet = expected
                yield waiting.pop(expected), has_gap
                has_gap = False
                expected += 1
            self.read_share = min(capture.share for capture in self._captures)
        yield from self._rest(waiting)

    def _rest(self, waiting: dict[int, Packet]) -> Iterator[tuple[Packet, bool]]:
        """Yield what still waited for missing packets when the captures ended."""
        expected: int | None = None
        for sequence in sorted(waiting):
            self.packet = sequence
            yield waiting[sequence], sequence != expected
            expected = sequence + 1

    def _take(self, packet: Packet, received_ns: int) -> Iterator[MarketEvent]:
        for template, (transact_ns, indicator), entries in _messages(packet, self.path):
            if template == RESET:
                self.notes["channel resets"] += 1
                yield from self._forget(received_ns)
            elif template == TRADES:
                yield from self._trades(entries, transact_ns, received_ns)
            elif template == BOOK:
                self._apply(entries)
            else:
                self.notes[f"messages of template {template}"] += 1
            if indicator & END_OF_EVENT:
                for book in self._books.values():
                    yield from book.look(transact_ns, received_ns, self.next_sequence)

    def _forget(self, received_ns: int) -> Iterator[MarketEvent]:
        for book in self._books.values():
            yield from book.on_gap(received_ns)

    def _trades(self, entries: Entries, transact_ns: int, received_ns: int) -> Iterator[MarketEvent]:
        for entry in entries:
            if (book := self._books.get(entry[2])) is not None:
                yield from book.on_trade(entry, transact_ns, received_ns, self.next_sequence)

    def _apply(self, entries: Entries) -> None:
        for entry in entries:
            book = self._books.get(entry[2])
            if book is None:
                self.notes["entries of other securities"] += 1
                continue
            fault = book.apply(entry)
            if fault:
                raise IntegrityError(f"{self.path}: packet {self.packet}: {fault}; fetch it again")


def _sequence_of(packet: Packet) -> int:
    return int.from_bytes(packet.payload[:4], "little")


def _messages(packet: Packet, path: Path) -> Iterator[tuple[int, tuple[int, int], Entries]]:
    """Yield template, block and the entries of the first group of each message. Raises `ConfigError` or `IntegrityError`."""
    payload = packet.payload
    at = _PACKET_HEAD.size
    while at + _MESSAGE_HEAD.size <= len(payload):
        size, block_length, template, schema, _ = _MESSAGE_HEAD.unpack_from(payload, at)
        if size < _MESSAGE_HEAD.size or at + size > len(payload):
            raise IntegrityError(f"{path}: packet {packet.number} holds a message of {size} bytes: cut or damaged, or no MDP 3.0")
        if schema != SCHEMA:
            raise ConfigError(f"{path}: packet {packet.number} is of schema {schema}, allowed is {SCHEMA} (CME MDP 3.0)")
        block = _BLOCK.unpack_from(payload, at + _MESSAGE_HEAD.size) if block_length >= _BLOCK.size else (0, 0)
        group = at + _MESSAGE_HEAD.size + block_length
        yield template, block, _entries(payload, (group, at + size), template, packet, path) if template in _MIN_ENTRY else []
        at += size


def _entries(payload: bytes, bounds: tuple[int, int], template: int, packet: Packet, path: Path) -> Entries:
    group, end = bounds
    layout = _BOOK_ENTRY if template == BOOK else _TRADE_ENTRY
    length, count = _GROUP.unpack_from(payload, group) if group + _GROUP.size <= end else (0, 255)
    first = group + _GROUP.size
    if (count and length < layout.size) or first + length * count > end:
        raise IntegrityError(f"{path}: packet {packet.number} holds {count} entries of {length} bytes: cut or damaged; fetch it again")
    return [layout.unpack_from(payload, first + index * length) for index in range(count)]
