"""What the runner found, each as short as it gets."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from framework.messages import ExecutionReport, Message, ReplaceOrder, ReportKind
from framework.model import OrderStatus
from framework.trading.blotter import Blotter
from framework.trading.journal import Journal
from framework.trading.order_states import Effect
from framework.trading.orders import Order
from framework.trading.portfolio import Portfolio
from tests.trading.conftest import INSTRUMENT, NOW, submit
from tests.trading.room import report


def test_an_order_out_of_the_journal_knows_the_change_that_was_asked_of_it(tmp_path: Path) -> None:
    fill = report(ReportKind.FILLED, trade_id="T-1", last_quantity=3, last_ticks=99, fee=Decimal(1))
    words: tuple[tuple[str, Message], ...] = (
        ("SubmitOrder", submit(quantity=1)),
        ("ExecutionReport", report(ReportKind.ACCEPTED)),
        ("ReplaceOrder", ReplaceOrder(client_order_id="o1", strategy_id="s", ts_event=NOW, quantity=3, revision=1)),
        ("ExecutionReport", fill),
    )
    journal = Journal(tmp_path / "journal.sqlite")
    for kind, message in words:
        journal.append(kind, message, durable=True, key="o1")
    blotter = Blotter(journal, Portfolio({"A.X": INSTRUMENT}))

    order = blotter.find_ever("o1")
    late = ExecutionReport(client_order_id="o1", kind=ReportKind.REPLACED, ts_event=NOW, quantity=3, revision=1)

    assert order is not None
    assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, 3)
    assert blotter.apply(late)[0] is not Effect.CHANGED
    assert blotter.apply(fill)[0] is Effect.DUPLICATE  # and not booked a second time
    assert blotter.exposure.open_order_count(None, None) == 0
    journal.close()


def test_a_word_from_before_a_change_was_asked_for_does_not_end_it() -> None:
    """Found by seed 11: asked about an earlier silence, the venue had told the old terms; the change still came, and was not counted."""
    order = Order(submit(quantity=3))
    order.apply(report(ReportKind.ACCEPTED))
    order.request_replace(ReplaceOrder(client_order_id="o1", strategy_id="s", ts_event=NOW + 10, quantity=5, revision=1))
    order.apply(report(ReportKind.LOST))
    before = ExecutionReport(client_order_id="o1", kind=ReportKind.RESTATED, ts_event=NOW + 5, quantity=3)

    order.apply(before)
    assert (order.status, order.open_quantity) == (OrderStatus.PENDING_REPLACE, 5)

    order.apply(report(ReportKind.LOST))
    order.apply(ExecutionReport(client_order_id="o1", kind=ReportKind.RESTATED, ts_event=NOW + 20, quantity=3))
    assert (order.status, order.open_quantity) == (OrderStatus.NEW, 3)  # it was lost: the venue knows of none
