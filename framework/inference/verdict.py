"""What an answer to a prediction request is worth: usable, or the reason why not. Pure."""

from __future__ import annotations

import math
from typing import Final

from framework.errors import ErrorCode
from framework.messages import FailureReason, HorizonPrediction
from framework.model import FlowType
from framework.window import Window
from framework.wire import ErrorReply, PredictReply, Reply

_SUM_TOLERANCE: Final = 1e-6

FAILURE_OF_CODE: Final = {
    ErrorCode.NO_MODEL: FailureReason.NO_MODEL,
    ErrorCode.EXPIRED: FailureReason.EXPIRED,
    ErrorCode.OVERLOADED: FailureReason.OVERLOADED,
    ErrorCode.BUSY: FailureReason.OVERLOADED,
    ErrorCode.SCHEMA_MISMATCH: FailureReason.SCHEMA_MISMATCH,
}
"""Every other code is REFUSED."""

SERVICE_ANSWERED: Final = frozenset({FailureReason.NO_MODEL, FailureReason.SCHEMA_MISMATCH, FailureReason.REFUSED})
"""Failures that come from a service in good health: no reason to stop asking."""


def judge(result: Reply | FailureReason, window: Window) -> tuple[PredictReply | FailureReason, str]:
    """Return the outcome of a request about `window` that ended with `result`, and in words what is wrong with it."""
    if isinstance(result, ErrorReply):
        return failure_of(result)
    if isinstance(result, PredictReply):
        wrong = wrong_with(result, window)
        return (FailureReason.BAD_REPLY, wrong) if wrong else (result, "")
    if isinstance(result, FailureReason):
        return result, ""
    return FailureReason.BAD_REPLY, f"answer of type {type(result).__name__}"


def failure_of(reply: ErrorReply) -> tuple[FailureReason, str]:
    """Return the reason that an error answer stands for, and its text."""
    code = ErrorCode(reply.code) if reply.code in ErrorCode.__members__ else None
    reason = FAILURE_OF_CODE.get(code, FailureReason.REFUSED) if code else FailureReason.REFUSED
    return reason, f"{reply.code}: {reply.message}"


def wrong_with(reply: PredictReply, window: Window) -> str:
    """Return what keeps `reply` from being an answer about `window`, or "" if nothing does."""
    if reply.instrument_id != window.instrument_id:
        return f"answer about {reply.instrument_id!r}, asked about {window.instrument_id}"
    if (reply.as_of_ns, reply.as_of_sequence) != (window.as_of_ns, window.as_of_sequence):
        return f"answer about book {reply.as_of_sequence}, asked about {window.as_of_sequence}"
    if reply.flow_type not in FlowType.__members__:
        return f"unknown flow type {reply.flow_type!r}"
    if not math.isfinite(reply.shock_score):
        return f"shock score {reply.shock_score}"
    further = (f"{one.horizon_rows} rows: {wrong}" for one in reply.horizons if (wrong := _wrong_numbers(one)))
    return _wrong_numbers(reply) or next(further, "")


def _wrong_numbers(said: PredictReply | HorizonPrediction) -> str:
    down, flat, up = said.p_down, said.p_flat, said.p_up
    if not (down >= 0 and flat >= 0 and up >= 0 and abs(down + flat + up - 1) <= _SUM_TOLERANCE):  # also: none is NaN
        return f"probabilities {down}, {flat}, {up} do not sum to 1"
    return "" if 0 <= said.confidence <= 1 else f"confidence {said.confidence}"
