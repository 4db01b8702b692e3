"""Databento records of one instrument to market events: one stream per schema.

Market by order is rebuilt order by order. The book is looked at only at the end of an event (flag 0x80) and published when its
visible levels changed, during continuous trading: not from the snapshot at the start of a file, and not in an
auction, where crossed books are normal. An auction is over when it has traded and the book is uncrossed. While orders move only
below the visible levels, the book is shown again every second, so that silence means silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Final

import numpy as np

from framework.market.formats.book import BookSide
from framework.market.formats.dbn_records import Records
from framework.market.formats.units import OffUnit
from framework.messages import Bar, BookSnapshot, MarketEvent, TradeTick
from framework.model import NS_PER_S, Instrument, Side

PRICE_SCALE: Final = 1_000_000_000
LAST_OF_EVENT: Final = 0x80
SNAPSHOT: Final = 0x20
SHOW_AGAIN_NS: Final = 1_000_000_000
UNDEFINED_PRICE: Final = 2**63 - 1
UNDEFINED_TIME: Final = 2**64 - 1
_AGGRESSORS: Final = {b"B": Side.BUY, b"A": Side.SELL}
_BID: Final = b"B"
_ASK: Final = b"A"

Row = tuple[Any, ...]
_FIELDS: Final = ["ts_event", "ts_recv", "price", "size", "action", "side", "flags"]


def rows_of(schema: str, records: Records) -> Iterable[Row]:
    """Return records as plain tuples: the fields of a trade, then the order id, or the four lists of levels; or the fields of a bar."""
    if schema.startswith("ohlcv"):
        return records[["ts_event", "open", "high", "low", "close", "volume"]].tolist()  # type: ignore[no-any-return]
    if schema == "mbo":
        return records[[*_FIELDS, "order_id"]].tolist()  # type: ignore[no-any-return]
    plain: list[Row] = records[_FIELDS].tolist()
    if schema == "trades":
        return plain
    levels = records["levels"]
    columns = [levels[name].astype(np.int64).tolist() for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")]
    return [(*row, *four) for row, *four in zip(plain, *columns, strict=True)]


class TradeStream:
    """Records of one instrument to trades; the base of the others."""

    shift_ns: ClassVar[int] = 0

    def __init__(self, instrument: Instrument, book_interval_ns: int) -> None:
        self._instrument_id = instrument.instrument_id
        self._tick = int(instrument.tick_size * PRICE_SCALE)
        self._book_interval_ns = book_interval_ns

    def take(self, row: Row, sequence: int) -> Iterable[MarketEvent]:
        """Return what one record says, numbered from `sequence`. Raises `OffUnit` for a price between two ticks."""
        ts_event, ts_recv, price, size, action, side, _, *_ = row
        if action != b"T" or price == UNDEFINED_PRICE or not size:
            return ()
        return (self._trade(ts_event, _received_ns(ts_event, ts_recv), price, size, side, sequence),)

    def _trade(self, ts_event: int, received_ns: int, price: int, size: int, side: bytes, sequence: int) -> TradeTick:  # noqa: PLR0917
        return TradeTick(
            instrument_id=self._instrument_id,
            ts_event=ts_event,
            ts_recv=received_ns,
            sequence=sequence,
            price_ticks=self._ticks(price),
            size=size,
            aggressor=_AGGRESSORS.get(side),
        )

    def _ticks(self, price: int) -> int:
        ticks, rest = divmod(price, self._tick)
        if rest:
            raise OffUnit(
                f"price {price / PRICE_SCALE} of {self._instrument_id} is not a multiple of its tick size {self._tick / PRICE_SCALE}"
            )
        return ticks


class PriceStream(TradeStream):
    """Market by price: each record carries the levels; a book is published when they changed."""

    def __init__(self, instrument: Instrument, book_interval_ns: int) -> None:
        super().__init__(instrument, book_interval_ns)
        self._last: list[Any] = []

    def take(self, row: Row, sequence: int) -> Iterator[MarketEvent]:
        """Yield the record's trade, and its book if the event ends and the levels changed."""
        ts_event, ts_recv, price, size, action, side, flags, *levels = row
        received_ns = _received_ns(ts_event, ts_recv)
        if action == b"T" and price != UNDEFINED_PRICE and size:
            yield self._trade(ts_event, received_ns, price, size, side, sequence)
            sequence += 1
        if not flags & LAST_OF_EVENT or levels == self._last:
            return
        self._last = levels
        bids, asks = self._side(levels[0], levels[1]), self._side(levels[2], levels[3])
        yield BookSnapshot(
            instrument_id=self._instrument_id,
            ts_event=ts_event,
            ts_recv=received_ns,
            sequence=sequence,
            bid_ticks=tuple([tick for tick, _ in bids]),
            bid_sizes=tuple([lots for _, lots in bids]),
            ask_ticks=tuple([tick for tick, _ in asks]),
            ask_sizes=tuple([lots for _, lots in asks]),
        )

    def _side(self, prices: list[int], sizes: list[int]) -> list[tuple[int, int]]:
        return [(self._ticks(price), size) for price, size in zip(prices, sizes, strict=True) if size and price != UNDEFINED_PRICE]


