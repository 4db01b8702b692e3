"""A venue that misbehaves as real ones do, by seed: a wrapper around any other, for tests and for the fault runner.

The venue inside does its work; what goes wrong is the way there and back. Nothing here is undone later: what was lost stays lost
until somebody asks (`reconcile`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Final

import msgspec

from framework.clock import Clock
from framework.messages import ExecutionReport, MarketEvent, ReplaceOrder, ReportKind, SubmitOrder
from framework.model import NS_PER_S
from framework.venues.port import NOTHING_BOOKED, NOTHING_HELD, SWEEP_NS, Booked, Holder, RestingOrder, Venue

IDS_REMEMBERED: Final = 1_000
_ANSWERS: Final = {
    "submit": frozenset(ReportKind) - {ReportKind.LOST, ReportKind.CANCEL_REJECTED, ReportKind.REPLACE_REJECTED},
    "cancel": frozenset({ReportKind.CANCELED, ReportKind.CANCEL_REJECTED, ReportKind.EXPIRED, ReportKind.REJECTED}),
    "replace": frozenset({ReportKind.REPLACED, ReportKind.REPLACE_REJECTED, ReportKind.CANCELED, ReportKind.EXPIRED}),
}
_REFUSALS: Final = {"submit": ReportKind.REJECTED, "cancel": ReportKind.CANCEL_REJECTED, "replace": ReportKind.REPLACE_REJECTED}


class FaultMix(msgspec.Struct, frozen=True, kw_only=True):
    """How often what goes wrong: chances from 0 to 1, for each request or report.

    `outage_at` cuts the connection for `outage_s` just before the n-th report of a kind would come (n from 1): an order can be caught
    in any state. A request that is not answered within `answer_timeout_s` is reported LOST. `requests_per_s` 0: no limit.
    """

    lose_request: float = 0.0
    lose_report: float = 0.0
    late_report: float = 0.0
    duplicate_report: float = 0.0
    reject: float = 0.0
    disconnect: float = 0.0
    id_rollback: float = 0.0
    empty_answer: float = 0.0
    requests_per_s: int = 0
    most_delay_s: float = 3.0
    outage_s: float = 2.0
    answer_timeout_s: float = 1.0
    outage_at: dict[ReportKind, int] = {}

    @staticmethod
    def drawn(seed: int) -> FaultMix:
        """Return a mix by seed: each kind of fault is off for half of the seeds, and up to `most` for the others."""
        rng = Random(seed)

        def chance(most: float) -> float:
            return rng.random() * most if rng.random() < 0.5 else 0.0

        return FaultMix(
            lose_request=chance(0.3),
            lose_report=chance(0.3),
            late_report=chance(0.5),
            duplicate_report=chance(0.5),
            reject=chance(0.2),
            disconnect=chance(0.05),
            id_rollback=chance(0.2),
            empty_answer=chance(0.5),
            requests_per_s=rng.choice((0, 0, 3, 10)),
            most_delay_s=rng.choice((0.01, 0.5, 5.0)),
            outage_s=rng.choice((0.1, 2.0, 20.0)),
        )


class FaultyVenue:
    """A `Venue` around another one. `tap` hears what the inner venue says, before anything happens to it; `injected` counts the faults.

    The same seed and the same calls bring the same faults. `heal` ends all of them at once: reports that are under way still come.
    """

    def __init__(self, inner: Venue, mix: FaultMix, *, seed: int, tap: Callable[[ExecutionReport], None] | None = None) -> None:
        self.name, self.sweep_ns = inner.name, SWEEP_NS
        self.injected: Counter[str] = Counter()
        self._inner = inner
        self._mix = mix
        self._rng = Random(seed)
        self._tap = tap
        self._down_until_ns = 0
        self._heard: Counter[ReportKind] = Counter()
        self._waiting: dict[tuple[str, str], int] = {}
        self._asks = 0
        self._requests: deque[int] = deque()
        self._venue_ids: deque[str] = deque(maxlen=IDS_REMEMBERED)
        self._is_healed = False

    # --- Venue -------------------------------------------------------------------------------------------------------------

    def start(self, clock: Clock, sink: Callable[[ExecutionReport], None]) -> None:
        """Begin."""
        self._clock, self._sink = clock, sink
        self._inner.start(clock, self._on_report)

    def stop(self) -> None:
        """End."""
        self._inner.stop()
        self._sink = lambda _: None

    def submit(self, order: SubmitOrder) -> None:
        """Send an order, if the line lets it."""
        self._request("submit", order.client_order_id, lambda: self._inner.submit(order))

    def cancel(self, client_order_id: str) -> None:
        """Send a cancel, if the line lets it."""
        self._request("cancel", client_order_id, lambda: self._inner.cancel(client_order_id))

    def replace(self, change: ReplaceOrder) -> None:
        """Send a change, if the line lets it."""
        self._request("replace", change.client_order_id, lambda: self._inner.replace(change), revision=change.revision)

    def on_market(self, event: MarketEvent) -> None:
        """See a market event; the market itself is in order."""
        self._inner.on_market(event)

    def reconcile(self, client_order_ids: Sequence[str], question: int = 0) -> None:
        """Ask what became of orders; the answer may be empty, and some of it may be lost."""
        if self._is_down() or self._happens("empty_answer", self._mix.empty_answer):
            return
        self._inner.reconcile(client_order_ids, question)

    def restore(
        self,
        orders: Iterable[RestingOrder],
        positions: Mapping[Holder, int] = NOTHING_HELD,
        booked: Mapping[str, Booked] = NOTHING_BOOKED,
    ) -> None:
        """Hand the orders of the run before on."""
        self._inner.restore(orders, positions, booked)

    # --- the fault runner's --------------------------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Return whether requests get through now."""
        return self._is_healed or self._clock.now_ns() >= self._down_until_ns

    def disconnect(self, seconds: float) -> None:
        """Cut the connection for a while: requests and reports of that time are lost."""
        self.injected["disconnect"] += 1
        self._down_until_ns = max(self._down_until_ns, self._clock.now_ns() + round(seconds * NS_PER_S))

    def heal(self) -> None:
        """End all faults."""
        self._is_healed = True

    # --- the way there -------------------------------------------------------------------------------------------------------

    def _request(self, what: str, client_order_id: str, send: Callable[[], None], *, revision: int = 0) -> None:
        if self._happens("disconnect", self._mix.disconnect):
            self.disconnect(self._mix.outage_s)
        self._watch(what, client_order_id)
        if self._is_down() or self._happens("lose_request", self._mix.lose_request):
            return
        refusal = self._refusal(what)
        if refusal:
            self._refuse(_REFUSALS[what], client_order_id, refusal, revision)
        else:
            send()

    def _refusal(self, what: str) -> str:
        if self._is_too_fast():
            return "rate limit"
        return "rejected by the script" if what == "submit" and self._happens("reject", self._mix.reject) else ""

    def _refuse(self, kind: ReportKind, client_order_id: str, reason: str, revision: int) -> None:
        report = ExecutionReport(
            client_order_id=client_order_id, kind=kind, ts_event=self._clock.now_ns(), reason=reason, revision=revision
        )
        self._clock.call_at(self._clock.now_ns(), lambda: self._on_report(report))

    def _is_too_fast(self) -> bool:
        if self._is_healed or not self._mix.requests_per_s:
            return False
        now_ns = self._clock.now_ns()
        while self._requests and now_ns - self._requests[0] >= NS_PER_S:
            self._requests.popleft()
        self._requests.append(now_ns)
        is_too_fast = len(self._requests) > self._mix.requests_per_s
        self.injected["rate_limit"] += is_too_fast
        return is_too_fast

    def _watch(self, what: str, client_order_id: str) -> None:
        """Report LOST unless an answer has come in time, as an adapter does that waits for one."""
        self._asks += 1
        number = self._waiting[what, client_order_id] = self._asks
        when_ns = self._clock.now_ns() + round(self._mix.answer_timeout_s * NS_PER_S)
        self._clock.call_at(when_ns, lambda: self._give_up(what, client_order_id, number))

    def _give_up(self, what: str, client_order_id: str, number: int) -> None:
        if self._waiting.get((what, client_order_id)) != number:
            return
        del self._waiting[what, client_order_id]
        self.injected["lost_answer"] += 1
        self._sink(
            ExecutionReport(
                client_order_id=client_order_id, kind=ReportKind.LOST, ts_event=self._clock.now_ns(), reason=f"{what}: no answer in time"
            )
        )

    # --- the way back --------------------------------------------------------------------------------------------------------

    def _on_report(self, report: ExecutionReport) -> None:
        if self._tap is not None:
            self._tap(report)
        self._heard[report.kind] += 1
        if not self._is_healed and self._mix.outage_at.get(report.kind) == self._heard[report.kind]:
            self.disconnect(self._mix.outage_s)
        report = self._roll_back(report)
        if self._is_down() or self._happens("lose_report", self._mix.lose_report):
            return
        if self._happens("duplicate_report", self._mix.duplicate_report):
            self._later(report)
        if self._happens("late_report", self._mix.late_report):
            self._later(report)
        else:
            self._deliver(report)

    def _roll_back(self, report: ExecutionReport) -> ExecutionReport:
        """Return the report with a venue order id that was given to another order before, if that is drawn."""
        if not report.venue_order_id:
            return report
        self._venue_ids.append(report.venue_order_id)
        if not self._happens("id_rollback", self._mix.id_rollback):
            return report
        return msgspec.structs.replace(report, venue_order_id=self._rng.choice(self._venue_ids))

    def _later(self, report: ExecutionReport) -> None:
        delay_ns = 1 + round(self._rng.random() * self._mix.most_delay_s * NS_PER_S)
        self._clock.call_at(self._clock.now_ns() + delay_ns, lambda: self._deliver(report))

    def _deliver(self, report: ExecutionReport) -> None:
        for what, answers in _ANSWERS.items():
            if report.kind in answers:
                self._waiting.pop((what, report.client_order_id), None)
        self._sink(report)

    # --- inside --------------------------------------------------------------------------------------------------------------

    def _is_down(self) -> bool:
        is_down = not self.is_connected
        self.injected["lost_in_outage"] += is_down
        return is_down

    def _happens(self, name: str, chance: float) -> bool:
        # Drawn also when it cannot happen, so that a mix with one fault less draws the others as before.
        is_drawn = self._rng.random() < chance and not self._is_healed
        self.injected[name] += is_drawn
        return is_drawn


def faults_of(venue: FaultyVenue) -> Mapping[str, int]:
    """Return what was injected, without what never happened."""
    return {name: count for name, count in sorted(venue.injected.items()) if count}
