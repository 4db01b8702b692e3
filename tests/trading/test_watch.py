"""What happens without anybody asking: silence, halts, flattening, losses, adoption; and the fold behind all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from framework.clock import Clock, EventClock, Timer
from framework.config import AccountLimits, PaperConfig, RiskLimits
from framework.errors import ConfigError, IntegrityError
from framework.messages import CancelOrder, ExecutionReport, Filled, OrderUpdated, ReplaceOrder, ReportKind
from framework.model import NS_PER_S, OrderStatus, Side, TradingState
from framework.trading import execution as execution_module
from framework.trading.fold import replay
from framework.trading.journal import Journal
from framework.trading.records import RunStarted
from framework.trading.risk import RiskGate, Tightening, limits_digest
from framework.trading.snapshots import SnapshotKeeper
from framework.trading.watch import Watch
from framework.venues.paper import PaperVenue
from framework.venues.port import SWEEP_NS
from tests.trading import room as rooms
from tests.trading.conftest import INSTRUMENT, book, submit
from tests.trading.room import LIMITS, Room, fill, report


@pytest.fixture
def room() -> Room:
    return Room(Journal(":memory:"))


def status(room: Room, name: str = "o1") -> OrderStatus:
    return next(order.status for order in room.execution.open_orders() if order.client_order_id == name)


def show(room: Room, mid: int) -> None:
    now_ns = room.clock.now_ns()
    room.show(book((mid - 1,), (mid + 1,), ts=now_ns, sequence=now_ns))


# --- silence -----------------------------------------------------------------------------------------------------------------


def test_an_order_without_an_answer_becomes_unknown_and_the_venue_is_asked_more_and_more_slowly(room: Room) -> None:
    room.tell(submit("o1"))
    room.wait(4.9)
    assert status(room) is OrderStatus.SUBMITTED

    room.wait(60.0)

    assert status(room) is OrderStatus.UNKNOWN
    assert 4 <= room.scripted.asked.count("o1") <= 12
    assert room.execution.open_quantity("s", "A.X", Side.BUY) == 1


def test_no_timer_ends_an_unknown_order_but_the_venue_and_the_operator_do(room: Room) -> None:
    room.tell(submit("o1"), submit("o2"))
    room.wait(3_600.0)
    assert (status(room, "o1"), status(room, "o2")) == (OrderStatus.UNKNOWN, OrderStatus.UNKNOWN)

    room.tell(report(ReportKind.CANCELED, "o1"))
    room.execution.resolve(fill(1, 100, "OPERATOR-o2", "o2"))

    assert room.execution.open_orders() == ()
    with pytest.raises(ConfigError, match="only an UNKNOWN order needs an operator's word"):
        room.execution.resolve(report(ReportKind.CANCELED, "o2"))


def test_open_orders_are_asked_about_four_times_a_minute_and_an_end_is_asked_about_until_it_is_confirmed(room: Room) -> None:
    room.tell(submit("o1"), report(ReportKind.ACCEPTED))
    room.wait(61.0)
    assert room.scripted.asked.count("o1") == 4

    room.tell(report(ReportKind.CANCELED))
    room.wait(16.0)
    assert room.scripted.asked.count("o1") == 5
    room.tell(report(ReportKind.CANCELED))
    room.wait(60.0)
    assert room.scripted.asked.count("o1") == 5


def test_what_the_venue_says_again_when_it_is_asked_is_journalled_and_told_once(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        venue = PaperVenue(PaperConfig(), [INSTRUMENT])
        venue.sweep_ns = SWEEP_NS  # as often as a venue elsewhere
        room = Room(journal, venue)
        for name in ("o1", "o2", "o3"):
            room.tell(submit(name, limit_ticks=90, quantity=5))
        room.wait(0.1)
        room.tell(ReplaceOrder(client_order_id="o2", strategy_id="s", ts_event=room.clock.now_ns(), quantity=4))
        room.tell(CancelOrder(client_order_id="o3", strategy_id="s", ts_event=room.clock.now_ns()))
        room.wait(0.1)
        records, told = journal.last_seq, len(room.heard(OrderUpdated))

        room.wait(59.0)
        room.tell(CancelOrder(client_order_id="o1", strategy_id="s", ts_event=room.clock.now_ns()))
        room.wait(59.0)

        assert room.execution.counts["reports_duplicate"] > 20
        assert journal.last_seq == records + 2  # the cancel of o1 and its end
        assert [update.status for update in room.heard(OrderUpdated)[told:]] == [OrderStatus.PENDING_CANCEL, OrderStatus.CANCELED]


def test_an_end_that_knows_of_fills_which_were_lost_counts_at_its_worst_until_they_are_said(room: Room) -> None:
    room.tell(submit("o1", quantity=5), report(ReportKind.ACCEPTED))
    room.tell(report(ReportKind.CANCELED, cum_quantity=2))
    assert status(room) is OrderStatus.UNKNOWN
    assert room.execution.open_quantity("s", "A.X", Side.BUY) == 5

    room.wait(2.0)
    assert "o1" in room.scripted.asked
    room.tell(fill(2, 100, "t1"), report(ReportKind.CANCELED, cum_quantity=2))

    assert room.execution.open_orders() == ()
    assert room.execution.position("s", "A.X") == 2


class CountedClock(EventClock):
    """A clock that counts the timers that fire."""

    fired = 0

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        def fire() -> None:
            self.fired += 1
            callback()

        return super().call_at(when_ns, fire)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.setattr(rooms, "EventClock", CountedClock)
    return Room(Journal(":memory:"))


def fired(room: Room) -> int:
    assert isinstance(room.clock, CountedClock)
    return room.clock.fired


def test_it_sleeps_until_the_next_sweep_or_the_first_overdue_answer(counted: Room) -> None:
    counted.tell(submit("o1"), report(ReportKind.ACCEPTED))
    counted.wait(3_600.0)

    assert counted.scripted.asked.count("o1") == 240
    assert fired(counted) <= 242

    show(counted, 100)
    counted.tell(submit("o2", ts_event=counted.clock.now_ns()))
    counted.wait(4.5)
    before = fired(counted)
    counted.wait(1.0)
    assert status(counted, "o2") is OrderStatus.UNKNOWN
    counted.wait(10.0)
    assert fired(counted) - before >= 10


def test_it_wakes_at_once_when_trading_is_halted(counted: Room) -> None:
    counted.tell(submit("o1"), report(ReportKind.ACCEPTED))
    counted.wait(1.5)
    counted.execution.set_state(TradingState.HALTED, "a test")
    counted.tell(report(ReportKind.CANCEL_REJECTED))
    counted.wait(0.6)

    assert counted.scripted.canceled == ["o1", "o1"]


def test_seconds_count_from_when_there_was_something_to_look_after_and_anew_after_a_second_with_nothing(room: Room) -> None:
    room.tell(submit("o1"), report(ReportKind.ACCEPTED), fill(1, 100, "t1"))
    room.wait(0.5)
    room.tell(submit("o2"))  # within the second: it goes on
    room.wait(4.9)
    assert status(room, "o2") is OrderStatus.PENDING_NEW
    room.wait(0.6)
    assert status(room, "o2") is OrderStatus.UNKNOWN
    assert room.heard(OrderUpdated)[-1].reason == "no answer within 5.5 s"

    room.tell(report(ReportKind.REJECTED, "o2"))
    room.wait(3.7)
    show(room, 100)
    room.tell(submit("o3", ts_event=room.clock.now_ns()))  # long after: anew
    room.wait(5.0)
    assert room.heard(OrderUpdated)[-1].reason == "no answer within 5.0 s"


class DatedVenue(rooms.ScriptedVenue):
    """A venue that remembers when it was asked for what."""

    def __init__(self) -> None:
        super().__init__()
        self.dated: list[tuple[int, str, str]] = []

    def start(self, clock: Clock, sink: Callable[[ExecutionReport], None]) -> None:
        self.clock = clock

    def cancel(self, client_order_id: str) -> None:
        super().cancel(client_order_id)
        self.dated.append((self.clock.now_ns(), "cancel", client_order_id))

    def reconcile(self, client_order_ids: Sequence[str], question: int = 0) -> None:
        super().reconcile(client_order_ids, question)
        self.dated += [(self.clock.now_ns(), "ask", name) for name in client_order_ids]


class Wakeful(Watch):
    """A watch that looks each second while there is something to look after."""

    def arm(self) -> None:
        if self._timer is None and (self._out.asked or self.flattening or self._blotter.open or self._blotter.unconfirmed):
            self._timer = self._clock.call_at(self._clock.now_ns() + NS_PER_S, self._tick)


NAMES = st.sampled_from(("o1", "o2", "o3", "o4"))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 12_000)),
        st.tuples(st.just("submit"), NAMES),
        st.tuples(st.just("cancel"), NAMES),
        st.tuples(st.sampled_from((ReportKind.ACCEPTED, ReportKind.CANCELED, ReportKind.CANCEL_REJECTED, ReportKind.LOST)), NAMES),
        st.tuples(st.just("fill"), NAMES),
        st.tuples(st.just("halt"), st.booleans()),
    ),
    max_size=30,
)


def lived(watch: type[Watch], steps: list[tuple[Any, Any]]) -> tuple[list[tuple[int, str, str]], list[Any]]:
    """Return what a venue was asked for and when, and what the journal says, of a run with this watch."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(execution_module, "Watch", watch)
        room = Room(Journal(":memory:"), venue := DatedVenue())
    for verb, value in steps:
        match verb:
            case "wait":
                room.wait(value / 1_000)
            case "submit":
                show(room, 100)
                room.tell(submit(value, ts_event=room.clock.now_ns()))
            case "cancel":
                room.tell(CancelOrder(client_order_id=value, strategy_id="s", ts_event=room.clock.now_ns()))
            case "fill":
                room.tell(fill(1, 100, f"{value}-{room.clock.now_ns()}", value))
            case "halt":
                room.execution.set_state(TradingState.HALTED if value else TradingState.ACTIVE, "a test")
                room.bus.drain()
            case _:
                room.tell(report(verb, value))
    room.wait(40.0)
    return venue.dated, [record.message for record in room.journal.records()]


