"""Strategies that ask the ML process all the time, and somebody who writes down how each request ended.

The client, its transport, the analyzers, the link and the supervision of the process are the real ones; only the window is a fake.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from framework.clock import EventClock
from framework.config import MLServiceConfig
from framework.inference.analyzer import AnalyzerSettings, OrderFlowAnalyzer, Outcome, PredictionClient, Requested
from framework.inference.client import ClientSettings, MLClient
from framework.inference.transport import ZmqTransport
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.kernel.child_process import ChildPolicy
from framework.messages import FailureReason, Message, PredictionFailed, PredictionReceived, TradeTick
from framework.model import Side
from framework.operations.ml_link import MLLink
from framework.window import Window
from framework.wire import PredictReply
from tests.benchmarks.bench_prediction_round_trip import make_window

ROOT: Final = Path(__file__).resolve().parents[2]
TIMEOUT_S: Final = 0.1
PAUSE_S: Final = 0.002
ROWS: Final = 100
POLICY: Final = ChildPolicy(
    heartbeat_interval_s=0.05, heartbeat_misses=10, max_restarts=1_000_000, restart_window_s=60.0, backoff_s=0.01, backoff_s_max=0.05
)
CLIENT: Final = ClientSettings(heartbeat_interval_s=0.05, heartbeat_misses=6)


class Dom:
    """A buffer whose every window is about a book of its own, so that an answer to another request can be told apart."""

    def __init__(self, rows: int) -> None:
        self._window = make_window(rows=rows, bars=5)
        self._sequence = 1_000_000
        self.row_count = rows
        self.total_rows = rows

    def mid_ticks(self) -> float:
        return 20_000.5

    def window(self, _rows: int) -> Window:
        self._sequence += 1
        sequence = self._window.rows.sequence.copy()
        sequence[-1] = self._sequence
        return replace(self._window, rows=replace(self._window.rows, sequence=sequence))


@dataclass
class Asked:
    """One request: about which book, until when, and what came of it when."""

    sequence: int
    deadline_s: float
    ends: list[tuple[float, Outcome]] = field(default_factory=list)
    told: int = 0


@dataclass
class Record:
    """Everything that was asked. `wrong` is what may not be."""

    asked: dict[str, Asked] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    worst_overshoot_s: float = 0.0
    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    on_answer: Callable[[], None] = lambda: None

    def end(self, name: str, outcome: Outcome) -> None:
        """Take an outcome at the client."""
        one, now_s = self.asked[name], asyncio.get_running_loop().time()
        one.ends.append((now_s, outcome))
        if len(one.ends) > 1:
            self.wrong.append(f"{name} ended {len(one.ends)} times")
        late_s = now_s - one.deadline_s
        self.worst_overshoot_s = max(self.worst_overshoot_s, late_s)
        if isinstance(outcome, PredictReply):
            self.answers += 1
            self.outcomes["answered"] += 1
            if late_s > 0:
                self.wrong.append(f"{name} was answered {late_s * 1e3:.1f} ms after its deadline")
            if outcome.as_of_sequence != one.sequence:
                self.wrong.append(f"{name} asked about book {one.sequence} and heard about {outcome.as_of_sequence}")
            self.on_answer()
        else:
            self.outcomes[outcome] += 1
            if outcome is FailureReason.NO_MODEL:  # a service in good health that was never trained
                self.answers += 1
                self.on_answer()

    def finish(self) -> list[str]:
        """Return everything that is wrong once all has come to rest."""
        stuck = [name for name, one in self.asked.items() if not one.ends]
        untold = [name for name, one in self.asked.items() if one.ends and one.told != 1]
        return [
            *self.wrong,
            *([f"without an outcome: {stuck[:5]}"] if stuck else []),
            *([f"not told once: {untold[:5]}"] if untold else []),
        ]


class Watched:
    """The client as analyzers see it, with a note of every request and outcome."""

    def __init__(self, client: PredictionClient, record: Record) -> None:
        self._client = client
        self._record = record

    def request_prediction(self, window: Window, *, strategy_id: str, timeout_s: float, on_outcome: Callable[[Outcome, str], None]) -> str:
        asked = Asked(window.as_of_sequence, asyncio.get_running_loop().time() + timeout_s)
        names: list[str] = []

        def end(outcome: Outcome, detail: str) -> None:
            self._record.end(names[0], outcome)
            on_outcome(outcome, detail)

        name = self._client.request_prediction(window, strategy_id=strategy_id, timeout_s=timeout_s, on_outcome=end)
        # The deadline that the client set cannot be before this one.
        names.append(name)
        asked.deadline_s = asyncio.get_running_loop().time() + timeout_s
        self._record.asked[name] = asked
        return name


class Asker(Actor):
    """A strategy that asks again as soon as it has heard."""

    def __init__(self, name: str, record: Record, analyzer: OrderFlowAnalyzer, dom: Dom) -> None:
        super().__init__(name)
        self._record = record
        self._analyzer = analyzer
        self._dom: Any = dom
        self.is_asking = True
        self.ticks = 0

    def ask(self) -> None:
        """Ask, if nothing is in flight."""
        if self.is_asking and not isinstance(self._analyzer.request(self._dom, 0), Requested):
            self._record.wrong.append(f"{self.name} could not ask: its last request has no end")

    def handle(self, message: Message) -> None:
        if isinstance(message, TradeTick):
            self.ticks += 1
            return
        assert isinstance(message, PredictionReceived | PredictionFailed)
        name = message.prediction.prediction_id if isinstance(message, PredictionReceived) else message.prediction_id
        self._record.asked[name].told += 1
        asyncio.get_running_loop().call_later(PAUSE_S, self.ask)


class Lane:
    """One ML process under its link, and the strategies that ask it. `pid` is the service's, once it is ready."""

    def __init__(self, number: int, argv: Sequence[str], state_dir: Path, *, strategies: int = 3, policy: ChildPolicy = POLICY) -> None:
        self.record = Record()
        self.pid: int | None = None
        self.through: Callable[[str], str] = lambda endpoint: endpoint
        self.shown = 0
        transport = ZmqTransport()
        settings = MLServiceConfig()
        self.client = MLClient(
            transport,
            settings=CLIENT,
            run_id="run",
            session=f"{os.getpid()}-{number}",
            on_heard=lambda: self.link.heard(),
        )
        self.link = MLLink(settings, client=self.client, transport=transport, config_path=None, state_dir=state_dir)
        self.child = self.link.child
        self.child._argv, self.child._policy = tuple(argv), policy
        self._link_ready, self.child._on_ready = self.child._on_ready, self._on_ready
        loop = asyncio.get_running_loop()
        self.bus = EventBus(schedule=loop.call_soon)
        self.askers = [self._asker(f"s{one}") for one in range(strategies)]

    def _asker(self, name: str) -> Asker:
        analyzer = OrderFlowAnalyzer(
            strategy_id=name,
            instrument_id="BENCH.SIM",
            settings=AnalyzerSettings(cooldown_s=0.0, min_dom_samples=1, window_rows=ROWS, timeout_s=TIMEOUT_S),
            client=Watched(self.client, self.record),
            bus=self.bus,
            clock=EventClock(0),
            log=logging.getLogger("asker"),
        )
        asker = Asker(name, self.record, analyzer, Dom(ROWS))
        self.bus.register(asker)
        self.bus.subscribe(name, TradeTick)
        return asker

    def _on_ready(self, ready: dict[str, Any]) -> None:
        self.pid = int(ready["pid"])
        self._link_ready(ready | {"endpoint": self.through(str(ready["endpoint"]))})

    async def start(self) -> None:
        """Start the process and, once it has answered, the askers."""
        self.link.start()
        while not self.client.is_up:
            await asyncio.sleep(0.01)
        for asker in self.askers:
            asker.ask()

    async def show_market(self) -> None:
        """Publish market messages until cancelled; every strategy hears each of them."""
        while True:
            self.shown += 1
            self.bus.publish(
                TradeTick(
                    instrument_id="BENCH.SIM",
                    ts_event=self.shown,
                    ts_recv=self.shown,
                    sequence=self.shown,
                    price_ticks=20_000,
                    size=1,
                    aggressor=Side.BUY,
                )
            )
            await asyncio.sleep(0.005)

    async def until_answered(self, within_s: float) -> bool:
        """Wait for an answer from now on; return whether one came."""
        answered = asyncio.Event()
        self.record.on_answer = answered.set
        try:
            async with asyncio.timeout(within_s):
                await answered.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> list[str]:
        """Stop asking, let everything end, stop the process; return what is wrong."""
        for asker in self.askers:
            asker.is_asking = False
        await asyncio.sleep(TIMEOUT_S * 2 + 0.3)
        wrong = self.record.finish()
        wrong += [f"{one.name} heard {one.ticks} of {self.shown} market messages" for one in self.askers if one.ticks != self.shown]
        in_flight = self.client.stats()["in_flight"]
        faults = self.bus.stats()["faults"]
        await self.link.stop()
        return wrong + ([f"{faults} faults of actors"] if faults else []) + ([f"{in_flight} in flight"] if in_flight > 8 else [])
