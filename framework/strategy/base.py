"""`Strategy`: the base of every strategy.

A strategy has hooks (`on_x`: the framework calls them, one at a time), verbs (`buy`, `sell`, `bracket`, `amend`, `close`, `cancel`,
`request_prediction`, `record_decision`) and sights (`position_lots`, `open_orders`, `dom`, `book`, `now_ns`). Nothing in it
suspends: answers come back through the hooks. The same class runs in backtest, paper and live.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final, NamedTuple, Unpack

import msgspec

from framework.config import Settings
from framework.inference.analyzer import NotDue, Requested
from framework.inference.decision import Cell
from framework.messages import (
    Action,
    Bar,
    BookInvalid,
    BookRecovered,
    BookSnapshot,
    CancelOrder,
    DecisionMade,
    DomUpdated,
    Filled,
    OrderUpdated,
    PositionChanged,
    Prediction,
    PredictionFailed,
    ReplaceOrder,
    SessionChanged,
    SubmitList,
    SubmitOrder,
    TradeTick,
)
from framework.model import CLOSED, NS_PER_S, OrderStatus, Side
from framework.strategy.context import StrategyContext
from framework.strategy.ordering import Bracket, LegOptions, OrderMaker, OrderOptions, Price, sent

EXECUTION: Final = "execution"
MAX_REASONS: Final = 100
REFUSED: Final = frozenset({OrderStatus.DENIED, OrderStatus.REJECTED})
_PENDING_CANCEL: Final = OrderStatus.PENDING_CANCEL


class _WaitingClose(NamedTuple):
    """A close that waits for the end of another order: sign of the position, decision."""

    sign: int
    decision_id: str | None


class Strategy:
    """Base of every strategy: subclass it, nest a `Parameters`, override the hooks you need."""

    class Parameters(Settings):
        """Settings of the strategy (`parameters:` in its YAML): strict types, no unknown keys, frozen."""

    parameters: Parameters

    def __init__(self, context: StrategyContext, parameters: Parameters) -> None:
        self.parameters = parameters
        self.strategy_id = context.file.name
        self.instrument = context.instrument
        self.dom = context.dom
        self.book: BookSnapshot | None = None
        self.position_lots = context.recovered.position_lots
        self.average_ticks = context.recovered.average_ticks
        self.position_since_ns = context.clock.now_ns()
        self.log = logging.getLogger(type(self).__name__)
        self.context = context
        self._maker = OrderMaker(self.strategy_id, self.instrument, context.clock, context.order_ids)
        self._open_orders = {order.client_order_id: order for order in context.recovered.open_orders}
        self._open_view = MappingProxyType(self._open_orders)
        self._sent_ns = {order.client_order_id: order.ts_event for order in context.recovered.open_orders}
        self._close_order_id = self._recovered_close()
        self._waiting_close: _WaitingClose | None = None
        self._refused_ns: int | None = None
        self._decisions: Counter[str] = Counter()
        self.apply_soundness(is_sound=context.is_book_sound)

    # --- hooks ---------------------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Prepare state; position and open orders of the run before are already here."""

    def on_dom(self, update: DomUpdated) -> None:
        """React to a new row of the DOM buffer (the newest one: under load, older updates are skipped)."""

    def on_trade_tick(self, tick: TradeTick) -> None:
        """React to a public print."""

    def on_bar(self, bar: Bar) -> None:
        """React to a finished bar."""

    def on_prediction(self, prediction: Prediction) -> None:
        """React to a prediction that this strategy asked for."""

    def on_prediction_failed(self, failure: PredictionFailed) -> None:
        """React to a request that ended without a prediction."""

    def on_order(self, order: OrderUpdated) -> None:
        """React to a change of one of this strategy's orders (`open_orders` is already up to date)."""

    def on_fill(self, fill: Filled) -> None:
        """React to an execution."""

    def on_position(self, position: PositionChanged) -> None:
        """React to a new position (`position_lots` is already up to date)."""

    def on_book_invalid(self, event: BookInvalid) -> None:
        """React to a refused book: the instrument takes no new risk until `on_book_recovered`."""

    def on_book_recovered(self, event: BookRecovered) -> None:
        """React to sound books after invalid ones."""

    def on_session(self, session: SessionChanged) -> None:
        """React to the opening or closing of trading."""

    def on_stop(self) -> None:
        """Say goodbye; orders that are still open stay with Execution."""

    # --- sights --------------------------------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """Return the market time, ns UTC."""
        return self.context.clock.now_ns()

    @property
    def position_age_s(self) -> float:
        """Return for how long the position has had its sign (since the start, if it was there before), s of market time."""
        return (self.now_ns - self.position_since_ns) / NS_PER_S

    @property
    def open_orders(self) -> Mapping[str, OrderUpdated]:
        """Return this strategy's open orders by `client_order_id`, from the moment they were sent."""
        return self._open_view

    def order_age_s(self, client_order_id: str) -> float:
        """Return how long ago an open order was sent, s of market time. Raises `KeyError` for one that is not open."""
        return (self.now_ns - self._sent_ns[client_order_id]) / NS_PER_S

    @property
    def refused_age_s(self) -> float:
        """Return how long ago an order was last denied or rejected, s of market time (infinite if none was)."""
        return math.inf if self._refused_ns is None else (self.now_ns - self._refused_ns) / NS_PER_S

    @property
    def is_closing(self) -> bool:
        """Return whether the last `close` is still on its way."""
        return self._waiting_close is not None or self._close_order_id in self._open_orders

    def stats(self) -> dict[str, int]:
        """Return counters: decisions by reason, and the analyzer's."""
        decisions = {f"decisions_{reason.lower()}": count for reason, count in sorted(self._decisions.items())}
        analyzer = self.context.analyzer
        return decisions | (analyzer.stats() if analyzer else {})

    # --- verbs ---------------------------------------------------------------------------------------------------------

    def buy(self, quantity: int, **options: Unpack[OrderOptions]) -> str:
        """Send an order to buy `quantity` lots; promises as for `submit`."""
        return self.submit(Side.BUY, quantity, **options)

    def sell(self, quantity: int, **options: Unpack[OrderOptions]) -> str:
        """Send an order to sell `quantity` lots; promises as for `submit`."""
        return self.submit(Side.SELL, quantity, **options)

    def submit(self, side: Side, quantity: int, **options: Unpack[OrderOptions]) -> str:
        """Send an order through the risk gate and return its `client_order_id`.

        What becomes of it (a denial too) arrives in `on_order`. Raises `ValueError` for a quantity below 1 or options that
        contradict each other, and `OffTickPrice` for a price between two ticks.
        """
        order = self.make_order(side, quantity, **options)
        self._note_sent(order)
        self.context.bus.tell(EXECUTION, order)
        return order.client_order_id

    def make_order(self, side: Side, quantity: int, **options: Unpack[OrderOptions]) -> SubmitOrder:
        """Return an order without sending it, for `send_oco`. Raises as `submit` does."""
        return self._maker.order(side, quantity, **options)

    @contextmanager
    def based_on(self, prediction: Prediction | None) -> Iterator[None]:
        """Send the orders of the block on a prediction: the gate denies those that it is too old for (`max_prediction_age_s`)."""
        self._maker.as_of_ns = None if prediction is None else prediction.as_of_ns
        try:
            yield
        finally:
            self._maker.as_of_ns = None

    def bracket(self, side: Side, quantity: int, **options: Unpack[LegOptions]) -> Bracket:
        """Send an entry with a target, a stop or both, and return their ids: all are let through, or none.

        The legs wait here for the entry, leave what it filled, and stay over session breaks; what one leg fills, the other loses.
        Raises as `submit` does, and `ValueError` without any leg.
        """
        orders, ids = self._maker.bracket(side, quantity, options)
        self._send_list(orders)
        return ids

    def send_oco(self, *orders: SubmitOrder) -> tuple[str, ...]:
        """Send orders (from `make_order`) of which only as much as one may fill; return their ids: all are let through, or none."""
        group = orders[0].client_order_id
        self._send_list(tuple(msgspec.structs.replace(order, oco_id=group) for order in orders))
        return tuple(order.client_order_id for order in orders)

    def amend(
        self,
        client_order_id: str,
        *,
        quantity: int | None = None,
        limit_ticks: int | None = None,
        limit_price: Price | None = None,
        stop_ticks: int | None = None,
        stop_price: Price | None = None,
    ) -> bool:
        """Ask for other terms of an open order; `quantity` is the new total, fills included. Returns False when it is not open.

        An order that only gets smaller keeps its place in the queue. Whether it was changed arrives in `on_order`.
        Raises as `submit` does.
        """
        if client_order_id not in self._open_orders:
            return False
        change = ReplaceOrder(
            client_order_id=client_order_id,
            strategy_id=self.strategy_id,
            ts_event=self.now_ns,
            quantity=quantity,
            limit_ticks=self._maker.ticks("limit", limit_ticks, limit_price),
            stop_ticks=self._maker.ticks("stop", stop_ticks, stop_price),
        )
        self.context.bus.tell(EXECUTION, change)
        return True

    def close(self, *, decision_id: str | None = None) -> str | None:
        """Cancel all open orders and leave the position at market.

        Returns the order, or None when flat or already closing. While an order that leaves the position too is still open,
        closing waits for the end of that order (its cancel may come too late), and goes on at the next book after it.
        """
        if self.position_lots == 0 or self.is_closing:
            return None
        self.cancel_all()
        if self._is_leaving():
            self._waiting_close = _WaitingClose(_sign(self.position_lots), decision_id)
            return None
        return self._send_close(decision_id)

    def cancel(self, client_order_id: str) -> bool:
        """Ask the venue to cancel an open order. Returns False when it is not open or a cancel is already on its way."""
        order = self._open_orders.get(client_order_id)
        if order is None or order.status is _PENDING_CANCEL:
            return False
        self._open_orders[client_order_id] = msgspec.structs.replace(order, status=_PENDING_CANCEL)
        command = CancelOrder(client_order_id=client_order_id, strategy_id=self.strategy_id, ts_event=self.now_ns)
        self.context.bus.tell(EXECUTION, command)
        return True

    def cancel_all(self) -> int:
        """Cancel every open order of this strategy and return how many cancels were sent."""
        return sum(self.cancel(client_order_id) for client_order_id in tuple(self._open_orders))

    def request_prediction(self) -> Requested | NotDue:
        """Ask for a prediction on the DOM as it is now, if one is due; the answer arrives in `on_prediction(_failed)`."""
        if self.context.analyzer is None:
            return NotDue(Cell.ML_DOWN)
        return self.context.analyzer.request(self.dom, self.now_ns)

    def next_decision_id(self) -> str:
        """Return a new id for the orders of a decision and its record."""
        return self.context.decision_ids.next_id()

    def record_decision(
        self,
        action: Action,
        reason: str,
        *,
        decision_id: str | None = None,
        prediction: Prediction | None = None,
        prediction_id: str | None = None,
        client_order_ids: tuple[str, ...] = (),
    ) -> str:
        """Publish a decision, acted on or not, and return its id: feedback follows it from here.

        Give the orders the same `decision_id`. Raises `ValueError` before the first book: there is nothing to decide on.
        """
        if self.book is None:
            raise ValueError(f"{self.strategy_id}: record_decision needs a book; decide in on_dom or later")
        decision = DecisionMade(
            decision_id=decision_id or self.next_decision_id(),
            strategy_id=self.strategy_id,
            instrument_id=self.instrument.instrument_id,
            ts_event=self.now_ns,
            action=action,
            reason=reason,
            prediction_id=prediction.prediction_id if prediction else prediction_id,
            flow_type=prediction.flow_type if prediction else None,
            confidence=prediction.confidence if prediction else None,
            model_version=prediction.model_version if prediction else None,
            position_lots=self.position_lots,
            book=self.book,
            client_order_ids=client_order_ids,
            as_of_sequence=prediction.as_of_sequence if prediction else 0,
        )
        known = reason in self._decisions or len(self._decisions) < MAX_REASONS
        self._decisions[reason if known else "other"] += 1
        self.context.bus.publish(decision)
        return decision.decision_id

    # --- what the actor applies before it calls a hook -------------------------------------------------------------------

    def apply_book(self, book: BookSnapshot) -> None:
        """Take the newest book, and go on with a close that waited for another order."""
        self.book = book
        waiting = self._waiting_close
        if waiting is not None and not self._is_leaving():
            self._waiting_close = None
            # A position of the other sign is not the one that was to be closed.
            if _sign(self.position_lots) == waiting.sign:
                self._send_close(waiting.decision_id)

    def apply_soundness(self, *, is_sound: bool) -> None:
        """Take whether the book of the instrument is valid."""
        self.is_book_sound = is_sound
        if self.context.analyzer is not None:
            self.context.analyzer.is_book_sound = is_sound

    def apply_order(self, order: OrderUpdated) -> None:
        """Take a new state of one of this strategy's orders."""
        if order.status in REFUSED:
            self._refused_ns = order.ts_event
        if order.status in CLOSED:
            self._open_orders.pop(order.client_order_id, None)
            self._sent_ns.pop(order.client_order_id, None)
        else:
            self._open_orders[order.client_order_id] = order
            self._sent_ns.setdefault(order.client_order_id, order.ts_event)

    def apply_position(self, position: PositionChanged) -> None:
        """Take the new position; `position_since_ns` moves when its sign changes."""
        if _sign(position.quantity) != _sign(self.position_lots):
            self.position_since_ns = position.ts_event
        self.position_lots = position.quantity
        self.average_ticks = position.average_ticks

    def _is_leaving(self) -> bool:
        """Return whether an open order leaves the position: with a second one, it could turn round."""
        return any(order.side.sign * self.position_lots < 0 for order in self._open_orders.values())

    def _send_close(self, decision_id: str | None) -> str:
        side = Side.SELL if self.position_lots > 0 else Side.BUY
        self._close_order_id = self.submit(side, abs(self.position_lots), reduce_only=True, decision_id=decision_id)
        return self._close_order_id

    def _recovered_close(self) -> str | None:
        """Return the order of the run before that leaves the position at market, so that it is not sent twice."""
        leaving = (
            order.client_order_id
            for order in self._open_orders.values()
            if order.limit_ticks is None and not order.order_type.is_stop and order.side.sign * self.position_lots < 0
        )
        return next(leaving, None)

    def _note_sent(self, order: SubmitOrder) -> None:
        self._open_orders[order.client_order_id] = sent(order)
        self._sent_ns[order.client_order_id] = order.ts_event

    def _send_list(self, orders: tuple[SubmitOrder, ...]) -> None:
        for order in orders:
            self._note_sent(order)
        self.context.bus.tell(EXECUTION, SubmitList(strategy_id=self.strategy_id, ts_event=self.now_ns, orders=orders))


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
