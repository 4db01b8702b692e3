"""The built-in simulated futures market: a feed and a venue over one book, in which our orders really rest and trade."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from framework.clock import Clock, Timer
from framework.config import PaperConfig, SimulatedMarketConfig
from framework.errors import KernelError
from framework.messages import ExecutionReport, MarketEvent, ReportKind, SubmitOrder
from framework.model import NS_PER_MS, NS_PER_S, Instrument, Liquidity, OrderType, TimeInForce
from framework.venues.simulated_book import OwnFill
from framework.venues.simulated_tape import INSTRUMENT, Calendar, Tape

DEFAULT_START_NS: Final = 1_705_329_000 * NS_PER_S
"""2024-01-15 14:30:00 UTC."""
START_MID_TICKS: Final = 20_000
MAX_QUANTITY: Final = 1_000_000
PRICE_BAND_TICKS: Final = 2_000
IDS_REMEMBERED: Final = 100_000


@dataclass(slots=True)
class _Open:
    """An order that is open at the venue."""

    venue_order_id: str
    left: int


class SimulatedMarket:
    """One instrument, `TIDE.SIM`, with its feed and its venue (model: `framework.venues.simulated_intents`, `simulated_flow`).

    Trading stops each day from 21:00 to 22:00 UTC; DAY orders expire then. The same seed brings the same events as long as we
    send the same orders, and an order of ours changes only what it touches. Latencies and fees as for the paper venue. An order
    that meets another one of ours stops there and what is left of it is CANCELED.
    """

    name = "SIM"

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
        self._order_latency_ns = round(paper.order_latency_ms * NS_PER_MS)
        self._response_latency_ns = round(paper.response_latency_ms * NS_PER_MS)
        self._fees = {Liquidity.MAKER: paper.maker_fee, Liquidity.TAKER: paper.taker_fee}
        self._orders: dict[str, _Open] = {}
        self._ids: dict[str, None] = {}
        self._order_numbers = itertools.count(1)
        self._trade_numbers = itertools.count(1)
        self._run = f"{start_ns // NS_PER_MS:x}"
        self._timer: Timer | None = None
        self._clock: Clock | None = None
        self._market_sink: Callable[[MarketEvent], None] | None = None
        self._report_sink: Callable[[ExecutionReport], None] | None = None
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
        for client_order_id in tuple(self._book.own):
            self._book.remove(client_order_id)
            self._end(client_order_id, ReportKind.EXPIRED, reason="session closed")

    def _emit(self, events: Iterable[MarketEvent]) -> None:
        for event in events:
            if self._market_sink is not None:
                self._market_sink(event)

    # --- Venue -----------------------------------------------------------------------------------------------------------

    def start(self, clock: Clock, sink: Callable[[ExecutionReport], None]) -> None:
        """Open the venue; reports go to `sink` at their market time."""
        self._clock, self._report_sink = clock, sink

    def stop(self) -> None:
        """Report nothing more."""
        self._report_sink = None

    def on_market(self, event: MarketEvent) -> None:
        """Do nothing: this venue makes the market."""

    def submit(self, order: SubmitOrder) -> None:
        """Send an order; it arrives after the order latency."""
        is_repeat = order.client_order_id in self._ids or order.client_order_id in self._orders
        self._ids[order.client_order_id] = None
        if len(self._ids) > IDS_REMEMBERED:
            self._ids.pop(next(iter(self._ids)))
        self._later(self._order_latency_ns, lambda: self._arrive(order, is_repeat=is_repeat))

    def cancel(self, client_order_id: str) -> None:
        """Send a cancel; it arrives after the order latency."""
        self._later(self._order_latency_ns, lambda: self._cancel(client_order_id))

    def reconcile(self, client_order_ids: Sequence[str]) -> None:
        """Answer for each order that was never sent here: CANCELED, "venue restarted". The others have their reports."""
        for client_order_id in client_order_ids:
            if client_order_id not in self._ids and client_order_id not in self._orders:
                self._report(client_order_id, ReportKind.CANCELED, reason="venue restarted")

    def _arrive(self, order: SubmitOrder, *, is_repeat: bool) -> None:
        refusal = f"client_order_id {order.client_order_id} was used before" if is_repeat else self._refusal(order)
        if refusal:
            self._report(order.client_order_id, ReportKind.REJECTED, reason=refusal)
            return
        self._orders[order.client_order_id] = _Open(f"S{self._run}-{next(self._order_numbers)}", order.quantity)
        self._report(order.client_order_id, ReportKind.ACCEPTED)
        limit_ticks = order.limit_ticks if order.order_type is OrderType.LIMIT else None
        traded = self._flow.take(order.client_order_id, order.side, order.quantity, limit_ticks)
        self._fill(traded.fills)
        self._emit(self._tape.prints(traded.prints, self._running_clock().now_ns()))
        self._rest(order, limit_ticks)

    def _rest(self, order: SubmitOrder, limit_ticks: int | None) -> None:
        """Let what is left of an order rest, or end it."""
        open_order = self._orders.get(order.client_order_id)
        if open_order is None:
            return
        if limit_ticks is None or order.time_in_force is TimeInForce.IOC:
            self._end(order.client_order_id, ReportKind.CANCELED, reason="nothing left to trade within the limit")
        elif self._book.would_cross(order.side, limit_ticks):
            self._end(order.client_order_id, ReportKind.CANCELED, reason="would trade with our own order, or beyond the levels in sight")
        else:
            self._book.rest(order.client_order_id, order.side, limit_ticks, open_order.left)

    def _refusal(self, order: SubmitOrder) -> str:
        if order.instrument_id != INSTRUMENT.instrument_id:
            return f"unknown instrument {order.instrument_id}; this venue has {INSTRUMENT.instrument_id}"
        if not self._tape.is_open:
            return "session is closed"
        if not 1 <= order.quantity <= MAX_QUANTITY:
            return f"bad quantity {order.quantity}; allowed 1 to {MAX_QUANTITY} lots"
        if order.order_type is OrderType.MARKET:
            return ""
        best = self._book.halves[order.side].best
        if order.limit_ticks is None or abs(order.limit_ticks - best) > PRICE_BAND_TICKS:
            return f"bad price {order.limit_ticks}; allowed {best - PRICE_BAND_TICKS} to {best + PRICE_BAND_TICKS} ticks"
        return ""

    def _cancel(self, client_order_id: str) -> None:
        if client_order_id not in self._orders:
            self._report(client_order_id, ReportKind.CANCEL_REJECTED, reason="order is not open")
            return
        self._book.remove(client_order_id)
        self._end(client_order_id, ReportKind.CANCELED)

    # --- reports -----------------------------------------------------------------------------------------------------------

    def _fill(self, fills: Iterable[OwnFill]) -> None:
        for fill in fills:
            self._report(
                fill.client_order_id,
                ReportKind.FILLED,
                trade_id=f"T{self._run}-{next(self._trade_numbers)}",
                last_quantity=fill.quantity,
                last_ticks=fill.price_ticks,
                fee=self._fees[fill.liquidity] * fill.quantity,
                liquidity=fill.liquidity,
            )
            order = self._orders[fill.client_order_id]
            order.left -= fill.quantity
            if order.left == 0:
                del self._orders[fill.client_order_id]

    def _end(self, client_order_id: str, kind: ReportKind, *, reason: str = "") -> None:
        self._report(client_order_id, kind, reason=reason)
        del self._orders[client_order_id]

    def _report(self, client_order_id: str, kind: ReportKind, **fields: Any) -> None:
        open_order = self._orders.get(client_order_id)
        report = ExecutionReport(
            client_order_id=client_order_id,
            kind=kind,
            ts_event=self._running_clock().now_ns(),
            venue_order_id=open_order.venue_order_id if open_order else "",
            **fields,
        )
        self._later(self._response_latency_ns, lambda: self._send(report))

    def _send(self, report: ExecutionReport) -> None:
        if self._report_sink is not None:
            self._report_sink(report)

    def _later(self, delay_ns: int, act: Callable[[], None]) -> None:
        clock = self._running_clock()
        clock.call_at(clock.now_ns() + delay_ns, act)

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
