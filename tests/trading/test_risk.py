from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.config import RiskLimits
from framework.messages import BookSnapshot, SubmitOrder
from framework.model import NS_PER_S, OrderType, Side, TradingState
from framework.trading.risk import Approved, Denied, RiskGate, Tick, Verdict
from framework.trading.risk.view import Loss
from tests.trading.conftest import NOW, book, submit

LIMITS = RiskLimits(
    max_order_quantity=10,
    max_position=20,
    price_collar_ticks=40,
    max_orders_per_second=3,
    max_open_orders=5,
    max_book_age_s=5.0,
    max_intent_age_s=60.0,
    duplicate_window_s=0.0,
)
NONSENSE = (math.nan, math.inf, -math.inf, 1.5, True, "2", None, 2**70, -(2**70), 10**5_000)


@dataclass
class View:
    """What the gate looks at, set by hand."""

    state: TradingState = TradingState.ACTIVE
    is_healthy: bool = True
    is_dead: bool = False
    unready: str = ""
    is_open: bool = True
    known_orders: set[str] = field(default_factory=set)
    last: BookSnapshot | None = field(default_factory=book)
    trade: Tick | None = None
    lots: int = 0
    open: dict[Side, int] = field(default_factory=dict)
    open_count: int = 0
    account_lots: int | None = None
    account_open: dict[Side, int] | None = None
    account_count: int | None = None
    resting: dict[Side, int] = field(default_factory=dict)
    elsewhere: Decimal = Decimal(0)
    profit: Decimal = Decimal(0)
    per_lot: Decimal = Decimal(0)
    losses: dict[tuple[str | None, str | None], Loss] = field(default_factory=dict)

    def is_killed(self) -> bool:
        return self.is_dead

    def why_not_ready(self) -> str:
        return self.unready

    def is_journal_healthy(self) -> bool:
        return self.is_healthy

    def knows(self, instrument_id: str) -> bool:
        return instrument_id == "A.X"

    def is_session_open(self, instrument_id: str) -> bool:
        return self.is_open

    def is_known_order(self, client_order_id: str) -> bool:
        return client_order_id in self.known_orders

    def open_intent(self, client_order_id: str) -> SubmitOrder | None:
        return None

    def book(self, instrument_id: str) -> BookSnapshot | None:
        return self.last

    def last_trade(self, instrument_id: str) -> Tick | None:
        return self.trade

    def contract_value(self, instrument_id: str, price_ticks: float) -> Decimal:
        return Decimal(str(price_ticks)) * 10

    def position(self, strategy_id: str | None, instrument_id: str) -> int:
        return self.lots if strategy_id or self.account_lots is None else self.account_lots

    def open_quantity(self, strategy_id: str | None, instrument_id: str, side: Side) -> int:
        return (self.open if strategy_id or self.account_open is None else self.account_open).get(side, 0)

    def open_order_count(self, strategy_id: str | None, instrument_id: str | None) -> int:
        return self.open_count if strategy_id or self.account_count is None else self.account_count

    def best_resting(self, instrument_id: str, side: Side) -> int | None:
        return self.resting.get(side)

    def gross_notional(self, without: str) -> Decimal:
        return self.elsewhere

    def margin_per_lot(self, instrument_id: str) -> Decimal:
        return self.per_lot

    def margin(self, without: str, share: Decimal) -> Decimal:
        return self.elsewhere * share

    def equity(self) -> Decimal:
        return self.profit

    def loss(self, strategy_id: str | None, instrument_id: str | None) -> Loss:
        return self.losses.get((strategy_id, instrument_id), Loss(Decimal(0), Decimal(0), 0, 0))


def check(order: SubmitOrder, view: View | None = None, now_ns: int = NOW) -> Verdict:
    return RiskGate(LIMITS).check(order, view or View(), now_ns)


def code(verdict: Verdict) -> str:
    return verdict.code if isinstance(verdict, Denied) else "APPROVED"


# --- each check at its boundary ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantity", [1, 10])
def test_a_quantity_from_one_to_the_limit_passes(quantity: int) -> None:
    assert isinstance(check(submit(quantity=quantity)), Approved)


@pytest.mark.parametrize("quantity", [-1, 0, 11])
def test_a_quantity_beyond_is_denied_with_its_numbers(quantity: int) -> None:
    assert str(check(submit(quantity=quantity))) == f"MAX_ORDER_QUANTITY quantity={quantity} limit=10"


@pytest.mark.parametrize(("limit_ticks", "expected"), [(60, "APPROVED"), (140, "APPROVED"), (59, "PRICE_COLLAR"), (141, "PRICE_COLLAR")])
def test_a_price_is_denied_one_tick_beyond_the_collar_around_the_mid(limit_ticks: int, expected: str) -> None:
    assert code(check(submit(limit_ticks=limit_ticks))) == expected


