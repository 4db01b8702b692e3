"""The whole trading process in virtual time, with an ML process beside it that fails by script."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from framework import wire
from framework.app import build
from framework.clock import Clock
from framework.config import MainConfig, MLServiceConfig
from framework.dataset import DatasetWriter
from framework.inference.feedback import FeedbackAcknowledged
from framework.kernel.simulation import TraceHash, run_simulated
from framework.market.feed import Feed, Sink
from framework.market.recording import Recorder
from framework.messages import (
    BookSnapshot,
    HorizonPrediction,
    MarketEvent,
    Message,
    MLStateChanged,
    PredictionFailed,
    PredictionReceived,
    SubmitOrder,
)
from framework.model import NS_PER_S, FlowType, Instrument
from framework.operations.deployments import Deployment, read_deployment
from framework.operations.options import StartOptions
from framework.operations.state_dir import StateDir
from framework.operations.trading_process import TradingProcess
from framework.strategy import read_parameters
from framework.trading.journal import Journal
from framework.venues.simulated import DEFAULT_START_NS, INSTRUMENT, generate_history
from framework.window import Window
from framework.wire import FeedbackItem
from ml_actor.service import MLService, Slow

HOME = Path(__file__).resolve().parents[2]
MessageT = TypeVar("MessageT", bound=Message)
OUTSIDE = (MLStateChanged, FeedbackAcknowledged)
"""What arrives when the ML process says so, in lockstep too: news, from which no order follows."""


# --- an ML process without numerics ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Scores:
    p_down: float
    p_flat: float
    p_up: float
    flow_type: FlowType
    confidence: float
    regime: int = 0
    shock_score: float = 0.0
    horizons: tuple[HorizonPrediction, ...] = ()


@dataclass(frozen=True)
class ImbalanceModel:
    """Up with the share of the best bid in the best level, down with the rest."""

    version: str = "v1"
    window_rows: int = 100
    horizon_rows: int = 20
    is_calibrated: bool = True

    def predict(self, window: Window) -> Scores:
        p_up = self.p_up(float(window.rows.bid_sizes[-1, 0]), float(window.rows.ask_sizes[-1, 0]))
        p_down = 0.9 - p_up
        flow = FlowType.BUY if p_up > 0.5 else FlowType.SELL if p_down > 0.5 else FlowType.NEUTRAL
        confidence = {FlowType.BUY: p_up, FlowType.SELL: p_down}.get(flow, 0.1)
        return Scores(p_down=p_down, p_flat=0.1, p_up=p_up, flow_type=flow, confidence=confidence)

    @staticmethod
    def p_up(bid_size: float, ask_size: float) -> float:
        return 0.9 * bid_size / (bid_size + ask_size)


@dataclass
class Models:
    def load_champion(self) -> ImbalanceModel:
        return ImbalanceModel()

    def champion(self) -> str:
        return "v1"

    def versions(self) -> tuple[dict[str, Any], ...]:
        return ()

    def promote(self, version: str) -> None:
        raise NotImplementedError

    def rollback(self) -> str:
        raise NotImplementedError

    def collect(self, keep: int) -> tuple[str, ...]:
        return ()


@dataclass
class Trainer:
    """A training takes `takes_s` of process time, then `then` is called."""

    takes_s: float = 2.0
    then: Callable[[], None] = lambda: None
    is_running: bool = False
    jobs: list[str] = field(default_factory=list)

    def start(self, reason: str, refit: str = "") -> tuple[str, bool]:
        if self.is_running:
            return f"job-{len(self.jobs)}", False
        self.jobs.append(reason)
        self.is_running = True
        asyncio.get_running_loop().call_later(self.takes_s, self._end)
        return f"job-{len(self.jobs)}", True

    def status(self) -> dict[str, Any]:
        if not self.jobs:
            return {"job": None}
        return {"job": {"state": "RUNNING" if self.is_running else "DONE", "stage": "fitting", "fraction": 0.5}}

    def _end(self) -> None:
        self.is_running = False
        self.then()


@dataclass
class FeedbackShelf:
    """The service's store: each id once. `offered` counts how often an id came."""

    items: dict[str, FeedbackItem] = field(default_factory=dict)
    offered: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return len(self.items)

    def add(self, items: Sequence[FeedbackItem], *, received_ns: int) -> int:
        before = len(self.items)
        self.offered.update(item.feedback_id for item in items)
        self.items = {item.feedback_id: item for item in items} | self.items
        return len(self.items) - before


