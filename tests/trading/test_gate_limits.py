"""The steps of the gate beyond the order by itself: each at its limit passes, one beyond is denied with its code and numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from framework.config import AccountLimits, RiskLimits, ScopeLimits
from framework.errors import ConfigError
from framework.messages import ReplaceOrder
from framework.model import NS_PER_S, OrderType, Side, TradingState
from framework.trading.orders import Order
from framework.trading.risk import Approved, Denied, LimitBook, RiskGate, Tick, Tightening
from framework.trading.risk.checks import CODES
from framework.trading.risk.view import Loss
from tests.trading.conftest import NOW, submit
from tests.trading.test_risk import View, code

ZERO = Decimal(0)


def gate(**limits: Any) -> RiskGate:
    base: dict[str, Any] = {"max_intent_age_s": 1e6, "duplicate_window_s": 0.0, "max_orders_per_minute": 0}
    return RiskGate(RiskLimits(**base | limits))


def said(found: object) -> str:
    return str(found) if isinstance(found, Denied) else "APPROVED"


def lost(day: int = 0, drawdown: int = 0, losses: int = 0, fills: int = 0) -> Loss:
    return Loss(Decimal(-day), Decimal(drawdown), losses, fills)


# --- 1 to 4 ------------------------------------------------------------------------------------------------------------------


def test_a_kill_switch_from_outside_closes_the_gate_whatever_the_state() -> None:
    assert said(gate().check(submit(), View(is_dead=True), NOW)) == "HALTED the kill switch is set"


def test_nothing_goes_before_reconciliation_or_while_the_session_is_closed() -> None:
    assert said(gate().check(submit(), View(unready="still asking"), NOW)) == "NOT_READY still asking"
    assert said(gate().check(submit(), View(is_open=False), NOW)) == "INSTRUMENT the session is closed"


def test_the_first_step_that_fails_decides() -> None:
    broken = View(is_dead=True, unready="x", is_healthy=False, is_open=False, last=None)
    order = submit(quantity=99, limit_ticks=None)

    assert code(gate().check(order, broken, NOW)) == "HALTED"
    assert (
        CODES.index("JOURNAL") < CODES.index("BOOK") < CODES.index("MAX_POSITION") < CODES.index("DAILY_LOSS") < CODES.index("SELF_TRADE")
    )


# --- 7 and 8 -----------------------------------------------------------------------------------------------------------------


def test_a_price_below_zero_goes_only_where_the_market_is_below_zero() -> None:
    assert code(gate(price_collar_ticks=1_000).check(submit(limit_ticks=0), View(), NOW)) == "PRICE"


@pytest.mark.parametrize(("trade", "expected"), [(70, "APPROVED"), (69, "LAST_TRADE distance_ticks=31 limit=30")])
def test_a_price_is_held_against_the_last_trade_too(trade: int, expected: str) -> None:
    view = View(trade=Tick(trade, NOW))

    assert said(gate(last_trade_collar_ticks=30).check(submit(limit_ticks=100), view, NOW)) == expected


def test_an_old_trade_says_nothing() -> None:
    view = View(trade=Tick(1, NOW - 6 * NS_PER_S))

    assert isinstance(gate(last_trade_collar_ticks=30).check(submit(), view, NOW), Approved)


@pytest.mark.parametrize(("most", "expected"), [("2000", "APPROVED"), ("1999", "MAX_ORDER_NOTIONAL")])
def test_the_money_of_an_order_is_held_against_its_limit(most: str, expected: str) -> None:
    found = gate(max_order_notional=Decimal(most)).check(submit(quantity=2), View(), NOW)  # 2 lots x 100 ticks x 10

    assert said(found).split()[0] == expected


# --- 9 and 10: scopes --------------------------------------------------------------------------------------------------------


def test_a_strategy_may_have_tighter_limits_and_not_looser_ones() -> None:
    limits = RiskLimits(max_position=20, strategies={"s": ScopeLimits(max_position=3), "t": ScopeLimits(max_position=30)})

    assert said(RiskGate(limits).check(submit(quantity=4), View(), NOW)) == "MAX_POSITION worst=4 limit=3"
    assert said(RiskGate(limits).check(submit(quantity=5, strategy_id="t"), View(lots=20), NOW)) == "MAX_POSITION worst=25 limit=20"


def test_an_instrument_counts_all_strategies_and_the_account_too() -> None:
    view = View(lots=0, account_lots=8, account_open={Side.BUY: 1})

    of_instrument = RiskLimits(instruments={"A.X": ScopeLimits(max_position=10)})
    of_account = RiskLimits(account=AccountLimits(max_position=10))
    assert isinstance(RiskGate(of_instrument).check(submit(quantity=1), view, NOW), Approved)
    assert said(RiskGate(of_instrument).check(submit(quantity=2), view, NOW)) == "MAX_POSITION scope=instrument worst=11 limit=10"
    assert said(RiskGate(of_account).check(submit(quantity=2), view, NOW)) == "MAX_POSITION scope=account worst=11 limit=10"


def test_open_orders_are_counted_over_the_account() -> None:
    limits = RiskLimits(account=AccountLimits(max_open_orders=3))

    assert isinstance(RiskGate(limits).check(submit(), View(account_count=2), NOW), Approved)
    assert said(RiskGate(limits).check(submit(), View(account_count=3), NOW)) == "MAX_OPEN_ORDERS scope=account open=3 limit=3"


def test_gross_exposure_counts_other_instruments_and_the_worst_of_both_sides() -> None:
    view = View(elsewhere=Decimal(5_000), account_lots=2, account_open={Side.SELL: 9})

    # At worst 7 short: 7 x 1,000 + 5,000; the buy does not make that worse.
    assert isinstance(RiskGate(RiskLimits(account=AccountLimits(max_gross_notional=Decimal(12_000)))).check(submit(), view, NOW), Approved)
    denied = RiskGate(RiskLimits(account=AccountLimits(max_gross_notional=Decimal(11_999)))).check(submit(), view, NOW)
    assert said(denied) == "GROSS_EXPOSURE gross=12000.00 limit=11999"


def test_margin_is_covered_by_cash_and_profit() -> None:
    limits = RiskLimits(account=AccountLimits(cash=Decimal(90), margin_share=0.1))

    assert isinstance(RiskGate(limits).check(submit(), View(profit=Decimal(10)), NOW), Approved)  # 1,000 x 0.1
    assert said(RiskGate(limits).check(submit(), View(profit=Decimal(9)), NOW)) == "MARGIN margin=100.00 available=99.00"
    assert code(RiskGate(limits).check(submit(), View(profit=Decimal("NaN")), NOW)) == "MARGIN"


def test_a_margin_by_the_lot_takes_the_place_of_the_share_where_the_venue_names_one() -> None:
    limits = RiskLimits(account=AccountLimits(cash=Decimal(300), margin_share=0.1))

    assert said(RiskGate(limits).check(submit(quantity=3), View(per_lot=Decimal(100)), NOW)) == "APPROVED"
    held = View(per_lot=Decimal(100), lots=2, open={Side.SELL: 1, Side.BUY: 1})
    assert said(RiskGate(limits).check(submit(quantity=1), held, NOW)) == "MARGIN margin=400.00 available=300.00"
    elsewhere = View(per_lot=Decimal(100), elsewhere=Decimal(10))
    assert said(RiskGate(limits).check(submit(quantity=3), elsewhere, NOW)) == "MARGIN margin=301.00 available=300.00"


# --- 11: how it went ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "before", "beyond", "denial"),
    [
        ({"max_daily_loss": Decimal(100)}, lost(day=99), lost(day=100), "DAILY_LOSS scope=strategy lost=100.00 limit=100"),
        ({"max_drawdown": Decimal(100)}, lost(drawdown=99), lost(drawdown=100), "DRAWDOWN scope=strategy lost=100.00 limit=100"),
        ({"max_consecutive_losses": 3}, lost(losses=2), lost(losses=3), "CONSECUTIVE_LOSSES scope=strategy losses=3 limit=3"),
        ({"max_fills_unattended": 5}, lost(fills=4), lost(fills=5), "FILLS_UNATTENDED scope=strategy fills=5 limit=5"),
    ],
)
def test_what_was_lost_closes_the_way_in_and_leaves_the_way_out(limits: dict[str, Any], before: Loss, beyond: Loss, denial: str) -> None:
    one = gate(**limits)
    view = View(lots=5, losses={("s", None): beyond})

    assert isinstance(one.check(submit("o1"), View(losses={("s", None): before}), NOW), Approved)
    assert said(one.check(submit("o2"), view, NOW)) == denial
    assert isinstance(one.check(submit("o3", Side.SELL, 5), view, NOW), Approved)


def test_a_loss_that_is_no_number_denies() -> None:
    nothing = Loss(Decimal("NaN"), ZERO, 0, 0)

    assert code(gate(max_daily_loss=Decimal(100)).check(submit(), View(losses={("s", None): nothing}), NOW)) == "DAILY_LOSS"


def test_shortly_before_the_session_ends_only_the_way_out_is_open() -> None:
    one = gate(session_ends_hour_utc=1.0, flat_before_session_end_s=60.0)
    end_ns = 3_600 * NS_PER_S

    def at(left_s: int, order: Any, view: View) -> str:
        now_ns = end_ns - left_s * NS_PER_S
        assert view.last is not None
        fresh = replace(view, last=type(view.last)(**{n: getattr(view.last, n) for n in view.last.__struct_fields__} | {"ts_recv": now_ns}))
        return said(one.check(order, fresh, now_ns))

    assert at(61, submit("o1"), View()) == "APPROVED"
    assert at(60, submit("o2"), View()) == "SESSION_END ends_in_s=60.0 limit=60"
    assert at(10, submit("o3", Side.SELL), View(lots=1)) == "APPROVED"


# --- 12 to 16 ------------------------------------------------------------------------------------------------------------------


def test_rates_are_counted_by_scope_in_a_second_and_in_a_minute() -> None:
    one = RiskGate(RiskLimits(max_intent_age_s=1e6, duplicate_window_s=0.0, account=AccountLimits(max_orders_per_minute=2)))
    for n, strategy_id in enumerate(("s", "t")):
        assert isinstance(one.check(submit(f"o{n}", strategy_id=strategy_id), View(), NOW), Approved)

    assert said(one.check(submit("o8"), View(), NOW + NS_PER_S)) == "ORDER_RATE scope=account last_minute=2 limit=2"


def test_money_in_a_minute_is_counted() -> None:
    one = gate(max_notional_per_minute=Decimal(2_000))
    assert isinstance(one.check(submit("o1", quantity=1), View(), NOW), Approved)

    assert code(one.check(submit("o2", quantity=2), View(), NOW)) == "NOTIONAL_RATE"
    assert isinstance(one.check(submit("o3", quantity=1), View(), NOW), Approved)


def test_the_same_order_again_is_a_duplicate_until_something_makes_it_a_new_one() -> None:
    one = gate(duplicate_window_s=1.0)
    assert isinstance(one.check(submit("o1"), View(), NOW), Approved)

    assert said(one.check(submit("o2"), View(), NOW + NS_PER_S - 1)) == "DUPLICATE of=o1 age_s=1.000 window=1"
    assert isinstance(one.check(submit("o3", limit_ticks=101), View(), NOW), Approved)
    one.recent.forget("s", "A.X", "o1")
    assert isinstance(one.check(submit("o4"), View(), NOW), Approved)
    assert isinstance(one.check(submit("o5"), View(), NOW + NS_PER_S), Approved)
    assert isinstance(one.check(submit("o6", Side.SELL), View(), NOW + NS_PER_S), Approved)
    assert isinstance(one.check(submit("o7"), View(), NOW + NS_PER_S), Approved)


@pytest.mark.parametrize(
    ("side", "own", "limit_ticks", "expected"),
    [
        (Side.BUY, {Side.SELL: 101}, 101, "SELF_TRADE own=101 limit_ticks=101"),
        (Side.BUY, {Side.SELL: 102}, 101, "APPROVED"),
        (Side.SELL, {Side.BUY: 99}, 99, "SELF_TRADE own=99 limit_ticks=99"),
        (Side.SELL, {Side.BUY: 98}, 99, "APPROVED"),
        (Side.BUY, {Side.BUY: 101}, 101, "APPROVED"),
        (Side.BUY, {Side.SELL: 101}, None, "SELF_TRADE own=101 limit_ticks=100"),
    ],
)
def test_an_order_that_could_meet_one_of_ours_is_denied(side: Side, own: dict[Side, int], limit_ticks: int | None, expected: str) -> None:
    assert said(gate().check(submit(side=side, limit_ticks=limit_ticks), View(resting=own), NOW)) == expected


def test_a_market_order_stops_short_of_our_own_order() -> None:
    found = gate().check(submit(limit_ticks=None), View(resting={Side.SELL: 110}), NOW)

    assert isinstance(found, Approved)
    assert found.order.limit_ticks == 109


def test_an_order_and_its_prediction_may_be_as_old_as_their_limits() -> None:
    one = gate(max_intent_age_s=1.0, max_prediction_age_s=2.0)

    assert isinstance(one.check(submit("o1"), View(), NOW + NS_PER_S), Approved)
    assert code(one.check(submit("o2"), View(), NOW + NS_PER_S + 1)) == "INTENT_AGE"
    assert isinstance(one.check(submit("o3", as_of_ns=NOW - 2 * NS_PER_S), View(), NOW), Approved)
    assert code(one.check(submit("o4", as_of_ns=NOW - 2 * NS_PER_S - 1), View(), NOW)) == "PREDICTION_AGE"
    assert isinstance(one.check(submit("o5", Side.SELL, as_of_ns=1), View(lots=1), NOW), Approved)


# --- cancels, changes, the operator ------------------------------------------------------------------------------------------


def test_cancels_have_a_throttle_of_their_own_and_nothing_else() -> None:
    one = gate(max_cancels_per_second=2)

    assert [one.may_cancel("s", NOW) for _ in range(2)] == [None, None]
    assert said(one.may_cancel("s", NOW)) == "CANCEL_RATE last_second=2 limit=2"
    assert one.may_cancel("t", NOW) is None
    assert one.may_cancel("s", NOW + NS_PER_S) is None


def test_a_change_is_held_to_the_limits_and_a_smaller_size_is_always_welcome() -> None:
    order = Order(submit(quantity=5))

    def change(view: View, **terms: Any) -> str:
        command = ReplaceOrder(client_order_id="o1", strategy_id="s", ts_event=NOW, **terms)
        found = gate(max_position=6).check_replace(order, command, view, NOW)
        return "fine" if found is None else found.code

    assert change(View(), quantity=6) == "fine"
    assert change(View(), quantity=7) == "MAX_POSITION"
    assert change(View(), limit_ticks=500) == "PRICE_COLLAR"
    assert change(View(last=None, lots=99), quantity=4) == "fine"
    assert change(View(state=TradingState.HALTED), quantity=4) == "HALTED"
    assert change(View(), quantity=math.nan) == "MAX_ORDER_QUANTITY"


def test_the_operator_closes_a_position_past_limits_and_halt_but_opens_none() -> None:
    one, view = gate(max_position=1), View(state=TradingState.HALTED, lots=50)
    close = submit("f1", Side.SELL, 50, limit_ticks=None, order_type=OrderType.MARKET, reduce_only=True)

    assert isinstance(one.check_by_operator(close, view, NOW), Approved)
    assert code(one.check_by_operator(submit("f2", Side.BUY, 1, reduce_only=True), view, NOW)) == "REDUCE_ONLY"


# --- tightening --------------------------------------------------------------------------------------------------------------


def test_a_limit_is_made_tighter_at_run_time_and_never_looser() -> None:
    one = gate(max_position=20)
    assert one.limits.tighten(Tightening(scope="strategy:s", key="max_position", value="3")) == 0

    assert said(one.check(submit("o1", quantity=4), View(), NOW)) == "MAX_POSITION worst=4 limit=3"
    assert isinstance(one.check(submit("o2", quantity=4, strategy_id="t"), View(), NOW), Approved)
    for scope, key, value in (
        ("strategy:s", "max_position", "3"),
        ("strategy:s", "max_position", "4"),
        ("strategies", "max_position", "nan"),
        ("strategies", "max_position", "1.5"),
        ("strategies", "max_position", "-1"),
        ("strategies", "cash", "1"),
        ("somewhere", "max_position", "1"),
        ("strategies", "max_positions", "1"),
    ):
        with pytest.raises(ConfigError, match="limits: found"):
            one.limits.tighten(Tightening(scope=scope, key=key, value=value))


def test_money_limits_are_exact() -> None:
    book = LimitBook(RiskLimits())
    book.tighten(Tightening(scope="account", key="max_daily_loss", value="1000.10"))

    assert book.scopes("s", "A.X")[-1].get("max_daily_loss") == Decimal("1000.10")
