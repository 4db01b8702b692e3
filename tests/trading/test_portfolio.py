from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.messages import Filled
from framework.model import Instrument, Liquidity, Side
from framework.trading.portfolio import MICRO, Portfolio, Position

INSTRUMENT = Instrument(instrument_id="ES.X", tick_size=Decimal("0.25"), multiplier=Decimal(50))


def fill(strategy_id: str, side: Side, quantity: int, price_ticks: int) -> Filled:
    return Filled(
        client_order_id="o1",
        trade_id="t1",
        strategy_id=strategy_id,
        instrument_id="ES.X",
        ts_event=1,
        side=side,
        quantity=quantity,
        price_ticks=price_ticks,
        fee=Decimal("0.85") * quantity,
        liquidity=Liquidity.TAKER,
    )


def after(*fills: tuple[int, int]) -> Position:
    position = Position(INSTRUMENT)
    for signed_quantity, price_ticks in fills:
        position.apply(signed_quantity, price_ticks, Decimal("0.85") * abs(signed_quantity))
    return position


def test_a_round_trip_books_ticks_times_tick_value() -> None:
    position = after((2, 100), (-2, 103))

    assert (position.quantity, position.realized_pnl, position.fees) == (0, Decimal("75.00"), Decimal("3.40"))


def test_a_short_gains_when_the_price_falls() -> None:
    position = after((-2, 100), (1, 98))

    assert (position.quantity, position.average_ticks, position.realized_pnl) == (-1, 100.0, Decimal("25.00"))
    assert position.unrealized_pnl(97.5) == Decimal("31.25")


def test_a_fill_through_zero_closes_and_opens() -> None:
    position = after((2, 100), (-5, 101))

    assert (position.quantity, position.average_ticks, position.realized_pnl) == (-3, 101.0, Decimal("25.00"))


def test_adding_averages_the_price_and_a_partial_close_keeps_it() -> None:
    position = after((1, 100), (1, 101), (-1, 102))

    assert (position.quantity, position.average_ticks, position.realized_pnl) == (1, 100.5, Decimal("18.75"))


def test_profit_is_exact_beyond_the_28_digits_of_the_usual_context() -> None:
    coin = Instrument(instrument_id="C.X", tick_size=Decimal("0.000000000000000001"), lot_size=Decimal("0.123456789123456789"))
    position = Position(coin)
    position.apply(1, 0, Decimal(0))
    position.apply(-1, 9_007_199_254_740_993, Decimal(0))

    assert position.realized_pnl == Decimal(f"{123_456_789_123_456_789 * 9_007_199_254_740_993}e-36")


def test_looking_at_a_position_does_not_make_one() -> None:
    portfolio = Portfolio({"ES.X": INSTRUMENT})

    assert portfolio.position("s", "ES.X").quantity == 0
    assert portfolio.positions() == {}
    with pytest.raises(KeyError):
        portfolio.position("s", "NQ.X")


def test_the_account_is_the_sum_over_strategies() -> None:
    portfolio = Portfolio({"ES.X": INSTRUMENT})
    portfolio.apply(fill("a", Side.BUY, 3, 100))
    portfolio.apply(fill("b", Side.SELL, 1, 104))
    changed = portfolio.apply(fill("a", Side.SELL, 1, 106))

    assert (changed.quantity, changed.average_ticks, changed.realized_pnl, changed.fees) == (2, 100.0, Decimal("75.00"), Decimal("3.40"))
    account = portfolio.account("ES.X")
    assert (account.quantity, account.realized_pnl, account.fees) == (1, Decimal("75.00"), Decimal("4.25"))
    # Two lots bought at 100 and one sold at 104, marked at 105: 10 - 1 ticks at 12.50.
    assert account.unrealized_pnl(105) == Decimal("112.50")


fills = st.lists(st.tuples(st.integers(-9, 9).filter(bool), st.integers(-50, 50)), max_size=60)


@given(fills)
def test_no_money_is_made_or_lost_by_rounding(script: list[tuple[int, int]]) -> None:
    position = after(*script)

    cash = -sum(quantity * ticks for quantity, ticks in script) * MICRO
    assert position.quantity == sum(quantity for quantity, _ in script)
    assert position.realized - position.open_cost == cash
    assert position.fees == Decimal("0.85") * sum(abs(quantity) for quantity, _ in script)
    if position.quantity == 0:
        assert position.open_cost == 0


@given(fills)
def test_a_mirrored_history_has_the_same_profit_to_a_micro_tick_per_fill(script: list[tuple[int, int]]) -> None:
    ours, mirrored = after(*script), after(*((-quantity, -ticks) for quantity, ticks in script))

    assert abs(ours.realized - mirrored.realized) <= len(script)
