"""Margin at the venue: what is refused, what a call does, and that the account is exact."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.clock import EventClock
from framework.config import InstrumentMargin, PaperConfig, SimulatedMarketConfig
from framework.messages import OrderUpdated, ReplaceOrder, ReportKind
from framework.model import NS_PER_S, Instrument, OrderStatus, Side, TimeInForce, TradingState
from framework.trading.journal import Journal
from framework.trading.portfolio import Portfolio
from framework.trading.records import MarginCalled
from framework.venues.margin import MarginAccount, with_margins
from framework.venues.paper import PaperVenue
from framework.venues.port import Booked
from framework.venues.simulated import SimulatedMarket
from tests.contracts import Desk
from tests.trading.conftest import INSTRUMENT, NOW, book, submit
from tests.trading.room import Room, fill

TICK_VALUE = INSTRUMENT.tick_value  # 12.5


def settings(cash: str = "1000", initial: str = "100", maintenance: str = "80", **more: Any) -> PaperConfig:
    margins = {"A.X": InstrumentMargin(initial=Decimal(initial), maintenance=Decimal(maintenance))}
    return PaperConfig(cash=Decimal(cash), margins=margins, maker_fee=Decimal(0), taker_fee=Decimal(0), **more)


class Here(Desk):
    """A desk at a paper venue with margin, and the calls that it heard."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__(PaperVenue(config, (INSTRUMENT,)), EventClock(NS_PER_S), "A.X", lambda: 99, lambda: 101)
        self.calls: list[MarginCalled] = []
        self.asked: dict[str, tuple[Side, int]] = {}
        self.start()
        assert isinstance(self.venue, PaperVenue)
        self.venue.on_margin_call(self.calls.append)
        self.show()

    def show(self, bid: int = 99) -> None:
        self.venue.on_market(book(bids=(bid, bid - 1), asks=(bid + 2, bid + 3)))
        self.wait()

    def asks(self, side: Side, quantity: int, **fields: Any) -> str:
        name = self.send(side, quantity, **fields)
        self.asked[name] = side, quantity
        self.wait()
        return name

    def words(self, name: str) -> list[tuple[ReportKind, str]]:
        return [(one.kind, one.reason) for one in self.reports if one.client_order_id == name]


def test_an_order_is_taken_up_to_the_last_lot_that_the_account_covers() -> None:
    desk = Here(settings())

    assert desk.words(desk.asks(Side.BUY, 10, limit_ticks=90))[0][0] is ReportKind.ACCEPTED
    assert desk.words(desk.asks(Side.BUY, 1, limit_ticks=90)) == [(ReportKind.REJECTED, "MARGIN initial=1100.00 equity=1000.00")]
    # The other side needs nothing more: both cannot fill to more than the larger of the two.
    assert desk.words(desk.asks(Side.SELL, 10, limit_ticks=110))[0][0] is ReportKind.ACCEPTED
    assert desk.words(desk.asks(Side.SELL, 1, limit_ticks=110))[0][1] == "MARGIN initial=1100.00 equity=1000.00"


def test_what_an_order_held_comes_back_when_it_ends() -> None:
    desk = Here(settings())
    first = desk.asks(Side.BUY, 10, limit_ticks=90)
    desk.venue.cancel(first)

    assert desk.words(desk.asks(Side.BUY, 10, limit_ticks=90))[0][0] is ReportKind.ACCEPTED


def test_a_change_is_covered_like_a_new_order_and_its_own_lots_are_not_counted_twice() -> None:
    desk = Here(settings())
    name = desk.asks(Side.BUY, 6, limit_ticks=90)
    for revision, quantity in enumerate((11, 10), start=1):
        desk.venue.replace(ReplaceOrder(client_order_id=name, strategy_id="s", ts_event=1, quantity=quantity, revision=revision))
    desk.clock.advance_to(desk.clock.now_ns() + NS_PER_S)

    assert desk.words(name)[1:] == [(ReportKind.REPLACE_REJECTED, "MARGIN initial=1100.00 equity=1000.00"), (ReportKind.REPLACED, "")]


def test_an_order_that_makes_the_position_smaller_passes_whatever_the_account_is_worth() -> None:
    desk = Here(settings())
    desk.asks(Side.BUY, 10, limit_ticks=101)
    desk.show(bid=60)  # 40 ticks of 12.50 on 10 lots: 5,000 lost of 1,000

    assert desk.words(desk.asks(Side.BUY, 1, limit_ticks=50))[0][1].startswith("MARGIN initial=1100.00 equity=-4000.00")
    assert desk.words(desk.asks(Side.SELL, 10, limit_ticks=60))[-1][0] is ReportKind.FILLED


