"""A backtest without the trading process around it: the same strategy class, the same venue and order states, for sweeps.

It leaves out bus, actors, journal, ML process and feedback, and refuses settings and strategies that need more than it has (`allowed`).
It keeps the order in which everything happens, latencies, queues, limits, fees, money: orders and fills are those of the whole backtest
(`tests/backtest/lean/test_engine.py` compares them). Only latencies that are drawn (`paper.latency_spread`) are other draws of the same
distribution: a whole backtest draws for its questions to the venue too.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Final

from framework.backtest.engine import OFF, Plan, Run, Source
from framework.backtest.lean.allowed import check_lean
from framework.backtest.lean.columns import Instant, MarketColumns
from framework.backtest.lean.desk import LeanDesk
from framework.backtest.lean.dom import LazyDom
from framework.backtest.lean.kept import columns_of
from framework.backtest.tape import Tape
from framework.clock import EventClock
from framework.errors import StartRefused, TidebookError
from framework.kernel.bus import EventBus
from framework.messages import (
    BookInvalid,
    BookRecovered,
    BookSnapshot,
    DomUpdated,
    ExecutionReport,
    Message,
    SessionChanged,
    TradeTick,
)
from framework.model import NS_PER_S
from framework.operations.options import Summary
from framework.operations.reporting import mid_of
from framework.operations.trading_process import WIND_DOWN_S
from framework.progress import Progress
from framework.strategy import IdSequence, StrategyActor, StrategyContext, overrides
from framework.venues.matching import MatchingEngine
from framework.venues.paper import PaperVenue
from framework.venues.queue_models import queue_model

COLLECT_AFTER: Final = 50_000
NOTHING: Final = Source(kind=OFF)
_HEARD: Final = (BookInvalid, BookRecovered, SessionChanged)


def run_lean(plan: Plan, on_progress: Progress) -> Run:
    """Read the recordings of a plan and run it lean. Blocks. The recordings of the last plan of this process are kept for the next one."""
    check_lean(plan)
    return execute_lean(plan, columns_of(plan, on_progress), on_progress)


def execute_lean(plan: Plan, columns: MarketColumns, on_progress: Progress) -> Run:
    """Run the strategy over a recording that was read. Blocks. Raises `TidebookError` when it cannot run."""
    check_lean(plan)
    with _calm_collector():
        return _LeanRun(plan, columns).run(on_progress)


@contextmanager
def _calm_collector() -> Iterator[None]:
    """Look for cycles of garbage less often: a run makes many small values that live shortly, and none of ours are cycles."""
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _nothing(_: Message) -> None:
    """Hear nothing."""


class _Mail(EventBus):
    """What a strategy says: commands wait for the desk, decisions go to the tape."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self._tape = tape
        self.commands: deque[Message] = deque()

    def tell(self, actor_name: str, message: Message) -> None:  # noqa: ARG002 (the signature of the bus)
        """Take a command to Execution; it is the only actor here."""
        self.commands.append(message)

    def publish(self, message: Message) -> None:
        """Take a decision."""
        self._tape(message)


