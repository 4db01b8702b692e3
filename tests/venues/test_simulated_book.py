from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.model import Liquidity, Side
from framework.venues.simulated_book import DEPTH, Half, SimulatedBook, Traded

OTHERS = ""


@dataclass
class Queue:
    """One price of the reference book: every single lot, first in first out, by its owner."""

    lots: list[str]

    @property
    def others(self) -> int:
        return self.lots.count(OTHERS)


class ReferenceBook:
    """The same exchange, done the long way: a list of lots for each price. Nothing is counted that could be miscounted."""

    def __init__(self, bid: int, bids: list[int], ask: int, asks: list[int]) -> None:
        self.best = {Side.BUY: bid, Side.SELL: ask}
        self.queues = {
            Side.BUY: {bid - level: Queue([OTHERS] * size) for level, size in enumerate(bids)},
            Side.SELL: {ask + level: Queue([OTHERS] * size) for level, size in enumerate(asks)},
        }
        self.trades: list[tuple[str, int]] = []
        self.unseen: set[str] = set()

    def queue(self, side: Side, price: int) -> Queue:
        return self.queues[side].setdefault(price, Queue([]))

    def in_sight(self, side: Side) -> list[int]:
        return [self.best[side] - side.sign * level for level in range(DEPTH)]

    def cancel(self, side: Side, level: int, size: int, place: float) -> None:
        lots = self.queue(side, self.in_sight(side)[level]).lots
        others = [position for position, owner in enumerate(lots) if owner == OTHERS]
        size = min(size, len(others) - 1)
        first = int(place * (len(others) - size + 1))
        for position in reversed(others[first : first + size]):
            del lots[position]

    def prices_within(self, side: Side, price: int) -> list[int]:
        found = [p for p, queue in self.queues[side].items() if queue.lots and (p - price) * side.sign >= 0]
        return sorted(found, reverse=side is Side.BUY)

    def hit(self, side: Side, price: int, size: int, *, keep: int) -> int:
        """Take lots one by one from the front of a queue; stop before the background has fewer than `keep` left."""
        queue, taken = self.queue(side, price), 0
        while taken < size and queue.lots and not (queue.lots[0] == OTHERS and queue.others <= keep):
            self.trades.append((queue.lots.pop(0), price))
            taken += 1
        return taken

    def trade(self, aggressor: Side, size: int) -> None:
        side = aggressor.opposite
        for price in self.prices_within(side, self.best[side]):
            size -= self.hit(side, price, size, keep=1 if price == self.best[side] else 0)

    def sweep(self, aggressor: Side, deep: int) -> None:
        side = aggressor.opposite
        for price in self.prices_within(side, self.best[side]):
            self.hit(side, price, 10**9, keep=0)
        self.retreat(side, deep)

    def retreat(self, side: Side, deep: int) -> None:
        queue = self.queue(side, self.best[side])
        queue.lots = [owner for owner in queue.lots if owner != OTHERS]
        self.best[side] -= side.sign
        self.come_into_sight(self.queue(side, self.in_sight(side)[-1]), deep)

    def come_into_sight(self, queue: Queue, size: int) -> None:
        """Let `size` others be there: those who were ahead of us still are, as far as they fit; who is new stands behind everybody."""
        lots, left = [], size
        for owner in queue.lots:
            if owner != OTHERS or left:
                lots += [OTHERS] * left if owner in self.unseen else []
                left = 0 if owner in self.unseen else left - (owner == OTHERS)
                lots.append(owner)
        queue.lots = lots + [OTHERS] * left
        self.unseen -= set(queue.lots)

    def improve(self, side: Side, size: int) -> None:
        price = self.best[side] + side.sign
        for own in self.prices_within(side.opposite, price):
            size -= self.hit(side.opposite, own, size, keep=0)
        if size:
            gone = self.queue(side, self.in_sight(side)[-1])
            while gone.lots and gone.lots[-1] == OTHERS:
                gone.lots.pop()
            self.best[side] = price
            self.queue(side, price).lots += [OTHERS] * size

    def take(self, side: Side, quantity: int, limit: int | None, fresh: Callable[[], int]) -> int:
        """Return the lots that were taken: nothing from a queue once one of our own lots is at its front."""
        other, taken = side.opposite, 0
        for _ in range(DEPTH):
            price = self.best[other]
            if limit is not None and (limit - price) * side.sign < 0:
                break
            if any(queue.lots for p, queue in self.queues[other].items() if (p - price) * other.sign > 0):
                break
            lots = self.queue(other, price).lots
            while taken < quantity and lots and lots[0] == OTHERS:
                self.trades.append((lots.pop(0), price))
                taken += 1
            if OTHERS in lots:
                break
            self.retreat(other, fresh())
        return taken

    def rest(self, name: str, side: Side, price: int, quantity: int) -> None:
        self.queue(side, price).lots += [name] * quantity
        if (self.in_sight(side)[-1] - price) * side.sign > 0:
            self.unseen.add(name)

    def remove(self, name: str) -> None:
        for side in Side:
            for queue in self.queues[side].values():
                queue.lots = [owner for owner in queue.lots if owner != name]

    def levels(self, side: Side) -> tuple[tuple[int, ...], tuple[int, ...]]:
        best = sorted((p for p, queue in self.queues[side].items() if queue.lots), reverse=side is Side.BUY)[:10]
        return tuple(best), tuple(len(self.queues[side][p].lots) for p in best)


