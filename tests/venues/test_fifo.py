from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.clock import EventClock
from framework.config import PaperConfig
from framework.errors import ConfigError
from framework.market.formats import open_feed
from framework.market.formats.databento_orders import order_logs
from framework.market.order_log import OrderAction, OrderChange
from framework.messages import BookSnapshot, ReportKind, TradeTick
from framework.model import NS_PER_S, Side
from framework.venues.fifo import FifoEngine
from framework.venues.paper import PaperVenue
from tests.contracts import Desk
from tests.venues.test_paper import INSTRUMENT, USUAL, trade

ADD, CANCEL, CHANGE, FILL, CLEAR = OrderAction


def change(ts: int, action: OrderAction, order_id: int, size: int, *, side: Side = Side.BUY, price: int = 99) -> OrderChange:
    return OrderChange(ts, action, order_id, side, price, size)


class Floor:
    """An engine whose log is written as the test goes."""

    def __init__(self) -> None:
        self.records: list[OrderChange] = []
        self.now = 0
        self.engine = FifoEngine(iter(()))

    def tell(self, action: OrderAction, order_id: int, size: int, **fields: object) -> list[tuple[str, int]]:
        self.now += 1
        self.engine._next = change(self.now, action, order_id, size, **fields)  # type: ignore[arg-type]
        return [(fill.client_order_id, fill.quantity) for fill in self.engine.advance(self.now)]

    def ahead(self, name: str = "o") -> float | None:
        return self.engine.resting[name].ahead


@pytest.fixture
def floor() -> Floor:
    floor = Floor()
    for order_id, size in ((1, 5), (2, 3)):
        floor.tell(ADD, order_id, size)
    floor.engine.rest("o", Side.BUY, 99, 4)
    floor.tell(ADD, 3, 7)
    return floor


def test_we_stand_behind_who_was_there_and_before_who_comes_later(floor: Floor) -> None:
    assert floor.ahead() == 8


def test_who_leaves_ahead_moves_us_up_and_who_leaves_behind_does_not(floor: Floor) -> None:
    floor.tell(CANCEL, 3, 7)
    assert floor.ahead() == 8
    floor.tell(CANCEL, 1, 2)
    assert floor.ahead() == 6
    floor.tell(CANCEL, 1, 3)
    assert floor.ahead() == 3


def test_a_smaller_size_keeps_its_place_and_a_larger_one_or_another_price_goes_to_the_end(floor: Floor) -> None:
    floor.tell(CHANGE, 1, 4)
    assert floor.ahead() == 7
    floor.tell(CHANGE, 1, 6)
    assert floor.ahead() == 3
    floor.tell(CHANGE, 2, 3, price=98)
    assert floor.ahead() == 0


def test_a_fill_ahead_of_us_gives_us_nothing_and_one_behind_would_have_been_ours(floor: Floor) -> None:
    assert floor.tell(FILL, 1, 5) == []
    assert floor.tell(CANCEL, 1, 5) == []
    assert floor.tell(FILL, 3, 3) == [("o", 3)]
    assert floor.tell(FILL, 3, 3) == [("o", 1)]
    assert floor.engine.resting == {}


def test_a_fill_at_a_worse_price_would_have_been_ours(floor: Floor) -> None:
    assert floor.tell(FILL, 9, 2, price=98) == [("o", 2)]
    assert floor.tell(FILL, 9, 2, price=100) == []
    assert floor.tell(FILL, 9, 2, side=Side.SELL, price=99) == []


def test_the_lots_of_one_fill_are_given_once_to_who_stands_first(floor: Floor) -> None:
    floor.engine.rest("better", Side.BUY, 100, 1)
    floor.engine.rest("later", Side.BUY, 99, 4)

    assert floor.tell(FILL, 9, 3, price=98) == [("better", 1), ("o", 2)]


def test_after_a_clear_we_stand_behind_whoever_rests_when_trading_goes_on(floor: Floor) -> None:
    floor.tell(CLEAR, 0, 0)
    floor.tell(ADD, 7, 5)
    assert floor.tell(FILL, 7, 5) == []
    assert floor.ahead() == 5
    floor.tell(CANCEL, 7, 5)
    assert floor.ahead() == 0


def test_what_the_log_does_not_know_is_counted_and_changes_nothing(floor: Floor) -> None:
    floor.tell(CANCEL, 99, 5)
    floor.tell(CHANGE, 98, 5)

    assert (floor.engine.unknown_orders, floor.ahead()) == (2, 8)


def log(*changes: OrderChange) -> dict[str, Iterator[OrderChange]]:
    return {"A.X": iter(changes)}


