"""What happened in a run, fact by fact: everything in its journal that decides about orders, as plain values without ids."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.messages import (
    CancelOrder,
    DecisionMade,
    ExecutionReport,
    Message,
    OrderUpdated,
    PredictionFailed,
    PredictionReceived,
    ReplaceOrder,
    ReportKind,
    SubmitOrder,
)
from framework.model import OrderStatus
from framework.operations.state_views import reading
from framework.research.run_question import Question, question_of
from framework.trading.journal import Journal
from framework.trading.records import OperatorCommanded, RunEnded, RunStarted

ORDER: Final = "order"
_DENIALS: Final = frozenset({OrderStatus.DENIED, OrderStatus.REJECTED})


class Fact(msgspec.Struct, frozen=True):
    """One thing that happened in a run: when, of what kind, and what, as plain values without ids."""

    ts_event: int
    kind: str
    strategy_id: str
    what: dict[str, Any]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal tells of a run: what it was asked, what happened, and until when it went (ns of market time)."""

    asked: Question
    facts: tuple[Fact, ...]
    end_ns: int

    def of(self, strategy_id: str) -> list[Fact]:
        """Return the facts of one strategy, in order."""
        return [fact for fact in self.facts if fact.strategy_id == strategy_id]


def read_run(path: Path, strategy_id: str | None = None) -> Told:
    """Read the run of a state directory (or of a journal file). Blocks. Raises `StartRefused`, `IntegrityError` as `reading` does."""
    facts: list[Fact] = []
    owners: dict[str, tuple[str, str]] = {}
    with reading(path) as journal:
        asked, end_ns = _around(journal, strategy_id)
        for record in journal.records(*(kind.__name__ for kind in _FACTS)):
            message = record.message
            if isinstance(message, SubmitOrder):
                owners[message.client_order_id] = (message.strategy_id, str(message.side))
            fact = _FACTS[type(message)](message, owners)
            if fact is not None and strategy_id in (None, fact.strategy_id):
                facts.append(fact)
    return Told(asked=asked, facts=tuple(facts), end_ns=max([end_ns, *(fact.ts_event for fact in facts[-1:])]))


def _around(journal: Journal, strategy_id: str | None) -> tuple[Question, int]:
    """Return what the run was asked, with what happened to it from outside, and when it ended in order (0: it did not)."""
    asked: Question = {}
    starts, commands, end_ns = 0, [], 0
    for record in journal.records("RunStarted", "RunEnded", "OperatorCommanded"):
        message = record.message
        if isinstance(message, RunStarted):
            starts, asked = starts + 1, question_of(message, () if strategy_id is None else (strategy_id,))
        elif isinstance(message, OperatorCommanded):
            commands.append(message.command)
        elif isinstance(message, RunEnded):
            end_ns = message.ts_event
    return asked | {"operator": ", ".join(commands) or "said nothing", "starts": starts}, end_ns


def _prediction(message: PredictionReceived, _: Any) -> Fact:
    one = message.prediction
    said = {name: getattr(one, name) for name in ("as_of_ns", "flow_type", "confidence", "p_down", "p_flat", "p_up", "model_version")}
    return Fact(one.received_ns, "prediction", message.strategy_id, said | {"arrived_ns": one.received_ns})


def _failure(message: PredictionFailed, _: Any) -> Fact:
    return Fact(message.ts_event, "prediction", message.strategy_id, {"failed": str(message.reason), "arrived_ns": message.ts_event})


def _decision(message: DecisionMade, _: Any) -> Fact:
    book = message.book
    touch = (book.bid_ticks[:1], book.bid_sizes[:1], book.ask_ticks[:1], book.ask_sizes[:1])
    what = {"action": str(message.action), "reason": message.reason, "position": message.position_lots, "book": touch}
    return Fact(message.ts_event, "decision", message.strategy_id, what)


def _order(message: SubmitOrder, _: Any) -> Fact:
    names = ("side", "quantity", "order_type", "limit_ticks", "stop_ticks", "time_in_force", "reduce_only", "post_only")
    return Fact(message.ts_event, "order", message.strategy_id, {name: _word(getattr(message, name)) for name in names})


def _change(message: ReplaceOrder, _: Any) -> Fact:
    names = ("quantity", "limit_ticks", "stop_ticks")
    return Fact(message.ts_event, "change", message.strategy_id, {name: getattr(message, name) for name in names})


def _cancel(message: CancelOrder, owners: dict[str, tuple[str, str]]) -> Fact:
    _, side = owners.get(message.client_order_id, ("", None))
    return Fact(message.ts_event, "cancel", message.strategy_id, {"side": side})


def _verdict(message: OrderUpdated, _: Any) -> Fact | None:
    if message.status not in _DENIALS:
        return None
    return Fact(message.ts_event, "verdict", message.strategy_id, {"status": str(message.status), "reason": message.reason})


def _fill(message: ExecutionReport, owners: dict[str, tuple[str, str]]) -> Fact | None:
    if message.kind is not ReportKind.FILLED or message.client_order_id not in owners:
        return None
    strategy_id, side = owners[message.client_order_id]
    what = {"side": side, "quantity": message.last_quantity, "price_ticks": message.last_ticks, "liquidity": str(message.liquidity)}
    return Fact(message.ts_event, "fill", strategy_id, what)


def _word(value: Any) -> Any:
    return str(value) if isinstance(value, StrEnum) else value


_FACTS: Final[dict[type[Message], Callable[[Any, dict[str, tuple[str, str]]], Fact | None]]] = {
    PredictionReceived: _prediction,
    PredictionFailed: _failure,
    DecisionMade: _decision,
    SubmitOrder: _order,
    ReplaceOrder: _change,
    CancelOrder: _cancel,
    OrderUpdated: _verdict,
    ExecutionReport: _fill,
}
