"""Recordings as market events and as rows: what strategies are replayed on, and what features and models are checked on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from framework.clock import EventClock
from framework.dataset import DatasetWriter
from framework.errors import ConfigError
from framework.kernel.bus import EventBus
from framework.market.dom import DomBuffer, DomBufferActor
from framework.market.feed import arrival_ns
from framework.market.formats import open_feed
from framework.market.market_data import MarketData
from framework.messages import MarketEvent
from framework.research.leaks.strategies import Market

MAX_EVENTS: Final = 60_000
BLOCK_ROWS: Final = 500


class _Taken(list[MarketEvent]):
    """Market events, as a feed's sink takes them."""


def read_market(paths: Sequence[Path], *, max_events: int = MAX_EVENTS) -> Market:
    """Read the first events of recordings, in order of arrival. Raises `ConfigError` or `IntegrityError`."""
    feed = open_feed(paths)
    clock, events = EventClock(feed.start_ns or 0), _Taken()
    feed.start(clock, events.append, lambda: None)
    while len(events) < max_events and (due_ns := clock.next_timer_ns()) is not None:
        clock.run_next(due_ns)
    feed.stop()
    if not events:
        raise ConfigError(f"--data: {', '.join(map(str, paths))} holds no market events")
    title = f"the first {len(events):,} events of {', '.join(path.name for path in paths)}"
    return Market(events=tuple(islice(events, max_events)), instruments=feed.instruments, title=title)


def write_rows(market: Market, directory: Path, on_share: Callable[[float], None]) -> int:
    """Turn events into DOM rows through the same actors as live, into a dataset; return how many. Raises `StorageError`."""
    bus, clock = EventBus(), EventClock()
    buffers = {one.instrument_id: DomBuffer(one, 2 * BLOCK_ROWS) for one in market.instruments}
    for buffer in buffers.values():
        actor = DomBufferActor(bus, buffer)
        bus.register(actor)
        actor.on_start()
    data = MarketData(bus, clock, market.instruments)
    writer = DatasetWriter(directory)
    taken = dict.fromkeys(buffers, 0)
    for number, event in enumerate(market.events):
        clock.advance_to(arrival_ns(event))
        data.accept(event)
        bus.drain()
        buffer = buffers[event.instrument_id]
        if buffer.total_rows - taken[event.instrument_id] >= BLOCK_ROWS:
            taken[event.instrument_id] = _append(writer, buffer, taken[event.instrument_id])
            on_share(number / len(market.events))
    for name, buffer in buffers.items():
        if buffer.total_rows > taken[name]:
            _append(writer, buffer, taken[name])
    total = writer.total_rows
    writer.close()
    return total


def _append(writer: DatasetWriter, buffer: DomBuffer, taken: int) -> int:
    writer.append(buffer.instrument, buffer.rows_since(taken))
    return buffer.total_rows
