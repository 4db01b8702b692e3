"""The paper venue: our orders against a replayed market, with latency, queue position, partial fills and fees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from framework.clock import Clock
from framework.config import PaperConfig
from framework.errors import ConfigError
from framework.market.feed import arrival_ns
from framework.market.order_log import OrderChange
from framework.messages import BookSnapshot, ExecutionReport, MarketEvent, ReportKind, SessionChanged, SubmitOrder, TradeTick
from framework.model import NS_PER_MS, NS_PER_S, Instrument, Liquidity, TimeInForce
from framework.venues.at_desk import AtDesk
from framework.venues.fifo import FifoEngine
from framework.venues.latency import latencies
from framework.venues.margin import MarginAccount
from framework.venues.matcher import OpenOrder
from framework.venues.matching import Execution, MatchingEngine
from framework.venues.open_orders import OpenOrders
from framework.venues.port import Standing
from framework.venues.queue_models import queue_model


class PaperVenue(AtDesk):
    """A `Venue` that matches against the books and trade ticks of a feed (rules: `framework.venues.matching`).

    An order reaches the book `order_latency_ms` after it was sent and meets the book of that instant; what the venue says
    reaches us `response_latency_ms` later (or as `framework.venues.latency` draws or reads it). Times are market time. What does
    not rest trades what it can, and the remainder is CANCELED. DAY orders EXPIRE when the session closes (not in a halt), the others
    stay and stand at the end of their queues when it opens again. Orders and changes while it is closed are refused.
    """

    name = "PAPER"
    _make_desk: Callable[..., OpenOrders] = OpenOrders
    sweep_ns = 3_600 * NS_PER_S
    """Seldom: nothing gets lost within a process, and most orders of bars rest for hours."""

    def __init__(
        self,
        settings: PaperConfig,
        instruments: Iterable[Instrument],
        *,
        order_logs: Mapping[str, Iterator[OrderChange]] | None = None,
        engines: Mapping[str, MatchingEngine] | None = None,
    ) -> None:
        """`order_logs` by instrument go with `queue_model: fifo`; `engines` take the place of those that the settings name.

        Raises `ConfigError` for a setting that cannot be.
        """
        out, back = latencies(settings)
        instruments = tuple(instruments)
        self._desk = self._make_desk(
            "P",
            self,
            fees={Liquidity.MAKER: settings.maker_fee, Liquidity.TAKER: settings.taker_fee},
            out=out,
            back=back,
            feed_latency_ns=round(settings.feed_latency_ms * NS_PER_MS),
            margin=MarginAccount.of(settings, instruments),
        )
        self._instruments = {instrument.instrument_id: instrument for instrument in instruments}
        self._engines = dict(engines or _engines(settings, self._instruments, order_logs or {}))
        self._closed: dict[str, str] = {}
        self._is_behind = settings.feed_latency_ms > 0
        self._on_event: dict[type, Callable[[MatchingEngine, Any], list[Execution]]] = {
            BookSnapshot: lambda engine, book: engine.on_book(book),
            TradeTick: lambda engine, tick: engine.on_trade(tick),
            SessionChanged: self._on_session,
        }

    # --- Venue -------------------------------------------------------------------------------------------------------------

    def start(self, clock: Clock, sink: Callable[[ExecutionReport], None]) -> None:
        """Begin; venue order ids of this run carry its start time."""
        self._desk.start(clock, sink, f"{clock.now_ns() // NS_PER_MS:x}")

    def standing(self) -> Standing:
        """Return what is open and held here."""
        return self._desk.standing()

    def take_over(self, before: PaperVenue) -> None:
        """Go on for a venue that has stopped (after `start`); each of its orders stands at the end of its queue."""
        self._desk.take_over(before._desk)

    def _trades(self, instrument_id: str) -> bool:
        return instrument_id in self._engines

    def on_market(self, event: MarketEvent) -> None:
        """Match resting orders against a market event."""
        handler = self._on_event.get(type(event))
        engine = self._engines.get(event.instrument_id)
        if handler is None or engine is None:
            return
        if self._is_behind:
            self._desk.catch_up(event.ts_event)
        if engine.reads_ahead:
            self.execute(engine.advance(arrival_ns(event)))
        fills = handler(engine, event)
        if fills:
            self.execute(fills)
        if self._desk.margin is not None and isinstance(event, BookSnapshot):
            self._desk.margin.mark(event)
            self._desk.review_margin()

    def _on_session(self, engine: MatchingEngine, session: SessionChanged) -> list[Execution]:
        instrument_id = session.instrument_id
        if session.is_open:
            self._closed.pop(instrument_id, None)
            return []
        self._closed[instrument_id] = "trading is halted" if session.is_halt else "session is closed"
        for order in self._desk.of(instrument_id):
            if order.intent.time_in_force is TimeInForce.DAY and not session.is_halt:
                self.remove(order)
                self._desk.end(order, ReportKind.EXPIRED, reason=f"session closed ({session.reason})")
        engine.close()
        return []

    def execute(self, fills: Iterable[Execution]) -> None:
        """Report what a matching engine decided on."""
        for fill in fills:
            self._desk.fill(fill.client_order_id, fill.quantity, fill.price_ticks, fill.liquidity)

    # --- Matcher -----------------------------------------------------------------------------------------------------------

    def refusal(self, order: SubmitOrder) -> str:
        """Return why an order is not taken: instrument, session, price limits."""
        instrument = self._instruments.get(order.instrument_id)
        if instrument is None:
            return f"unknown instrument {order.instrument_id}"
        return self._closed.get(order.instrument_id, "") or _beyond_limits(order, instrument)

    def takeable(self, order: OpenOrder) -> int:
        """Return how many lots would trade at once."""
        return self._engine(order).takeable(order.side, order.limit_ticks, order.left)

    def take(self, order: OpenOrder) -> None:
        """Trade what is displayed within the limit."""
        self.execute(self._engine(order).take(order.client_order_id, order.side, order.limit_ticks, order.left))

    def ahead(self, order: OpenOrder) -> float | None:
        """Return the lots that the market shows at its price."""
        return None if order.limit_ticks is None else self._engine(order).lots_at(order.side, order.limit_ticks)

    def rest(self, order: OpenOrder) -> None:
        """Join the queue."""
        if order.limit_ticks is not None:
            self._engine(order).rest(order.client_order_id, order.side, order.limit_ticks, order.left)

    def resize(self, order: OpenOrder) -> None:
        """Get smaller in place."""
        self._engine(order).resize(order.client_order_id, order.left)

    def remove(self, order: OpenOrder) -> None:
        """Leave the queue."""
        self._engine(order).remove(order.client_order_id)

    def advance(self, now_ns: int) -> None:
        """Read the logs of orders up to now."""
        for engine in self._engines.values():
            if engine.reads_ahead:
                self.execute(engine.advance(now_ns))

    def _engine(self, order: OpenOrder) -> MatchingEngine:
        return self._engines[order.intent.instrument_id]


def _engines(
    settings: PaperConfig, instruments: Iterable[str], order_logs: Mapping[str, Iterator[OrderChange]]
) -> dict[str, MatchingEngine]:
    if settings.queue_model != "fifo":
        return {instrument_id: MatchingEngine(queue_model(settings)) for instrument_id in instruments}
    missing = [instrument_id for instrument_id in instruments if instrument_id not in order_logs]
    if missing:
        raise ConfigError(
            f"paper.queue_model: found fifo; the recording has no orders of {', '.join(missing)}, allowed are the other models"
        )
    return {instrument_id: FifoEngine(order_logs[instrument_id]) for instrument_id in instruments}


def _beyond_limits(order: SubmitOrder, instrument: Instrument) -> str:
    limit_ticks, lower, upper = order.limit_ticks, instrument.lower_limit_ticks, instrument.upper_limit_ticks
    if limit_ticks is None or ((lower is None or limit_ticks >= lower) and (upper is None or limit_ticks <= upper)):
        return ""
    return f"price {limit_ticks} is beyond the price limits; allowed {lower} to {upper} ticks"
