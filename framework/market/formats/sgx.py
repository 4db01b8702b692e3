"""SGX FTSE China A50 book states: a line with the time opens a state, up to three lines of levels follow, best first.

Prices are hundredths of an index point, times are of Singapore. States before the opening at 09:00 are orders of an auction, and
a few later ones are locked or crossed in the middle of an exchange event: both are left out and counted in `notes`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Final

from framework.errors import ConfigError, IntegrityError
from framework.market.formats.lines import PlainBytes
from framework.market.formats.units import OffUnit, Units
from framework.messages import BookSnapshot, MarketEvent
from framework.model import NS_PER_S, Instrument

OPENING_HOUR: Final = 9
_HEAD: Final = b"Bid,Bid_Quantity,Ask,Ask_Quantity"
_SINGAPORE: Final = timezone(timedelta(hours=8))
_TIME: Final = re.compile(rb"TimeStamp,(\d{4}-\d\d-\d\d)D(\d\d:\d\d:\d\d)\.(\d{9})")
_SHARE_STATES: Final = 256

State = tuple[int, int, list[bytes]]
"""Line, time (ns UTC) and lines of levels of one state."""


def is_head(head: bytes) -> bool:
    """Return whether a file that begins so is one of these."""
    return head.startswith(_HEAD)


class SgxSource:
    """One file of the front-month future. Opening reads its times; raises `ConfigError` or `IntegrityError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read_share = 0.0
        self.next_sequence = 0
        self.line = 0
        self.notes: Counter[str] = Counter()
        self.instruments: tuple[Instrument, ...] = (
            Instrument(instrument_id="CN.SGX", tick_size=Decimal(5), has_trades=False, session_gap_s=600.0),
        )
        self._ticks = Units("tick size", Decimal(500))
        self._lots = Units("lot size", Decimal(1))
        first = last = 0
        for line, ts, _ in self._states():
            if ts < last:
                raise ConfigError(f"{path}: line {line} is earlier than the state above it; sort the states by time")
            first, last = first or ts, ts
        if not first:
            raise ConfigError(f"{path}: holds no book state")
        self.start_ns, self.end_ns = first, last

    def where(self) -> str:
        """Return which line the last event came from."""
        return f"line {self.line}"

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield the states of the continuous session, numbered from `first_sequence`."""
        self.next_sequence = first_sequence
        self.notes.clear()
        for line, ts, levels in self._states():
            self.line = line
            book = self._book(ts, levels)
            if ts // NS_PER_S % 86_400 // 3_600 + 8 < OPENING_HOUR:
                self.notes["states before the opening left out"] += 1
            elif book.bid_ticks and book.ask_ticks and book.bid_ticks[0] >= book.ask_ticks[0]:
                self.notes["locked or crossed states left out"] += 1
            else:
                yield book
                self.next_sequence += 1
        self.read_share = 1.0

    def _states(self) -> Iterator[State]:
        state: State | None = None
        with PlainBytes(self.path) as content:
            for number, raw in enumerate(content.lines(), 1):
                line = raw.strip()
                if line.startswith(b"TimeStamp"):
                    if state is not None:
                        yield state
                    state = (number, self._time_ns(line, number), [])
                    self.read_share = content.share if number % _SHARE_STATES == 0 else self.read_share
                elif line and number > 1 and state is not None:
                    state[2].append(line)
        if state is not None:
            yield state

    def _time_ns(self, line: bytes, number: int) -> int:
        found = _TIME.fullmatch(line)
        if found is None:
            raise IntegrityError(f"{self.path}: line {number} has no time: {line[:60]!r}; cut or damaged, fetch it again")
        day, clock, ns = (part.decode() for part in found.groups())
        try:
            second = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=_SINGAPORE).timestamp()
        except ValueError as exc:
            raise IntegrityError(f"{self.path}: line {number} has no time: {line[:60]!r}; cut or damaged, fetch it again") from exc
        return round(second) * NS_PER_S + int(ns)

    def _book(self, ts: int, levels: list[bytes]) -> BookSnapshot:
        cells = [level.decode("ascii", "replace").split(",") for level in levels]
        if any(len(row) != 4 for row in cells):
            raise IntegrityError(f"{self.path}: below line {self.line} a level has not four columns; cut or damaged, fetch it again")
        try:
            bids = [(self._ticks[row[0]], self._lots[row[1]]) for row in cells if row[0] and row[1]]
            asks = [(self._ticks[row[2]], self._lots[row[3]]) for row in cells if row[2] and row[3]]
        except OffUnit as exc:
            raise ConfigError(f"{self.path}: below line {self.line}: {exc}; fetch the file again") from exc
        return BookSnapshot(
            instrument_id="CN.SGX",
            ts_event=ts,
            ts_recv=ts,
            sequence=self.next_sequence,
            bid_ticks=tuple(tick for tick, lots in bids if lots > 0),
            bid_sizes=tuple(lots for _, lots in bids if lots > 0),
            ask_ticks=tuple(tick for tick, lots in asks if lots > 0),
            ask_sizes=tuple(lots for _, lots in asks if lots > 0),
        )
