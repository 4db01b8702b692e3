"""The port between orders and a venue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from framework.clock import Clock
from framework.messages import ExecutionReport, MarketEvent, ReplaceOrder, SubmitOrder
from framework.model import NS_PER_S, Side

Holder = tuple[str, str]
"""Whose position in what: strategy and instrument."""
NOTHING_HELD: Final[Mapping[Holder, int]] = MappingProxyType({})
SWEEP_NS: Final = 15 * NS_PER_S
"""How often a venue is asked about every open order where something that it says can be lost."""


class Booked(NamedTuple):
    """What an account has in an instrument: signed lots, their cost and what is realized (micro-ticks x lots, exact), and fees."""

    quantity: int
    open_cost: int
    realized: int
    fees: Decimal


NOTHING_BOOKED: Final[Mapping[str, Booked]] = MappingProxyType({})


class RestingOrder(NamedTuple):
    """An order that a venue had acknowledged when the last run ended, as our journal knows it."""

    intent: SubmitOrder
    venue_order_id: str
    quantity: int
    filled_quantity: int
    limit_ticks: int | None


class Answer(ExecutionReport, frozen=True, kw_only=True, gc=False):
    """What a venue says because it was asked (`Venue.reconcile`), with the number of the question."""

    question: int = 0


_FIELDS: Final = ExecutionReport.__struct_fields__


def answer(report: ExecutionReport, question: int) -> ExecutionReport:
    """Return a report as the answer to a question; unchanged where the question has no number."""
    return Answer(**{name: getattr(report, name) for name in _FIELDS}, question=question) if question else report


def plain(report: ExecutionReport, **changes: Any) -> ExecutionReport:
    """Return an answer as a report like any other, with some fields changed."""
    return ExecutionReport(**{name: getattr(report, name) for name in _FIELDS} | changes)


class Standing(NamedTuple):
    """What a venue has: the ids of open orders, oldest first, and signed lots by holder.

    `canceled`: orders that a kill line had canceled before it was asked, because the kill switch is set.
    """

    open_orders: tuple[str, ...]
    positions: Mapping[Holder, int]
    canceled: tuple[str, ...] = ()


class KillLine(Protocol):
    """A connection to a venue that needs nothing of the trading process: what an adapter of a venue elsewhere has to give for `halt`.

    Everything here blocks, with an end: it is used by a process of its own and by the command line. Raises `StorageError` when the
    venue does not answer.
    """

    def standing(self) -> Standing:
        """Return what is open and held at the venue, on whosever behalf."""

    def cancel_everything(self) -> None:
        """Ask for a cancel of every order that is open."""

    def best(self, instrument_id: str, side: Side) -> int | None:
        """Return the best price of a side, in ticks, as the venue last had it."""

    def send(self, order: SubmitOrder) -> tuple[ExecutionReport, ...]:
        """Send an order that does not rest, and return everything that the venue says of it until it has ended."""


class Venue(Protocol):
    """Where orders go. Nothing here suspends; what a venue has to say comes through the sink as `ExecutionReport`s.

    Each order that was submitted ends in exactly one of REJECTED, CANCELED, EXPIRED, or FILLED in full. A repeated
    `client_order_id` is REJECTED, never doubled. `sweep_ns` is how often it wants to be asked about every open order.
    """

    name: str
    sweep_ns: int

    def start(self, clock: Clock, sink: Callable[[ExecutionReport], None]) -> None:
        """Begin; reports go to `sink` at their market time."""

    def submit(self, order: SubmitOrder) -> None:
        """Send an order. A bad one is answered with REJECTED."""

    def cancel(self, client_order_id: str) -> None:
        """Ask for a cancel. An order that is not open is answered with CANCEL_REJECTED."""

    def replace(self, change: ReplaceOrder) -> None:
        """Ask for other terms. Answered with REPLACED or REPLACE_REJECTED, both with the change's `revision`.

        An order that only gets smaller keeps its place in the queue; any other change puts it at the end of it.
        """

    def on_market(self, event: MarketEvent) -> None:
        """See a market event, before any strategy does."""

    def reconcile(self, client_order_ids: Sequence[str], question: int = 0) -> None:
        """Say what became of these orders: again what was said of each, CANCELED ("venue restarted") for one that is not known.

        What is said again carries the same trade ids, so that no fill counts twice, and the number of the question (`Answer`), where it
        has one.
        """

    def restore(
        self,
        orders: Iterable[RestingOrder],
        positions: Mapping[Holder, int] = NOTHING_HELD,
        booked: Mapping[str, Booked] = NOTHING_BOOKED,
    ) -> None:
        """Take back orders, positions and money of the run before, before `reconcile`: for a venue of ours. Others do nothing.

        An order that the venue knows in this run is left alone, and so is a position that has moved in it. `booked` is the account by
        instrument.
        """

    def stop(self) -> None:
        """End; open orders get no further report."""
