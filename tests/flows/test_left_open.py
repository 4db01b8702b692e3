"""A clean stop takes entries back, leaves protected what stays, and says so; the next start goes on with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from framework.messages import CancelOrder, DomUpdated, ExecutionReport, OrderUpdated, ReportKind
from framework.model import OrderStatus, Side, TradingState
from framework.operations.options import Summary, summary_table
from framework.operations.reporting import summary_of
from framework.strategy import Strategy
from framework.trading.journal import Journal
from tests.flows.harness import Run, of_class

MakeRun = Callable[..., Run]


class Protected(Strategy):
    """Buy with a bracket at once, and leave an entry and a plain exit far away."""

    is_done = False

    def on_dom(self, update: DomUpdated) -> None:
        book = update.book
        if self.is_done or not (book.bid_ticks and book.ask_ticks):
            return
        self.is_done = True
        self.bracket(Side.BUY, 2, target_ticks=book.ask_ticks[0] + 35, stop_ticks=book.bid_ticks[0] - 100)
        self.buy(1, limit_ticks=book.bid_ticks[0] - 35)


class Bare(Strategy):
    """Buy and hope."""

    is_done = False

    def on_dom(self, update: DomUpdated) -> None:
        if not self.is_done and update.book.ask_ticks:
            self.is_done = bool(self.buy(1))


def run(make_run: MakeRun, directory: Path, *strategies: Any, **options: Any) -> tuple[Run, Summary]:
    one = make_run(state_dir=directory, strategies=strategies, has_ml=False, duration_s=5.0, **options).go()
    return one, summary_of(one.process)


def open_orders(one: Run) -> dict[str, OrderStatus]:
    return {order.client_order_id: order.status for order in one.process.desk.execution.open_orders()}


def test_a_clean_stop_keeps_what_protects_a_position_and_cancels_the_rest_once(make_run: MakeRun, tmp_path: Path) -> None:
    one, summary = run(make_run, tmp_path / "s", of_class(Protected, "careful"), of_class(Bare, "bare"))

    assert open_orders(one) == {"careful-2": OrderStatus.NEW, "careful-3": OrderStatus.SUSPENDED}
    assert [(left.strategy_id, left.quantity) for left in summary.left_open] == [("bare", 1), ("careful", 2)]
    bare, careful = summary.left_open
    assert bare.protected_by == ()
    assert str(bare).endswith("protected by nothing")
    assert [words.split(" (")[1] for words in careful.protected_by] == ["at the venue)", "held here: it waits for the next start)"]
    assert "careful-3 STOP SELL 2 stop" in careful.protected_by[1]
    assert summary_table(summary).row_count > len(Summary.__struct_fields__) - 5
    assert [cancel.client_order_id for cancel in _journalled(tmp_path / "s", CancelOrder)] == ["careful-4"]
    assert not [report for report in _journalled(tmp_path / "s", ExecutionReport) if report.kind is ReportKind.CANCEL_REJECTED]


def test_the_next_start_goes_on_with_what_was_kept(make_run: MakeRun, tmp_path: Path) -> None:
    run(make_run, tmp_path / "s", of_class(Protected, "careful"))
    again, summary = run(make_run, tmp_path / "s")

    assert open_orders(again) == {"careful-2": OrderStatus.NEW, "careful-3": OrderStatus.SUSPENDED}
    assert again.process.desk.execution.sight.unready == {}
    assert [len(left.protected_by) for left in summary.left_open] == [2]
    assert OrderStatus.UNKNOWN in [update.status for update in again.story.of(OrderUpdated)]


def test_a_halt_keeps_nothing_and_the_summary_says_so(make_run: MakeRun, tmp_path: Path) -> None:
    async def halt(one: Run) -> None:
        await one.until(3.0)
        one.process.desk.execution.set_state(TradingState.HALTED, "a test")

    one = make_run(state_dir=tmp_path / "s", strategies=[of_class(Protected, "careful")], has_ml=False, duration_s=5.0, speed=20.0)
    one.go(meanwhile=halt)

    assert open_orders(one) == {}
    assert [str(left).rpartition("protected by ")[2] for left in summary_of(one.process).left_open] == ["nothing"]


def _journalled(directory: Path, kind: type[Any]) -> list[Any]:
    with closing(Journal(directory / "journal.sqlite")) as journal:
        return [record.message for record in journal.records(kind.__name__)]
