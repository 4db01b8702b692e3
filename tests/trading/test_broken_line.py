"""Execution and the paper venue on a line that breaks: requests and answers get lost, and come twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing

from hypothesis import given, settings
from hypothesis import strategies as st

from framework.clock import Clock
from framework.config import PaperConfig
from framework.messages import (
    CancelOrder,
    ExecutionReport,
    Filled,
    MarketEvent,
    OrderUpdated,
    ReplaceOrder,
    ReportKind,
    SubmitOrder,
    TradeTick,
)
from framework.model import CLOSED, OrderStatus, Side
from framework.trading.journal import Journal
from framework.venues.paper import PaperVenue
from framework.venues.port import NOTHING_BOOKED, NOTHING_HELD, SWEEP_NS, Booked, Holder, RestingOrder
from tests.trading.conftest import INSTRUMENT, NOW, book, submit
from tests.trading.room import Room, report


class Line:
    """A venue at the end of a line. While it is down, nothing comes back, and what we send arrives or not."""

    name = "LINE"
    sweep_ns = SWEEP_NS

    def __init__(self) -> None:
        self.venue = PaperVenue(PaperConfig(), (INSTRUMENT,))
        self.is_up = True
        self.gets_through = False
        self.truth: list[ExecutionReport] = []

    def start(self, clock: Clock, sink: Callable[[ExecutionReport], None]) -> None:
        self.sink = sink
        self.venue.start(clock, self.hear)

    def hear(self, said: ExecutionReport) -> None:
        self.truth.append(said)
        if self.is_up:
            self.sink(said)

    def submit(self, order: SubmitOrder) -> None:
        if self.is_up or self.gets_through:
            self.venue.submit(order)
        if not self.is_up:
            self.sink(report(ReportKind.LOST, order.client_order_id))

    def cancel(self, client_order_id: str) -> None:
        if self.is_up or self.gets_through:
            self.venue.cancel(client_order_id)
        if not self.is_up:
            self.sink(report(ReportKind.LOST, client_order_id))

    def replace(self, change: ReplaceOrder) -> None:
        if self.is_up or self.gets_through:
            self.venue.replace(change)
        if not self.is_up:
            self.sink(report(ReportKind.LOST, change.client_order_id))

    def restore(
        self,
        orders: Iterable[RestingOrder],
        positions: Mapping[Holder, int] = NOTHING_HELD,
        booked: Mapping[str, Booked] = NOTHING_BOOKED,
    ) -> None:
        """It keeps its orders itself."""

    def on_market(self, event: MarketEvent) -> None:
        self.venue.on_market(event)

    def reconcile(self, client_order_ids: Sequence[str], question: int = 0) -> None:
        self.venue.reconcile(client_order_ids, question)

    def stop(self) -> None:
        self.venue.stop()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("order"), st.sampled_from(Side), st.integers(1, 9), st.integers(-3, 3)),
        st.tuples(st.just("cancel"), st.just(Side.BUY), st.integers(1, 9), st.just(0)),
        st.tuples(st.just("book"), st.just(Side.BUY), st.integers(1, 9), st.integers(-2, 2)),
        st.tuples(st.just("trade"), st.sampled_from(Side), st.integers(1, 20), st.integers(-3, 3)),
        st.tuples(st.sampled_from(("break", "break and pass", "mend")), st.just(Side.BUY), st.just(1), st.just(0)),
    ),
    max_size=30,
)


def play(room: Room, line: Line, script: Sequence[tuple[str, Side, int, int]]) -> None:
    sent = 0
    for sequence, (kind, side, size, price) in enumerate(script, 2):
        if kind == "order":
            sent += 1
            room.tell(submit(f"o{sent}", side, size, limit_ticks=100 + price))
        elif kind == "cancel":
            room.tell(CancelOrder(client_order_id=f"o{size}", strategy_id="s", ts_event=room.clock.now_ns()))
        elif kind == "book":
            room.show(book((99 + price, 98 + price), (101 + price, 102 + price), ts=room.clock.now_ns(), sequence=sequence))
        elif kind == "trade":
            now_ns = room.clock.now_ns()
            tick = TradeTick(
                instrument_id="A.X",
                ts_event=now_ns,
                ts_recv=now_ns,
                sequence=sequence,
                price_ticks=100 + price,
                size=size,
                aggressor=side,
            )
            line.on_market(tick)
        elif kind == "mend":
            mend(room, line)
        else:
            line.is_up, line.gets_through = False, kind == "break and pass"
        # Shorter than either latency: requests and answers are under way when the line breaks.
        room.wait(0.0007)


def mend(room: Room, line: Line) -> None:
    # What was under way when the line came back is late, not lost.
    line.is_up = True
    room.execution.reconcile()


@settings(max_examples=150, deadline=None)
@given(steps)
def test_after_the_line_is_mended_we_know_what_the_venue_knows(script: list[tuple[str, Side, int, int]]) -> None:
    with closing(Journal(":memory:")) as journal:
        line = Line()
        room = Room(journal, line)
        play(room, line, script)
        room.wait()
        mend(room, line)
        room.wait()

        trades = {said.trade_id: said for said in line.truth if said.kind is ReportKind.FILLED}
        sides = {update.client_order_id: update.side for update in room.heard(OrderUpdated)}
        position = sum(sides[said.client_order_id].sign * said.last_quantity for said in trades.values())
        assert room.execution.position("s", "A.X") == position
        assert sorted(one.trade_id for one in room.heard(Filled)) == sorted(trades)
        assert {order.client_order_id for order in room.execution.open_orders()} == {
            order.client_order_id for order in line.venue._desk.of("A.X")
        }
        assert all(order.status is not OrderStatus.UNKNOWN for order in room.execution.open_orders())
        assert room.execution.counts["reports_anomaly"] == 0
        assert room.execution.counts["reports_unbookable"] == 0


@given(steps)
def test_while_the_line_is_down_no_order_ends_without_evidence(script: list[tuple[str, Side, int, int]]) -> None:
    with closing(Journal(":memory:")) as journal:
        line = Line()
        room = Room(journal, line)
        play(room, line, script)
        ended = {
            update.client_order_id
            for update in room.heard(OrderUpdated)
            if update.status in CLOSED and update.status is not OrderStatus.DENIED
        }
        said = {one.client_order_id for one in line.truth if one.kind not in (ReportKind.ACCEPTED, ReportKind.CANCEL_REJECTED)}

        assert ended <= said
        assert room.clock.now_ns() >= NOW
