"""One symbol's Binance book: a snapshot kept current by depth updates, by the venue's rule of synchronisation."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from framework.market.formats.book import BookSide
from framework.market.formats.units import Units
from framework.messages import BookSnapshot, MarketEvent, SessionChanged
from framework.model import NS_PER_MS, Instrument

MAX_WAITING: Final = 10_000
"""Updates that are kept while no snapshot fits; the oldest go first."""

Level = tuple[str, str]


class Depth(msgspec.Struct):
    """A `depthUpdate` message."""

    time_ms: int = msgspec.field(name="E")
    first: int = msgspec.field(name="U")
    last: int = msgspec.field(name="u")
    bids: list[Level] = msgspec.field(name="b")
    asks: list[Level] = msgspec.field(name="a")
    matched_ms: int | None = msgspec.field(name="T", default=None)
    before: int | None = msgspec.field(name="pu", default=None)


class Snapshot(msgspec.Struct):
    """A depth snapshot of the REST interface."""

    last: int = msgspec.field(name="lastUpdateId")
    bids: list[Level]
    asks: list[Level]


class BinanceBook:
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
        self._waiting: deque[Depth] = deque(maxlen=MAX_WAITING)

    def on_snapshot(self, snapshot: Snapshot, received_ns: int, sequence: int) -> Iterator[MarketEvent]:
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

    def on_update(self, update: Depth, received_ns: int, sequence: int) -> Iterator[MarketEvent]:
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

    def _follows(self, update: Depth) -> bool:
        if not self._has_spanned:
            return update.first <= self._last + 1
        return update.before == self._last if update.before is not None else update.first == self._last + 1

    def _begin(self, snapshot: Snapshot) -> None:
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

    def _shown(self, update: Depth, received_ns: int, sequence: int) -> BookSnapshot:
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
