"""Which question an answer of the venue belongs to: one that was asked before the last word to an order says nothing about it."""

from __future__ import annotations

from framework.messages import ExecutionReport, ReportKind
from framework.model import OrderStatus
from framework.trading.blotter import Blotter
from framework.venues.port import Answer, plain


class Questions:
    """Number the questions of a run, and sort the answers.

    An order's answers count from the first question that was asked after it was sent, or after its last change was, and after this run
    began: before that the venue cannot have spoken of it as it is. Numbers go up over restarts (`first`). Fills are facts whenever they
    are said. Cancels make no answer old: all that they can be about is an end, and an end that is said is one.
    """

    def __init__(self, blotter: Blotter, first: int) -> None:
        self._blotter = blotter
        self._last = first
        self._since: dict[str, int] = {}

    def ask(self) -> int:
        """Return the number of the next question."""
        self._last += 1
        return self._last

    def note(self, client_order_id: str) -> None:
        """Take it that an order was sent or changed now: only what is asked from here on is about it."""
        self._since[client_order_id] = self._last + 1

    def forget(self, client_order_id: str) -> None:
        """Leave an order that has ended: nothing that is said of it can open it again."""
        self._since.pop(client_order_id, None)

    def sorted_out(self, answer: Answer) -> ExecutionReport | None:
        """Return what an answer tells of an order as it is, None for one that is old.

        The present terms of an order that is UNKNOWN (RESTATED; all else was said before and is said again) are those after the change that
        is under way, whatever the venue's clock says.
        """
        name = answer.client_order_id
        if answer.kind is ReportKind.FILLED:
            return plain(answer)
        if answer.question < self._since.get(name, 0):
            self._blotter.counts["answers_late"] += 1
            return None
        order = self._blotter.open.get(name) if answer.kind is ReportKind.RESTATED else None
        if order is None or order.status is not OrderStatus.UNKNOWN or order.changing is None:
            return plain(answer)
        return plain(answer, revision=max(answer.revision, order.revision))
