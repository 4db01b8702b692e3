from __future__ import annotations

from typing import Any

import pytest

from framework.errors import OffTickPrice
from framework.messages import OrderUpdated, ReplaceOrder, SubmitList, SubmitOrder
from framework.model import NS_PER_S, OrderStatus, OrderType, Side, TimeInForce, TriggerPrice
from framework.strategy import Recovered, Strategy
from framework.strategy.ordering import Bracket
from tests.test_strategy import START_NS, House


@pytest.fixture
def house() -> House:
    return House()


def started(house: House) -> Any:
    return house.run(Strategy)


def told(house: House) -> list[Any]:
    house.drain()
    return house.execution.heard


@pytest.mark.parametrize(
    ("options", "order_type", "prices"),
    [
        ({}, OrderType.MARKET, (None, None, None)),
        ({"limit_ticks": 100}, OrderType.LIMIT, (100, None, None)),
        ({"limit_price": "25.00"}, OrderType.LIMIT, (100, None, None)),
        ({"stop_ticks": 104}, OrderType.STOP, (None, 104, None)),
        ({"stop_price": "26.00"}, OrderType.STOP, (None, 104, None)),
        ({"stop_ticks": 104, "limit_ticks": 106}, OrderType.STOP_LIMIT, (106, 104, None)),
        ({"trail_ticks": 8}, OrderType.TRAILING_STOP, (None, None, 8)),
        ({"trail_ticks": 8, "stop_ticks": 104}, OrderType.TRAILING_STOP, (None, 104, 8)),
    ],
)
def test_the_prices_of_an_order_say_its_type(
    house: House, options: dict[str, Any], order_type: OrderType, prices: tuple[int | None, ...]
) -> None:
    strategy = started(house)
    order_id = strategy.buy(2, **options)
    (order,) = told(house)

    assert isinstance(order, SubmitOrder)
    assert (order.client_order_id, order.order_type) == (order_id, order_type)
    assert (order.limit_ticks, order.stop_ticks, order.trail_ticks) == prices
    is_waiting = order_type.is_stop
    assert strategy.open_orders[order_id].status is (OrderStatus.SUSPENDED if is_waiting else OrderStatus.PENDING_NEW)


def test_the_other_options_reach_the_order(house: House) -> None:
    strategy = started(house)
    strategy.sell(1, limit_ticks=100, time_in_force=TimeInForce.GTC, post_only=True, reduce_only=True)
    strategy.sell(1, stop_ticks=90, expires_s=2.5, trigger=TriggerPrice.LAST)
    first, second = told(house)

    assert (first.time_in_force, first.post_only, first.reduce_only, first.expire_ns) == (TimeInForce.GTC, True, True, None)
    assert (second.time_in_force, second.expire_ns) == (TimeInForce.GTD, START_NS + 5 * NS_PER_S // 2)
    assert second.trigger is TriggerPrice.LAST


@pytest.mark.parametrize(
    "options",
    [
        {"limit_ticks": 1, "limit_price": "0.25"},
        {"stop_ticks": 1, "stop_price": "0.25"},
        {"expires_s": 0.0},
        {"expires_s": float("nan")},
        {"expires_s": 5.0, "time_in_force": TimeInForce.IOC},
    ],
)
def test_options_that_contradict_each_other_are_refused(house: House, options: dict[str, Any]) -> None:
    strategy = started(house)

    with pytest.raises(ValueError, match="s1: "):
        strategy.buy(1, **options)
    assert told(house) == []
    assert strategy.open_orders == {}


def test_a_price_between_two_ticks_is_refused_for_stops_and_targets_too(house: House) -> None:
    strategy = started(house)

    for options in ({"stop_price": "25.10"}, {"target_price": "25.10", "stop_ticks": 90}):
        with pytest.raises(OffTickPrice, match="tick size"):
            strategy.bracket(Side.BUY, 1, **options)
    assert told(house) == []


def test_a_bracket_is_one_list_with_legs_bound_to_the_entry_and_to_each_other(house: House) -> None:
    strategy = started(house)
    ids = strategy.bracket(Side.BUY, 3, limit_ticks=100, target_ticks=110, stop_ticks=95, decision_id="d1")
    (command,) = told(house)

    assert isinstance(command, SubmitList)
    entry, target, stop = command.orders
    assert ids == Bracket(entry.client_order_id, target.client_order_id, stop.client_order_id)
    assert (entry.side, entry.order_type, entry.parent_id, entry.oco_id, entry.reduce_only) == (Side.BUY, OrderType.LIMIT, "", "", False)
    for leg in (target, stop):
        assert (leg.side, leg.quantity, leg.parent_id, leg.oco_id) == (Side.SELL, 3, ids.entry, ids.entry)
        assert (leg.reduce_only, leg.time_in_force, leg.decision_id) == (True, TimeInForce.GTC, "d1")
    assert (target.order_type, target.limit_ticks, stop.order_type, stop.stop_ticks) == (OrderType.LIMIT, 110, OrderType.STOP, 95)
    assert [order.status for order in strategy.open_orders.values()] == [OrderStatus.PENDING_NEW, *[OrderStatus.SUSPENDED] * 2]


def test_a_bracket_may_have_one_leg_but_not_none(house: House) -> None:
    strategy = started(house)
    ids = strategy.bracket(Side.SELL, 1, trail_ticks=4)
    (command,) = told(house)

    assert (ids.target, len(command.orders), command.orders[1].order_type) == (None, 2, OrderType.TRAILING_STOP)
    with pytest.raises(ValueError, match="a bracket needs a target or a stop"):
        strategy.bracket(Side.BUY, 1)


def test_orders_of_a_group_are_sent_as_one_list(house: House) -> None:
    strategy = started(house)
    low, high = strategy.make_order(Side.BUY, 1, limit_ticks=90), strategy.make_order(Side.BUY, 1, stop_ticks=110)
    assert (told(house), strategy.open_orders) == ([], {})

    ids = strategy.send_oco(low, high)
    (command,) = told(house)
    assert [order.client_order_id for order in command.orders] == list(ids) == list(strategy.open_orders)
    assert {order.oco_id for order in command.orders} == {ids[0]}


def test_an_amendment_names_only_what_changes(house: House) -> None:
    strategy = started(house)
    order_id = strategy.buy(2, limit_ticks=100)

    assert strategy.amend(order_id, quantity=1, limit_price="24.75")
    assert not strategy.amend("never-sent", quantity=1)
    assert told(house)[1:] == [
        ReplaceOrder(client_order_id=order_id, strategy_id="s1", ts_event=START_NS, quantity=1, limit_ticks=99, stop_ticks=None)
    ]


def test_a_protective_stop_of_the_run_before_is_not_taken_for_a_close(house: House) -> None:
    stop = OrderUpdated(
        client_order_id="s1-5",
        strategy_id="s1",
        instrument_id="TIDE.SIM",
        ts_event=1,
        side=Side.SELL,
        quantity=2,
        filled_quantity=0,
        average_ticks=None,
        limit_ticks=None,
        status=OrderStatus.SUSPENDED,
        order_type=OrderType.STOP,
        stop_ticks=90,
    )
    strategy = house.run(Strategy, recovered=Recovered(position_lots=2, average_ticks=100.0, open_orders=(stop,)))

    assert not strategy.is_closing
