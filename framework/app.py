"""The composition root: builds every object of the trading process once, hands it its collaborators, and runs it."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from framework.clock import EventClock
from framework.dataset import BackgroundDatasetWriter, DatasetWriter
from framework.errors import ConfigError, TidebookError
from framework.inference.analyzer import hold_time_for
from framework.inference.client import ClientSettings, MLClient
from framework.inference.feedback import FeedbackActor
from framework.inference.samples import SampleRecorder, TrainingTrigger
from framework.inference.transport import ZmqTransport
from framework.kernel.bus import EventBus
from framework.kernel.loop_lag import LoopLagMonitor
from framework.kernel.pacer import Pacer
from framework.kernel.supervisor import Supervisor
from framework.logs import LogRing, reset_logging, setup_logging
from framework.market.dom import DomBuffer
from framework.market.market_data import MarketData
from framework.market.recording import Recorder
from framework.messages import Message
from framework.operations import deployments
from framework.operations.commands import Commands
from framework.operations.control import ControlServer
from framework.operations.dashboard import Dashboard, can_show
from framework.operations.deployments import Deployment
from framework.operations.first_training import history_events, log_progress, record_history
from framework.operations.markets import Market, open_market
from framework.operations.ml_link import LinkTransport, MLLink
from framework.operations.options import StartOptions, Summary
from framework.operations.reporting import snapshot_of, summary_of
from framework.operations.state_dir import StateDir
from framework.operations.strategy_host import Desk, StrategyHost, used_ids
from framework.operations.trading_process import Tally, TradingProcess, take_clean_mark
from framework.strategy import MLStrategy
from framework.strict_yaml import read_text
from framework.trading.execution import ExecutionActor
from framework.trading.journal import Journal
from framework.trading.portfolio import Portfolio
from framework.trading.risk import RiskGate

HOME: Final = Path(__file__).resolve().parents[1]
DEMO_STRATEGY: Final = Path("config/strategies/ml_futures.yaml")
ML_READY_TIMEOUT_S: Final = 90.0
FRAME_S: Final = 0.25
log = logging.getLogger("Tidebook")


def run_framework(options: StartOptions) -> Summary:
    """Run the trading process to its end and return what it did. Raises `TidebookError` when it must not start."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(options))


async def _run(options: StartOptions) -> Summary:
    with ExitStack() as stack:
        state = stack.enter_context(StateDir(options.state_dir))
        journal = Journal(state.journal)
        stack.callback(journal.close)
        process = build(options, state, journal, session=secrets.token_hex(4))
        ring = LogRing()
        has_view = not (options.is_headless or options.is_json) and can_show(sys.stdout)
        stack.callback(_start_logging(process, state, ring, is_on_screen=not has_view))
        deployed = _deployed(process)
        async with _serving(process, state):
            await _start_ml(process, state, deployed)
            process.start()
            _start_strategies(process, deployed)
            async with _viewing(process, ring, is_on=has_view):
                await process.run()
            return summary_of(process)


# --- building ---------------------------------------------------------------------------------------------------------------


def build(
    options: StartOptions,
    state: StateDir,
    journal: Journal,
    *,
    transport: LinkTransport | None = None,
    tap: Callable[[Message], None] | None = None,
    session: str = "",
    has_threads: bool = True,
) -> TradingProcess:
    """Build the process bottom-up and recover its state. Raises `StoppedByKill` while the kill switch is set.

    `transport` takes the place of the socket to the ML process, `tap` sees every message, and without `has_threads` samples are
    written on the loop at any speed (tests in virtual time); `session` sets this process apart from others that talk to the
    same service.
    """
    market = open_market(options, journal)
    clock = EventClock(market.start_ns)
    tally = Tally(journal, then=tap)
    bus = EventBus(schedule=asyncio.get_running_loop().call_soon, tap=tally)
    pacer = Pacer(clock, bus, speed=options.speed)
    wires = Wires()
    client, link = _ml(options, state, wires, transport or ZmqTransport(), run_id=f"r{_next_run(journal)}", session=session)
    desk = _desk(options, journal, market, bus, pacer, clock, wires, client, _dom_rows(options, journal))
    recorder = _recorder(options, market, may_wait=pacer.is_lockstep)
    # At full speed nothing may depend on how fast a thread is; at a finite speed nothing may wait for a disk.
    writer = BackgroundDatasetWriter(state.dataset) if has_threads and not pacer.is_lockstep else DatasetWriter(state.dataset)
    process = TradingProcess(
        options=options,
        desk=desk,
        market=market,
        pacer=pacer,
        market_data=MarketData(
            bus, clock, market.instruments.values(), (market.venue.on_market,), tap=recorder.record if recorder else None
        ),
        samples=SampleRecorder(
            bus, clock, writer, trigger=TrainingTrigger.of(options.config.training), request_training=wires.call("request_training")
        ),
        writer=writer,
        host=StrategyHost(desk, used_ids(journal, was_clean=take_clean_mark(journal))),
        tally=tally,
        lag=LoopLagMonitor(timer=time.monotonic),
        link=link,
        client=client,
        recorder=recorder,
        started_s=time.monotonic(),
        wall_s=time.monotonic,
    )
    wires.connect(
        request_training=process.request_training,
        on_quarantine=process.host.on_quarantine,
        on_escalate=process.escalate,
        on_ml_state=process.on_ml_state,
        on_ml_heard=process.on_ml_heard,
    )
    try:
        process.recover()
    except TidebookError:
        writer.close()  # a start that is refused leaves nothing open
        raise
    return process


