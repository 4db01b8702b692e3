"""The requests of a venue that has a desk (`OpenOrders`): they are handed to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from framework.messages import ReplaceOrder, SubmitOrder
from framework.trading.records import MarginCalled
from framework.venues.open_orders import OpenOrders
from framework.venues.port import NOTHING_BOOKED, NOTHING_HELD, Booked, Holder, RestingOrder


class AtDesk:
    """The part of a `Venue` that its desk does. A subclass makes `_desk` and says what it trades."""

    _desk: OpenOrders

    def submit(self, order: SubmitOrder) -> None:
        """Send an order; it arrives after the order latency."""
        self._desk.submit(order)

    def cancel(self, client_order_id: str) -> None:
        """Send a cancel; it arrives after the order latency."""
        self._desk.cancel(client_order_id)

    def replace(self, change: ReplaceOrder) -> None:
        """Send a change; it arrives after the order latency."""
        self._desk.replace(change)

    def reconcile(self, client_order_ids: Sequence[str], question: int = 0) -> None:
        """Say again what was said about each order; CANCELED, "venue restarted", for one that is not known here."""
        self._desk.reconcile(client_order_ids, question)

    def restore(
        self,
        orders: Iterable[RestingOrder],
        positions: Mapping[Holder, int] = NOTHING_HELD,
        booked: Mapping[str, Booked] = NOTHING_BOOKED,
    ) -> None:
        """Let the orders of the run before rest again; each stands at the end of its queue."""
        self._desk.restore((order for order in orders if self._trades(order.intent.instrument_id)), positions, booked)

    def on_margin_call(self, sink: Callable[[MarginCalled], None]) -> None:
        """Have margin calls told to `sink`, in their place among the reports."""
        self._desk.on_margin = sink

    def stop(self) -> None:
        """End; nothing more is reported."""
        self._desk.stop()

    def _trades(self, instrument_id: str) -> bool:
        """Return whether the venue has an instrument."""
        raise NotImplementedError