def test_a_margin_call_cancels_what_enlarges_keeps_what_reduces_and_ends_when_the_account_is_covered_again() -> None:
    desk = Here(settings())
    desk.asks(Side.BUY, 5, limit_ticks=101)
    exit_, more = desk.asks(Side.SELL, 5, limit_ticks=140), desk.asks(Side.BUY, 2, limit_ticks=80)
    desk.show(bid=90)  # mid 91, 10 ticks below the price: 625 lost, 375 left, 400 needed
    desk.show(bid=91)

    assert desk.words(more)[-1] == (ReportKind.CANCELED, "MARGIN_CALL equity=375.00 maintenance=400.00")
    assert desk.words(exit_)[-1][0] is ReportKind.ACCEPTED
    assert [(one.equity, one.maintenance, one.is_over) for one in desk.calls] == [
        (Decimal(375), Decimal(400), False),
        (Decimal("437.5"), Decimal(400), True),
    ]


def test_equity_exactly_at_the_maintenance_margin_is_no_call() -> None:
    desk = Here(settings(cash="1025"))
    desk.asks(Side.BUY, 5, limit_ticks=101)
    desk.show(bid=90)

    assert desk.calls == []


def test_no_cash_is_no_margin() -> None:
    desk = Here(PaperConfig(margins={"A.X": InstrumentMargin(initial=Decimal(100), maintenance=Decimal(80))}))

    assert desk.words(desk.asks(Side.BUY, 1_000, limit_ticks=90))[0][0] is ReportKind.ACCEPTED


def test_an_instruments_own_margin_holds_where_the_settings_name_none() -> None:
    own = Instrument(instrument_id="A.X", tick_size=Decimal("0.25"), margin_per_lot=Decimal(60))
    other = settings(initial="70", maintenance="70")

    assert [one.margin_per_lot for one in with_margins(PaperConfig(cash=Decimal(100)), (own,))] == [60]
    assert [one.margin_per_lot for one in with_margins(other, (own,))] == [70]
    account = MarginAccount.of(PaperConfig(cash=Decimal(100)), (own,))
    assert account is not None
    assert account.refusal(submit(quantity=2), 2, ()) == "MARGIN initial=120.00 equity=100.00"


def test_a_maintenance_margin_above_the_initial_one_is_refused() -> None:
    with pytest.raises(ValueError, match="maintenance: found 81; allowed at most initial, 80"):
        InstrumentMargin(initial=Decimal(80), maintenance=Decimal(81))


def test_the_simulated_market_asks_for_margin_too() -> None:
    margins = {"TIDE.SIM": InstrumentMargin(initial=Decimal(100), maintenance=Decimal(80))}
    market = SimulatedMarket(SimulatedMarketConfig(), PaperConfig(cash=Decimal(250), margins=margins), seed=7)
    clock, reports, events = EventClock(market.start_ns), [], []  # type: ignore[var-annotated]
    market.start(clock, reports.append)
    market.start_feed(clock, events.append, lambda: None)
    clock.advance_to(clock.now_ns() + NS_PER_S)
    for number, quantity in enumerate((3, 2)):
        market.submit(submit(f"o{number}", quantity=quantity, limit_ticks=19_900, instrument_id="TIDE.SIM"))
    clock.advance_to(clock.now_ns() + NS_PER_S)

    assert [(one.kind, one.reason) for one in reports] == [
        (ReportKind.REJECTED, "MARGIN initial=300.00 equity=250.00"),
        (ReportKind.ACCEPTED, ""),
    ]


# --- exact, and over a restart -----------------------------------------------------------------------------------------------


FILLS = st.lists(st.tuples(st.sampled_from(tuple(Side)), st.integers(1, 9), st.integers(-50, 2_000), st.integers(-300, 300)), max_size=12)


@given(FILLS, st.integers(-50, 2_000), st.data())
def test_equity_is_cash_and_every_cash_flow_to_the_last_digit_also_when_it_is_handed_over(
    fills: list[tuple[Side, int, int, int]], bid: int, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(fills)))
    account = MarginAccount(Decimal(1_000), (INSTRUMENT,), {})
    portfolio = Portfolio({"A.X": INSTRUMENT})
    flows, lots = Decimal(0), 0
    for place, (side, quantity, price, cents) in enumerate(fills):
        if place == cut:  # a restart: the next one takes what our own books say
            account = MarginAccount(Decimal(1_000), (INSTRUMENT,), {})
            one = portfolio.account("A.X")
            account.restore({"A.X": Booked(one.quantity, one.open_cost, one.realized, one.fees)})
        fee = Decimal(cents) / 100
        account.book(submit(side=side), quantity, price, fee)
        portfolio.book("s", "A.X").apply(side.sign * quantity, price, fee)
        flows -= side.sign * quantity * price * TICK_VALUE + fee
        lots += side.sign * quantity
    account.mark(book(bids=(bid,), asks=(bid + 1,)))

    assert account.equity() == 1_000 + flows + lots * TICK_VALUE * (2 * bid + 1) / 2


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(tuple(Side)), st.integers(1, 6), st.integers(85, 115)),
        st.tuples(st.just("show"), st.integers(92, 106)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
    ),
    max_size=25,
)


