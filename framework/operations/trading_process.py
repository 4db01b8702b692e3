"""The trading process: everything that runs, started bottom-up and stopped in reverse."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from framework.dataset import BackgroundDatasetWriter, DatasetWriter
from framework.errors import StoppedByKill, StorageError
from framework.inference.client import MLClient
from framework.inference.samples import SampleRecorder
from framework.kernel.loop_lag import LoopLagMonitor
from framework.kernel.pacer import Pacer
from framework.market.bars import BarBuilder
from framework.market.dom import DomBufferActor
from framework.market.market_data import MarketData
from framework.market.recording import Recorder
from framework.messages import MLStateChanged
from framework.model import IN_FLIGHT, NS_PER_S, TradingState
from framework.operations.left_open import left_open
from framework.operations.markets import Market, remember_point
from framework.operations.ml_link import Clients, MLLink
from framework.operations.options import StartOptions
from framework.operations.run_record import run_ended, run_started, write
from framework.operations.strategy_host import Desk, StrategyHost
from framework.operations.tally import Tally
from framework.operations.trainings import Trainings
from framework.trading.journal import Journal
from framework.trading.snapshots import SnapshotKeeper
from framework.venues.at_desk import AtDesk
from framework.venues.elsewhere.venue import VenueElsewhere

FLUSH_S: Final = 1.0
CLEAN: Final = "ended_in_order"
WIND_DOWN_S: Final = 1.0
FEEDBACK_WAIT_S: Final = 2.0
VENUE_WAIT_S: Final = 2.0
log = logging.getLogger("Tidebook")


@dataclass(slots=True, kw_only=True)
class TradingProcess:
    """Everything that runs. `app` builds it; `run` returns when it is over."""

    options: StartOptions
    desk: Desk
    market: Market
    pacer: Pacer
    market_data: MarketData
    samples: SampleRecorder
    writer: DatasetWriter | BackgroundDatasetWriter
    host: StrategyHost
    tally: Tally
    lag: LoopLagMonitor
    link: MLLink | None
    client: MLClient | None
    clients: Clients
    trainings: Trainings
    recorder: Recorder | None
    started_s: float
    wall_s: Callable[[], float]
    exit_code: int = 0
    reason: str = ""
    ml_state: str = "OFF"
    ml_detail: str = ""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    ml_known: asyncio.Event = field(default_factory=asyncio.Event)
    keeper: SnapshotKeeper = field(init=False)
    _open_before: int = 0

    # --- life ------------------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Bring back orders, positions and trading state. Raises `StoppedByKill` while the kill switch is set."""
        execution = self.desk.execution
        self._open_before = execution.recover(self.desk.past)
        self.keeper = SnapshotKeeper(self.desk.journal, self.desk.past, execution.blotter)
        if execution.sight.is_killed():
            raise StoppedByKill("the kill switch is set; clear it with: main.py resume --confirm")
        if execution.state is TradingState.HALTED:
            raise StoppedByKill(f"trading is halted ({execution.state_reason}); clear it with: main.py resume --confirm")

    def start(self) -> None:
        """Start every actor, bottom-up, and ask the venue about orders of the run before. Strategies are started by the host."""
        desk = self.desk
        started = run_started(self.options, desk.journal, self.market.instruments.values(), desk.clock.now_ns())
        write(desk.journal, started)
        self.market.venue.start(desk.clock, desk.execution.take)
        if isinstance(self.market.venue, AtDesk | VenueElsewhere):
            self.market.venue.on_margin_call(desk.execution.take)
        desk.supervisor.start(desk.execution)
        desk.supervisor.start(desk.feedback)
        for instrument_id, buffer in desk.buffers.items():
            desk.supervisor.start(DomBufferActor(desk.bus, buffer))
            desk.supervisor.start(BarBuilder(desk.bus, desk.clock, self.market.instruments[instrument_id]))
        desk.supervisor.start(self.samples)
        for instrument_id, buffer in desk.buffers.items():
            if instrument_id not in self.market.in_bars:
                self.samples.add_instrument(self.market.instruments[instrument_id], max_dom_history=buffer.max_rows)
        if self.recorder is not None:
            self.recorder.start()
        for (strategy_id, instrument_id), position in desk.execution.portfolio.positions().items():
            log.info("Recovered %s: %+d %s at %.2f ticks", strategy_id, position.quantity, instrument_id, position.average_ticks)
        if self._open_before:
            log.warning("%d orders were open when the last run ended; asking the venue", self._open_before)
        desk.execution.reconcile()
        desk.bus.drain()

    async def run(self) -> None:
        """Open the market and run until it ends, the duration is over or `stop` is called; then wind down."""
        self.lag.start()
        flusher = asyncio.get_running_loop().create_task(self._flush_each_second())
        try:
            self.market.feed.start(self.desk.clock, self.market_data.accept, self._on_feed_end)
            if not self.is_stopping:
                await self.pacer.run(until_ns=self._end_ns())
            await self._wind_down()
        finally:
            flusher.cancel()
            self.lag.stop()

    def stop(self, reason: str, *, exit_code: int = 0) -> None:
        """End the run before the next event. The first reason counts."""
        if not self.reason:
            self.reason, self.exit_code = reason, exit_code
        self.stopped.set()
        self.pacer.stop()

    @property
    def is_stopping(self) -> bool:
        """Return whether the run was told to end."""
        return self.stopped.is_set()

    def escalate(self, name: str, reason: str) -> None:
        """Close the gate and end: an actor of the order path broke."""
        log.critical("%s failed (%s): no new orders, stopping", name, reason)
        self.desk.execution.set_state(TradingState.HALTED, f"{name} failed: {reason}")
        self.stop(f"{name} failed: {reason}", exit_code=5)

    def _end_ns(self) -> int | None:
        duration_s = self.options.duration_s
        return None if duration_s is None else self.market.start_ns + round(duration_s * NS_PER_S)

    def _on_feed_end(self) -> None:
        reason = "the duration is over" if self._is_over() else "the market has ended"
        log.info("Stopping: %s", reason)
        self.stop(reason)

    def _is_over(self) -> bool:
        end_ns = self._end_ns()
        return end_ns is not None and self.desk.clock.now_ns() >= end_ns

    async def _wind_down(self) -> None:
        """Stop strategies, cancel what protects no position, let the answers arrive, hand the last feedback over."""
        self.market.feed.stop()
        self.market_data.stop()
        self.host.stop_all()
        self.desk.bus.drain()
        self._close_orders()
        await self._hear_venue()
        for one in left_open(self.desk.execution, self.market.instruments):
            log.warning("%s", one)
        self.desk.supervisor.stop_all()
        self.desk.bus.drain()
        await self._deliver_feedback()
        await self._close_files()
        self._remember()
        now_ns = self.desk.clock.now_ns()
        write(self.desk.journal, run_ended(self.desk.journal, self.reason, now_ns))
        self.keeper.finish(now_ns)
        self.desk.journal.set_meta(CLEAN, "1")

    def _close_orders(self) -> None:
        """Cancel entries and keep the exits of positions that stay. A halt keeps nothing."""
        execution = self.desk.execution
        if execution.open_orders():
            execution.cancel_all() if execution.state is TradingState.HALTED else execution.cancel_entries()
            self.desk.clock.advance_to(self.desk.clock.now_ns() + round(WIND_DOWN_S * NS_PER_S))
            self.desk.bus.drain()

    async def _hear_venue(self) -> None:
        """Wait for the answers of a venue in another process, which takes real time."""
        loop, execution = asyncio.get_running_loop(), self.desk.execution
        end_s = loop.time() + VENUE_WAIT_S if isinstance(self.market.venue, VenueElsewhere) else 0.0
        while loop.time() < end_s and any(order.status in IN_FLIGHT for order in execution.open_orders()):
            await asyncio.sleep(0.02)
            self.desk.bus.drain()

    async def _close_files(self) -> None:
        if self.recorder is not None:
            await asyncio.to_thread(self.recorder.close)
        if isinstance(self.writer, DatasetWriter):
            self.writer.close()  # it belongs to this thread
        else:
            await asyncio.to_thread(self.writer.close)

    async def _deliver_feedback(self) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + FEEDBACK_WAIT_S
        while self.desk.feedback.stats()["pending"] and self.client is not None and self.client.is_up and loop.time() < deadline_s:
            await asyncio.sleep(0.02)
            self.desk.bus.drain()

    async def _flush_each_second(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            self._remember()

    def _remember(self) -> None:
        try:
            if self.market.is_simulated:
                book = self.desk.execution.book(next(iter(self.market.instruments)))
                if book is not None:
                    remember_point(self.desk.journal, book)
            self.desk.journal.flush()
            self.keeper.keep_up(self.desk.clock.now_ns())
        except StorageError as exc:
            log.error("%s", exc)

    # --- ML ----------------------------------------------------------------------------------------------------------------

    def on_ml_state(self, state: str, detail: str) -> None:
        """Tell everybody how the ML process is."""
        self.ml_state, self.ml_detail = state, detail
        if state in ("MODEL", "NO_MODEL"):
            self.ml_known.set()
        elif state == "DOWN" and self.link is not None:
            self.link.note_down()
        log.info("ML is %s %s", state, detail)
        self.pacer.catch_up()
        self.desk.bus.publish(MLStateChanged(ts_event=self.desk.clock.now_ns(), state=state, detail=detail))

    def on_ml_heard(self) -> None:
        """Note a sign of life of the ML process."""
        if self.link is not None:
            self.link.heard()

    # --- for status and summary ----------------------------------------------------------------------------------------------

    def uptime_s(self) -> float:
        """Return for how long the process has run, s."""
        return self.wall_s() - self.started_s

    def model_version(self) -> str | None:
        """Return the model version that serves."""
        return (self.client.model_version or None) if self.client is not None else None

    def restarts(self) -> int:
        """Return how often the ML process was started again."""
        return self.link.child.restarts if self.link is not None else 0

    def late_predictions(self) -> int:
        """Return how many answers came after their request had ended."""
        return int(self.client.stats().get("late", 0)) if self.client is not None else 0


def take_clean_mark(journal: Journal) -> bool:
    """Return whether the last run ended in order, and remove its mark: this run has not ended yet."""
    was_clean = journal.get_meta(CLEAN) in ("1", None)
    journal.set_meta(CLEAN, "0")
    return was_clean
