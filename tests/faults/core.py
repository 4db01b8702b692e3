"""The trading core under test: Execution on a real journal, at the end of a line that outlives it. It can die and start again."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

from framework.clock import EventClock, Timer
from framework.config import RiskLimits
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.kernel.simulation import TraceHash
from framework.messages import BookInvalid, Message, OrderUpdated, SubmitOrder
from framework.model import NS_PER_S, Instrument, TradingState
from framework.trading.execution import ExecutionActor
from framework.trading.fold import replay
from framework.trading.journal import Journal
from framework.trading.portfolio import Portfolio
from framework.trading.risk import RiskGate
from framework.trading.snapshots import SnapshotKeeper
from tests.faults.disk import BadDisk
from tests.faults.line import Line, Mix

START_NS: Final = 1_705_329_000 * NS_PER_S
INSTRUMENTS: Final = tuple(Instrument(instrument_id=name, tick_size=Decimal("0.25"), multiplier=Decimal(50)) for name in ("A.X", "B.X"))
STRATEGIES: Final = ("one", "two", "three")
LIMITS: Final = RiskLimits(
    max_order_quantity=5,
    max_position=12,
    max_open_orders=8,
    max_orders_per_second=50,
    max_orders_per_minute=0,
    duplicate_window_s=0.0,
    answer_timeout_s=1.0,
    max_book_age_s=3.0,
)
SHM: Final = Path("/dev/shm")


class LifeClock:
    """The world's clock as one life of the process sees it: timers of the dead do not fire."""

    def __init__(self, clock: EventClock) -> None:
        self._clock = clock
        self.is_alive = True

    def now_ns(self) -> int:
        return self._clock.now_ns()

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        return self._clock.call_at(when_ns, lambda: callback() if self.is_alive else None)


class Ear(Actor):
    """Hear what strategies would."""

    def __init__(self, on_update: Callable[[OrderUpdated], None]) -> None:
        super().__init__("ear")
        self._on_update = on_update

    def handle(self, message: Message) -> None:
        assert isinstance(message, OrderUpdated)
        self._on_update(message)


@dataclass
class Core:
    """What a seed sets going. `rng` is everybody's, so that a seed is a run; `trace` hashes the run."""

    seed: int
    mix: Mix
    trace: TraceHash = field(default_factory=TraceHash)
    on_boot: Callable[[], None] = lambda: None
    on_update: Callable[[OrderUpdated], None] = lambda _: None
    on_point: Callable[[], None] = lambda: None
    """Called at each message of the bus and before each write and commit of the journal: where something from outside can strike."""
    resumes: bool = True
    """Whether a process that finds itself halted when it starts is resumed at once."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.clock = EventClock(START_NS)
        self.line = Line(self.clock, random.Random(self.seed + 1), self.mix, INSTRUMENTS)
        self.directory = Path(tempfile.mkdtemp(prefix="faults-", dir=SHM if SHM.is_dir() else None))
        self.mids = dict.fromkeys((one.instrument_id for one in INSTRUMENTS), 1_000)
        self.bad_books: set[str] = set()
        self.sent: dict[str, SubmitOrder] = {}
        self.is_killed = False
        self.lives = 0

    def boot(self) -> None:
        """Start as `start` does: fold, gate closed, reconcile."""
        self.lives += 1
        self.life = LifeClock(self.clock)
        self.bus = EventBus(tap=self._tap)
        self.disk = BadDisk(Journal(self.directory / "journal.sqlite"), lambda: self.on_point())
        self.journal = self.disk.journal
        past = replay(self.journal)
        self.execution = ExecutionActor(
            self.bus,
            self.life,
            venue=self.line,
            gate=RiskGate(LIMITS.model_copy(update={"on_quarantine": self.mix.on_quarantine})),
            portfolio=Portfolio({one.instrument_id: one for one in INSTRUMENTS}),
            journal=self.journal,
            instruments={one.instrument_id: one for one in INSTRUMENTS},
            is_killed=lambda: self.is_killed,
        )
        self.execution.recover(past)
        self.keeper = SnapshotKeeper(self.journal, past, self.execution.blotter, every=self.rng.choice((50, 500, 20_000)))
        self._join()
        self.on_boot()
        if self.resumes and self.execution.state is TradingState.HALTED:
            self.operator(lambda: self.execution.set_state(TradingState.ACTIVE, "resumed"))
        self.execution.reconcile()
        self.bus.drain()

    def _tap(self, message: Message) -> None:
        self.trace(message)
        self.on_point()

    def _join(self) -> None:
        """Connect what was built to the bus, the market and the line."""
        for actor in (self.execution, Ear(self.on_update)):
            self.bus.register(actor)
        self.execution.on_start()
        self.bus.subscribe("ear", OrderUpdated)
        for name in self.bad_books:
            self.bus.publish(BookInvalid(instrument_id=name, ts_event=self.clock.now_ns(), reason="still crossed"))
        self.line.start(self.life, self.execution.take)
        self.line.on_margin = self.execution.take

    def die(self) -> None:
        """Lose everything that was not committed, and start again."""
        self.line.stop()
        self.life.is_alive = False
        self.disk.lose_power()
        self.boot()

    def close(self) -> None:
        """End for good, and leave nothing behind."""
        self.line.stop()
        self.journal.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def operator(self, act: Callable[[], object]) -> None:
        """Let an operator do something."""
        act()
        self.bus.drain()

    def wait(self, seconds: float) -> None:
        """Let market time pass, and everything happen that is due in it."""
        until_ns = self.clock.now_ns() + round(seconds * NS_PER_S)
        while (due_ns := self.clock.next_timer_ns()) is not None and due_ns <= until_ns:
            self.clock.advance_to(due_ns)
            self.bus.drain()
        self.clock.advance_to(until_ns)
        self.bus.drain()
