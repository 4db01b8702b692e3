"""Run strategies: build each with its collaborators, start it, stop it, say how it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from framework.clock import EventClock
from framework.config import MainConfig, StrategyFile
from framework.errors import ConfigError
from framework.inference.analyzer import AnalyzerSettings, DeliverAt, OrderFlowAnalyzer
from framework.inference.client import MLClient
from framework.inference.feedback import FeedbackActor
from framework.inference.outbox import OutboxSettings
from framework.kernel.bus import EventBus
from framework.kernel.supervisor import Policy, Supervisor
from framework.market.dom import DomBuffer
from framework.messages import StrategyQuarantined
from framework.model import Instrument
from framework.operations.deployments import Deployment
from framework.strategy import IdSequence, Recovered, Strategy, StrategyActor, StrategyContext
from framework.trading.execution import ExecutionActor
from framework.trading.fold import JournalFold
from framework.trading.journal import Journal

ID_MARGIN: Final = 10_000
"""Ids of one kind that a run may have used in the last second before it was killed, without a trace in the journal."""


@dataclass(slots=True)
class Hosted:
    """One strategy that runs or ran."""

    deployment: Deployment
    strategy: Strategy | None = None
    state: str = "RUNNING"
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What strategies are built on. `client_for` returns None when there is no ML process at all, `bad_spell` why a book is bad."""

    main: MainConfig
    bus: EventBus
    clock: EventClock
    journal: Journal
    past: JournalFold
    supervisor: Supervisor
    execution: ExecutionActor
    feedback: FeedbackActor
    buffers: dict[str, DomBuffer]
    instruments: dict[str, Instrument]
    bad_spell: Callable[[str], str]
    client_for: Callable[[StrategyFile], MLClient | None]
    deliver_at: DeliverAt | None
    catch_up: Callable[[], None] | None
    draw_latency_ns: Callable[[], int] | None = None


@dataclass(frozen=True, slots=True)
class UsedIds:
    """The highest number known to be used per id prefix (`name-` for orders, `name-d` for decisions), and how many may be unknown."""

    known: dict[str, int]
    margin: int

    def last(self, prefix: str) -> int:
        """Return a number that no id of this prefix was used beyond."""
        return self.known.get(prefix, 0) + self.margin


@dataclass(slots=True)
class StrategyHost:
    """Start and stop strategies on one desk; one that raises is kept here with its reason."""

    desk: Desk
    used_ids: UsedIds
    hosted: dict[str, Hosted] = field(default_factory=dict)
    _sequences: dict[str, IdSequence] = field(default_factory=dict)

    def check(self, file: StrategyFile) -> None:
        """Raise `ConfigError` if the strategy cannot run in this process."""
        if file.instrument_id not in self.desk.instruments:
            there = ", ".join(self.desk.instruments)
            raise ConfigError(f"strategy {file.name}: instrument {file.instrument_id} is not in this market; it has {there}")
        rows = self.desk.buffers[file.instrument_id].max_rows
        if file.max_dom_history > rows:
            raise ConfigError(
                f"strategy {file.name}: max_dom_history {file.max_dom_history} is more than the {rows} rows that this run keeps; "
                "deploy it while nothing runs, then start"
            )

    def start(self, deployment: Deployment) -> None:
        """Build and start a strategy; one of the same name is stopped first. Raises `ConfigError`."""
        file = deployment.file
        self.check(file)
        self.stop(file.name)
        strategy = deployment.strategy_class(self._context(file), deployment.parameters)
        self.hosted[file.name] = Hosted(deployment, strategy)
        self.desk.supervisor.start(StrategyActor(strategy), policy=Policy.QUARANTINE)

    def stop(self, name: str) -> None:
        """Stop a strategy and cancel its orders; its position stays on the account. An unknown name does nothing."""
        if name in self.hosted:
            self._end(name)
            self.desk.execution.cancel_all(name)

    def stop_all(self) -> None:
        """Stop every strategy at the end of a run; what becomes of their orders is said by whoever ends it."""
        for name in tuple(self.hosted):
            self._end(name)

    def _end(self, name: str) -> None:
        self.desk.supervisor.stop(name)
        if self.hosted[name].state == "RUNNING":
            self.hosted[name].state = "STOPPED"

    def forget(self, name: str) -> None:
        """Stop a strategy and drop it from what `strategies` shows."""
        self.stop(name)
        self.hosted.pop(name, None)

    def on_quarantine(self, name: str, reason: str) -> None:
        """Note that a strategy raised, and tell everybody (Execution cancels its orders)."""
        if name in self.hosted:
            self.hosted[name].state, self.hosted[name].reason = "QUARANTINED", reason
        event = StrategyQuarantined(strategy_id=name, ts_event=self.desk.clock.now_ns(), reason=reason)
        self.desk.bus.publish(event)

    def analyzers(self) -> Iterable[OrderFlowAnalyzer]:
        """Return the analyzers of all strategies that ask for predictions."""
        contexts = (hosted.strategy.context for hosted in self.hosted.values() if hosted.strategy is not None)
        return [context.analyzer for context in contexts if context.analyzer is not None]

    def _context(self, file: StrategyFile) -> StrategyContext:
        desk, instrument = self.desk, self.desk.instruments[file.instrument_id]
        client = desk.client_for(file)
        recovered = self._recovered(file)
        desk.feedback.add_strategy(
            file.name,
            instrument,
            settings=OutboxSettings.of(file),
            client=client,
            position_lots=recovered.position_lots,
            average_ticks=recovered.average_ticks,
        )
        return StrategyContext(
            file=file,
            instrument=instrument,
            bus=desk.bus,
            clock=desk.clock,
            dom=desk.buffers[file.instrument_id],
            order_ids=self._ids(f"{file.name}-"),
            decision_ids=self._ids(f"{file.name}-d"),
            analyzer=None if client is None else self._analyzer(file, client),
            recovered=recovered,
            is_book_sound=not desk.bad_spell(file.instrument_id),
        )

    def _ids(self, prefix: str) -> IdSequence:
        """Return the ids of a prefix: a strategy that is deployed again in this run goes on behind its predecessor."""
        return self._sequences.setdefault(prefix, IdSequence(prefix, self.used_ids.last(prefix)))

    def _recovered(self, file: StrategyFile) -> Recovered:
        position = self.desk.execution.portfolio.position(file.name, file.instrument_id)
        return Recovered(
            position_lots=position.quantity,
            average_ticks=position.average_ticks,
            open_orders=self.desk.execution.open_orders(file.name),
        )

    def _analyzer(self, file: StrategyFile, client: MLClient) -> OrderFlowAnalyzer:
        return OrderFlowAnalyzer(
            strategy_id=file.name,
            instrument_id=file.instrument_id,
            settings=AnalyzerSettings.of(file, self.desk.main),
            client=client,
            bus=self.desk.bus,
            clock=self.desk.clock,
            log=logging.getLogger(file.strategy.rpartition(":")[2]),
            deliver_at=self.desk.deliver_at,
            catch_up=self.desk.catch_up,
            draw_latency_ns=self.desk.draw_latency_ns,
        )


def used_ids(past: JournalFold, *, was_clean: bool) -> UsedIds:
    """Return which ids earlier runs used; after a kill, its last second may be missing for any prefix."""
    return UsedIds(dict(past.ids), 0 if was_clean else ID_MARGIN)