def test_the_collar_of_a_mid_between_two_ticks_counts_half_ticks() -> None:
    view = View(last=book((100,), (101,)))  # mid 100.5

    assert isinstance(check(submit(limit_ticks=140), view), Approved)
    assert str(check(submit(limit_ticks=141), view)) == "PRICE_COLLAR distance_ticks=40.5 limit=40"


def test_a_book_may_be_as_old_as_its_limit_and_no_older() -> None:
    assert isinstance(check(submit(), now_ns=NOW + 5 * NS_PER_S), Approved)
    assert code(check(submit(), now_ns=NOW + 5 * NS_PER_S + 1)) == "BOOK"
    assert str(check(submit(), now_ns=NOW + 6 * NS_PER_S)) == "BOOK age_s=6.000 limit=5"


def test_a_book_from_the_future_is_denied_like_an_old_one() -> None:
    assert isinstance(check(submit(), now_ns=NOW - 5 * NS_PER_S), Approved)
    assert code(check(submit(), now_ns=NOW - 5 * NS_PER_S - 1)) == "BOOK"


@pytest.mark.parametrize("last", [None, book((), (101,)), book((99,), ())], ids=["unsound", "no bid", "no ask"])
def test_without_a_sound_two_sided_book_nothing_goes(last: BookSnapshot | None) -> None:
    assert str(check(submit(), View(last=last))) == "BOOK no sound two-sided book"


def test_the_last_open_order_that_fits_passes_and_one_more_is_denied() -> None:
    assert isinstance(check(submit(), View(open_count=4)), Approved)
    assert str(check(submit(), View(open_count=5))) == "MAX_OPEN_ORDERS open=5 limit=5"


@pytest.mark.parametrize(
    ("lots", "waiting", "side", "quantity", "expected"),
    [
        (10, 5, Side.BUY, 5, "APPROVED"),
        (10, 6, Side.BUY, 5, "MAX_POSITION worst=21 limit=20"),
        (-10, 5, Side.SELL, 5, "APPROVED"),
        (-10, 6, Side.SELL, 5, "MAX_POSITION worst=-21 limit=20"),
        (20, 0, Side.SELL, 10, "APPROVED"),
        (20, 31, Side.SELL, 10, "MAX_POSITION worst=-21 limit=20"),
    ],
)
def test_the_position_is_checked_as_if_every_open_order_of_that_side_filled(
    lots: int, waiting: int, side: Side, quantity: int, expected: str
) -> None:
    verdict = check(submit(side=side, quantity=quantity), View(lots=lots, open={side: waiting}))

    assert expected == (str(verdict) if isinstance(verdict, Denied) else "APPROVED")


def test_open_orders_of_the_other_side_do_not_make_room() -> None:
    view = View(lots=20, open={Side.SELL: 10})

    assert code(check(submit(quantity=1), view)) == "MAX_POSITION"


def test_a_reduce_only_order_may_leave_a_position_that_is_over_the_limit() -> None:
    assert isinstance(check(submit(side=Side.SELL, quantity=3, reduce_only=True), View(lots=25)), Approved)


# --- who and when --------------------------------------------------------------------------------------------------------


def test_nothing_passes_while_halted() -> None:
    assert str(check(submit(side=Side.SELL, reduce_only=True), View(state=TradingState.HALTED, lots=5))) == "HALTED trading is halted"


def test_nothing_passes_when_intents_cannot_be_made_durable() -> None:
    assert code(check(submit(), View(is_healthy=False))) == "JOURNAL"


def test_an_instrument_that_does_not_trade_here_is_denied() -> None:
    assert str(check(submit(instrument_id="B.X"))) == "INSTRUMENT instrument_id=B.X"


def test_an_id_that_was_used_is_denied() -> None:
    assert str(check(submit("o7"), View(known_orders={"o7"}))) == "DUPLICATE_ID client_order_id=o7"


@pytest.mark.parametrize(
    ("lots", "side", "waiting", "quantity", "is_approved"),
    [
        (5, Side.SELL, 0, 5, True),
        (5, Side.SELL, 2, 3, True),
        (5, Side.SELL, 2, 4, False),
        (5, Side.SELL, 0, 6, False),
        (5, Side.BUY, 0, 1, False),
        (-5, Side.BUY, 0, 5, True),
        (-5, Side.SELL, 0, 1, False),
        (0, Side.BUY, 0, 1, False),
        (0, Side.SELL, 0, 1, False),
    ],
)
@pytest.mark.parametrize("by", ["state", "order"])
def test_reduce_only_lets_through_what_cannot_enlarge_or_turn_the_position(
    lots: int, side: Side, waiting: int, quantity: int, is_approved: bool, by: str
) -> None:
    view = View(lots=lots, open={side: waiting}, state=TradingState.REDUCE_ONLY if by == "state" else TradingState.ACTIVE)

    verdict = check(submit(side=side, quantity=quantity, reduce_only=by == "order"), view)

    assert code(verdict) == ("APPROVED" if is_approved else "REDUCE_ONLY")


