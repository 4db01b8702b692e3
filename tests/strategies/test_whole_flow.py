"""Strategy, analyzer, DOM, execution, paper venue, feedback and journal together, in lockstep: same input, same run."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest

from framework.clock import EventClock
from framework.config import MainConfig, PaperConfig, RiskLimits, StrategyFile
from framework.inference.analyzer import AnalyzerSettings, OrderFlowAnalyzer, Outcome, hold_time_for
from framework.inference.feedback import FeedbackActor
from framework.inference.outbox import OutboxSettings
from framework.kernel.bus import EventBus
from framework.kernel.pacer import Pacer
from framework.market.dom import DomBuffer, DomBufferActor
from framework.market.market_data import MarketData
from framework.messages import BookSnapshot, DecisionMade, FailureReason
from framework.model import Instrument, TradeOutcome
from framework.strategy import IdSequence, StrategyActor, StrategyContext, load_strategy
from framework.trading.execution import ExecutionActor
from framework.trading.journal import Journal
from framework.trading.portfolio import Portfolio
from framework.trading.risk import RiskGate
from framework.venues.paper import PaperVenue
from framework.window import Window
from framework.wire import FeedbackItem, PredictReply

S, MS = 1_000_000_000, 1_000_000
START_NS = 1_700_000_000 * S
TIDE = Instrument(instrument_id="TIDE.SIM", tick_size=Decimal("0.25"), multiplier=Decimal(20))
FLOWS = ("STRONG_SELL", "SELL", "NEUTRAL", "BUY", "STRONG_BUY")


def books(count: int) -> Iterator[BookSnapshot]:
    """A market that swings, with an imbalance that leads its swings; one book each 100 ms, a break in the middle."""
    for n in range(count):
        now_ns = START_NS + (n + 1) * 100 * MS + (120 * S if n > count // 2 else 0)
        mid = 10_000 + round(12 * math.sin(n / 60))
        lean = round(40 * math.cos(n / 60))
        yield BookSnapshot(
            instrument_id="TIDE.SIM",
            ts_event=now_ns,
            ts_recv=now_ns,
            sequence=n + 1,
            bid_ticks=tuple(mid - 1 - level for level in range(5)),
            bid_sizes=(50 + lean,) * 5,
            ask_ticks=tuple(mid + 1 + level for level in range(5)),
            ask_sizes=(50 - lean,) * 5,
        )


class DistantModel:
    """An ML process: it answers from the window alone, some wall time later, and fails now and then."""

    def __init__(self, wall: random.Random) -> None:
        self.wall = wall
        self.asked = 0
        self.feedback: dict[str, FeedbackItem] = {}

    def request_prediction(self, window: Window, *, strategy_id: str, timeout_s: float, on_outcome: Callable[[Outcome, str], None]) -> str:
        self.asked += 1
        answer = self.answer(window)
        asyncio.get_running_loop().call_later(self.wall.choice((0.0, 0.0, 0.002)), on_outcome, answer, "")
        return f"p{self.asked}"

    def answer(self, window: Window) -> Outcome:
        if self.asked % 7 == 0:
            return FailureReason.TIMEOUT
        rows = window.rows
        flow = FLOWS[int(rows.sequence[-1]) * 7919 % 5]
        return PredictReply(
            version=1,
            request_id="r",
            flow_type=flow,
            confidence=0.5 + float(rows.bid_sizes[-1, 0] % 10) / 20,
            p_down=0.3,
            p_flat=0.3,
            p_up=0.4,
            model_version="v1",
            is_calibrated=True,
            horizon_rows=20,
            as_of_ns=window.as_of_ns,
            as_of_sequence=window.as_of_sequence,
            regime=0,
            shock_score=0.0,
            compute_us=1.0,
        )

    def send_feedback(self, items: Sequence[FeedbackItem], on_ack: Callable[[tuple[str, ...]], None]) -> None:
        self.feedback |= {item.feedback_id: item for item in items}
        asyncio.get_running_loop().call_later(self.wall.choice((0.0, 0.001)), on_ack, tuple(item.feedback_id for item in items))


class Run:
    def __init__(self, wall_seed: int, *, entry: str) -> None:
        self.clock = EventClock(START_NS)
        self.bus = EventBus()
        self.journal = Journal(":memory:")
        self.model = DistantModel(random.Random(wall_seed))
        self.file = StrategyFile(
            name="s1",
            strategy="strategies.ml_futures:MLFuturesStrategy",
            instrument_id="TIDE.SIM",
            prediction_cooldown_seconds=0.5,
            parameters={"entry": entry, "order_quantity": 2, "max_holding_s": 4.0},
        )

    async def go(self) -> None:
        pacer = Pacer(self.clock, self.bus, speed=None)
        venue = PaperVenue(PaperConfig(), [TIDE])
        self.portfolio = Portfolio({"TIDE.SIM": TIDE})
        execution = ExecutionActor(
            self.bus,
            self.clock,
            venue=venue,
            gate=RiskGate(RiskLimits()),
            portfolio=self.portfolio,
            journal=self.journal,
            instruments={"TIDE.SIM": TIDE},
        )
        self.feedback = FeedbackActor(self.bus, self.clock, self.journal)
        buffer = DomBuffer(TIDE, 100)
        strategy = self.strategy(pacer, buffer)
        for actor in (execution, self.feedback, DomBufferActor(self.bus, buffer), StrategyActor(strategy)):
            self.bus.register(actor)
            actor.on_start()
        self.feedback.add_strategy("s1", TIDE, settings=OutboxSettings(batch_size=20), client=self.model)
        venue.start(self.clock, execution.take)
        market = MarketData(self.bus, self.clock, [TIDE], (venue.on_market,))
        for book in books(1_500):
            self.clock.call_at(book.ts_event, lambda book=book: market.accept(book))  # type: ignore[misc]
        await pacer.run(until_ns=START_NS + 290 * S)
        self.feedback.on_stop()

    def strategy(self, pacer: Pacer, buffer: DomBuffer) -> Any:
        analyzer = OrderFlowAnalyzer(
            strategy_id="s1",
            instrument_id="TIDE.SIM",
            settings=AnalyzerSettings.of(self.file, MainConfig()),
            client=self.model,
            bus=self.bus,
            clock=self.clock,
            log=logging.getLogger("quiet"),
            deliver_at=hold_time_for(pacer, self.clock),
        )
        context = StrategyContext(
            file=self.file,
            instrument=TIDE,
            bus=self.bus,
            clock=self.clock,
            dom=buffer,
            order_ids=IdSequence("s1-"),
            decision_ids=IdSequence("s1-d"),
            analyzer=analyzer,
        )
        return load_strategy(context)

    def story(self) -> list[tuple[str, str, Any]]:
        """Every record of the journal."""
        return [(record.kind, record.key, record.message) for record in self.journal.records()]

    @property
    def decisions(self) -> list[DecisionMade]:
        return [record.message for record in self.journal.records("DecisionMade") if isinstance(record.message, DecisionMade)]


@pytest.fixture
def run_with(request: pytest.FixtureRequest) -> Callable[..., Run]:
    def go(wall_seed: int, *, entry: str = "market") -> Run:
        run = Run(wall_seed, entry=entry)
        request.addfinalizer(run.journal.close)
        asyncio.run(run.go())
        return run

    return go


@pytest.mark.parametrize("entry", ["market", "passive"])
def test_the_same_input_gives_the_same_run_whatever_the_wall_clock_does(entry: str, run_with: Callable[..., Run]) -> None:
    first, second = run_with(1, entry=entry), run_with(2, entry=entry)

    assert first.story() == second.story()
    assert sum(kind == "SubmitOrder" for kind, _, _ in first.story()) > 20


def test_every_decision_ends_as_feedback_once_and_each_order_names_its_decision(run_with: Callable[..., Run]) -> None:
    run = run_with(1)

    ids = [decision.decision_id for decision in run.decisions]
    delivered = set(run.model.feedback) | {feedback.feedback_id for feedback in run.journal.pending_feedback()}
    assert len(ids) == len(set(ids)) > 100
    assert delivered == set(ids)
    ordered = {order for decision in run.decisions for order in decision.client_order_ids}
    sent = {record.key: record.message for record in run.journal.records("SubmitOrder")}
    assert set(sent) == ordered
    assert {message.decision_id for message in sent.values()} <= set(ids)  # type: ignore[attr-defined]


def test_the_pnl_that_feedback_tells_is_the_pnl_that_was_made(run_with: Callable[..., Run]) -> None:
    run = run_with(1)

    told = {feedback_id: item.pnl for feedback_id, item in run.model.feedback.items()}
    told |= {feedback.feedback_id: float(feedback.pnl) for feedback in run.journal.pending_feedback() if feedback.pnl is not None}
    position = run.portfolio.position("s1", "TIDE.SIM")
    assert position.quantity == 0
    assert sum(pnl for pnl in told.values() if pnl is not None) == pytest.approx(float(position.realized_pnl - position.fees))
    outcomes = {item.trade_outcome for item in run.model.feedback.values()}
    assert outcomes >= {None, TradeOutcome.PROFIT, TradeOutcome.LOSS}


def test_predictions_that_fail_leave_the_default_behaviour_and_the_others_decide(run_with: Callable[..., Run]) -> None:
    reasons = {decision.reason for decision in run_with(1).decisions}

    assert {"ML_TIMEOUT", "LOW_CONFIDENCE", "ENTER_LONG", "ENTER_SHORT", "NEUTRAL", "MAX_HOLDING"} <= reasons


def test_no_markout_reaches_over_the_break(run_with: Callable[..., Run]) -> None:
    run = run_with(1)
    last_before = START_NS + 751 * 100 * MS
    horizons = {
        feedback_id: set(item.markouts_ticks)
        for feedback_id, item in run.model.feedback.items()
        if last_before - 29 * S < item.ts_event <= last_before
    }

    assert horizons
    assert not any("30" in known for known in horizons.values())
