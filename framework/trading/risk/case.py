"""One order before the gate, and what several checks work out of it."""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property

from framework.messages import BookSnapshot, SubmitOrder
from framework.model import Side
from framework.trading.risk.limits import LimitBook, Scope
from framework.trading.risk.view import Loss, RiskView
from framework.trading.risk.windows import Recent, Throttles


class Case:
    """One order before the gate. What several checks need is worked out once, and only after the checks before have passed."""

    def __init__(self, order: SubmitOrder, view: RiskView, now_ns: int, *, limits: LimitBook, throttles: Throttles, recent: Recent) -> None:
        self.order = order
        self.view = view
        self.now_ns = now_ns
        self.limits = limits
        self.throttles = throttles
        self.recent = recent
        self._losses: dict[str, Loss] = {}

    @cached_property
    def scopes(self) -> tuple[Scope, ...]:
        """Return the scopes whose limits the order has to hold."""
        return self.limits.scopes(self.order.strategy_id, self.order.instrument_id)

    @cached_property
    def book(self) -> BookSnapshot | None:
        """Return the sound book of the instrument."""
        return self.view.book(self.order.instrument_id)

    @cached_property
    def worst_ticks(self) -> float:
        """Return the farthest price from zero that the order could trade at."""
        order = self.order
        if order.limit_ticks is not None:
            return abs(order.limit_ticks)
        return abs(marketable_limit(self)) if self.book is not None else 0.0

    @cached_property
    def order_notional(self) -> Decimal:
        """Return the money that the order could move."""
        return self.view.contract_value(self.order.instrument_id, self.worst_ticks) * self.order.quantity

    @cached_property
    def _worst_lots(self) -> int:
        """Return the lots of the account in this instrument if this order goes too and everything of the worse side fills."""
        order, view = self.order, self.view
        instrument_id = order.instrument_id
        lots = view.position(None, instrument_id)
        buys = view.open_quantity(None, instrument_id, Side.BUY) + (order.quantity if order.side is Side.BUY else 0)
        sells = view.open_quantity(None, instrument_id, Side.SELL) + (order.quantity if order.side is Side.SELL else 0)
        return max(abs(lots + buys), abs(lots - sells))

    @cached_property
    def gross_notional(self) -> Decimal:
        """Return the gross exposure of the account if this order goes too."""
        instrument_id = self.order.instrument_id
        return self.view.gross_notional(instrument_id) + self._worst_notional

    @cached_property
    def _worst_notional(self) -> Decimal:
        return self.view.contract_value(self.order.instrument_id, self.worst_ticks) * self._worst_lots

    def margin(self, share: Decimal) -> Decimal:
        """Return the margin of the account if this order goes too: by lots where the venue names one, else a share of the exposure."""
        instrument_id = self.order.instrument_id
        per_lot = self.view.margin_per_lot(instrument_id)
        own = per_lot * self._worst_lots if per_lot else self._worst_notional * share
        return self.view.margin(instrument_id, share) + own

    def loss(self, scope: Scope) -> Loss:
        """Return how a scope has done, worked out once an order."""
        found = self._losses.get(scope.name)
        if found is None:
            found = self._losses[scope.name] = self.view.loss(scope.strategy_id, scope.instrument_id)
        return found

    @cached_property
    def is_reducing(self) -> bool:
        """Return whether it cannot but make its strategy's position smaller, whatever else of that side fills."""
        return self.reduces(self.order.strategy_id)

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
