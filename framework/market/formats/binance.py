"""Binance streams as a recorder saved them: one websocket message a line, `<receive time> <JSON>`, plain or compressed.

The book is a depth snapshot kept current by `depthUpdate` messages, by the venue's own rule: updates older than the snapshot are dropped,
the first one applied must span it, and from then on each must follow the one before it (`pu` of the futures streams, `U` of
the spot ones). Where one is missing, the session closes until a new snapshot fits. Every applied update yields a book, every
trade of the market a trade; of a file with both `trade` and `aggTrade` streams the single trades are taken. The stream of best quotes
runs ahead of the batched depth and is passed over. Where the market leaves the snapshot's range, levels that nobody changed since are
missing between those shown: such books are counted in `notes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import msgspec

from framework.errors import ConfigError, IntegrityError
from framework.market.formats.binance_book import BinanceBook, Depth, Snapshot
from framework.market.formats.definitions import find_instrument
from framework.market.formats.lines import PlainBytes, head_of
from framework.market.formats.units import WAY_OUT, OffUnit
from framework.messages import MarketEvent, TradeTick
from framework.model import NS_PER_MS, Instrument, Side

_HEAD: Final = re.compile(rb'(\d{13}|\d{16}|\d{19}) \{(?:"stream":"[^"@]+@|"lastUpdateId":)')
_DATE: Final = re.compile(r"(20\d\d)(?:-|)([01]\d)(?:-|)([0-3]\d)")
_UNIT_NS: Final = {13: 1_000_000, 16: 1_000, 19: 1}
_STREAM: Final = b' {"stream":"'
_SNAPSHOT: Final = b'"lastUpdateId"'
_SHARE_LINES: Final = 256


class _Trade(msgspec.Struct):
    matched_ms: int = msgspec.field(name="T")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    is_seller_aggressor: bool = msgspec.field(name="m")
    number: int | None = msgspec.field(name="t", default=None)
    kind: str = msgspec.field(name="X", default="MARKET")


class _DepthLine(msgspec.Struct):
    data: Depth


class _TradeLine(msgspec.Struct):
    data: _Trade


_DEPTH_LINE: Final = msgspec.json.Decoder(_DepthLine)
_TRADE_LINE: Final = msgspec.json.Decoder(_TradeLine)
_SNAPSHOT_LINE: Final = msgspec.json.Decoder(Snapshot)


def is_head(head: bytes) -> bool:
    """Return whether a file that begins so is one of these."""
    return _HEAD.match(head) is not None


class BinanceSource:
    """The streams of one symbol. Opening reads the file once: its receive times must not go back.

    A file without a snapshot continues the one before it (`follow`), which is named too, or lies in the same folder under the name of
    the day before. Raises `ConfigError` or `IntegrityError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read_share = 0.0
        self.next_sequence = 0
        self.line = 0
        self._has_snapshot = False
        self._streams: set[bytes] = set()
        self._scan()
        symbols = sorted({stream.partition(b"@")[0].decode(errors="replace").upper() for stream in self._streams})
        if len(symbols) != 1:
            raise ConfigError(
                f"{path}: must hold the streams of one symbol, found {', '.join(symbols)[:200] or 'none'}; split it by symbol"
            )
        venue = "BINANCECM" if "_" in symbols[0] else "BINANCEUM"
        self.instruments: tuple[Instrument, ...] = (find_instrument(symbols[0], venue, path),)
        kinds = {stream.partition(b"@")[2] for stream in self._streams}
        self._trade_kind = b"trade" if b"trade" in kinds else b"aggTrade"
        self._book = BinanceBook(self.instruments[0], path)

    def where(self) -> str:
        """Return which line the last event came from."""
        return f"line {self.line}"

    @property
    def notes(self) -> dict[str, int]:
        """Return what a user should know of the events so far, with counts."""
        return {
            "books with levels beyond the range of the snapshot": self._book.books_beyond_snapshot,
            "trades that came twice, left out": self._book.repeated_trades,
        }

    def follow(self, before: object) -> None:
        """Carry on with the book of the source that ends where this one begins, None for the first of all."""
        if isinstance(before, BinanceSource):
            self._book = before._book
            self._book.path = self.path

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield a book per depth update and the trades, numbered from `first_sequence` in the order of the file."""
        if not self._has_snapshot and not self._book.is_synced:
            self._follow_the_day_before()
        if not self._has_snapshot and not self._book.is_synced:
            raise ConfigError(f"{self.path}: holds no depth snapshot, so its book has no beginning; name the recording before it too")
        self.next_sequence = first_sequence
        with PlainBytes(self.path) as content:
            for number, line in enumerate(content.lines(), 1):
                self.line = number
                for event in self._take(line):
                    yield event
                    self.next_sequence += 1
                if number % _SHARE_LINES == 0:
                    self.read_share = content.share
        self.read_share = 1.0

    def _follow_the_day_before(self) -> None:
        """Take over the book from the recording of the day before, where it lies in the same folder; update ids tell whether it fits."""
        before = _day_before(self.path)
        if before is None or not before.is_file() or not is_head(head_of(before)):
            return
        source = BinanceSource(before)
        if source.instruments == self.instruments and source._has_snapshot and source.end_ns <= self.start_ns:
            for _ in source.events(0):
                pass
            self.follow(source)

    def _scan(self) -> None:
        before = 0
        self.start_ns = 0
        with PlainBytes(self.path) as content:
            for number, line in enumerate(content.lines(), 1):
                received_ns = self._received_ns(line, number)
                if received_ns < before:
                    raise ConfigError(
                        f"{self.path}: line {number} was received before the line above it; sort the file by its first column"
                    )
                self.start_ns = self.start_ns or received_ns
                before = received_ns
                begin = line.find(_STREAM)
                if begin > 0:
                    begin += len(_STREAM)
                    self._streams.add(line[begin : line.find(b'"', begin)])
                elif _SNAPSHOT in line[:64]:
                    self._has_snapshot = True
        self.end_ns = before

    def _received_ns(self, line: bytes, number: int) -> int:
        stamp = line[: line.find(b" ")]
        unit_ns = _UNIT_NS.get(len(stamp))
        if unit_ns is None or not stamp.isdigit() or not line.rstrip().endswith(b"}"):
            raise IntegrityError(
                f"{self.path}: line {number} is no receive time with a JSON message: {line[:60]!r}; cut or damaged, fetch it again"
            )
        return int(stamp) * unit_ns

    def _take(self, line: bytes) -> Iterator[MarketEvent]:
        begin = line.find(_STREAM)
        kind = line[begin + len(_STREAM) : begin + len(_STREAM) + 64].partition(b'"')[0].partition(b"@")[2] if begin > 0 else b""
        if kind == b"bookTicker":
            return
        message = line[line.find(b" ") + 1 :]
        received_ns = self._received_ns(line, self.line)
        try:
            if kind.startswith(b"depth"):
                yield from self._book.on_update(_DEPTH_LINE.decode(message).data, received_ns, self.next_sequence)
            elif kind == self._trade_kind:
                yield from self._trade(_TRADE_LINE.decode(message).data, received_ns)
            elif _SNAPSHOT in message[:64]:
                yield from self._book.on_snapshot(_SNAPSHOT_LINE.decode(message), received_ns, self.next_sequence)
        except OffUnit as exc:
            raise ConfigError(f"{self.path}: line {self.line}: {exc}; {WAY_OUT}") from exc
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise IntegrityError(f"{self.path}: line {self.line} is not what its stream sends: {str(exc)[:200]}; fetch it again") from exc

    def _trade(self, trade: _Trade, received_ns: int) -> Iterator[TradeTick]:
        if trade.kind != "MARKET":  # the insurance fund and forced deleveraging: no order met another
            return
        if trade.number is not None:
            if trade.number <= self._book.last_trade:
                self._book.repeated_trades += 1
                return
            self._book.last_trade = trade.number
        yield TradeTick(
            instrument_id=self.instruments[0].instrument_id,
            ts_event=trade.matched_ms * NS_PER_MS,
            ts_recv=received_ns,
            sequence=self.next_sequence,
            price_ticks=self._book.ticks[trade.price],
            size=self._book.lots[trade.quantity],
            aggressor=Side.SELL if trade.is_seller_aggressor else Side.BUY,
        )


def _day_before(path: Path) -> Path | None:
    """Return the name of the day before: `btc_20240718.gz` for `btc_20240719.gz`; None for a name without a date."""
    found = _DATE.search(path.name)
    try:
        day = date.fromisoformat("-".join(found.groups())) if found is not None else None
    except ValueError:
        return None
    if found is None or day is None:
        return None
    separator = "-" if "-" in found.group() else ""
    name = (day - timedelta(days=1)).strftime(f"%Y{separator}%m{separator}%d")
    return path.with_name(path.name.replace(found.group(), name))
