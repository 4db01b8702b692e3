"""The composition root: builds every object of the trading process once, hands it its collaborators, and runs it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import uvloop

from framework.clock import EventClock
from framework.config import MLServiceConfig
from framework.dataset import BackgroundDatasetWriter, DatasetWriter
from framework.errors import ConfigError, TidebookError
from framework.inference.analyzer import hold_time_for
from framework.inference.client import ClientSettings, MLClient
from framework.inference.feedback import FeedbackActor
from framework.inference.samples import SampleRecorder, TrainingTrigger
from framework.inference.transport import ClientCurve, ZmqTransport
from framework.kernel.bus import EventBus
from framework.kernel.loop_lag import LoopLagMonitor
from framework.kernel.pacer import Pacer
from framework.kernel.supervisor import Supervisor
from framework.logs import LogRing, reset_logging, setup_logging
from framework.market.dom import DomBuffer
from framework.market.market_data import MarketData
from framework.market.recording import Recorder
from framework.messages import Message
from framework.operations import deployments, kills
from framework.operations.dashboard import can_show
from framework.operations.lineup import deployed, start_strategies
from framework.operations.markets import Market, open_market
from framework.operations.ml_link import Clients, LinkTransport, MLLink
from framework.operations.options import StartOptions, Summary
from framework.operations.reporting import summary_of
from framework.operations.session import serving, start_ml, viewing
from framework.operations.state_dir import StateDir
from framework.operations.strategy_host import Desk, StrategyHost, used_ids
from framework.operations.tally import Tally
from framework.operations.trading_process import TradingProcess, take_clean_mark
from framework.operations.trainings import Trainings
from framework.operations.venue_link import venue_beside
from framework.trading.execution import ExecutionActor
from framework.trading.fold import JournalFold, replay
from framework.trading.journal import Journal
from framework.trading.portfolio import Portfolio
from framework.trading.risk import RiskGate

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
        lineup = deployed(process)
        async with serving(process, state), venue_beside(process, state):
            await start_ml(process, state, lineup)
            process.start()
            start_strategies(process, lineup)
            async with viewing(process, ring, is_on=has_view):
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
    draw_latency_ns: Callable[[], int] | None = None,
) -> TradingProcess:
    """Build the process bottom-up and recover its state. Raises `StoppedByKill` while the kill switch is set.

    `transport` takes the place of the socket to the ML process, `tap` sees every message, and without `has_threads` samples are
    written on the loop at any speed (tests in virtual time); `session` sets this process apart from others that talk to the
    same service. `draw_latency_ns` gives the latency of each prediction at full speed, in place of `replay.prediction_latency_ms`.
    """
    past = replay(journal)
    market = open_market(options, journal, past)
    clock = EventClock(market.start_ns)
    tally = Tally(journal, then=tap)
    bus = EventBus(schedule=asyncio.get_running_loop().call_soon, tap=tally)
    pacer = Pacer(clock, bus, speed=options.speed)
    wires = Wires()
    make = _client_maker(wires, run_id=f"r{_next_run(journal)}", session=session)
    client, link = _ml(options, state, make, transport)
    clients = Clients(options.config.ml_service, client, lambda settings: _with_transport(make, settings))
    recorder = _recorder(options, market, may_wait=pacer.is_lockstep)
    market_data = MarketData(bus, clock, market.instruments.values(), (market.venue.on_market,), tap=recorder.record if recorder else None)
    desk = replace(_desk(options, journal, past, market, market_data, bus, pacer, clock, wires, clients), draw_latency_ns=draw_latency_ns)
    market.tell_stops(desk.execution.blotter.held.stops)
    # At full speed nothing may depend on how fast a thread is; at a finite speed nothing may wait for a disk.
    writer = BackgroundDatasetWriter(state.dataset) if has_threads and not pacer.is_lockstep else DatasetWriter(state.dataset)
    process = TradingProcess(
        options=options,
        desk=desk,
        market=market,
        pacer=pacer,
        market_data=market_data,
        samples=SampleRecorder(
            bus, clock, writer, trigger=TrainingTrigger.of(options.config.training), request_training=wires.call("request_training")
        ),
        writer=writer,
        host=StrategyHost(desk, used_ids(past, was_clean=take_clean_mark(journal))),
        tally=tally,
        lag=LoopLagMonitor(timer=time.monotonic),
        link=link,
        client=client,
        clients=clients,
        trainings=Trainings(client, pacer, clock),
        recorder=recorder,
        started_s=time.monotonic(),
        wall_s=time.monotonic,
    )
    _connect(wires, process)
    return _recovered(process)


def _recovered(process: TradingProcess) -> TradingProcess:
    """Bring back the state of the run before; a start that is refused leaves nothing open."""
    try:
        process.recover()
    except TidebookError:
        process.writer.close()
        raise
    return process


def _connect(wires: Wires, process: TradingProcess) -> None:
    wires.connect(
        request_training=process.trainings.request,
        on_quarantine=process.host.on_quarantine,
        on_escalate=process.escalate,
        on_ml_state=process.on_ml_state,
        on_ml_heard=process.on_ml_heard,
    )


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
    past: JournalFold,
    market: Market,
    market_data: MarketData,
    bus: EventBus,
    pacer: Pacer,
    clock: EventClock,
    wires: Wires,
    clients: Clients,
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
        is_killed=kills.reader(options.state_dir),
    )
    rows = _dom_rows(options, journal)
    supervisor = Supervisor(bus, now_ns=clock.now_ns, on_quarantine=wires.call("on_quarantine"), on_escalate=wires.call("on_escalate"))
    return Desk(
        main=options.config,
        bus=bus,
        clock=clock,
        journal=journal,
        supervisor=supervisor,
        execution=execution,
        feedback=FeedbackActor(bus, clock, journal, past=past),
        past=past,
        buffers={instrument_id: DomBuffer(instrument, rows) for instrument_id, instrument in market.instruments.items()},
        instruments=market.instruments,
        bad_spell=market_data.bad_spell,
        client_for=clients.for_strategy,
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


def _client_maker(wires: Wires, *, run_id: str, session: str) -> Callable[..., MLClient]:
    """Return what builds clients: the shared one is heard by the process, a strategy's own only has ids of its own."""
    numbers = itertools.count()

    def make(transport: LinkTransport, settings: MLServiceConfig) -> MLClient:
        number = next(numbers)
        client = MLClient(
            transport, settings=ClientSettings.of(settings), run_id=run_id if number == 0 else f"{run_id}.{number}", session=session
        )
        if number == 0:
            client.on_heard, client.on_state_change = wires.call("on_ml_heard"), wires.call("on_ml_state")
        return client

    return make


