"""From raw to calibrated probabilities, and from those to what a prediction claims.

The rule (one table; `d` is the calibrated probability that the mid is higher, given that it moved within the horizon):

    | condition                         | flow type   | claim                                | confidence |
    |-----------------------------------|-------------|--------------------------------------|------------|
    | p_flat >= neutral_cut             | NEUTRAL     | the mid does not move                | p_flat     |
    | else d >= strong_cut              | STRONG_BUY  | if it moves, it moves up             | d          |
    | else d >= 1/2                     | BUY         | if it moves, it moves up             | d          |
    | else 1 - d >= strong_cut          | STRONG_SELL | if it moves, it moves down           | 1 - d      |
    | else                              | SELL        | if it moves, it moves down           | 1 - d      |

In a large-tick book most horizons end unchanged, so the largest of three probabilities would nearly always be `flat`, and
its direction, which is what an order needs, would be lost. `neutral_cut` is chosen on the calibration slice (the cut with
the best Matthews correlation of sell / neutral / buy with what happened, a fifth of the rows at least on either side);
`strong_cut` is 0.75. The confidence is thus
the calibrated probability of what the flow type says, comparable with the strategy's threshold; the three unconditional
probabilities travel beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from framework.model import FlowType
from framework.window import Float64Array
from ml_actor.labels import DOWN, FLAT, UP

STRONG_CUT: Final = 0.75
_FLOOR: Final = 1e-6


class CalibrationKind(StrEnum):
    """How raw probabilities are mapped; every map treats up and down alike except VECTOR."""

    NONE = "none"
    TEMPERATURE = "temperature"
    SIGMOID = "sigmoid"
    VECTOR = "vector"
    ISOTONIC = "isotonic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A fitted map; its parameters by kind.

    TEMPERATURE (1,): log-probabilities are divided by it. SIGMOID (3,): slope and offset of the logit of a move, slope
    of the logit of up given a move. VECTOR (3, 2): scale and offset of each log-probability. ISOTONIC (4, k): knots and
    values of the probability of a move, knots and values of up given a move (padded by repeating the last).
    """

    kind: CalibrationKind
    parameters: Float64Array

    def apply(self, probabilities: Float64Array) -> Float64Array:
        """Map (n, 3) probabilities (down, flat, up); each row of the result sums to 1 and is at least 1e-6 everywhere."""
        if self.kind in _COMPILED:
            return np.asarray(_mapped(probabilities, _COMPILED[self.kind], self.parameters))
        raw = np.clip(probabilities, 1e-12, 1.0)
        return _normalised(_MAPS[self.kind](raw, self.parameters))


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRule:
    """The two cuts of the table above."""

    neutral_cut: float
    strong_cut: float = STRONG_CUT

    def claim(self, p_down: float, p_flat: float, p_up: float) -> tuple[FlowType, float]:
        """Return the flow type and the calibrated probability of what it claims."""
        if p_flat >= self.neutral_cut:
            return FlowType.NEUTRAL, p_flat
        is_up = p_up >= p_down
        confidence = max(p_up, p_down) / (p_up + p_down)
        if confidence >= self.strong_cut:
            return (FlowType.STRONG_BUY if is_up else FlowType.STRONG_SELL), confidence
        return (FlowType.BUY if is_up else FlowType.SELL), confidence

    def directions(self, probabilities: Float64Array) -> npt.NDArray[np.int64]:
        """Return -1, 0 or +1 per row of (n, 3): the direction of the flow type."""
        sides = np.where(probabilities[:, UP] >= probabilities[:, DOWN], 1, -1)
        return np.where(probabilities[:, FLAT] >= self.neutral_cut, 0, sides)


def softmax(scores: Float64Array) -> Float64Array:
    """Return the softmax of each row."""
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def logit(probability: Float64Array) -> Float64Array:
    """Return ln(p / (1 - p)), p kept 1e-12 away from both ends."""
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def up_given_move(probabilities: Float64Array) -> Float64Array:
    """Return p_up / (p_up + p_down) per row."""
    return np.asarray(probabilities[:, UP] / (probabilities[:, UP] + probabilities[:, DOWN]))


def compose(p_move: Float64Array, p_up: Float64Array) -> Float64Array:
    """Return (n, 3) from the probability of a move and of up given a move."""
    return np.column_stack([p_move * (1 - p_up), 1 - p_move, p_move * p_up])


def _apply_isotonic(raw: Float64Array, parameters: Float64Array) -> Float64Array:
    move_knots, move_values, up_knots, up_values = parameters
    p_move = np.interp(1 - raw[:, FLAT] / raw.sum(axis=1), move_knots, move_values)
    return compose(p_move, np.interp(up_given_move(raw), up_knots, up_values))


_MAPS: Final[dict[CalibrationKind, Any]] = {
    CalibrationKind.VECTOR: lambda raw, parameters: softmax(np.log(raw) * parameters[:, 0] + parameters[:, 1]),
    CalibrationKind.ISOTONIC: _apply_isotonic,
}


def _normalised(probabilities: Float64Array) -> Float64Array:
    kept = np.clip(probabilities, _FLOOR, 1.0)
    return np.asarray(kept / kept.sum(axis=1, keepdims=True))


# What is served is compiled, because for one row numpy's calls cost twenty times the arithmetic (33 us for a sigmoid).

_NONE, _TEMPERATURE, _SIGMOID = range(3)
_COMPILED: Final = {CalibrationKind.NONE: _NONE, CalibrationKind.TEMPERATURE: _TEMPERATURE, CalibrationKind.SIGMOID: _SIGMOID}


@njit(cache=True)
def _within(value: float, low: float, high: float) -> float:
    return low if value < low else high if value > high else value  # NaN stays NaN


@njit(cache=True)
def _logistic(slope: float, probability: float, offset: float) -> float:
    """Return the probability whose logit is slope * logit(probability) + offset."""
    inside = _within(probability, 1e-12, 1 - 1e-12)
    score = slope * (math.log(inside) - math.log1p(-inside)) + offset
    return 1.0 / (1.0 + math.exp(-_within(score, -500.0, 500.0)))


@njit(cache=True)
def _temper(raw: Any, temperature: float) -> None:
    highest = max(raw[0], raw[1], raw[2])
    total = 0.0
    for label in range(3):
        raw[label] = math.exp((math.log(raw[label]) - math.log(highest)) / temperature)
        total += raw[label]
    for label in range(3):
        raw[label] /= total


@njit(cache=True)
def _part(raw: Any, parameters: Any) -> None:
    p_move = _logistic(parameters[0], 1 - raw[FLAT] / (raw[0] + raw[1] + raw[2]), parameters[1])
    p_up = _logistic(parameters[2], raw[UP] / (raw[UP] + raw[DOWN]), 0.0)
    raw[DOWN], raw[FLAT], raw[UP] = p_move * (1 - p_up), 1 - p_move, p_move * p_up


@njit(cache=True)
def _mapped(probabilities: Any, kind: int, parameters: Any) -> Any:
    out = np.empty(probabilities.shape)
    for row in range(len(out)):
        for label in range(3):
            out[row, label] = _within(probabilities[row, label], 1e-12, 1.0)
        if kind == _TEMPERATURE:
            _temper(out[row], parameters[0])
        if kind == _SIGMOID:
            _part(out[row], parameters)
        total = 0.0
        for label in range(3):
            out[row, label] = _within(out[row, label], _FLOOR, 1.0)
            total += out[row, label]
        for label in range(3):
            out[row, label] /= total
    return out
