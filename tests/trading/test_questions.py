"""Answers belong to questions: one to a question from before the last word to an order says nothing about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from framework.config import PaperConfig
from framework.messages import ExecutionReport, ReplaceOrder, ReportKind, SubmitOrder
from framework.model import OrderStatus
from framework.trading.journal import Journal
from framework.venues.paper import PaperVenue
from framework.venues.port import Answer, answer, plain
from tests.trading.conftest import INSTRUMENT, NOW, book, submit
from tests.trading.room import Room, ScriptedVenue, report


class Asked(ScriptedVenue):
    """A venue that remembers the numbers of what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[int] = []

    def reconcile(self, client_order_ids: Sequence[str], question: int = 0) -> None:
        super().reconcile(client_order_ids, question)
        self.questions.append(question)


def asked_room(journal: Journal | None = None) -> tuple[Room, Asked]:
    venue = Asked()
    return Room(journal or Journal(":memory:"), venue), venue


def says(room: Room, kind: ReportKind, question: int, **fields: Any) -> None:
    room.execution.take(answer(report(kind, **fields), question))
    room.bus.drain()


def replace(room: Room, **changes: Any) -> None:
    room.show(book(ts=room.clock.now_ns(), sequence=room.clock.now_ns()))  # a sound one, for the gate
    room.tell(ReplaceOrder(client_order_id="o1", strategy_id="s", ts_event=room.clock.now_ns(), **changes))


def test_every_question_has_a_number_of_its_own_also_after_a_restart() -> None:
    journal = Journal(":memory:")
    room, venue = asked_room(journal)
    room.tell(submit(), report(ReportKind.LOST))
    room.wait(40.0)
    again, later = asked_room(journal)
    again.execution.recover()
    again.execution.reconcile()
    again.wait(20.0)

    numbers = venue.questions + later.questions
    assert len(venue.questions) >= 3
    assert len(later.questions) >= 2
    assert numbers == sorted(set(numbers))


def test_an_answer_from_before_a_change_ends_no_doubt_about_it_whatever_the_venues_clock_says() -> None:
    room, venue = asked_room()
    room.tell(submit(quantity=2), report(ReportKind.ACCEPTED))
    room.wait(16.0)  # the sweep asks
    replace(room, quantity=5)
    room.tell(report(ReportKind.LOST))
    old = venue.questions[-1]
    says(room, ReportKind.RESTATED, old, quantity=2)
    room.execution.take(answer(ExecutionReport(client_order_id="o1", kind=ReportKind.RESTATED, ts_event=2 * NOW, quantity=2), old))
    room.bus.drain()

    assert room.statuses()[-1] is OrderStatus.UNKNOWN
    assert room.execution.counts["answers_late"] == 2
    assert room.execution.open_quantity("s", "A.X", submit().side) == 5


def test_an_answer_from_after_a_change_ends_the_doubt_although_the_venues_clock_is_behind() -> None:
    room, venue = asked_room()
    room.tell(submit(quantity=2), report(ReportKind.ACCEPTED))
    room.wait(1.0)
    replace(room, quantity=5)
    room.tell(report(ReportKind.LOST))
    room.wait(1.0)
    says(room, ReportKind.RESTATED, venue.questions[-1], quantity=5)  # dated before the change

    assert room.statuses()[-1] is OrderStatus.NEW
    assert room.execution.open_orders()[0].quantity == 5
    again = Room(room.journal)
    again.execution.recover()
    assert again.execution.open_orders()[0].quantity == 5
    assert again.execution.open_orders()[0].status is OrderStatus.NEW


def test_the_answer_to_an_earlier_change_that_is_said_again_does_not_undo_the_later_one() -> None:
    """Found by `everything`, seed 3017: with the present terms come all words of before, and one of them was taken for the newest."""
    room, venue = asked_room()
    room.tell(submit(quantity=2), report(ReportKind.ACCEPTED))
    for revision, limit_ticks in ((1, 99), (2, 98)):
        replace(room, limit_ticks=limit_ticks)
        if revision == 1:
            room.tell(report(ReportKind.REPLACED, quantity=2, limit_ticks=99, revision=1))
    room.tell(report(ReportKind.LOST))
    room.wait(2.0)
    question = venue.questions[-1]
    for said in (
        report(ReportKind.RESTATED, quantity=2, limit_ticks=98, revision=2),
        report(ReportKind.ACCEPTED),
        report(ReportKind.REPLACED, quantity=2, limit_ticks=99, revision=1),
        report(ReportKind.REPLACED, quantity=2, limit_ticks=98, revision=2),
    ):
        room.execution.take(answer(said, question))  # all of it before the first is handled
    room.bus.drain()

    assert room.execution.open_orders()[0].limit_ticks == 98


