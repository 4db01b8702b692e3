"""One security of an MDP 3.0 feed: ten levels a side, changed by level number."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from framework.messages import BookSnapshot, MarketEvent, SessionChanged, TradeTick
from framework.model import Instrument, Side
from framework.window import LEVELS

MANTISSA: Final = Decimal("1e-11")
"""Price in points of one unit: mantissas of 1e-9 times the display factor 0.01 of the equity-index futures."""
_AGGRESSORS: Final = {1: Side.BUY, 2: Side.SELL}
_NEW: Final = 0
_SIDES: Final = (b"0", b"1")

Entry = tuple[Any, ...]
Level = tuple[int, int] | None


class SecurityBook:
    """The book by price. `apply` changes it, `look` shows it where an event ends; a book that is not whole is not shown."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self._unit = int(instrument.tick_size / MANTISSA)
        self._forget()
        self._has_gap = False
        self._report: int | None = None

    def apply(self, entry: Entry) -> str:
        """Apply an entry of a book refresh and return what is wrong with it, or an empty text. Implied and other kinds do not count."""
        price, size, _, _, _, level, action, kind = entry
        if kind not in _SIDES:
            return ""
        change = self._ACTIONS.get(action)
        if change is None:  # one that deletes many levels at once: what is left of the book nobody here can say
            self._is_lost = True
            return ""
        if not 1 <= level <= LEVELS:
            return f"an entry is at level {level}, allowed are 1 to {LEVELS}"
        if price % self._unit:
            return f"the price {price * MANTISSA} is not a multiple of the tick size {self.instrument.tick_size}"
        change(self._levels[kind], level - 1, (price // self._unit, size))
        self._is_changed = True
        return ""

    def on_trade(self, entry: Entry, transact_ns: int, received_ns: int, sequence: int) -> Iterator[TradeTick]:
        """Yield the trade of an entry of a trade summary; corrections are none."""
        price, size, _, _, _, aggressor, action = entry
        if action == _NEW and size > 0 and not price % self._unit:
            yield TradeTick(
                instrument_id=self.instrument.instrument_id,
                ts_event=transact_ns,
                ts_recv=received_ns,
                sequence=sequence,
                price_ticks=price // self._unit,
                size=size,
                aggressor=_AGGRESSORS.get(aggressor),
            )

    def look(self, transact_ns: int, received_ns: int, sequence: int) -> Iterator[MarketEvent]:
        """Yield the book if it changed and is whole."""
        if self._is_lost:
            yield from self.on_gap(received_ns)
        if not self._is_changed or not self._is_known():
            return
        self._is_changed = False
        if self._has_gap:
            self._has_gap = False
            yield SessionChanged(
                instrument_id=self.instrument.instrument_id, ts_event=received_ns, is_open=True, reason="every level is known again"
            )
        bids, asks = (self._shown(kind) for kind in _SIDES)
        yield BookSnapshot(
            instrument_id=self.instrument.instrument_id,
            ts_event=transact_ns,
            ts_recv=received_ns,
            sequence=sequence,
            bid_ticks=tuple([tick for tick, _ in bids]),
            bid_sizes=tuple([lots for _, lots in bids]),
            ask_ticks=tuple([tick for tick, _ in asks]),
            ask_sizes=tuple([lots for _, lots in asks]),
        )

    def on_gap(self, received_ns: int) -> Iterator[SessionChanged]:
        """Forget the book; close the session if it was shown."""
        was_shown = self._is_whole
        self._forget()
        if was_shown:
            self._has_gap = True
            yield SessionChanged(
                instrument_id=self.instrument.instrument_id,
                ts_event=received_ns,
                is_open=False,
                reason="gap: changes of the book are missing",
            )

    def _forget(self) -> None:
        self._levels: dict[bytes, list[Level]] = {kind: [None] * LEVELS for kind in _SIDES}
        self._is_whole = self._is_changed = self._is_lost = False

    def _is_known(self) -> bool:
        if not self._is_whole:
            self._is_whole = all(level is not None for side in self._levels.values() for level in side)
        return self._is_whole

    def _shown(self, kind: bytes) -> list[tuple[int, int]]:
        return [level for level in self._levels[kind] if level is not None]

    @staticmethod
    def _insert(side: list[Level], index: int, level: Level) -> None:
        side.insert(index, level)
        side.pop()

    @staticmethod
    def _change(side: list[Level], index: int, level: Level) -> None:
        side[index] = level

    @staticmethod
    def _delete(side: list[Level], index: int, _: Level) -> None:
        side.pop(index)
        side.append(None)

    _ACTIONS: Final = {0: _insert, 1: _change, 2: _delete}
