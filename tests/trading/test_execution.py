from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.config import PaperConfig
from framework.errors import IntegrityError
from framework.messages import (
    BookInvalid,
    BookRecovered,
    CancelOrder,
    ExecutionReport,
    Filled,
    Message,
    OrderUpdated,
    PositionChanged,
    ReplaceOrder,
    ReportKind,
    StrategyQuarantined,
    SubmitOrder,
    TradingStateChanged,
)
from framework.model import NS_PER_S, OrderStatus, Side, TradingState
from framework.trading.execution import EXECUTION
from framework.trading.fold import order_facts, replay
from framework.trading.journal import Journal
from framework.venues.paper import PaperVenue
from tests.trading.conftest import INSTRUMENT, NOW, book, submit
from tests.trading.room import OTHER, Room, fill, report


@pytest.fixture
def room() -> Room:
    return Room(Journal(":memory:"))


# --- in and out ----------------------------------------------------------------------------------------------------------


def test_a_denial_comes_back_with_code_and_numbers_and_nothing_reaches_the_venue(room: Room) -> None:
    room.tell(submit(quantity=11))

    (update,) = room.heard(OrderUpdated)
    assert (update.status, update.reason) == (OrderStatus.DENIED, "MAX_ORDER_QUANTITY quantity=11 limit=10")
    assert room.scripted.submitted == []
    assert room.execution.open_orders() == ()
    assert room.execution.counts["denied_max_order_quantity"] == 1


@pytest.mark.parametrize("quantity", [math.nan, 2.5, 2**70, None, "x"], ids=str)
def test_a_denied_order_full_of_nonsense_leaves_a_journal_that_can_be_read(room: Room, quantity: Any) -> None:
    room.tell(submit(quantity=quantity), submit("o2", limit_ticks=quantity if quantity is not None else 1.5))

    assert [update.status for update in room.heard(OrderUpdated)] == [OrderStatus.DENIED, OrderStatus.DENIED]
    assert [record.kind for record in room.journal.records()] == ["OrderUpdated", "OrderUpdated"]


def test_the_intent_is_on_the_disk_before_the_venue_is_called(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    seen: list[tuple[Any, ...]] = []

    def look(_: SubmitOrder) -> None:
        with closing(sqlite3.connect(path)) as other:
            seen.extend(other.execute("SELECT kind, record_key FROM records"))

    with closing(Journal(path)) as journal:
        room = Room(journal)
        room.scripted.on_submit = look
        room.tell(submit("o1"))

    assert seen == [("SubmitOrder", "o1")]


def test_a_report_is_on_the_disk_before_anybody_hears_of_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path)) as journal:
        room = Room(journal)
        room.tell(submit("o1"), fill(1, 100, "t1"))
        with closing(sqlite3.connect(path)) as other:
            kinds = [kind for (kind,) in other.execute("SELECT kind FROM records ORDER BY seq")]

    assert kinds == ["SubmitOrder", "ExecutionReport"]


def test_a_fill_moves_the_position_and_is_told_after_the_order(room: Room) -> None:
    room.tell(submit(quantity=3, decision_id="d1"), report(ReportKind.ACCEPTED), fill(2, 100, "t1"))

    told = [type(message) for message in room.listener.heard]
    assert told == [OrderUpdated, OrderUpdated, OrderUpdated, Filled, PositionChanged]
    assert room.statuses() == [OrderStatus.SUBMITTED, OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED]
    (filled,) = room.heard(Filled)
    (changed,) = room.heard(PositionChanged)
    assert (filled.quantity, filled.price_ticks, filled.decision_id, filled.strategy_id) == (2, 100, "d1", "s")
    assert (changed.quantity, changed.average_ticks, changed.fees) == (2, 100.0, Decimal("0.85"))
    assert room.execution.open_quantity("s", "A.X", Side.BUY) == 1


