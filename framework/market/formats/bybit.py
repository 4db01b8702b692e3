"""Bybit order-book archives: JSON lines with one snapshot and deltas after it, whose update ids are consecutive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from framework.errors import ConfigError, IntegrityError
from framework.market.formats.book import BookSide
from framework.market.formats.definitions import find_instrument
from framework.market.formats.lines import PlainBytes
from framework.market.formats.units import WAY_OUT, OffUnit, Units
from framework.messages import BookSnapshot, MarketEvent, SessionChanged
from framework.model import NS_PER_MS, Instrument

_HEAD: Final = b'{"topic":"orderbook.'
_SHARE_LINES: Final = 256
Level = tuple[str, str]


class _Book(msgspec.Struct):
    symbol: str = msgspec.field(name="s")
    bids: list[Level] = msgspec.field(name="b")
    asks: list[Level] = msgspec.field(name="a")
    update: int = msgspec.field(name="u")


class _Message(msgspec.Struct):
    type: str
    ts: int
    data: _Book
    cts: int | None = None


_MESSAGE: Final = msgspec.json.Decoder(_Message)


def is_head(head: bytes) -> bool:
    """Return whether a file that begins so is one of these."""
    return head.startswith(_HEAD)


class BybitSource:
    """The order book of one symbol. Opening reads the file once; raises `ConfigError` or `IntegrityError`.

    A delta whose update id does not follow closes the session until the next snapshot. Books carry the matching engine's time (`cts`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read_share = 0.0
        self.next_sequence = 0
        self.line = 0
        symbol = self._scan()
        self.instruments: tuple[Instrument, ...] = (find_instrument(symbol, "BYBIT", path),)
        self._ticks = Units("tick size", self.instruments[0].tick_size)
        self._lots = Units("lot size", self.instruments[0].lot_size)
        self._sides = {"bids": BookSide(-1), "asks": BookSide(1)}
        self._last: int | None = None
        self._has_gap = False

    def where(self) -> str:
        """Return which line the last event came from."""
        return f"line {self.line}"

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield the book after each message, numbered from `first_sequence`."""
        self.next_sequence = first_sequence
        self._last, self._has_gap = None, False
        for message in self._messages():
            yield from self._take(message)
        self.read_share = 1.0

    def _take(self, message: _Message) -> Iterator[MarketEvent]:
        if message.type != "snapshot" and (self._last is None or message.data.update != self._last + 1):
            if self._last is not None:
                yield self._session(message, is_open=False, reason=f"gap: updates after {self._last} are missing")
                self._has_gap = True
            self._last = None
            return
        if self._has_gap:
            yield self._session(message, is_open=True, reason="snapshot")
            self._has_gap = False
        yield self._applied(message)
        self.next_sequence += 1

    def _scan(self) -> str:
        symbols: set[str] = set()
        first = last = 0
        for message in self._messages():
            symbols.add(message.data.symbol)
            if message.ts < last:
                raise ConfigError(f"{self.path}: line {self.line} is earlier than the line above it; sort the file by ts")
            first, last = first or message.ts, message.ts
        if len(symbols) != 1:
            raise ConfigError(f"{self.path}: must hold the book of one symbol, found {', '.join(sorted(symbols))[:200] or 'none'}")
        self.start_ns, self.end_ns = first * NS_PER_MS, last * NS_PER_MS
        return symbols.pop()

    def _messages(self) -> Iterator[_Message]:
        with PlainBytes(self.path) as content:
            for number, line in enumerate(content.lines(), 1):
                self.line = number
                if not line.strip():
                    continue
                try:
                    yield _MESSAGE.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                    raise IntegrityError(f"{self.path}: line {number} is no order-book message: {str(exc)[:200]}; fetch it again") from exc
                if number % _SHARE_LINES == 0:
                    self.read_share = content.share

    def _applied(self, message: _Message) -> BookSnapshot:
        if message.type == "snapshot":
            self._sides = {"bids": BookSide(-1), "asks": BookSide(1)}
        try:
            for name, levels in (("bids", message.data.bids), ("asks", message.data.asks)):
                for price, size in levels:
                    self._sides[name].put(self._ticks[price], self._lots[size])
        except OffUnit as exc:
            raise ConfigError(f"{self.path}: line {self.line}: {exc}; {WAY_OUT}") from exc
        self._last = message.data.update
        return self._shown(message)

    def _shown(self, message: _Message) -> BookSnapshot:
        bid_ticks, bid_sizes = self._sides["bids"].best()
        ask_ticks, ask_sizes = self._sides["asks"].best()
        return BookSnapshot(
            instrument_id=self.instruments[0].instrument_id,
            ts_event=(message.cts or message.ts) * NS_PER_MS,
            ts_recv=message.ts * NS_PER_MS,
            sequence=self.next_sequence,
            bid_ticks=bid_ticks,
            bid_sizes=bid_sizes,
            ask_ticks=ask_ticks,
            ask_sizes=ask_sizes,
        )

    def _session(self, message: _Message, *, is_open: bool, reason: str) -> SessionChanged:
        return SessionChanged(
            instrument_id=self.instruments[0].instrument_id, ts_event=message.ts * NS_PER_MS, is_open=is_open, reason=reason
        )
