"""One world a seed: Execution on a real journal, strategies that trade at random, a nemesis, and a checker that believes nobody."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from framework.clock import EventClock, Timer
from framework.config import RiskLimits
from framework.errors import TidebookError
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.kernel.simulation import TraceHash
from framework.messages import (
    BookInvalid,
    BookRecovered,
    BookSnapshot,
    CancelOrder,
    Message,
    OrderUpdated,
    ReplaceOrder,
    ReportKind,
    SubmitList,
    SubmitOrder,
    TradeTick,
)
from framework.model import NS_PER_S, Instrument, OrderStatus, OrderType, Side, TimeInForce, TradingState
from framework.trading.execution import EXECUTION, ExecutionActor
from framework.trading.fold import replay
from framework.trading.journal import Journal
from framework.trading.portfolio import MICRO, Portfolio
from framework.trading.risk import RiskGate, Tightening
from framework.trading.snapshots import SnapshotKeeper
from tests.faults.disk import BadDisk
from tests.faults.line import Line, Mix

START_NS: Final = 1_705_329_000 * NS_PER_S
INSTRUMENTS: Final = tuple(Instrument(instrument_id=name, tick_size=Decimal("0.25"), multiplier=Decimal(50)) for name in ("A.X", "B.X"))
STRATEGIES: Final = ("one", "two", "three")
LIMITS: Final = RiskLimits(
    max_order_quantity=5,
    max_position=12,
    max_open_orders=8,
    max_orders_per_second=50,
    max_orders_per_minute=0,
    duplicate_window_s=0.0,
    answer_timeout_s=1.0,
    max_book_age_s=3.0,
)
LIVENESS_S: Final = 90
SHM: Final = Path("/dev/shm")


class Violation(AssertionError):
    """An invariant does not hold."""


class LifeClock:
    """The world's clock as one life of the process sees it: timers of the dead do not fire."""

    def __init__(self, clock: EventClock) -> None:
        self._clock = clock
        self.is_alive = True

    def now_ns(self) -> int:
        return self._clock.now_ns()

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        return self._clock.call_at(when_ns, lambda: callback() if self.is_alive else None)


class Ear(Actor):
    """Hear what strategies would."""

    def __init__(self, world: World) -> None:
        super().__init__("ear")
        self._world = world

    def handle(self, message: Message) -> None:
        assert isinstance(message, OrderUpdated)
        self._world.on_update(message)


