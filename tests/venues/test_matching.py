from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from framework.messages import BookSnapshot, TradeTick
from framework.model import Side
from framework.venues.matching import Execution, MatchingEngine

Levels = list[tuple[int, int]]


class Floor:
    """A matching engine whose events get later and later."""

    def __init__(self, bids: Levels, asks: Levels) -> None:
        self.engine = MatchingEngine()
        self.now = 0
        self.number = 0
        self.book(bids, asks)

    def book(self, bids: Levels, asks: Levels, *, ts: int | None = None) -> list[tuple[int, int]]:
        self.now = self.now + 1 if ts is None else ts
        return _brief(
            self.engine.on_book(
                BookSnapshot(
                    instrument_id="A.X",
                    ts_event=self.now,
                    ts_recv=self.now,
                    sequence=self.now,
                    bid_ticks=tuple(price for price, _ in bids),
                    bid_sizes=tuple(size for _, size in bids),
                    ask_ticks=tuple(price for price, _ in asks),
                    ask_sizes=tuple(size for _, size in asks),
                )
            )
        )

    def trade(self, price_ticks: int, size: int, aggressor: Side | None, *, ts: int | None = None) -> list[tuple[int, int]]:
        self.now = self.now + 1 if ts is None else ts
        tick = TradeTick(
            instrument_id="A.X",
            ts_event=self.now,
            ts_recv=self.now,
            sequence=self.now,
            price_ticks=price_ticks,
            size=size,
            aggressor=aggressor,
        )
        return _brief(self.engine.on_trade(tick))

    def take(self, side: Side, quantity: int, limit_ticks: int | None = None) -> list[tuple[int, int]]:
        self.number += 1
        return _brief(self.engine.take(f"o{self.number}", side, limit_ticks, quantity))

    def rest(self, side: Side, quantity: int, limit_ticks: int) -> str:
        self.number += 1
        self.engine.rest(f"o{self.number}", side, limit_ticks, quantity)
        return f"o{self.number}"

    def ahead(self, client_order_id: str) -> int | None:
        return self.engine.resting[client_order_id].ahead


def _brief(fills: list[Execution]) -> list[tuple[int, int]]:
    return [(fill.quantity, fill.price_ticks) for fill in fills]


def usual() -> Floor:
    return Floor([(99, 10), (98, 20)], [(100, 5), (101, 8)])


def test_a_taker_walks_the_levels_within_its_limit() -> None:
    assert usual().take(Side.BUY, 20) == [(5, 100), (8, 101)]
    assert usual().take(Side.BUY, 20, 100) == [(5, 100)]
    assert usual().take(Side.SELL, 12) == [(10, 99), (2, 98)]
    assert usual().take(Side.BUY, 1, 99) == []


def test_what_was_taken_is_not_offered_again() -> None:
    floor = usual()

    assert floor.take(Side.BUY, 4, 100) == [(4, 100)]
    assert floor.take(Side.BUY, 4, 100) == [(1, 100)]
    floor.book([(99, 10)], [(100, 5), (101, 8)])
    assert floor.take(Side.BUY, 4, 100) == []


def test_a_level_that_grows_offers_what_it_grew_by() -> None:
    floor = usual()
    floor.take(Side.BUY, 5, 100)
    floor.book([(99, 10)], [(100, 9), (101, 8)])

    assert floor.take(Side.BUY, 9, 100) == [(4, 100)]


def test_a_level_that_shrinks_never_offers_more_than_it_shows() -> None:
    floor = usual()
    floor.take(Side.BUY, 1, 100)
    floor.book([(99, 10)], [(100, 3), (101, 8)])

    assert floor.take(Side.BUY, 9, 100) == [(3, 100)]


def test_a_level_that_shrinks_and_grows_again_offers_only_the_new_lots() -> None:
    floor = usual()
    floor.take(Side.BUY, 5, 100)
    floor.book([(99, 10)], [(100, 2), (101, 8)])
    floor.book([(99, 10)], [(100, 5), (101, 8)])

    assert floor.take(Side.BUY, 9, 100) == [(3, 100)]


