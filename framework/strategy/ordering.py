"""From the words of a strategy to the orders that Execution understands. Nothing is sent here."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple, TypedDict, Unpack

import msgspec

from framework.clock import Clock
from framework.messages import OrderUpdated, SubmitOrder
from framework.model import NS_PER_S, Instrument, OrderStatus, OrderType, Side, TimeInForce, TriggerPrice
from framework.strategy.context import IdSequence
from framework.trading.order_states import is_held

Price = Decimal | float | str
# Bound once: as `TimeInForce.DAY` a word is looked up in 0.2 us (Python 3.11), several times for each order.
_DAY: Final = TimeInForce.DAY
_QUOTE: Final = TriggerPrice.QUOTE
_SUSPENDED, _PENDING_NEW = OrderStatus.SUSPENDED, OrderStatus.PENDING_NEW
_MARKET, _LIMIT = OrderType.MARKET, OrderType.LIMIT


class OrderOptions(TypedDict, total=False):
    """How an order may trade; without any price it is a market order.

    `limit_...`, `stop_...`: give ticks or price, not both. A stop with a limit is a stop-limit order; `trail_ticks` makes it a
    trailing stop. `expires_s` makes it good till that many seconds from now. `reduce_only`, `post_only`: never enlarges or turns
    the position; never takes. `as_of_ns`: market time of the last row that the prediction behind the order saw, for the gate's
    `max_prediction_age_s`.
    """

    limit_ticks: int | None
    limit_price: Price | None
    stop_ticks: int | None
    stop_price: Price | None
    trail_ticks: int | None
    trigger: TriggerPrice
    time_in_force: TimeInForce
    expires_s: float | None
    post_only: bool
    reduce_only: bool
    decision_id: str | None
    as_of_ns: int | None


class LegOptions(TypedDict, total=False):
    """Where a bracket leaves its position: a target, a stop (fixed or trailing), or both. The rest is about the entry."""

    limit_ticks: int | None
    limit_price: Price | None
    target_ticks: int | None
    target_price: Price | None
    stop_ticks: int | None
    stop_price: Price | None
    trail_ticks: int | None
    trigger: TriggerPrice
    time_in_force: TimeInForce
    decision_id: str | None
    as_of_ns: int | None


class Bracket(NamedTuple):
    """The ids of an entry and of its legs; a leg that was not asked for is None."""

    entry: str
    target: str | None
    stop: str | None


class OrderMaker:
    """Make the orders of one strategy. Raises `ValueError` for what contradicts itself, `OffTickPrice` for a price between two ticks."""

    def __init__(self, strategy_id: str, instrument: Instrument, clock: Clock, order_ids: IdSequence) -> None:
        self._strategy_id = strategy_id
        self._instrument = instrument
        self._clock = clock
        self._order_ids = order_ids
        self.as_of_ns: int | None = None
        """What orders are based on that name nothing themselves."""

    def order(self, side: Side, quantity: int, **options: Unpack[OrderOptions]) -> SubmitOrder:
        """Return an order; its type follows from the prices that it has."""
        if not isinstance(quantity, int) or quantity < 1:
            raise ValueError(f"{self._strategy_id}: quantity must be a whole number of lots, at least 1, got {quantity!r}")
        now_ns = self._clock.now_ns()
        limit_ticks = self.ticks("limit", options.get("limit_ticks"), options.get("limit_price"))
        stop_ticks = self.ticks("stop", options.get("stop_ticks"), options.get("stop_price"))
        time_in_force, expire_ns = self._lifetime(now_ns, options)
        return SubmitOrder(
            client_order_id=self._order_ids.next_id(),
            strategy_id=self._strategy_id,
            instrument_id=self._instrument.instrument_id,
            side=side,
            quantity=quantity,
            order_type=_type_of(limit_ticks, stop_ticks, options.get("trail_ticks")),
            limit_ticks=limit_ticks,
            time_in_force=time_in_force,
            ts_event=now_ns,
            reduce_only=options.get("reduce_only", False),
            decision_id=options.get("decision_id"),
            stop_ticks=stop_ticks,
            trail_ticks=options.get("trail_ticks"),
            trigger=options.get("trigger", _QUOTE),
            post_only=options.get("post_only", False),
            expire_ns=expire_ns,
            as_of_ns=options.get("as_of_ns", self.as_of_ns),
        )

    def bracket(self, side: Side, quantity: int, options: LegOptions) -> tuple[tuple[SubmitOrder, ...], Bracket]:
        """Return an entry and its legs, bound to it and to each other, and their ids."""
        entry_options = _entry_options(options)
        target_options, stop_options = self._target_options(options), self._stop_options(options)
        if target_options is None and stop_options is None:
            raise ValueError(f"{self._strategy_id}: a bracket needs a target or a stop")
        entry = self.order(side, quantity, **entry_options)
        name = entry.client_order_id
        target, stop = (
            None
            if leg_options is None
            else msgspec.structs.replace(self.order(side.opposite, quantity, **leg_options), parent_id=name, oco_id=name)
            for leg_options in (target_options, stop_options)
        )
        orders = tuple(order for order in (entry, target, stop) if order is not None)
        return orders, Bracket(name, target.client_order_id if target else None, stop.client_order_id if stop else None)

    def ticks(self, name: str, ticks: int | None, price: Price | None) -> int | None:
        """Return a price that was given in ticks or as a price, None if in neither."""
        if ticks is not None and price is not None:
            raise ValueError(f"{self._strategy_id}: give {name}_ticks or {name}_price, not both")
        return ticks if price is None else self._instrument.ticks(price)

    def _target_options(self, options: LegOptions) -> OrderOptions | None:
        target_ticks = self.ticks("target", options.get("target_ticks"), options.get("target_price"))
        return None if target_ticks is None else {**_leg_options(options), "limit_ticks": target_ticks}

    def _stop_options(self, options: LegOptions) -> OrderOptions | None:
        stop_ticks = self.ticks("stop", options.get("stop_ticks"), options.get("stop_price"))
        trail_ticks = options.get("trail_ticks")
        if stop_ticks is None and trail_ticks is None:
            return None
        trigger = options.get("trigger", _QUOTE)
        return {**_leg_options(options), "stop_ticks": stop_ticks, "trail_ticks": trail_ticks, "trigger": trigger}

    def _lifetime(self, now_ns: int, options: OrderOptions) -> tuple[TimeInForce, int | None]:
        expires_s = options.get("expires_s")
        if expires_s is None:
            return options.get("time_in_force", _DAY), None
        if options.get("time_in_force", TimeInForce.GTD) is not TimeInForce.GTD or not expires_s > 0:
            raise ValueError(f"{self._strategy_id}: expires_s is a number of seconds above 0 and goes with GTD only, got {expires_s!r}")
        return TimeInForce.GTD, now_ns + round(expires_s * NS_PER_S)


def _entry_options(options: LegOptions) -> OrderOptions:
    entry: OrderOptions = {
        "limit_ticks": options.get("limit_ticks"),
        "limit_price": options.get("limit_price"),
        "time_in_force": options.get("time_in_force", TimeInForce.DAY),
        "decision_id": options.get("decision_id"),
    }
    return entry | {"as_of_ns": options["as_of_ns"]} if "as_of_ns" in options else entry


def _leg_options(options: LegOptions) -> OrderOptions:
    # A leg protects a position, and that may outlive the session, and any prediction.
    return {"time_in_force": TimeInForce.GTC, "reduce_only": True, "decision_id": options.get("decision_id"), "as_of_ns": None}


def sent(order: SubmitOrder) -> OrderUpdated:
    """Return an order as it is the moment it was sent."""
    return OrderUpdated(
        client_order_id=order.client_order_id,
        strategy_id=order.strategy_id,
        instrument_id=order.instrument_id,
        ts_event=order.ts_event,
        side=order.side,
        quantity=order.quantity,
        filled_quantity=0,
        average_ticks=None,
        limit_ticks=order.limit_ticks,
        status=_SUSPENDED if is_held(order) else _PENDING_NEW,
        decision_id=order.decision_id,
        order_type=order.order_type,
        stop_ticks=order.stop_ticks,
        time_in_force=order.time_in_force,
    )


def _type_of(limit_ticks: int | None, stop_ticks: int | None, trail_ticks: int | None) -> OrderType:
    if trail_ticks is not None:
        return OrderType.TRAILING_STOP
    if stop_ticks is not None:
        return OrderType.STOP if limit_ticks is None else OrderType.STOP_LIMIT
    return _MARKET if limit_ticks is None else _LIMIT