class OrderStream(TradeStream):
    """Market by order: the book rebuilt from its orders."""

    def __init__(self, instrument: Instrument, book_interval_ns: int) -> None:
        super().__init__(instrument, book_interval_ns)
        self._orders: dict[int, tuple[bytes, int, int]] = {}
        self._sides = {_BID: BookSide(-1), _ASK: BookSide(1)}
        self._last: tuple[Any, ...] = ()
        self._next_book_ns = 0
        self._shown_ns = 0
        self._is_continuous = False
        self._has_traded = False
        self.unknown_orders = 0

    def take(self, row: Row, sequence: int) -> Iterable[MarketEvent]:
        """Apply one record; return its trade, and the book if the event ends and shows another one."""
        ts_event, ts_recv, price, size, action, side, flags, order_id = row
        events: tuple[MarketEvent, ...] = ()
        if action == b"T":
            if price != UNDEFINED_PRICE and size:
                self._has_traded = True
                events = (self._trade(ts_event, _received_ns(ts_event, ts_recv), price, size, side, sequence),)
        elif (apply := self._ACTIONS.get(action)) is not None:
            apply(self, side, price, size, order_id)
        if flags & LAST_OF_EVENT and not flags & SNAPSHOT:
            book = self._look(ts_event, _received_ns(ts_event, ts_recv), sequence + len(events))
            return events if book is None else (*events, book)
        return events

    def _look(self, ts_event: int, received_ns: int, sequence: int) -> BookSnapshot | None:
        bids, asks = self._sides[_BID], self._sides[_ASK]
        if received_ns < self._next_book_ns:
            return None
        if self._is_continuous and received_ns < self._shown_ns + SHOW_AGAIN_NS and not (bids.is_changed or asks.is_changed):
            return None
        bid_ticks, bid_sizes = bids.best()
        ask_ticks, ask_sizes = asks.best()
        shown = (bid_ticks, bid_sizes, ask_ticks, ask_sizes)
        if not self._is_trading(bid_ticks, ask_ticks):
            return None
        if shown == self._last and received_ns < self._shown_ns + SHOW_AGAIN_NS:
            return None
        self._last, self._shown_ns = shown, received_ns
        self._next_book_ns = received_ns + self._book_interval_ns
        return BookSnapshot(
            instrument_id=self._instrument_id,
            ts_event=ts_event,
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

    def _on_add(self, side: bytes, price: int, size: int, order_id: int) -> None:
        if side in self._sides and price != UNDEFINED_PRICE:
            tick = self._ticks(price)
            self._orders[order_id] = (side, tick, size)
            self._sides[side].add(tick, size)

    def _on_cancel(self, _: bytes, __: int, size: int, order_id: int) -> None:
        known = self._orders.pop(order_id, None)
        if known is None:
            self.unknown_orders += 1
            return
        side, tick, lots = known
        gone = min(size, lots)
        self._sides[side].add(tick, -gone)
        if gone < lots:
            self._orders[order_id] = (side, tick, lots - gone)

    def _on_modify(self, side: bytes, price: int, size: int, order_id: int) -> None:
        known = self._orders.pop(order_id, None)
        if known is None:
            self.unknown_orders += 1
        else:
            old_side, tick, lots = known
            self._sides[old_side].add(tick, -lots)
        self._on_add(side, price, size, order_id)

    def _on_clear(self, *_: object) -> None:
        self._orders.clear()
        self._sides = {_BID: BookSide(-1), _ASK: BookSide(1)}
        self._is_continuous = self._has_traded = False

    _ACTIONS: Final[dict[bytes, Callable[..., None]]] = {b"A": _on_add, b"C": _on_cancel, b"M": _on_modify, b"R": _on_clear}


class BarStream(TradeStream):
    """Bars; the files stamp them with their start."""

    def take(self, row: Row, sequence: int) -> Iterable[MarketEvent]:
        """Return the bar, stamped with its end. Nobody says who began its trades."""
        ts_event, open_, high, low, close, volume = row
        del sequence  # bars have none
        return (
            Bar(
                instrument_id=self._instrument_id,
                ts_event=ts_event + self.shift_ns,
                interval_s=self.shift_ns / NS_PER_S,
                open_ticks=self._ticks(open_),
                high_ticks=self._ticks(high),
                low_ticks=self._ticks(low),
                close_ticks=self._ticks(close),
                volume=volume,
                buy_volume=0,
                sell_volume=0,
            ),
        )


class SecondBars(BarStream):
    """Bars of one second."""

    shift_ns = NS_PER_S


class MinuteBars(BarStream):
    """Bars of one minute."""

    shift_ns = 60 * NS_PER_S


class HourBars(BarStream):
    """Bars of one hour."""

    shift_ns = 3_600 * NS_PER_S


class DayBars(BarStream):
    """Bars of one UTC day."""

    shift_ns = 86_400 * NS_PER_S


def _received_ns(ts_event: int, ts_recv: int) -> int:
    """Return when the capture server received a record, or the venue's time where nobody noted that, ns UTC."""
    return ts_event if ts_recv == UNDEFINED_TIME else ts_recv


STREAMS: Final[dict[str, type[TradeStream]]] = {
    "mbo": OrderStream,
    "mbp-1": PriceStream,
    "mbp-10": PriceStream,
    "trades": TradeStream,
    "ohlcv-1s": SecondBars,
    "ohlcv-1m": MinuteBars,
    "ohlcv-1h": HourBars,
    "ohlcv-1d": DayBars,
}
