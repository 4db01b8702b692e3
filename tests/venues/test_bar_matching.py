"""What a bar fills: the next bar's open for who takes, a price that was traded through for who rests, the worse of two for a stop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.config import PaperConfig
from framework.messages import Bar
from framework.model import NS_PER_S, Liquidity, Side
from framework.venues.bar_matching import BarEngine, HeldStop, Phase, adverse, worse_first
from framework.venues.matching import Execution


def bar(open_: int = 100, high: int = 110, low: int = 90, close: int = 105, *, volume: int = 100) -> Bar:
    return Bar(
        instrument_id="A.X",
        ts_event=60 * NS_PER_S,
        interval_s=60.0,
        open_ticks=open_,
        high_ticks=high,
        low_ticks=low,
        close_ticks=close,
        volume=volume,
        buy_volume=0,
        sell_volume=0,
    )


def opened(one: Bar | None = None, **settings: float) -> BarEngine:
    engine = BarEngine(PaperConfig.model_validate(settings))
    engine.open(one or bar())
    return engine


def test_who_takes_gets_the_open_and_the_slippage() -> None:
    engine = opened(bar_slippage_ticks=2)
    assert engine.take("o1", Side.BUY, None, 3) == [Execution("o1", 3, 102, Liquidity.TAKER)]
    assert engine.take("o2", Side.SELL, None, 3) == [Execution("o2", 3, 98, Liquidity.TAKER)]


def test_nobody_takes_beyond_the_limit() -> None:
    engine = opened()
    assert engine.takeable(Side.BUY, 100, 1) == 0
    assert engine.take("o1", Side.BUY, 100, 1) == []
    assert engine.take("o2", Side.BUY, 101, 1) == [Execution("o2", 1, 101, Liquidity.TAKER)]


def test_an_order_that_comes_after_the_open_trades_in_no_part_of_the_bar() -> None:
    engine = opened()
    engine.go(110, ())
    assert not engine.may_trade("o1")
    assert engine.take("o1", Side.BUY, None, 1) == []
    engine.finish()
    assert engine.phase is Phase.OVER


def test_a_touch_fills_nothing_and_a_tick_beyond_fills_at_the_own_price() -> None:
    engine = opened()
    engine.rest("at", Side.BUY, 90, 1)
    engine.rest("through", Side.BUY, 91, 1)
    assert engine.go(90, ()) == [Execution("through", 1, 91, Liquidity.MAKER)]
    assert engine.go(89, ()) == [Execution("at", 1, 90, Liquidity.MAKER)]


def test_a_touch_fills_where_that_is_asked_for() -> None:
    engine = opened(bar_through_ticks=0)
    engine.rest("at", Side.SELL, 110, 1)
    assert engine.go(110, ()) == [Execution("at", 1, 110, Liquidity.MAKER)]


def test_an_open_beyond_a_resting_price_fills_it_at_its_own() -> None:
    engine = BarEngine(PaperConfig())
    engine.rest("o1", Side.SELL, 95, 1)
    assert engine.open(bar()) == [Execution("o1", 1, 95, Liquidity.MAKER)]


@pytest.mark.parametrize(
    ("side", "stop_ticks", "to", "price"),
    [(Side.SELL, 95, 90, 94), (Side.SELL, 105, 90, 99), (Side.BUY, 105, 110, 106), (Side.BUY, 95, 110, 101)],
    ids=["sell at its price", "sell that opened below", "buy at its price", "buy that opened above"],
)
def test_a_stop_gets_the_worse_of_the_open_and_its_price(side: Side, stop_ticks: int, to: int, price: int) -> None:
    engine = opened()
    engine.go(to, [HeldStop("s1", side, stop_ticks)])
    assert engine.may_trade("s1")
    assert engine.take("s1", side, None, 1) == [Execution("s1", 1, price, Liquidity.TAKER)]


def test_a_stop_on_the_way_back_is_reckoned_from_the_extreme() -> None:
    engine = opened()
    engine.go(110, [])
    engine.go(90, [HeldStop("s1", Side.SELL, 108)])
    assert engine.take("s1", Side.SELL, None, 1) == [Execution("s1", 1, 107, Liquidity.TAKER)]


def test_all_fills_of_a_bar_have_a_share_of_its_volume() -> None:
    engine = opened(bar_volume_share=0.05)
    assert engine.take("o1", Side.BUY, None, 3)[0].quantity == 3
    engine.rest("o2", Side.BUY, 95, 9)
    assert engine.go(90, ()) == [Execution("o2", 2, 95, Liquidity.MAKER)]
    assert engine.go(80, ()) == []
    engine.open(bar(80, 80, 80, 80))
    assert engine.go(70, ()) == [] or engine.resting_sides() == {Side.BUY}


@pytest.mark.parametrize(("volume", "lots"), [(1, 1), (0, 0), (25, 2)])
def test_a_bar_in_which_anything_traded_has_at_least_a_lot(volume: int, lots: int) -> None:
    assert opened(bar(volume=volume)).takeable(Side.BUY, None, 100) == lots


@pytest.mark.parametrize(
    ("lots", "resting", "stops", "first"),
    [
        (1, (), (), 90),
        (-1, (), (), 110),
        (1, (Side.SELL,), (), 90),
        (0, (Side.BUY,), (), 90),
        (0, (Side.SELL,), (), 110),
        (0, (), (HeldStop("s", Side.BUY, 105),), 110),
        (0, (), (HeldStop("s", Side.SELL, 95),), 90),
        (0, (Side.BUY, Side.SELL), (), 90),
        (0, (), (), 90),
    ],
)
def test_the_worse_extreme_comes_first(lots: int, resting: tuple[Side, ...], stops: tuple[HeldStop, ...], first: int) -> None:
    assert worse_first(bar(), lots, resting, stops)[0] == first


def test_the_adverse_extreme_is_the_one_that_hurts() -> None:
    assert [adverse(bar(), lots) for lots in (2, -2, 0)] == [90, 110, None]


@given(
    st.integers(1, 5),
    st.integers(0, 3),
    st.floats(0.01, 1.0),
    st.lists(st.tuples(st.sampled_from(Side), st.integers(80, 120), st.integers(1, 50)), max_size=12),
    st.lists(st.integers(0, 40), min_size=4, max_size=4),
    st.integers(0, 300),
)
def test_no_fill_is_better_than_the_bar_allows(
    slippage: int, through: int, share: float, orders: list[tuple[Side, int, int]], prices: list[int], volume: int
) -> None:
    one = bar(80 + prices[0], 80 + max(prices), 80 + min(prices), 80 + prices[3], volume=volume)
    engine = BarEngine(PaperConfig(bar_slippage_ticks=slippage, bar_through_ticks=through, bar_volume_share=share))
    terms = {f"o{number}": order for number, order in enumerate(orders)}
    fills = engine.open(one)
    for name, (side, limit_ticks, lots) in terms.items():
        taken = engine.take(name, side, limit_ticks, lots)
        fills += taken
        if not taken:
            engine.rest(name, side, limit_ticks, lots)
    for ticks in worse_first(one, 0, engine.resting_sides(), ()):
        fills += engine.go(ticks, ())

    assert sum(fill.quantity for fill in fills) <= max(int(volume * share), 1 if volume else 0)
    for fill in fills:
        side, limit_ticks, lots = terms[fill.client_order_id]
        assert 0 < fill.quantity <= lots
        if fill.liquidity is Liquidity.TAKER:
            assert fill.price_ticks == one.open_ticks + side.sign * slippage
            assert (limit_ticks - fill.price_ticks) * side.sign >= 0
        else:
            worst = one.low_ticks if side is Side.BUY else one.high_ticks
            assert fill.price_ticks == limit_ticks
            assert (limit_ticks - worst) * side.sign >= through