@given(STEPS)
@example([("submit", "o1"), ("fill", "o1"), ("wait", 1_500), ("submit", "o2")])  # a beat ends, another begins
@example([("submit", "o1"), ("fill", "o1"), ("wait", 500), ("submit", "o2")])  # a beat goes on
def test_a_watch_that_sleeps_does_the_same_at_the_same_time_as_one_that_looks_each_second(steps: list[tuple[Any, Any]]) -> None:
    assert lived(Watch, steps) == lived(Wakeful, steps)


# --- halt --------------------------------------------------------------------------------------------------------------------


def test_a_halt_cancels_until_the_venue_confirms(room: Room) -> None:
    room.tell(submit("o1"), report(ReportKind.ACCEPTED))
    room.execution.set_state(TradingState.HALTED, "a test")
    room.bus.drain()
    assert room.scripted.canceled == ["o1"]
    room.wait(4.0)
    assert room.scripted.canceled == ["o1"]

    room.tell(report(ReportKind.CANCEL_REJECTED))
    room.wait(10.0)
    assert len(room.scripted.canceled) > 2
    room.tell(report(ReportKind.CANCELED))
    before = len(room.scripted.canceled)
    room.wait(10.0)

    assert len(room.scripted.canceled) == before


def test_flattening_waits_for_open_orders_then_closes_and_tries_again_until_flat(room: Room) -> None:
    room.tell(submit("o1", quantity=5), fill(5, 100, "t1"), submit("o2", Side.SELL, 1, limit_ticks=105), report(ReportKind.ACCEPTED, "o2"))
    room.execution.set_state(TradingState.HALTED, "a test")
    room.execution.flatten("a test")
    room.bus.drain()
    assert room.scripted.submitted == ["o1", "o2"]

    room.tell(report(ReportKind.CANCELED, "o2"))
    room.wait(1.0)
    assert room.scripted.submitted[-1] == "flatten-1"
    room.tell(report(ReportKind.CANCELED, "flatten-1"))
    show(room, 100)
    room.wait(2.0)
    room.tell(fill(5, 100, "t2", "flatten-2"))
    show(room, 100)
    room.wait(5.0)

    assert room.execution.position("s", "A.X") == 0
    assert room.scripted.submitted == ["o1", "o2", "flatten-1", "flatten-2"]
    assert room.execution.watch.flattening == ""


