"""Who gets the PnL of a fill, and what a markout is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from framework.inference.outcomes import FifoLots, Markout, Markouts
from framework.messages import Action, BookSnapshot, DecisionMade, Filled
from framework.model import Liquidity, Side

S = 1_000_000_000
TICK_VALUE = Decimal("12.5")


def fill(side: Side, quantity: int, price_ticks: int, *, decision_id: str | None = None, fee: str = "0") -> Filled:
    return Filled(
        client_order_id="o1",
        trade_id="t1",
        strategy_id="s",
        instrument_id="TIDE.SIM",
        ts_event=0,
        side=side,
        quantity=quantity,
        price_ticks=price_ticks,
        fee=Decimal(fee),
        liquidity=Liquidity.TAKER,
        decision_id=decision_id,
    )


def by_decision(lots: FifoLots, *fills: Filled) -> dict[str | None, Decimal]:
    pnl: dict[str | None, Decimal] = defaultdict(Decimal)
    for one in fills:
        for share in lots.apply(one):
            if share.closed:
                pnl[share.decision_id] += share.pnl
    return dict(pnl)


def test_a_round_trip_belongs_to_the_decision_that_opened_it() -> None:
    pnl = by_decision(
        FifoLots(TICK_VALUE),
        fill(Side.BUY, 2, 100, decision_id="in", fee="1.70"),
        fill(Side.SELL, 2, 104, decision_id="out", fee="1.70"),
    )

    assert pnl == {"in": Decimal("96.60")}


def test_the_oldest_lots_are_closed_first() -> None:
    pnl = by_decision(
        FifoLots(TICK_VALUE),
        fill(Side.BUY, 1, 100, decision_id="first"),
        fill(Side.BUY, 1, 110, decision_id="second"),
        fill(Side.SELL, 1, 105),
    )

    assert pnl == {"first": Decimal("62.5")}


def test_a_fill_that_turns_the_position_closes_and_opens() -> None:
    lots = FifoLots(TICK_VALUE)
    lots.apply(fill(Side.BUY, 2, 100, decision_id="long"))

    closed, opened = lots.apply(fill(Side.SELL, 3, 99, decision_id="turn", fee="3"))

    assert (closed.decision_id, closed.closed, closed.pnl) == ("long", 2, Decimal(-27))
    assert (opened.decision_id, opened.opened) == ("turn", 1)
    assert lots.position_lots == -1
    assert lots.unrealized(Decimal(99)) == Decimal(-1)


def test_a_position_of_the_run_before_belongs_to_nobody() -> None:
    lots = FifoLots(TICK_VALUE, position_lots=-2, average_ticks=100.5)

    assert by_decision(lots, fill(Side.BUY, 2, 100, decision_id="out")) == {None: Decimal("12.5")}
    assert lots.position_lots == 0


FILLS = st.lists(
    st.builds(
        fill,
        st.sampled_from(Side),
        st.integers(1, 7),
        st.integers(-50, 50),
        decision_id=st.sampled_from(["d1", "d2", "d3", None]),
        fee=st.decimals("-1", "3", places=3).map(str),
    ),
    max_size=40,
)


@given(FILLS, st.integers(-50, 50))
def test_the_attributed_pnl_and_the_open_lots_add_up_to_the_portfolio(fills: list[Filled], mark: int) -> None:
    lots = FifoLots(TICK_VALUE)

    attributed = sum(by_decision(lots, *fills).values(), Decimal(0))

    position = sum(one.side.sign * one.quantity for one in fills)
    cash = sum((-one.side.sign * one.quantity * one.price_ticks * TICK_VALUE - one.fee for one in fills), Decimal(0))
    assert lots.position_lots == position
    assert attributed + lots.unrealized(Decimal(mark)) == cash + position * mark * TICK_VALUE


@given(FILLS)
def test_once_flat_the_attributed_pnl_is_the_portfolio_pnl_after_fees(fills: list[Filled]) -> None:
    position = sum(one.side.sign * one.quantity for one in fills)
    if position:
        fills = [*fills, fill(Side.SELL if position > 0 else Side.BUY, abs(position), 7, fee="0.1")]

    pnl = by_decision(FifoLots(TICK_VALUE), *fills)

    cash = sum((-one.side.sign * one.quantity * one.price_ticks * TICK_VALUE - one.fee for one in fills), Decimal(0))
    assert sum(pnl.values(), Decimal(0)) == cash


@given(FILLS)
def test_every_lot_that_a_decision_opens_is_closed_once_at_most(fills: list[Filled]) -> None:
    lots = FifoLots(TICK_VALUE)
    opened: dict[str | None, int] = defaultdict(int)
    closed: dict[str | None, int] = defaultdict(int)

    for one in fills:
        for share in lots.apply(one):
            opened[share.decision_id] += share.opened
            closed[share.decision_id] += share.closed

    assert all(closed[decision_id] <= opened[decision_id] for decision_id in closed)
    assert sum(opened.values()) - sum(closed.values()) == abs(lots.position_lots)


# --- markouts ----------------------------------------------------------------------------------------------------------------

Book = Callable[..., BookSnapshot]


def decision(book: BookSnapshot, decision_id: str = "d1", *, ts_event: int | None = None) -> DecisionMade:
    return DecisionMade(
        decision_id=decision_id,
        strategy_id="s",
        instrument_id="TIDE.SIM",
        ts_event=book.ts_event if ts_event is None else ts_event,
        action=Action.ABSTAIN,
        reason="NEUTRAL",
        prediction_id=None,
        flow_type=None,
        confidence=None,
        model_version=None,
        position_lots=0,
        book=book,
    )


def test_a_markout_is_the_mid_of_the_last_book_at_or_before_its_horizon(book: Book) -> None:
    markouts = Markouts()
    markouts.add(decision(book(0, 1, mid_ticks=100)))
    assert markouts.on_book(book(S, 2, mid_ticks=103)) == []

    resolved = markouts.on_book(book(S + 1, 3, mid_ticks=90))

    assert resolved == [Markout("d1", 1, 3.0)]


def test_a_quiet_market_leaves_the_last_mid(book: Book) -> None:
    markouts = Markouts()
    markouts.add(decision(book(0, 1, mid_ticks=100)))

    resolved = markouts.on_book(book(90 * S, 2, mid_ticks=150))

    assert resolved == [Markout("d1", 1, 0.0), Markout("d1", 5, 0.0), Markout("d1", 30, 0.0)]


def test_the_horizon_counts_from_the_decision_not_from_its_book(book: Book) -> None:
    markouts = Markouts()
    markouts.add(decision(book(0, 1, mid_ticks=100), ts_event=S // 2))
    markouts.on_book(book(S + S // 2, 2, mid_ticks=104))

    assert markouts.resolve(2 * S) == [Markout("d1", 1, 4.0)]


def test_a_joint_cuts_what_is_due_after_the_last_book(book: Book) -> None:
    markouts = Markouts()
    markouts.add(decision(book(0, 1, mid_ticks=100)))
    markouts.on_book(book(2 * S, 2, mid_ticks=101))

    markouts.on_book(book(5 * S, 3, mid_ticks=102))
    resolved = markouts.cut()

    assert resolved == [Markout("d1", 5, 2.0), Markout("d1", 30, None)]
    assert markouts.on_book(book(100 * S, 1, mid_ticks=500)) == []


def test_without_a_mid_there_is_no_markout(book: Book) -> None:
    empty = msgspec.structs.replace(book(0, 1), bid_ticks=(), bid_sizes=())

    assert Markouts().add(decision(empty)) == [Markout("d1", 1, None), Markout("d1", 5, None), Markout("d1", 30, None)]


def test_a_one_sided_book_at_the_horizon_leaves_the_markout_unknown(book: Book) -> None:
    markouts = Markouts()
    markouts.add(decision(book(0, 1, mid_ticks=100)))
    markouts.on_book(msgspec.structs.replace(book(S // 2, 2), ask_ticks=(), ask_sizes=()))

    assert markouts.resolve(S) == [Markout("d1", 1, None)]


def test_a_decision_on_a_book_that_was_not_seen_yet_resolves_what_was_due_before_it(book: Book) -> None:
    markouts = Markouts()
    markouts.add(decision(book(0, 1, mid_ticks=100), "d1"))

    resolved = markouts.add(decision(book(2 * S, 9, mid_ticks=120), "d2"))

    assert resolved == [Markout("d1", 1, 0.0)]
    assert markouts.on_book(book(2 * S, 9, mid_ticks=120)) == []


@given(st.lists(st.tuples(st.integers(1, 3 * S), st.integers(80, 120)), min_size=1, max_size=60), st.integers(0, 10))
def test_markouts_agree_with_a_search_over_all_books(steps: list[tuple[int, int]], decided_at: int) -> None:
    books, now_ns = [], 0
    for n, (step_ns, mid) in enumerate(steps):
        now_ns += step_ns
        books.append(
            BookSnapshot(
                instrument_id="TIDE.SIM",
                ts_event=now_ns,
                ts_recv=now_ns,
                sequence=n + 1,
                bid_ticks=(mid - 1,),
                bid_sizes=(1,),
                ask_ticks=(mid + 1,),
                ask_sizes=(1,),
            )
        )
    index = min(decided_at, len(books) - 1)
    markouts, resolved = Markouts(), list[Markout]()

    for n, book in enumerate(books):
        resolved += markouts.on_book(book)
        if n == index:
            resolved += markouts.add(decision(book))
    resolved += markouts.resolve(now_ns + 60 * S)

    start = books[index]
    for markout in resolved:
        last = [book for book in books if book.ts_event <= start.ts_event + markout.horizon_s * S][-1]
        assert markout.ticks == last.bid_ticks[0] - start.bid_ticks[0]
    assert [markout.horizon_s for markout in resolved] == [1, 5, 30]
