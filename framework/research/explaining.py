"""Explain a prediction or an order: what the journal has about it, what the learning process makes of its rows, and what became of it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.errors import ConfigError, TidebookError
from framework.explanation_job import ExplanationJob
from framework.logs import foreign
from framework.messages import (
    DecisionMade,
    ExecutionReport,
    Prediction,
    PredictionFailed,
    PredictionReceived,
    ReportKind,
    SubmitOrder,
)
from framework.model import NS_PER_S
from framework.operations.state_dir import StateDir
from framework.research.journal_ids import refuse
from framework.research.learning_child import run_job
from framework.research.order_story import order_story
from framework.research.outcomes import outcome_of
from framework.strict_yaml import load_strategy_text
from framework.trading.journal_view import JournalView, view_journal

SCRATCH_PREFIX: Final = "tidebook-explain-"
WINDOW_ROWS: Final = 100
NEAR_RECORDS: Final = 50_000
"""How far from each other two records of one thought are at most; a prediction is too old to decide with long before."""
_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
Facts = dict[str, Any]


def explain(state_dir: Path, name: str, *, window_rows: int = WINDOW_ROWS) -> Facts:
    """Return everything that is known about a prediction or an order, as plain values. Works while the framework runs and offline; blocks.

    Raises `ConfigError` for an id that was never used (names the nearest), `StorageError` without a journal, `IntegrityError` for a
    damaged one. What is gone (rows, a version) or was never recorded is listed under `missing`.
    """
    if not _ID.fullmatch(name):
        raise ConfigError(f"ID: found {foreign(name, 80)}; allowed the id of a prediction or an order, such as r1-17 or ml_futures-3")
    state = StateDir(state_dir)
    with view_journal(state.journal) as journal:
        failure = next((one for _, one in journal.identified(PredictionFailed, name) if one.prediction_id == name), None)
        if failure is not None:
            return _failed(journal, failure)
        seq, prediction = _prediction(journal, name)
        if prediction is None:
            return order_story(journal, state, name) or refuse(journal, name)
        known = _known(journal, state, seq, prediction)
        rows = _shown_rows(journal, prediction.strategy_id, window_rows)
    return known | _learned(state, prediction, known.get("decision"), rows)


def _prediction(journal: JournalView, prediction_id: str) -> tuple[int, Prediction | None]:
    found = ((seq, record.prediction) for seq, record in journal.identified(PredictionReceived, prediction_id))
    return next(((seq, one) for seq, one in found if one.prediction_id == prediction_id), (0, None))


def _failed(journal: JournalView, failure: PredictionFailed) -> Facts:
    seq = next((seq for seq, one in journal.identified(PredictionFailed, failure.prediction_id) if one == failure), 0)
    decision = _decision(journal, seq, failure.prediction_id)
    return {
        "prediction_id": failure.prediction_id,
        "failure": msgspec.to_builtins(failure),
        "decision": decision and _decision_facts(decision, None),
        "missing": ["prediction: it never came; there is nothing to explain but why"],
    }


def _known(journal: JournalView, state: StateDir, seq: int, prediction: Prediction) -> Facts:
    decision = _decision(journal, seq, prediction.prediction_id)
    known: Facts = {"prediction_id": prediction.prediction_id, "prediction": msgspec.to_builtins(prediction)}
    if decision is None:
        return known | {"decision": None}
    known["decision"] = _decision_facts(decision, prediction)
    known["orders"] = [_order(journal, order_id) for order_id in decision.client_order_ids]
    known["outcome"] = outcome_of(journal, state.ml_feedback, decision.decision_id)
    return known


# --- what was decided, and what came of it ------------------------------------------------------------------------------------


def _decision(journal: JournalView, seq: int, prediction_id: str) -> DecisionMade | None:
    """Return the decision on a prediction that is record `seq`: it comes soon after, or never."""
    found = journal.mentioning(DecisionMade, prediction_id, near=seq, within=NEAR_RECORDS)
    return next((one for one in found if one.prediction_id == prediction_id), None)


def _decision_facts(decision: DecisionMade, prediction: Prediction | None) -> Facts:
    book = decision.book
    facts: Facts = {
        "decision_id": decision.decision_id,
        "ts_event": decision.ts_event,
        "action": decision.action,
        "reason": decision.reason,
        "position_lots": decision.position_lots,
        "client_order_ids": list(decision.client_order_ids),
        "bid_ticks": book.bid_ticks[0] if book.bid_ticks else None,
        "ask_ticks": book.ask_ticks[0] if book.ask_ticks else None,
    }
    if prediction is not None:
        facts["age_s"] = (decision.ts_event - prediction.as_of_ns) / NS_PER_S
        facts["age_at_arrival_s"] = (prediction.received_ns - prediction.as_of_ns) / NS_PER_S
        facts["books_since"] = "none" if book.sequence == prediction.as_of_sequence else "some"
    return facts


def _order(journal: JournalView, order_id: str) -> Facts:
    intent = next(iter(journal.keyed(SubmitOrder, order_id)), None)
    reports = journal.keyed(ExecutionReport, order_id)
    fills = [one for one in reports if one.kind is ReportKind.FILLED]
    lots = sum(one.last_quantity for one in fills)
    facts: Facts = {"client_order_id": order_id, "fills": [_fill(one) for one in fills], "filled_lots": lots}
    if intent is not None:
        facts |= {"side": intent.side, "quantity": intent.quantity, "order_type": intent.order_type, "limit_ticks": intent.limit_ticks}
    else:
        facts["note"] = "it never left: denied, or the process ended first"
    if lots:
        facts["average_ticks"] = sum(one.last_quantity * one.last_ticks for one in fills) / lots
    others = [one for one in reports if one.kind not in (ReportKind.FILLED, ReportKind.ACCEPTED)]
    if others:
        facts["ended"] = f"{others[-1].kind}{': ' + foreign(others[-1].reason, 200) if others[-1].reason else ''}"
    return facts


def _fill(report: ExecutionReport) -> Facts:
    return {
        "ts_event": report.ts_event,
        "lots": report.last_quantity,
        "ticks": report.last_ticks,
        "fee": str(report.fee),
        "liquidity": report.liquidity,
    }


# --- what the learning process adds ---------------------------------------------------------------------------------------------


def _shown_rows(journal: JournalView, strategy_id: str, window_rows: int) -> int:
    """Return how many rows the strategy may show at most: its `max_dom_history`, if it is deployed."""
    body = journal.deployment(strategy_id)
    try:
        text = msgspec.json.decode(body, type=dict[str, Any])["text"] if body else None
        return window_rows if text is None else min(window_rows, load_strategy_text(text, strategy_id).max_dom_history)
    except (msgspec.DecodeError, KeyError, ConfigError):
        return window_rows


def _learned(state: StateDir, prediction: Prediction, decision: Facts | None, window_rows: int) -> Facts:
    job = ExplanationJob(
        dataset_dir=str(state.dataset),
        models_dir=str(state.models),
        instrument_id=prediction.instrument_id,
        as_of_ns=prediction.as_of_ns,
        as_of_sequence=prediction.as_of_sequence,
        model_version=prediction.model_version,
        horizon_rows=prediction.horizon_rows,
        probabilities=(prediction.p_down, prediction.p_flat, prediction.p_up),
        decided_ns=decision["ts_event"] if decision else None,
        horizons=prediction.horizons,
        window_rows=window_rows,
    )
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX) as scratch:
        try:
            explained: Facts = run_job("ml_actor.explanation", job, Path(scratch), lambda _: None)["explanation"]
        except TidebookError as exc:
            # What the journal knows is worth saying, whatever is wrong with rows or versions.
            return {"missing": [f"rows and model: {exc}"], "error_exit_code": exc.exit_code}
    return explained