@dataclass
class MLProcess:
    """The real `MLService` on simple parts. It outlives a trading process that is started again."""

    shelf: FeedbackShelf = field(default_factory=FeedbackShelf)
    trainer: Trainer = field(default_factory=Trainer)
    service: MLService = field(init=False)

    def __post_init__(self) -> None:
        self.service = MLService(Models(), self.trainer, self.shelf, wall_ns=lambda: 0, timer=lambda: 0.0)
        self.service.use(ImbalanceModel())
        self.trainer.then = lambda: self.service.use(ImbalanceModel(f"v{len(self.trainer.jobs) + 1}"))

    def answer(self, frames: list[bytes], now_s: float) -> list[bytes] | None:
        answer = self.service.handle(frames, now_s)
        return answer.finish(answer.run()) if isinstance(answer, Slow) else answer


# --- the wire between them ---------------------------------------------------------------------------------------------------

Reply = list[bytes]
Fault = Callable[["SimulatedTransport", Reply], Iterable[tuple[float, Reply]]]
"""From one answer to what arrives instead: (extra latency, frames), none, one or many."""


def drop(_: SimulatedTransport, reply: Reply) -> Iterator[tuple[float, Reply]]:
    yield from ()


def delay(transport: SimulatedTransport, reply: Reply) -> Iterator[tuple[float, Reply]]:
    yield transport.rng.choice((0.2, 0.7, 3.0)), reply


def duplicate(transport: SimulatedTransport, reply: Reply) -> Iterator[tuple[float, Reply]]:
    yield 0.0, reply
    yield transport.rng.choice((0.0, 0.1, 1.0)), reply


def reorder(transport: SimulatedTransport, reply: Reply) -> Iterator[tuple[float, Reply]]:
    yield transport.rng.uniform(0.0, 0.4), reply


def misaddress(transport: SimulatedTransport, reply: Reply) -> Iterator[tuple[float, Reply]]:
    """The answer to an earlier request under this one's id, and this answer under an id that nobody has."""
    decoded = wire.decode_reply(reply[0])
    if isinstance(decoded, wire.PredictReply):
        before, transport.last_prediction = transport.last_prediction or decoded, decoded
        yield 0.0, [wire.encode(msgspec.structs.replace(before, request_id=decoded.request_id))]
    yield 0.0, [wire.encode(msgspec.structs.replace(decoded, request_id="somebody-else"))]