def test_a_level_that_disappeared_starts_afresh() -> None:
    floor = usual()
    floor.take(Side.BUY, 5, 100)
    floor.book([(99, 10)], [(101, 8)])
    floor.book([(99, 10)], [(100, 5), (101, 8)])

    assert floor.take(Side.BUY, 9, 100) == [(5, 100)]


def test_a_resting_order_waits_for_the_queue_in_front_of_it() -> None:
    floor = usual()
    floor.rest(Side.BUY, 3, 99)

    assert floor.trade(99, 10, Side.SELL) == []
    assert floor.trade(99, 2, Side.SELL) == [(2, 99)]
    assert floor.trade(99, 2, Side.SELL) == [(1, 99)]
    assert floor.engine.resting == {}


def test_a_trade_by_our_own_side_or_of_an_unknown_aggressor_fills_nothing() -> None:
    floor = usual()
    floor.rest(Side.BUY, 3, 99)

    assert floor.trade(99, 50, Side.BUY) == []
    assert floor.trade(97, 50, None) == []


def test_a_queue_that_shrinks_moves_us_up_to_what_is_displayed_and_one_that_grows_does_not_move_us_back() -> None:
    floor = usual()
    order = floor.rest(Side.BUY, 1, 99)
    floor.book([(99, 4)], [(100, 5)])
    floor.book([(99, 400)], [(100, 5)])

    assert floor.ahead(order) == 4
    assert floor.trade(99, 5, Side.SELL) == [(1, 99)]


def test_a_trade_and_the_book_that_shows_it_move_us_up_once_in_either_order() -> None:
    before, after = usual(), usual()
    first, second = before.rest(Side.BUY, 1, 99), after.rest(Side.BUY, 1, 99)
    before.trade(99, 6, Side.SELL, ts=50)
    before.book([(99, 4)], [(100, 5)], ts=50)
    after.book([(99, 4)], [(100, 5)], ts=50)

    assert after.trade(99, 6, Side.SELL, ts=50) == []
    assert before.ahead(first) == after.ahead(second) == 4


def test_a_late_trade_that_is_larger_than_what_the_book_took_away_goes_on_to_us() -> None:
    floor = usual()
    floor.rest(Side.BUY, 5, 99)
    floor.book([(98, 20)], [(100, 5)], ts=50)

    assert floor.trade(99, 12, Side.SELL, ts=50) == [(2, 99)]


def test_a_price_between_the_levels_has_nobody_ahead() -> None:
    floor = Floor([(97, 10)], [(100, 5)])

    assert floor.ahead(floor.rest(Side.BUY, 1, 98)) == 0


def test_an_order_deeper_than_the_book_shows_joins_behind_all_that_comes_into_view() -> None:
    floor = usual()
    order = floor.rest(Side.BUY, 1, 90)
    floor.book([(95, 10)], [(96, 5)])

    assert floor.ahead(order) is None
    assert floor.trade(90, 50, Side.SELL) == []
    floor.book([(91, 10), (90, 70)], [(92, 5)])
    assert floor.ahead(order) == 70


def test_a_level_that_goes_out_of_view_keeps_our_place() -> None:
    floor = usual()
    order = floor.rest(Side.BUY, 1, 98)
    floor.book([(109, 10)], [(110, 5)])

    assert floor.ahead(order) == 20


def test_an_empty_side_says_nothing_about_our_place() -> None:
    floor = usual()
    order = floor.rest(Side.BUY, 1, 99)
    floor.book([], [(100, 5)])

    assert floor.ahead(order) == 10


def test_a_trade_through_our_price_fills_us_up_to_its_size_and_puts_us_first() -> None:
    floor = usual()
    order = floor.rest(Side.SELL, 5, 101)

    assert floor.trade(102, 2, Side.BUY) == [(2, 101)]
    assert floor.ahead(order) == 0
    assert floor.trade(101, 9, Side.BUY) == [(3, 101)]


