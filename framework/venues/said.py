"""What a venue says: over its line back to us, and again when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, Final

from framework.clock import Clock
from framework.errors import KernelError
from framework.messages import ExecutionReport, ReportKind
from framework.venues.latency import Latency, Line
from framework.venues.matcher import OpenOrder
from framework.venues.port import answer

ORDERS_REMEMBERED: Final = 10_000
_ENDS: Final = (ReportKind.REJECTED, ReportKind.CANCELED, ReportKind.EXPIRED)


class Said:
    """Make reports, send them back, and remember what was said about the last `ORDERS_REMEMBERED` orders.

    `open_orders` holds the ids of those that are open: they are remembered whatever comes. `now_ns` returns the time at the exchange.
    """

    def __init__(self, back: Latency, open_orders: Container[str], now_ns: Callable[[], int]) -> None:
        self._back = Line(back)
        self._open = open_orders
        self._now_ns = now_ns
        self._said: dict[str, list[ExecutionReport]] = {}
        self._clock: Clock | None = None
        self._sink: Callable[[ExecutionReport], None] | None = None

    def start(self, clock: Clock, sink: Callable[[ExecutionReport], None]) -> None:
        """Begin."""
        self._clock, self._sink = clock, sink

    def stop(self) -> None:
        """End; nothing more is reported."""
        self._sink = None

    def take_over(self, before: Said) -> None:
        """Remember what another one said."""
        self._said = before._said

    def count(self, client_order_id: str) -> int:
        """Return how much was said about an order, 0 where nothing is remembered."""
        return len(self._said.get(client_order_id, ()))

    def revision(self, client_order_id: str) -> int:
        """Return the number of the last change of an order that was answered."""
        return max((report.revision for report in self._said.get(client_order_id, ())), default=0)

    # --- saying --------------------------------------------------------------------------------------------------------------

    def report(self, order: OpenOrder, kind: ReportKind, **fields: Any) -> None:
        """Say what happened to an open order."""
        report = self._make(order, kind, **fields)
        self._remember(report)
        self._send(report)

    def mention(self, order: OpenOrder, kind: ReportKind, **fields: Any) -> None:
        """Say something about an open order that is not remembered: whoever asks is told the present terms."""
        self._send(self._make(order, kind, **fields))

    def note(self, order: OpenOrder, kind: ReportKind) -> None:
        """Remember something as said in the run before."""
        self._remember(self._make(order, kind))

    def say(self, kind: ReportKind, client_order_id: str, **fields: Any) -> None:
        """Say something about an order that is not open."""
        report = ExecutionReport(client_order_id=client_order_id, kind=kind, ts_event=self._now_ns(), **fields)
        if kind is ReportKind.REJECTED and client_order_id not in self._said:
            self._remember(report)
        self._send(report)

    def repeat(self, client_order_id: str, order: OpenOrder | None, question: int) -> None:
        """Answer a question about an order: say everything about it again, after its present terms if it is open (`order`) or has filled.

        Whoever lost the answer to a change has it with this. An order that nothing was ever said about is CANCELED.
        """
        said = self._said.get(client_order_id)
        if said is None:
            lost = ExecutionReport(
                client_order_id=client_order_id, kind=ReportKind.CANCELED, ts_event=self._now_ns(), reason="venue restarted"
            )
            self._send(answer(lost, question))
            return
        if order is not None or not any(report.kind in _ENDS for report in said):
            present = ExecutionReport(
                client_order_id=client_order_id,
                kind=ReportKind.RESTATED,
                ts_event=self._now_ns(),
                quantity=order.quantity if order is not None else max(report.cum_quantity or 0 for report in said),
                limit_ticks=order.limit_ticks if order is not None else None,
                revision=self.revision(client_order_id),
            )
            self._send(answer(present, question))
        for report in said:
            self._send(answer(report, question))

    # --- inside --------------------------------------------------------------------------------------------------------------

    def _make(self, order: OpenOrder, kind: ReportKind, **fields: Any) -> ExecutionReport:
        return ExecutionReport(
            client_order_id=order.client_order_id,
            kind=kind,
            ts_event=self._now_ns(),
            venue_order_id=order.venue_order_id,
            cum_quantity=order.filled,
            **fields,
        )

    def _remember(self, report: ExecutionReport) -> None:
        self._said.setdefault(report.client_order_id, []).append(report)
        if len(self._said) > ORDERS_REMEMBERED:
            del self._said[next(name for name in self._said if name not in self._open)]

    def tell(self, say: Callable[[], None]) -> None:
        """Say something that is no report, in its place on the line back."""
        if self._clock is None:
            raise KernelError("the venue was used before it was started; call start first")
        self._clock.call_at(self._back.arrival_ns(self._now_ns()), say)

    def _send(self, report: ExecutionReport) -> None:
        self.tell(lambda: self._deliver(report))

    def _deliver(self, report: ExecutionReport) -> None:
        if self._sink is not None:
            self._sink(report)