def test_the_paper_venue_reads_the_log_up_to_the_arrival_of_an_order() -> None:
    second = NS_PER_S
    logs = log(
        change(0, ADD, 1, 5),
        change(second + 1_999_999, CANCEL, 1, 2),
        change(second + 2_000_001, ADD, 2, 9),
        change(second + 3_000_000, FILL, 1, 3),
        change(second + 3_000_000, CANCEL, 1, 3),
        change(second + 4_000_000, FILL, 2, 1),
    )
    desk = Desk(
        PaperVenue(PaperConfig(queue_model="fifo"), (INSTRUMENT,), order_logs=logs), EventClock(second), "A.X", lambda: 99, lambda: 100
    )
    desk.start()
    desk.venue.on_market(USUAL)
    order = desk.send(Side.BUY, 1, limit_ticks=99)
    desk.wait(0.0025)
    desk.venue.on_market(trade(99, 30, Side.SELL))  # trade ticks say nothing here
    assert desk.filled(order) == 0
    late = TradeTick(instrument_id="A.X", ts_event=1, ts_recv=second + 4_000_000, sequence=9, price_ticks=99, size=1, aggressor=Side.SELL)
    desk.wait(0.0015)
    desk.venue.on_market(late)
    desk.wait()

    assert desk.said(order) == [ReportKind.ACCEPTED, ReportKind.FILLED]


def test_a_cancel_that_arrives_after_the_fill_of_the_log_is_refused() -> None:
    logs = log(change(NS_PER_S + 3_000_000, FILL, 8, 1))
    desk = Desk(
        PaperVenue(PaperConfig(queue_model="fifo"), (INSTRUMENT,), order_logs=logs), EventClock(NS_PER_S), "A.X", lambda: 99, lambda: 100
    )
    desk.start()
    desk.venue.on_market(USUAL)
    order = desk.send(Side.BUY, 1, limit_ticks=99)
    desk.wait(0.005)
    desk.venue.cancel(order)
    desk.wait()

    assert desk.said(order) == [ReportKind.ACCEPTED, ReportKind.FILLED, ReportKind.CANCEL_REJECTED]


def test_exact_queues_without_an_order_log_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"the recording has no orders of A\.X"):
        PaperVenue(PaperConfig(queue_model="fifo"), (INSTRUMENT,))


@pytest.mark.recordings
def test_the_queues_of_a_recording_are_the_books_that_it_shows(recordings: Path) -> None:
    pytest.importorskip("databento_dbn")
    path = recordings / "cme_es_databento" / "esh4-glbx-mdp3-20231225.mbo.dbn.zst"
    (instrument_id,) = logs = order_logs(path)
    engine, compared = FifoEngine(logs[instrument_id]), 0
    books: dict[int, BookSnapshot] = {}
    for event in open_feed([path])._events:
        if isinstance(event, BookSnapshot):
            books[event.ts_recv] = event  # the last one of an instant
        if len(books) >= 4_000:
            break
    for ts_recv, book in books.items():
        engine.advance(ts_recv)
        if compared and ts_recv == max(books):
            break
        for side, ticks, sizes in ((Side.BUY, book.bid_ticks, book.bid_sizes), (Side.SELL, book.ask_ticks, book.ask_sizes)):
            assert [sum(engine._queues[side, price].values()) for price in ticks] == list(sizes)
            compared += 1

    assert compared > 5_000
    assert engine.unknown_orders == 0


script = st.lists(
    st.tuples(st.sampled_from((ADD, CANCEL, CHANGE, FILL)), st.integers(1, 6), st.integers(1, 5), st.sampled_from((98, 99))), max_size=40
)


def test_exact_queues_are_on_receive_time() -> None:
    with pytest.raises(ValueError, match="0 with queue_model fifo"):
        PaperConfig(queue_model="fifo", feed_latency_ms=1.0)


@given(script, st.integers(0, 40), st.integers(1, 5))
def test_ours_is_one_more_order_in_the_queue(records: list[tuple[OrderAction, int, int, int]], joins: int, lots: int) -> None:
    """Against the plain model: one list in order of time, in which ours stands like any other."""
    floor, queue, filled = Floor(), list[list[int]](), 0
    for place, (action, order_id, size, price) in enumerate(records):
        if place == joins:
            floor.engine.rest("o", Side.BUY, 99, lots)
            queue.append([0, 99, lots])
        theirs = next((one for one in queue if one[0] == order_id), None)
        if action is FILL:
            ours = next((one for one in queue if one[0] == 0), None)
            is_ours = ours is not None and (
                price < 99 or (price == 99 and (theirs is None or theirs[1] != 99 or queue.index(ours) < queue.index(theirs)))
            )
            if ours is not None and is_ours:
                filled += min(size, ours[2])
                ours[2] -= min(size, ours[2])
        elif action is ADD or (action is CHANGE and (theirs is None or theirs[1] != price or size > theirs[2])):
            queue = [one for one in queue if one[0] != order_id] + [[order_id, price, size]]
        elif theirs is not None:
            theirs[2] = size if action is CHANGE else theirs[2] - size
        queue = [one for one in queue if one[2] > 0]
        floor.tell(action, order_id, size, price=price)
        ours = next((one for one in queue if one[0] == 0), None)
        expected = None if ours is None else sum(one[2] for one in queue[: queue.index(ours)] if one[1] == 99)
        found = floor.engine.resting.get("o")
        assert (found.ahead if found else None) == expected
        assert (found.open_quantity if found else 0) == (ours[2] if ours else 0)