def test_one_trade_is_shared_by_our_orders_in_price_and_time_priority() -> None:
    floor = Floor([(97, 4)], [(100, 5)])
    floor.rest(Side.BUY, 3, 97)
    floor.rest(Side.BUY, 2, 98)
    floor.rest(Side.BUY, 9, 97)

    assert floor.trade(97, 11, Side.SELL) == [(2, 98), (3, 97), (2, 97)]


def test_orders_of_ours_at_one_price_have_the_same_others_ahead() -> None:
    floor = usual()
    floor.rest(Side.BUY, 1, 99)
    second = floor.rest(Side.BUY, 1, 99)
    floor.trade(99, 10, Side.SELL)

    assert floor.ahead(second) == 0


def test_a_book_that_reaches_our_price_fills_us_from_what_it_shows_at_our_price() -> None:
    floor = usual()
    floor.rest(Side.BUY, 9, 99)

    assert floor.book([(97, 1)], [(98, 4), (99, 3), (100, 50)]) == [(4, 99), (3, 99)]
    assert floor.book([(97, 1)], [(98, 4), (99, 3), (100, 50)]) == []
    assert floor.book([(97, 1)], [(98, 6), (99, 3)]) == [(2, 99)]


def test_a_crossing_book_serves_the_better_price_first() -> None:
    floor = usual()
    floor.rest(Side.SELL, 5, 105)
    floor.rest(Side.SELL, 5, 103)

    assert floor.book([(106, 7)], [(107, 1)]) == [(5, 103), (2, 105)]


def test_a_closed_session_leaves_no_book_to_trade_with() -> None:
    floor = usual()
    floor.engine.close()

    assert floor.take(Side.BUY, 1) == []
    assert floor.ahead(floor.rest(Side.BUY, 1, 99)) is None


sizes = st.integers(1, 9)
sides = st.sampled_from(Side)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), sides, sizes, st.integers(-4, 4)),
        st.tuples(st.just("rest"), sides, sizes, st.integers(-4, 4)),
        st.tuples(st.just("trade"), sides, sizes, st.integers(-4, 4)),
        st.tuples(st.just("book"), sides, sizes, st.integers(-3, 3)),
    ),
    max_size=40,
)


@given(steps)
def test_fills_never_exceed_what_the_market_showed_and_traded(script: list[tuple[str, Side, int, int]]) -> None:
    floor = Floor([(-1, 5), (-2, 6)], [(1, 5), (2, 6)])
    growth: dict[tuple[Side, int], int] = {(Side.SELL, -1): 5, (Side.SELL, -2): 6, (Side.BUY, 1): 5, (Side.BUY, 2): 6}
    shown = dict(growth)
    printed = took = filled_by_trades = filled_by_books = 0
    for kind, side, size, price in script:
        if kind == "take":
            took += sum(quantity for quantity, _ in floor.take(side, size, price))
        elif kind == "rest":
            # As at the venue: an order rests with what it cannot take.
            left = size - sum(quantity for quantity, _ in floor.take(side, size, price))
            took += size - left
            if left:
                floor.rest(side, left, price)
        elif kind == "trade":
            printed += size
            filled_by_trades += sum(quantity for quantity, _ in floor.trade(price, size, side))
        else:
            bids, asks = [(price - 1, size), (price - 2, 6)], [(price + 1, size), (price + 2, 6)]
            now = {(Side.SELL, at): lots for at, lots in bids} | {(Side.BUY, at): lots for at, lots in asks}
            for key, lots in now.items():
                growth[key] = growth.get(key, 0) + max(0, lots - shown.get(key, 0))
            shown = now
            filled_by_books += sum(quantity for quantity, _ in floor.book(bids, asks))
    assert filled_by_trades <= printed
    assert took + filled_by_books <= sum(growth.values())
    assert all(order.open_quantity > 0 and (order.ahead is None or order.ahead >= 0) for order in floor.engine.resting.values())