def test_the_rate_is_counted_in_market_time_over_one_second() -> None:
    gate, view = RiskGate(LIMITS), View()
    sent = [gate.check(submit(f"o{n}"), view, NOW + n * NS_PER_S // 10) for n in range(3)]

    assert all(isinstance(verdict, Approved) for verdict in sent)
    assert str(gate.check(submit("o4"), view, NOW + NS_PER_S - 1)) == "ORDER_RATE last_second=3 limit=3"
    assert isinstance(gate.check(submit("o5"), view, NOW + NS_PER_S), Approved)
    assert code(gate.check(submit("o6"), view, NOW + NS_PER_S)) == "ORDER_RATE"


def test_the_gate_remembers_no_order_for_longer_than_the_rate_looks_back() -> None:
    gate, view = (
        RiskGate(RiskLimits(max_orders_per_second=1_000_000, max_orders_per_minute=0, duplicate_window_s=0.0, max_intent_age_s=60.0)),
        View(),
    )
    for n in range(500):
        view.last = book(ts=NOW + n * NS_PER_S // 100)
        gate.check(submit(f"o{n}"), view, NOW + n * NS_PER_S // 100)

        assert max(gate.throttles.sizes().values()) <= 100


def test_denied_orders_and_other_strategies_do_not_use_up_the_rate() -> None:
    gate, view = RiskGate(LIMITS), View()
    for n in range(10):
        gate.check(submit(f"d{n}", quantity=11), view, NOW)
        gate.check(submit(f"t{n}", strategy_id="t"), view, NOW)

    assert isinstance(gate.check(submit("o1"), view, NOW), Approved)


# --- nonsense ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantity", NONSENSE, ids=lambda value: f"{type(value).__name__}")
def test_a_quantity_that_is_no_whole_number_is_denied(quantity: Any) -> None:
    assert code(check(submit(quantity=quantity))) == "MAX_ORDER_QUANTITY"


@pytest.mark.parametrize("limit_ticks", [value for value in NONSENSE if value is not None], ids=lambda value: f"{type(value).__name__}")
def test_a_price_that_is_no_whole_number_is_denied(limit_ticks: Any) -> None:
    assert code(check(submit(limit_ticks=limit_ticks))) == "PRICE"


def test_a_limit_order_needs_a_price_and_a_market_order_has_none() -> None:
    assert code(check(submit(limit_ticks=None, order_type=OrderType.LIMIT))) == "PRICE"
    assert code(check(submit(limit_ticks=100, order_type=OrderType.MARKET))) == "PRICE"


def test_a_book_of_no_known_age_is_denied() -> None:
    unknown = msgspec.structs.replace(book(), ts_recv=math.nan)

    assert code(check(submit(), View(last=unknown))) == "BOOK"


# --- what goes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "edge"), [(Side.BUY, 101 + 40), (Side.SELL, 99 - 40)])
def test_a_market_order_goes_as_a_limit_at_the_edge_of_the_collar(side: Side, edge: int) -> None:
    order = submit(side=side, limit_ticks=None)

    assert check(order) == Approved(msgspec.structs.replace(order, limit_ticks=edge))


def test_a_limit_order_goes_unchanged() -> None:
    order = submit(quantity=3)

    verdict = check(order)

    assert isinstance(verdict, Approved)
    assert verdict.order is order


@given(
    st.integers(-40, 40),
    st.integers(0, 60),
    st.integers(0, 60),
    st.sampled_from(Side),
    st.one_of(st.integers(-3, 15), st.floats(allow_nan=True)),
    st.booleans(),
    st.sampled_from(TradingState),
)
def test_an_approved_order_never_takes_the_worst_case_beyond_the_limit(
    lots: int, buying: int, selling: int, side: Side, quantity: Any, reduce_only: bool, state: TradingState
) -> None:
    view = View(lots=lots, open={Side.BUY: buying, Side.SELL: selling}, state=state)
    verdict = check(submit(side=side, quantity=quantity, reduce_only=reduce_only), view)

    if isinstance(verdict, Approved):
        worst = lots + side.sign * (view.open[side] + quantity)
        assert abs(worst) <= LIMITS.max_position or (reduce_only and abs(worst) < abs(lots) and worst * lots >= 0)
        assert state is not TradingState.HALTED
        if reduce_only or state is TradingState.REDUCE_ONLY:
            assert abs(worst) < abs(lots)
            assert worst * lots >= 0
