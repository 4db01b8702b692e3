"""The five flows, end to end, through the process that `app.build` builds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from framework.messages import (
    BookSnapshot,
    DecisionMade,
    DomUpdated,
    ExecutionReport,
    Filled,
    MLStateChanged,
    OrderUpdated,
    PositionChanged,
    PredictionFailed,
    PredictionReceived,
    ReportKind,
    SubmitOrder,
    TradeTick,
)
from framework.model import NS_PER_S, OrderStatus
from framework.operations.reporting import summary_of
from framework.trading.journal import Journal
from tests.flows.harness import Run, strategy

MakeRun = Callable[..., Run]


@pytest.mark.parametrize("speed", [None, 1.0])
@pytest.mark.parametrize("kind", ["simulated", "replayed"])
def test_the_five_flows_run_end_to_end(make_run: MakeRun, recording: Path, kind: str, speed: float | None) -> None:
    run = make_run(speed=speed, duration_s=40.0, market=("simulated",) if kind == "simulated" else (str(recording),))
    run.strategies = [strategy("ml_futures", prediction_cooldown_seconds=0.5), strategy("book_imbalance", name="plain")]

    run.go(meanwhile=_train_at_ten_seconds if speed else None)

    _market_reaches_strategies(run)
    _predictions_know_their_age_and_version(run)
    _each_decision_becomes_an_order_a_fill_and_a_position(run)
    _each_decision_is_stored_once_as_feedback(run)
    if speed:
        _a_training_swapped_the_model_between_two_requests(run)


async def _train_at_ten_seconds(run: Run) -> None:
    await run.until(10.0)
    run.process.samples.train_now("a test asked")


def _market_reaches_strategies(run: Run) -> None:
    books, doms = run.story.of(BookSnapshot), run.story.of(DomUpdated)
    assert len(books) > 200
    assert run.story.of(TradeTick)
    assert [dom.book for dom in doms] == books
    assert run.process.samples.stats()["rows"] == len(books)
    assert run.process.samples.stats()["lost_rows"] == 0
    assert run.process.market_data.refused == Counter()
    bus = run.process.desk.bus.stats()
    assert (bus["faults"], bus["overflows"], bus["dead_letters"], bus["dropped"]) == (0, 0, 0, 0)


def _predictions_know_their_age_and_version(run: Run) -> None:
    received = [message.prediction for message in run.story.of(PredictionReceived)]
    book_at = {book.sequence: book.ts_event for book in run.story.of(BookSnapshot)}
    assert len(received) > 50
    assert not run.story.of(PredictionFailed)
    for prediction in received:
        assert prediction.as_of_ns == book_at[prediction.as_of_sequence]
        assert 0 < prediction.age_s(prediction.received_ns) <= 0.1
        assert prediction.round_trip_us == pytest.approx(5_000 if run.speed is None else 1_000, abs=1)
    assert received[0].model_version == "v1"
    decided = {decision.prediction_id: decision for decision in run.story.of(DecisionMade) if decision.prediction_id}
    assert all(decided[one.prediction_id].model_version == one.model_version for one in received)


def _each_decision_becomes_an_order_a_fill_and_a_position(run: Run) -> None:
    decisions, orders = run.story.of(DecisionMade), run.story.of(SubmitOrder)
    assert {order.strategy_id for order in orders} == {"ml_futures", "plain"}
    assert {order.client_order_id for order in orders} == {one for decision in decisions for one in decision.client_order_ids}
    last = {update.client_order_id: update.status for update in run.story.of(OrderUpdated)}
    assert set(last.values()) <= {OrderStatus.FILLED, OrderStatus.CANCELED}
    fills = run.story.of(Filled)
    assert [fill.trade_id for fill in fills] == [
        report.trade_id for report in run.story.of(ExecutionReport) if report.kind is ReportKind.FILLED
    ]
    signed = Counter[str]()
    for fill in fills:
        signed[fill.strategy_id] += fill.side.sign * fill.quantity
    for name in ("ml_futures", "plain"):
        told = [position.quantity for position in run.story.of(PositionChanged) if position.strategy_id == name]
        assert told[-1] == signed[name] == run.position(name)
    assert summary_of(run.process).fees == sum((fill.fee for fill in fills), Decimal(0)) > 0
    _the_journal_was_first(run)


def _the_journal_was_first(run: Run) -> None:
    journal = Journal(run.state_dir / "journal.sqlite")
    try:
        assert journal.verify() > 100
        written = [(record.kind, record.key) for record in journal.records("SubmitOrder", "ExecutionReport")]
    finally:
        journal.close()
    happened = [
        (type(message).__name__, message.client_order_id)
        for message in run.story.messages
        if isinstance(message, SubmitOrder | ExecutionReport)
    ]
    assert written == happened


def _each_decision_is_stored_once_as_feedback(run: Run) -> None:
    decisions, shelf = run.story.of(DecisionMade), run.ml.shelf
    assert set(shelf.items) == {decision.decision_id for decision in decisions}
    assert set(shelf.offered.values()) == {1}
    stats = run.process.desk.feedback.stats()
    assert (stats["recorded"], stats["acknowledged"], stats["pending"]) == (len(decisions), len(decisions), 0)
    by_id = {decision.decision_id: decision for decision in decisions}
    for feedback_id, item in shelf.items.items():
        assert item.prediction_id == (by_id[feedback_id].prediction_id or "")
        assert item.trade_executed == bool(by_id[feedback_id].client_order_ids)
    assert any("30" in item.markouts_ticks for item in shelf.items.values())


def _a_training_swapped_the_model_between_two_requests(run: Run) -> None:
    received = [message.prediction for message in run.story.of(PredictionReceived)]
    versions = [prediction.model_version for prediction in received]
    start_ns = run.process.market.start_ns
    during = [one for one in received if 10.0 < (one.as_of_ns - start_ns) / NS_PER_S < 11.9]
    assert versions == sorted(versions)
    assert set(versions) == {"v1", "v2"}
    assert len(during) >= 3
    assert {one.model_version for one in during} == {"v1"}
    assert run.ml.trainer.jobs == ["a test asked"]
    assert run.process.trainings.done == 1
    states = [(change.state, change.detail) for change in run.story.of(MLStateChanged)]
    assert states == [("UP", ""), ("MODEL", "v1"), ("TRAINING", "v1"), ("MODEL", "v2")]


def test_a_replay_waits_for_a_training_so_that_it_stays_a_replay(make_run: MakeRun) -> None:
    # The virtual loop has no time of its own in lockstep: only the hold of market time lets the training end.
    run = make_run(duration_s=60.0, config={"training": {"after_new_rows": 300, "min_rows": 500}})
    run.go()

    versions = [message.prediction.model_version for message in run.story.of(PredictionReceived)]
    assert run.process.trainings.done == 1
    assert versions == sorted(versions)
    assert set(versions) == {"v1", "v2"}


def test_without_an_ml_process_both_strategies_trade_by_their_rule(make_run: MakeRun) -> None:
    run = make_run(has_ml=False, duration_s=40.0).go()

    assert {order.strategy_id for order in run.story.of(SubmitOrder)} == {"ml_futures", "book_imbalance"}
    assert not run.story.of(PredictionReceived)
    assert run.process.desk.feedback.stats()["pending"] == len(run.story.of(DecisionMade))


def test_a_run_that_is_told_to_stop_leaves_no_order_open_and_says_why(make_run: MakeRun) -> None:
    run = make_run(speed=1.0, duration_s=None)
    run.strategies = [strategy("ml_futures"), strategy("book_imbalance", parameters={"entry": "passive"})]

    async def stop_at_nine(run: Run) -> None:
        await run.until(9.0)
        run.process.stop("a test asked")

    run.go(meanwhile=stop_at_nine)

    assert run.process.reason == "a test asked"
    assert run.process.desk.execution.open_orders() == ()
    assert run.process.desk.feedback.stats()["pending"] == 0