def test_a_kill_switch_from_outside_halts_with_the_next_book() -> None:
    switch = [False]
    room = Room(Journal(":memory:"))
    room.execution.sight._is_killed = lambda: switch[0]
    room.tell(submit("o1"), report(ReportKind.ACCEPTED))

    switch[0] = True
    room.tell(submit("o2"))
    assert room.scripted.submitted == ["o1"]
    room.wait(1.0)
    show(room, 100)

    assert room.execution.state is TradingState.HALTED
    assert room.scripted.canceled == ["o1"]


# --- losses ------------------------------------------------------------------------------------------------------------------


def losing_room(journal: Journal, monkeypatch: pytest.MonkeyPatch, **limits: Any) -> Room:
    limits = {"account": AccountLimits(**limits)}
    monkeypatch.setattr(rooms, "LIMITS", LIMITS.model_copy(update=limits))
    return Room(journal)


def test_a_loss_of_the_account_makes_it_reduce_only_latched_and_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path)) as journal:
        room = losing_room(journal, monkeypatch, max_daily_loss=Decimal(500))
        room.tell(submit("o1", quantity=10), fill(10, 100, "t1", fee="0"))  # 12.50 a tick and lot
        room.wait(1.0)
        show(room, 97)
        assert room.execution.state is TradingState.ACTIVE
        room.wait(1.0)
        show(room, 96)

        assert room.execution.state is TradingState.REDUCE_ONLY
        assert room.execution.state_reason == "max_daily_loss: lost=500.00 limit=500"
        room.tell(submit("o2", limit_ticks=96, ts_event=room.clock.now_ns()))
        assert room.heard(OrderUpdated)[-1].reason == "DAILY_LOSS scope=account lost=500.00 limit=500"
        room.tell(submit("o3", Side.SELL, 10, limit_ticks=95, ts_event=room.clock.now_ns()))
        assert room.scripted.submitted[-1] == "o3"
    with closing(Journal(path)) as journal:
        again = losing_room(journal, monkeypatch, max_daily_loss=Decimal(500))
        again.execution.recover()
        assert again.execution.state is TradingState.REDUCE_ONLY


