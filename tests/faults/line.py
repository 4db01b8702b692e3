"""A venue that outlives us, at the end of a line that loses, delays, repeats and reorders: by seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from framework.clock import Clock, EventClock
from framework.config import InstrumentMargin, PaperConfig
from framework.messages import ExecutionReport, MarketEvent, ReplaceOrder, ReportKind, SubmitOrder
from framework.model import NS_PER_S, Instrument
from framework.trading.records import MarginCalled
from framework.venues.paper import PaperVenue
from framework.venues.port import NOTHING_BOOKED, NOTHING_HELD, SWEEP_NS, Booked, Holder, RestingOrder


@dataclass
class Mix:
    """How often what goes wrong, drawn anew for each seed: some seeds are calm, some brutal."""

    lose_request: float = 0.0
    say_lost: float = 0.5
    lose_report: float = 0.0
    repeat_report: float = 0.0
    delay_report: float = 0.0
    longest_delay_s: float = 2.0
    disconnect: float = 0.0
    crash: float = 0.0
    halt: float = 0.0
    bad_disk: float = 0.0
    bad_book: float = 0.0
    garbage: float = 0.0
    tighten: float = 0.0
    quarantine: float = 0.0
    on_quarantine: Literal["keep_exits", "cancel_all", "flatten"] = "keep_exits"
    cash: int = 0


@dataclass
class Line:
    """What stands between Execution and the venue. `fired` counts each fault; `submitted` each time an order reached the line."""

    clock: EventClock
    rng: random.Random
    mix: Mix
    instruments: Sequence[Instrument]
    name: str = "LINE"
    sweep_ns: int = SWEEP_NS
    is_up: bool = True
    is_calm: bool = False
    fired: Counter[str] = field(default_factory=Counter)
    submitted: Counter[str] = field(default_factory=Counter)
    truth: list[ExecutionReport] = field(default_factory=list)
    on_submit: Callable[[SubmitOrder], None] = lambda _: None
    on_replace: Callable[[ReplaceOrder], None] = lambda _: None
    on_report: Callable[[ExecutionReport], None] = lambda _: None

    def __post_init__(self) -> None:
        self.venue = PaperVenue(self._settings(), self.instruments)
        self.venue.start(self.clock, self._hear)
        self.venue.on_margin_call(self._call)
        self._sink: Callable[[ExecutionReport], None] | None = None
        self.on_margin: Callable[[MarginCalled], None] = lambda _: None

    def _settings(self) -> PaperConfig:
        """Return the venue's rules: every lot needs a twentieth of the cash, if there is some."""
        needs = InstrumentMargin(initial=Decimal(self.mix.cash) / 20, maintenance=Decimal(self.mix.cash) / 30)
        return PaperConfig(cash=Decimal(self.mix.cash), margins={one.instrument_id: needs for one in self.instruments})

    def _call(self, called: MarginCalled) -> None:
        self.fired["margin call"] += not called.is_over
        if self.is_up and self._sink is not None:
            self.on_margin(called)

    # --- our side: the port ------------------------------------------------------------------------------------------------

    def start(self, clock: Clock, sink: Callable[[ExecutionReport], None]) -> None:
        self._sink = sink

    def stop(self) -> None:
        self._sink = None

    def submit(self, order: SubmitOrder) -> None:
        self.submitted[order.client_order_id] += 1
        self.on_submit(order)
        self._send(order.client_order_id, lambda: self.venue.submit(order))

    def cancel(self, client_order_id: str) -> None:
        self._send(client_order_id, lambda: self.venue.cancel(client_order_id))

    def replace(self, change: ReplaceOrder) -> None:
        self.on_replace(change)
        self._send(change.client_order_id, lambda: self.venue.replace(change))

    def reconcile(self, client_order_ids: Sequence[str], question: int = 0) -> None:
        if self._passes():
            self.venue.reconcile(client_order_ids, question)

    def restore(
        self,
        orders: Iterable[RestingOrder],
        positions: Mapping[Holder, int] = NOTHING_HELD,
        booked: Mapping[str, Booked] = NOTHING_BOOKED,
    ) -> None:
        """It keeps its orders itself."""

    def on_market(self, event: MarketEvent) -> None:
        self.venue.on_market(event)

    # --- what goes wrong -----------------------------------------------------------------------------------------------------

    def _happens(self, share: float, name: str) -> bool:
        happens = not self.is_calm and self.rng.random() < share
        self.fired[name] += happens
        return happens

    def _passes(self) -> bool:
        return self.is_up and not self._happens(self.mix.lose_request, "request lost")

    def _send(self, name: str, act: Callable[[], None]) -> None:
        if self._passes():
            act()
        elif self.rng.random() < self.mix.say_lost:
            # The adapter knows that it has no answer; whether the venue got it, nobody knows.
            if self._happens(0.5, "request got through unanswered"):
                act()
            self._deliver(ExecutionReport(client_order_id=name, kind=ReportKind.LOST, ts_event=self.clock.now_ns(), reason="no answer"))

    def _hear(self, report: ExecutionReport) -> None:
        self.truth.append(report)
        self._carry(report)

    def _carry(self, report: ExecutionReport) -> None:
        if not self.is_up or self._happens(self.mix.lose_report, "report lost"):
            return
        if self._happens(self.mix.repeat_report, "report repeated"):
            self._later(report)
        if self._happens(self.mix.delay_report, "report delayed"):
            self._later(report)
        else:
            self._deliver(report)

    def _later(self, report: ExecutionReport) -> None:
        delay_ns = round(self.rng.uniform(0.001, self.mix.longest_delay_s) * NS_PER_S)
        self.clock.call_at(self.clock.now_ns() + delay_ns, lambda: self._deliver(report))

    def _deliver(self, report: ExecutionReport) -> None:
        if self._sink is not None:
            self.on_report(report)
            self._sink(report)
