"""Where two runs part, and why: what happened in each, in order, compared fact by fact; then order by order.

Everything that decides about orders is in the journal: predictions as they arrived, decisions with the book that they were made on,
orders, what the gate and the venue said, fills. The first fact that differs is the cause of what differs after it: everything before it
was the same. Ids are not compared, for runs are numbered. What the runs were asked (`run_question`) says which settings can be behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.model import NS_PER_S
from framework.research.run_facts import ORDER, Fact, Told, read_run
from framework.research.run_question import MATCHING, Differing, deciding, differing

NEAR_S: Final = 5.0
"""Orders of the same side this close in time are the same intention, sent a little earlier or later."""


class Cause(StrEnum):
    """What kind of fact came apart first."""

    MARKET = "the market data"
    PREDICTION = "a prediction"
    ARRIVAL = "when a prediction arrived"
    DECISION = "a decision, on the same prediction, book and position"
    ORDER = "an order, a change or a cancel, after the same decision"
    VERDICT = "what the gate or the venue said"
    FILL = "a fill"
    QUEUE = "a fill: the venues match by different rules"
    END = "one run goes on where the other has ended"


_ALWAYS: Final = ("code", "operator", "starts")
_BEHIND: Final[dict[Cause, tuple[str, ...]]] = {
    Cause.MARKET: ("market", MATCHING, "simulated_market", "instrument"),
    Cause.PREDICTION: ("predictions", "training", "ml_service", "strategy", "speed"),
    Cause.ARRIVAL: ("predictions", "replay", "ml_service", "strategy", "speed"),
    Cause.DECISION: ("strategy", "speed"),
    Cause.ORDER: ("strategy",),
    Cause.VERDICT: ("risk", "paper", MATCHING, "instrument", "speed"),
    Cause.FILL: ("paper", "instrument", "speed"),
    Cause.QUEUE: (MATCHING, "paper", "instrument"),
    Cause.END: ("market",),
}
"""Which settings can bring a cause about, by how their names begin."""
_FROM_OUTSIDE: Final = frozenset({Cause.MARKET, Cause.PREDICTION, Cause.ARRIVAL, Cause.QUEUE, Cause.END})
"""What explains itself: the runs were given different things. The others need a setting behind them."""


class Parting(msgspec.Struct, frozen=True, kw_only=True):
    """The first fact that differs; `number` counts those that are the same before it. `behind`: settings that differ and can cause it.

    `is_explained`: the runs were given different things, or a setting is behind it. Else the same question had two answers.
    """

    cause: Cause
    is_explained: bool
    number: int
    ts_event: int
    strategy_id: str
    differs: Differing
    behind: Differing
    a: Fact | None
    b: Fact | None


Partings = dict[str, Parting]


class OrderPair(msgspec.Struct, frozen=True, kw_only=True):
    """An order of A beside one of B; None where a run has none. `is_explained`: it comes after an explained parting of its strategy."""

    is_same: bool
    is_explained: bool
    a: Fact | None
    b: Fact | None


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs compared. `settings` are those that differ, of all that can decide about orders; `parting` is the first of any strategy."""

    is_same: bool
    facts: int
    orders_a: int
    orders_b: int
    orders_same: int
    unexplained: int
    settings: Differing
    parting: Parting | None
    pairs: tuple[OrderPair, ...]


def compare(a: Path, b: Path, strategy_id: str | None = None) -> Diff:
    """Compare the runs of two state directories (or journals). Blocks. Raises `StartRefused`, `IntegrityError` as `reading` does."""
    told_a, told_b = (read_run(path, strategy_id) for path in (a, b))
    settings = _settings(differing(told_a.asked, told_b.asked), (*told_a.facts, *told_b.facts))
    partings = _partings(told_a, told_b, settings)
    parting = min(partings.values(), key=lambda one: one.ts_event, default=None)
    orders_a, orders_b = ([fact for fact in told.facts if fact.kind == ORDER] for told in (told_a, told_b))
    pairs = tuple(_pairs(orders_a, orders_b, partings))
    return Diff(
        is_same=parting is None,
        facts=len(told_a.facts) if parting is None else parting.number,
        orders_a=len(orders_a),
        orders_b=len(orders_b),
        orders_same=sum(pair.is_same for pair in pairs),
        unexplained=sum(not pair.is_same and not pair.is_explained for pair in pairs),
        settings=settings,
        parting=parting,
        pairs=tuple(pair for pair in pairs if not pair.is_same),
    )


def _settings(found: Differing, facts: Sequence[Fact]) -> Differing:
    """Drop what decided nothing: about predictions where there were none, about making a market that the other run replayed."""
    idle = () if any(fact.kind == "prediction" for fact in facts) else ("predictions", "replay", "ml_service", "training")
    made = () if "market" in found else ("simulated_market",)
    decided_nothing = deciding(found, (*idle, *made))
    not_known = {name for name, pair in deciding(found, ("strategy",)).items() if None in pair}  # a run of the demo has no digest
    return {name: pair for name, pair in found.items() if name not in decided_nothing and name not in not_known}