def test_losing_trades_in_a_row_are_counted_over_a_restart_until_an_operator_resumes(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path)) as journal:
        room = Room(journal)
        for n in range(2):
            room.tell(submit(f"b{n}", limit_ticks=101), fill(1, 101, f"tb{n}", f"b{n}"))
            room.tell(submit(f"s{n}", Side.SELL, limit_ticks=99), fill(1, 99, f"ts{n}", f"s{n}"))
        assert room.execution.sight.loss("s", None).losses_in_a_row == 2
    with closing(Journal(path)) as journal:
        again = Room(journal)
        again.execution.recover()
        assert again.execution.sight.loss("s", None) == room.execution.sight.loss("s", None)
        again.execution.set_state(TradingState.ACTIVE, "resumed")
        assert again.execution.sight.loss("s", None).losses_in_a_row == 0


def test_rates_and_tightened_limits_are_restored(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    started = RunStarted(
        ts_event=0,
        run=1,
        version="",
        python="",
        market=(),
        speed=None,
        seed=1,
        config_digest="",
        limits_digest=limits_digest(LIMITS),
        strategy_digests={},
        instruments=(INSTRUMENT,),
    )
    with closing(Journal(path)) as journal:
        journal.append("RunStarted", started)
        room = Room(journal)
        room.execution.tighten(Tightening(scope="strategies", key="max_orders_per_second", value="2"))
        room.tell(submit("o1"), submit("o2"))
    with closing(Journal(path)) as journal:
        again = Room(journal)
        again.execution.recover()
        again.tell(submit("o3"))
        assert again.heard(OrderUpdated)[-1].reason == "ORDER_RATE last_second=2 limit=2"
    with closing(Journal(path)) as journal:
        other = RiskGate(RiskLimits(max_orders_per_second=999))
        loose = Room(journal)
        loose.execution.gate = other
        loose.execution.recover()
        assert other.limits.get("max_orders_per_second") == 999


# --- others on our account ---------------------------------------------------------------------------------------------------


def test_a_trade_that_nobody_here_sent_is_adopted_and_counts_for_the_account(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path)) as journal:
        room = Room(journal)
        trade = fill(3, 100, "x1", "by-hand")
        room.tell(ExecutionReport(**{n: getattr(trade, n) for n in trade.__struct_fields__} | {"instrument_id": "A.X", "side": Side.SELL}))

        assert room.execution.position("EXTERNAL", "A.X") == -3
        assert room.execution.portfolio.net("A.X") == -3
        assert room.execution.position("s", "A.X") == 0
        assert room.execution.state is TradingState.ACTIVE
        assert [one.strategy_id for one in room.heard(Filled)] == ["EXTERNAL"]
    with closing(Journal(path)) as journal:
        again = Room(journal)
        again.execution.recover()
        assert again.execution.portfolio.net("A.X") == -3


