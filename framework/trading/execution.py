"""Execution: the one way out. Gate, journal, venue, and back: reports, fills, positions."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from framework.clock import Clock
from framework.errors import IntegrityError, StorageError
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.logs import foreign
from framework.messages import (
    BookInvalid,
    BookRecovered,
    BookSnapshot,
    CancelOrder,
    ExecutionReport,
    Filled,
    Message,
    OrderUpdated,
    PositionChanged,
    ReportKind,
    StrategyQuarantined,
    SubmitOrder,
    TradingStateChanged,
)
from framework.model import Instrument, Liquidity, OrderStatus, Side, TradingState
from framework.trading.journal import Journal, Record, is_recordable
from framework.trading.orders import Effect, Order
from framework.trading.portfolio import Portfolio
from framework.trading.risk import Approved, Denied, RiskGate, is_whole
from framework.venues.port import Venue

EXECUTION: Final = "execution"
CLOSED_ORDERS_KEPT: Final = 10_000
log = logging.getLogger("Execution")


class ExecutionActor(Actor):
    """Own orders, positions and the trading state (the gate looks at them through `RiskView`, which this is).

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
    ) -> None:
        super().__init__(EXECUTION)
        self._bus = bus
        self._clock = clock
        self._venue = venue
        self._gate = gate
        self.portfolio = portfolio
        self._journal = journal
        self._instruments = instruments
        self.state = TradingState.ACTIVE
        self.state_reason = ""
        self._open: dict[str, Order] = {}
        self._closed: OrderedDict[str, Order] = OrderedDict()
        self._books: dict[str, BookSnapshot] = {}
        self._invalid: set[str] = set()
        self._last_books: dict[str, BookSnapshot] = {}
        self.counts: Counter[str] = Counter()
        self._handlers: dict[type[Message], Callable[[Any], None]] = {
            SubmitOrder: self._on_submit,
            CancelOrder: self._on_cancel,
            ExecutionReport: self._on_report,
            BookSnapshot: self._on_book,
            BookInvalid: self._on_invalid,
            BookRecovered: lambda event: self._invalid.discard(event.instrument_id),
            StrategyQuarantined: self._on_quarantined,
        }

    def on_start(self) -> None:
        """Subscribe to books and quarantines."""
        for message_type in (BookSnapshot, BookInvalid, BookRecovered, StrategyQuarantined):
            self._bus.subscribe(self.name, message_type)

    def handle(self, message: Message) -> None:
        """Handle a command, a report or a book."""
        self._handlers[type(message)](message)

    # --- what the gate and others see --------------------------------------------------------------------------------------

    def is_journal_healthy(self) -> bool:
        """Return whether intents can be made durable."""
        return self._journal.is_healthy

    def knows(self, instrument_id: str) -> bool:
        """Return whether the instrument exists and trades here."""
        return instrument_id in self._instruments

    def is_known_order(self, client_order_id: str) -> bool:
        """Return whether this id was ever used, in this run or before."""
        return client_order_id in self._open or client_order_id in self._closed or self._journal.has_order(client_order_id)

    def book(self, instrument_id: str) -> BookSnapshot | None:
        """Return the last book, or None while it is unsound."""
        return self._books.get(instrument_id)

    def last_book(self, instrument_id: str) -> BookSnapshot | None:
        """Return the last sound book, also while the present one is not: for marks and views, never for new risk."""
        return self._last_books.get(instrument_id)

    def position(self, strategy_id: str, instrument_id: str) -> int:
        """Return the signed position of a strategy."""
        return self.portfolio.position(strategy_id, instrument_id).quantity

    def open_quantity(self, strategy_id: str, instrument_id: str, side: Side) -> int:
        """Return what open orders of one side may still fill, UNKNOWN ones included."""
        return sum(order.open_quantity for order in self._of(strategy_id, instrument_id) if order.intent.side is side)

    def open_order_count(self, strategy_id: str, instrument_id: str) -> int:
        """Return how many orders are open."""
        return sum(1 for _ in self._of(strategy_id, instrument_id))

    def open_orders(self, strategy_id: str | None = None) -> tuple[OrderUpdated, ...]:
        """Return open orders, of one strategy or of all, oldest first."""
        return tuple(order.update() for order in self._open.values() if strategy_id in (None, order.intent.strategy_id))

    # --- operator ------------------------------------------------------------------------------------------------------------

    def set_state(self, state: TradingState, reason: str) -> None:
        """Open or close the gate. HALTED also cancels every open order. Latched: it survives a restart until set anew.

        In memory first, so that nothing can pass while the disk is asked.
        """
        self.state, self.state_reason = state, reason
        change = TradingStateChanged(ts_event=self._clock.now_ns(), state=state, reason=reason)
        self._record(change)
        if state is TradingState.HALTED:
            self.cancel_all()
        self._bus.publish(change)
        log.warning("trading is %s: %s", state, reason)

    def cancel_all(self, strategy_id: str | None = None) -> int:
        """Ask the venue to cancel all open orders (of one strategy); return how many were asked for."""
        wanted = [order for order in self._open.values() if strategy_id in (None, order.intent.strategy_id)]
        for order in wanted:
            self._cancel(order)
        return len(wanted)

    def recover(self) -> int:
        """Fold the journal into orders, positions and trading state; return how many orders were open. Call `reconcile` next.

        Orders in instruments of another market (a run on another feed) wait in the journal until that market is back. Raises
        `IntegrityError` for a journal whose hash chain does not hold.
        """
        self._journal.verify()
        for record in self._journal.records("SubmitOrder", "CancelOrder", "ExecutionReport", "TradingStateChanged"):
            self._recall(record)
        self.counts.clear()
        return len(self._open)

    def _recall(self, record: Record) -> None:
        match record.message:
            case SubmitOrder() as order if self.knows(order.instrument_id):
                self._open[order.client_order_id] = Order(order)
            case CancelOrder() as command if command.client_order_id in self._open:
                self._open[command.client_order_id].request_cancel()
            case ExecutionReport() as report:
                self._fetch(report.client_order_id, before=record.seq)
                effect, _ = self._apply(report)
                # The kill may have come between this report and the record of the halt that it called for.
                if effect is Effect.UNBOOKABLE and self.state is not TradingState.HALTED:
                    self.state, self.state_reason = TradingState.HALTED, _distrust(report)
            case TradingStateChanged() as change:
                self.state, self.state_reason = change.state, change.reason

    def reconcile(self) -> None:
        """Ask the venue what became of orders that were open when the last run ended: UNKNOWN until it says."""
        for order in self._open.values():
            order.status = OrderStatus.UNKNOWN
        if self._open:
            self._venue.reconcile(tuple(self._open))

    # --- commands ------------------------------------------------------------------------------------------------------------

    def _on_submit(self, order: SubmitOrder) -> None:
        verdict = self._gate.check(order, self, self._clock.now_ns())
        if isinstance(verdict, Approved) and not is_recordable(verdict.order):
            verdict = Denied("MALFORMED", "a field has a value of the wrong type")
        if isinstance(verdict, Denied):
            self._deny(order, verdict)
            return
        if not self._record(verdict.order, key=order.client_order_id):
            self._deny(order, Denied("JOURNAL", "intents cannot be made durable"))
            return
        self.counts["orders"] += 1
        accepted = self._open[order.client_order_id] = Order(verdict.order)
        self._bus.publish(accepted.update())
        self._venue.submit(verdict.order)

    def _deny(self, order: SubmitOrder, verdict: Denied) -> None:
        self.counts["denied"] += 1
        self.counts[f"denied_{verdict.code.lower()}"] += 1
        denied = Order(_printable(order), status=OrderStatus.DENIED, reason=str(verdict), ts_event=self._clock.now_ns()).update()
        if is_recordable(denied):
            self._record(denied, durable=False)
        self._bus.publish(denied)

    def _on_cancel(self, command: CancelOrder) -> None:
        order = self._open.get(command.client_order_id)
        if order is not None and order.intent.strategy_id == command.strategy_id:
            self._cancel(order)
        else:
            self.counts["cancels_without_an_order"] += 1

    def _on_quarantined(self, event: StrategyQuarantined) -> None:
        self.cancel_all(event.strategy_id)

    def _cancel(self, order: Order) -> None:
        intent = order.intent
        command = CancelOrder(client_order_id=intent.client_order_id, strategy_id=intent.strategy_id, ts_event=self._clock.now_ns())
        self._venue.cancel(intent.client_order_id)
        order.request_cancel()
        self.counts["cancels"] += 1
        self._bus.publish(order.update())
        self._record(command, durable=False, key=intent.client_order_id)

    # --- reports -------------------------------------------------------------------------------------------------------------

    def _on_report(self, report: ExecutionReport) -> None:
        if not is_recordable(report):
            self.counts["reports_malformed"] += 1
            self._stop_if_fill(report)
            return
        is_ours = self._fetch(report.client_order_id)
        self._record(report, key=report.client_order_id)
        effect, told = self._apply(report)
        for event in told:
            self._bus.publish(event)
        if effect is Effect.UNBOOKABLE or not is_ours:
            self._stop_if_fill(report)

    def _stop_if_fill(self, report: ExecutionReport) -> None:
        # We may hold a position that we do not know of: nothing may be added to it until somebody has looked.
        if report.kind is ReportKind.FILLED and self.state is not TradingState.HALTED:
            self.set_state(TradingState.HALTED, _distrust(report))

    def _apply(self, report: ExecutionReport) -> tuple[Effect, tuple[Message, ...]]:
        """Move order and portfolio by one report; return what it did and what to tell. The same for live reports and the journal's."""
        order = self._open.get(report.client_order_id) or self._closed.get(report.client_order_id)
        if order is None:
            self.counts["reports_of_unknown_orders"] += 1
            return Effect.ANOMALY, ()
        effect = order.apply(report)
        if effect in (Effect.DUPLICATE, Effect.ANOMALY, Effect.UNBOOKABLE):
            self.counts[f"reports_{effect.lower()}"] += 1
            return effect, ()
        if effect is Effect.LATE_FILL:
            self.counts["fills_late"] += 1
        told: tuple[Message, ...] = (order.update(),)
        if report.kind is ReportKind.FILLED:
            told += self._book_fill(order, report)
        if not order.is_open:
            self._retire(order)
        return effect, told

    def _book_fill(self, order: Order, report: ExecutionReport) -> tuple[Filled, PositionChanged]:
        self.counts["fills"] += 1
        intent = order.intent
        fill = Filled(
            client_order_id=intent.client_order_id,
            trade_id=report.trade_id,
            strategy_id=intent.strategy_id,
            instrument_id=intent.instrument_id,
            ts_event=report.ts_event,
            side=intent.side,
            quantity=report.last_quantity,
            price_ticks=report.last_ticks,
            fee=report.fee,
            liquidity=report.liquidity or Liquidity.TAKER,
            decision_id=intent.decision_id,
        )
        return fill, self.portfolio.apply(fill)

    def _retire(self, order: Order) -> None:
        client_order_id = order.intent.client_order_id
        self._open.pop(client_order_id, None)
        self._closed[client_order_id] = order
        if len(self._closed) > CLOSED_ORDERS_KEPT:
            self._closed.popitem(last=False)

    def _fetch(self, client_order_id: str, *, before: int | None = None) -> bool:
        """Bring an order that was pruned from memory back from the journal; return whether there ever was one of this id."""
        if client_order_id in self._open or client_order_id in self._closed:
            return True
        order: Order | None = None
        is_ours = False
        for record in self._journal.history(client_order_id, before=before):
            match record.message:
                case SubmitOrder() as intent:
                    is_ours = True
                    order = Order(intent) if self.knows(intent.instrument_id) else None
                case ExecutionReport() as report if order is not None:
                    order.apply(report)
        if order is not None:
            self._retire(order)
        return is_ours

    # --- the rest --------------------------------------------------------------------------------------------------------------

    def _on_book(self, book: BookSnapshot) -> None:
        self._last_books[book.instrument_id] = book
        # Books wait in the data lane, so one from before the bad spell can be handled after the word that it began.
        if book.instrument_id not in self._invalid:
            self._books[book.instrument_id] = book

    def _on_invalid(self, event: BookInvalid) -> None:
        self._invalid.add(event.instrument_id)
        self._books.pop(event.instrument_id, None)

    def _of(self, strategy_id: str, instrument_id: str) -> Iterator[Order]:
        for order in self._open.values():
            if order.intent.strategy_id == strategy_id and order.intent.instrument_id == instrument_id:
                yield order

    def _record(self, message: Message, *, durable: bool = True, key: str = "") -> bool:
        # A disk that fails must not keep a fill or a kill from taking effect: the gate sees `is_healthy` and lets nothing new out.
        try:
            self._journal.append(type(message).__name__, message, durable=durable, key=key)
        except (StorageError, IntegrityError) as exc:
            self.counts["journal_failures"] += 1
            log.error("%s", exc)
            return False
        return True


def _distrust(report: ExecutionReport) -> str:
    return f"the venue reports a fill that cannot be booked: order {foreign(report.client_order_id)} trade {foreign(report.trade_id)}"


def _printable(order: SubmitOrder) -> SubmitOrder:
    """Return a denied order with nonsense left out: a NaN in the journal could be written, but never read back."""
    return msgspec.structs.replace(
        order,
        quantity=order.quantity if is_whole(order.quantity) else 0,
        limit_ticks=order.limit_ticks if is_whole(order.limit_ticks) else None,
    )