class Wires:
    """Callbacks between objects that need each other: named before they exist, connected once all do."""

    def __init__(self) -> None:
        self._targets: dict[str, Callable[..., None]] = {}

    def call(self, name: str) -> Callable[..., None]:
        """Return a callback that goes to whatever is connected under `name` when it is called."""
        return lambda *arguments: self._targets[name](*arguments)

    def connect(self, **targets: Callable[..., None]) -> None:
        """Connect names to their targets."""
        self._targets |= targets


def _desk(  # noqa: PLR0917
    options: StartOptions,
    journal: Journal,
    market: Market,
    bus: EventBus,
    pacer: Pacer,
    clock: EventClock,
    wires: Wires,
    client: MLClient | None,
    dom_rows: int,
) -> Desk:
    """Build what strategies stand on."""
    execution = ExecutionActor(
        bus,
        clock,
        venue=market.venue,
        gate=RiskGate(options.config.risk),
        portfolio=Portfolio(market.instruments),
        journal=journal,
        instruments=market.instruments,
    )
    supervisor = Supervisor(bus, now_ns=clock.now_ns, on_quarantine=wires.call("on_quarantine"), on_escalate=wires.call("on_escalate"))
    return Desk(
        main=options.config,
        bus=bus,
        clock=clock,
        journal=journal,
        supervisor=supervisor,
        execution=execution,
        feedback=FeedbackActor(bus, clock, journal),
        buffers={instrument_id: DomBuffer(instrument, dom_rows) for instrument_id, instrument in market.instruments.items()},
        instruments=market.instruments,
        client_for=lambda _file: client,
        deliver_at=hold_time_for(pacer, clock) if pacer.is_lockstep else None,
        catch_up=None if pacer.is_lockstep else pacer.catch_up,
    )


def _recorder(options: StartOptions, market: Market, *, may_wait: bool) -> Recorder | None:
    """Return the recorder of `--record`; at full speed it may wait for the disk, else it drops and counts."""
    if options.record_dir is None:
        return None
    return Recorder(options.record_dir, market.instruments.values(), may_wait=may_wait)


def _dom_rows(options: StartOptions, journal: Journal) -> int:
    """Return how many rows the DOM buffers keep: what the hungriest deployment asks for."""
    asked = []
    for stored in journal.deployments().values():
        with suppress(ConfigError):  # one that no longer loads is reported when strategies start
            asked.append(deployments.recall(stored).file.max_dom_history)
    return max([options.config.training.window_rows, *asked])


def _ml(
    options: StartOptions, state: StateDir, wires: Wires, transport: LinkTransport, *, run_id: str, session: str
) -> tuple[MLClient | None, MLLink | None]:
    settings = options.config.ml_service
    if settings.mode == "off":
        return None, None
    client = MLClient(
        transport,
        settings=ClientSettings.of(settings),
        run_id=run_id,
        session=session,
        on_heard=wires.call("on_ml_heard"),
        on_state_change=wires.call("on_ml_state"),
    )
    link = MLLink(settings, client=client, transport=transport, config_path=options.config_path, state_dir=state.path)
    return client, link


def _next_run(journal: Journal) -> int:
    """Count the starts on this journal: the number makes prediction ids of different runs different."""
    number = int(journal.get_meta("runs") or 0) + 1
    journal.set_meta("runs", str(number))
    return number


