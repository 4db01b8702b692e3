"""What surrounds a run: the operator and signals, the ML process and its first model, the live view."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from framework.errors import StartRefused
from framework.logs import LogRing
from framework.operations.commands import Commands
from framework.operations.control import ControlServer
from framework.operations.dashboard import Dashboard
from framework.operations.deployments import Deployment
from framework.operations.first_training import history_events, log_progress, record_history
from framework.operations.reporting import snapshot_of
from framework.operations.state_dir import StateDir
from framework.operations.trading_process import TradingProcess
from framework.progress import progress_bar
from framework.strategy import MLStrategy

ML_READY_TIMEOUT_S: Final = 90.0
FRAME_S: Final = 0.25
log = logging.getLogger("Tidebook")


@asynccontextmanager
async def serving(process: TradingProcess, state: StateDir) -> AsyncIterator[None]:
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
        await process.clients.close()
        if process.link is not None:
            await process.link.stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def start_ml(process: TradingProcess, state: StateDir, deployed: Sequence[Deployment]) -> None:
    """Start the ML process, wait until it answers (or goes without), and see to it that there is a first model to predict with."""
    if process.link is None or process.client is None:
        return
    process.link.start()
    try:
        async with asyncio.timeout(ML_READY_TIMEOUT_S):
            await _unless_stopped(process, _known_or_refused(process))
    except TimeoutError:
        log.warning("Failed to initialize ML service client: no answer within %.0f s; see %s", ML_READY_TIMEOUT_S, state.ml_log)
        return
    needs_model = process.market.is_simulated and any(issubclass(one.strategy_class, MLStrategy) for one in deployed)
    if needs_model and not process.client.model_version and not process.is_stopping:
        await _unless_stopped(process, _first_model(process))


async def _known_or_refused(process: TradingProcess) -> None:
    """Wait until the ML process says whether it has a model, or is not to be had. Raises `StartRefused` if it refuses to start."""
    assert process.link is not None
    events = (process.ml_known, process.link.refused, process.link.given_up)
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    if process.link.refused.is_set():
        raise StartRefused(f"the ML process does not start: {process.link.refusal()}")
    if not process.ml_known.is_set():
        log.warning("Trading begins without the ML process; it is used when it answers")


async def _first_model(process: TradingProcess) -> None:
    assert process.client is not None
    log.info("No model yet: training a first one on generated history of the simulated market")
    with progress_bar(is_quiet=process.options.is_headless, otherwise=log_progress(log), is_kept=True) as report:
        await record_history(history_events(process.options), process.writer, report)
        await process.trainings.run("first model, from generated history", report)


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


@asynccontextmanager
async def viewing(process: TradingProcess, ring: LogRing, *, is_on: bool) -> AsyncIterator[None]:
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