def test_an_order_lives_its_whole_life_at_the_paper_venue() -> None:
    room = Room(Journal(":memory:"), PaperVenue(PaperConfig(), (INSTRUMENT,)))
    room.tell(submit("buys", quantity=4, limit_ticks=None), submit("rests", quantity=2, limit_ticks=98))
    room.wait()
    room.tell(CancelOrder(client_order_id="rests", strategy_id="s", ts_event=NOW))
    room.wait()

    assert room.statuses("buys") == [OrderStatus.SUBMITTED, OrderStatus.ACCEPTED, OrderStatus.FILLED]
    assert room.statuses("rests") == [OrderStatus.SUBMITTED, OrderStatus.ACCEPTED, OrderStatus.PENDING_CANCEL, OrderStatus.CANCELED]
    assert room.execution.position("s", "A.X") == 4
    assert room.execution.open_orders() == ()


def test_a_cancel_of_somebody_else_or_of_nothing_does_nothing(room: Room) -> None:
    room.tell(submit("o1"))
    room.tell(
        CancelOrder(client_order_id="o1", strategy_id="thief", ts_event=NOW),
        CancelOrder(client_order_id="o9", strategy_id="s", ts_event=NOW),
    )

    assert room.scripted.canceled == []


def test_a_cancel_under_way_is_not_asked_for_again_until_its_answer_is_overdue(room: Room) -> None:
    room.tell(submit("o1"), report(ReportKind.ACCEPTED), submit("o2"), report(ReportKind.ACCEPTED, "o2"))
    room.tell(CancelOrder(client_order_id="o1", strategy_id="s", ts_event=NOW))

    assert room.execution.cancel_all("s") == 1
    assert room.execution.cancel_all() == 0
    room.tell(CancelOrder(client_order_id="o1", strategy_id="s", ts_event=NOW))
    assert room.scripted.canceled == ["o1", "o2"]
    assert room.statuses("o1")[-1] is OrderStatus.PENDING_CANCEL

    room.tell(report(ReportKind.CANCEL_REJECTED, "o2"))
    assert room.execution.cancel_all() == 1
    room.wait(5.5)
    assert room.execution.cancel_all() == 2
    assert room.scripted.canceled == ["o1", "o2", "o2", "o1", "o2"]


def test_a_cancel_and_a_change_under_way_are_told_with_the_time_of_the_request_live_and_by_the_journal(room: Room) -> None:
    for name in ("o1", "o2", "o3"):
        room.tell(submit(name, limit_ticks=95, quantity=2), report(ReportKind.ACCEPTED, name))
    room.wait(2.0)
    later = NOW + 2 * NS_PER_S
    room.tell(CancelOrder(client_order_id="o1", strategy_id="s", ts_event=NOW))
    room.tell(ReplaceOrder(client_order_id="o2", strategy_id="s", ts_event=later, limit_ticks=94))
    room.tell(ReplaceOrder(client_order_id="o3", strategy_id="s", ts_event=later, quantity=0))

    told = {update.client_order_id: update for update in room.heard(OrderUpdated)}
    assert {name: update.status for name, update in told.items()} == {
        "o1": OrderStatus.PENDING_CANCEL,
        "o2": OrderStatus.PENDING_REPLACE,
        "o3": OrderStatus.NEW,
    }
    assert [update.ts_event for update in told.values()] == [later] * 3
    assert told["o3"].reason.startswith("MAX_ORDER_QUANTITY")
    folded = replay(room.journal).blotter.open
    assert [order_facts(one) for one in folded.values()] == [order_facts(one) for one in room.execution.blotter.open.values()]


# --- what venues get wrong -------------------------------------------------------------------------------------------------


def test_a_repeated_fill_is_booked_once_and_counted(room: Room) -> None:
    room.tell(submit(quantity=5), fill(2, 100, "t1"), fill(2, 100, "t1"))

    assert room.execution.position("s", "A.X") == 2
    assert len(room.heard(Filled)) == 1
    assert room.execution.counts["reports_duplicate"] == 1