class _LeanRun:
    """One run. Everything of one instant goes to the venue first, then trades and words to the strategy, then the newest book."""

    def __init__(self, plan: Plan, columns: MarketColumns) -> None:
        file, instrument = plan.deployment.file, columns.instrument
        self._plan, self._columns, self._instrument = plan, columns, instrument
        self._clock = EventClock(int(columns.times[0]) if len(columns.times) else 0)
        self._tape = Tape()
        self._bus = _Mail(self._tape)
        self._engine = MatchingEngine(queue_model(plan.settings.paper))
        self._venue = PaperVenue(plan.settings.paper, [instrument], engines={instrument.instrument_id: self._engine})
        self._desk = LeanDesk(self._venue, self._clock, instrument, plan.settings.risk)
        self._gate = self._desk.gate
        self._dom = LazyDom(columns, max(file.max_dom_history, plan.settings.training.window_rows))
        context = StrategyContext(
            file=file,
            instrument=instrument,
            bus=self._bus,
            clock=self._clock,
            dom=self._dom,
            order_ids=IdSequence(f"{file.name}-"),
            decision_ids=IdSequence(f"{file.name}-d"),
        )
        self._strategy = plan.deployment.strategy_class(context, plan.deployment.parameters)
        self._hear: Callable[[Message], None] = StrategyActor(self._strategy).handle
        self._wants_trades = overrides(type(self._strategy), "on_trade_tick")

    def run(self, on_progress: Progress) -> Run:
        """Run to the end of the recording."""
        began_s = time.perf_counter()
        self._venue.start(self._clock, self._on_report)
        try:
            self._strategy.on_start()
            self._settle()
            self._replay(on_progress)
            self._strategy.on_stop()
            self._settle()
        except TidebookError:
            raise
        # The place of the actor loop: what a strategy raises ends the run, in words.
        except Exception as exc:
            raise StartRefused(f"strategy {self._plan.deployment.file.name} raised: {type(exc).__name__}: {exc}") from exc
        self._wind_down()
        end_ns = self._clock.now_ns()
        self._venue.stop()
        return self._result(end_ns, time.perf_counter() - began_s)

    # --- the market ----------------------------------------------------------------------------------------------------------

    def _wind_down(self) -> None:
        """Cancel what is open and let the answers arrive, as at the end of every run; the strategy hears of it no more."""
        self._hear = _nothing
        if self._desk.open:
            self._desk.cancel_all()
            self._clock.advance_to(self._clock.now_ns() + round(WIND_DOWN_S * NS_PER_S))

    def _replay(self, on_progress: Progress) -> None:
        columns = self._columns
        # As with a feed on the clock: the next instant has its place before whatever is sent at this one.
        self._ticket = self._clock.ticket()
        for last, instants in columns.parts():
            self._replay_part(instants)
            on_progress("trading", last / len(columns.times))

    def _replay_part(self, instants: Iterable[Instant]) -> None:
        clock, gate, dom, commands, match = self._clock, self._gate, self._dom, self._bus.commands, self._match
        for time_ns, last, heard, book, mixed in instants:
            clock.run_before(time_ns, self._ticket)
            self._ticket = clock.ticket()
            match(heard, book, mixed)
            if heard:
                self._listen(heard)
            dom.upto = last
            if book is not None:
                gate.book = book
            if commands:
                self._settle()
            if book is not None:
                self._tell(book)

    def _match(self, heard: Sequence[Message], book: BookSnapshot | None, mixed: Sequence[Message]) -> None:
        """Let the venue see an instant: as `PaperVenue.on_market` for each of its events, without a look at what each one is."""
        engine, venue = self._engine, self._venue
        if mixed:
            for event in mixed:
                venue.on_market(event)  # type: ignore[arg-type]
            return
        if heard and engine.resting:
            for tick in heard:
                if fills := engine.on_trade(tick):  # type: ignore[arg-type]
                    venue.execute(fills)
        if book is not None and (fills := engine.on_book(book)):
            venue.execute(fills)

    def _listen(self, heard: Sequence[Message]) -> None:
        gate, strategy, wants_trades = self._gate, self._strategy, self._wants_trades
        for message in heard:
            if type(message) is TradeTick:
                gate.trade = message
                if wants_trades:
                    strategy.on_trade_tick(message)
            else:
                self._note(message)

    def _tell(self, book: BookSnapshot) -> None:
        strategy = self._strategy
        strategy.apply_book(book)
        strategy.on_dom(
            DomUpdated(instrument_id=book.instrument_id, ts_event=book.ts_event, sequence=book.sequence, book=book, dom=self._dom)
        )
        if self._bus.commands:
            self._settle()

    def _note(self, word: Message) -> None:
        if isinstance(word, SessionChanged):
            self._gate.is_open = word.is_open
        elif isinstance(word, BookInvalid | BookRecovered):
            self._gate.is_sound = isinstance(word, BookRecovered)
        if isinstance(word, _HEARD):
            self._hear(word)

    # --- orders --------------------------------------------------------------------------------------------------------------

    def _on_report(self, report: ExecutionReport) -> None:
        self._desk.take(report)
        self._settle()

    def _settle(self) -> None:
        """Let commands and what follows from them go to and fro until nothing is left."""
        commands, mail, desk, hear = self._bus.commands, self._desk.mail, self._desk, self._hear
        while commands or mail:
            while commands:
                desk.handle(commands.popleft())
            for _ in range(len(mail)):
                hear(mail.popleft())

    # --- the end -------------------------------------------------------------------------------------------------------------

    def _result(self, end_ns: int, wall_s: float) -> Run:
        columns, desk = self._columns, self._desk
        position = desk.portfolio.position(self._plan.deployment.file.name, self._instrument.instrument_id)
        mark = mid_of(self._gate.book)
        start_ns = int(columns.times[0]) if len(columns.times) else 0
        self._tape.orders, self._tape.fills = desk.orders, desk.fills
        self._tape.put_touch(self._instrument.instrument_id, columns.book_facts, columns.levels)
        summary = Summary(
            events=columns.accepted,
            decisions=len(self._tape.decisions),
            orders=desk.sent,
            fills=len(desk.fills),
            position=position.quantity,
            realized_pnl=position.realized_pnl,
            unrealized_pnl=position.unrealized_pnl(mark) if mark is not None else Decimal(0),
            fees=position.fees,
            reason="the recording is over",
            market_time_s=(end_ns - start_ns) / NS_PER_S,
            wall_time_s=wall_s,
            counters={"execution_orders": desk.sent, "execution_denied": desk.denied, "execution_fills": len(desk.fills)},
        )
        return Run(
            plan=self._plan,
            summary=summary,
            tape=self._tape,
            instruments={self._instrument.instrument_id: self._instrument},
            source=NOTHING,
            latency="none",
            start_ns=start_ns,
            end_ns=end_ns,
        )
