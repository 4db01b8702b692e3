"""The port between orders and a venue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from framework.clock import Clock
from framework.messages import ExecutionReport, MarketEvent, SubmitOrder


class Venue(Protocol):
    """Where orders go. Nothing here suspends; what a venue has to say comes through the sink as `ExecutionReport`s.

    Each order that was submitted ends in exactly one of REJECTED, CANCELED, EXPIRED, or FILLED in full. A repeated
    `client_order_id` is REJECTED, never doubled.
    """

    name: str

    def start(self, clock: Clock, sink: Callable[[ExecutionReport], None]) -> None:
        """Begin; reports go to `sink` at their market time."""

    def submit(self, order: SubmitOrder) -> None:
        """Send an order. A bad one is answered with REJECTED."""

    def cancel(self, client_order_id: str) -> None:
        """Ask for a cancel. An order that is not open is answered with CANCEL_REJECTED."""

    def on_market(self, event: MarketEvent) -> None:
        """See a market event, before any strategy does."""

    def reconcile(self, client_order_ids: Sequence[str]) -> None:
        """Say what became of these orders: again what was said of each, CANCELED ("venue restarted") for one that is not known.

        What is said again carries the same trade ids, so that no fill counts twice.
        """

    def stop(self) -> None:
        """End; open orders get no further report."""
