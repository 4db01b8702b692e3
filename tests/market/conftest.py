"""Instruments, books and a rig of feed, gate and DOM that the tests of the market room share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import pytest

from framework.clock import EventClock
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.market.market_data import MarketData
from framework.messages import (
    Bar,
    BookInvalid,
    BookRecovered,
    BookSnapshot,
    DomUpdated,
    MarketEvent,
    Message,
    SessionChanged,
    TradeTick,
)
from framework.model import NS_PER_S, Instrument, Side

T0 = 1_700_000_000 * NS_PER_S


class Listener(Actor):
    """Keep every message of the market."""

    def __init__(self, bus: EventBus) -> None:
        super().__init__("listener")
        self.got: list[Any] = []
        bus.register(self)
        for message_type in (BookSnapshot, TradeTick, Bar, SessionChanged, BookInvalid, BookRecovered, DomUpdated):
            bus.subscribe(self.name, message_type)

    def handle(self, message: Message) -> None:
        self.got.append(message)

    def of(self, *message_types: type[Message]) -> list[Any]:
        return [message for message in self.got if isinstance(message, message_types)]


class Rig:
    """A gate with its clock and bus; `send` delivers events at their times."""

    def __init__(self, instruments: Iterable[Instrument], **settings: Any) -> None:
        self.clock = EventClock()
        self.bus = EventBus()
        self.listener = Listener(self.bus)
        self.heard: list[MarketEvent] = []
        self.market_data = MarketData(self.bus, self.clock, instruments, [self.heard.append], **settings)

    def send(self, *events: MarketEvent) -> None:
        for event in events:
            self.wait_until(getattr(event, "ts_recv", event.ts_event))
            self.market_data.accept(event)
            self.bus.drain()

    def wait_until(self, when_ns: int) -> None:
        while (due_ns := self.clock.next_timer_ns()) is not None and due_ns <= when_ns:
            self.clock.advance_to(due_ns)
            self.bus.drain()
        self.clock.advance_to(when_ns)

    def run(self, feed: Any) -> bool:
        """Run `feed` to its end and return whether it said so."""
        ended = run_feed(feed, self.clock, self.market_data.accept, self.market_data.stop, self.bus.drain)
        self.bus.drain()
        return ended


def make_book(number: int = 0, **changes: Any) -> BookSnapshot:
    """Return book `number`: two levels a side, a tenth of a second after the one before."""
    at_ns = T0 + number * NS_PER_S // 10
    fields: dict[str, Any] = {
        "instrument_id": "ESH4.GLBX",
        "ts_event": at_ns,
        "sequence": number,
        "bid_ticks": (100, 99),
        "bid_sizes": (5, 7),
        "ask_ticks": (101, 102),
        "ask_sizes": (6, 8),
    } | changes
    return BookSnapshot(**({"ts_recv": fields["ts_event"]} | fields))


def make_trade(number: int = 0, **changes: Any) -> TradeTick:
    at_ns = T0 + number * NS_PER_S // 10
    fields: dict[str, Any] = {
        "instrument_id": "ESH4.GLBX",
        "ts_event": at_ns,
        "sequence": number,
        "price_ticks": 101,
        "size": 1,
        "aggressor": Side.BUY,
    } | changes
    return TradeTick(**({"ts_recv": fields["ts_event"]} | fields))


def run_feed(
    feed: Any,
    clock: EventClock,
    sink: Callable[[MarketEvent], None],
    on_end: Callable[[], None] = lambda: None,
    drain: Callable[[], object] = lambda: None,
) -> bool:
    """Run `feed` to its end and return whether it said so."""
    ended: list[bool] = []
    feed.start(clock, sink, lambda: (ended.append(True), on_end())[0])
    while (due_ns := clock.next_timer_ns()) is not None:
        clock.advance_to(due_ns)
        drain()
    return ended == [True]


@pytest.fixture
def instrument() -> Instrument:
    return Instrument(instrument_id="ESH4.GLBX", tick_size=Decimal("0.25"), multiplier=Decimal(50), session_gap_s=60.0)


@pytest.fixture
def rig(instrument: Instrument) -> Rig:
    return Rig([instrument])


@pytest.fixture
def book() -> Callable[..., BookSnapshot]:
    return make_book


@pytest.fixture
def trade() -> Callable[..., TradeTick]:
    return make_trade


@pytest.fixture
def make_rig(instrument: Instrument) -> Callable[..., Rig]:
    return lambda instruments=(instrument,), **settings: Rig(instruments, **settings)


@pytest.fixture
def run() -> Callable[..., bool]:
    return run_feed


@pytest.fixture
def collect() -> Callable[[Any], list[MarketEvent]]:
    """Return a function that runs a feed and returns all it delivered."""

    def collected(feed: Any) -> list[MarketEvent]:
        events: list[MarketEvent] = []
        assert run_feed(feed, EventClock(), events.append)
        return events

    return collected
