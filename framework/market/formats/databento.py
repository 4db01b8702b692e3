"""Databento DBN files (optional extra `databento`): market by order, market by price, trades.

Market by order is rebuilt order by order. The book is looked at only at the end of an event (flag 0x80) and published when its
visible levels changed, during continuous trading: not from the snapshot at the start of a file, and not in an
auction, where crossed books are normal. An auction is over when it has traded and the book is uncrossed. While orders move only
below the visible levels, the book is shown again every second, so that silence means silence.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from framework.errors import ConfigError, IntegrityError
from framework.messages import BookSnapshot, MarketEvent, TradeTick
from framework.model import Instrument, Side
from framework.window import LEVELS

READ_BYTES: Final = 256 << 10
PRICE_SCALE: Final = 1_000_000_000
LAST_OF_EVENT: Final = 0x80
SNAPSHOT: Final = 0x20
SHOW_AGAIN_NS: Final = 1_000_000_000
UNDEFINED_PRICE: Final = 2**63 - 1
UNDEFINED_TIME: Final = 2**64 - 1
SCHEMAS: Final = {"mbo": "MBOMsg", "mbp-1": "MBP1Msg", "mbp-10": "MBP10Msg", "trades": "TradeMsg"}
"""Class of the records of each schema; others that turn up in a file (system messages) are passed over."""

CONTRACTS: Final = {
    "ES": ("0.25", "50"), "MES": ("0.25", "5"), "NQ": ("0.25", "20"), "MNQ": ("0.25", "2"), "RTY": ("0.1", "50"), "M2K": ("0.1", "5"),
    "YM": ("1", "5"), "MYM": ("1", "0.5"), "CL": ("0.01", "1000"), "MCL": ("0.01", "100"), "NG": ("0.001", "10000"),
    "GC": ("0.1", "100"), "MGC": ("0.1", "10"), "SI": ("0.005", "5000"), "HG": ("0.0005", "25000"), "6E": ("0.00005", "125000"),
    "6B": ("0.0001", "62500"), "6A": ("0.00005", "100000"), "6C": ("0.00005", "100000"), "ZB": ("0.03125", "1000"),
    "ZN": ("0.015625", "1000"), "ZF": ("0.0078125", "1000"), "ZC": ("0.25", "50"), "ZS": ("0.25", "50"), "ZW": ("0.25", "50"),
}  # fmt: skip
"""Tick size and money per point of the outright futures that are known, by root symbol (USD)."""

_SYMBOL: Final = re.compile(r"^([A-Z0-9]{1,3}?)([FGHJKMNQUVXZ]\d{1,2}|\.[a-z]\.\d+)$")
_AGGRESSORS: Final = {"B": Side.BUY, "A": Side.SELL}


class DatabentoSource:
    """One DBN file, plain or zstd. Opening reads it once, from end to end, so that a damaged file is refused before anything starts.

    `book_interval_ns` conflates books of market by order: at most one per interval (0: one per event that changed the visible
    levels). Raises `ConfigError` (extra not installed, schema or symbol not known) or `IntegrityError` (damaged).
    """

    def __init__(self, path: Path, *, book_interval_ns: int = 0) -> None:
        self.path = path
        self.read_share = 0.0
        self.next_sequence = 0
        self._book_interval_ns = book_interval_ns
        self._library = _load_library()
        self._record_count = 0
        self._scan()

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield trades as they come and books at the ends of events, numbered from `first_sequence`."""
        streams = {
            number: _STREAMS[self._schema](instrument, self._book_interval_ns, self.path)
            for number, instrument in self._instruments_by_number.items()
        }
        read = 0
        self.next_sequence = first_sequence
        for records in self._chunks():
            for record in records:
                stream = streams.get(record.instrument_id) if type(record) is self._record_type else None
                if stream is not None:
                    for event in stream.take(record, self.next_sequence):
                        self.next_sequence += 1
                        yield event
            read += len(records)
            self.read_share = min(1.0, read / self._record_count)

    def _scan(self) -> None:
        times: list[int] = []
        for number, records in enumerate(self._chunks()):
            if number == 0:
                self._read_metadata(records[0])
            self._record_count += len(records)
            own = [record for record in records if type(record) is self._record_type and not record.flags & SNAPSHOT]
            times += [_received_ns(own[0]), _received_ns(own[-1])] if own else []
        if not times:
            raise ConfigError(f"{self.path}: holds no records of schema {self._schema} beyond its snapshot")
        if times != sorted(times):
            raise ConfigError(f"{self.path}: records are not in order of ts_recv; sort the file")
        self.start_ns, self.end_ns = times[0], times[-1]

    def _read_metadata(self, metadata: Any) -> None:
        self._schema = str(metadata.schema)
        if self._schema not in SCHEMAS:
            raise ConfigError(f"{self.path}: schema {self._schema!r} is not replayed, allowed are {', '.join(SCHEMAS)}")
        self._record_type = getattr(self._library, SCHEMAS[self._schema])
        venue = metadata.dataset.partition(".")[0] or "DBN"
        self._instruments_by_number: dict[int, Instrument] = {}
        for symbol, intervals in metadata.mappings.items():
            instrument = self._instrument(symbol, venue)
            self._instruments_by_number |= {int(one["symbol"]): instrument for one in intervals if one["symbol"].isdecimal()}
        if not self._instruments_by_number:
            raise ConfigError(f"{self.path}: maps no symbol to an instrument id; request it with `stype_out` instrument_id")
        self.instruments = tuple(dict.fromkeys(self._instruments_by_number.values()))

    def _instrument(self, symbol: str, venue: str) -> Instrument:
        match = _SYMBOL.match(symbol)
        facts = CONTRACTS.get(match.group(1)) if match else None
        if facts is None:
            raise ConfigError(f"{self.path}: unknown symbol {symbol[:40]!r}, known are futures of {', '.join(CONTRACTS)}")
        tick_size, multiplier = map(Decimal, facts)
        return Instrument(instrument_id=f"{symbol}.{venue}", tick_size=tick_size, multiplier=multiplier)

    def _chunks(self) -> Iterator[list[Any]]:
        """Yield records in chunks, in the first one behind the metadata. Raises `IntegrityError` for a damaged or cut file."""
        library = self._library
        decoder = library.DBNDecoder()
        try:
            for raw in _plain_bytes(self.path):
                decoder.write(raw)
                if records := decoder.decode():
                    yield records
        except (library.DBNError, ValueError, OverflowError, RuntimeError, OSError, pa.ArrowException) as exc:
            raise IntegrityError(f"{self.path}: cut or damaged: {str(exc)[:200]}") from exc
        # The decoder is Rust; for some damaged lengths it panics, which arrives here past `Exception` and has no importable type.
        except BaseException as exc:
            if type(exc).__name__ != "PanicException":
                raise
            raise IntegrityError(f"{self.path}: cut or damaged: {str(exc)[:200]}") from exc
        if decoder.buffer():
            raise IntegrityError(f"{self.path}: ends in the middle of a record; fetch it again")