def test_an_old_answer_that_an_order_has_ended_is_ignored_and_the_next_one_counts() -> None:
    room, venue = asked_room()
    room.tell(submit(), report(ReportKind.ACCEPTED))
    room.wait(16.0)
    old = venue.questions[-1]
    replace(room, limit_ticks=99)
    says(room, ReportKind.CANCELED, old)
    assert room.execution.open_orders()
    room.wait(16.0)
    says(room, ReportKind.CANCELED, venue.questions[-1])

    assert room.execution.open_orders() == ()
    assert room.execution.counts["answers_late"] == 1


def test_a_fill_is_a_fact_however_old_the_question_is() -> None:
    room, venue = asked_room()
    room.tell(submit(quantity=3), report(ReportKind.ACCEPTED))
    room.wait(16.0)
    old = venue.questions[-1]
    replace(room, limit_ticks=99)
    for _ in range(2):
        says(room, ReportKind.FILLED, old, last_quantity=1, last_ticks=100, trade_id="t1")

    assert room.execution.position("s", "A.X") == 1


def test_an_answer_to_a_question_of_the_run_before_is_ignored() -> None:
    journal = Journal(":memory:")
    room, venue = asked_room(journal)
    room.tell(submit(), report(ReportKind.ACCEPTED))
    room.wait(16.0)
    again, later = asked_room(journal)
    again.execution.recover()
    again.execution.reconcile()
    says(again, ReportKind.RESTATED, venue.questions[-1], quantity=1)
    assert again.statuses()[-1] is OrderStatus.UNKNOWN
    says(again, ReportKind.RESTATED, later.questions[-1], quantity=1)

    assert again.execution.open_orders()[0].status is OrderStatus.NEW


def test_what_the_venue_says_unasked_is_heard_as_ever() -> None:
    room, _ = asked_room()
    room.tell(submit())
    room.execution.take(report(ReportKind.ACCEPTED))
    room.bus.drain()

    assert room.statuses()[-1] is OrderStatus.NEW


def test_a_cancel_makes_no_answer_old_or_a_halt_on_a_slow_line_would_never_come_to_rest() -> None:
    room, venue = asked_room()
    room.tell(submit(), report(ReportKind.ACCEPTED))
    room.wait(16.0)
    room.execution.cancel_all()
    says(room, ReportKind.CANCELED, venue.questions[-1])

    assert room.execution.open_orders() == ()


def test_the_paper_venue_answers_with_the_number_and_the_journal_has_plain_reports() -> None:
    heard: list[ExecutionReport] = []
    room = Room(Journal(":memory:"), PaperVenue(PaperConfig(), (INSTRUMENT,)))

    def sink(word: ExecutionReport) -> None:
        heard.append(word)
        room.execution.take(word)

    room.venue.start(room.clock, sink)
    room.tell(submit("o1", limit_ticks=95), submit("o2", limit_ticks=101))
    room.wait(16.0)
    room.venue.reconcile(("o1", "o2", "o3"), 77)
    room.wait(1.0)

    answers = [one for one in heard if isinstance(one, Answer) and one.question == 77]
    assert [(one.client_order_id, one.kind) for one in answers] == [
        ("o1", ReportKind.RESTATED),
        ("o1", ReportKind.ACCEPTED),
        ("o2", ReportKind.RESTATED),
        ("o2", ReportKind.ACCEPTED),
        ("o2", ReportKind.FILLED),
        ("o3", ReportKind.CANCELED),
    ]
    assert {type(record.message) for record in room.journal.records("ExecutionReport", "SubmitOrder")} == {ExecutionReport, SubmitOrder}


def test_an_answer_is_the_report_with_a_number() -> None:
    one = report(ReportKind.FILLED, last_quantity=1, trade_id="t")

    assert plain(answer(one, 3)) == one
    assert answer(one, 0) is one
    assert plain(one, revision=4).revision == 4
