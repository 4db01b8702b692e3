"""The first model: generate history of the simulated market, record it as rows, and have the ML process learn from it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, Final, NamedTuple

from framework.clock import EventClock
from framework.dataset import BackgroundDatasetWriter, DatasetWriter
from framework.inference.client import MLClient
from framework.kernel.bus import EventBus
from framework.market.dom import DomBuffer, DomBufferActor
from framework.market.market_data import MarketData
from framework.messages import BookSnapshot, MarketEvent
from framework.model import NS_PER_S
from framework.operations.options import StartOptions
from framework.progress import Progress
from framework.venues.simulated import DEFAULT_START_NS, generate_history
from framework.venues.simulated_tape import INSTRUMENT

HISTORY_S: Final = 7_200
BLOCK_ROWS: Final = 500
POLL_S: Final = 0.25
TRAINING_TIMEOUT_S: Final = 600.0
# Far from the seeds that people give to `start`: the history must not be the market that is traded next.
SEED_OFFSET: Final = 1_000_003


class Ended(NamedTuple):
    """How a training ended: DONE with a version, REFUSED or FAILED, and why."""

    state: str
    version: str
    detail: str

    def __str__(self) -> str:
        return f"{self.state} {self.version} {self.detail}".replace("  ", " ").strip()


Writer = DatasetWriter | BackgroundDatasetWriter
log = logging.getLogger("FirstTraining")


def history_events(options: StartOptions) -> Iterator[MarketEvent]:
    """Yield two hours of the simulated market as it was before the run, from a seed of its own."""
    return generate_history(
        options.config.simulated_market,
        seed=options.seed + SEED_OFFSET,
        start_ns=DEFAULT_START_NS - HISTORY_S * NS_PER_S,
        duration_s=HISTORY_S,
    )


async def record_history(events: Iterator[MarketEvent], writer: Writer, on_progress: Progress) -> int:
    """Turn events into DOM rows through the same actors as live, append them to the dataset and seal it; return how many.

    Gives the loop its turn after each block. Raises `StorageError`.
    """
    bus, clock = EventBus(), EventClock()
    buffer = DomBuffer(INSTRUMENT, 2 * BLOCK_ROWS)
    actor = DomBufferActor(bus, buffer)
    bus.register(actor)
    actor.on_start()
    market_data = MarketData(bus, clock, (INSTRUMENT,))
    taken, first_ns = 0, None
    for event in events:
        first_ns = event.ts_event if first_ns is None else first_ns
        clock.advance_to(event.ts_event)
        market_data.accept(event)
        bus.drain()
        if isinstance(event, BookSnapshot) and buffer.total_rows - taken >= BLOCK_ROWS:
            writer.append(INSTRUMENT, buffer.rows_since(taken))
            taken = buffer.total_rows
            on_progress("generating history", (event.ts_event - first_ns) / (HISTORY_S * NS_PER_S))
            await asyncio.sleep(0)
    writer.append(INSTRUMENT, buffer.rows_since(taken))
    sealed = writer.seal()
    if isinstance(sealed, Future):
        await asyncio.wrap_future(sealed)
    on_progress("generating history", 1.0)
    return buffer.total_rows


async def train_and_wait(client: MLClient, reason: str, on_progress: Progress, refit: str = "") -> Ended:
    """Ask for a training (or join the one that runs), wait until it ended, and return how.

    Raises `TimeoutError` after ten minutes, `MLUnavailable` if the service went away.
    """
    await client.train(reason, refit)
    async with asyncio.timeout(TRAINING_TIMEOUT_S):
        while True:
            status = await client.status()
            job: dict[str, Any] = (status.get("training") or {}).get("job") or {}
            on_progress(f"training: {job.get('stage', '')}", float(job.get("fraction") or 0.0))
            if status.get("state") != "TRAINING":
                return Ended(str(job.get("state", "")), str(job.get("version", "")), str(job.get("detail", "")))
            await asyncio.sleep(POLL_S)


def log_progress(to: logging.Logger) -> Progress:
    """Return a progress function that logs a line per stage and quarter of it."""
    said: set[tuple[str, int]] = set()

    def report(stage: str, share: float) -> None:
        quarter = int(share * 4)
        if (stage, quarter) not in said:
            said.add((stage, quarter))
            to.info("%s: %.0f %%", stage, 100 * share)

    return report
