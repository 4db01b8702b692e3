from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from framework.model import Instrument
from framework.trading.portfolio import MICRO, Position

INSTRUMENT = Instrument(instrument_id="ES.X", tick_size=Decimal("0.25"), multiplier=Decimal(50))


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
