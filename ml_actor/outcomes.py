"""What became of decisions, for the next training: which rows weigh more, and how the acted decisions went."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from framework.errors import IntegrityError
from framework.model import FlowType
from framework.window import Float64Array, Rows
from framework.wire import FeedbackItem

DECISION_WEIGHT: Final = 3.0
"""A row on which a strategy decided counts as three: there the model is used, and the next one should be right."""


def read_feedback(path: str | Path) -> tuple[FeedbackItem, ...]:
    """Read JSON lines of `FeedbackItem`. Raises `IntegrityError` naming the line that is not one."""
    decoder = msgspec.json.Decoder(FeedbackItem)
    items = []
    for number, line in enumerate(Path(path).read_bytes().splitlines(), start=1):
        try:
            items.append(decoder.decode(line))
        except msgspec.DecodeError as exc:
            raise IntegrityError(f"{path}:{number}: not a feedback item ({exc})") from exc
    return tuple(items)


def decision_weights(rows: Rows, instrument_id: str, feedback: Iterable[FeedbackItem]) -> Float64Array:
    """Return the weight of each row: `DECISION_WEIGHT` where a decision with an outcome was made on that book, else 1."""
    sequences = [item.as_of_sequence for item in feedback if item.instrument_id == instrument_id and _has_outcome(item)]
    return np.where(np.isin(rows.sequence, np.array(sequences, np.int64)), DECISION_WEIGHT, 1.0)


def summary(feedback: Iterable[FeedbackItem]) -> dict[str, Any]:
    """Return counts, hit rate of the executed decisions and their mean markouts (ticks, signed by the direction)."""
    items = tuple(feedback)
    executed = [item for item in items if item.trade_executed]
    outcomes = [item.trade_outcome for item in executed]
    closed = outcomes.count("PROFIT") + outcomes.count("LOSS")
    return {
        "decisions": len(items),
        "executed": len(executed),
        "hit_rate": outcomes.count("PROFIT") / closed if closed else None,
        "markouts_ticks": _mean_markouts(executed),
    }


def _has_outcome(item: FeedbackItem) -> bool:
    return item.trade_outcome is not None or bool(item.markouts_ticks)


def _mean_markouts(items: Iterable[FeedbackItem]) -> dict[str, float]:
    signed: dict[str, list[float]] = {}
    for item in items:
        direction = FlowType(item.prediction_flow_type).direction if item.prediction_flow_type in set(FlowType) else 0
        for horizon, ticks in item.markouts_ticks.items() if direction else ():
            signed.setdefault(horizon, []).append(direction * ticks)
    return {horizon: float(np.mean(ticks)) for horizon, ticks in sorted(signed.items())}