# Most of it happens where queues meet: at the best two levels, inside the spread, and at the edge of what is in sight.
sizes = st.lists(st.integers(1, 9), min_size=DEPTH, max_size=DEPTH)
sides = st.sampled_from(Side)
lots = st.integers(1, 12)
near = st.sampled_from((0, 0, 0, 0, 1, 1, 2, DEPTH - 2, DEPTH - 1))
away = st.sampled_from((0, 0, 0, 0, -1, -1, -2, -3, 1, 2, DEPTH - 1, DEPTH, DEPTH + 1, -DEPTH - 2))
orders = st.tuples(st.just("order"), sides, st.integers(1, 8), away)
cancels = st.tuples(st.just("cancel"), sides, near, lots, st.sampled_from((0.0, 0.2, 0.4, 0.6, 0.8, 0.99)))
actions = st.lists(
    st.one_of(
        orders,
        orders,
        orders,
        cancels,
        cancels,
        st.tuples(st.just("join"), sides, near, lots),
        st.tuples(st.just("trade"), sides, st.integers(1, 25)),
        st.tuples(st.just("sweep"), sides, lots),
        st.tuples(st.just("move"), sides, lots, lots),
        st.tuples(st.just("widen"), sides, lots),
        st.tuples(st.just("improve"), sides, lots),
        st.tuples(st.just("order"), sides, st.integers(1, 150), st.none()),
        st.tuples(st.just("order"), sides, st.integers(1, 150), away),
        st.tuples(st.just("remove"), st.integers(0, 12)),
    ),
    min_size=10,
    max_size=40,
)