def garble(transport: SimulatedTransport, reply: Reply) -> Iterator[tuple[float, Reply]]:
    """Bytes that are no message, a message cut short, and a message whose numbers are none."""
    rng = transport.rng
    yield 0.0, [rng.randbytes(rng.randrange(1, 60))]
    yield 0.0, [reply[0][: len(reply[0]) // 2]]
    decoded = wire.decode_reply(reply[0])
    if isinstance(decoded, wire.PredictReply):
        wrong = rng.choice(({"confidence": float("nan")}, {"p_up": 7.0}, {"flow_type": "SIDEWAYS"}, {"instrument_id": "OTHER.SIM"}))
        yield 0.0, [wire.encode(msgspec.structs.replace(decoded, **wrong))]


FAULTS: dict[str, Fault] = {one.__name__: one for one in (drop, delay, duplicate, reorder, misaddress, garble)}


@dataclass
class SimulatedTransport:
    """A connection in virtual time. `faults` meet `share` of the answers while `is_faulty`; a `dead` peer takes nothing,
    a hanging one takes everything and says nothing."""

    ml: MLProcess
    latency_s: float = 0.001
    faults: Sequence[Fault] = ()
    share: float = 0.5
    seed: int = 0
    is_faulty: bool = True
    is_dead: bool = False
    is_hanging: bool = False
    last_prediction: wire.PredictReply | None = None
    deadlines_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self._on_frames: Callable[[list[bytes]], None] | None = None

    def start(self, on_frames: Callable[[list[bytes]], None]) -> None:
        self._on_frames = on_frames

    def connect(self, endpoint: str) -> None:
        """There is one peer."""

    async def close(self) -> None:
        self._on_frames = None

    def send(self, frames: list[bytes]) -> bool:
        loop = asyncio.get_running_loop()
        request = wire.decode_request(frames[0])
        if isinstance(request, wire.PredictRequest):
            self.deadlines_s.setdefault(request.request_id, loop.time() + request.timeout_ms / 1e3)
        if self.is_dead:
            return False
        if not self.is_hanging:
            loop.call_later(self.latency_s / 2, self._arrive, frames)
        return True

    def _arrive(self, frames: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        if self.is_dead or self.is_hanging:
            return
        reply = self.ml.answer(frames, loop.time())
        if reply is None:
            return
        is_met = self.is_faulty and self.faults and self.rng.random() < self.share
        fault = self.rng.choice(self.faults) if is_met else None
        for extra_s, one in fault(self, reply) if fault else [(0.0, reply)]:
            loop.call_later(self.latency_s / 2 + extra_s, self._deliver, one)

    def _deliver(self, reply: Reply) -> None:
        if self._on_frames is not None and not self.is_dead:
            self._on_frames(reply)


# --- a run -------------------------------------------------------------------------------------------------------------------


@dataclass
class Story:
    """Every message in order, the process time of each outcome, and hashes: of all, and of all that market time rules."""

    messages: list[Message] = field(default_factory=list)
    outcomes_s: list[tuple[float, str]] = field(default_factory=list)
    whole: TraceHash = field(default_factory=TraceHash)
    ruled: TraceHash = field(default_factory=TraceHash)
    then: Callable[[Message], None] = lambda _: None
    _books: dict[int, BookSnapshot] = field(default_factory=dict)

    def __call__(self, message: Message) -> None:
        self.messages.append(message)
        if isinstance(message, PredictionReceived):
            self.outcomes_s.append((asyncio.get_running_loop().time(), message.prediction.prediction_id))
        elif isinstance(message, PredictionFailed):
            self.outcomes_s.append((asyncio.get_running_loop().time(), message.prediction_id))
        if type(message) is not FeedbackAcknowledged:  # of its actor, not of the journal
            self.whole(message)
        if not isinstance(message, OUTSIDE):
            self.ruled(message)
        self.then(message)

    def of(self, kind: type[MessageT]) -> list[MessageT]:
        return [message for message in self.messages if isinstance(message, kind)]

    def book_at(self, sequence: int) -> BookSnapshot:
        """The sound book of this sequence."""
        if not self._books:
            self._books = {book.sequence: book for book in self.of(BookSnapshot)}
        return self._books[sequence]

    def orders(self) -> bytes:
        """Every order that a strategy sent, as bytes."""
        return msgspec.msgpack.encode(self.of(SubmitOrder))


@dataclass
class Run:
    """One trading process, built by `app.build`, in virtual time."""

    state_dir: Path
    ml: MLProcess = field(default_factory=MLProcess)
    strategies: Sequence[Deployment] = ()
    market: tuple[str, ...] = ("simulated",)
    speed: float | None = None
    seed: int = 7
    duration_s: float | None = 20.0
    timeout_s: float = 0.5
    config: dict[str, Any] = field(default_factory=dict)
    wrap_feed: Callable[[Feed], Feed] = lambda feed: feed
    wire_options: dict[str, Any] = field(default_factory=dict)
    has_ml: bool = True
    on_build: Callable[[Run], None] = lambda _: None
    on_start: Callable[[Run], None] = lambda _: None
    story: Story = field(default_factory=Story)

    def __post_init__(self) -> None:
        self.transport = SimulatedTransport(self.ml, **self.wire_options)
        self.process: TradingProcess
        self.pending_at_start = -1

    @property
    def options(self) -> StartOptions:
        service = MLServiceConfig(mode="external" if self.has_ml else "off", timeout=self.timeout_s)
        return StartOptions(
            config=MainConfig(ml_service=service, **self.config),
            config_path=None,
            state_dir=self.state_dir,
            market=self.market,
            speed=self.speed,
            seed=self.seed,
            duration_s=self.duration_s,
            is_headless=True,
        )

    def go(self, *, loop_seed: int = 1, meanwhile: Callable[[Run], Awaitable[None]] | None = None) -> Run:
        """Run to the end on a virtual loop of this seed; `meanwhile` runs beside it."""
        run_simulated(lambda: self._main(meanwhile), seed=loop_seed)
        return self

    async def _main(self, meanwhile: Callable[[Run], Awaitable[None]] | None) -> None:
        with StateDir(self.state_dir) as state:
            journal = Journal(state.journal)
            try:
                self.process = build(self.options, state, journal, transport=self.transport, tap=self.story, has_threads=False)
                self.on_build(self)
                await self._run(meanwhile)
            finally:
                journal.close()

    async def _run(self, meanwhile: Callable[[Run], Awaitable[None]] | None) -> None:
        process = self.process
        process.market = replace(process.market, feed=self.wrap_feed(process.market.feed))
        if process.link is not None:
            process.link.start()
            await process.ml_known.wait()
        process.start()
        self.pending_at_start = process.desk.feedback.stats()["pending"]
        self.on_start(self)
        for one in self.strategies:
            process.host.start(one)
        beside = asyncio.ensure_future(meanwhile(self)) if meanwhile else None
        try:
            await process.run()
            if beside is not None:
                await beside
        finally:
            if isinstance(process.writer, DatasetWriter):
                process.writer.close()
            if beside is not None:
                beside.cancel()
            if process.link is not None:
                await process.link.stop()

    async def until(self, market_s: float) -> None:
        """Wait until market time is that far from the start (finite speeds)."""
        clock, start_ns = self.process.desk.clock, self.process.market.start_ns
        while clock.now_ns() < start_ns + market_s * NS_PER_S:
            await asyncio.sleep(0.01)

    # --- what it did -------------------------------------------------------------------------------------------------------

    def requested(self) -> int:
        return sum(analyzer.stats()["requested"] for analyzer in self.process.host.analyzers())

    def books_of_account(self) -> dict[str, tuple[int, float, Decimal, Decimal]]:
        """Position, average, realized PnL and fees of each strategy that ever traded."""
        positions = self.process.desk.execution.portfolio.positions()
        return {name: (one.quantity, one.average_ticks, one.realized_pnl, one.fees) for (name, _), one in positions.items()}

    def position(self, name: str) -> int:
        return self.process.desk.execution.position(name, INSTRUMENT.instrument_id)


def strategy(file: str, *, parameters: dict[str, Any] | None = None, **changes: Any) -> Deployment:
    """One of the shipped strategies, with some settings and parameters changed."""
    path = HOME / "config" / "strategies" / f"{file}.yaml"
    shipped = read_deployment(path.read_text(), str(path))
    changed = shipped.file.model_copy(update={**changes, "parameters": shipped.file.parameters | (parameters or {})})
    return replace(shipped, file=changed, parameters=read_parameters(shipped.strategy_class, changed))


def of_class(strategy_class: type[Any], name: str) -> Deployment:
    """A strategy that a test wrote."""
    shipped = strategy("book_imbalance", name=name)
    return replace(shipped, strategy_class=strategy_class, parameters=strategy_class.Parameters())


# --- markets -----------------------------------------------------------------------------------------------------------------


@dataclass
class TamperedFeed:
    """A feed whose events pass through `tamper(event, seconds since the first)`, which yields what arrives instead."""

    inner: Feed
    tamper: Callable[[MarketEvent, float], Iterable[MarketEvent]]
    first_ns: int | None = None

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        return self.inner.instruments

    @property
    def progress(self) -> float:
        return self.inner.progress

    def start(self, clock: Clock, sink: Sink, on_end: Callable[[], None]) -> None:
        def take(event: MarketEvent) -> None:
            self.first_ns = clock.now_ns() if self.first_ns is None else self.first_ns
            for one in self.tamper(event, (clock.now_ns() - self.first_ns) / NS_PER_S):
                sink(one)

        self.inner.start(clock, take, on_end)

    def stop(self) -> None:
        self.inner.stop()


def record_market(directory: Path, *, seed: int = 11, duration_s: float = 20.0, start_ns: int = DEFAULT_START_NS) -> Path:
    """Record the simulated market as nobody of ours traded in it."""
    recorder = Recorder(directory, [INSTRUMENT])
    recorder.start()
    settings = MainConfig().simulated_market
    for event in generate_history(settings, seed=seed, start_ns=start_ns, duration_s=duration_s):
        recorder.record(event)
    recorder.close()
    return directory