# --- where they part -------------------------------------------------------------------------------------------------------


def _partings(a: Told, b: Told, settings: Differing) -> Partings:
    """Return the first fact that differs, of each strategy by itself: the order of facts between strategies says nothing."""
    names = sorted({fact.strategy_id for fact in (*a.facts, *b.facts)})
    found = {name: _first(a, b, name, settings) for name in names}
    return {name: parting for name, parting in found.items() if parting is not None}


def _first(a: Told, b: Told, strategy_id: str, settings: Differing) -> Parting | None:
    facts_a, facts_b = a.of(strategy_id), b.of(strategy_id)
    for number, (left, right) in enumerate(zip(facts_a, facts_b, strict=False)):
        if left != right:
            return _named(number, left, right, settings, _cause(left, right, settings))
    number = min(len(facts_a), len(facts_b))
    more = facts_a[number:] or facts_b[number:]
    if not more:
        return None
    was_over = more[0].ts_event > (b if facts_a[number:] else a).end_ns
    cause = Cause.END if was_over else _of_kind(more[0], settings)
    sides: tuple[Fact | None, Fact | None] = (more[0], None) if facts_a[number:] else (None, more[0])
    return _named(number, *sides, settings, cause)


def _named(number: int, a: Fact | None, b: Fact | None, settings: Differing, cause: Cause) -> Parting:
    there = [fact for fact in (a, b) if fact is not None]
    behind = deciding(settings, (*_BEHIND[cause], *_ALWAYS))
    return Parting(
        cause=cause,
        is_explained=cause in _FROM_OUTSIDE or bool(behind),
        number=number,
        ts_event=min(fact.ts_event for fact in there),
        strategy_id=there[0].strategy_id,
        differs=differing(_facts_of(a), _facts_of(b)) if a is not None and b is not None else {},
        behind=behind,
        a=a,
        b=b,
    )


def _facts_of(fact: Fact) -> dict[str, Any]:
    return {"kind": fact.kind, "ts_event": fact.ts_event} | fact.what


def _cause(a: Fact, b: Fact, settings: Differing) -> Cause:
    differs = differing(_facts_of(a), _facts_of(b))
    if a.kind == b.kind == "prediction":
        return Cause.ARRIVAL if set(differs) <= {"arrived_ns", "ts_event"} else Cause.PREDICTION
    if a.kind == b.kind == "decision" and "book" in differs:
        return Cause.MARKET
    if "verdict" in (a.kind, b.kind):
        return Cause.VERDICT
    return _of_kind(min((a, b), key=lambda fact: fact.ts_event), settings)


def _of_kind(fact: Fact, settings: Differing) -> Cause:
    if fact.kind == "fill":
        return Cause.QUEUE if MATCHING in settings else Cause.FILL
    return {"prediction": Cause.ARRIVAL, "decision": Cause.DECISION, "verdict": Cause.VERDICT}.get(fact.kind, Cause.ORDER)


# --- order by order --------------------------------------------------------------------------------------------------------


def _pairs(a: Sequence[Fact], b: Sequence[Fact], partings: Partings) -> Iterator[OrderPair]:
    """Align orders: the same ones first, then those of one side that are near in time, then each alone."""
    keys = [[(fact.strategy_id, fact.ts_event, tuple(fact.what.values())) for fact in facts] for facts in (a, b)]
    for tag, a_from, a_to, b_from, b_to in SequenceMatcher(None, keys[0], keys[1], autojunk=False).get_opcodes():
        if tag == "equal":
            for left, right in zip(a[a_from:a_to], b[b_from:b_to], strict=True):
                yield OrderPair(is_same=True, is_explained=True, a=left, b=right)
        else:
            yield from _near(a[a_from:a_to], b[b_from:b_to], partings)


def _near(a: Sequence[Fact], b: Sequence[Fact], partings: Partings) -> Iterator[OrderPair]:
    left = list(b)
    for order in a:
        twin = next((other for other in left if _is_near(order, other)), None)
        if twin is not None:
            left.remove(twin)
        yield _pair(order, twin, partings)
    for order in left:
        yield _pair(None, order, partings)


def _is_near(a: Fact, b: Fact) -> bool:
    is_alike = (a.strategy_id, a.what["side"]) == (b.strategy_id, b.what["side"])
    return is_alike and abs(a.ts_event - b.ts_event) <= NEAR_S * NS_PER_S


def _pair(a: Fact | None, b: Fact | None, partings: Partings) -> OrderPair:
    there = [fact for fact in (a, b) if fact is not None]
    parting = partings.get(there[0].strategy_id)
    is_after = parting is not None and parting.is_explained and min(fact.ts_event for fact in there) >= parting.ts_event
    return OrderPair(is_same=False, is_explained=is_after, a=a, b=b)