def _with_transport(make: Callable[..., MLClient], settings: MLServiceConfig) -> tuple[MLClient, LinkTransport]:
    transport = _transport(settings)
    return make(transport, settings), transport


def _transport(settings: MLServiceConfig) -> ZmqTransport:
    """Return the socket to the ML process, not yet connected. Raises `ConfigError` for keys that cannot be used."""
    keys = settings.client.curve
    if keys is None:
        return ZmqTransport()
    return ZmqTransport(curve=ClientCurve.load(Path(keys.client_secret_file), Path(keys.server_public_file)))


def _ml(
    options: StartOptions, state: StateDir, make: Callable[..., MLClient], given: LinkTransport | None
) -> tuple[MLClient | None, MLLink | None]:
    settings = options.config.ml_service
    if settings.mode == "off":
        return None, None
    transport = given or _transport(settings)
    client = make(transport, settings)
    link = MLLink(
        settings,
        client=client,
        transport=transport,
        config_path=options.config_path,
        state_dir=state.path,
        is_lockstep=options.speed is None,
    )
    return client, link


def _next_run(journal: Journal) -> int:
    """Count the starts on this journal: the number makes prediction ids of different runs different."""
    number = int(journal.get_meta("runs") or 0) + 1
    journal.set_meta("runs", str(number))
    return number


def _start_logging(process: TradingProcess, state: StateDir, ring: LogRing, *, is_on_screen: bool) -> Callable[[], None]:
    level = logging.DEBUG if process.options.is_debug else logging.INFO
    setup_logging(level=level, stream=sys.stderr if is_on_screen else None, file=state.log, now_ns=process.desk.clock.now_ns, ring=ring)
    return reset_logging