# --- the fold ----------------------------------------------------------------------------------------------------------------


def busy(journal: Journal) -> Room:
    room = Room(journal)
    for n in range(30):
        side = Side.BUY if n % 3 else Side.SELL
        room.tell(submit(f"o-{n}", side, 3, limit_ticks=98 if side is Side.BUY else 102), report(ReportKind.ACCEPTED, f"o-{n}"))
        if n % 2:
            room.tell(fill(1 + n % 3, 100 + n % 5, f"t{n}", f"o-{n}"))
    return room


def test_a_snapshot_and_what_follows_is_what_all_records_add_up_to(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        keeper = SnapshotKeeper(journal, replay(journal), (room := busy(journal)).execution.blotter, every=10)
        keeper._fold = replay(journal)
        keeper.keep_up(1)
        room.tell(submit("o-98"), report(ReportKind.ACCEPTED, "o-98"), fill(1, 100, "t98", "o-98"))

        short, whole = replay(journal), replay(journal, uses_snapshots=False)

        assert keeper.divergence == ""
        assert short.replayed.snapshot_seq > 0 == whole.replayed.snapshot_seq
        assert short.to_bytes() == whole.to_bytes()
        assert keeper.differences() == ""


def test_a_snapshot_that_was_tampered_with_is_not_used(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        busy(journal)
        body = bytearray(replay(journal).to_bytes())
        journal.take_snapshot(bytes(body), 1)
        body[len(body) // 2] ^= 1
        journal._db.execute("UPDATE snapshots SET body = ?", (bytes(body),))

        assert list(journal.snapshots()) == []
        assert replay(journal).replayed.snapshot_seq == 0


def test_a_record_that_was_changed_behind_a_snapshot_is_found(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        busy(journal)
        seq = journal.take_snapshot(replay(journal).to_bytes(), 1)
        journal.append("SubmitOrder", submit("late"), durable=True, key="late")
        journal._db.execute("UPDATE records SET record_key = 'x' WHERE seq = ?", (seq + 2,))

        with pytest.raises(IntegrityError, match=f"record {seq + 2} does not fit"):
            replay(journal)


def test_a_state_that_is_not_what_the_journal_says_takes_no_snapshot(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        room = Room(journal)
        keeper = SnapshotKeeper(journal, replay(journal), room.execution.blotter, every=1)
        room.tell(submit("o1", quantity=2), fill(2, 100, "t1"))
        room.execution.portfolio.book("s", "A.X").quantity += 1
        keeper.keep_up(1)

        assert keeper.divergence.startswith("positions")
        assert list(journal.snapshots()) == []
