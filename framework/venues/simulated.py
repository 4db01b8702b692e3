"""The built-in simulated futures market: a `Feed` and a `Venue` in one, because our orders rest in its book."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from framework.clock import Clock, Timer
from framework.config import PaperConfig, SimulatedMarketConfig
from framework.messages import BookSnapshot, ExecutionReport, MarketEvent, ReportKind, SessionChanged, SubmitOrder, TradeTick
from framework.model import NS_PER_MS, NS_PER_S, Instrument, Liquidity, OrderType, Side, TimeInForce
from framework.venues.simulated_book import OwnFill, Print
from framework.venues.simulated_flow import STEP_S, OrderFlow

INSTRUMENT: Final = Instrument(instrument_id="TIDE.SIM", tick_size=Decimal("0.25"), multiplier=Decimal(50), session_gap_s=60.0)
DEFAULT_START_NS: Final = 1_705_329_000 * NS_PER_S
"""2024-01-15 14:30:00 UTC."""
START_MID_TICKS: Final = 20_000
SECONDS_PER_DAY: Final = 86_400
CLOSE_S, OPEN_S = 21 * 3_600, 22 * 3_600
_STEP_NS: Final = round(STEP_S * NS_PER_S)
IDS_REMEMBERED: Final = 100_000


class Tape:
    """Turn steps of the order flow into market events: a print for each trade, a book each `book_interval_ms` if it changed."""

    def __init__(self, flow: OrderFlow, *, book_interval_ms: float) -> None:
        self.flow = flow
        self._steps_per_book = max(1, round(book_interval_ms / 1e3 / STEP_S))
        self._steps = 0
        self._sequence = 0
        self._shown: tuple[tuple[int, ...], ...] = ()

    def step(self, now_ns: int) -> tuple[list[MarketEvent], list[OwnFill]]:
        """Advance by one step that ends at `now_ns`."""
        prints, fills = self.flow.step()
        events: list[MarketEvent] = self.prints(prints, now_ns)
        self._steps += 1
        if self._steps % self._steps_per_book == 0:
            events += self._book(now_ns)
        return events, fills

    def prints(self, prints: Iterable[Print], now_ns: int) -> list[MarketEvent]:
        """Return trade ticks."""
        return [self._print(one, now_ns) for one in prints]

    def _print(self, one: Print, now_ns: int) -> TradeTick:
        self._sequence += 1
        return TradeTick(
            instrument_id=INSTRUMENT.instrument_id,
            ts_event=now_ns,
            ts_recv=now_ns,
            sequence=self._sequence,
            price_ticks=one.price_ticks,
            size=one.size,
            aggressor=one.aggressor,
        )

    def _book(self, now_ns: int) -> list[MarketEvent]:
        shown = (*self.flow.book.levels(Side.BUY), *self.flow.book.levels(Side.SELL))
        if shown == self._shown:
            return []
        self._shown = shown
        self._sequence += 1
        bid_ticks, bid_sizes, ask_ticks, ask_sizes = shown
        return [
            BookSnapshot(
                instrument_id=INSTRUMENT.instrument_id,
                ts_event=now_ns,
                ts_recv=now_ns,
                sequence=self._sequence,
                bid_ticks=bid_ticks,
                bid_sizes=bid_sizes,
                ask_ticks=ask_ticks,
                ask_sizes=ask_sizes,
            )
        ]


@dataclass(slots=True)
class _Open:
    """An order that is open at the venue."""

    venue_order_id: str
    left: int


class SimulatedMarket:
    """One instrument, `TIDE.SIM`, with its feed and its venue (model: `framework.venues.simulated_flow`).

    Trading stops each day from 21:00 to 22:00 UTC; DAY orders expire then. The same seed brings the same events as long as we
    send the same orders. Latencies and fees as for the paper venue.
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
    ) -> None:
        self.start_ns = start_ns
        flow = OrderFlow(
            random.Random(seed),
            strength=settings.signal_strength,
            start_mid_ticks=start_mid_ticks,
            flip_at_s=flip_signal_at_s,
        )
        self._tape = Tape(flow, book_interval_ms=settings.book_interval_ms)
        self._book = flow.book
        self._flow = flow
        self._end_ns = None if duration_s is None else start_ns + round(duration_s * NS_PER_S)
        self._order_latency_ns = round(paper.order_latency_ms * NS_PER_MS)
        self._response_latency_ns = round(paper.response_latency_ms * NS_PER_MS)
        self._fees = {Liquidity.MAKER: paper.maker_fee, Liquidity.TAKER: paper.taker_fee}
        self._orders: dict[str, _Open] = {}
        self._ids: dict[str, None] = {}
        self._order_numbers = itertools.count(1)
        self._trade_numbers = itertools.count(1)
        self._run = f"{start_ns // NS_PER_MS:x}"
        self._is_open = True
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
            return float("nan")
        return (self._clock.now_ns() - self.start_ns) / max(1, self._end_ns - self.start_ns)

    def feed(self) -> SimulatedFeed:
        """Return the market as a `Feed` (it has a `start` of its own)."""
        return SimulatedFeed(self)

    def start_feed(self, clock: Clock, sink: Callable[[MarketEvent], None], on_end: Callable[[], None]) -> None:
        """Open the market on `clock`."""
        self._clock, self._market_sink, self._on_end = clock, sink, on_end
        self._timer = clock.call_at(self.start_ns + _STEP_NS, self._step)

    def stop_feed(self) -> None:
        """Stop the others; resting orders stay where they are."""
        if self._timer is not None:
            self._timer.cancel()
        self._market_sink = None

    def _step(self) -> None:
        clock = self._require_clock()
        now_ns = clock.now_ns()
        if self._end_ns is not None and now_ns >= self._end_ns:
            self._on_end()
            return
        opens_ns = _opens_at(now_ns)
        if opens_ns is not None:
            self._close(now_ns)
            self._timer = clock.call_at(opens_ns, self._open)
            return
        events, fills = self._tape.step(now_ns)
        self._timer = clock.call_at(now_ns + _STEP_NS, self._step)
        self._emit(events)
        self._fill(fills)

    def _close(self, now_ns: int) -> None:
        self._is_open = False
        for client_order_id in tuple(self._book.own):
            self._book.remove(client_order_id)
            self._end(client_order_id, ReportKind.EXPIRED, reason="session closed")
        self._emit((self._session(now_ns, is_open=False),))

    def _open(self) -> None:
        now_ns = self._require_clock().now_ns()
        self._is_open = True
        self._emit((self._session(now_ns, is_open=True),))
        self._step()

    def _session(self, now_ns: int, *, is_open: bool) -> SessionChanged:
        return SessionChanged(instrument_id=INSTRUMENT.instrument_id, ts_event=now_ns, is_open=is_open, reason="session calendar")

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
        self._later(self._order_latency_ns, lambda: self._arrive(order))

    def cancel(self, client_order_id: str) -> None:
        """Send a cancel; it arrives after the order latency."""
        self._later(self._order_latency_ns, lambda: self._cancel(client_order_id))

    def reconcile(self, client_order_ids: Sequence[str]) -> None:
        """Answer for each order that is not open here: CANCELED, "venue restarted"."""
        for client_order_id in client_order_ids:
            if client_order_id not in self._orders:
                self._report(client_order_id, ReportKind.CANCELED, reason="venue restarted")

    def _arrive(self, order: SubmitOrder) -> None:
        refusal = self._refusal(order)
        if refusal:
            self._report(order.client_order_id, ReportKind.REJECTED, reason=refusal)
            return
        self._remember(order)
        self._report(order.client_order_id, ReportKind.ACCEPTED)
        self._take(order)
        open_order = self._orders.get(order.client_order_id)
        if open_order is None:
            return
        if order.order_type is OrderType.MARKET or order.time_in_force is TimeInForce.IOC:
            self._end(order.client_order_id, ReportKind.CANCELED, reason="nothing left to trade within the limit")
        else:
            self._book.rest(order.client_order_id, order.side, order.limit_ticks or 0, open_order.left)

    def _take(self, order: SubmitOrder) -> None:
        prints, fills = self._book.take(order.client_order_id, order.side, order.quantity, order.limit_ticks)
        if not fills:
            return
        self._flow.note_taken(order.side, sum(fill.quantity for fill in fills))
        self._fill(fills)
        self._emit(self._tape.prints(prints, self._require_clock().now_ns()))

    def _refusal(self, order: SubmitOrder) -> str:
        if order.client_order_id in self._ids:
            return f"client_order_id {order.client_order_id} was used before"
        if order.instrument_id != INSTRUMENT.instrument_id:
            return f"unknown instrument {order.instrument_id}"
        if not self._is_open:
            return "session is closed"
        if order.quantity < 1 or (order.order_type is OrderType.LIMIT and order.limit_ticks is None):
            return "bad quantity or price"
        return "would trade with our own resting order" if self._book.crosses_own(order.side, order.limit_ticks) else ""

    def _remember(self, order: SubmitOrder) -> None:
        self._orders[order.client_order_id] = _Open(f"S{self._run}-{next(self._order_numbers)}", order.quantity)
        self._ids[order.client_order_id] = None
        if len(self._ids) > IDS_REMEMBERED:
            self._ids.pop(next(iter(self._ids)))

    def _cancel(self, client_order_id: str) -> None:
        if client_order_id not in self._orders:
            self._report(client_order_id, ReportKind.CANCEL_REJECTED, reason="order is not open")
            return
        self._book.remove(client_order_id)
        self._end(client_order_id, ReportKind.CANCELED)

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
            ts_event=self._require_clock().now_ns(),
            venue_order_id=open_order.venue_order_id if open_order else "",
            **fields,
        )
        self._later(self._response_latency_ns, lambda: self._send(report))

    def _send(self, report: ExecutionReport) -> None:
        if self._report_sink is not None:
            self._report_sink(report)

    def _later(self, delay_ns: int, act: Callable[[], None]) -> None:
        clock = self._require_clock()
        clock.call_at(clock.now_ns() + delay_ns, act)

    def _require_clock(self) -> Clock:
        assert self._clock is not None, "start the market before it is used"
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
    """Yield the events of a market that nobody of ours trades in, as fast as they can be drawn."""
    flow = OrderFlow(random.Random(seed), strength=settings.signal_strength, start_mid_ticks=START_MID_TICKS, flip_at_s=flip_signal_at_s)
    tape = Tape(flow, book_interval_ms=settings.book_interval_ms)
    for step in range(1, round(duration_s / STEP_S) + 1):
        now_ns = start_ns + step * _STEP_NS
        if _opens_at(now_ns) is None:
            yield from tape.step(now_ns)[0]


def _opens_at(now_ns: int) -> int | None:
    """Return when trading opens again, or None while it is open."""
    day, second = divmod(now_ns // NS_PER_S, SECONDS_PER_DAY)
    return (day * SECONDS_PER_DAY + OPEN_S) * NS_PER_S if CLOSE_S <= second < OPEN_S else None