@given(ACTS)
def test_whatever_is_taken_was_covered_by_an_account_that_is_added_up_anew(acts: list[tuple[Any, ...]]) -> None:
    desk, mid, names = Here(settings(cash="600")), Decimal(100), list[str]()
    for act in acts:
        if act[0] == "show":
            desk.show(act[1])
            mid = Decimal(act[1] + 1)
        elif act[0] == "cancel" and names:
            desk.venue.cancel(names[act[1] % len(names)])
            desk.wait()
        elif act[0] == "send":
            equity, lots, waiting = added_up(desk, mid)
            before, waiting = worst(lots, waiting), {**waiting, act[1]: waiting[act[1]] + act[2]}
            names.append(desk.asks(act[1], act[2], limit_ticks=act[3]))
            is_refused = desk.words(names[-1])[0][0] is ReportKind.REJECTED
            assert is_refused is (worst(lots, waiting) > before and 100 * worst(lots, waiting) > equity)


def worst(lots: int, waiting: dict[Side, int]) -> int:
    return max(abs(lots + waiting[Side.BUY]), abs(lots - waiting[Side.SELL]))


def added_up(desk: Here, mid: Decimal) -> tuple[Decimal, int, dict[Side, int]]:
    """Return equity, lots and open lots by side, from what was asked for and reported alone."""
    cash, lots, waiting = Decimal(600), 0, dict.fromkeys(Side, 0)
    for name, (side, quantity) in desk.asked.items():
        filled = [one for one in desk.reports if one.client_order_id == name and one.kind is ReportKind.FILLED]
        done = sum(one.last_quantity for one in filled)
        lots += side.sign * done
        cash -= side.sign * sum(one.last_quantity * one.last_ticks for one in filled) * TICK_VALUE
        has_ended = any(kind in (ReportKind.REJECTED, ReportKind.CANCELED) for kind, _ in desk.words(name))
        waiting[side] += 0 if has_ended else quantity - done
    return cash + lots * mid * TICK_VALUE, lots, waiting


# --- our side ------------------------------------------------------------------------------------------------------------------


def called(**fields: Any) -> MarginCalled:
    return MarginCalled(ts_event=NOW, equity=Decimal(90), maintenance=Decimal(100), **fields)


def test_a_margin_call_lets_only_what_reduces_out_until_somebody_has_looked_and_is_in_the_journal() -> None:
    room = Room(Journal(":memory:"))
    room.tell(submit("o1"), fill(1, 100, "t1"), called())
    room.tell(submit("o2", limit_ticks=98), submit("o3", Side.SELL, limit_ticks=102), called(is_over=True))

    denied = next(one for one in room.heard(OrderUpdated) if one.client_order_id == "o2")
    assert denied.status is OrderStatus.DENIED
    assert denied.reason.startswith("REDUCE_ONLY")
    assert room.statuses("o3")[-1] is OrderStatus.PENDING_NEW
    assert (room.execution.state, room.execution.state_reason) == (TradingState.REDUCE_ONLY, "margin call: equity=90.00 maintenance=100.00")
    assert [record.message for record in room.journal.records("MarginCalled")] == [called(), called(is_over=True)]
    assert room.execution.counts["margin_calls"] == 1


def test_a_margin_call_does_not_open_what_is_halted() -> None:
    room = Room(Journal(":memory:"))
    room.execution.set_state(TradingState.HALTED, "operator")
    room.tell(called())

    assert room.execution.state is TradingState.HALTED


def test_a_venue_that_starts_again_knows_what_the_account_has_lost() -> None:
    journal = Journal(":memory:")
    room = Room(journal, PaperVenue(settings(), (INSTRUMENT,)))
    room.tell(submit("o1", quantity=10, limit_ticks=101))
    room.wait()
    sold = submit("o2", Side.SELL, 10, limit_ticks=95, reduce_only=True, time_in_force=TimeInForce.IOC)
    room.show(book(bids=(95, 94), asks=(97, 98), sequence=2))
    room.tell(sold)
    room.wait()

    again = Room(journal, PaperVenue(settings(), (INSTRUMENT,)))
    again.execution.recover()
    again.execution.reconcile()
    again.tell(submit("o3", quantity=3, limit_ticks=98))
    again.wait()

    # 6 ticks of 12.50 on ten lots are gone: 250 of 1,000 are left.
    reasons = [one.reason for one in again.heard(OrderUpdated) if one.client_order_id == "o3"]
    assert reasons[-1].startswith("MARGIN initial=300.00 equity=250.00")
