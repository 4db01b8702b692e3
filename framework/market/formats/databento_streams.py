"""Databento records of one instrument to market events: one stream per schema.

Market by order is rebuilt order by order. The book is looked at only at the end of an event (flag 0x80) and published when its
visible levels changed, during continuous trading: not from the snapshot at the start of a file, and not in an
auction, where crossed books are normal. An auction is over when it has traded and the book is uncrossed. While orders move only
below the visible levels, the book is shown again every second, so that silence means silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from framework.errors import ConfigError
from framework.market.formats.book import BookSide
from framework.messages import BookSnapshot, MarketEvent, TradeTick
from framework.model import Instrument, Side

PRICE_SCALE: Final = 1_000_000_000
LAST_OF_EVENT: Final = 0x80
SNAPSHOT: Final = 0x20
SHOW_AGAIN_NS: Final = 1_000_000_000
UNDEFINED_PRICE: Final = 2**63 - 1
UNDEFINED_TIME: Final = 2**64 - 1
_AGGRESSORS: Final = {"B": Side.BUY, "A": Side.SELL}


def received_ns_of(record: Any) -> int:
    """Return when the capture server received `record`, or the venue's time where nobody noted that, ns UTC."""
    received_ns: int = record.ts_recv
    return record.ts_event if received_ns == UNDEFINED_TIME else received_ns


class TradeStream:
    """Records of one instrument to trades; the base of the others."""

    def __init__(self, instrument: Instrument, book_interval_ns: int, path: Path) -> None:
        self._instrument_id = instrument.instrument_id
        self._tick = int(instrument.tick_size * PRICE_SCALE)
        self._book_interval_ns = book_interval_ns
        self._path = path

    def take(self, record: Any, sequence: int) -> Iterator[MarketEvent]:
        """Yield what one record says, numbered from `sequence`. Raises `ConfigError` for a price between two ticks."""
        if record.action == "T" and record.price != UNDEFINED_PRICE and record.size:
            yield self._trade(record, sequence)

    def _trade(self, record: Any, sequence: int) -> TradeTick:
        return TradeTick(
            instrument_id=self._instrument_id,
            ts_event=record.ts_event,
            ts_recv=received_ns_of(record),
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


class PriceStream(TradeStream):
    """Market by price: each record carries the levels; a book is published when they changed."""

    def __init__(self, instrument: Instrument, book_interval_ns: int, path: Path) -> None:
        super().__init__(instrument, book_interval_ns, path)
        self._last: tuple[Any, ...] = ()

    def take(self, record: Any, sequence: int) -> Iterator[MarketEvent]:
        """Yield the record's trade, and its book if the event ends and the levels changed."""
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
                ts_recv=received_ns_of(record),
                sequence=sequence,
                bid_ticks=tuple(tick for tick, _ in bids),
                bid_sizes=tuple(size for _, size in bids),
                ask_ticks=tuple(tick for tick, _ in asks),
                ask_sizes=tuple(size for _, size in asks),
            )


class OrderStream(TradeStream):
    """Market by order: the book rebuilt from its orders."""

    def __init__(self, instrument: Instrument, book_interval_ns: int, path: Path) -> None:
        super().__init__(instrument, book_interval_ns, path)
        self._orders: dict[int, tuple[str, int, int]] = {}
        self._sides = {"B": BookSide(-1), "A": BookSide(1)}
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
        received_ns = received_ns_of(record)
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
        self._sides = {"B": BookSide(-1), "A": BookSide(1)}
        self._is_continuous = self._has_traded = False

    _ACTIONS: Final = {"A": _on_add, "C": _on_cancel, "M": _on_modify, "R": _on_clear}


STREAMS: Final[dict[str, type[TradeStream]]] = {"mbo": OrderStream, "mbp-1": PriceStream, "mbp-10": PriceStream, "trades": TradeStream}
