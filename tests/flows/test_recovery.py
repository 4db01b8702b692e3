"""A trading process that is killed at any instant: what is on the disk then is all that the next one has."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from framework.errors import StoppedByKill
from framework.messages import (
    CancelOrder,
    DecisionMade,
    ExecutionReport,
    Filled,
    Message,
    OrderUpdated,
    PredictionReceived,
    ReportKind,
    SubmitOrder,
    TradingStateChanged,
)
from framework.model import OPEN, OrderStatus, TradingState
from framework.operations import offline
from framework.operations.deployments import Deployment
from framework.trading.journal import Journal
from tests.flows.harness import FeedbackShelf, MLProcess, Run, strategy

MakeRun = Callable[..., Run]


def _traders() -> list[Deployment]:
    """Strategies that always have orders on their way: resting ones, and market orders."""
    quick = {"prediction_cooldown_seconds": 0.25, "feedback_batch_size": 5, "feedback_send_interval_minutes": 0.1}
    trading = {"max_holding_s": 2.0, "entry_threshold": 0.15, "entry_pause_s": 0.2}
    return [
        strategy("ml_futures", parameters=trading, **quick),
        strategy("ml_futures", name="resting", parameters=trading | {"entry": "passive", "entry_timeout_s": 0.5}, **quick),
        strategy("book_imbalance", parameters=trading),
    ]


@dataclass
class Remains:
    """What a kill leaves: the state directory as it was at that instant, and what the dead process knew."""

    directory: Path
    books_of_account: dict[str, tuple[int, float, Decimal, Decimal]]
    open_orders: set[str]
    used_ids: set[str]
    shelf: FeedbackShelf
    pending: set[str] = field(default_factory=set)
    decided: dict[str, DecisionMade] = field(default_factory=dict)

    @staticmethod
    def of(run: Run, directory: Path) -> Remains:
        """Copy the directory byte by byte: whatever was not committed is not in it."""
        shutil.copytree(run.state_dir, directory)
        remains = Remains(
            directory=directory,
            books_of_account=run.books_of_account(),
            open_orders={order.client_order_id for order in run.process.desk.execution.open_orders()},
            used_ids=_used_ids(run),
            shelf=FeedbackShelf(dict(run.ml.shelf.items), Counter(run.ml.shelf.offered)),
        )
        journal = Journal(directory / "journal.sqlite")
        try:
            remains.pending = {feedback.feedback_id for feedback in journal.pending_feedback()}
            records = journal.records("DecisionMade")
            remains.decided = {one.message.decision_id: one.message for one in records if isinstance(one.message, DecisionMade)}
        finally:
            journal.close()
        return remains


def _used_ids(run: Run) -> set[str]:
    return (
        {order.client_order_id for order in run.story.of(SubmitOrder)}
        | {decision.decision_id for decision in run.story.of(DecisionMade)}
        | {message.prediction.prediction_id for message in run.story.of(PredictionReceived)}
    )


def _kill_at(run: Run, places: set[int], tmp_path: Path) -> list[Remains]:
    """Take what a kill would leave when the run's message number is one of `places`."""
    found: list[Remains] = []

    def look(message: Message) -> None:
        if len(run.story.messages) in places:
            found.append(Remains.of(run, tmp_path / f"killed-{len(found)}-{random.Random(len(found)).random()}"))

    run.story.then = look
    return found


def _start_again(remains: Remains, **options: Any) -> Run:
    """Start on what is left, and check what holds before anything new happens."""
    seen: dict[str, Any] = {}

    def on_build(run: Run) -> None:
        seen["books"] = run.books_of_account()
        seen["open"] = {order.client_order_id for order in run.process.desk.execution.open_orders()}

    def on_start(run: Run) -> None:
        seen["statuses"] = {order.status for order in run.process.desk.execution.open_orders()}

    run = Run(
        remains.directory,
        ml=MLProcess(shelf=remains.shelf),
        strategies=_traders(),
        on_build=on_build,
        on_start=on_start,
        **{"speed": 1.0, "duration_s": 3.0, "seed": 21} | options,
    ).go()
    assert seen["books"] == remains.books_of_account
    assert seen["open"] == remains.open_orders
    assert seen["statuses"] <= {OrderStatus.UNKNOWN}
    return run


def _check_recovery(remains: Remains, run: Run) -> None:
    _open_orders_were_resolved_by_the_venue(remains, run)
    assert not remains.used_ids & _used_ids(run), "an id was used twice"
    _feedback_arrived_once(remains, run)
    journal = Journal(run.state_dir / "journal.sqlite")
    try:
        journal.verify()
        assert _folded(journal) == {name: books[0] for name, books in run.books_of_account().items() if books[0]}
    finally:
        journal.close()


