"""Held orders through Execution: gate, journal, paper venue, restart."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from framework.config import PaperConfig
from framework.messages import CancelOrder, OrderUpdated, ReplaceOrder, ReportKind, SessionChanged, SubmitList, SubmitOrder
from framework.model import NS_PER_S, OrderStatus, OrderType, Side, TimeInForce, TradingState
from framework.trading.journal import Journal
from framework.venues.paper import PaperVenue
from tests.trading.conftest import INSTRUMENT, book, submit
from tests.trading.room import Room, fill, report


@pytest.fixture
def room() -> Room:
    return Room(Journal(":memory:"))


def paper(journal: Journal | None = None) -> Room:
    return Room(journal or Journal(":memory:"), PaperVenue(PaperConfig(), (INSTRUMENT,)))


def market(room: Room, bid: int, ask: int) -> None:
    room.wait(0.5)
    room.show(book((bid,), (ask,), ts=room.clock.now_ns(), sequence=room.clock.now_ns()))
    room.wait(0.01)


def stop(name: str = "stop", side: Side = Side.SELL, stop_ticks: int = 95, quantity: int = 2, **fields: Any) -> SubmitOrder:
    fields.setdefault("order_type", OrderType.STOP)
    return submit(name, side, quantity, limit_ticks=None, stop_ticks=stop_ticks, **fields)


def bracket(room: Room, quantity: int = 2, **stop_fields: Any) -> SubmitList:
    legs: dict[str, Any] = {
        "parent_id": "entry",
        "oco_id": "entry",
        "reduce_only": True,
        "time_in_force": TimeInForce.GTC,
        "ts_event": room.clock.now_ns(),
    }
    orders = (
        submit("entry", Side.BUY, quantity, limit_ticks=101, ts_event=room.clock.now_ns()),
        submit("target", Side.SELL, quantity, limit_ticks=110, **legs),
        stop("stop", Side.SELL, 95, quantity, **(legs | stop_fields)),
    )
    return SubmitList(strategy_id="s", ts_event=room.clock.now_ns(), orders=orders)


def test_a_stop_is_journalled_held_and_sent_as_a_market_order_when_it_is_set_off(room: Room) -> None:
    room.tell(stop())
    assert (room.scripted.submitted, room.statuses("stop")) == ([], [OrderStatus.SUSPENDED])

    market(room, 95, 97)
    assert room.scripted.submitted == ["stop"]
    assert room.statuses("stop")[-1] is OrderStatus.PENDING_NEW
    kinds = [getattr(record.message, "kind", record.kind) for record in room.journal.records() if record.key == "stop"]
    assert kinds == ["SubmitOrder", ReportKind.TRIGGERED, ReportKind.RELEASED]


def test_a_stop_that_the_venue_gets_is_a_limit_order_at_the_collar() -> None:
    sent: list[SubmitOrder] = []
    room = Room(Journal(":memory:"))
    room.scripted.on_submit = sent.append
    room.tell(stop())
    market(room, 95, 97)

    (order,) = sent
    assert (order.client_order_id, order.order_type, order.stop_ticks) == ("stop", OrderType.MARKET, None)
    assert order.limit_ticks is not None
    assert order.limit_ticks < 95


def test_a_bracket_that_reaches_its_target_leaves_flat_and_the_stop_canceled() -> None:
    room = paper()
    room.tell(bracket(room))
    room.wait(0.1)
    assert room.execution.position("s", "A.X") == 2
    market(room, 110, 111)
    room.wait(0.1)

    assert room.execution.position("s", "A.X") == 0
    assert room.statuses("target")[-1] is OrderStatus.FILLED
    assert room.statuses("stop")[-1] is OrderStatus.CANCELED
    assert room.execution.open_orders() == ()


def test_a_bracket_that_is_stopped_out_leaves_flat_and_the_target_canceled() -> None:
    room = paper()
    room.tell(bracket(room))
    room.wait(0.1)
    market(room, 95, 96)
    room.wait(0.1)

    assert room.execution.position("s", "A.X") == 0
    assert room.statuses("stop")[-1] is OrderStatus.FILLED
    assert room.statuses("target")[-1] is OrderStatus.CANCELED


def test_one_bad_leg_denies_the_whole_bracket_and_nothing_leaves(room: Room) -> None:
    command = bracket(room, order_type=OrderType.STOP_LIMIT)
    room.tell(command)

    assert room.scripted.submitted == []
    assert room.execution.open_orders() == ()
    assert {name: room.statuses(name)[-1] for name in ("entry", "target", "stop")} == dict.fromkeys(
        ("entry", "target", "stop"), OrderStatus.DENIED
    )
    reasons = {update.reason for update in room.heard(OrderUpdated) if update.status is OrderStatus.DENIED}
    assert any("STOP_LIMIT needs limit_ticks" in reason for reason in reasons)


def test_a_stop_on_the_wrong_side_is_denied_with_the_price(room: Room) -> None:
    room.tell(stop(stop_ticks=100))

    update = room.heard(OrderUpdated)[-1]
    assert update.status is OrderStatus.DENIED
    assert "a SELL stop belongs below the best bid: stop_ticks=100 bid=99" in update.reason


def test_halting_ends_held_orders_and_nothing_is_set_off_after(room: Room) -> None:
    room.tell(stop())
    room.execution.set_state(TradingState.HALTED, "test")
    room.bus.drain()
    market(room, 90, 91)

    assert room.statuses("stop")[-1] is OrderStatus.CANCELED
    assert room.scripted.submitted == []


def test_a_held_order_is_canceled_at_once_and_without_the_venue(room: Room) -> None:
    room.tell(stop(), CancelOrder(client_order_id="stop", strategy_id="s", ts_event=0))

    assert room.statuses("stop") == [OrderStatus.SUSPENDED, OrderStatus.CANCELED]
    assert room.scripted.canceled == []


def test_a_held_order_is_changed_at_once_and_an_open_one_by_the_venue(room: Room) -> None:
    room.tell(stop(), submit("rests", limit_ticks=98), report(ReportKind.ACCEPTED, "rests"))
    room.tell(ReplaceOrder(client_order_id="stop", strategy_id="s", ts_event=room.clock.now_ns(), stop_ticks=97, quantity=3))
    room.tell(ReplaceOrder(client_order_id="rests", strategy_id="s", ts_event=room.clock.now_ns(), limit_ticks=97))

    held = room.execution.blotter.open["stop"]
    assert (held.stop_ticks, held.quantity, held.status) == (97, 3, OrderStatus.SUSPENDED)
    assert [change.client_order_id for change in room.scripted.replaced] == ["rests"]
    assert room.statuses("rests")[-1] is OrderStatus.PENDING_REPLACE


def test_one_stop_that_the_gate_holds_up_does_not_keep_another_waiting(room: Room) -> None:
    # Flat: the reduce-only one may not go, the other one may.
    room.tell(submit("open", Side.BUY, 2, limit_ticks=101), fill(2, 101, "t1", "open"))
    room.tell(stop("first", stop_ticks=95, quantity=2, reduce_only=True))
    room.tell(submit("other", Side.SELL, 2, limit_ticks=103, reduce_only=True), report(ReportKind.ACCEPTED, "other"))
    room.tell(stop("second", stop_ticks=94, quantity=1))
    market(room, 90, 91)

    assert "second" in room.scripted.submitted


def test_a_held_day_order_expires_with_the_session_and_a_dated_one_on_time(room: Room) -> None:
    soon = room.clock.now_ns() + NS_PER_S
    room.tell(stop("day"), stop("dated", time_in_force=TimeInForce.GTD, expire_ns=soon), stop("kept", time_in_force=TimeInForce.GTC))
    market(room, 99, 101)
    market(room, 99, 101)
    assert room.statuses("dated")[-1] is OrderStatus.EXPIRED
    room.show(SessionChanged(instrument_id="A.X", ts_event=1, is_open=False, reason="break"))

    assert room.statuses("day")[-1] is OrderStatus.EXPIRED
    assert room.statuses("kept")[-1] is OrderStatus.SUSPENDED


def test_a_trailing_stop_comes_back_after_a_restart_where_it_was() -> None:
    journal = Journal(":memory:")
    room = Room(journal)
    room.tell(submit("trail", Side.SELL, 2, limit_ticks=None, order_type=OrderType.TRAILING_STOP, trail_ticks=3))
    for bid in (103, 107, 105):
        market(room, bid, bid + 2)
    again = Room(journal)
    again.execution.recover()
    again.execution.reconcile()
    (order,) = again.execution.open_orders()
    assert (order.status, order.stop_ticks, again.scripted.asked) == (OrderStatus.SUSPENDED, 104, [])

    market(again, 104, 105)
    assert again.scripted.submitted == ["trail"]


@pytest.mark.parametrize("at", ["before the entry fills", "in position", "stop set off"])
def test_a_bracket_survives_a_kill_at_any_stage(at: str) -> None:
    journal = Journal(":memory:")
    room = paper(journal)
    command = bracket(room)
    if at == "before the entry fills":
        _, *legs = command.orders
        resting = submit("entry", Side.BUY, 2, limit_ticks=99, ts_event=room.clock.now_ns(), time_in_force=TimeInForce.GTC)
        command = SubmitList(strategy_id="s", ts_event=command.ts_event, orders=(resting, *legs))
    room.tell(command)
    room.wait(0.1)
    if at == "stop set off":
        room.show(book((95,), (96,), ts=room.clock.now_ns(), sequence=2))  # killed before the venue confirms that the target is gone

    again = paper(journal)
    again.clock.advance_to(room.clock.now_ns())
    again.execution.recover()
    again.execution.reconcile()
    again.wait(0.1)
    market(again, 98, 99)  # fills an entry that still rests
    again.wait(0.1)
    market(again, 95, 96)
    market(again, 95, 96)
    again.wait(0.1)

    assert again.execution.position("s", "A.X") == 0
    assert again.statuses("stop")[-1] is OrderStatus.FILLED
    assert again.execution.open_orders() == ()
    position = again.execution.portfolio.position("s", "A.X")
    assert position.fees == Decimal("0.85") * 4 or position.fees == Decimal("0.85") * 2 + Decimal("0.25") * 2