def test_a_fill_after_the_cancel_is_booked_and_counted_as_late(room: Room) -> None:
    room.tell(submit(quantity=5), report(ReportKind.CANCELED), fill(2, 100, "t1"))

    assert room.execution.position("s", "A.X") == 2
    assert room.execution.open_orders() == ()
    assert room.execution.counts["fills_late"] == 1


def test_a_report_of_an_order_that_nobody_sent_is_counted_and_kept_in_the_journal(room: Room) -> None:
    room.tell(report(ReportKind.CANCELED, "never-sent"))

    assert room.execution.counts["reports_of_unknown_orders"] == 1
    assert room.listener.heard == []
    assert room.journal.last_seq == 1


@pytest.mark.parametrize("wrong", [fill(3, 100, "t1"), fill(2, 100, ""), fill(2, 100, "t1", "never-sent"), fill(2, 10**30, "t1")])
def test_a_fill_that_cannot_be_booked_halts_trading_because_our_position_may_be_wrong(room: Room, wrong: ExecutionReport) -> None:
    room.tell(submit(quantity=2), submit("o2"), wrong, submit("o3"))

    assert room.execution.position("s", "A.X") == 0
    assert room.heard(Filled) == []
    assert room.execution.state is TradingState.HALTED
    assert wrong.client_order_id in room.execution.state_reason
    assert room.scripted.submitted == room.scripted.canceled == ["o1", "o2"]


def test_a_kill_between_a_fill_that_cannot_be_booked_and_its_halt_ends_in_a_halt(room: Room) -> None:
    room.tell(submit(quantity=2))
    room.journal.append("ExecutionReport", fill(3, 100, "t1"), durable=True, key="o1")
    again = Room(room.journal)
    again.execution.recover()

    assert again.execution.state is TradingState.HALTED


def test_a_resume_after_such_a_fill_is_believed_after_a_restart_too(room: Room) -> None:
    room.tell(submit(quantity=2), fill(3, 100, "t1"))
    room.execution.set_state(TradingState.ACTIVE, "looked at")
    again = Room(room.journal)
    again.execution.recover()

    assert again.execution.state is TradingState.ACTIVE


@pytest.mark.parametrize(
    "wrong",
    [report(ReportKind.CANCELED, "\ud800"), report(ReportKind.REJECTED, reason="\udfff"), report(ReportKind.ACCEPTED, venue_order_id=7)],
)
def test_a_report_that_the_journal_could_not_give_back_is_dropped_and_counted(room: Room, wrong: ExecutionReport) -> None:
    room.tell(submit(), wrong)

    assert room.execution.counts["reports_malformed"] == 1
    assert room.statuses() == [OrderStatus.SUBMITTED]
    assert [record.kind for record in room.journal.records()] == ["SubmitOrder"]


@pytest.mark.parametrize("changes", [{"time_in_force": "FOREVER"}, {"decision_id": 7}, {"reduce_only": 0}])
def test_an_order_that_the_journal_could_not_give_back_is_denied(room: Room, changes: dict[str, Any]) -> None:
    room.tell(submit(**changes))

    assert [update.reason.split()[0] for update in room.heard(OrderUpdated)] == ["MALFORMED"]
    assert room.scripted.submitted == []
    Room(room.journal).execution.recover()
    assert all(record.kind == "OrderUpdated" for record in room.journal.records())


def test_the_answer_to_a_cancel_that_lost_its_race_is_no_anomaly(room: Room) -> None:
    room.tell(submit(quantity=2), fill(2, 100, "t1"), report(ReportKind.CANCEL_REJECTED))

    assert room.execution.counts["reports_anomaly"] == 0
    assert room.statuses()[-1] is OrderStatus.FILLED


