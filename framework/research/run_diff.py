"""Where two runs part, and why: what happened in each, in order, compared fact by fact; then order by order.

Everything that decides about orders is in the journal: predictions as they arrived, decisions with the book that they were made on,
orders, what the gate and the venue said, fills. The first fact that differs is the cause of what differs after it: everything before it
was the same. Ids are not compared, for runs are numbered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.messages import (
    DecisionMade,
    ExecutionReport,
    Message,
    OrderUpdated,
    PredictionFailed,
    PredictionReceived,
    ReportKind,
    SubmitOrder,
)
from framework.model import NS_PER_S, OrderStatus
from framework.operations.state_views import reading
from framework.trading.records import RunStarted

NEAR_S: Final = 5.0
"""Orders of the same side this close in time are the same intention, sent a little earlier or later."""
_DENIALS: Final = frozenset({OrderStatus.DENIED, OrderStatus.REJECTED})


class Cause(StrEnum):
    """What kind of fact came apart first."""

    MARKET = "the market data"
    PREDICTION = "a prediction"
    ARRIVAL = "when a prediction arrived"
    DECISION = "a decision, on the same prediction, book and position"
    ORDER = "an order, after the same decision"
    VERDICT = "what the gate or the venue said"
    FILL = "a fill"
    END = "one run goes on where the other has ended"


class Fact(msgspec.Struct, frozen=True):
    """One thing that happened in a run: when, of what kind, and what, as plain values without ids."""

    ts_event: int
    kind: str
    strategy_id: str
    what: dict[str, Any]


class Parting(msgspec.Struct, frozen=True, kw_only=True):
    """The first fact that differs; `number` counts the facts that are the same before it."""

    cause: str
    number: int
    ts_event: int
    strategy_id: str
    differs: dict[str, tuple[Any, Any]]
    a: Fact | None
    b: Fact | None


class OrderPair(msgspec.Struct, frozen=True, kw_only=True):
    """An order of A beside one of B; None where a run has none. `is_explained`: it comes after the parting."""

    is_same: bool
    is_explained: bool
    a: Fact | None
    b: Fact | None


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs compared. `settings` are the facts of how they were run that differ."""

    is_same: bool
    facts: int
    orders_a: int
    orders_b: int
    orders_same: int
    unexplained: int
    settings: dict[str, tuple[Any, Any]]
    parting: Parting | None
    pairs: tuple[OrderPair, ...]


def compare(a: Path, b: Path, strategy_id: str | None = None) -> Diff:
    """Compare the runs of two state directories (or journals). Blocks. Raises `StartRefused`, `IntegrityError` as `reading` does."""
    (settings_a, facts_a), (settings_b, facts_b) = (_read(path, strategy_id) for path in (a, b))
    parting = _parting(facts_a, facts_b)
    orders_a, orders_b = ([fact for fact in facts if fact.kind == "order"] for facts in (facts_a, facts_b))
    pairs = tuple(_pairs(orders_a, orders_b, parting))
    return Diff(
        is_same=parting is None,
        facts=min(len(facts_a), len(facts_b)) if parting is None else parting.number,
        orders_a=len(orders_a),
        orders_b=len(orders_b),
        orders_same=sum(pair.is_same for pair in pairs),
        unexplained=sum(not pair.is_same and not pair.is_explained for pair in pairs),
        settings=_differing(settings_a, settings_b),
        parting=parting,
        pairs=tuple(pair for pair in pairs if not pair.is_same),
    )


# --- facts -----------------------------------------------------------------------------------------------------------------


def _read(path: Path, strategy_id: str | None) -> tuple[dict[str, Any], list[Fact]]:
    settings: dict[str, Any] = {}
    facts: list[Fact] = []
    owners: dict[str, tuple[str, str]] = {}
    with reading(path) as journal:
        for record in journal.records("RunStarted", *(kind.__name__ for kind in _FACTS)):
            message = record.message
            if isinstance(message, RunStarted):
                settings = msgspec.to_builtins(message) | {"run": 0, "ts_event": 0}
                continue
            if isinstance(message, SubmitOrder):
                owners[message.client_order_id] = (message.strategy_id, str(message.side))
            fact = _FACTS[type(message)](message, owners)
            if fact is not None and strategy_id in (None, fact.strategy_id):
                facts.append(fact)
    return settings, facts


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
    OrderUpdated: _verdict,
    ExecutionReport: _fill,
}