def _plain_bytes(path: Path) -> Iterator[bytes]:
    # Arrow's zstd reader says when a stream ends before its end; the one inside the DBN decoder does not.
    with pa.OSFile(str(path)) as file:
        is_plain = file.read(3) == b"DBN"
        file.seek(0)
        stream = file if is_plain else pa.CompressedInputStream(file, "zstd")
        while raw := stream.read(READ_BYTES):
            yield raw


def _load_library() -> Any:
    # The one entry of this optional extra.
    try:
        import databento_dbn
    except ImportError as exc:
        raise ConfigError("reading DBN files needs the databento extra: pip install 'tidebook[databento]'") from exc
    return databento_dbn


def _received_ns(record: Any) -> int:
    received_ns: int = record.ts_recv
    return record.ts_event if received_ns == UNDEFINED_TIME else received_ns


class _Trades:
    """Records of one instrument to trades; the base of the others."""

    def __init__(self, instrument: Instrument, book_interval_ns: int, path: Path) -> None:
        self._instrument_id = instrument.instrument_id
        self._tick = int(instrument.tick_size * PRICE_SCALE)
        self._book_interval_ns = book_interval_ns
        self._path = path

    def take(self, record: Any, sequence: int) -> Iterator[MarketEvent]:
        if record.action == "T" and record.price != UNDEFINED_PRICE and record.size:
            yield self._trade(record, sequence)

    def _trade(self, record: Any, sequence: int) -> TradeTick:
        return TradeTick(
            instrument_id=self._instrument_id,
            ts_event=record.ts_event,
            ts_recv=_received_ns(record),
            sequence=sequence,
            price_ticks=self._ticks(record.price),
            size=record.size,
            aggressor=_AGGRESSORS.get(str(record.side)),
        )

    def _ticks(self, price: int) -> int:
        ticks, rest = divmod(price, self._tick)
        if rest:
            raise ConfigError(
                f"{self._path}: price {price / PRICE_SCALE} of {self._instrument_id} is not a multiple of its tick size "
                f"{self._tick / PRICE_SCALE}"
            )
        return ticks


class _ByPrice(_Trades):
    """Market by price: each record carries the levels; a book is published when they changed."""

    def __init__(self, instrument: Instrument, book_interval_ns: int, path: Path) -> None:
        super().__init__(instrument, book_interval_ns, path)
        self._last: tuple[Any, ...] = ()

    def take(self, record: Any, sequence: int) -> Iterator[MarketEvent]:
        for trade in super().take(record, sequence):
            sequence += 1
            yield trade
        if not record.flags & LAST_OF_EVENT:
            return
        bids = [(self._ticks(one.bid_px), one.bid_sz) for one in record.levels if one.bid_px != UNDEFINED_PRICE and one.bid_sz]
        asks = [(self._ticks(one.ask_px), one.ask_sz) for one in record.levels if one.ask_px != UNDEFINED_PRICE and one.ask_sz]
        if (bids, asks) != self._last:
            self._last = (bids, asks)
            yield BookSnapshot(
                instrument_id=self._instrument_id,
                ts_event=record.ts_event,
                ts_recv=_received_ns(record),
                sequence=sequence,
                bid_ticks=tuple(tick for tick, _ in bids),
                bid_sizes=tuple(size for _, size in bids),
                ask_ticks=tuple(tick for tick, _ in asks),
                ask_sizes=tuple(size for _, size in asks),
            )