def test_closed_orders_are_pruned_from_memory_and_their_ids_stay_taken(monkeypatch: pytest.MonkeyPatch, room: Room) -> None:
    monkeypatch.setattr("framework.trading.blotter.CLOSED_ORDERS_KEPT", 2)
    for name in ("o1", "o2", "o3", "o4"):
        room.tell(submit(name), report(ReportKind.REJECTED, name))
    room.tell(submit("o1"))

    assert len(room.execution.blotter._closed) == 2
    assert room.heard(OrderUpdated)[-1].reason == "DUPLICATE_ID client_order_id=o1"


def test_a_late_fill_of_an_order_that_was_pruned_from_memory_is_booked_once(monkeypatch: pytest.MonkeyPatch, room: Room) -> None:
    monkeypatch.setattr("framework.trading.blotter.CLOSED_ORDERS_KEPT", 2)
    room.tell(submit("o1", quantity=3), fill(1, 100, "t1"), report(ReportKind.CANCELED))
    for name in ("o2", "o3", "o4"):
        room.tell(submit(name), report(ReportKind.REJECTED, name))

    room.tell(fill(1, 100, "t1"), fill(2, 101, "t2"))

    assert room.execution.counts["reports_duplicate"] == 1
    assert room.execution.counts["fills_late"] == 1
    assert room.execution.position("s", "A.X") == 3
    assert room.execution.state is TradingState.ACTIVE
    again = Room(room.journal)
    again.execution.recover()
    assert again.state() == room.state()


def test_an_order_whose_answer_was_lost_still_counts_at_its_worst(room: Room) -> None:
    room.tell(submit(quantity=5), report(ReportKind.LOST))

    assert room.statuses()[-1] is OrderStatus.UNKNOWN
    assert room.execution.open_quantity("s", "A.X", Side.BUY) == 5
    assert room.execution.sight.open_order_count("s", "A.X") == 1


# --- books -----------------------------------------------------------------------------------------------------------------


def test_an_unsound_book_closes_the_gate_until_it_recovers(room: Room) -> None:
    room.show(BookInvalid(instrument_id="A.X", ts_event=NOW, reason="crossed"))
    room.tell(submit("o1"))
    room.show(BookRecovered(instrument_id="A.X", ts_event=NOW), book(sequence=3))
    room.tell(submit("o2"))

    assert room.statuses("o1") == [OrderStatus.DENIED]
    assert room.statuses("o2") == [OrderStatus.SUBMITTED]


def test_a_book_from_before_the_bad_spell_does_not_open_the_gate_when_it_is_handled_late(room: Room) -> None:
    room.show(book(sequence=2), BookInvalid(instrument_id="A.X", ts_event=NOW, reason="crossed"))
    room.tell(submit("o1"))

    assert room.statuses("o1") == [OrderStatus.DENIED]
    assert room.execution.last_book("A.X") == book(sequence=2)


# --- halt and quarantine -----------------------------------------------------------------------------------------------------


def test_halt_closes_the_gate_and_cancels_everything(room: Room) -> None:
    room.tell(submit("o1"), submit("o2", strategy_id="t"))
    room.execution.set_state(TradingState.HALTED, "operator")
    room.tell(submit("o3"))

    assert room.scripted.canceled == ["o1", "o2"]
    assert room.statuses("o3") == [OrderStatus.DENIED]
    assert room.heard(TradingStateChanged)[-1].reason == "operator"


def test_orders_that_wait_in_the_mailbox_when_halt_comes_are_denied(room: Room) -> None:
    room.bus.tell(EXECUTION, submit("o1"))
    room.execution.set_state(TradingState.HALTED, "operator")
    room.bus.drain()

    assert room.statuses() == [OrderStatus.DENIED]
    assert room.scripted.submitted == []


def test_halt_survives_a_restart_until_it_is_lifted(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path)) as journal:
        Room(journal).execution.set_state(TradingState.HALTED, "too much")
    with closing(Journal(path)) as journal:
        again = Room(journal)
        again.execution.recover()
        assert (again.execution.state, again.execution.state_reason) == (TradingState.HALTED, "too much")
        again.tell(submit("o1"))
        assert again.statuses() == [OrderStatus.DENIED]
        again.execution.set_state(TradingState.ACTIVE, "resumed")
    with closing(Journal(path)) as journal:
        last = Room(journal)
        last.execution.recover()
        assert last.execution.state is TradingState.ACTIVE


