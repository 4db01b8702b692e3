"""A feed that crosses, locks, garbles, repeats, runs backwards and stops: counted, told once, and nothing trades on it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import pytest

from framework.messages import (
    BookInvalid,
    BookRecovered,
    BookSnapshot,
    DecisionMade,
    DomUpdated,
    MarketEvent,
    Message,
    OrderUpdated,
    StrategyQuarantined,
    SubmitOrder,
)
from framework.model import NS_PER_S, OrderStatus
from framework.strategy import Strategy
from tests.flows.harness import Run, TamperedFeed, of_class, strategy

MakeRun = Callable[..., Run]
Tamper = Callable[[MarketEvent, float], Iterable[MarketEvent]]
Spoil = Callable[[BookSnapshot], BookSnapshot]
SPELL_S = (4.0, 5.5)


class Eager(Strategy):
    """Wants to buy at every book, sound or not, and notes what it is told."""

    told: list[str]

    def on_start(self) -> None:
        self.told = []

    def on_dom(self, update: DomUpdated) -> None:
        self.turn()

    def on_book_invalid(self, event: BookInvalid) -> None:
        self.told.append(event.reason)
        self.turn()

    def on_book_recovered(self, event: BookRecovered) -> None:
        self.told.append("recovered")

    def turn(self) -> None:
        if self.position_lots > 0:
            self.sell(1)
        elif self.position_lots < 0 or not self.open_orders:
            self.buy(1)


class Breaking(Eager):
    """Rests an order, then raises."""

    def turn(self) -> None:
        book = self.book
        assert book is not None
        if not self.open_orders:
            self.buy(1, limit_ticks=book.bid_ticks[0] - 20)
        elif self.dom.total_rows > 50:
            raise RuntimeError("a bug in a user's strategy")


def _change(**fields: Callable[[BookSnapshot], Any]) -> Spoil:
    return lambda book: msgspec.structs.replace(book, **{name: change(book) for name, change in fields.items()})


SPOILS: dict[str, Spoil] = {
    "crossed": _change(bid_ticks=lambda book: tuple(tick + 40 for tick in book.bid_ticks)),
    "locked": _change(bid_ticks=lambda book: (book.ask_ticks[0], *book.bid_ticks[1:])),
    "size_not_positive": _change(bid_sizes=lambda book: (0, *book.bid_sizes[1:])),
    "not_whole_numbers": _change(ask_sizes=lambda book: (float("inf"), *book.ask_sizes[1:])),
    "ragged": _change(ask_sizes=lambda book: book.ask_sizes[1:]),
    "unsorted": _change(bid_ticks=lambda book: book.bid_ticks[::-1]),
    "out_of_range": _change(ask_sizes=lambda book: (2**40, *book.ask_sizes[1:])),
    "too_deep": _change(ask_ticks=lambda book: tuple(range(book.ask_ticks[0], book.ask_ticks[0] + 11)), ask_sizes=lambda _: (1,) * 11),
    "time_backwards": _change(ts_event=lambda book: book.ts_event - 9 * NS_PER_S),
    "future": _change(ts_event=lambda book: book.ts_event + 3_600 * NS_PER_S),
}


def _spoil_for_a_while(spoil: Spoil) -> Tamper:
    def tamper(event: MarketEvent, now_s: float) -> Iterator[MarketEvent]:
        is_hit = isinstance(event, BookSnapshot) and SPELL_S[0] <= now_s < SPELL_S[1]
        yield spoil(event) if is_hit and isinstance(event, BookSnapshot) else event

    return tamper


def _with(make_run: MakeRun, tamper: Tamper, **options: Any) -> Run:
    # Quiet between the books, so that an order that leaves during a spell would be seen.
    return make_run(
        strategies=[of_class(Eager, "eager"), strategy("ml_futures", prediction_cooldown_seconds=0.2), strategy("book_imbalance")],
        wrap_feed=lambda feed: TamperedFeed(feed, tamper),
        **{"duration_s": 9.0} | options,
    )


def _eager(run: Run) -> Eager:
    hosted = run.process.host.hosted["eager"].strategy
    assert isinstance(hosted, Eager)
    return hosted


def _check_one_spell(run: Run, reason: str) -> None:
    assert [event.reason for event in run.story.of(BookInvalid)] == [reason]
    assert len(run.story.of(BookRecovered)) == 1
    assert _eager(run).told == [reason, "recovered"]
    assert run.process.desk.bus.stats()["faults"] == 0
    _check_nothing_left_while_unsound(run)


def _check_nothing_left_while_unsound(run: Run) -> None:
    """Walk through the messages: while the book is unsound, orders are denied with BOOK, and nobody predicts or decides."""
    is_sound, denied, left_after = True, Counter[str](), 0
    sent = {order.client_order_id: order for order in run.story.of(SubmitOrder)}
    for message in run.story.messages:
        if isinstance(message, BookInvalid | BookRecovered):
            is_sound = isinstance(message, BookRecovered)
        elif isinstance(message, DecisionMade) and not is_sound:
            assert message.reason in ("BOOK_INVALID", "ML_TIMEOUT", "ML_DOWN")
            assert not message.client_order_ids
        elif isinstance(message, OrderUpdated) and message.status is OrderStatus.DENIED and message.client_order_id in sent:
            denied[message.reason.partition(" ")[0]] += 1
        elif isinstance(message, OrderUpdated) and message.status is OrderStatus.SUBMITTED:
            assert is_sound, f"{message} left on an unsound book"
            left_after += bool(denied["BOOK"])
    assert denied["BOOK"] > 0
    assert left_after > 0, "trading did not go on"


@pytest.mark.parametrize(
    ("reason", "market"), [*((reason, "simulated") for reason in SPOILS), ("crossed", "replayed"), ("future", "replayed")]
)
def test_a_spell_of_bad_books_is_told_once_and_nothing_trades_on_it(
    make_run: MakeRun, request: pytest.FixtureRequest, reason: str, market: str
) -> None:
    names = ("simulated",) if market == "simulated" else (str(request.getfixturevalue("recording")),)
    run = _with(make_run, _spoil_for_a_while(SPOILS[reason]), market=names).go()

    _check_one_spell(run, reason)
    assert run.process.market_data.refused == Counter({reason: run.process.market_data.refused[reason]})
    assert 8 <= run.process.market_data.refused[reason] <= 15


def test_repeated_books_are_counted_and_change_nothing(make_run: MakeRun) -> None:
    def twice(event: MarketEvent, now_s: float) -> Iterator[MarketEvent]:
        yield from (event, event) if isinstance(event, BookSnapshot) else (event,)

    once, repeated = _with(make_run, lambda event, _: (event,)).go(), _with(make_run, twice).go()

    assert repeated.process.market_data.refused == Counter(repeat=len(once.story.of(BookSnapshot)))
    assert not repeated.story.of(BookInvalid)
    assert repeated.story.whole.hexdigest() == once.story.whole.hexdigest()


def test_a_sequence_that_runs_backwards_is_refused_until_it_is_believed(make_run: MakeRun) -> None:
    def restart(event: MarketEvent, now_s: float) -> Iterator[MarketEvent]:
        lower = now_s >= SPELL_S[0] and isinstance(event, BookSnapshot)
        yield msgspec.structs.replace(event, sequence=event.sequence - 100) if lower and isinstance(event, BookSnapshot) else event

    run = _with(make_run, restart).go()

    _check_one_spell(run, "sequence_backwards")
    assert run.process.market_data.refused["sequence_backwards"] == 2


def test_a_feed_that_falls_silent_is_stale_and_nothing_trades_until_it_speaks(make_run: MakeRun) -> None:
    def silent(event: MarketEvent, now_s: float) -> Iterator[MarketEvent]:
        if not (isinstance(event, BookSnapshot) and 2.0 <= now_s < 9.0):
            yield event

    run = _with(make_run, silent, duration_s=13.0).go()

    assert [event.reason for event in run.story.of(BookInvalid)] == ["stale"]
    assert len(run.story.of(BookRecovered)) == 1
    start_ns = run.process.market.start_ns
    stale_s = (run.story.of(BookInvalid)[0].ts_event - start_ns) / NS_PER_S
    assert stale_s == pytest.approx(7.0, abs=0.2)
    _check_nothing_left_while_unsound(run)


def test_a_strategy_deployed_while_the_book_is_bad_knows_it(make_run: MakeRun) -> None:
    def spoiled(event: MarketEvent, now_s: float) -> Iterator[MarketEvent]:
        is_bad = isinstance(event, BookSnapshot) and SPELL_S[0] <= now_s < SPELL_S[1]
        yield next(iter(SPOILS.values()))(event) if is_bad and isinstance(event, BookSnapshot) else event

    async def deploy_late(run: Run) -> None:
        await run.until(SPELL_S[0] + 0.8)
        run.process.host.start(of_class(Eager, "late"))
        late = run.process.host.hosted["late"].strategy
        assert isinstance(late, Eager)
        seen.append(late.is_book_sound)
        await run.until(SPELL_S[1] + 1.0)
        seen.append(late.is_book_sound)

    seen: list[bool] = []
    _with(make_run, spoiled, speed=1.0).go(meanwhile=deploy_late)

    assert seen == [False, True]


def test_many_kinds_of_garbage_in_one_run_are_each_counted(make_run: MakeRun) -> None:
    """A bad book out of three for six seconds: many spells, each told once and closed by the next sound book."""
    spoils = list(SPOILS.items())
    injected = Counter[str]()
    is_bad = [False]

    def mix(event: MarketEvent, now_s: float) -> Iterator[MarketEvent]:
        if not isinstance(event, BookSnapshot):
            yield event
            return
        is_bad.append(2.0 <= now_s < 8.0 and event.sequence % 3 == 0)
        name, spoil = spoils[event.sequence // 3 % len(spoils)]
        injected[name] += is_bad[-1]
        yield spoil(event) if is_bad[-1] else event

    run = _with(make_run, mix).go()

    assert run.process.market_data.refused == +injected
    assert len(+injected) >= 5
    spells = sum(bad and not before for before, bad in itertools.pairwise(is_bad))
    assert len(run.story.of(BookInvalid)) == len(run.story.of(BookRecovered)) == spells > 8
    _check_nothing_left_while_unsound(run)


@pytest.mark.parametrize("speed", [None, 1.0])
def test_a_strategy_that_raises_is_quarantined_and_the_others_trade_on(make_run: MakeRun, speed: float | None) -> None:
    quick = {"entry_threshold": 0.15, "max_holding_s": 2.0}
    others = [strategy("ml_futures"), strategy("book_imbalance", parameters=quick)]
    run = make_run(strategies=[of_class(Breaking, "broken"), *others], speed=speed, duration_s=25.0).go()

    [quarantined] = run.story.of(StrategyQuarantined)
    assert quarantined.strategy_id == "broken"
    assert "RuntimeError: a bug in a user's strategy" in quarantined.reason
    hosted = run.process.host.hosted["broken"]
    assert (hosted.state, hosted.reason) == ("QUARANTINED", quarantined.reason)
    place = run.story.messages.index(quarantined)
    after = [message for message in run.story.messages[place:] if isinstance(message, SubmitOrder)]
    assert {order.strategy_id for order in after} == {"ml_futures", "book_imbalance"}
    own = [update.status for update in run.story.of(OrderUpdated) if update.strategy_id == "broken"]
    assert own == [OrderStatus.SUBMITTED, OrderStatus.ACCEPTED, OrderStatus.PENDING_CANCEL, OrderStatus.CANCELED]
    assert run.process.exit_code == 0


def test_an_actor_of_the_order_path_that_breaks_closes_the_gate_and_ends_the_run(make_run: MakeRun) -> None:
    run = make_run(speed=1.0, duration_s=20.0)

    async def break_at_five(run: Run) -> None:
        await run.until(5.0)
        # Something that no strategy can do: a message whose type Execution has no handler for.
        run.process.desk.bus.tell("execution", Message())

    run.go(meanwhile=break_at_five)

    assert run.process.exit_code == 5
    assert "execution failed" in run.process.reason
    assert run.process.desk.execution.state == "HALTED"
    assert run.process.desk.execution.open_orders() == ()
