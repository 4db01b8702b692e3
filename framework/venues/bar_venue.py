"""The paper venue for recordings of bars alone (rules: `framework.venues.bar_matching`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from framework.config import PaperConfig
from framework.messages import ReportKind
from framework.model import Instrument, Side, TimeInForce
from framework.venues.bar_matching import BarEngine, HeldStop
from framework.venues.matcher import OpenOrder
from framework.venues.matching import MatchingEngine
from framework.venues.open_orders import ITS_TIME_IS_OVER, OpenOrders
from framework.venues.paper import PaperVenue
from framework.venues.queue_models import queue_model

Stops = Callable[[str], Iterable[tuple[str, Side, int]]]


class BarDesk(OpenOrders):
    """A desk at which orders wait for the open of a bar. They are open meanwhile: acknowledged, cancelable, changeable."""

    def __init__(self, *args: Any, may_trade: Callable[[OpenOrder], bool], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._may_trade = may_trade
        self._waiting: dict[str, OpenOrder] = {}

    def _place(self, order: OpenOrder) -> None:
        if self._may_trade(order):
            super()._place(order)
        else:
            self._waiting[order.client_order_id] = order

    def let_in(self, instrument_id: str) -> None:
        """Let the orders that wait for an open of the instrument trade, in the order in which they came."""
        for name, order in tuple(self._waiting.items()):
            if order.intent.instrument_id == instrument_id:
                del self._waiting[name]
                if self._orders.get(name) is order:
                    self._let_in(order)

    def _let_in(self, order: OpenOrder) -> None:
        intent = order.intent
        if intent.time_in_force is TimeInForce.GTD and intent.expire_ns is not None and intent.expire_ns <= self._now_ns():
            self.end(order, ReportKind.EXPIRED, reason=ITS_TIME_IS_OVER)
        elif refusal := self._refusal_to_take(order):
            self.end(order, ReportKind.CANCELED, reason=refusal)
        else:
            super()._place(order)

    def has_any(self, instrument_id: str) -> bool:
        """Return whether an order of the instrument is open."""
        return any(order.intent.instrument_id == instrument_id for order in self._orders.values())

    def lots(self, instrument_id: str) -> int:
        """Return the signed position of all strategies in an instrument."""
        return sum(lots for (_, name), lots in self._holdings.lots().items() if name == instrument_id)


class BarVenue(PaperVenue):
    """A paper venue that matches the instruments named in `in_bars` against their bars, and all others against their books.

    `held_stops` tells which stops are held on our side, by instrument: the way of a bar depends on them, and they fill at their own price.
    """

    _desk: BarDesk

    def __init__(self, settings: PaperConfig, instruments: Sequence[Instrument], in_bars: Iterable[str]) -> None:
        self._bar_engines = {instrument_id: BarEngine(settings) for instrument_id in in_bars}
        engines: dict[str, MatchingEngine] = {one.instrument_id: MatchingEngine(queue_model(settings)) for one in instruments}
        self._make_desk = partial(BarDesk, may_trade=self._may_trade)
        super().__init__(settings, instruments, engines=engines | self._bar_engines)
        self.in_bars = frozenset(self._bar_engines)
        self.held_stops: Stops = lambda _: ()

    def stops(self, instrument_id: str) -> list[HeldStop]:
        """Return the stops of an instrument that are held on our side."""
        return [HeldStop(*one) for one in self.held_stops(instrument_id)]

    def is_busy(self, instrument_id: str) -> bool:
        """Return whether the way of a bar matters: an order is open here or held as a stop, or there is a position."""
        desk = self._desk
        return bool(desk.has_any(instrument_id) or desk.lots(instrument_id) or self.stops(instrument_id))

    def lots(self, instrument_id: str) -> int:
        """Return the signed position of all strategies in an instrument."""
        return self._desk.lots(instrument_id)

    def engine_of(self, instrument_id: str) -> BarEngine:
        """Return what matches the bars of an instrument."""
        return self._bar_engines[instrument_id]

    def let_in(self, instrument_id: str) -> None:
        """Let the orders trade that wait for an open."""
        self._desk.let_in(instrument_id)

    def _may_trade(self, order: OpenOrder) -> bool:
        engine = self._bar_engines.get(order.intent.instrument_id)
        return engine is None or engine.may_trade(order.client_order_id)
