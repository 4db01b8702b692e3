"""A state directory as a run leaves it: rows in parts and in a tail, a version, a journal with predictions and what became of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from framework.dataset import DatasetWriter
from framework.explanation_job import ExplanationJob
from framework.messages import (
    Action,
    BookSnapshot,
    DecisionClosed,
    DecisionMade,
    ExecutionReport,
    FailureReason,
    Feedback,
    Prediction,
    PredictionFailed,
    PredictionReceived,
    ReportKind,
    SubmitOrder,
)
from framework.model import Instrument, Liquidity, OrderType, Side, TimeInForce, TradeOutcome
from framework.trading.journal import Journal
from ml_actor.features.engine import select
from ml_actor.leaks.book import generate
from ml_actor.pipeline import train_on
from ml_actor.preparation import Recording, window_at
from ml_actor.registry import Registry
from ml_actor.training_job import TrainingJob

SEALED = 7_000
ROWS = 7_600
HORIZON = 10
FURTHER = (30,)
INSTRUMENT = Instrument(instrument_id="BOOK.TEST", tick_size=Decimal("0.25"))


@dataclass(frozen=True)
class Made:
    """Where everything is, and what it was made from."""

    state_dir: Path
    recording: Recording
    version: str

    def prediction(self, number: int, row: int) -> Prediction:
        scores = Registry(self.state_dir / "models").load(self.version).predict(window_at(self.recording, row, 100))
        rows = self.recording.rows
        return Prediction(
            prediction_id=f"r1-{number}",
            strategy_id="mine",
            instrument_id="BOOK.TEST",
            flow_type=scores.flow_type,
            confidence=scores.confidence,
            p_down=scores.p_down,
            p_flat=scores.p_flat,
            p_up=scores.p_up,
            model_version=self.version,
            is_calibrated=True,
            horizon_rows=HORIZON,
            as_of_ns=int(rows.ts_event[row]),
            as_of_sequence=int(rows.sequence[row]),
            received_ns=int(rows.ts_event[row]) + 5_000_000,
            horizons=scores.horizons,
        )

    def job(self, row: int, **changes: Any) -> ExplanationJob:
        one = self.prediction(1, row)
        fields: dict[str, Any] = {
            "dataset_dir": str(self.state_dir / "training_data.parquet"),
            "models_dir": str(self.state_dir / "models"),
            "instrument_id": one.instrument_id,
            "as_of_ns": one.as_of_ns,
            "as_of_sequence": one.as_of_sequence,
            "model_version": one.model_version,
            "horizon_rows": one.horizon_rows,
            "probabilities": (one.p_down, one.p_flat, one.p_up),
            "decided_ns": one.received_ns,
            "horizons": one.horizons,
        }
        return ExplanationJob(**(fields | changes))

    def mid(self, row: int) -> float:
        rows = self.recording.rows
        return float(int(rows.bid_ticks[row, 0]) + int(rows.ask_ticks[row, 0])) / 2


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Nobody changes this one; `own` is a copy."""
    state_dir = tmp_path_factory.mktemp("explanation") / "state"
    state_dir.mkdir(mode=0o700)
    recording = generate(ROWS, seed=3, strength=0.9).recording
    writer = DatasetWriter(state_dir / "training_data.parquet", part_rows=100_000)
    for start in range(0, SEALED, SEALED // 2):
        writer.append(INSTRUMENT, select(recording.rows, slice(start, start + SEALED // 2)))
        writer.seal()
    writer.append(INSTRUMENT, select(recording.rows, slice(SEALED, ROWS)))
    # As a kill leaves it: the rest stays in the tail.
    writer._tail.close()
    job = TrainingJob(
        job_id="job-1",
        dataset_dir="",
        models_dir=str(state_dir / "models"),
        reason="test",
        horizon_rows=HORIZON,
        further_horizons_rows=FURTHER,
        min_rows=500,
    )
    result = train_on([recording], job, feedback=(), refused_parts=(), report=lambda stage, share: None)
    assert result.ok, result.reason
    found = Made(state_dir, recording, result.version)
    _write_journal(found)
    return found


@pytest.fixture
def own(made: Made, tmp_path: Path) -> Made:
    shutil.copytree(made.state_dir, tmp_path / "state")
    return Made(tmp_path / "state", made.recording, made.version)


def _write_journal(made: Made) -> None:
    journal = Journal(made.state_dir / "journal.sqlite")
    for number, row in ((1, 5_000), (2, 5_100), (11, SEALED + 200), (12, ROWS - 3)):
        journal.append("PredictionReceived", PredictionReceived(strategy_id="mine", prediction=made.prediction(number, row)))
    journal.append(
        "PredictionFailed",
        PredictionFailed(
            prediction_id="r1-3", strategy_id="mine", instrument_id="BOOK.TEST", ts_event=7, reason=FailureReason.TIMEOUT, detail="5 s"
        ),
    )
    _write_decision(journal, made.prediction(1, 5_000), made)
    journal.close()


def _write_decision(journal: Journal, prediction: Prediction, made: Made) -> None:
    rows, now_ns = made.recording.rows, prediction.received_ns
    book = BookSnapshot(
        instrument_id="BOOK.TEST",
        ts_event=prediction.as_of_ns,
        ts_recv=prediction.as_of_ns,
        sequence=prediction.as_of_sequence,
        bid_ticks=tuple(rows.bid_ticks[5_000].tolist()),
        bid_sizes=tuple(rows.bid_sizes[5_000].astype(int).tolist()),
        ask_ticks=tuple(rows.ask_ticks[5_000].tolist()),
        ask_sizes=tuple(rows.ask_sizes[5_000].astype(int).tolist()),
    )
    decision = DecisionMade(
        decision_id="mine-d1",
        strategy_id="mine",
        instrument_id="BOOK.TEST",
        ts_event=now_ns,
        action=Action.BUY,
        reason="ENTER_LONG",
        prediction_id=prediction.prediction_id,
        flow_type=prediction.flow_type,
        confidence=prediction.confidence,
        model_version=made.version,
        position_lots=0,
        book=book,
        client_order_ids=("mine-1",),
        as_of_sequence=prediction.as_of_sequence,
    )
    order = SubmitOrder(
        client_order_id="mine-1",
        strategy_id="mine",
        instrument_id="BOOK.TEST",
        side=Side.BUY,
        quantity=3,
        order_type=OrderType.MARKET,
        limit_ticks=None,
        time_in_force=TimeInForce.IOC,
        ts_event=now_ns,
        decision_id="mine-d1",
    )
    journal.append("SubmitOrder", order, durable=True, key="mine-1")
    for number, (lots, ticks) in enumerate(((1, book.ask_ticks[0]), (2, book.ask_ticks[0] + 1))):
        report = ExecutionReport(
            client_order_id="mine-1",
            kind=ReportKind.FILLED,
            ts_event=now_ns + 3_000_000,
            trade_id=f"T{number}",
            last_quantity=lots,
            last_ticks=ticks,
            fee=Decimal("0.85") * lots,
            liquidity=Liquidity.TAKER,
        )
        journal.append("ExecutionReport", report, durable=True, key="mine-1")
    journal.append("DecisionMade", decision, key="mine-d1")
    closed_ns = now_ns + 30_000_000_000
    closed = DecisionClosed(
        decision_id="mine-d1",
        strategy_id="mine",
        instrument_id="BOOK.TEST",
        ts_event=closed_ns,
        trade_outcome=TradeOutcome.LOSS,
        pnl=Decimal("-3.30"),
    )
    journal.append("DecisionClosed", closed, key="mine-d1")
    feedback = Feedback(
        feedback_id="mine-d1",
        decision=decision,
        trade_executed=True,
        trade_outcome=TradeOutcome.LOSS,
        pnl=Decimal("-3.30"),
        markouts_ticks={"1": 0.5, "5": -1.0},
        last_bar=None,
        closed_ns=closed_ns,
    )
    journal.put_feedback(feedback)