def _open_orders_were_resolved_by_the_venue(remains: Remains, run: Run) -> None:
    """What the venue had acknowledged rests there again, and lives on; what never arrived is gone. Nothing else ends UNKNOWN."""
    reports = [one for one in run.story.of(ExecutionReport) if one.client_order_id in remains.open_orders]
    assert {report.client_order_id for report in reports} == remains.open_orders
    assert ReportKind.REJECTED not in {report.kind for report in reports}
    first = {report.client_order_id: report for report in reversed(reports)}
    assert {report.kind for report in first.values()} <= {ReportKind.ACCEPTED, ReportKind.CANCELED, ReportKind.FILLED, ReportKind.RESTATED}
    last = {update.client_order_id: update.status for update in run.story.of(OrderUpdated)}
    assert {last[order_id] for order_id in remains.open_orders} <= {OrderStatus.CANCELED, OrderStatus.FILLED}
    assert not {order_id for order_id, status in last.items() if status in OPEN}


def _feedback_arrived_once(remains: Remains, run: Run) -> None:
    assert run.pending_at_start >= len(remains.pending)
    everything = {**remains.decided, **{one.decision_id: one for one in run.story.of(DecisionMade)}}
    assert run.process.desk.feedback.stats()["pending"] == 0
    assert everything.keys() <= run.ml.shelf.items.keys()
    for decision_id, decision in everything.items():
        item = run.ml.shelf.items[decision_id]
        assert (item.strategy_id, item.ts_event, item.reason) == (decision.strategy_id, decision.ts_event, decision.reason)


def _folded(journal: Journal) -> dict[str, int]:
    """Positions straight from intents and reports, by nobody's code but this."""
    intents, positions, trades = {}, Counter[str](), set[str]()
    for record in journal.records("SubmitOrder", "ExecutionReport"):
        match record.message:
            case SubmitOrder() as order:
                intents[order.client_order_id] = order
            case ExecutionReport(kind=ReportKind.FILLED) as report if report.trade_id not in trades:  # said again when asked
                trades.add(report.trade_id)
                order = intents[report.client_order_id]
                positions[order.strategy_id] += order.side.sign * report.last_quantity
    return {name: quantity for name, quantity in positions.items() if quantity}


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_at_any_message_loses_no_position_no_order_and_no_feedback(make_run: MakeRun, tmp_path: Path, seed: int) -> None:
    run = make_run(strategies=_traders(), speed=1.0, duration_s=40.0, seed=7 + seed)
    places = set(random.Random(seed).sample(range(50, 2_500), 3))
    killed = _kill_at(run, places, tmp_path)
    run.go()

    assert len(killed) == 3
    for remains in killed:
        _check_recovery(remains, _start_again(remains))


@pytest.mark.parametrize("kind", [SubmitOrder, ExecutionReport, OrderUpdated, Filled, CancelOrder, DecisionMade])
def test_a_kill_between_an_intent_and_what_follows_it_loses_nothing(make_run: MakeRun, tmp_path: Path, kind: type[Message]) -> None:
    """The sharp instants: an order was just sent, answered, filled, cancelled or decided."""
    run = make_run(strategies=_traders(), speed=1.0, duration_s=30.0)
    killed: list[Remains] = []

    def look(message: Message) -> None:
        if type(message) is kind and len(run.story.of(kind)) in (3, 7, 8):
            killed.append(Remains.of(run, tmp_path / f"killed-{len(killed)}"))

    run.story.then = look
    run.go()

    assert len(killed) == 3
    assert any(remains.open_orders for remains in killed) or kind in (SubmitOrder, DecisionMade)
    for remains in killed:
        _check_recovery(remains, _start_again(remains))


def test_kills_in_a_row_keep_the_account_exact(make_run: MakeRun, tmp_path: Path) -> None:
    ml, directory, fills = MLProcess(), tmp_path / "state", []
    for life in range(5):
        run = Run(directory, ml=ml, strategies=_traders(), speed=1.0, duration_s=24.0, seed=life)
        killed = _kill_at(run, {600 + 37 * life}, tmp_path / f"life-{life}")
        run.go()
        place = 600 + 37 * life
        fills += [message for message in run.story.messages[:place] if isinstance(message, Filled)]
        directory = killed[0].directory
        ml = MLProcess(shelf=killed[0].shelf)

    last = Run(directory, ml=ml, duration_s=1.0)
    last.on_build = lambda run: books.update(run.books_of_account())
    books: dict[str, tuple[int, float, Decimal, Decimal]] = {}
    last.go()

    assert len(fills) > 20
    assert len({fill.client_order_id + fill.trade_id for fill in fills}) == len(fills)
    for name, (quantity, _, _, fees) in books.items():
        own = [fill for fill in fills if fill.strategy_id == name]
        assert quantity == sum(fill.side.sign * fill.quantity for fill in own)
        assert fees == sum((fill.fee for fill in own), Decimal(0))