class Both:
    """The book and its reference, driven alike and compared after each action."""

    def __init__(self, bids: list[int], asks: list[int]) -> None:
        self.book = SimulatedBook(Half(Side.BUY, 0, list(bids)), Half(Side.SELL, 1, list(asks)))
        self.reference = ReferenceBook(0, bids, 1, asks)
        self.names = 0
        self.taken_by_us = 0

    def act(self, kind: str, *args: object) -> None:
        before = len(self.reference.trades)
        traded = getattr(self, kind)(*args)
        if traded is not None:
            self.compare_trades(traded, self.reference.trades[before:])
        self.compare_books()

    def join(self, side: Side, level: int, size: int) -> None:
        self.book.halves[side].sizes[level] += size
        queue = self.reference.queue(side, self.reference.in_sight(side)[level])
        queue.lots += [OTHERS] * size

    def cancel(self, side: Side, level: int, size: int, place: float) -> None:
        self.book.cancel(side, level, size, place)
        self.reference.cancel(side, level, size, place)

    def trade(self, side: Side, size: int) -> Traded:
        self.reference.trade(side, size)
        return self.book.trade(side, size)

    def sweep(self, side: Side, deep: int) -> Traded:
        self.reference.sweep(side, deep)
        return self.book.sweep(side, deep)

    def move(self, side: Side, near: int, deep: int) -> Traded:
        self.reference.sweep(side, deep)
        self.reference.improve(side, near)
        traded, more = self.book.sweep(side, deep), self.book.improve(side, near)
        return Traded(traded.prints + more.prints, traded.fills + more.fills)

    def widen(self, side: Side, deep: int) -> None:
        self.book.halves[side].retreat(deep)
        self.reference.retreat(side, deep)

    def improve(self, side: Side, size: int) -> Traded | None:
        if self.book.spread < 2:
            return None
        self.reference.improve(side, size)
        return self.book.improve(side, size)

    def order(self, side: Side, quantity: int, away: int | None) -> Traded:
        limit = None if away is None else self.book.halves[side].best - side.sign * away
        name = f"o{self.names}"
        self.names += 1
        traded = self.book.take(name, side, quantity, limit, lambda: 5)
        taken = self.reference.take(side, quantity, limit, lambda: 5)
        assert taken == sum(fill.quantity for fill in traded.fills)
        assert {fill.liquidity for fill in traded.fills} <= {Liquidity.TAKER}
        assert limit is None or self.book.would_cross(side, limit) == bool(self.reference.prices_within(side.opposite, limit))
        if limit is not None and taken < quantity and not self.book.would_cross(side, limit):
            self.book.rest(name, side, limit, quantity - taken)
            self.reference.rest(name, side, limit, quantity - taken)
        self.taken_by_us += taken
        return traded

    def remove(self, number: int) -> None:
        name = f"o{number}"
        if name in self.book.own:
            self.book.remove(name)
            self.reference.remove(name)

    def compare_trades(self, traded: Traded, lots: list[tuple[str, int]]) -> None:
        assert sum(one.size for one in traded.prints) == len(lots)
        for price in {price for _, price in lots}:
            assert sum(one.size for one in traded.prints if one.price_ticks == price) == sum(at == price for _, at in lots)
        for name in {fill.client_order_id for fill in traded.fills if fill.liquidity is Liquidity.MAKER}:
            ours = [fill for fill in traded.fills if fill.client_order_id == name]
            assert [fill.price_ticks for fill in ours for _ in range(fill.quantity)] == [price for owner, price in lots if owner == name]
        makers = sum(fill.quantity for fill in traded.fills if fill.liquidity is Liquidity.MAKER)
        assert makers == sum(owner != OTHERS for owner, _ in lots)

    def compare_books(self) -> None:
        bids, asks = (self.book.levels(side) for side in Side)
        assert bids == self.reference.levels(Side.BUY)
        assert asks == self.reference.levels(Side.SELL)
        assert bids[0][0] < asks[0][0]
        assert min(bids[1] + asks[1]) >= 1
        for name, order in self.book.own.items():
            lots = self.reference.queue(order.side, order.price_ticks).lots
            assert order.left == lots.count(name)
            if self.book.halves[order.side].level_of(order.price_ticks) < DEPTH:
                assert order.ahead == lots[: lots.index(name)].count(OTHERS)
        assert all(min(half.sizes) >= 1 and len(half.sizes) == DEPTH for half in self.book.halves.values())


@given(sizes, sizes, actions)
@settings(max_examples=250, deadline=None)
def test_the_book_trades_lot_by_lot_like_a_list_of_every_single_lot(
    bids: list[int], asks: list[int], script: list[tuple[object, ...]]
) -> None:
    both = Both(bids, asks)
    for action in script:
        both.act(str(action[0]), *action[1:])


@pytest.fixture
def book() -> SimulatedBook:
    return SimulatedBook(Half(Side.BUY, 99, [10] * DEPTH), Half(Side.SELL, 100, [10] * DEPTH))


