"""Hours in virtual time: the whole trading process, an ML process by script, and a fault every ten seconds."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.config import SimulatedMarketConfig
from framework.kernel.simulation import SimulatedLoop
from framework.market.feed import Feed
from framework.messages import BookSnapshot, MarketEvent, Message, PredictionFailed, PredictionReceived, SubmitOrder
from framework.model import TradingState
from framework.operations.deployments import Deployment
from framework.wire import FeedbackItem
from tests.faults.held import CALM_S, EVERY_S, Found, sample
from tests.flows.harness import FAULTS, FeedbackShelf, MLProcess, Run, Story, TamperedFeed, strategy

SAMPLED_S: Final = 60.0
SHM: Final = Path("/dev/shm")


@dataclass
class Shelf(FeedbackShelf):
    """A store that counts and does not keep: it stands for a file of another process."""

    stored: int = 0

    @property
    def count(self) -> int:
        return self.stored

    def add(self, items: Sequence[FeedbackItem], *, received_ns: int) -> int:
        self.stored += len(items)
        return len(items)


class Watcher(Story):
    """Count messages instead of keeping them, and look at each outcome as it comes."""

    def __init__(self, found: Found) -> None:
        super().__init__()
        self._found = found
        self.deadlines_s: dict[str, float] = {}

    def __call__(self, message: Message) -> None:
        self._found.events += isinstance(message, MarketEvent)
        self._found.orders += isinstance(message, SubmitOrder)
        if isinstance(message, PredictionReceived):
            self._end(message.prediction.prediction_id, is_used=True)
        elif isinstance(message, PredictionFailed):
            self._end(message.prediction_id, is_used=False)

    def _end(self, prediction_id: str, *, is_used: bool) -> None:
        """A request that was never sent has no deadline on the wire."""
        self._found.predictions += 1
        deadline_s = self.deadlines_s.pop(prediction_id, None)
        if is_used and deadline_s is None:
            self._found.violations.append(f"{prediction_id} was used twice, or without having been asked for")
        elif is_used and deadline_s is not None and asyncio.get_running_loop().time() > deadline_s + 1e-9:
            self._found.violations.append(f"{prediction_id} was used after its deadline")


class Nemesis:
    """One fault every ten seconds, of any kind, for as long as it likes, and never two at once."""

    def __init__(self, run: Run, seed: int, found: Found) -> None:
        self._run = run
        self._found = found
        self._rng = random.Random(f"soak-{seed}")
        self.is_book_bad = False
        self._acts: dict[str, Callable[[], Callable[[], None]]] = {
            "ML process killed": lambda: self._set("is_dead"),
            "ML process hangs": lambda: self._set("is_hanging"),
            "answers lost, late, twice, foreign or garbage": lambda: self._set("is_faulty"),
            "halt": self._halt,
            "bad books": self._spoil,
            "strategy started again": self._restart,
            "loop stands still": self._stall,
            "training": self._train,
        }

    async def torment(self, seconds: float) -> None:
        """Strike until there is only the calm at the end left."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds - CALM_S
        while loop.time() + EVERY_S < end_s:
            name = self._rng.choice(tuple(self._acts))
            self._found.faults[name] += 1
            mend = self._acts[name]()
            lasts_s = self._rng.uniform(0.2, EVERY_S - 2.0)
            await asyncio.sleep(lasts_s)
            mend()
            await asyncio.sleep(EVERY_S - lasts_s)

    def _set(self, name: str) -> Callable[[], None]:
        setattr(self._run.transport, name, True)
        return lambda: setattr(self._run.transport, name, False)

    def _halt(self) -> Callable[[], None]:
        execution = self._run.process.desk.execution
        execution.set_state(TradingState.HALTED, "a test asked")
        if self._rng.random() < 0.5:
            execution.flatten("a test asked")
        return lambda: execution.set_state(TradingState.ACTIVE, "a test resumed")

    def _spoil(self) -> Callable[[], None]:
        self.is_book_bad = True
        return lambda: setattr(self, "is_book_bad", False)

    def tamper(self, event: MarketEvent, _: float) -> Iterator[MarketEvent]:
        """Cross the books while they are bad."""
        if self.is_book_bad and isinstance(event, BookSnapshot) and event.bid_ticks and event.ask_ticks:
            event = msgspec.structs.replace(event, bid_ticks=event.ask_ticks, ask_ticks=event.bid_ticks)
        yield event

    def _restart(self) -> Callable[[], None]:
        one = self._rng.choice(tuple(self._run.strategies))
        self._run.process.host.stop(one.file.name)
        return lambda: self._run.process.host.start(one)

    def _stall(self) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        loop.stall(self._rng.uniform(0.2, 3.0))
        return lambda: None

    def _train(self) -> Callable[[], None]:
        if self._run.process.trainings.share is None:
            self._run.process.trainings.request("soak")
        return lambda: None