@pytest.mark.parametrize("speed", [None, 1.0])
def test_ids_of_a_run_that_left_no_decision_on_the_disk_are_not_used_again(make_run: MakeRun, tmp_path: Path, speed: float | None) -> None:
    """Killed before the first commit: the ML process may have feedback of decisions that the journal knows nothing of."""
    watching = [
        strategy("ml_futures", prediction_confidence_threshold=1.0, parameters={"entry_threshold": 0.99}, prediction_cooldown_seconds=0.1)
    ]
    run = make_run(strategies=watching, speed=speed, duration_s=3.0)
    killed: list[Remains] = []

    def look(message: Message) -> None:
        if type(message) is DecisionMade and len(run.story.of(DecisionMade)) == 3:
            killed.append(Remains.of(run, tmp_path / "killed"))

    run.story.then = look
    run.go()

    [remains] = killed
    assert not remains.decided
    again = Run(remains.directory, ml=MLProcess(shelf=remains.shelf), strategies=watching, speed=speed, duration_s=3.0).go()
    assert again.story.of(DecisionMade)
    assert not remains.used_ids & _used_ids(again)


def test_feedback_that_nobody_acknowledged_before_a_kill_is_sent_by_the_next_start(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(strategies=_traders(), speed=1.0, duration_s=55.0)
    killed: list[Remains] = []

    async def die_in_an_outage(run: Run) -> None:
        await run.until(5.0)
        run.transport.is_dead = True
        await run.until(50.0)
        killed.append(Remains.of(run, tmp_path / "killed"))

    run.go(meanwhile=die_in_an_outage)

    [remains] = killed
    assert len(remains.pending) > 20
    assert not remains.shelf.items
    again = _start_again(remains)
    assert remains.pending <= set(again.ml.shelf.items)
    assert set(again.ml.shelf.offered.values()) == {1}
    _check_recovery(remains, again)


def test_a_halt_survives_a_kill_until_somebody_resumes(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(strategies=_traders(), speed=1.0, duration_s=10.0)
    killed: list[Remains] = []

    async def halt_at_five(run: Run) -> None:
        await run.until(5.0)
        run.process.desk.execution.set_state(TradingState.HALTED, "a test asked")
        killed.append(Remains.of(run, tmp_path / "killed"))

    run.go(meanwhile=halt_at_five)

    place = next(n for n, message in enumerate(run.story.messages) if isinstance(message, TradingStateChanged))
    after = [update for update in run.story.messages[place:] if isinstance(update, OrderUpdated)]
    assert OrderStatus.SUBMITTED not in {update.status for update in after}
    assert "HALTED" in {update.reason.partition(" ")[0] for update in after if update.status is OrderStatus.DENIED}
    [remains] = killed
    with pytest.raises(StoppedByKill, match="a test asked"):
        Run(remains.directory, ml=MLProcess(shelf=remains.shelf), strategies=_traders()).go()
    offline.set_trading_state(remains.directory, TradingState.ACTIVE, "a test resumed", now_ns=0)
    again = _start_again(remains)
    _check_recovery(remains, again)
    assert again.story.of(Filled)


def test_a_strategy_that_is_removed_and_deployed_again_uses_no_id_twice(make_run: MakeRun) -> None:
    run = make_run(strategies=_traders(), speed=1.0, duration_s=20.0)

    async def deploy_again(run: Run) -> None:
        for now_s in (7.0, 14.0):
            await run.until(now_s)
            run.process.host.forget("book_imbalance")
            run.process.host.start(_traders()[-1])

    run.go(meanwhile=deploy_again)

    decided = [one.decision_id for one in run.story.of(DecisionMade)]
    sent = [order.client_order_id for order in run.story.of(SubmitOrder)]
    assert len(_order_ids(run, "book_imbalance")) > 4
    assert len(set(sent)) == len(sent)
    assert len(set(decided)) == len(decided)
    # Several strategies of one account in one book: the gate lets none trade with another. It denies nothing else here.
    denied = [update.reason for update in run.story.of(OrderUpdated) if update.status is OrderStatus.DENIED]
    assert {reason.partition(" ")[0] for reason in denied} <= {"SELF_TRADE"}


def test_a_run_that_ended_in_order_goes_on_where_it_stopped(make_run: MakeRun) -> None:
    first = make_run(strategies=_traders(), duration_s=20.0).go()
    books: dict[str, Any] = {}
    second = make_run(state_dir=first.state_dir, ml=first.ml, strategies=_traders(), duration_s=20.0)
    second.on_build = lambda run: books.update(run.books_of_account())
    second.go()

    assert books == first.books_of_account()
    assert second.pending_at_start == 0
    assert not _used_ids(first) & _used_ids(second)
    assert second.process.market.start_ns >= first.process.desk.clock.now_ns()
    numbers = {name: sorted(int(one.rpartition("-")[2]) for one in _order_ids(first, name) + _order_ids(second, name)) for name in books}
    assert all(used == list(range(1, len(used) + 1)) for used in numbers.values()), "ids go on without a hole"


def _order_ids(run: Run, name: str) -> list[str]:
    return [order.client_order_id for order in run.story.of(SubmitOrder) if order.strategy_id == name]
