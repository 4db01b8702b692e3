"""The tape of the simulated market: its session calendar, its steps in time, and what everybody sees of them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from framework.config import SimulatedMarketConfig
from framework.messages import BookSnapshot, MarketEvent, SessionChanged, TradeTick
from framework.model import NS_PER_MS, NS_PER_S, Instrument, Side
from framework.venues.simulated_book import OwnFill, Print
from framework.venues.simulated_flow import OrderFlow
from framework.venues.simulated_intents import Intents

INSTRUMENT: Final = Instrument(instrument_id="TIDE.SIM", tick_size=Decimal("0.25"), multiplier=Decimal(50), session_gap_s=60.0)
MAX_STEP_MS: Final = 20.0
_S_PER_DAY: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """One break a day, in seconds of the UTC day: trading stops at `close_s` and goes on at `open_s`."""

    close_s: int = 21 * 3_600
    open_s: int = 22 * 3_600

    def opens_at(self, now_ns: int) -> int | None:
        """Return when trading goes on, or None while it is open. A break may go over midnight."""
        day, second = divmod(now_ns // NS_PER_S, _S_PER_DAY)
        since_close_s = (second - self.close_s) % _S_PER_DAY
        length_s = (self.open_s - self.close_s) % _S_PER_DAY
        if since_close_s >= length_s:
            return None
        return (day * _S_PER_DAY + second - since_close_s + length_s) * NS_PER_S


@dataclass(slots=True)
class Happening:
    """What one advance of the tape brought: events for everybody, and executions of our resting orders."""

    events: list[MarketEvent] = field(default_factory=list)
    fills: list[OwnFill] = field(default_factory=list)


class Tape:
    """Advance the market from one instant to the next (`next_ns`): a step of the order flow, a close or an opening.

    Steps lie on a grid from `start_ns`, a whole number of them to each `book_interval_ms` and at most `MAX_STEP_MS` long; all
    that happens in a step carries the time of its end. A book is shown each `book_interval_ms` if it changed.
    """

    def __init__(
        self,
        settings: SimulatedMarketConfig,
        *,
        seed: int,
        start_ns: int,
        start_mid_ticks: int,
        flip_signal_at_s: float | None = None,
        calendar: Calendar | None = None,
    ) -> None:
        self._start_ns = start_ns
        self._interval_ns = round(settings.book_interval_ms * NS_PER_MS)
        self._steps_per_book = math.ceil(settings.book_interval_ms / MAX_STEP_MS)
        self._calendar = Calendar() if calendar is None else calendar
        step_s = self._interval_ns / self._steps_per_book / NS_PER_S
        intents = Intents(seed, strength=settings.signal_strength, step_s=step_s, flip_at_s=flip_signal_at_s)
        self.flow = OrderFlow(intents, random.Random(seed), step_s=step_s, start_mid_ticks=start_mid_ticks)
        self.is_open = True
        self._steps = 1
        self._sequence = 0
        self._shown: tuple[tuple[int, ...], ...] = ()
        self.next_ns = self._time_of(1)

    def advance(self) -> Happening:
        """Let happen what is due at `next_ns`."""
        now_ns = self.next_ns
        opens_ns = self._calendar.opens_at(now_ns)
        if opens_ns is not None:
            return self._switch(now_ns, opens_ns, is_open=False)
        if not self.is_open:
            self._steps = max(self._steps, (now_ns - self._start_ns) * self._steps_per_book // self._interval_ns)
            while self._time_of(self._steps) <= now_ns:
                self._steps += 1
            return self._switch(now_ns, self._time_of(self._steps), is_open=True)
        return self._step(now_ns)

    def prints(self, prints: Iterable[Print], now_ns: int) -> list[MarketEvent]:
        """Return trade ticks."""
        return [self._print(one, now_ns) for one in prints]

    def _time_of(self, step: int) -> int:
        return self._start_ns + step * self._interval_ns // self._steps_per_book

    def _switch(self, now_ns: int, next_ns: int, *, is_open: bool) -> Happening:
        self.next_ns, self.is_open = next_ns, is_open
        change = SessionChanged(
            instrument_id=INSTRUMENT.instrument_id, ts_event=now_ns, is_open=is_open, reason="session open" if is_open else "session break"
        )
        return Happening([change])

    def _step(self, now_ns: int) -> Happening:
        traded = self.flow.step()
        events = self.prints(traded.prints, now_ns)
        if self._steps % self._steps_per_book == 0:
            self._show(now_ns, events)
        self._steps += 1
        self.next_ns = self._time_of(self._steps)
        return Happening(events, traded.fills)

    def _print(self, one: Print, now_ns: int) -> TradeTick:
        self._sequence += 1
        return TradeTick(
            instrument_id=INSTRUMENT.instrument_id,
            ts_event=now_ns,
            ts_recv=now_ns,
            sequence=self._sequence,
            price_ticks=one.price_ticks,
            size=one.size,
            aggressor=one.aggressor,
        )

    def _show(self, now_ns: int, events: list[MarketEvent]) -> None:
        book = self.flow.book
        shown = (*book.levels(Side.BUY), *book.levels(Side.SELL))
        if shown == self._shown:
            return
        self._shown = shown
        self._sequence += 1
        bid_ticks, bid_sizes, ask_ticks, ask_sizes = shown
        events.append(
            BookSnapshot(
                instrument_id=INSTRUMENT.instrument_id,
                ts_event=now_ns,
                ts_recv=now_ns,
                sequence=self._sequence,
                bid_ticks=bid_ticks,
                bid_sizes=bid_sizes,
                ask_ticks=ask_ticks,
                ask_sizes=ask_sizes,
            )
        )
