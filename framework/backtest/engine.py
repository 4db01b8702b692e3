"""Run a strategy over recordings: the trading process of `app`, on the replay clock, with predictions from where the user says.

Deterministic: the same strategy, recordings, settings, predictions and seed give the same orders.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import uvloop
import yaml

from framework.app import build
from framework.backtest.answers import Answers, AnswerTransport, of_batch, of_journal
from framework.backtest.latency import Constant, Latency, Profile, drawn_by
from framework.backtest.rows import write_rows
from framework.backtest.tape import Tape
from framework.backtest_job import BatchJob, BatchResult
from framework.clock import Clock
from framework.config import MainConfig
from framework.errors import ConfigError, StartRefused
from framework.market.feed import Feed, Sink
from framework.messages import MarketEvent
from framework.model import NS_PER_S, Instrument
from framework.operations.deployments import Deployment, remember
from framework.operations.options import StartOptions, Summary
from framework.operations.reporting import summary_of
from framework.operations.state_dir import StateDir
from framework.operations.trading_process import TradingProcess
from framework.progress import Progress
from framework.research.learning_child import run_job
from framework.trading.journal import Journal

OFF, LIVE, MODEL, RECORDED = "off", "live", "model", "recorded"
ML_FORMS: Final = "off, live, model (the champion), model:VERSION, or recorded:STATE_DIR of an earlier run"
READY_TIMEOUT_S: Final = 60.0
SAY_EACH: Final = 256
DEPLOYED_NS: Final = 0
"""When a backtest deploys its strategy: before all market time, the same in every repetition."""
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run. Times are ns UTC; `state_dir` is where models are, and is not written to. `keep` gets the run's own state.

    `is_lean`: without the trading process around it (`framework.backtest.lean`); `is_compiled`: in one compiled loop (`compiled`).
    """

    deployment: Deployment
    data: tuple[Path, ...]
    settings: MainConfig
    ml: str = MODEL
    latency: Latency | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    state_dir: Path = Path(".tidebook")
    keep: Path | None = None
    seed: int = 7
    is_lean: bool = False
    is_compiled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where predictions come from: nowhere, a process, or a table; `about` is the model version, where that is known."""

    kind: str
    answers: Answers | None = None
    about: BatchResult | None = None
    round_trips_ms: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run left. `latency` says how long predictions took in market time."""

    plan: Plan
    summary: Summary
    tape: Tape
    instruments: dict[str, Instrument]
    source: Source
    latency: str
    start_ns: int
    end_ns: int
    in_bars: frozenset[str] = frozenset()
    """Instruments whose orders were filled in bars, not on books."""


def prepare(plan: Plan, on_progress: Progress) -> Source:
    """Get the predictions that `plan.ml` names. Blocks. Raises `ConfigError`, or what reading models and recordings raises."""
    kind, _, name = plan.ml.partition(":")
    if kind not in (OFF, LIVE, MODEL, RECORDED) or (kind == RECORDED) != bool(name and kind == RECORDED) or (kind in (OFF, LIVE) and name):
        raise ConfigError(f"--ml: found {plan.ml}; allowed {ML_FORMS}")
    if kind == OFF:
        return Source(kind=OFF)
    if kind == RECORDED:
        answers, trips = of_journal(StateDir(Path(name)).journal)
        if not len(answers):
            raise ConfigError(f"--ml {plan.ml}: that run received no prediction")
        return Source(kind=RECORDED, answers=answers, round_trips_ms=tuple(trips))
    return Source(kind=LIVE) if kind == LIVE else _predicted(plan, name, on_progress)


def _predicted(plan: Plan, version: str, on_progress: Progress) -> Source:
    models = StateDir(plan.state_dir).models
    if not models.is_dir():
        raise ConfigError(f"{models}: no model has been trained yet; train one (main.py start, main.py train), or say --ml off")
    with tempfile.TemporaryDirectory(prefix="tidebook-backtest-") as name:
        scratch = Path(name)
        parts = in_a_loop(lambda: write_rows(plan.data, scratch, lambda share: on_progress("reading the recordings", share)))
        job = BatchJob(models_dir=str(models), version=version, parts=parts)
        found = run_job("ml_actor.batch", job, scratch, lambda line: on_progress(line.get("stage", ""), line.get("fraction", 0.0)))
        about = msgspec.convert(found, BatchResult)
        return Source(kind=MODEL, answers=of_batch({part.instrument_id: Path(part.answers_file) for part in parts}, about), about=about)


def execute(plan: Plan, source: Source, on_progress: Progress) -> Run:
    """Run the strategy. Blocks. Raises `TidebookError` when it cannot run."""
    return in_a_loop(lambda: _execute(plan, source, on_progress))