def test_our_order_waits_for_its_turn_and_later_ones_wait_for_it(book: SimulatedBook) -> None:
    book.rest("first", Side.BUY, 99, 3)
    book.halves[Side.BUY].sizes[0] += 7
    book.rest("second", Side.BUY, 99, 2)

    assert [fill.quantity for fill in book.trade(Side.SELL, 12).fills] == [2]
    assert [(fill.client_order_id, fill.quantity) for fill in book.trade(Side.SELL, 1).fills] == [("first", 1)]
    assert book.trade(Side.SELL, 6).fills == []
    assert [fill.client_order_id for fill in book.sweep(Side.SELL, 5).fills] == ["second"]


@pytest.mark.parametrize(("place", "ahead"), [(0.0, 6), (0.5, 8), (0.99, 10)], ids=["in front", "around", "behind"])
def test_only_cancels_in_front_of_us_move_us_up(book: SimulatedBook, place: float, ahead: int) -> None:
    book.rest("ours", Side.BUY, 99, 3)
    book.halves[Side.BUY].sizes[0] += 10

    # Four of twenty lots leave: the first ones, the ones from the ninth on, or the last ones. Ten stood in front of us.
    book.cancel(Side.BUY, 0, 4, place)

    assert (book.own["ours"].ahead, book.halves[Side.BUY].sizes[0]) == (ahead, 16)


def test_one_trade_goes_through_background_and_two_orders_of_ours_in_turn(book: SimulatedBook) -> None:
    book.rest("first", Side.BUY, 99, 3)
    book.halves[Side.BUY].sizes[0] += 6
    book.rest("second", Side.BUY, 99, 4)
    book.halves[Side.BUY].sizes[0] += 5

    traded = book.trade(Side.SELL, 10 + 3 + 6 + 2)

    assert [(fill.client_order_id, fill.quantity) for fill in traded.fills] == [("first", 3), ("second", 2)]
    assert [(one.price_ticks, one.size) for one in traded.prints] == [(99, 21)]
    assert book.levels(Side.BUY)[1][0] == 5 + 2


def test_an_order_beyond_the_levels_in_sight_gains_no_priority_there(book: SimulatedBook) -> None:
    book.rest("far", Side.BUY, 99 - DEPTH - 1, 1)
    for _ in range(2):
        book.halves[Side.BUY].retreat(8)

    assert book.own["far"].ahead == 8


def test_an_order_alone_inside_the_spread_is_hit_first_and_joined_behind(book: SimulatedBook) -> None:
    book.halves[Side.SELL].retreat(10)
    book.rest("inside", Side.BUY, 100, 5)
    assert book.levels(Side.BUY)[0][0] == 100

    assert [(fill.price_ticks, fill.quantity) for fill in book.trade(Side.SELL, 2).fills] == [(100, 2)]
    book.improve(Side.BUY, 6)
    assert book.levels(Side.BUY)[1][0] == 9
    assert [fill.quantity for fill in book.trade(Side.SELL, 4).fills] == [3]


def test_others_who_come_in_through_our_price_trade_with_us_first(book: SimulatedBook) -> None:
    book.halves[Side.SELL].retreat(10)
    book.rest("inside", Side.SELL, 100, 5)

    traded = book.improve(Side.BUY, 8)

    assert [(one.price_ticks, one.size, one.aggressor) for one in traded.prints] == [(100, 5, Side.BUY)]
    assert [fill.quantity for fill in traded.fills] == [5]
    assert (book.halves[Side.BUY].best, book.halves[Side.BUY].sizes[0]) == (100, 3)


def test_we_never_trade_with_ourselves(book: SimulatedBook) -> None:
    book.rest("resting", Side.SELL, 100, 5)
    book.halves[Side.SELL].sizes[0] += 20

    traded = book.take("taking", Side.BUY, 100, None, lambda: 5)

    assert [(fill.client_order_id, fill.quantity) for fill in traded.fills] == [("taking", 10)]
    assert book.own["resting"].left == 5
    assert book.would_cross(Side.BUY, 100)
