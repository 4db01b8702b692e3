"""One order before the gate, and what several checks work out of it."""

from __future__ import annotations

from decimal import Decimal

from framework.messages import BookSnapshot, SubmitOrder
from framework.model import Side
from framework.trading.risk.limits import Binding, LimitBook, Scope
from framework.trading.risk.view import Loss, RiskView
from framework.trading.risk.windows import Recent, Throttles


class Case:
    """One order before the gate. What several checks need is worked out once, and only after the checks before have passed.

    By hand and in slots: before Python 3.12 each `cached_property` takes a lock, and a dictionary a case is work for the collector.
    """

    __slots__ = (
        "_book",
        "_bound",
        "_is_reducing",
        "_losses",
        "_order_notional",
        "_worst_lots",
        "_worst_ticks",
        "limits",
        "now_ns",
        "order",
        "recent",
        "throttles",
        "view",
    )

    def __init__(self, order: SubmitOrder, view: RiskView, now_ns: int, *, limits: LimitBook, throttles: Throttles, recent: Recent) -> None:
        self.order = order
        self.view = view
        self.now_ns = now_ns
        self.limits = limits
        self.throttles = throttles
        self.recent = recent
        self._bound: tuple[tuple[Scope, ...], Binding] | None = None
        self._book: BookSnapshot | None = None
        self._losses: dict[str, Loss] = {}
        self._worst_ticks: float | None = None
        self._order_notional: Decimal | None = None
        self._worst_lots: int | None = None
        self._is_reducing: bool | None = None

    @property
    def bound(self) -> Binding:
        """Return the limits that are set for the order, by their keys."""
        return self._limits_of_order()[1]

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Return the scopes whose limits the order has to hold."""
        return self._limits_of_order()[0]

    def _limits_of_order(self) -> tuple[tuple[Scope, ...], Binding]:
        if self._bound is None:
            self._bound = self.limits.bound(self.order.strategy_id, self.order.instrument_id)
        return self._bound

    @property
    def book(self) -> BookSnapshot | None:
        """Return the sound book of the instrument."""
        if self._book is None:
            self._book = self.view.book(self.order.instrument_id)
        return self._book

    @property
    def worst_ticks(self) -> float:
        """Return the farthest price from zero that the order could trade at."""
        if self._worst_ticks is None:
            limit_ticks = self.order.limit_ticks
            if limit_ticks is None:
                limit_ticks = marketable_limit(self) if self.book is not None else 0
            self._worst_ticks = abs(limit_ticks)
        return self._worst_ticks

    @property
    def order_notional(self) -> Decimal:
        """Return the money that the order could move."""
        if self._order_notional is None:
            self._order_notional = self.view.contract_value(self.order.instrument_id, self.worst_ticks) * self.order.quantity
        return self._order_notional

    @property
    def worst_lots(self) -> int:
        """Return the lots of the account in this instrument if this order goes too and everything of the worse side fills."""
        if self._worst_lots is None:
            order, view = self.order, self.view
            lots = view.position(None, order.instrument_id)
            own, other = (view.open_quantity(None, order.instrument_id, side) for side in (order.side, order.side.opposite))
            signed = lots * order.side.sign
            self._worst_lots = max(abs(signed + own + order.quantity), abs(signed - other))
        return self._worst_lots

    @property
    def gross_notional(self) -> Decimal:
        """Return the gross exposure of the account if this order goes too."""
        return self.view.gross_notional(self.order.instrument_id) + self._worst_notional()

    def _worst_notional(self) -> Decimal:
        return self.view.contract_value(self.order.instrument_id, self.worst_ticks) * self.worst_lots

    def margin(self, share: Decimal) -> Decimal:
        """Return the margin of the account if this order goes too: by lots where the venue names one, else a share of the exposure."""
        instrument_id = self.order.instrument_id
        per_lot = self.view.margin_per_lot(instrument_id)
        own = per_lot * self.worst_lots if per_lot else self._worst_notional() * share
        return self.view.margin(instrument_id, share) + own

    def loss(self, scope: Scope) -> Loss:
        """Return how a scope has done, worked out once an order."""
        found = self._losses.get(scope.name)
        if found is None:
            found = self._losses[scope.name] = self.view.loss(scope.strategy_id, scope.instrument_id)
        return found

    @property
    def is_reducing(self) -> bool:
        """Return whether it cannot but make its strategy's position smaller, whatever else of that side fills."""
        if self._is_reducing is None:
            self._is_reducing = self.reduces(self.order.strategy_id)
        return self._is_reducing

    def reduces(self, strategy_id: str | None) -> bool:
        """Return whether a position cannot become larger or turn by this order and the open ones of its side."""
        order, view = self.order, self.view
        position = view.position(strategy_id, order.instrument_id)
        if position * order.side.sign >= 0:
            return False
        return view.open_quantity(strategy_id, order.instrument_id, order.side) + order.quantity <= abs(position)


def marketable_limit(case: Case) -> int:
    """Return the limit that a market order goes with: the collar's edge, or one tick short of our own order before it."""
    order, found = case.order, case.book
    assert found is not None
    edge, sign = int(case.limits.get("price_collar_ticks")), order.side.sign
    limit = (found.ask_ticks[0] if order.side is Side.BUY else found.bid_ticks[0]) + sign * edge
    own = case.view.best_resting(order.instrument_id, order.side.opposite) if case.limits.config.prevent_self_trade else None
    if own is None:
        return limit
    return min(limit, own - 1) if order.side is Side.BUY else max(limit, own + 1)