@dataclass
class World:
    """A run of `steps` steps. `run` raises `Violation` for the first invariant that does not hold; `trace` is its hash."""

    seed: int
    mix: Mix
    steps: int = 1_000
    trace: TraceHash = field(default_factory=TraceHash)
    checks: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.clock = EventClock(START_NS)
        self.line = Line(self.clock, random.Random(self.seed + 1), self.mix, INSTRUMENTS)
        self.line.on_submit, self.line.on_report = self._on_submit, self._on_report
        self.directory = Path(tempfile.mkdtemp(prefix="faults-", dir=SHM if SHM.is_dir() else None))
        self.path = self.directory / "journal.sqlite"
        self.mids = dict.fromkeys((one.instrument_id for one in INSTRUMENTS), 1_000)
        self.bad_books: set[str] = set()
        self.numbers: dict[str, int] = defaultdict(int)
        self.sent: dict[str, SubmitOrder] = {}
        self.statuses: dict[str, OrderStatus] = {}
        self.is_evidence = False
        self.sequence = 0
        self.mends: list[tuple[int, Callable[[], None]]] = []
        self.limit = LIMITS.max_position
        self.lives = 0

    # --- life and death ------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start as `start` does: fold, gate closed, reconcile."""
        self.lives += 1
        self.life = LifeClock(self.clock)
        self.bus = EventBus(tap=self.trace)
        self.disk = BadDisk(Journal(self.path))
        self.journal = self.disk.journal
        past = replay(self.journal)
        self.execution = ExecutionActor(
            self.bus,
            self.life,
            venue=self.line,
            gate=RiskGate(LIMITS),
            portfolio=Portfolio({one.instrument_id: one for one in INSTRUMENTS}),
            journal=self.journal,
            instruments={one.instrument_id: one for one in INSTRUMENTS},
        )
        self.execution.recover(past)
        self.keeper = SnapshotKeeper(self.journal, past, self.execution.blotter, every=self.rng.choice((50, 500, 20_000)))
        for actor in (self.execution, Ear(self)):
            self.bus.register(actor)
        self.execution.on_start()
        self.bus.subscribe("ear", OrderUpdated)
        for name in self.bad_books:
            self.bus.publish(BookInvalid(instrument_id=name, ts_event=self.clock.now_ns(), reason="still crossed"))
        self.line.start(self.life, lambda report: self.bus.tell(EXECUTION, report))
        self._know_all_that_was_sent()
        self.statuses = {order.client_order_id: order.status for order in self.execution.open_orders()}
        if self.execution.state is TradingState.HALTED:
            self.operator(lambda: self.execution.set_state(TradingState.ACTIVE, "resumed"))
        self.execution.reconcile()
        self.bus.drain()

    def die(self) -> None:
        """Lose everything that was not committed, and start again."""
        self.line.stop()
        self.life.is_alive = False
        self.disk.lose_power()
        self.boot()

    def operator(self, act: Callable[[], object]) -> None:
        act()
        self.bus.drain()

    def _know_all_that_was_sent(self) -> None:
        """I-7: what left is known to the next life; nothing else is."""
        for name in self.line.submitted:
            self.holds(self.execution.blotter.is_known(name), f"order {name} left and is not known after a crash")
        for order in self.execution.open_orders():
            self.holds(order.client_order_id in self.sent, f"order {order.client_order_id} was never asked for")

    # --- the run ---------------------------------------------------------------------------------------------------------------

    def run(self) -> World:
        try:
            self.boot()
            for name in self.mids:
                self.show(name)
            for _ in range(self.steps):
                self.step()
            self.converge()
        finally:
            self.line.stop()
            self.journal.close()
            shutil.rmtree(self.directory, ignore_errors=True)
        return self

    def step(self) -> None:
        self.wait(self.rng.expovariate(20.0))
        now_ns = self.clock.now_ns()
        for mend in [one for one in self.mends if one[0] <= now_ns]:
            self.mends.remove(mend)
            mend[1]()
        self.rng.choice((self.market, self.market, self.submit, self.submit, self.cancel, self.replace, self.bracket))()
        self.nemesis()
        self.check()

    def wait(self, seconds: float) -> None:
        until_ns = self.clock.now_ns() + round(seconds * NS_PER_S)
        while (due_ns := self.clock.next_timer_ns()) is not None and due_ns <= until_ns:
            self.clock.advance_to(due_ns)
            self.bus.drain()
        self.clock.advance_to(until_ns)
        self.bus.drain()

    def converge(self) -> None:
        """I-30: with the faults off, everything comes to rest and both sides agree."""
        self.line.is_calm, self.line.is_up = True, True
        if self.disk.is_broken:
            self.die()
        for name in tuple(self.bad_books):
            self.recover_book(name)
        for name in self.mids:
            self.show(name)
        for _ in range(LIVENESS_S):
            self.wait(1.0)
            for name in self.mids:
                self.show(name)
        self.check()
        unknown = [order.client_order_id for order in self.execution.open_orders() if order.status is OrderStatus.UNKNOWN]
        self.holds(not unknown, f"still UNKNOWN after {LIVENESS_S} s without faults: {unknown}")
        self.holds(not self.execution.sight.unready, f"the gate is still closed: {self.execution.sight.unready}")
        self.agree()

    def agree(self) -> None:
        """I-2 to I-4 and I-22 against what the venue knows."""
        trades = {one.trade_id: one for one in self.line.truth if one.kind is ReportKind.FILLED}
        lots: dict[tuple[str, str], int] = defaultdict(int)
        cash: dict[tuple[str, str], int] = defaultdict(int)
        fees: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for one in trades.values():
            order = self.sent[one.client_order_id]
            key = (order.strategy_id, order.instrument_id)
            lots[key] += order.side.sign * one.last_quantity
            cash[key] -= order.side.sign * one.last_quantity * one.last_ticks * MICRO
            fees[key] += one.fee
        for key, position in self.execution.portfolio.positions().items():
            self.holds(position.quantity == lots[key], f"{key}: {position.quantity} lots here, {lots[key]} at the venue")
            self.holds(position.realized - position.open_cost == cash[key], f"{key}: cash differs")
            self.holds(position.fees == fees[key], f"{key}: fees {position.fees} here, {fees[key]} at the venue")
        for name in self.mids:
            ours = {order.intent.client_order_id for order in self.execution.blotter.open.values() if _is_there(order, name)}
            theirs = {order.client_order_id for order in self.line.venue._desk.of(name)}
            self.holds(ours == theirs, f"{name}: open here {sorted(ours - theirs)}, open at the venue {sorted(theirs - ours)}")
        self.holds(not self.keeper.differences(), f"the journal adds up to something else: {self.keeper.differences()}")
        self.holds(replay(self.journal).digest() == replay(self.journal, uses_snapshots=False).digest(), "snapshot and records differ")

    # --- what strategies and the market do -----------------------------------------------------------------------------------------

    def market(self) -> None:
        name = self.rng.choice(tuple(self.mids))
        self.mids[name] += self.rng.choice((-2, -1, 0, 1, 2))
        self.show(name)
        if self.rng.random() < 0.5:
            self.trade(name)

    def show(self, name: str) -> None:
        self.sequence += 1
        mid, now_ns = self.mids[name], self.clock.now_ns()
        book = BookSnapshot(
            instrument_id=name,
            ts_event=now_ns,
            ts_recv=now_ns,
            sequence=self.sequence,
            bid_ticks=(mid - 1, mid - 2, mid - 3),
            bid_sizes=(3, 5, 9),
            ask_ticks=(mid + 1, mid + 2, mid + 3),
            ask_sizes=(3, 5, 9),
        )
        self.line.on_market(book)
        self.bus.publish(book)
        self.bus.drain()

    def trade(self, name: str) -> None:
        self.sequence += 1
        now_ns, side = self.clock.now_ns(), self.rng.choice(tuple(Side))
        tick = TradeTick(
            instrument_id=name,
            ts_event=now_ns,
            ts_recv=now_ns,
            sequence=self.sequence,
            price_ticks=self.mids[name] + side.sign,
            size=self.rng.randint(1, 8),
            aggressor=side,
        )
        self.line.on_market(tick)
        self.bus.publish(tick)
        self.bus.drain()

    def order(self, **changes: Any) -> SubmitOrder:
        strategy_id, name = self.rng.choice(STRATEGIES), self.rng.choice(tuple(self.mids))
        self.numbers[strategy_id] += 1
        is_market = self.rng.random() < 0.3
        fields: dict[str, Any] = {
            "client_order_id": f"{strategy_id}-{self.numbers[strategy_id]}",
            "strategy_id": strategy_id,
            "instrument_id": name,
            "side": self.rng.choice(tuple(Side)),
            "quantity": self.rng.randint(1, 6),
            "order_type": OrderType.MARKET if is_market else OrderType.LIMIT,
            "limit_ticks": None if is_market else self.mids[name] + self.rng.randint(-4, 4),
            "time_in_force": TimeInForce.IOC if is_market else self.rng.choice((TimeInForce.DAY, TimeInForce.GTC, TimeInForce.IOC)),
            "ts_event": self.clock.now_ns(),
            "reduce_only": self.rng.random() < 0.2,
        }
        return SubmitOrder(**fields | changes)

    def submit(self) -> None:
        order = self.order()
        if self.rng.random() < self.mix.garbage:
            self.line.fired["garbage order"] += 1
            order = self.order(quantity=self.rng.choice((float("nan"), -1, 0, 2**60, "2", True)))
        self.tell(order)

    def bracket(self) -> None:
        entry = self.order(order_type=OrderType.LIMIT, time_in_force=TimeInForce.DAY, reduce_only=False)
        entry = self._with(entry, limit_ticks=self.mids[entry.instrument_id] + self.rng.randint(-2, 2))
        legs = []
        for kind in (OrderType.LIMIT, OrderType.STOP):
            self.numbers[entry.strategy_id] += 1
            away = self.mids[entry.instrument_id] + entry.side.sign * (6 if kind is OrderType.LIMIT else -6)
            legs.append(
                self._with(
                    entry,
                    client_order_id=f"{entry.strategy_id}-{self.numbers[entry.strategy_id]}",
                    side=entry.side.opposite,
                    order_type=kind,
                    limit_ticks=away if kind is OrderType.LIMIT else None,
                    stop_ticks=away if kind is OrderType.STOP else None,
                    time_in_force=TimeInForce.GTC,
                    reduce_only=True,
                    parent_id=entry.client_order_id,
                    oco_id=f"g-{entry.client_order_id}",
                )
            )
        self.tell(SubmitList(strategy_id=entry.strategy_id, ts_event=entry.ts_event, orders=(entry, *legs)))

    def _with(self, order: SubmitOrder, **changes: Any) -> SubmitOrder:
        return SubmitOrder(**{name: getattr(order, name) for name in order.__struct_fields__} | changes)

    def cancel(self) -> None:
        order = self._any_open()
        if order is not None:
            self.tell(CancelOrder(client_order_id=order.client_order_id, strategy_id=order.strategy_id, ts_event=self.clock.now_ns()))

    def replace(self) -> None:
        order = self._any_open()
        if order is not None:
            self.tell(
                ReplaceOrder(
                    client_order_id=order.client_order_id,
                    strategy_id=order.strategy_id,
                    ts_event=self.clock.now_ns(),
                    quantity=self.rng.choice((None, 1, 3, 5)),
                    limit_ticks=None if order.limit_ticks is None else self.rng.choice((None, order.limit_ticks + self.rng.randint(-2, 2))),
                )
            )

    def _any_open(self) -> OrderUpdated | None:
        orders = self.execution.open_orders()
        return self.rng.choice(orders) if orders else None

    def tell(self, command: Message) -> None:
        for order in command.orders if isinstance(command, SubmitList) else (command,):
            if isinstance(order, SubmitOrder):
                self.sent[order.client_order_id] = order
        self.bus.tell(EXECUTION, command)
        self.bus.drain()

    # --- the nemesis -----------------------------------------------------------------------------------------------------------

    def nemesis(self) -> None:
        for share, name, act in (
            (self.mix.disconnect, "disconnect", self._disconnect),
            (self.mix.crash, "crash", self.die),
            (self.mix.halt, "halt", self._halt),
            (self.mix.bad_disk, "bad disk", self._break_disk),
            (self.mix.bad_book, "bad book", self._spoil_book),
            (self.mix.tighten, "limit tightened", self._tighten),
        ):
            if self.rng.random() < share:
                self.line.fired[name] += 1
                act()

    def _soon(self, act: Callable[[], None], *, most_s: float = 5.0) -> None:
        self.mends.append((self.clock.now_ns() + round(self.rng.uniform(0.1, most_s) * NS_PER_S), act))

    def _disconnect(self) -> None:
        self.line.is_up = False
        self._soon(lambda: setattr(self.line, "is_up", True))

    def _halt(self) -> None:
        self.operator(lambda: self.execution.set_state(TradingState.HALTED, "a test asked"))
        if self.rng.random() < 0.5:
            self.operator(lambda: self.execution.flatten("a test asked"))
        self._soon(lambda: self.operator(lambda: self.execution.set_state(TradingState.ACTIVE, "a test resumed")))

    def _break_disk(self) -> None:
        self.disk.break_after(self.rng.randint(0, 3))
        self._soon(self.die)

    def _spoil_book(self) -> None:
        name = self.rng.choice(tuple(self.mids))
        self.bad_books.add(name)
        self.bus.publish(BookInvalid(instrument_id=name, ts_event=self.clock.now_ns(), reason="crossed"))
        self.bus.drain()
        self._soon(lambda: self.recover_book(name))

    def recover_book(self, name: str) -> None:
        self.bad_books.discard(name)
        self.bus.publish(BookRecovered(instrument_id=name, ts_event=self.clock.now_ns()))
        self.bus.drain()
        self.show(name)

    def _tighten(self) -> None:
        change = Tightening(scope="strategies", key="max_position", value=str(self.rng.randint(6, 11)))
        try:
            self.operator(lambda: self.execution.tighten(change))
        except TidebookError:
            return  # not tighter than it is: refused

    # --- the checker -----------------------------------------------------------------------------------------------------------

    def holds(self, is_true: bool, what: str) -> None:
        self.checks += 1
        if not is_true:
            raise Violation(f"seed {self.seed}, {(self.clock.now_ns() - START_NS) / NS_PER_S:.3f} s, life {self.lives}: {what}")

    def _on_submit(self, order: SubmitOrder) -> None:
        """I-5, I-6, I-9 at the only place where an order leaves."""
        name = order.client_order_id
        self.sent.setdefault(name, order)
        is_flattening = name.startswith("flatten-")
        self.holds(self.line.submitted[name] == 1, f"order {name} left twice")
        self.holds(not self.journal._db.in_transaction and self.journal.has_order(name), f"order {name} left without a durable intent")
        self.holds(self.journal.is_healthy, f"order {name} left while the journal is broken")
        self.holds(is_flattening or self.execution.state is not TradingState.HALTED, f"order {name} left while halted")
        self.holds(order.instrument_id not in self.bad_books, f"order {name} left on a bad book")
        self.holds(is_flattening or not self.execution.sight.unready, f"order {name} left before reconciliation")

    def _on_report(self, _: object) -> None:
        self.is_evidence = True

    def on_update(self, update: OrderUpdated) -> None:
        """I-1, I-2, I-8 as strategies see it."""
        name = update.client_order_id
        before = self.statuses.get(name)
        self.holds(0 <= update.filled_quantity <= max(update.quantity, update.filled_quantity), f"{name}: filled beyond the order")
        if before is OrderStatus.UNKNOWN and update.status is not OrderStatus.UNKNOWN:
            self.holds(self.is_evidence, f"order {name} left UNKNOWN without the venue's word")
        self.statuses[update.client_order_id] = update.status

    def check(self) -> None:
        """I-10, I-11, I-2 after every step."""
        self.is_evidence = False
        execution = self.execution
        for strategy_id in STRATEGIES:
            for name in self.mids:
                lots = execution.position(strategy_id, name)
                own = [
                    one
                    for one in execution.blotter.open.values()
                    if one.intent.strategy_id == strategy_id and one.intent.instrument_id == name
                ]
                for side in Side:
                    waiting = sum(one.open_quantity for one in own if one.intent.side is side)
                    self.holds(waiting == execution.open_quantity(strategy_id, name, side), "the sum over open orders is off")
                    worst = lots + side.sign * waiting
                    self.holds(
                        abs(worst) <= self.limit or abs(worst) <= abs(lots), f"{strategy_id} {name}: worst {worst}, limit {self.limit}"
                    )
        for name in self.mids:
            net = sum(execution.position(one, name) for one in STRATEGIES)
            self.holds(execution.portfolio.net(name) == net, f"{name}: the account is not the sum over strategies")
            resting = self.line.venue._desk.of(name)
            bids = [one.limit_ticks for one in resting if one.side is Side.BUY and one.rests and one.limit_ticks is not None]
            asks = [one.limit_ticks for one in resting if one.side is Side.SELL and one.rests and one.limit_ticks is not None]
            self.holds(not bids or not asks or max(bids) < min(asks), f"{name}: own orders cross: {bids} {asks}")
        if self.rng.random() < 0.02:
            self._flush()
            self.keeper.keep_up(self.clock.now_ns())
            self.holds(not self.keeper.divergence, f"state is not what the journal adds up to: {self.keeper.divergence}")

    def _flush(self) -> None:
        try:
            self.journal.flush()
        except TidebookError:
            self.holds(not self.journal.is_healthy, "the disk failed and nobody noted it")


def _is_there(order: Any, name: str) -> bool:
    return bool(order.intent.instrument_id == name and order.status is not OrderStatus.SUSPENDED)