# --- running ----------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _serving(process: TradingProcess, state: StateDir) -> AsyncIterator[None]:
    """Listen to the operator and to signals, and keep the ML process, for as long as the block runs."""
    control = ControlServer(state.path, Commands(process))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, process.stop, f"stopped by {signal.Signals(number).name}")
    await control.start()
    try:
        yield
    finally:
        await control.stop()
        if process.link is not None:
            await process.link.stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _start_ml(process: TradingProcess, state: StateDir, deployed: Sequence[Deployment]) -> None:
    """Start the ML process, wait until it answers (or goes without), and see to it that there is a first model to predict with."""
    if process.link is None or process.client is None:
        return
    process.link.start()
    try:
        async with asyncio.timeout(ML_READY_TIMEOUT_S):
            await _unless_stopped(process, process.ml_known.wait())
    except TimeoutError:
        log.warning("Failed to initialize ML service client: no answer within %.0f s; see %s", ML_READY_TIMEOUT_S, state.ml_log)
        return
    needs_model = process.market.is_simulated and any(issubclass(one.strategy_class, MLStrategy) for one in deployed)
    if needs_model and not process.client.model_version and not process.is_stopping:
        await _unless_stopped(process, _first_model(process))


async def _first_model(process: TradingProcess) -> None:
    assert process.client is not None
    log.info("No model yet: training a first one on generated history of the simulated market")
    with _progress(process.options) as report:
        await record_history(history_events(process.options), process.writer, report)
        await process.train("first model, from generated history", report)


async def _unless_stopped(process: TradingProcess, work: Coroutine[Any, Any, object]) -> None:
    """Run `work`, but leave it when the process is told to stop."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(process.stopped.wait())
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        for one in (task, stopped):
            one.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)


def _deployed(process: TradingProcess) -> list[Deployment]:
    """Return what this run trades: the deployments that fit the market, or the demo if nothing is deployed."""
    stored = process.desk.journal.deployments()
    if not stored:
        return [_demo(instrument_id) for instrument_id in process.market.instruments]
    found = []
    for one in stored.values():
        try:
            found.append(deployments.recall(one))
        except TidebookError as exc:
            log.error("Strategy %s does not start: %s", one.name, exc)
    return found


def _demo(instrument_id: str) -> Deployment:
    """Return the demo strategy, for one instrument."""
    path = HOME / DEMO_STRATEGY
    text = read_text(path)
    demo = deployments.read_deployment(text, str(path))
    name = re.sub(r"[^A-Za-z0-9_-]", "_", f"demo_{instrument_id}")
    return replace(demo, file=demo.file.model_copy(update={"name": name, "instrument_id": instrument_id}))


def _start_strategies(process: TradingProcess, deployed: Sequence[Deployment]) -> None:
    """Start each strategy; one that does not fit is named and left out. Raises `ConfigError` when none is left."""
    problems = []
    for one in deployed:
        try:
            process.host.start(one)
        except TidebookError as exc:
            problems.append(str(exc))
            log.error("Strategy %s does not start: %s", one.file.name, exc)
    if problems and not process.host.hosted:
        raise ConfigError(f"no strategy can run: {problems[0]}")
    for (strategy_id, instrument_id), position in process.desk.execution.portfolio.positions().items():
        if position.quantity and strategy_id not in process.host.hosted:
            log.warning("Nobody manages the position of %s: %+d %s (no such strategy runs)", strategy_id, position.quantity, instrument_id)


def _start_logging(process: TradingProcess, state: StateDir, ring: LogRing, *, is_on_screen: bool) -> Callable[[], None]:
    level = logging.DEBUG if process.options.is_debug else logging.INFO
    setup_logging(level=level, stream=sys.stderr if is_on_screen else None, file=state.log, now_ns=process.desk.clock.now_ns, ring=ring)
    return reset_logging


@asynccontextmanager
async def _viewing(process: TradingProcess, ring: LogRing, *, is_on: bool) -> AsyncIterator[None]:
    """Show the live view while the block runs."""
    if not is_on:
        yield
        return
    view = Dashboard()
    view.start()
    task = asyncio.ensure_future(_feed_view(process, ring, view))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        view.stop()


async def _feed_view(process: TradingProcess, ring: LogRing, view: Dashboard) -> None:
    while view.is_alive:
        view.show(snapshot_of(process, ring))
        await asyncio.sleep(FRAME_S)


@contextmanager
def _progress(options: StartOptions) -> Iterator[Callable[[str, float], None]]:
    """Yield a function that reports how far something is: a bar on a terminal, a log line now and then elsewhere."""
    if options.is_headless or not sys.stderr.isatty():
        yield log_progress(log)
        return
    columns = (TextColumn("{task.description:<40}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("starting", total=1.0)
        yield lambda stage, share: bars.update(task, description=stage, completed=share)
