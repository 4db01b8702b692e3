"""A strategy that raised: its exits outlive it, its entries do not, and a halt keeps nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from framework.config import RiskLimits
from framework.messages import OrderUpdated, ReportKind, StrategyQuarantined, SubmitList
from framework.model import OrderStatus, OrderType, Side, TimeInForce, TradingState
from framework.trading.journal import Journal
from framework.trading.risk import LimitBook, limits_digest
from framework.trading.watch import Watch
from tests.trading.conftest import NOW, book, submit
from tests.trading.room import Room, fill, report


def room_that(does: str = "", journal: Journal | None = None) -> Room:
    """Return a room in which `s` holds two lots with a stop and a target, and `t` one with nothing, and both have an entry open."""
    room = Room(journal or Journal(":memory:"))
    if does:
        limits: LimitBook = room.execution.gate.limits
        limits.config = limits.config.model_copy(update={"on_quarantine": does})
    out: dict[str, Any] = {"reduce_only": True, "oco_id": "g", "time_in_force": TimeInForce.GTC, "quantity": 2, "side": Side.SELL}
    room.tell(submit("in", quantity=2), report(ReportKind.ACCEPTED, "in"), fill(2, 100, "t1", "in"))
    stop = submit("stop", order_type=OrderType.STOP, limit_ticks=None, stop_ticks=90, **out)
    room.tell(SubmitList(strategy_id="s", ts_event=NOW, orders=(stop, submit("target", limit_ticks=110, **out))))
    room.tell(report(ReportKind.ACCEPTED, "target"))
    room.tell(submit("t-in", strategy_id="t"), report(ReportKind.ACCEPTED, "t-in"), fill(1, 100, "t2", "t-in"))
    room.tell(submit("more", limit_ticks=71), submit("t-more", limit_ticks=70, strategy_id="t"))
    room.tell(report(ReportKind.ACCEPTED, "more"), report(ReportKind.ACCEPTED, "t-more"))
    room.scripted.canceled.clear()
    return room


def quarantine(room: Room) -> None:
    room.show(StrategyQuarantined(strategy_id="s", ts_event=NOW, reason="raised"))


def opened(room: Room) -> dict[str, OrderStatus]:
    return {order.client_order_id: order.status for order in room.execution.open_orders()}


def test_exits_of_a_position_outlive_their_strategy_and_its_entries_do_not() -> None:
    room = room_that()
    quarantine(room)

    assert room.scripted.canceled == ["more"]
    assert opened(room) == {
        "stop": OrderStatus.SUSPENDED,
        "target": OrderStatus.NEW,
        "more": OrderStatus.PENDING_CANCEL,
        "t-more": OrderStatus.NEW,
    }


def test_a_stop_of_a_strategy_that_is_gone_still_closes_its_position() -> None:
    room = room_that()
    quarantine(room)
    room.show(book(bids=(89, 88), asks=(91, 92), sequence=2))
    assert room.scripted.canceled == ["more", "target"]
    room.tell(report(ReportKind.CANCELED, "target"), report(ReportKind.CANCELED, "more"))

    assert room.scripted.submitted[-1] == "stop"


def test_legs_of_an_entry_that_goes_go_with_it() -> None:
    room = Room(Journal(":memory:"))
    stop = submit("stop", Side.SELL, order_type=OrderType.STOP, limit_ticks=None, stop_ticks=90, reduce_only=True, parent_id="in")
    room.tell(SubmitList(strategy_id="s", ts_event=NOW, orders=(submit("in", limit_ticks=95), stop)))
    room.tell(report(ReportKind.ACCEPTED, "in"))
    quarantine(room)
    room.tell(report(ReportKind.CANCELED, "in"))

    assert opened(room) == {}


def test_everything_is_canceled_where_that_is_asked_for() -> None:
    room = room_that("cancel_all")
    quarantine(room)

    assert room.scripted.canceled == ["target", "more"]
    assert "stop" not in opened(room)


def test_a_halt_keeps_nothing_of_a_strategy_that_raises() -> None:
    room = room_that()
    room.execution.set_state(TradingState.HALTED, "operator")
    quarantine(room)

    assert set(room.scripted.canceled) == {"target", "more", "t-more"}
    assert "stop" not in opened(room)


def test_its_position_is_closed_where_that_is_asked_for_and_nobody_elses_is() -> None:
    room = room_that("flatten")
    quarantine(room)
    room.tell(report(ReportKind.CANCELED, "target"), report(ReportKind.CANCELED, "more"))
    room.show(book(ts=room.clock.now_ns(), sequence=3))
    room.wait(1.0)
    closing = [name for name in room.scripted.submitted if name.startswith("flatten")]
    assert closing == ["flatten-1"]
    room.tell(fill(2, 99, "t9", "flatten-1"))
    room.wait(3.0)

    assert (room.execution.position("s", "A.X"), room.execution.position("t", "A.X")) == (0, 1)
    assert opened(room) == {"t-more": OrderStatus.NEW}
    assert room.execution.watch.flattening == ""
    sold = next(one for one in room.heard(OrderUpdated) if one.client_order_id == "flatten-1")
    assert (sold.strategy_id, sold.side, sold.quantity) == ("s", Side.SELL, 2)


def test_an_operator_who_flattens_meanwhile_closes_everybody() -> None:
    room = room_that("flatten")
    quarantine(room)
    watch: Watch = room.execution.watch
    room.execution.flatten("operator")
    watch.flatten("another one raised", "t")

    assert watch._is_flattened("s")
    assert watch._is_flattened("nobody in particular")


def test_what_becomes_of_a_quarantined_strategy_is_no_limit_and_loosens_none() -> None:
    assert limits_digest(RiskLimits()) == limits_digest(RiskLimits(on_quarantine="flatten"))
    assert limits_digest(RiskLimits()) != limits_digest(RiskLimits(max_position=19))


@pytest.mark.parametrize("does", ["keep_exits", "cancel_all"])
def test_a_restart_after_it_finds_the_same_orders(does: str) -> None:
    room = room_that(does)
    quarantine(room)
    again = Room(room.journal)
    again.execution.recover()

    assert msgspec.to_builtins(again.execution.open_orders()) == msgspec.to_builtins(room.execution.open_orders())
