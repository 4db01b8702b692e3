"""Feedback: every decision, its outcome, kept until the ML process has it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from framework.clock import EventClock
from framework.config import StrategyFile
from framework.inference.feedback import FeedbackActor
from framework.inference.outbox import Outbox, OutboxSettings, iso_utc, to_item
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.messages import (
    Action,
    Bar,
    BookInvalid,
    BookSnapshot,
    DecisionClosed,
    DecisionMade,
    ExecutionReport,
    Feedback,
    Filled,
    MLStateChanged,
    OrderUpdated,
    ReportKind,
    SessionChanged,
)
from framework.model import FlowType, Instrument, Liquidity, OrderStatus, Side, TradeOutcome
from framework.trading.journal import Journal
from framework.trading.portfolio import Portfolio
from framework.wire import FeedbackItem, FeedbackRequest, decode_request, encode

S = 1_000_000_000
START_NS = 1_705_314_615 * S  # 2024-01-15T10:30:15Z
TIDE = Instrument(instrument_id="TIDE.SIM", tick_size=Decimal("0.25"), multiplier=Decimal(20))


class MemoryClient:
    """An `MLClient` that acknowledges when the test says so."""

    def __init__(self) -> None:
        self.batches: list[tuple[tuple[str, ...], Callable[[tuple[str, ...]], None]]] = []

    def send_feedback(self, items: Sequence[FeedbackItem], on_ack: Callable[[tuple[str, ...]], None]) -> None:
        self.batches.append((tuple(item.feedback_id for item in items), on_ack))

    def acknowledge(self, batch: int = -1) -> None:
        ids, on_ack = self.batches[batch]
        on_ack(ids)

    @property
    def sent(self) -> list[tuple[str, ...]]:
        return [ids for ids, _ in self.batches]


class House:
    """The actor on a real bus, with market, execution and ML process played by the test."""

    def __init__(self, **options: Any) -> None:
        self.bus, self.clock = EventBus(), EventClock(START_NS)
        self.journal, self.client = Journal(":memory:"), MemoryClient()
        self.options = options
        self.sequence = 0
        self.mid_ticks = 1_000
        self.decisions = 0
        self.start()

    def start(self, **position: Any) -> None:
        """Start an actor on what the journal has, as a new process would."""
        self.bus.remove("feedback")
        self.actor = FeedbackActor(self.bus, self.clock, self.journal, **self.options)
        self.bus.register(self.actor)
        self.actor.on_start()
        self.add(**position)

    def add(self, settings: OutboxSettings | None = None, *, client: Any = "its own", **position: Any) -> None:
        used = self.client if client == "its own" else client
        self.actor.add_strategy("s", TIDE, settings=settings or OutboxSettings(), client=used, **position)

    def publish(self, message: Any) -> None:
        self.bus.publish(message)
        self.bus.drain()

    def wait(self, seconds: float) -> None:
        self.clock.advance_to(self.clock.now_ns() + round(seconds * S))
        self.bus.drain()

    def book(self, mid_ticks: int | None = None) -> BookSnapshot:
        self.mid_ticks = mid_ticks or self.mid_ticks
        self.sequence += 1
        book = self.current()
        self.publish(book)
        return book

    def current(self) -> BookSnapshot:
        return BookSnapshot(
            instrument_id="TIDE.SIM",
            ts_event=self.clock.now_ns(),
            ts_recv=self.clock.now_ns(),
            sequence=self.sequence,
            bid_ticks=(self.mid_ticks - 5,),
            bid_sizes=(3,),
            ask_ticks=(self.mid_ticks + 5,),
            ask_sizes=(3,),
        )

    def decide(self, *orders: str, action: Action = Action.BUY, strategy_id: str = "s") -> str:
        self.decisions += 1
        decision = DecisionMade(
            decision_id=f"{strategy_id}-d{self.decisions}",
            strategy_id=strategy_id,
            instrument_id="TIDE.SIM",
            ts_event=self.clock.now_ns(),
            action=action if orders else Action.ABSTAIN,
            reason="ENTER_LONG" if orders else "NEUTRAL",
            prediction_id="p1",
            flow_type=FlowType.BUY,
            confidence=0.75,
            model_version="v1",
            position_lots=0,
            book=self.current(),
            client_order_ids=orders,
            as_of_sequence=17,
        )
        self.publish(decision)
        return decision.decision_id

    def fill(self, order_id: str, side: Side, quantity: int, price_ticks: int, decision_id: str | None, *, fee: str = "0") -> None:
        self.publish(
            Filled(
                client_order_id=order_id,
                trade_id=f"t{self.sequence}",
                strategy_id="s",
                instrument_id="TIDE.SIM",
                ts_event=self.clock.now_ns(),
                side=side,
                quantity=quantity,
                price_ticks=price_ticks,
                fee=Decimal(fee),
                liquidity=Liquidity.TAKER,
                decision_id=decision_id,
            )
        )

    def order(self, order_id: str, status: OrderStatus, *, filled: int = 0) -> None:
        self.publish(
            OrderUpdated(
                client_order_id=order_id,
                strategy_id="s",
                instrument_id="TIDE.SIM",
                ts_event=self.clock.now_ns(),
                side=Side.BUY,
                quantity=2,
                filled_quantity=filled,
                average_ticks=None,
                limit_ticks=None,
                status=status,
            )
        )

    def trade(self, order_id: str, side: Side, quantity: int, price_ticks: int, *, fee: str = "0") -> str:
        """Decide, and fill the order at once."""
        decision_id = self.decide(order_id)
        self.order(order_id, OrderStatus.FILLED, filled=quantity)
        self.fill(order_id, side, quantity, price_ticks, decision_id, fee=fee)
        return decision_id

    @property
    def kept(self) -> dict[str, Feedback]:
        """What the journal has, by id, oldest first."""
        return {feedback.feedback_id: feedback for feedback in self.journal.pending_feedback()}

    def feedback(self, decision_id: str) -> Feedback:
        return self.kept[decision_id]

    def ml_is_up(self) -> None:
        self.publish(MLStateChanged(ts_event=self.clock.now_ns(), state="UP"))

    def close_abstentions(self, count: int) -> list[str]:
        """Make and close `count` decisions that did not trade."""
        ids = [self.decide() for _ in range(count)]
        self.wait(31.0)
        self.book()
        return ids


@pytest.fixture
def houses() -> Iterator[Callable[..., House]]:
    built: list[House] = []

    def build(**options: Any) -> House:
        built.append(House(**options))
        return built[-1]

    yield build
    for house in built:
        house.journal.close()


@pytest.fixture
def house(houses: Callable[..., House]) -> House:
    return houses()


# --- outcomes --------------------------------------------------------------------------------------------------------------


def test_an_abstention_is_recorded_with_what_the_market_did_after_it(house: House) -> None:
    house.book(1_000)
    decision_id = house.decide()
    for seconds, mid in ((1.0, 1_002), (1.0, 1_003), (3.5, 990), (26.0, 1_010)):
        house.wait(seconds)
        house.book(mid)

    feedback = house.feedback(decision_id)
    assert feedback.markouts_ticks == {"1": 2.0, "5": 3.0, "30": -10.0}
    assert (feedback.trade_executed, feedback.trade_outcome, feedback.pnl) == (False, None, None)
    assert feedback.closed_ns == house.clock.now_ns()
    assert [(record.kind, record.key) for record in house.journal.records()] == [
        ("DecisionMade", decision_id),
        ("DecisionClosed", decision_id),
    ]


@pytest.mark.parametrize(
    ("exit_ticks", "fee", "outcome", "pnl"),
    [
        (1_001, "0.85", TradeOutcome.PROFIT, "8.30"),
        (1_001, "5", TradeOutcome.BREAKEVEN, "0"),
        (1_001, "6", TradeOutcome.LOSS, "-2"),
        (999, "0", TradeOutcome.LOSS, "-10"),
    ],
)
def test_a_round_trip_ends_by_its_net_pnl_after_fees(exit_ticks: int, fee: str, outcome: TradeOutcome, pnl: str, house: House) -> None:
    house.book(1_000)
    opened = house.trade("o1", Side.BUY, 2, 1_000, fee=fee)
    house.wait(2.0)
    closing = house.trade("o2", Side.SELL, 2, exit_ticks, fee=fee)
    house.wait(40.0)
    house.book()

    feedback = house.feedback(opened)
    assert feedback.pnl == Decimal(pnl)
    assert feedback.trade_outcome is outcome
    assert feedback.trade_executed
    assert (house.feedback(closing).trade_outcome, house.feedback(closing).pnl) == (TradeOutcome.EXECUTED, None)


def test_a_position_that_is_still_open_after_a_minute_counts_as_executed(house: House) -> None:
    house.book(1_000)
    decision_id = house.trade("o1", Side.BUY, 2, 1_000)
    house.wait(59.9)
    house.book()
    assert decision_id not in house.kept
    house.wait(0.1)

    assert house.feedback(decision_id).trade_outcome is TradeOutcome.EXECUTED
    assert house.feedback(decision_id).pnl is None
    house.fill("o2", Side.SELL, 2, 1_010, "later")
    assert house.actor.stats()["open"] == 0


@pytest.mark.parametrize("status", [OrderStatus.DENIED, OrderStatus.REJECTED, OrderStatus.CANCELED, OrderStatus.EXPIRED])
def test_an_order_that_never_filled_has_no_outcome(status: OrderStatus, house: House) -> None:
    house.book()
    decision_id = house.decide("o1")
    house.order("o1", status)
    house.wait(31.0)
    house.book()

    feedback = house.feedback(decision_id)
    assert (feedback.trade_executed, feedback.trade_outcome) == (False, None)


def test_a_filled_order_waits_for_its_fills_whatever_comes_first(house: House) -> None:
    house.book()
    decision_id = house.decide("o1")
    house.wait(31.0)
    house.book()
    house.order("o1", OrderStatus.FILLED, filled=2)
    assert decision_id not in house.kept

    house.fill("o1", Side.BUY, 2, 1_000, decision_id)
    house.fill("o2", Side.SELL, 2, 1_001, None)

    assert house.feedback(decision_id).trade_outcome is TradeOutcome.PROFIT


def test_a_fill_finds_its_decision_by_the_id_it_carries(house: House) -> None:
    house.book()
    decision_id = house.decide()
    house.fill("o7", Side.SELL, 1, 1_000, decision_id)
    house.wait(61.0)

    assert house.feedback(decision_id).trade_executed


def test_a_partly_filled_and_canceled_order_is_judged_by_what_it_filled(house: House) -> None:
    house.book()
    decision_id = house.decide("o1")
    house.fill("o1", Side.BUY, 1, 1_000, decision_id)
    house.order("o1", OrderStatus.CANCELED, filled=1)
    house.fill("o2", Side.SELL, 1, 990, None)
    house.wait(31.0)
    house.book()

    assert house.feedback(decision_id).trade_outcome is TradeOutcome.LOSS


JOINTS = (
    SessionChanged(instrument_id="TIDE.SIM", ts_event=START_NS + 90 * S, is_open=False, reason="gap"),
    BookInvalid(instrument_id="TIDE.SIM", ts_event=START_NS + 9 * S, reason="stale"),
)


@pytest.mark.parametrize("joint", JOINTS)
def test_a_joint_cuts_the_markouts_that_reach_over_it(joint: Any, house: House) -> None:
    house.book(1_000)
    decision_id = house.decide()
    house.wait(3.0)
    house.book(1_001)
    house.publish(joint)

    assert house.feedback(decision_id).markouts_ticks == {"1": 0.0}


def test_books_that_stop_coming_do_not_keep_a_decision_open(house: House) -> None:
    house.book(1_000)
    decision_id = house.decide()
    house.wait(0.5)
    house.book(1_004)
    house.wait(60.0)

    assert house.feedback(decision_id).markouts_ticks == {"1": 4.0, "5": 4.0, "30": 4.0}


def test_the_position_of_the_run_before_is_not_credited_to_a_decision(house: House) -> None:
    house.start(position_lots=2, average_ticks=990.0)
    house.book()

    closing = house.trade("o1", Side.SELL, 2, 1_000)
    house.wait(61.0)

    assert house.feedback(closing).trade_outcome is TradeOutcome.EXECUTED
    assert house.feedback(closing).pnl is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trades=st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 3), st.integers(990, 1_010), st.booleans()), max_size=12))
def test_the_pnl_of_all_feedback_is_the_pnl_of_the_portfolio_once_flat(
    trades: list[tuple[Side, int, int, bool]], houses: Callable[..., House]
) -> None:
    house = houses()
    house.book()
    portfolio = Portfolio({"TIDE.SIM": TIDE})
    book = portfolio.position("s", "TIDE.SIM")
    flatten = [(Side.SELL, 1, 1_000, True)] * 36 + [(Side.BUY, 1, 1_000, True)] * 36

    for n, (side, quantity, price, waits) in enumerate([*trades, *flatten]):
        if n >= len(trades) and side.sign * book.quantity >= 0:
            continue
        house.trade(f"o{n}", side, quantity, price, fee="0.85")
        book.apply(side.sign * quantity, price, Decimal("0.85"))
        house.wait(0.5 if waits else 0.0)
        house.book()
    house.wait(61.0)

    assert book.quantity == 0
    assert house.actor.stats()["open"] == 0
    attributed = (feedback.pnl for feedback in house.kept.values() if feedback.pnl is not None)
    assert sum(attributed, Decimal(0)) == book.realized_pnl - book.fees


def test_a_fill_in_another_instrument_is_nobodys_round_trip(house: House) -> None:
    house.book()
    opened = house.trade("o1", Side.BUY, 2, 1_000)
    house.publish(
        Filled(
            client_order_id="o9",
            trade_id="t9",
            strategy_id="s",
            instrument_id="EBB.SIM",
            ts_event=house.clock.now_ns(),
            side=Side.SELL,
            quantity=2,
            price_ticks=5,
            fee=Decimal(0),
            liquidity=Liquidity.TAKER,
        )
    )
    house.wait(60.0)

    assert house.feedback(opened).trade_outcome is TradeOutcome.EXECUTED


def test_open_decisions_are_bounded_and_the_oldest_is_closed_early(houses: Callable[..., House]) -> None:
    house = houses(max_open=3)
    house.book()
    first = house.decide()

    for _ in range(3):
        house.decide()

    assert list(house.kept) == [first]
    assert house.feedback(first).markouts_ticks == {}
    assert house.actor.stats()["closed_early"] == 1
    assert house.actor.stats()["open"] == 3


def test_a_decision_of_a_strategy_that_nobody_announced_is_journaled_and_not_followed(house: House) -> None:
    house.book()
    house.decide(strategy_id="stranger")
    house.wait(61.0)

    assert house.actor.stats()["ignored"] == 1
    assert house.kept == {}
    assert house.journal.last_seq == 1


def test_outcomes_cannot_be_asked_for_before_the_longest_markout(house: House) -> None:
    with pytest.raises(ValueError, match="at least the longest markout"):
        FeedbackActor(house.bus, house.clock, house.journal, outcome_after_s=10.0)


# --- the way to the ML process ---------------------------------------------------------------------------------------------


def test_a_full_batch_is_sent_and_forgotten_only_when_acknowledged(house: House) -> None:
    house.add(OutboxSettings(batch_size=3))
    house.book()

    ids = house.close_abstentions(3)
    assert house.client.sent == [tuple(ids)]
    assert set(house.kept) == set(ids)
    house.client.acknowledge()
    house.bus.drain()

    assert house.kept == {}
    stats = house.actor.stats()
    assert (stats["recorded"], stats["closed"], stats["acknowledged"], stats["pending"]) == (3, 3, 3, 0)


def test_fewer_than_a_batch_wait_for_the_interval(house: House) -> None:
    house.add(OutboxSettings(batch_size=50, send_interval_s=300.0))
    house.book()
    ids = house.close_abstentions(2)

    house.wait(268.9)
    assert house.client.sent == []
    house.wait(0.2)

    assert house.client.sent == [tuple(ids)]


def test_one_batch_is_under_way_at_a_time_and_the_next_follows_its_acknowledgement(house: House) -> None:
    house.add(OutboxSettings(batch_size=2))
    house.book()
    ids = house.close_abstentions(5)
    assert house.client.sent == [tuple(ids[:2])]

    house.client.acknowledge()
    house.bus.drain()
    house.client.acknowledge()
    house.bus.drain()

    assert house.client.sent == [tuple(ids[:2]), tuple(ids[2:4])]
    assert house.actor.stats()["pending"] == 1


def test_feedback_survives_an_outage_and_is_sent_again_when_the_ml_process_is_back(house: House) -> None:
    house.add(OutboxSettings(batch_size=2))
    house.book()
    ids = house.close_abstentions(5)

    house.ml_is_up()
    for _ in range(3):
        house.client.acknowledge()
        house.bus.drain()

    assert house.client.sent == [tuple(ids[:2]), tuple(ids[:2]), tuple(ids[2:4]), tuple(ids[4:])]
    assert house.actor.stats()["pending"] == 0


def test_an_acknowledgement_of_something_else_does_not_send_the_batch_again() -> None:
    box = Outbox(OutboxSettings(batch_size=2))
    for n in range(3):
        box.put(some_feedback(f"f{n}"))
    box.next_batch()

    assert box.acknowledge(("f2",)) == ("f2",)

    assert box.next_batch() == ()


def test_the_next_batch_waits_until_all_parts_of_this_one_are_acknowledged() -> None:
    box = Outbox(OutboxSettings(batch_size=2))
    for n in range(4):
        box.put(some_feedback(f"f{n}"))
    box.next_batch()

    box.acknowledge(("f0",))
    assert box.next_batch() == ()
    box.acknowledge(("f1",))

    assert [feedback.feedback_id for feedback in box.next_batch()] == ["f2", "f3"]


def test_an_acknowledgement_that_comes_twice_counts_once(house: House) -> None:
    house.add(OutboxSettings(batch_size=2))
    house.book()
    house.close_abstentions(2)
    house.client.acknowledge()
    house.client.acknowledge()
    house.bus.drain()

    assert house.actor.stats()["acknowledged"] == 2


def test_unsent_feedback_is_sent_by_the_next_run(house: House) -> None:
    house.book()
    ids = house.close_abstentions(3)
    assert house.client.sent == []

    house.start()

    assert house.client.sent == [tuple(ids)]
    assert house.actor.stats()["pending"] == 3


def test_open_decisions_are_closed_at_the_stop_and_sent_with_all_the_rest(house: House) -> None:
    house.book(1_000)
    abstained = house.decide()
    traded = house.trade("o1", Side.BUY, 2, 1_000)
    house.wait(2.0)
    house.book(1_003)
    house.add(OutboxSettings(batch_size=1))

    house.actor.on_stop()

    assert house.feedback(abstained).markouts_ticks == {"1": 0.0}
    assert house.feedback(traded).trade_outcome is TradeOutcome.EXECUTED
    house.client.acknowledge()
    house.bus.drain()
    house.wait(600.0)
    assert house.client.sent == [(abstained,), (traded,)]
    assert list(house.kept) == [traded]


def test_decisions_that_a_kill_left_open_are_closed_by_the_next_run(house: House) -> None:
    house.book()
    [done] = house.close_abstentions(1)
    abstained = house.decide()
    house.trade("o1", Side.BUY, 2, 1_000)
    house.journal.append("ExecutionReport", report("o1", ReportKind.FILLED, 2))
    unfilled = house.decide("o2")
    house.journal.append("ExecutionReport", report("o2", ReportKind.ACCEPTED, 0))
    assert list(house.kept) == [done]

    house.start()

    assert list(house.kept) == [done, abstained, "s-d3", unfilled]
    assert [house.kept[each].trade_executed for each in (abstained, "s-d3", unfilled)] == [False, True, False]
    assert [house.kept[each].trade_outcome for each in (abstained, "s-d3", unfilled)] == [None, TradeOutcome.EXECUTED, None]
    assert house.kept[abstained].markouts_ticks == {}
    assert house.client.sent == [tuple(house.kept)]


def test_a_decision_that_closed_before_an_older_one_is_not_touched_by_the_next_run(house: House) -> None:
    house.book(1_000)
    older = house.trade("o1", Side.BUY, 2, 1_000)
    house.journal.append("ExecutionReport", report("o1", ReportKind.FILLED, 2))
    younger = house.decide()
    house.wait(31.0)
    house.book(1_004)
    assert list(house.kept) == [younger]

    house.start()

    assert set(house.kept) == {younger, older}
    assert house.kept[younger].markouts_ticks == {"1": 0.0, "5": 0.0, "30": 0.0}
    assert house.kept[older].trade_outcome is TradeOutcome.EXECUTED


def test_after_a_clean_stop_nothing_is_read_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.book()
    house.decide()
    house.actor.on_stop()
    monkeypatch.setattr("framework.inference.feedback_log.interrupted", lambda *_: pytest.fail("the journal was read"))

    house.start()

    assert len(house.kept) == 1


def test_a_closed_decision_is_published_with_its_outcome(house: House) -> None:
    told: list[Any] = []

    class Listener(Actor):
        def handle(self, message: Any) -> None:
            told.append(message)

    house.bus.register(Listener("listener"))
    house.bus.subscribe("listener", DecisionClosed)
    house.book(1_000)
    opened = house.trade("o1", Side.BUY, 2, 1_000)
    house.fill("o2", Side.SELL, 2, 1_001, None)
    house.wait(31.0)
    house.book()

    [closed] = told
    assert (closed.decision_id, closed.trade_outcome, closed.pnl) == (opened, TradeOutcome.PROFIT, Decimal(10))


def test_a_decision_is_closed_once_whatever_runs_follow(house: House) -> None:
    house.add(OutboxSettings(batch_size=1))
    house.book()
    house.close_abstentions(1)
    house.client.acknowledge()
    house.bus.drain()
    late = house.decide()
    house.start()
    house.client.acknowledge()
    house.bus.drain()

    house.start()
    house.actor.on_stop()
    house.start()

    assert house.client.sent == [("s-d1",), (late,)]
    assert house.kept == {}


def report(order_id: str, kind: ReportKind, quantity: int) -> ExecutionReport:
    return ExecutionReport(client_order_id=order_id, kind=kind, ts_event=START_NS, last_quantity=quantity)


def test_a_journal_that_fails_is_counted_and_feedback_goes_on(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.add(OutboxSettings(batch_size=2))
    house.book()
    house.journal.close()

    ids = house.close_abstentions(2)

    assert house.client.sent == [tuple(ids)]
    assert house.actor.stats()["journal_errors"] > 0
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_full_buffer_drops_the_oldest_counts_it_and_says_so_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.add(OutboxSettings(max_pending=3), client=None)
    house.book()

    ids = house.close_abstentions(5)

    assert list(house.kept) == ids[2:]
    assert house.actor.stats()["dropped"] == 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_strategy_that_is_deployed_again_keeps_its_unsent_feedback_and_its_lots(house: House) -> None:
    house.book()
    ids = house.close_abstentions(2)
    opened = house.trade("o1", Side.BUY, 1, 1_000)

    house.add(OutboxSettings(batch_size=1))
    house.fill("o2", Side.SELL, 1, 1_001, None)
    house.wait(31.0)
    house.book()

    assert house.client.sent[0] == (ids[0],)
    assert house.feedback(opened).trade_outcome is TradeOutcome.PROFIT


def test_settings_come_from_the_missions_keys() -> None:
    file = StrategyFile(
        name="s",
        strategy="m:C",
        instrument_id="TIDE.SIM",
        max_feedback_buffer=10,
        feedback_batch_size=5,
        feedback_send_interval_minutes=0.5,
    )

    assert OutboxSettings.of(file) == OutboxSettings(max_pending=10, batch_size=5, send_interval_s=30.0)


class OutboxMachine(RuleBasedStateMachine):
    """Whatever is lost on the way: nothing is forgotten before it is acknowledged or dropped, and nothing exceeds its bound."""

    batches = Bundle("batches")

    def __init__(self) -> None:
        super().__init__()
        self.box = Outbox(OutboxSettings(max_pending=6, batch_size=2))
        self.put_ids: list[str] = []
        self.gone: set[str] = set()

    @rule()
    def put(self) -> None:
        feedback = some_feedback(f"f{len(self.put_ids)}")
        self.put_ids.append(feedback.feedback_id)
        self.gone.update(self.box.put(feedback))

    @rule(target=batches)
    def send(self) -> tuple[str, ...]:
        batch = self.box.next_batch()
        ids = tuple(feedback.feedback_id for feedback in batch)
        assert len(ids) <= 2
        assert not self.gone.intersection(ids)
        return ids

    @rule(batch=consumes(batches))
    def acknowledge(self, batch: tuple[str, ...]) -> None:
        self.gone.update(self.box.acknowledge(batch))

    @rule(batch=batches)
    def acknowledge_and_again_later(self, batch: tuple[str, ...]) -> None:
        self.gone.update(self.box.acknowledge(batch))

    @rule()
    def lose(self) -> None:
        self.box.retry()

    @invariant()
    def nothing_is_lost(self) -> None:
        pending = [feedback.feedback_id for feedback in self.box.pending()]
        assert pending == [feedback_id for feedback_id in self.put_ids if feedback_id not in self.gone]
        assert len(pending) <= 6

    def teardown(self) -> None:
        for _ in range(10):
            self.box.retry()
            self.box.acknowledge(tuple(feedback.feedback_id for feedback in self.box.next_batch()))
        assert len(self.box) == 0


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


# --- the mission's structure -------------------------------------------------------------------------------------------------


def some_feedback(feedback_id: str = "s-d1", **changes: Any) -> Feedback:
    decision = DecisionMade(
        decision_id=feedback_id,
        strategy_id="s",
        instrument_id="TIDE.SIM",
        ts_event=START_NS,
        action=Action.BUY,
        reason="ENTER_LONG",
        prediction_id="p1",
        flow_type=FlowType.BUY,
        confidence=0.75,
        model_version="v1",
        position_lots=0,
        book=BookSnapshot(
            instrument_id="TIDE.SIM",
            ts_event=START_NS,
            ts_recv=START_NS,
            sequence=20,
            bid_ticks=tuple(range(74_075, 74_065, -1)),
            bid_sizes=(1,) * 10,
            ask_ticks=tuple(range(74_085, 74_095)),
            ask_sizes=(1,) * 10,
        ),
        client_order_ids=("o1",),
        as_of_sequence=17,
    )
    bar = Bar(
        instrument_id="TIDE.SIM",
        ts_event=START_NS,
        interval_s=1.0,
        open_ticks=74_000,
        high_ticks=74_100,
        low_ticks=73_980,
        close_ticks=74_080,
        volume=1_500,
        buy_volume=700,
        sell_volume=800,
    )
    base = Feedback(
        feedback_id=feedback_id,
        decision=decision,
        trade_executed=True,
        trade_outcome=TradeOutcome.PROFIT,
        pnl=Decimal("12.50"),
        markouts_ticks={"1": 0.5},
        last_bar=bar,
        closed_ns=START_NS + 60 * S,
    )
    return msgspec.structs.replace(base, **changes)


def test_feedback_on_the_wire_is_the_missions_structure() -> None:
    item = msgspec.to_builtins(to_item(some_feedback(), TIDE))

    mission = {
        "timestamp": "2024-01-15T10:30:15Z",
        "prediction_flow_type": "BUY",
        "prediction_confidence": 0.75,
        "trade_executed": True,
        "trade_outcome": "PROFIT",
        "market_data_snapshot": {
            "timestamp": "2024-01-15T10:30:15Z",
            "open": 18500.0,
            "high": 18525.0,
            "low": 18495.0,
            "close": 18520.0,
            "volume": 1500.0,
        },
        "dom_data_snapshot": {
            "timestamp": "2024-01-15T10:30:15Z",
            "spread": 2.5,
            "mid_price": 18520.0,
            "bid_levels": 10,
            "ask_levels": 10,
        },
    }
    assert {key: item[key] for key in mission} == mission
    assert (item["feedback_id"], item["as_of_sequence"], item["pnl"], item["markouts_ticks"]) == ("s-d1", 17, 12.5, {"1": 0.5})


def test_feedback_goes_through_the_wire_unchanged() -> None:
    request = FeedbackRequest(version=1, request_id="r1", items=(to_item(some_feedback(), TIDE),))

    assert decode_request(encode(request)) == request


def test_what_is_not_known_is_none_and_never_made_up() -> None:
    feedback = some_feedback(last_bar=None, trade_outcome=None, pnl=None)
    one_sided = msgspec.structs.replace(feedback.decision.book, bid_ticks=(), bid_sizes=())
    plain = msgspec.structs.replace(
        feedback.decision, book=one_sided, prediction_id=None, flow_type=None, confidence=None, model_version=None
    )

    item = to_item(msgspec.structs.replace(feedback, decision=plain), TIDE)

    assert item.prediction_flow_type is None
    assert item.trade_outcome is None
    assert item.market_data_snapshot["open"] is None
    assert (item.dom_data_snapshot["spread"], item.dom_data_snapshot["mid_price"]) == (None, None)
    assert (item.dom_data_snapshot["bid_levels"], item.dom_data_snapshot["ask_levels"]) == (0, 10)


@given(st.integers(0, 2**62))
def test_iso_times_keep_the_microsecond(ns: int) -> None:
    from datetime import UTC, datetime

    parsed = datetime.fromisoformat(iso_utc(ns))

    assert parsed.tzinfo is not None
    assert iso_utc(ns).endswith("Z")
    delta = parsed - datetime(1970, 1, 1, tzinfo=UTC)
    assert (delta.days * 86_400 + delta.seconds) * 10**6 + delta.microseconds == ns // 1_000
