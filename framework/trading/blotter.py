"""The blotter: orders, positions and the trading state. Live or from the journal, everything moves through the same methods."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

from framework.logs import foreign
from framework.messages import (
    CancelOrder,
    ExecutionReport,
    Filled,
    Message,
    PositionChanged,
    ReplaceOrder,
    ReportKind,
    SubmitOrder,
    TradingStateChanged,
)
from framework.model import NS_PER_S, Instrument, OrderStatus, TradingState
from framework.trading.contingent import Contingencies
from framework.trading.exposure import Exposure
from framework.trading.journal import Journal, Record
from framework.trading.known_ids import KnownIds
from framework.trading.losses import LossBook
from framework.trading.order_states import NO_CHANGE, REPLACEABLE, Effect
from framework.trading.orders import Order
from framework.trading.portfolio import Portfolio, fill_of
from framework.trading.records import LimitTightened, OrderAdopted, RiskMarked, RunStarted
from framework.trading.reducing import Reducing

CLOSED_ORDERS_KEPT: Final = 10_000
ENDED_KEPT: Final = 100
_SAME_END: Final = {
    ReportKind.CANCELED: OrderStatus.CANCELED,
    ReportKind.EXPIRED: OrderStatus.EXPIRED,
    ReportKind.REJECTED: OrderStatus.REJECTED,
}
RATE_MEMORY_NS: Final = 60 * NS_PER_S
EXTERNAL: Final = "EXTERNAL"
"""Strategy id of what others did on our account."""


class Blotter:
    """Own orders, positions, losses and the trading state. No bus, no venue, no clock: what happens is told to it.

    The fold of the journal is `take(record)` for every record in order; live, the same methods are called by Execution.
    """

    KINDS: Final = (
        "SubmitOrder",
        "CancelOrder",
        "ReplaceOrder",
        "ExecutionReport",
        "TradingStateChanged",
        "RiskMarked",
        "LimitTightened",
        "OrderAdopted",
        "RunStarted",
    )

    def __init__(self, journal: Journal, portfolio: Portfolio) -> None:
        self._journal = journal
        self.portfolio = portfolio
        self.ids = KnownIds(journal)
        self.exposure = Exposure()
        self._reducing = Reducing(self._lots, self.exposure.open_quantity)
        self.held = Contingencies(self.find_ever, self._reducing)
        self.losses = LossBook(portfolio)
        self.state = TradingState.ACTIVE
        self.state_reason = ""
        self.open: dict[str, Order] = {}
        self._closed: OrderedDict[str, Order] = OrderedDict()
        self.sent: deque[SubmitOrder] = deque()
        self.tightened: list[LimitTightened] = []
        self.limits_digest = ""
        self.adopted: dict[str, OrderAdopted] = {}
        self.counts: Counter[str] = Counter()
        self.unconfirmed: OrderedDict[str, None] = OrderedDict()
        """Orders that ended short of their quantity, and of which the venue has not said so twice: a fill may have been lost before."""
        self._is_folding = False
        self._takers: dict[type[Message], Callable[[Any, int], None]] = {
            SubmitOrder: lambda order, _: self._take_intent(order),
            CancelOrder: lambda command, _: self.request_cancel(command.client_order_id, command.ts_event),
            ReplaceOrder: lambda change, _: self.request_replace(change),
            ExecutionReport: self._take_report,
            TradingStateChanged: lambda change, _: self.set_state(change.state, change.reason),
            RiskMarked: lambda marked, _: self.losses.recall(marked),
            LimitTightened: lambda change, _: self.tightened.append(change),
            OrderAdopted: lambda adopted, _: self.adopt(adopted),
            RunStarted: lambda run, _: self._take_run(run),
        }

    # --- the fold ------------------------------------------------------------------------------------------------------------

    @contextmanager
    def folding(self) -> Iterator[None]:
        """Take many records: what is summed over open orders is summed once, at the end."""
        self._is_folding = True
        try:
            yield
        finally:
            self._is_folding = False
            for order in self.open.values():
                self._note(order)

    def take(self, record: Record) -> None:
        """Take one record of the journal, of a kind in `KINDS`."""
        self._takers[type(record.message)](record.message, record.seq)

    def _take_intent(self, order: SubmitOrder) -> None:
        self.add(order)
        self.sent.append(order)
        while order.ts_event - self.sent[0].ts_event >= RATE_MEMORY_NS:
            self.sent.popleft()

    def _take_report(self, report: ExecutionReport, seq: int) -> None:
        self.fetch(report.client_order_id, before=seq)
        effect, _ = self.apply(report)
        # The kill may have come between this report and the record of the halt that it called for.
        if effect is Effect.UNBOOKABLE and self.state is not TradingState.HALTED:
            self.set_state(TradingState.HALTED, distrust(report))

    def _take_run(self, run: RunStarted) -> None:
        self.portfolio.learn(run.instruments)
        if run.limits_digest != self.limits_digest:
            self.limits_digest, self.tightened = run.limits_digest, []

    # --- what happens --------------------------------------------------------------------------------------------------------

    def add(self, intent: SubmitOrder) -> Order:
        """Take an order that is about to leave, or to be held here."""
        order = self.open[intent.client_order_id] = Order(intent)
        self.ids.use(intent.client_order_id)
        self._note(order)
        return order

    def put(self, order: Order) -> None:
        """Take an open order as it is (of a snapshot)."""
        self.open[order.intent.client_order_id] = order
        self._note(order)

    def put_kin(self, order: Order) -> None:
        """Take a closed order that an open one depends on: its entry, or a member of its group."""
        self._closed[order.intent.client_order_id] = order
        self.held.note(order)

    def kin(self) -> list[Order]:
        """Return the closed orders that open ones depend on, in order of their ids."""
        groups = {order.intent.oco_id for order in self.open.values()} - {""}
        parents = {order.intent.parent_id for order in self.open.values()} - {""}
        found = [one for name, one in self._closed.items() if name in parents or one.intent.oco_id in groups]
        return sorted(found, key=lambda order: order.intent.client_order_id)

    def request_cancel(self, client_order_id: str, ts_event: int) -> None:
        """Note that a cancel is on its way, and since when."""
        order = self.open.get(client_order_id)
        if order is not None:
            order.request_cancel(ts_event)
            self._note(order)

    def request_replace(self, change: ReplaceOrder) -> None:
        """Note that a change is on its way."""
        order = self.open.get(change.client_order_id)
        if order is not None and order.status in REPLACEABLE:
            order.request_replace(change)
            self._note(order)

    def set_state(self, state: TradingState, reason: str) -> None:
        """Take the trading state."""
        self.state, self.state_reason = state, reason
        self.losses.on_state(state)

    def adopt(self, adopted: OrderAdopted) -> None:
        """Take note of something on our account that we did not do."""
        self.adopted[adopted.client_order_id] = adopted

    def apply(self, report: ExecutionReport) -> tuple[Effect, tuple[Message, ...]]:
        """Move order and portfolio by one report; return what it did and what to tell."""
        order = self.find(report.client_order_id)
        if order is None:
            self.counts["reports_of_unknown_orders"] += 1
            return Effect.ANOMALY, ()
        effect = order.apply(self._as_believed(order, report))
        if effect in NO_CHANGE:
            self.counts[f"reports_{effect.lower()}"] += 1
            return effect, ()
        if effect is Effect.LATE_FILL:
            self.counts["fills_late"] += 1
        told: tuple[Message, ...] = (order.update(),)
        if report.kind is ReportKind.FILLED:
            told += self._book_fill(order, report)
        self._note(order)
        if not order.is_open:
            self._retire(order)
            self._remember_end(order)
        return effect, told

    def _as_believed(self, order: Order, report: ExecutionReport) -> ExecutionReport:
        """Return an end that knows of fills which were lost on the way as what it is for us: nobody can say how the order ended.

        It counts at its worst until the venue, asked again, says those fills.
        """
        missing = (report.cum_quantity or 0) - order.filled_quantity
        if missing <= 0 or report.kind not in (ReportKind.CANCELED, ReportKind.EXPIRED) or not order.is_open:
            return report
        self.counts["ends_before_their_fills"] += 1
        reason = f"the venue ended it, and {missing} lots of what it filled are not said yet"
        return ExecutionReport(client_order_id=report.client_order_id, kind=ReportKind.LOST, ts_event=report.ts_event, reason=reason)

    def _book_fill(self, order: Order, report: ExecutionReport) -> tuple[Filled, PositionChanged]:
        self.counts["fills"] += 1
        intent = order.intent
        fill = fill_of(intent, report)
        position = self.portfolio.book(intent.strategy_id, intent.instrument_id)
        quantity = position.quantity
        net = position.net_realized if quantity == 0 else None
        changed = self.portfolio.apply(fill)
        self.losses.on_fill((intent.strategy_id, intent.instrument_id), position, quantity_before=quantity, net_before=net)
        return fill, changed

    def is_old_news(self, report: ExecutionReport) -> bool:
        """Return whether a report says again what is known. It is evidence all the same: a second word for an end confirms it."""
        order = self.find(report.client_order_id)
        if order is None:
            return False
        if report.kind in _SAME_END and order.status is _SAME_END[report.kind]:
            self.unconfirmed.pop(report.client_order_id, None)
            return True
        return order.knows(report)

    # --- looking orders up ---------------------------------------------------------------------------------------------------

    def find(self, client_order_id: str) -> Order | None:
        """Return an order that is in memory."""
        return self.open.get(client_order_id) or self._closed.get(client_order_id)

    def find_ever(self, client_order_id: str) -> Order | None:
        """Return an order of this run or of one before, out of the journal if it is no longer in memory."""
        return self.find(client_order_id) if self.fetch(client_order_id) else None

    def is_known(self, client_order_id: str) -> bool:
        """Return whether this id was ever used, in this run or before."""
        return self.find(client_order_id) is not None or self.ids.is_used(client_order_id)

    def fetch(self, client_order_id: str, *, before: int | None = None) -> bool:
        """Bring an order that was pruned from memory back from the journal; return whether there ever was one of this id."""
        if self.find(client_order_id) is not None:
            return True
        order: Order | None = None
        for record in self._journal.history(client_order_id, before=before):
            match record.message:
                case SubmitOrder() as intent:
                    order = Order(intent)
                case ExecutionReport() as report if order is not None:
                    order.apply(report)
                case ReplaceOrder() as change if order is not None and order.status in REPLACEABLE:
                    order.request_replace(change)
        if order is not None:
            self._retire(order)
        return order is not None

    def orders_of(self, strategy_id: str | None = None, instruments: dict[str, Instrument] | None = None) -> Iterator[Order]:
        """Return open orders, oldest first: of one strategy or of all, in some instruments or in all."""
        for order in self.open.values():
            is_here = instruments is None or order.intent.instrument_id in instruments
            if is_here and strategy_id in (None, order.intent.strategy_id):
                yield order

    def protects(self, order: Order) -> bool:
        """Return whether an order is a way out of a position, for as long as that is there or its entry is open."""
        return self._reducing.protects(order, self.find(order.intent.parent_id))

    def drop(self, client_order_id: str) -> None:
        """Forget an order that was added and then did not leave."""
        order = self.open.pop(client_order_id, None)
        if order is not None:
            order.status = OrderStatus.DENIED
            self._note(order)

    def _note(self, order: Order) -> None:
        if order.intent.oco_id or order.status is OrderStatus.SUSPENDED or not self._is_folding:
            self.held.note(order)
        if not self._is_folding:
            self.exposure.note(order)

    def _lots(self, strategy_id: str, instrument_id: str) -> int:
        return self.portfolio.position(strategy_id, instrument_id).quantity

    def _retire(self, order: Order) -> None:
        client_order_id = order.intent.client_order_id
        self.open.pop(client_order_id, None)
        self._closed[client_order_id] = order
        if len(self._closed) > CLOSED_ORDERS_KEPT:
            self._closed.popitem(last=False)

    def _remember_end(self, order: Order) -> None:
        client_order_id = order.intent.client_order_id
        if order.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED):
            self.unconfirmed[client_order_id] = None
            if len(self.unconfirmed) > ENDED_KEPT:
                self.unconfirmed.popitem(last=False)


def distrust(report: ExecutionReport) -> str:
    """Say why nobody can be sure of our position any more."""
    return f"the venue reports a fill that cannot be booked: order {foreign(report.client_order_id)} trade {foreign(report.trade_id)}"


def worth(instrument: Instrument, price_ticks: float) -> Decimal:
    """Return the money that one lot is worth at a price; never below zero, also where prices are."""
    return instrument.tick_value * Decimal(str(abs(price_ticks)))
