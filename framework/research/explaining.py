"""Explain a prediction: what the journal has about it, what the learning process makes of its rows, and what became of it."""

from __future__ import annotations

import difflib
import re
import sqlite3
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.errors import ConfigError, TidebookError
from framework.explanation_job import ExplanationJob
from framework.logs import foreign
from framework.messages import (
    DecisionClosed,
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
from framework.research.learning_child import run_job
from framework.strict_yaml import load_strategy_text
from framework.trading.journal_view import JournalView, view_journal
from framework.wire import FeedbackItem

SCRATCH_PREFIX: Final = "tidebook-explain-"
NEAREST: Final = 3
IDS_LOOKED_AT: Final = 200_000
WINDOW_ROWS: Final = 100
_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_NUMBERED: Final = re.compile(r"(.*?)(\d+)")
Facts = dict[str, Any]


def explain(state_dir: Path, prediction_id: str, *, window_rows: int = WINDOW_ROWS) -> Facts:
    """Return everything that is known about a prediction, as plain values. Works while the framework runs and offline; blocks.

    Raises `ConfigError` for an id that was never used (names the nearest), `StorageError` without a journal, `IntegrityError` for a
    damaged one. What is gone (rows, a version) is listed under `missing`.
    """
    if not _ID.fullmatch(prediction_id):
        raise ConfigError(f"PREDICTION_ID: found {foreign(prediction_id, 80)}; allowed an id as status shows it, such as r1-17")
    state = StateDir(state_dir)
    with view_journal(state.journal) as journal:
        failure = next((one for one in journal.mentioning(PredictionFailed, prediction_id) if one.prediction_id == prediction_id), None)
        if failure is not None:
            return _failed(journal, failure)
        prediction = _prediction(journal, prediction_id)
        known = _known(journal, state, prediction)
        rows = _shown_rows(journal, prediction.strategy_id, window_rows)
    return known | _learned(state, prediction, known.get("decision"), rows)


def _prediction(journal: JournalView, prediction_id: str) -> Prediction:
    found = (record.prediction for record in journal.mentioning(PredictionReceived, prediction_id))
    exact = next((one for one in found if one.prediction_id == prediction_id), None)
    if exact is None:
        raise ConfigError(f"no prediction {foreign(prediction_id, 80)} in the journal{_nearest(journal, prediction_id)}")
    return exact


def _nearest(journal: JournalView, prediction_id: str) -> str:
    ids = [record.prediction.prediction_id for record in journal.newest(PredictionReceived, IDS_LOOKED_AT)]
    if not ids:
        return "; it holds no prediction at all"
    asked = _NUMBERED.fullmatch(prediction_id)
    same_run = [(one, match) for one in ids if (match := _NUMBERED.fullmatch(one)) and asked and match[1] == asked[1]]
    if asked and same_run:
        close = sorted(same_run, key=lambda pair: abs(int(pair[1][2]) - int(asked[2])))[:NEAREST]
        return f"; nearest: {', '.join(one for one, _ in close)}"
    close_names = difflib.get_close_matches(prediction_id, ids[:10_000], n=NEAREST, cutoff=0.3) or ids[:NEAREST]
    return f"; nearest: {', '.join(close_names)}"


def _failed(journal: JournalView, failure: PredictionFailed) -> Facts:
    decision = _decision(journal, failure.prediction_id)
    return {
        "prediction_id": failure.prediction_id,
        "failure": msgspec.to_builtins(failure),
        "decision": decision and _decision_facts(decision, None),
        "missing": ["prediction: it never came; there is nothing to explain but why"],
    }


def _known(journal: JournalView, state: StateDir, prediction: Prediction) -> Facts:
    decision = _decision(journal, prediction.prediction_id)
    known: Facts = {"prediction_id": prediction.prediction_id, "prediction": msgspec.to_builtins(prediction)}
    if decision is None:
        return known | {"decision": None}
    known["decision"] = _decision_facts(decision, prediction)
    known["orders"] = [_order(journal, order_id) for order_id in decision.client_order_ids]
    known["outcome"] = _outcome(journal, state, decision)
    return known


# --- what was decided, and what came of it ------------------------------------------------------------------------------------


def _decision(journal: JournalView, prediction_id: str) -> DecisionMade | None:
    found = journal.mentioning(DecisionMade, prediction_id)
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


def _outcome(journal: JournalView, state: StateDir, decision: DecisionMade) -> Facts:
    """Return how the decision ended: the journal's word, and markouts from unsent feedback or from the store of the ML process."""
    closed = next(iter(journal.keyed(DecisionClosed, decision.decision_id)), None)
    if closed is None:
        return {"state": "open: its markouts or its trade have not ended, or the last second was lost"}
    facts: Facts = {
        "state": "closed",
        "trade_outcome": closed.trade_outcome,
        "pnl": str(closed.pnl) if closed.pnl is not None else None,
        "closed_ns": closed.ts_event,
    }
    pending = journal.pending_feedback(decision.decision_id)
    markouts = pending.markouts_ticks if pending is not None else _stored_markouts(state.ml_feedback, decision.decision_id)
    return facts | ({"markouts_ticks": markouts} if markouts is not None else {})


def _stored_markouts(path: Path, feedback_id: str) -> dict[str, float] | None:
    """Return the markouts in the ML process's store; None where it is not there, or not to be read now."""
    if not path.is_file():
        return None
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=1.0)
    except sqlite3.Error:
        return None
    try:
        row = database.execute("SELECT body FROM feedback WHERE feedback_id = ?", (feedback_id,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=FeedbackItem).markouts_ticks
    except (sqlite3.Error, msgspec.DecodeError):
        return None
    finally:
        database.close()


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
        window_rows=window_rows,
    )
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX) as scratch:
        try:
            explained: Facts = run_job("ml_actor.explanation", job, Path(scratch), lambda _: None)["explanation"]
        except TidebookError as exc:
            # What the journal knows is worth saying, whatever is wrong with rows or versions.
            return {"missing": [f"rows and model: {exc}"], "error_exit_code": exc.exit_code}
    return explained
