"""Scores of predictions on data that nothing was fitted on, and the gate that a new model has to pass."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from framework.window import Float64Array, Int64Array
from ml_actor.calibration import FlowRule, up_given_move
from ml_actor.labels import FLAT, UP

ECE_BINS: Final = 15
ACTING_CONFIDENCE: Final = 0.6
MIN_GATE_BLOCKS: Final = 12
GATE_Z: Final = 1.2816
"""One-sided 90 % of the normal distribution."""
_CONSTANT: Final = 1e-9


def log_losses(probabilities: Float64Array, classes: Int64Array) -> Float64Array:
    """Return -ln of the probability of what happened, per row."""
    return np.asarray(-np.log(np.clip(probabilities[np.arange(len(classes)), classes], 1e-12, 1.0)))


def direction_losses(probabilities: Float64Array, classes: Int64Array) -> Float64Array:
    """Return -ln of the conditional probability of the side that the mid moved to, per row; 0 where it did not move.

    It is the part of the log-loss that is about direction: loss of (down, flat, up) = loss of (moves or not) + this.
    """
    chosen = np.where(classes == UP, up_given_move(probabilities), 1 - up_given_move(probabilities))
    return np.where(classes == FLAT, 0.0, -np.log(np.clip(chosen, 1e-12, 1.0)))


def brier(probabilities: Float64Array, classes: Int64Array) -> float:
    """Return the multiclass Brier score (Brier 1950): mean squared distance to the outcome, 0 to 2."""
    return float(np.mean(np.sum((probabilities - np.eye(3)[classes]) ** 2, axis=1)))


def matthews(predicted: Int64Array, happened: Int64Array) -> float:
    """Return the multiclass Matthews correlation (Gorodkin 2004); 0 where one side is constant."""
    kinds = np.union1d(predicted, happened)
    return matthews_of(np.array([[np.sum((predicted == p) & (happened == h)) for h in kinds] for p in kinds], np.float64))


def matthews_of(confusion: Float64Array) -> float:
    """Return the multiclass Matthews correlation of a table of counts, said by happened; 0 where one side is constant."""
    total, said, was = confusion.sum(), confusion.sum(axis=1), confusion.sum(axis=0)
    scale = math.sqrt(max(0.0, float((total**2 - said @ said) * (total**2 - was @ was))))
    return float((np.trace(confusion) * total - said @ was) / scale) if scale > _CONSTANT * total**2 else 0.0


def auc(scores: Float64Array, is_positive: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve (Mann-Whitney, ties count half); NaN if one class is absent."""
    positives = int(is_positive.sum())
    negatives = len(scores) - positives
    if positives == 0 or negatives == 0:
        return math.nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[is_positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def calibration_error(confidence: Float64Array, is_right: npt.NDArray[np.bool_]) -> float:
    """Return the expected calibration error over 15 bins of equal mass; NaN without rows."""
    if len(confidence) == 0:
        return math.nan
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, ECE_BINS) if len(part)]
    return float(sum(len(part) * abs(confidence[part].mean() - is_right[part].mean()) for part in parts) / len(order))


def scores(probabilities: Float64Array, classes: Int64Array) -> dict[str, float]:
    """Return log-loss, Brier, Matthews, AUC of up against down among the rows that moved, and how calibrated both are."""
    has_moved = classes != FLAT
    direction = up_given_move(probabilities[has_moved])
    went_up = classes[has_moved] == UP
    confidence = np.maximum(direction, 1 - direction)
    return {
        "log_loss": float(log_losses(probabilities, classes).mean()),
        "brier": brier(probabilities, classes),
        "mcc": matthews(probabilities.argmax(axis=1), classes),
        "auc_up_down": auc(direction, went_up),
        "ece_flat": calibration_error(probabilities[:, FLAT], classes == FLAT),
        "ece_direction": calibration_error(confidence, (direction >= 0.5) == went_up),
    }


def acting(probabilities: Float64Array, moves: Int64Array, rule: FlowRule) -> dict[str, float]:
    """Return what following the flow types at confidence >= 0.6 would have met: share of rows, hit rate, mean move.

    `hit_rate` is among the acted rows whose mid moved; `mean_move_ticks` is signed by the direction, before any cost.
    """
    directions = rule.directions(probabilities)
    confidence = np.maximum(up_given_move(probabilities), 1 - up_given_move(probabilities))
    acts = (directions != 0) & (confidence >= ACTING_CONFIDENCE)
    signed = directions[acts] * moves[acts]
    moved = signed != 0
    return {
        "share": float(acts.mean()),
        "hit_rate": float((signed[moved] > 0).mean()) if moved.any() else math.nan,
        "mean_move_ticks": float(signed.mean()) / 2 if len(signed) else math.nan,
        "mcc_flow": matthews(directions, np.sign(moves)),
    }


def is_better(challenger: Float64Array, champion: Float64Array, block_rows: int) -> tuple[bool, str]:
    """Compare two series of per-row losses on the same rows, in time order.

    Blocks of `block_rows` rows stand for the overlap of labels; better means that the mean difference of the blocks is
    below zero with 90 % confidence. Ties keep the champion. Returns the verdict and its reason.
    """
    blocks = len(challenger) // block_rows
    if blocks < MIN_GATE_BLOCKS:
        return False, f"only {len(challenger)} rows that neither model has seen, {MIN_GATE_BLOCKS * block_rows} needed"
    gaps = (challenger - champion)[: blocks * block_rows].reshape(blocks, block_rows).mean(axis=1)
    error = float(gaps.std(ddof=1)) / math.sqrt(blocks)
    upper = float(gaps.mean()) + GATE_Z * error
    verdict = "better" if upper < 0 else "not better"
    return upper < 0, f"log-loss differs by {gaps.mean():+.5f} +- {error:.5f} on {blocks} blocks: {verdict} with 90 % confidence"


def without_nan(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics rounded to 6 significant digits, NaN as None (JSON has none)."""
    return {key: _plain(value) for key, value in metrics.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return without_nan(value)
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
