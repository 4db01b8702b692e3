"""The ML process of a backtest: a table of answers, looked up by the book that a window ends with, over no socket at all.

It speaks the wire protocol to an ordinary `MLClient`, so that everything above it is what trades live.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from framework import wire
from framework.backtest_job import BatchResult, further_column
from framework.errors import ErrorCode
from framework.messages import HorizonPrediction, Prediction, PredictionReceived
from framework.model import FlowType
from framework.trading.journal_view import view_journal
from framework.wire import PROTOCOL_VERSION

Key = tuple[str, int, int]
"""Instrument, time and sequence of the last book of a window."""
MAX_RECORDED: Final = 5_000_000
_COLUMNS: Final = ("p_down", "p_flat", "p_up", "flow_type", "confidence", "regime", "shock_score")


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a model said about the window that ends with one book."""

    p_down: float
    p_flat: float
    p_up: float
    flow_type: str
    confidence: float
    regime: int
    shock_score: float
    model_version: str
    horizon_rows: int
    is_calibrated: bool
    horizons: tuple[HorizonPrediction, ...] = ()


class Answers:
    """Answers by the book that the window ends with; `version` is the model they are from, `misses` who asked for another book."""

    def __init__(self, table: Mapping[Key, Answer], version: str) -> None:
        self.version = version
        self.misses = 0
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def find(self, key: Key) -> Answer | None:
        """Return the answer for a window, or None, counted."""
        answer = self._table.get(key)
        self.misses += answer is None
        return answer


def of_batch(files: Mapping[str, Path], about: BatchResult) -> Answers:
    """Read the answers that the batch process wrote, by instrument."""
    table: dict[Key, Answer] = {}
    common = (about.version, about.horizon_rows, about.is_calibrated)
    for instrument_id, path in files.items():
        read = pq.read_table(path)
        columns = [read.column(name).to_pylist() for name in ("ts_event", "sequence", *_COLUMNS)]
        further = _further(read, about.further_horizons_rows)
        for (ts_event, sequence, *said), over in zip(zip(*columns, strict=True), further, strict=True):
            table[instrument_id, ts_event, sequence] = Answer(*said, *common, over)  # type: ignore[call-arg]
    return Answers(table, about.version)


def _further(read: pa.Table, horizons: tuple[int, ...]) -> Iterable[tuple[HorizonPrediction, ...]]:
    """Return for each row what was said about further horizons."""
    if not horizons:
        return itertools.repeat((), read.num_rows)
    return zip(*(_over(read, horizon_rows) for horizon_rows in horizons), strict=True)


def _over(read: pa.Table, horizon_rows: int) -> Iterable[HorizonPrediction]:
    names = HorizonPrediction.__struct_fields__[1:]
    down, flat, up, flow_type, confidence = (read.column(further_column(horizon_rows, name)).to_pylist() for name in names)
    return map(HorizonPrediction, itertools.repeat(horizon_rows), down, flat, up, map(FlowType, flow_type), confidence)


def of_journal(path: Path) -> tuple[Answers, list[float]]:
    """Read what was answered in an earlier run from its journal; also return the round trips, ms. Raises as `view_journal`."""
    table: dict[Key, Answer] = {}
    trips: list[float] = []
    version = ""
    with view_journal(path) as journal:
        for message in reversed(journal.newest(PredictionReceived, MAX_RECORDED)):
            one = message.prediction
            version = one.model_version
            trips.append(one.round_trip_us / 1e3)
            table[one.instrument_id, one.as_of_ns, one.as_of_sequence] = _recorded(one)
    return Answers(table, version), trips


def _recorded(one: Prediction) -> Answer:
    said = (one.p_down, one.p_flat, one.p_up, str(one.flow_type), one.confidence, one.regime, one.shock_score)
    return Answer(*said, one.model_version, one.horizon_rows, one.is_calibrated, one.horizons)


class AnswerTransport:
    """A transport whose peer is a table. Every answer comes in a later turn of the loop, as over a socket."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._on_frames: Callable[[list[bytes]], None] = lambda _frames: None
        self._replies: dict[type, Callable[[Any, list[bytes]], wire.Reply]] = {
            wire.PredictRequest: self._predict,
            wire.Ping: self._pong,
            wire.FeedbackRequest: self._stored,
        }

    def start(self, on_frames: Callable[[list[bytes]], None]) -> None:
        """Answer to `on_frames` from now on."""
        self._on_frames = on_frames

    def connect(self, endpoint: str) -> None:
        """Do nothing: the table is here."""

    async def close(self) -> None:
        """Do nothing."""

    def send(self, frames: list[bytes]) -> bool:
        """Take one request; it is answered in the next turn."""
        request = wire.decode_request(frames[0])
        reply = self._replies.get(type(request), self._refused)(request, frames)
        asyncio.get_running_loop().call_soon(self._on_frames, [wire.encode(reply)])
        return True

    def _predict(self, request: wire.PredictRequest, frames: list[bytes]) -> wire.Reply:
        times = np.frombuffer(frames[1], "<i8", 2 * request.row_count)
        ts_event, sequence = int(times[request.row_count - 1]), int(times[-1])
        answer = self._answers.find((request.instrument_id, ts_event, sequence))
        if answer is None:
            return _error(request, ErrorCode.NO_MODEL, "no answer is recorded for this book")
        return wire.PredictReply(
            version=PROTOCOL_VERSION,
            request_id=request.request_id,
            flow_type=answer.flow_type,
            confidence=answer.confidence,
            p_down=answer.p_down,
            p_flat=answer.p_flat,
            p_up=answer.p_up,
            model_version=answer.model_version,
            is_calibrated=answer.is_calibrated,
            horizon_rows=answer.horizon_rows,
            as_of_ns=ts_event,
            as_of_sequence=sequence,
            regime=answer.regime,
            shock_score=answer.shock_score,
            compute_us=0.0,
            instrument_id=request.instrument_id,
            horizons=answer.horizons,
        )

    def _pong(self, request: wire.Ping, _frames: list[bytes]) -> wire.Reply:
        version = self._answers.version
        return wire.Pong(
            version=PROTOCOL_VERSION,
            request_id=request.request_id,
            state="SERVING" if version else "NO_MODEL",
            model_version=version,
            is_training=False,
            predictions=0,
            trainings=0,
        )

    def _stored(self, request: wire.FeedbackRequest, _frames: list[bytes]) -> wire.Reply:
        ids = tuple(item.feedback_id for item in request.items)
        return wire.FeedbackReply(version=PROTOCOL_VERSION, request_id=request.request_id, feedback_ids=ids)

    def _refused(self, request: wire.Request, _frames: list[bytes]) -> wire.Reply:
        return _error(request, ErrorCode.REFUSED, "a backtest answers predictions only; it trains nothing")


def _error(request: wire.Request, code: ErrorCode, message: str) -> wire.Reply:
    return wire.ErrorReply(version=PROTOCOL_VERSION, request_id=request.request_id, code=code, message=message)
