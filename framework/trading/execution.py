"""Execution: the one way out. Gate, journal, venue, and back: reports, fills, positions."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec

from framework.clock import Clock
from framework.errors import ConfigError
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.logs import foreign
from framework.messages import (
    BookInvalid,
    BookRecovered,
    BookSnapshot,
    CancelOrder,
    ExecutionReport,
    Message,
    OrderUpdated,
    ReplaceOrder,
    ReportKind,
    SessionChanged,
    StrategyQuarantined,
    SubmitList,
    SubmitOrder,
    TradeTick,
    TradingStateChanged,
)
from framework.model import Instrument, OrderStatus, Side, TradingState
from framework.trading.adopting import adopt
from framework.trading.blotter import Blotter, distrust
from framework.trading.fold import JournalFold, replay
from framework.trading.journal import Journal, is_recordable
from framework.trading.order_states import Effect
from framework.trading.orders import Order
from framework.trading.outgoing import Outgoing
from framework.trading.portfolio import Portfolio
from framework.trading.records import LimitTightened, MarginCalled, OperatorCommanded
from framework.trading.recovering import RECONCILING, Recovery
from framework.trading.risk import RiskGate, Tightening
from framework.trading.settling import Settling
from framework.trading.sight import Sight
from framework.trading.watch import FLATTEN, Watch
from framework.venues.port import Answer, Venue

EXECUTION: Final = "execution"
log = logging.getLogger("Execution")


class ExecutionActor(Actor):
    """Own orders, positions and the trading state, and let nothing out but through the gate.

    An intent is durable before the venue is called; what the venue says is durable before anybody hears of it. State is
    the fold of the journal: `recover` rebuilds it through the same code, then asks the venue about orders that were open.
    """

    def __init__(
        self,
        bus: EventBus,
        clock: Clock,
        *,
        venue: Venue,
        gate: RiskGate,
        portfolio: Portfolio,
        journal: Journal,
        instruments: dict[str, Instrument],
        is_killed: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(EXECUTION)
        self._bus = bus
        self._clock = clock
        self._venue = venue
        self.gate = gate
        self.portfolio = portfolio
        self._journal = journal
        self._instruments = instruments
        self.blotter = Blotter(journal, portfolio)
        self.sight = Sight(self.blotter, journal, instruments, is_killed)
        self._out = Outgoing(
            clock=clock, blotter=self.blotter, sight=self.sight, gate=gate, journal=journal, venue=venue, publish=bus.publish
        )
        self._settling = Settling(clock, blotter=self.blotter, sight=self.sight, gate=gate, journal=journal, out=self._out)
        self._recovery = Recovery(clock, venue=venue, gate=gate, blotter=self.blotter, sight=self.sight, out=self._out)
        self.watch = Watch(
            clock, desk=self, blotter=self.blotter, sight=self.sight, out=self._out, limits=gate.limits, sweep_ns=venue.sweep_ns
        )
        self._handlers: dict[type[Message], Callable[[Any], None]] = {
            SubmitOrder: self._on_submit,
            SubmitList: self._on_list,
            ReplaceOrder: self._on_replace,
            CancelOrder: self._on_cancel,
            ExecutionReport: self._on_report,
            BookSnapshot: self._on_book,
            BookInvalid: self.sight.on_invalid,
            BookRecovered: self.sight.on_recovered,
            TradeTick: self._on_trade,
            SessionChanged: self._on_session,
            StrategyQuarantined: self._on_quarantined,
            MarginCalled: self._on_margin_call,
        }

    def on_start(self) -> None:
        """Subscribe to the market and to quarantines."""
        for message_type in (BookSnapshot, BookInvalid, BookRecovered, TradeTick, SessionChanged, StrategyQuarantined):
            self._bus.subscribe(self.name, message_type)

    def handle(self, message: Message) -> None:
        """Handle a command, a report or a book."""
        self._handlers[type(message)](message)
        self.watch.arm()

    def take(self, word: ExecutionReport | MarginCalled) -> None:
        """Take what the venue says: its sink. An answer to an old question goes no further."""
        heard = self._out.questions.sorted_out(word) if isinstance(word, Answer) else word
        if heard is not None:
            self._bus.tell(self.name, heard)

    # --- what others see -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> TradingState:
        """Return the trading state."""
        return self.blotter.state

    @property
    def state_reason(self) -> str:
        """Return why it is that."""
        return self.blotter.state_reason

    @property
    def counts(self) -> Counter[str]:
        """Return what happened how often."""
        return self.blotter.counts

    def book(self, instrument_id: str) -> BookSnapshot | None:
        """Return the last book, or None while it is unsound."""
        return self.sight.book(instrument_id)

    def last_book(self, instrument_id: str) -> BookSnapshot | None:
        """Return the last sound book, also while the present one is not: for marks and views, never for new risk."""
        return self.sight.last_book(instrument_id)

    def position(self, strategy_id: str, instrument_id: str) -> int:
        """Return the signed position of a strategy."""
        return self.portfolio.position(strategy_id, instrument_id).quantity

    def open_quantity(self, strategy_id: str, instrument_id: str, side: Side) -> int:
        """Return what open orders of one side may still fill, UNKNOWN ones included."""
        return self.blotter.exposure.open_quantity(strategy_id, instrument_id, side)

    def open_orders(self, strategy_id: str | None = None) -> tuple[OrderUpdated, ...]:
        """Return open orders, of one strategy or of all, oldest first."""
        return tuple(order.update() for order in self.mine(strategy_id))

    # --- operator ------------------------------------------------------------------------------------------------------------

    def set_state(self, state: TradingState, reason: str) -> None:
        """Open or close the gate. HALTED also cancels every open order. Latched: it survives a restart until set anew.

        In memory first, so that nothing can pass while the disk is asked.
        """
        self.blotter.set_state(state, reason)
        change = TradingStateChanged(ts_event=self._clock.now_ns(), state=state, reason=reason)
        self._out.record(change)
        if state is TradingState.HALTED:
            self.cancel_all()
        self.watch.arm()
        self._bus.publish(change)
        log.warning("trading is %s: %s", state, reason)

    def flatten(self, reason: str) -> None:
        """Close every position with reduce-only orders past the limits, again until it is flat; also while halted."""
        self.watch.flatten(reason)

    def tighten(self, change: Tightening) -> None:
        """Make a limit tighter, until a restart with other limits. Raises `ConfigError` for anything that is not tighter."""
        self.gate.limits.tighten(change)
        record = LimitTightened(ts_event=self._clock.now_ns(), scope=change.scope, key=change.key, value=change.value)
        self._out.record(record)

    def resolve(self, report: ExecutionReport) -> None:
        """Take an operator's word for what became of an order that is UNKNOWN. Raises `ConfigError` for any other order."""
        order = self.blotter.open.get(report.client_order_id)
        if order is None or order.status is not OrderStatus.UNKNOWN:
            status = "not open" if order is None else order.status
            raise ConfigError(f"order {foreign(report.client_order_id, 80)} is {status}; only an UNKNOWN order needs an operator's word")
        self._on_report(report)
        self.watch.arm()

    def note_command(self, command: str, body: str) -> None:
        """Journal what an operator commanded."""
        self._out.record(OperatorCommanded(ts_event=self._clock.now_ns(), command=command, body=body))

    def cancel_all(self, strategy_id: str | None = None) -> int:
        """Ask the venue to cancel all open orders (of one strategy) that it was not asked to cancel yet; return how many those are."""
        return self._cancel(self.mine(strategy_id))

    def cancel_entries(self, strategy_id: str | None = None) -> int:
        """Ask the venue to cancel all open orders (of one strategy) but those that protect a position; return how many were asked for."""
        return self._cancel([order for order in self.mine(strategy_id) if not self.blotter.protects(order)])

    def protection(self, strategy_id: str, instrument_id: str) -> tuple[OrderUpdated, ...]:
        """Return the open orders that protect a position of a strategy."""
        orders = (order for order in self.mine(strategy_id) if order.intent.instrument_id == instrument_id)
        return tuple(order.update() for order in orders if self.blotter.protects(order))

    def recover(self, past: JournalFold | None = None) -> int:
        """Take orders, positions and trading state from the fold of the journal; return how many orders were open. `reconcile` is next.

        Orders in instruments of another market (a run on another feed) wait in the journal until that market is back. Raises
        `IntegrityError` for a journal whose hash chain does not hold.
        """
        past = replay(self._journal) if past is None else past
        facts = past.facts()
        self._recovery.take(facts)
        self.watch.number_from(facts.ids.get(FLATTEN, 0))
        self.counts.clear()
        return len(self.mine())

    def reconcile(self) -> None:
        """Ask the venue what became of orders that were open when the last run ended: UNKNOWN until it says. Call it at each start.

        A venue inside this process takes back orders and positions.
        """
        wanted = self._recovery.hand_over(self.mine())
        if wanted:
            self.ask(wanted)
        self.watch.arm()

    def ask(self, client_order_ids: tuple[str, ...]) -> None:
        """Ask the venue what became of orders."""
        self.counts["asked"] += len(client_order_ids)
        self._venue.reconcile(client_order_ids, self._out.questions.ask())

    def _cancel(self, orders: list[Order]) -> int:
        count = sum(self._out.cancel(order) for order in orders)
        self.watch.arm()
        return count

    # --- commands and reports ------------------------------------------------------------------------------------------------

    def _on_submit(self, order: SubmitOrder) -> None:
        self._out.submit(order)
        self._settling.settle(order.instrument_id)

    def _on_list(self, command: SubmitList) -> None:
        self._out.submit_list(command)
        for instrument_id in {order.instrument_id: None for order in command.orders}:
            self._settling.settle(instrument_id)

    def _on_replace(self, change: ReplaceOrder) -> None:
        self._out.replace(change)
        order = self.blotter.open.get(change.client_order_id)
        if order is not None:
            self._settling.settle(order.intent.instrument_id)

    def _on_cancel(self, command: CancelOrder) -> None:
        order = self.blotter.open.get(command.client_order_id)
        if order is None or order.intent.strategy_id != command.strategy_id:
            self.counts["cancels_without_an_order"] += 1
            return
        now_ns = self._clock.now_ns()
        denied = self.gate.may_cancel(command.strategy_id, now_ns)
        if denied is None:
            self._out.cancel(order)
            self._settling.settle(order.intent.instrument_id)
            return
        self.counts["cancels_denied"] += 1
        self._bus.publish(msgspec.structs.replace(order.update(), reason=str(denied), ts_event=now_ns))

    def _on_quarantined(self, event: StrategyQuarantined) -> None:
        """Take back what a strategy that raised has open: its entries, or everything, or its position too. A halt keeps nothing."""
        wanted = self.gate.limits.config.on_quarantine
        if wanted == "keep_exits" and self.state is not TradingState.HALTED:
            self.cancel_entries(event.strategy_id)
        else:
            self.cancel_all(event.strategy_id)
        if wanted == "flatten":
            self.watch.flatten(f"{event.strategy_id} is quarantined", event.strategy_id)

    def _on_report(self, report: ExecutionReport) -> None:
        if not is_recordable(report):
            self.counts["reports_malformed"] += 1
            self._stop_if_fill(report)
            return
        is_ours = self.blotter.fetch(report.client_order_id) or adopt(report, self._instruments, self.blotter, self._out)
        if self.blotter.is_old_news(report):
            self.counts["reports_duplicate"] += 1
            return
        effect = self._out.hear(report)
        order = self.blotter.find(report.client_order_id)
        if effect is Effect.UNBOOKABLE or not is_ours:
            self._stop_if_fill(report)
        if order is not None:
            self._settling.settle(order.intent.instrument_id)
        if RECONCILING in self.sight.unready:
            self._recovery.finish(self.mine())

    def _on_margin_call(self, called: MarginCalled) -> None:
        """Take no new risk on an account that the venue says is short, until somebody has looked."""
        self._out.record(called)
        self.counts["margin_calls"] += not called.is_over
        if not called.is_over and self.state is TradingState.ACTIVE:
            self.set_state(TradingState.REDUCE_ONLY, f"margin call: equity={called.equity:.2f} maintenance={called.maintenance:.2f}")

    def _stop_if_fill(self, report: ExecutionReport) -> None:
        # We may hold a position that we do not know of: nothing may be added to it until somebody has looked.
        if report.kind is ReportKind.FILLED and self.state is not TradingState.HALTED:
            self.set_state(TradingState.HALTED, distrust(report))

    # --- the market ----------------------------------------------------------------------------------------------------------

    def _on_book(self, book: BookSnapshot) -> None:
        self.sight.on_book(book)
        self._settling.settle(book.instrument_id)
        self.watch.on_market()

    def _on_trade(self, tick: TradeTick) -> None:
        self.sight.on_trade(tick)
        self._settling.settle(tick.instrument_id)

    def _on_session(self, session: SessionChanged) -> None:
        self.sight.on_session(session)
        for say in tuple(self.blotter.held.on_session(session, self._clock.now_ns())):
            self._out.hear(say.report)

    # --- the rest --------------------------------------------------------------------------------------------------------------

    def mine(self, strategy_id: str | None = None) -> list[Order]:
        """Return the open orders of this market."""
        return list(self.blotter.orders_of(strategy_id, self._instruments))