def in_a_loop(make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine to its end on a loop of its own, in a thread of its own: a notebook has a loop in this one already."""

    def work() -> Result:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(make())

    with ThreadPoolExecutor(1, thread_name_prefix="backtest") as thread:
        return thread.submit(work).result()


async def _execute(plan: Plan, source: Source, on_progress: Progress) -> Run:
    latency = plan.latency or (Profile(list(source.round_trips_ms)) if source.round_trips_ms else None)
    latency = latency or Constant(plan.settings.replay.prediction_latency_ms)
    with ExitStack() as stack:
        state = stack.enter_context(StateDir(plan.keep or Path(stack.enter_context(_scratch()))))
        if source.kind == LIVE and (models := StateDir(plan.state_dir).models).is_dir() and models != state.models:
            shutil.copytree(models, state.models, dirs_exist_ok=True)
        journal = Journal(state.journal if plan.keep else ":memory:")
        stack.callback(journal.close)
        # As `deploy-strategy` does: buffers get as many rows as it asks for, and the run's record has its digest.
        remember(journal, plan.deployment, DEPLOYED_NS)
        tape = Tape()
        process = build(
            _options(plan, source, state),
            state,
            journal,
            transport=None if source.answers is None else AnswerTransport(source.answers),
            tap=tape,
            session="backtest",
            has_threads=False,
            draw_latency_ns=drawn_by(latency, plan.seed),
        )
        await _run(process, plan, on_progress)
        return Run(
            plan=plan,
            summary=summary_of(process),
            tape=tape,
            instruments=process.market.instruments,
            source=source,
            latency=latency.name,
            start_ns=process.market.start_ns,
            end_ns=process.desk.clock.now_ns(),
            in_bars=process.market.in_bars,
        )


def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tidebook-backtest-")


def _options(plan: Plan, source: Source, state: StateDir) -> StartOptions:
    """Return the options of `start` for this run: no training, and the ML process that the source needs."""
    mode = {OFF: "off", LIVE: "spawn"}.get(source.kind, "external")
    ml_service = plan.settings.ml_service.model_copy(update={"mode": mode, "heartbeat_interval_s": 30.0})
    training = plan.settings.training.model_copy(update={"after_new_rows": 0, "every_minutes": 0.0})
    replay = plan.settings.replay
    if isinstance(plan.latency, Constant):  # the run's record says what was in force
        replay = replay.model_copy(update={"prediction_latency_ms": plan.latency.ms})
    return StartOptions(
        config=plan.settings.model_copy(update={"ml_service": ml_service, "training": training, "replay": replay}),
        config_path=_service_config(plan, state) if source.kind == LIVE else None,
        state_dir=state.path,
        market=tuple(str(path) for path in plan.data),
        speed=None,
        seed=plan.seed,
        is_headless=True,
    )


def _service_config(plan: Plan, state: StateDir) -> Path:
    """Write the settings for the ML process of a live backtest: those of the plan, on a port that nobody else has."""
    service = plan.settings.ml_service.model_dump(mode="json", exclude={"client", "server"}, exclude_none=True)
    service |= {"mode": "spawn", "client": {"port": 0}, "server": {"port": 0}}
    path = state.path / "backtest.yaml"
    path.write_text(yaml.safe_dump({"ml_service": service, "training": plan.settings.training.model_dump(mode="json")}))
    return path


async def _run(process: TradingProcess, plan: Plan, on_progress: Progress) -> None:
    process.market = replace(process.market, feed=_Cut(process.market.feed, plan, on_progress))
    if process.link is not None:
        process.link.start()
        async with asyncio.timeout(READY_TIMEOUT_S):
            await process.ml_known.wait()
    try:
        process.start()
        process.host.start(plan.deployment)
        await process.run()
    finally:
        await process.clients.close()
        if process.link is not None:
            await process.link.stop()
    hosted = process.host.hosted[plan.deployment.file.name]
    if hosted.state == "QUARANTINED":
        raise StartRefused(f"strategy {plan.deployment.file.name} raised: {hosted.reason}")


class _Cut:
    """A feed between two times, which says how far it is. Before the first, events are read and dropped."""

    def __init__(self, feed: Feed, plan: Plan, on_progress: Progress) -> None:
        self._feed = feed
        self._from_ns = plan.from_ns if plan.from_ns is not None else -math.inf
        self._to_ns = plan.to_ns if plan.to_ns is not None else math.inf
        self._on_progress = on_progress
        self._said = 0.0

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return what the events are about."""
        return self._feed.instruments

    @property
    def progress(self) -> float:
        """Return how much was delivered."""
        return self._feed.progress

    def start(self, clock: Clock, sink: Sink, on_end: Callable[[], None]) -> None:
        """Begin."""
        from_ns, to_ns, count = self._from_ns, self._to_ns, 0

        def take(event: MarketEvent) -> None:
            nonlocal count
            if event.ts_event >= to_ns:
                self._feed.stop()
                on_end()
            elif event.ts_event >= from_ns:
                sink(event)
            count += 1
            if count % SAY_EACH == 0:
                self._say()

        self._feed.start(clock, take, on_end)

    def stop(self) -> None:
        """End."""
        self._feed.stop()

    def _say(self) -> None:
        share = self._feed.progress
        if share > self._said + 0.01:
            self._said = share
            self._on_progress("trading", share)


def check_instrument(deployment: Deployment, instruments: Sequence[Instrument]) -> None:
    """Raise `ConfigError` unless the recordings hold the strategy's instrument."""
    there = [instrument.instrument_id for instrument in instruments]
    if deployment.file.instrument_id not in there:
        found = ", ".join(there)
        raise ConfigError(
            f"strategy {deployment.file.name}: instrument {deployment.file.instrument_id} is not in the recordings; they hold {found} "
            f"(change instrument_id, or say --instrument {there[0]})"
        )


def market_seconds(run: Run) -> float:
    """Return how much market time the run covers, s."""
    return (run.end_ns - run.start_ns) / NS_PER_S