async def _sample(found: Found) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    scheduled: list[Any] = loop._scheduled  # type: ignore[attr-defined]
    while True:
        await asyncio.sleep(SAMPLED_S)
        live = sum(not one.cancelled() for one in scheduled)
        found.samples.append(sample(loop.time(), len(loop.tasks()), live))


def traders() -> Iterable[Deployment]:
    """Strategies that always have something to do."""
    quick = {"prediction_cooldown_seconds": 0.5, "feedback_batch_size": 5, "feedback_send_interval_minutes": 0.1}
    trading = {"max_holding_s": 4.0, "entry_threshold": 0.15}
    return (
        strategy("ml_futures", parameters=trading, **quick),
        strategy("ml_futures", name="resting", parameters=trading | {"entry": "passive", "entry_timeout_s": 0.5}, **quick),
        strategy("book_imbalance", parameters=trading),
    )


def run(seed: int, seconds: float, book_interval_ms: float = 100.0) -> Found:
    """Run so long in virtual time."""
    found = Found(f"virtual time, seed {seed}, a book each {book_interval_ms:g} ms")
    directory = Path(tempfile.mkdtemp(prefix="soak-", dir=SHM if SHM.is_dir() else None))
    watcher = Watcher(found)
    made: list[Nemesis] = []

    async def meanwhile(run: Run) -> None:
        sampling = asyncio.ensure_future(_sample(found))
        try:
            await made[0].torment(seconds)
        finally:
            sampling.cancel()

    one = Run(
        directory / "state",
        ml=MLProcess(shelf=Shelf()),
        strategies=tuple(traders()),
        speed=1.0,
        seed=seed,
        duration_s=seconds,
        config={"simulated_market": SimulatedMarketConfig(book_interval_ms=book_interval_ms)},
        wrap_feed=lambda feed: _tampered(feed, made[0]),
        wire_options={"faults": tuple(FAULTS.values()), "seed": seed, "is_faulty": False},
        story=watcher,
    )
    one.transport.deadlines_s = watcher.deadlines_s
    made.append(Nemesis(one, seed, found))
    try:
        one.go(loop_seed=seed, meanwhile=meanwhile)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    found.lasted_s = seconds
    found.violations += well(one, watcher)
    return found


def _tampered(feed: Feed, nemesis: Nemesis) -> Feed:
    return TamperedFeed(feed, nemesis.tamper)


def well(run: Run, watcher: Watcher) -> list[str]:
    """Return what is not well at the end."""
    desk, stats = run.process.desk, run.process.client.stats() if run.process.client is not None else {}
    asked = {
        f"it ended because {run.process.reason}": run.process.reason == "the duration is over",
        "actors raised": desk.bus.stats()["faults"] == 0,
        "the journal is not healthy": desk.journal.is_healthy,
        f"{len(watcher.deadlines_s)} requests have no outcome": len(watcher.deadlines_s) <= len(run.strategies),
        f"{stats.get('in_flight', 0)} requests are in flight": stats.get("in_flight", 0) <= len(run.strategies) + 1,
        f"trading is {desk.execution.state}": desk.execution.state is TradingState.ACTIVE,
    }
    return [text for text, is_well in asked.items() if not is_well]