# --- where they part -------------------------------------------------------------------------------------------------------


def _parting(a: Sequence[Fact], b: Sequence[Fact]) -> Parting | None:
    """Return the first fact that differs, looking at each strategy by itself: the order of facts between strategies says nothing."""
    found = [parting for name in sorted({fact.strategy_id for fact in (*a, *b)}) if (parting := _first(_of(a, name), _of(b, name)))]
    return min(found, key=lambda one: one.ts_event, default=None)


def _of(facts: Sequence[Fact], strategy_id: str) -> list[Fact]:
    return [fact for fact in facts if fact.strategy_id == strategy_id]


def _first(a: Sequence[Fact], b: Sequence[Fact]) -> Parting | None:
    for number, (left, right) in enumerate(zip(a, b, strict=False)):
        if left != right:
            return _named(number, left, right)
    if len(a) == len(b):
        return None
    number = min(len(a), len(b))
    ends = [facts[number] if number < len(facts) else None for facts in (a, b)]
    return _named(number, ends[0], ends[1])


def _named(number: int, a: Fact | None, b: Fact | None) -> Parting:
    some = a or b
    assert some is not None
    times = [fact.ts_event for fact in (a, b) if fact is not None]
    differs = _differing(_facts_of(a), _facts_of(b)) if a is not None and b is not None else {}
    return Parting(cause=_cause(a, b, differs), number=number, ts_event=min(times), strategy_id=some.strategy_id, differs=differs, a=a, b=b)


def _facts_of(fact: Fact) -> dict[str, Any]:
    return {"kind": fact.kind, "ts_event": fact.ts_event} | fact.what


def _cause(a: Fact | None, b: Fact | None, differs: dict[str, tuple[Any, Any]]) -> str:
    if a is None or b is None:
        return Cause.END
    first = min((a, b), key=lambda fact: fact.ts_event)
    if a.kind == b.kind == "prediction":
        return Cause.ARRIVAL if set(differs) <= {"arrived_ns", "ts_event"} else Cause.PREDICTION
    if a.kind == b.kind == "decision" and "book" in differs:
        return Cause.MARKET
    if "verdict" in (a.kind, b.kind):
        return Cause.VERDICT
    kinds = {"prediction": Cause.ARRIVAL, "decision": Cause.DECISION, "order": Cause.ORDER, "verdict": Cause.VERDICT, "fill": Cause.FILL}
    return kinds[first.kind]


def _differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (a.get(name), b.get(name)) for name in sorted({*a, *b}) if a.get(name) != b.get(name)}


# --- order by order --------------------------------------------------------------------------------------------------------


def _pairs(a: Sequence[Fact], b: Sequence[Fact], parting: Parting | None) -> Iterator[OrderPair]:
    """Align orders: the same ones first, then those of one side that are near in time, then each alone."""
    keys = [[(fact.strategy_id, fact.ts_event, tuple(fact.what.values())) for fact in facts] for facts in (a, b)]
    for tag, a_from, a_to, b_from, b_to in SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_opcodes():
        if tag == "equal":
            for left, right in zip(a[a_from:a_to], b[b_from:b_to], strict=True):
                yield OrderPair(is_same=True, is_explained=True, a=left, b=right)
        else:
            yield from _near(a[a_from:a_to], b[b_from:b_to], parting)


def _near(a: Sequence[Fact], b: Sequence[Fact], parting: Parting | None) -> Iterator[OrderPair]:
    left = list(b)
    for order in a:
        twin = next((other for other in left if _is_near(order, other)), None)
        if twin is not None:
            left.remove(twin)
        yield _pair(order, twin, parting)
    for order in left:
        yield _pair(None, order, parting)


def _is_near(a: Fact, b: Fact) -> bool:
    is_alike = (a.strategy_id, a.what["side"]) == (b.strategy_id, b.what["side"])
    return is_alike and abs(a.ts_event - b.ts_event) <= NEAR_S * NS_PER_S


def _pair(a: Fact | None, b: Fact | None, parting: Parting | None) -> OrderPair:
    first_ns = min(fact.ts_event for fact in (a, b) if fact is not None)
    return OrderPair(is_same=False, is_explained=parting is not None and first_ns >= parting.ts_event, a=a, b=b)