def test_a_quarantined_strategy_loses_its_open_orders_and_nobody_else_does(room: Room) -> None:
    room.tell(submit("o1"), submit("o2", strategy_id="t"), submit("o3"))
    room.show(StrategyQuarantined(strategy_id="s", ts_event=NOW, reason="raised"))

    assert room.scripted.canceled == ["o1", "o3"]


# --- restart -----------------------------------------------------------------------------------------------------------------


def test_a_new_run_has_the_positions_fees_and_open_orders_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path)) as journal:
        room = Room(journal)
        room.tell(submit("o1", quantity=5), report(ReportKind.ACCEPTED), fill(2, 100, "t1"), submit("o2", Side.SELL, 4, limit_ticks=102))
        room.tell(fill(1, 102, "t2", "o2"), fill(3, 103, "t3", "o2"))
        before = room.state()
    with closing(Journal(path)) as journal:
        again = Room(journal)
        assert again.execution.recover() == 1
        assert again.state() == before
        assert again.execution.position("s", "A.X") == -2
        again.tell(fill(2, 100, "t1"))
        assert again.execution.counts["reports_duplicate"] == 1


def test_orders_that_were_open_are_unknown_until_the_venue_says(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path)) as journal:
        Room(journal).tell(submit("o1", quantity=5), report(ReportKind.ACCEPTED), submit("o2", quantity=3))
    with closing(Journal(path)) as journal:
        again = Room(journal)
        again.execution.recover()
        again.execution.reconcile()
        assert again.scripted.asked == ["o1", "o2"]
        assert [order.status for order in again.execution.open_orders()] == [OrderStatus.UNKNOWN, OrderStatus.UNKNOWN]
        assert again.execution.open_quantity("s", "A.X", Side.BUY) == 8
        again.tell(report(ReportKind.CANCELED, reason="venue restarted"), report(ReportKind.ACCEPTED, "o2"))
        assert [(order.client_order_id, order.status) for order in again.execution.open_orders()] == [("o2", OrderStatus.ACCEPTED)]


def test_a_venue_that_was_restarted_has_forgotten_the_orders_and_the_new_run_learns_that(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path)) as journal:
        Room(journal, PaperVenue(PaperConfig(), (INSTRUMENT,))).tell(submit("o1", limit_ticks=98))
    with closing(Journal(path)) as journal:
        again = Room(journal, PaperVenue(PaperConfig(), (INSTRUMENT,)))
        again.execution.recover()
        again.execution.reconcile()
        again.wait()
        assert again.statuses() == [OrderStatus.UNKNOWN, OrderStatus.CANCELED]
        assert again.heard(OrderUpdated)[-1].reason == "venue restarted"


def test_the_orders_of_another_market_wait_in_the_journal_until_that_market_is_back(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path)) as journal:
        room = Room(journal)
        room.tell(submit("o1", quantity=5), fill(2, 100, "t1"))
        before = room.state()
    with closing(Journal(path)) as journal:
        elsewhere = Room(journal, instruments=(OTHER,))
        assert elsewhere.execution.recover() == 0
        assert elsewhere.execution.portfolio.positions() == {}
    with closing(Journal(path)) as journal:
        back = Room(journal)
        back.execution.recover()
        assert back.state() == before


# --- a disk that fails -------------------------------------------------------------------------------------------------------


