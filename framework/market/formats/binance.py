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
from collections import deque
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import msgspec

from framework.errors import ConfigError, IntegrityError
from framework.market.formats.book import BookSide
from framework.market.formats.definitions import find_instrument
from framework.market.formats.lines import PlainBytes, head_of
from framework.market.formats.units import OffUnit, Units
from framework.messages import BookSnapshot, MarketEvent, SessionChanged, TradeTick
from framework.model import NS_PER_MS, Instrument, Side

MAX_WAITING: Final = 10_000
"""Updates that are kept while no snapshot fits; the oldest go first."""

_HEAD: Final = re.compile(rb'(\d{13}|\d{16}|\d{19}) \{(?:"stream":"[^"@]+@|"lastUpdateId":)')
_DATE: Final = re.compile(r"(20\d\d)(?:-|)([01]\d)(?:-|)([0-3]\d)")
_UNIT_NS: Final = {13: 1_000_000, 16: 1_000, 19: 1}
_STREAM: Final = b' {"stream":"'
_SNAPSHOT: Final = b'"lastUpdateId"'
_SHARE_LINES: Final = 256

Level = tuple[str, str]


class _Depth(msgspec.Struct):
    time_ms: int = msgspec.field(name="E")
    first: int = msgspec.field(name="U")
    last: int = msgspec.field(name="u")
    bids: list[Level] = msgspec.field(name="b")
    asks: list[Level] = msgspec.field(name="a")
    matched_ms: int | None = msgspec.field(name="T", default=None)
    before: int | None = msgspec.field(name="pu", default=None)


class _Snapshot(msgspec.Struct):
    last: int = msgspec.field(name="lastUpdateId")
    bids: list[Level]
    asks: list[Level]


class _Trade(msgspec.Struct):
    matched_ms: int = msgspec.field(name="T")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    is_seller_aggressor: bool = msgspec.field(name="m")
    number: int | None = msgspec.field(name="t", default=None)
    kind: str = msgspec.field(name="X", default="MARKET")


class _DepthLine(msgspec.Struct):
    data: _Depth


class _TradeLine(msgspec.Struct):
    data: _Trade


_DEPTH_LINE: Final = msgspec.json.Decoder(_DepthLine)
_TRADE_LINE: Final = msgspec.json.Decoder(_TradeLine)
_SNAPSHOT_LINE: Final = msgspec.json.Decoder(_Snapshot)


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
        self._book = _Book(self.instruments[0], path)

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
            raise ConfigError(f"{self.path}: line {self.line}: {exc}") from exc
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


class _Book:
    """One symbol's book, from its snapshot on."""

    def __init__(self, instrument: Instrument, path: Path) -> None:
        self.path = path
        self.is_synced = False
        self._instrument_id = instrument.instrument_id
        self.ticks = Units("tick size", instrument.tick_size)
        self.lots = Units("lot size", instrument.lot_size)
        self.books_beyond_snapshot = 0
        self.last_trade = -1
        self.repeated_trades = 0
        self._bids, self._asks = BookSide(-1), BookSide(1)
        self._lowest_bid = self._highest_ask = 0
        self._last = 0
        self._has_spanned = False  # whether an update was applied since the snapshot
        self._has_gap = False
        self._waiting: deque[_Depth] = deque(maxlen=MAX_WAITING)

    def on_snapshot(self, snapshot: _Snapshot, received_ns: int, sequence: int) -> Iterator[MarketEvent]:
        """Begin with `snapshot`, if no book is current and the updates that wait fit it; yield the book after them."""
        if self.is_synced:
            return
        fitting = [update for update in self._waiting if update.last >= snapshot.last]
        if fitting and fitting[0].first > snapshot.last + 1:
            return  # older than the first update that we have: the next snapshot may fit
        self._begin(snapshot)
        shown: list[MarketEvent] = []
        for update in fitting:
            shown = list(self.on_update(update, received_ns, sequence))
            if not self.is_synced:
                return
        if self._has_gap:
            self._has_gap = False
            yield self._session(received_ns, is_open=True, reason="depth snapshot")
        yield from shown

    def on_update(self, update: _Depth, received_ns: int, sequence: int) -> Iterator[MarketEvent]:
        """Apply `update` and yield the book; while no snapshot fits, keep it. A missing one closes the session."""
        if not self.is_synced:
            self._waiting.append(update)
            return
        if not self._has_spanned and update.last < self._last:
            return
        if not self._follows(update):
            self.is_synced = False
            self._has_gap = True
            self._waiting.append(update)
            yield self._session(received_ns, is_open=False, reason=f"gap: depth updates after {self._last} are missing")
            return
        self._has_spanned = True
        self._last = update.last
        self._put(self._bids, update.bids)
        self._put(self._asks, update.asks)
        yield self._shown(update, received_ns, sequence)

    def _follows(self, update: _Depth) -> bool:
        if not self._has_spanned:
            return update.first <= self._last + 1
        return update.before == self._last if update.before is not None else update.first == self._last + 1

    def _begin(self, snapshot: _Snapshot) -> None:
        self._bids, self._asks = BookSide(-1), BookSide(1)
        self._lowest_bid = min((self.ticks[price] for price, _ in snapshot.bids), default=0)
        self._highest_ask = max((self.ticks[price] for price, _ in snapshot.asks), default=0)
        self._put(self._bids, snapshot.bids)
        self._put(self._asks, snapshot.asks)
        self._last = snapshot.last
        self._has_spanned = False
        self.is_synced = True
        self._waiting.clear()

    def _put(self, side: BookSide, levels: list[Level]) -> None:
        ticks, lots, put = self.ticks, self.lots, side.put
        for price, quantity in levels:
            put(ticks[price], lots[quantity])

    def _shown(self, update: _Depth, received_ns: int, sequence: int) -> BookSnapshot:
        bid_ticks, bid_sizes = self._bids.best()
        ask_ticks, ask_sizes = self._asks.best()
        if (bid_ticks and bid_ticks[-1] < self._lowest_bid) or (ask_ticks and ask_ticks[-1] > self._highest_ask):
            self.books_beyond_snapshot += 1
        matched_ms = update.time_ms if update.matched_ms is None else update.matched_ms
        return BookSnapshot(
            instrument_id=self._instrument_id,
            ts_event=matched_ms * NS_PER_MS,
            ts_recv=received_ns,
            sequence=sequence,
            bid_ticks=bid_ticks,
            bid_sizes=bid_sizes,
            ask_ticks=ask_ticks,
            ask_sizes=ask_sizes,
        )

    def _session(self, received_ns: int, *, is_open: bool, reason: str) -> SessionChanged:
        return SessionChanged(instrument_id=self._instrument_id, ts_event=received_ns, is_open=is_open, reason=reason)
