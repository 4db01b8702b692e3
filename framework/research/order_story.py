"""The whole story of one order, from the journal alone: why it was sent, what it met, what became of it, and what nobody wrote down."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec

from framework.logs import foreign
from framework.messages import (
    CancelOrder,
    DecisionMade,
    ExecutionReport,
    Message,
    OrderUpdated,
    Prediction,
    PredictionFailed,
    PredictionReceived,
    ReplaceOrder,
    ReportKind,
    SubmitOrder,
)
from framework.model import NS_PER_MS, NS_PER_S, OrderStatus
from framework.operations.state_dir import StateDir
from framework.research.gate_numbers import gate_numbers
from framework.research.outcomes import outcome_of
from framework.research.record_words import change_words, report_words
from framework.trading.blotter import EXTERNAL
from framework.trading.journal_view import JournalView
from framework.trading.records import RunEnded, RunStarted
from framework.trading.watch import FLATTEN

Facts = dict[str, Any]
LIST_RECORDS: Final = 1_000
_NO_BOOK: Final = "book at the gate: this order was journalled before that was recorded"
_NO_QUEUE: Final = "queue: the venue did not say how many lots stood ahead"
_NO_DECISION: Final = "decision: the order names none, so there are no reason, prediction, markouts or outcome of its own"
_LOST_DECISION: Final = "decision: it is not in the journal (the last second before a kill is not), and with it reason and prediction"
_ENDS: Final = frozenset({ReportKind.REJECTED, ReportKind.CANCELED, ReportKind.EXPIRED})


def order_story(journal: JournalView, state: StateDir, order_id: str) -> Facts | None:
    """Return what is known about an order, as plain values; None if there never was one of this id. Times are ns of market time."""
    found = journal.numbered(SubmitOrder, order_id)
    if not found:
        return _denied(journal, state, order_id)
    seq, intent = found[0]
    reports = journal.keyed(ExecutionReport, order_id)
    missing: list[str] = []
    run = _run(journal, seq)
    story: Facts = {
        "order_id": order_id,
        "order": _terms(intent),
        "run": run and _run_facts(journal, *run),
        "strategy": _strategy(journal, intent.strategy_id, run and run[1]),
    }
    story |= _why(journal, state, intent, missing)
    story["gate"] = {"verdict": "passed"} | gate_numbers(journal, seq, intent, run and run[1])
    story |= {"events": _events(journal, intent, reports, story), "fills": [_fill(one, intent) for one in reports if _is_fill(one)]}
    story |= {"result": _result(reports, intent), "legs": _legs(journal, seq, intent), "missing": missing}
    missing += _not_recorded(intent, reports)
    return story


def _denied(journal: JournalView, state: StateDir, order_id: str) -> Facts | None:
    """Return the story of an order that the gate did not let out: a denial is all that is left of it."""
    updates = (one for _, one in journal.identified(OrderUpdated, order_id) if one.client_order_id == order_id)
    denial = next((one for one in updates if one.status is OrderStatus.DENIED), None)
    if denial is None:
        return None
    code, _, detail = denial.reason.partition(" ")
    names = ("strategy_id", "instrument_id", "side", "quantity", "order_type", "limit_ticks", "stop_ticks", "time_in_force", "decision_id")
    missing = ["book at the gate: it is not recorded for orders that are denied; the decision has the one that it was made on"]
    why = _why(journal, state, denial, missing)
    return {
        "order_id": order_id,
        "order": {name: _plain(getattr(denial, name)) for name in names} | {"sent_ns": denial.ts_event},
        "strategy": _strategy(journal, denial.strategy_id, None),
        **why,
        "gate": {"verdict": "DENIED", "code": code, "detail": detail},
        "events": [_event(denial.ts_event, "denied by the gate", denial.reason, denial.ts_event)],
        "fills": [],
        "result": {"status": "DENIED", "filled_lots": 0},
        "missing": missing,
    }


# --- who, and on what --------------------------------------------------------------------------------------------------------


def _terms(intent: SubmitOrder) -> Facts:
    names = ("strategy_id", "instrument_id", "side", "quantity", "order_type", "limit_ticks", "stop_ticks", "trail_ticks", "time_in_force")
    more = ("reduce_only", "post_only", "parent_id", "oco_id", "decision_id", "expire_ns")
    terms = {name: _plain(getattr(intent, name)) for name in (*names, *more)}
    return terms | {"sent_ns": intent.ts_event, "sent_by": _sender(intent)}


def _sender(intent: SubmitOrder) -> str:
    if intent.strategy_id == EXTERNAL:
        return "somebody else on our account: adopted from the venue"
    return "Tidebook, to close a position (flatten)" if intent.client_order_id.startswith(FLATTEN) else "its strategy"


def _run(journal: JournalView, seq: int) -> tuple[int, RunStarted] | None:
    started = journal.until(RunStarted, seq)
    return started[-1] if started else None


def _run_facts(journal: JournalView, seq: int, run: RunStarted) -> Facts:
    is_over = journal.has_after(RunEnded, seq)
    names = ("run", "market", "speed", "seed", "version", "config_digest", "limits_digest", "record_dir")
    return {name: _plain(getattr(run, name)) for name in names} | {"ended": "it ended in order" if is_over else "it runs, or was killed"}


def _strategy(journal: JournalView, name: str, run: RunStarted | None) -> Facts:
    digest = run.strategy_digests.get(name) if run is not None else None
    now = journal.deployment_digest(name)
    words = (
        "not deployed (any more)" if now is None else "deployed" if digest in (None, now) else "deployed anew since, with other settings"
    )
    return {"name": name, "digest": digest or now, "now": words}


def _why(journal: JournalView, state: StateDir, order: SubmitOrder | OrderUpdated, missing: list[str]) -> Facts:
    """Return the decision, its prediction and what came of it."""
    if order.decision_id is None:
        missing.append(_NO_DECISION)
        return {"decision": None, "prediction": None, "outcome": None}
    decision = next(iter(journal.keyed(DecisionMade, order.decision_id)), None)
    if decision is None:
        missing.append(_LOST_DECISION)
        return {"decision": {"decision_id": order.decision_id}, "prediction": None, "outcome": None}
    outcome = outcome_of(journal, state.ml_feedback, decision.decision_id)
    markouts = outcome.get("markouts_ticks")
    if markouts is not None:
        outcome["for_the_order_ticks"] = {name: ticks * order.side.sign + 0.0 for name, ticks in markouts.items()}
    return {
        "decision": _decision(decision, order.client_order_id),
        "prediction": _prediction(journal, decision, order.ts_event, missing),
        "outcome": outcome,
    }


def _decision(decision: DecisionMade, order_id: str) -> Facts:
    book = decision.book
    return {
        "decision_id": decision.decision_id,
        "ts_event": decision.ts_event,
        "action": str(decision.action),
        "reason": decision.reason,
        "position_lots": decision.position_lots,
        "is_its_order": order_id in decision.client_order_ids,
        "book": {name: list(getattr(book, name)) for name in ("bid_ticks", "bid_sizes", "ask_ticks", "ask_sizes")}
        | {"ts_event": book.ts_event, "sequence": book.sequence},
    }


def _prediction(journal: JournalView, decision: DecisionMade, sent_ns: int, missing: list[str]) -> Facts | None:
    name = decision.prediction_id
    if name is None:
        return None
    found = (one.prediction for _, one in journal.identified(PredictionReceived, name))
    one = next((prediction for prediction in found if prediction.prediction_id == name), None)
    if one is not None:
        return _prediction_facts(one, decision, sent_ns)
    failures = (failure for _, failure in journal.identified(PredictionFailed, name) if failure.prediction_id == name)
    failure = next(failures, None)
    if failure is not None:
        return {"prediction_id": name, "failed": str(failure.reason), "detail": foreign(failure.detail, 200)}
    missing.append(f"prediction {name}: it is not in the journal")
    return {"prediction_id": name}


def _prediction_facts(one: Prediction, decision: DecisionMade, sent_ns: int) -> Facts:
    names = ("prediction_id", "flow_type", "confidence", "p_down", "p_flat", "p_up", "model_version", "is_calibrated", "horizon_rows")
    return {name: _plain(getattr(one, name)) for name in names} | {
        "as_of_ns": one.as_of_ns,
        "received_ns": one.received_ns,
        "latency_ms": (one.received_ns - one.as_of_ns) / NS_PER_MS,
        "age_when_decided_s": (decision.ts_event - one.as_of_ns) / NS_PER_S,
        "age_when_sent_s": (sent_ns - one.as_of_ns) / NS_PER_S,
        "is_used": decision.action != "DEFAULT",
        "more": f"python main.py explain {one.prediction_id}",
    }


# --- what happened to it -----------------------------------------------------------------------------------------------------


def _events(journal: JournalView, intent: SubmitOrder, reports: list[ExecutionReport], story: Facts) -> list[Facts]:
    """Return what happened, in the order of time: (when, what, since the order was sent)."""
    sent_ns = intent.ts_event
    prediction, decision = story["prediction"] or {}, story["decision"] or {}
    before = [
        (prediction.get("as_of_ns"), "last row that the prediction saw", ""),
        (prediction.get("received_ns"), "prediction arrived", f"{prediction.get('latency_ms', 0):.1f} ms after that row"),
        (decision.get("ts_event"), "decided", f"{decision.get('action')} ({decision.get('reason')})"),
        (sent_ns, "sent, and let out by the gate", ""),
    ]
    told = [_event(when, what, detail, sent_ns) for when, what, detail in before if when is not None]
    order_id = intent.client_order_id
    asked: list[Message] = [*journal.keyed(ReplaceOrder, order_id), *journal.keyed(CancelOrder, order_id)]
    told += [_event(one.ts_event, *_asked(one), sent_ns) for one in asked if isinstance(one, ReplaceOrder | CancelOrder)]
    told += [_event(one.ts_event, str(one.kind), report_words(one), sent_ns) for one in reports]
    return sorted(told, key=lambda one: int(one["ts_event"]))


def _event(when: int, what: str, detail: str, sent_ns: int) -> Facts:
    return {"ts_event": when, "what": what, "detail": detail, "after_ms": (when - sent_ns) / NS_PER_MS}


def _asked(one: ReplaceOrder | CancelOrder) -> tuple[str, str]:
    return ("cancel asked for", "") if isinstance(one, CancelOrder) else ("change asked for", change_words(one))


def _is_fill(report: ExecutionReport) -> bool:
    return report.kind is ReportKind.FILLED


def _fill(report: ExecutionReport, intent: SubmitOrder) -> Facts:
    seen = intent.seen
    mid = None if seen is None or seen.bid_ticks is None or seen.ask_ticks is None else (seen.bid_ticks + seen.ask_ticks) / 2
    return {
        "ts_event": report.ts_event,
        "after_ms": (report.ts_event - intent.ts_event) / NS_PER_MS,
        "lots": report.last_quantity,
        "ticks": report.last_ticks,
        "liquidity": _plain(report.liquidity),
        "fee": str(report.fee),
        "slippage_ticks": None if mid is None else intent.side.sign * (report.last_ticks - mid),
        "trade_id": report.trade_id,
    }


def _result(reports: list[ExecutionReport], intent: SubmitOrder) -> Facts:
    fills = [one for one in reports if _is_fill(one)]
    lots = sum(one.last_quantity for one in fills)
    quantity = next((one.quantity for one in reversed(reports) if one.quantity is not None), intent.quantity)
    ended = next((str(one.kind) for one in reversed(reports) if one.kind in _ENDS), None)
    status = ended or ("FILLED" if lots >= quantity else "UNKNOWN" if reports and reports[-1].kind is ReportKind.LOST else "open")
    facts: Facts = {"status": status, "filled_lots": lots, "quantity": quantity, "fees": str(sum((one.fee for one in fills), Decimal(0)))}
    facts["average_ticks"] = sum(one.last_quantity * one.last_ticks for one in fills) / lots if lots else None
    facts["queue_ahead"] = next((one.queue_ahead for one in reports if one.kind is ReportKind.ACCEPTED), None)
    acknowledged = next((one.ts_event for one in reports if one.kind is ReportKind.ACCEPTED), None)
    facts["acknowledged_after_ms"] = None if acknowledged is None else (acknowledged - intent.ts_event) / NS_PER_MS
    facts["first_fill_after_ms"] = (fills[0].ts_event - intent.ts_event) / NS_PER_MS if fills else None
    return facts


def _legs(journal: JournalView, seq: int, intent: SubmitOrder) -> list[Facts]:
    name = intent.client_order_id
    near = journal.mentioning(SubmitOrder, name, near=seq, within=LIST_RECORDS)  # the orders of a list are written together
    legs = (one for one in near if name in (one.parent_id, one.oco_id) and one.client_order_id != name)
    return [{"order_id": one.client_order_id, "side": str(one.side), "order_type": str(one.order_type)} for one in legs]


def _not_recorded(intent: SubmitOrder, reports: list[ExecutionReport]) -> list[str]:
    found = [_NO_BOOK] if intent.seen is None else []
    accepted = next((one for one in reports if one.kind is ReportKind.ACCEPTED), None)
    if accepted is None:
        found.append("acknowledgement: the venue has not said (yet) that it took the order")
    elif intent.order_type.has_limit and intent.time_in_force.rests and accepted.queue_ahead is None:
        found.append(_NO_QUEUE)
    return found


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)