class _BookSide:
    """Resting lots by price, with the prices kept in order (ascending `key`, best first)."""

    def __init__(self, sign: int) -> None:
        self._sign = sign  # -1 for bids: the highest price comes first
        self._lots: dict[int, int] = {}
        self._keys: list[int] = []

    def add(self, tick: int, lots: int) -> None:
        """Change the lots at a price by `lots`; a price with none left is gone."""
        key = self._sign * tick
        left = self._lots.get(key, 0) + lots
        if left > 0:
            if key not in self._lots:
                insort(self._keys, key)
            self._lots[key] = left
        elif key in self._lots:
            del self._lots[key]
            del self._keys[bisect_left(self._keys, key)]

    def best(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return ticks and lots of the best levels."""
        keys = self._keys[:LEVELS]
        lots, sign = self._lots, self._sign
        return tuple([sign * key for key in keys]), tuple([lots[key] for key in keys])


class _ByOrder(_Trades):
    """Market by order: the book rebuilt from its orders."""

    def __init__(self, instrument: Instrument, book_interval_ns: int, path: Path) -> None:
        super().__init__(instrument, book_interval_ns, path)
        self._orders: dict[int, tuple[str, int, int]] = {}
        self._sides = {"B": _BookSide(-1), "A": _BookSide(1)}
        self._last: tuple[Any, ...] = ()
        self._next_book_ns = 0
        self._shown_ns = 0
        self._is_continuous = False
        self._has_traded = False
        self.unknown_orders = 0

    def take(self, record: Any, sequence: int) -> Iterator[MarketEvent]:
        """Apply one record; yield its trade, and the book if the event ends and shows another one."""
        action = str(record.action)
        if action == "T":
            for trade in super().take(record, sequence):
                self._has_traded = True
                sequence += 1
                yield trade
        elif (apply := self._ACTIONS.get(action)) is not None:
            apply(self, record)
        flags = record.flags
        if flags & LAST_OF_EVENT and not flags & SNAPSHOT:
            yield from self._look(record, sequence)

    def _look(self, record: Any, sequence: int) -> Iterator[BookSnapshot]:
        received_ns = _received_ns(record)
        if received_ns < self._next_book_ns:
            return
        bid_ticks, bid_sizes = self._sides["B"].best()
        ask_ticks, ask_sizes = self._sides["A"].best()
        shown = (bid_ticks, bid_sizes, ask_ticks, ask_sizes)
        if not self._is_trading(bid_ticks, ask_ticks):
            return
        if shown == self._last and received_ns < self._shown_ns + SHOW_AGAIN_NS:
            return
        self._last, self._shown_ns = shown, received_ns
        self._next_book_ns = received_ns + self._book_interval_ns
        yield BookSnapshot(
            instrument_id=self._instrument_id,
            ts_event=record.ts_event,
            ts_recv=received_ns,
            sequence=sequence,
            bid_ticks=bid_ticks,
            bid_sizes=bid_sizes,
            ask_ticks=ask_ticks,
            ask_sizes=ask_sizes,
        )

    def _is_trading(self, bid_ticks: tuple[int, ...], ask_ticks: tuple[int, ...]) -> bool:
        is_crossed = bool(bid_ticks and ask_ticks and bid_ticks[0] >= ask_ticks[0])
        if is_crossed:
            self._is_continuous = self._has_traded = False
        elif self._has_traded:
            self._is_continuous = True
        return self._is_continuous

    def _on_add(self, record: Any) -> None:
        side = str(record.side)
        if side in self._sides and record.price != UNDEFINED_PRICE:
            tick = self._ticks(record.price)
            self._orders[record.order_id] = (side, tick, record.size)
            self._sides[side].add(tick, record.size)

    def _on_cancel(self, record: Any) -> None:
        known = self._orders.pop(record.order_id, None)
        if known is None:
            self.unknown_orders += 1
            return
        side, tick, lots = known
        gone = min(record.size, lots)
        self._sides[side].add(tick, -gone)
        if gone < lots:
            self._orders[record.order_id] = (side, tick, lots - gone)

    def _on_modify(self, record: Any) -> None:
        known = self._orders.pop(record.order_id, None)
        if known is None:
            self.unknown_orders += 1
        else:
            side, tick, lots = known
            self._sides[side].add(tick, -lots)
        self._on_add(record)

    def _on_clear(self, _: Any) -> None:
        self._orders.clear()
        self._sides = {"B": _BookSide(-1), "A": _BookSide(1)}
        self._is_continuous = self._has_traded = False

    _ACTIONS: Final = {"A": _on_add, "C": _on_cancel, "M": _on_modify, "R": _on_clear}


_STREAMS: Final[dict[str, type[_Trades]]] = {"mbo": _ByOrder, "mbp-1": _ByPrice, "mbp-10": _ByPrice, "trades": _Trades}
