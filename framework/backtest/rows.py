"""A recording to the rows that a live run would have had, book by book through the same actors, for the model to predict at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from framework.backtest_job import BatchPart
from framework.clock import EventClock
from framework.dataset.schema import SCHEMA, to_table
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.kernel.pacer import Pacer
from framework.market.catalogue.reading import open_market
from framework.market.dom import DomBuffer, DomBufferActor
from framework.market.market_data import MarketData
from framework.messages import DomUpdated, Message
from framework.model import Instrument

BLOCK_ROWS: Final = 8_192


class _RowWriter(Actor):
    """Write the rows of one instrument as they come, block by block."""

    def __init__(self, buffer: DomBuffer, instrument: Instrument, path: Path) -> None:
        super().__init__(f"rows:{instrument.instrument_id}")
        self._buffer = buffer
        self._instrument = instrument
        self._taken = 0
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="none")

    def handle(self, message: Message) -> None:
        """Write a block when it is full."""
        del message
        if self._buffer.total_rows - self._taken >= BLOCK_ROWS:
            self._write()

    def close(self) -> None:
        """Write what is left."""
        self._write()
        self._writer.close()

    def _write(self) -> None:
        rows = self._buffer.rows_since(self._taken)
        self._taken = self._buffer.total_rows
        one = self._instrument
        self._writer.write_table(to_table(one.instrument_id, float(one.tick_size), rows, has_trades=one.has_trades))


async def write_rows(data: Sequence[Path], folder: Path, on_share: Callable[[float], None]) -> tuple[BatchPart, ...]:
    """Replay `data` into DOM buffers and write their rows; return one part for each instrument. Raises as `open_feed` and its sources."""
    feed = open_market([str(path) for path in data])
    clock, bus = EventClock(feed.start_ns or 0), EventBus()
    pacer = Pacer(clock, bus, speed=None)
    market_data = MarketData(bus, clock, feed.instruments)
    writers = []
    parts = []
    for number, instrument in enumerate(feed.instruments):
        buffer = DomBuffer(instrument, 2 * BLOCK_ROWS)
        writer = _RowWriter(buffer, instrument, folder / f"rows-{number}.parquet")
        for actor in (DomBufferActor(bus, buffer), writer):
            bus.register(actor)
            actor.on_start()
        bus.subscribe(writer.name, DomUpdated, instrument.instrument_id)
        writers.append(writer)
        parts.append(_part(instrument, folder, number))

    def take(event: Message) -> None:
        market_data.accept(event)  # type: ignore[arg-type]
        on_share(feed.progress)

    feed.start(clock, take, pacer.stop)
    await pacer.run()
    market_data.stop()
    for writer in writers:
        writer.close()
    return tuple(parts)


def _part(instrument: Instrument, folder: Path, number: int) -> BatchPart:
    return BatchPart(
        instrument_id=instrument.instrument_id,
        tick_size=float(instrument.tick_size),
        has_trades=instrument.has_trades,
        rows_file=str(folder / f"rows-{number}.parquet"),
        answers_file=str(folder / f"answers-{number}.parquet"),
    )
