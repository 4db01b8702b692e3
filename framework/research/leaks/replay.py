"""One strategy against given market events, and everything that it does: the same actors as in a run, without a process around them.

Predictions come from a rule on the imbalance of the window (`RuleClient`), so that a replay depends on nothing outside: what is
checked is the strategy, not a model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from framework.clock import EventClock
from framework.config import MainConfig
from framework.inference.analyzer import AnalyzerSettings, OrderFlowAnalyzer, Outcome
from framework.inference.outcomes import mid_of
from framework.kernel.bus import EventBus
from framework.kernel.supervisor import Policy, Supervisor
from framework.market.bars import BarBuilder
from framework.market.dom import DomBuffer, DomBufferActor
from framework.market.feed import ReplayFeed
from framework.market.market_data import MarketData
from framework.messages import BookSnapshot, CancelOrder, DecisionMade, MarketEvent, Message, SubmitOrder
from framework.model import FlowType, Instrument
from framework.operations.deployments import Deployment
from framework.strategy import IdSequence, StrategyActor, StrategyContext
from framework.trading.execution import ExecutionActor
from framework.trading.journal import Journal
from framework.trading.portfolio import Portfolio
from framework.trading.risk import RiskGate
from framework.venues.paper import PaperVenue
from framework.window import Window
from framework.wire import PROTOCOL_VERSION, PredictReply

NEUTRAL_BELOW: Final = 0.55
_ACTS: Final = (SubmitOrder, CancelOrder, DecisionMade)


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a strategy did: an order, a cancel or a decision, with the mid that it saw."""

    ts_event: int
    what: str
    message: Message
    mid_ticks: float | None


@dataclass(slots=True)
class Trace:
    """What a replay showed: acts in order, the mids of the books (`ts_event`, ticks), and a fault of the strategy if it had one."""

    acts: list[Act] = field(default_factory=list)
    mids: list[tuple[int, float]] = field(default_factory=list)
    fault: str = ""


class RuleClient:
    """Answers like an ML service, at once and by rule: up with probability 1/2 + 0.45 x imbalance of the best level."""

    def __init__(self, clock: EventClock) -> None:
        self._clock = clock
        self._number = 0

    def request_prediction(self, window: Window, *, strategy_id: str, timeout_s: float, on_outcome: Callable[[Outcome, str], None]) -> str:  # noqa: ARG002
        """Answer at this instant of market time, after this call."""
        self._number += 1
        reply = _rule(window, f"check.{self._number}")
        self._clock.call_at(self._clock.now_ns(), lambda: on_outcome(reply, ""))
        return reply.request_id


def _rule(window: Window, request_id: str) -> PredictReply:
    bid, ask = float(window.rows.bid_sizes[-1, 0]), float(window.rows.ask_sizes[-1, 0])
    up = 0.5 + 0.45 * (bid - ask) / max(bid + ask, 1.0)
    confidence = max(up, 1 - up)
    flow_type = FlowType.NEUTRAL if confidence < NEUTRAL_BELOW else FlowType.BUY if up > 0.5 else FlowType.SELL
    return PredictReply(
        version=PROTOCOL_VERSION,
        request_id=request_id,
        flow_type=flow_type.value,
        confidence=confidence,
        p_down=0.5 * (1 - up),
        p_flat=0.5,
        p_up=0.5 * up,
        model_version="rule",
        is_calibrated=False,
        horizon_rows=20,
        as_of_ns=window.as_of_ns,
        as_of_sequence=window.as_of_sequence,
        regime=-1,
        shock_score=0.0,
        compute_us=0.0,
        instrument_id=window.instrument_id,
    )


class _Watcher:
    """Taps the bus: keeps what the strategy did and the mids of its instrument."""

    def __init__(self, trace: Trace, instrument_id: str) -> None:
        self._trace = trace
        self._instrument_id = instrument_id
        self._mid: float | None = None

    def __call__(self, message: Message) -> None:
        """See one message."""
        if isinstance(message, BookSnapshot):
            if message.instrument_id == self._instrument_id:
                self._mid = mid_of(message)
                if self._mid is not None:
                    self._trace.mids.append((message.ts_event, self._mid))
        elif isinstance(message, _ACTS):
            act = Act(ts_event=message.ts_event, what=type(message).__name__, message=message, mid_ticks=self._mid)
            self._trace.acts.append(act)

    def on_quarantine(self, _name: str, reason: str) -> None:
        """Note that the strategy raised."""
        self._trace.fault = self._trace.fault or reason


class Rig:
    """The actors around one strategy and one list of events; good for one `run`."""

    def __init__(self, deployment: Deployment, main: MainConfig, instruments: Sequence[Instrument], events: Sequence[MarketEvent]) -> None:
        self.trace = Trace()
        seen = _Watcher(self.trace, deployment.file.instrument_id)
        self._feed = ReplayFeed(events, instruments)
        self._clock = EventClock(self._feed.start_ns or 0)
        self._bus = EventBus(tap=seen)
        by_id = {one.instrument_id: one for one in instruments}
        venue = PaperVenue(main.paper, instruments)
        self._execution = ExecutionActor(
            self._bus,
            self._clock,
            venue=venue,
            gate=RiskGate(main.risk),
            portfolio=Portfolio(by_id),
            journal=Journal(":memory:"),
            instruments=by_id,
        )
        rows = max(main.training.window_rows, deployment.file.max_dom_history)
        self._buffers = {one.instrument_id: DomBuffer(one, rows) for one in instruments}
        self._data = MarketData(self._bus, self._clock, instruments, (venue.on_market,))
        self._supervisor = Supervisor(
            self._bus, now_ns=self._clock.now_ns, on_quarantine=seen.on_quarantine, on_escalate=seen.on_quarantine
        )
        self._supervisor.start(self._execution)
        for one in instruments:
            self._supervisor.start(DomBufferActor(self._bus, self._buffers[one.instrument_id]))
            self._supervisor.start(BarBuilder(self._bus, self._clock, one))
        venue.start(self._clock, self._execution.take)
        context = self._context(deployment, main, by_id[deployment.file.instrument_id])
        self._supervisor.start(StrategyActor(deployment.strategy_class(context, deployment.parameters)), policy=Policy.QUARANTINE)

    def _context(self, deployment: Deployment, main: MainConfig, instrument: Instrument) -> StrategyContext:
        file = deployment.file
        analyzer = OrderFlowAnalyzer(
            strategy_id=file.name,
            instrument_id=file.instrument_id,
            settings=AnalyzerSettings.of(file, main),
            client=RuleClient(self._clock),
            bus=self._bus,
            clock=self._clock,
            log=logging.getLogger("check-leaks"),
            deliver_at=self._deliver_at,
        )
        return StrategyContext(
            file=file,
            instrument=instrument,
            bus=self._bus,
            clock=self._clock,
            dom=self._buffers[file.instrument_id],
            order_ids=IdSequence(f"{file.name}-"),
            decision_ids=IdSequence(f"{file.name}-d"),
            analyzer=analyzer,
        )

    def _deliver_at(self, when_ns: int, deliver: Callable[[], None]) -> Callable[[], None]:
        self._clock.call_at(when_ns, deliver)
        return lambda: None

    def run(self, until_ns: int) -> Trace:
        """Run what is due up to market time `until_ns`, as fast as possible."""
        self._bus.drain()
        self._feed.start(self._clock, self._data.accept, lambda: None)
        while (due_ns := self._clock.next_timer_ns()) is not None and due_ns <= until_ns:
            self._clock.run_next(due_ns)
            self._bus.drain()
        return self.trace
