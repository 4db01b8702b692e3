"""The built-in simulated futures market: a feed and a venue over one book, in which our orders really rest and trade."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from framework.clock import Clock, Timer
from framework.config import PaperConfig, SimulatedMarketConfig
from framework.errors import KernelError
from framework.messages import BookSnapshot, ExecutionReport, MarketEvent, ReportKind, SubmitOrder
from framework.model import NS_PER_MS, NS_PER_S, Instrument, Liquidity, OrderType, TimeInForce
from framework.venues.at_desk import AtDesk
from framework.venues.latency import latencies
from framework.venues.margin import MarginAccount
from framework.venues.matcher import OpenOrder
from framework.venues.open_orders import OpenOrders
from framework.venues.port import SWEEP_NS
from framework.venues.simulated_book import OwnFill
from framework.venues.simulated_tape import INSTRUMENT, Calendar, Tape

DEFAULT_START_NS: Final = 1_705_329_000 * NS_PER_S
"""2024-01-15 14:30:00 UTC."""
START_MID_TICKS: Final = 20_000
MAX_QUANTITY: Final = 1_000_000
PRICE_BAND_TICKS: Final = 2_000


class SimulatedMarket(AtDesk):
    """One instrument, `TIDE.SIM`, with its feed and its venue (model: `framework.venues.simulated_intents`, `simulated_flow`).

    Trading stops each day from 21:00 to 22:00 UTC; DAY orders expire then. The same seed brings the same events as long as we
    send the same orders, and an order of ours changes only what it touches. Latencies and fees as for the paper venue. An order
    that meets another one of ours stops there and what is left of it is CANCELED.
    """

    name = "SIM"
    sweep_ns = SWEEP_NS

    def __init__(
        self,
        settings: SimulatedMarketConfig,
        paper: PaperConfig,
        *,
        seed: int,
        start_ns: int = DEFAULT_START_NS,
        start_mid_ticks: int = START_MID_TICKS,
        duration_s: float | None = None,
        flip_signal_at_s: float | None = None,
        calendar: Calendar | None = None,
    ) -> None:
        self.start_ns = start_ns
        self._tape = Tape(
            settings,
            seed=seed,
            start_ns=start_ns,
            start_mid_ticks=start_mid_ticks,
            flip_signal_at_s=flip_signal_at_s,
            calendar=calendar,
        )
        self._flow = self._tape.flow
        self._book = self._flow.book
        self._end_ns = None if duration_s is None else start_ns + round(duration_s * NS_PER_S)
        out, back = latencies(paper)
        self._desk = OpenOrders(
            "S",
            self,
            fees={Liquidity.MAKER: paper.maker_fee, Liquidity.TAKER: paper.taker_fee},
            out=out,
            back=back,
            margin=MarginAccount.of(paper, (INSTRUMENT,)),
        )
        self._timer: Timer | None = None
        self._clock: Clock | None = None
        self._market_sink: Callable[[MarketEvent], None] | None = None
        self._on_end: Callable[[], None] = lambda: None

    # --- Feed ------------------------------------------------------------------------------------------------------------

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return `TIDE.SIM`."""
        return (INSTRUMENT,)

    @property
    def progress(self) -> float:
        """Return the share of the duration that is over, or nan."""
        if self._end_ns is None or self._clock is None:
            return math.nan
        return min(1.0, max(0.0, (self._clock.now_ns() - self.start_ns) / max(1, self._end_ns - self.start_ns)))

    def feed(self) -> SimulatedFeed:
        """Return the market as a `Feed` (it has a `start` of its own)."""
        return SimulatedFeed(self)

    def start_feed(self, clock: Clock, sink: Callable[[MarketEvent], None], on_end: Callable[[], None]) -> None:
        """Open the market on `clock`; `on_end` is called once, when the duration is over."""
        self._clock, self._market_sink, self._on_end = clock, sink, on_end
        self._schedule()

    def stop_feed(self) -> None:
        """Stop the others; resting orders stay where they are."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._market_sink = None

    def _schedule(self) -> None:
        clock = self._running_clock()
        if self._end_ns is not None and self._tape.next_ns > self._end_ns:
            self._timer = clock.call_at(self._end_ns, self._on_end)
        else:
            self._timer = clock.call_at(self._tape.next_ns, self._advance)

    def _advance(self) -> None:
        was_open = self._tape.is_open
        happening = self._tape.advance()
        self._schedule()
        self._emit(happening.events)
        self._fill(happening.fills)
        if was_open and not self._tape.is_open:
            self._expire()

    def _expire(self) -> None:
        for order in self._desk.of(INSTRUMENT.instrument_id):
            if order.intent.time_in_force is TimeInForce.DAY:
                self.remove(order)
                self._desk.end(order, ReportKind.EXPIRED, reason="session closed")

    def _emit(self, events: Iterable[MarketEvent]) -> None:
        for event in events:
            if self._market_sink is not None:
                self._market_sink(event)
            if self._desk.margin is not None and isinstance(event, BookSnapshot):
                self._desk.margin.mark(event)
                self._desk.review_margin()

    # --- Venue -----------------------------------------------------------------------------------------------------------

    def start(self, clock: Clock, sink: Callable[[ExecutionReport], None]) -> None:
        """Open the venue; reports go to `sink` at their market time."""
        self._clock = clock
        self._desk.start(clock, sink, f"{self.start_ns // NS_PER_MS:x}")

    def on_market(self, event: MarketEvent) -> None:
        """Do nothing: this venue makes the market."""

    def _trades(self, instrument_id: str) -> bool:
        return instrument_id == INSTRUMENT.instrument_id

    # --- Matcher ---------------------------------------------------------------------------------------------------------

    def refusal(self, order: SubmitOrder) -> str:
        """Return why an order is not taken: instrument, session, size, price band."""
        if order.instrument_id != INSTRUMENT.instrument_id:
            return f"unknown instrument {order.instrument_id}; this venue has {INSTRUMENT.instrument_id}"
        if not self._tape.is_open:
            return "session is closed"
        if order.quantity > MAX_QUANTITY:
            return f"bad quantity {order.quantity}; allowed 1 to {MAX_QUANTITY} lots"
        best = self._book.halves[order.side].best
        if order.limit_ticks is None or order.order_type is OrderType.MARKET or abs(order.limit_ticks - best) <= PRICE_BAND_TICKS:
            return ""
        return f"bad price {order.limit_ticks}; allowed {best - PRICE_BAND_TICKS} to {best + PRICE_BAND_TICKS} ticks"

    def takeable(self, order: OpenOrder) -> int:
        """Return how many lots would trade at once: with the levels in sight, up to the first order of our own."""
        return self._book.takeable(order.side, order.left, order.limit_ticks)

    def take(self, order: OpenOrder) -> None:
        """Trade with the levels in sight."""
        traded = self._flow.take(order.client_order_id, order.side, order.left, order.limit_ticks)
        self._fill(traded.fills)
        self._emit(self._tape.prints(traded.prints, self._running_clock().now_ns()))

    def ahead(self, order: OpenOrder) -> float | None:
        """Return the lots at its price, our earlier ones too; None beyond the levels in sight."""
        return None if order.limit_ticks is None else self._book.lots_at(order.side, order.limit_ticks)

    def rest(self, order: OpenOrder) -> None:
        """Join the queue, unless the order would cross."""
        limit_ticks = order.limit_ticks
        if limit_ticks is None or self._book.would_cross(order.side, limit_ticks):
            self._desk.end(order, ReportKind.CANCELED, reason="would trade with our own order, or beyond the levels in sight")
        else:
            self._book.rest(order.client_order_id, order.side, limit_ticks, order.left)

    def resize(self, order: OpenOrder) -> None:
        """Get smaller in place."""
        self._book.resize(order.client_order_id, order.left)

    def remove(self, order: OpenOrder) -> None:
        """Leave the queue."""
        self._book.remove(order.client_order_id)

    def advance(self, now_ns: int) -> None:
        """Do nothing: the market is where its timers are."""

    def _fill(self, fills: Iterable[OwnFill]) -> None:
        for fill in fills:
            self._desk.fill(fill.client_order_id, fill.quantity, fill.price_ticks, fill.liquidity)

    def _running_clock(self) -> Clock:
        if self._clock is None:
            raise KernelError("the simulated market was used before it was started; call start first")
        return self._clock


class SimulatedFeed:
    """The feed side of a `SimulatedMarket`."""

    def __init__(self, market: SimulatedMarket) -> None:
        self._market = market

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Return `TIDE.SIM`."""
        return self._market.instruments

    @property
    def start_ns(self) -> int:
        """Return the opening time."""
        return self._market.start_ns

    @property
    def progress(self) -> float:
        """Return the share of the duration that is over, or nan."""
        return self._market.progress

    def start(self, clock: Clock, sink: Callable[[MarketEvent], None], on_end: Callable[[], None]) -> None:
        """Open the market."""
        self._market.start_feed(clock, sink, on_end)

    def stop(self) -> None:
        """Stop the market."""
        self._market.stop_feed()


def generate_history(
    settings: SimulatedMarketConfig,
    *,
    seed: int,
    start_ns: int = DEFAULT_START_NS,
    duration_s: float,
    flip_signal_at_s: float | None = None,
) -> Iterator[MarketEvent]:
    """Yield the events of a market that nobody of ours trades in, as fast as they can be drawn: the same ones as on a clock."""
    tape = Tape(settings, seed=seed, start_ns=start_ns, start_mid_ticks=START_MID_TICKS, flip_signal_at_s=flip_signal_at_s)
    end_ns = start_ns + round(duration_s * NS_PER_S)
    while tape.next_ns <= end_ns:
        yield from tape.advance().events