def test_when_the_journal_fails_nothing_new_goes_out_but_cancels_fills_and_halt_take_effect(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path)) as journal, closing(sqlite3.connect(path, isolation_level=None)) as other:
        room = Room(journal)
        room.tell(submit("o1", quantity=5), submit("o2", quantity=1))
        other.execute("BEGIN IMMEDIATE")
        room.tell(submit("o3"), fill(2, 100, "t1"), CancelOrder(client_order_id="o2", strategy_id="s", ts_event=NOW))
        room.execution.set_state(TradingState.HALTED, "disk")
        other.execute("ROLLBACK")

        assert room.scripted.submitted == ["o1", "o2"]
        assert [update.reason.split()[0] for update in room.heard(OrderUpdated) if update.client_order_id == "o3"] == ["JOURNAL"]
        assert room.execution.position("s", "A.X") == 2
        assert room.scripted.canceled == ["o2", "o1"]
        assert room.execution.state is TradingState.HALTED
        assert room.execution.counts["journal_failures"] >= 3
        room.tell(submit("o4"))
        assert room.scripted.submitted == ["o1", "o2"]
        assert not journal.is_healthy


def test_a_journal_that_somebody_else_wrote_into_keeps_no_fill_from_being_booked(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path)) as journal:
        room = Room(journal)
        room.tell(submit("o1", quantity=5))
        with closing(sqlite3.connect(path)) as other:
            other.execute("INSERT INTO records SELECT seq + 1, kind, record_key, ts_event, body, chain FROM records")
            other.commit()
        room.tell(fill(2, 100, "t1"), submit("o2"))

        assert room.execution.position("s", "A.X") == 2
        assert room.heard(OrderUpdated)[-1].reason.startswith("JOURNAL")
        with pytest.raises(IntegrityError, match="record 2 does not fit"):
            Room(journal).execution.recover()


# --- whatever happens ----------------------------------------------------------------------------------------------------------

IDS = ("o1", "o2", "o3")
steps = st.one_of(
    st.builds(
        submit,
        st.sampled_from(IDS),
        st.sampled_from(Side),
        st.integers(0, 11),
        limit_ticks=st.sampled_from((None, 90, 100, 110, 900)),
        strategy_id=st.sampled_from(("s", "t")),
    ),
    st.builds(CancelOrder, client_order_id=st.sampled_from(IDS), strategy_id=st.sampled_from(("s", "t")), ts_event=st.just(NOW)),
    st.builds(fill, st.integers(1, 4), st.integers(90, 110), st.sampled_from("abcdef"), st.sampled_from(IDS)),
    st.builds(report, st.sampled_from([kind for kind in ReportKind if kind is not ReportKind.FILLED]), st.sampled_from((*IDS, "alien"))),
    st.sampled_from(TradingState),
    st.builds(StrategyQuarantined, strategy_id=st.sampled_from(("s", "t")), ts_event=st.just(NOW), reason=st.just("raised")),
)


def play(room: Room, script: Sequence[Message | TradingState]) -> None:
    for step in script:
        if isinstance(step, TradingState):
            room.execution.set_state(step, "script")
        else:
            room.tell(step)


@given(st.lists(steps, max_size=40))
def test_after_any_script_a_new_actor_on_the_same_journal_is_where_the_old_one_was(script: list[Message | TradingState]) -> None:
    with closing(Journal(":memory:")) as journal:
        room = Room(journal)
        play(room, script)
        again = Room(journal)
        again.execution.recover()

        assert again.state() == room.state()
        assert journal.verify() == journal.last_seq


@given(st.lists(steps, max_size=40))
def test_positions_and_fees_are_what_the_published_fills_add_up_to(script: list[Message | TradingState]) -> None:
    with closing(Journal(":memory:")) as journal:
        room = Room(journal)
        play(room, script)
        fills = room.heard(Filled)

        for strategy_id in ("s", "t"):
            own = [one for one in fills if one.strategy_id == strategy_id]
            position = room.execution.portfolio.position(strategy_id, "A.X")
            assert position.quantity == sum(one.side.sign * one.quantity for one in own)
            assert position.fees == sum((one.fee for one in own), Decimal(0))
        assert set(room.scripted.submitted) == {
            update.client_order_id for update in room.heard(OrderUpdated) if update.status is OrderStatus.SUBMITTED
        }
