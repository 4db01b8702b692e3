"""How members become one prediction: weights that each must earn on rows that it was not fitted on.

The rows are cut into blocks of time: whole recordings where there are several, because a day that a member saw half of is
no new day to it; else four (three if there are few rows). Each block is predicted by members fitted on the others,
with the rows around it left out (their labels or look-backs reach into it). On those predictions the logarithmic pool gets
its weights (each at least 0, 1 together: a sum fitted to one day makes the next one timid), a member stays only if leaving
it out costs log-loss beyond what chance explains (block bootstrap), the pool is calibrated, and the rule for naming one class is chosen.
Sources: Wolpert 1992; Genest & Zidek 1986; Kuensch 1989.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.optimize import minimize

from framework.window import Float64Array, Int64Array
from ml_actor.calibration import Calibration, CalibrationKind
from ml_actor.calls import CallRule, choose_calls
from ml_actor.evaluation import log_losses
from ml_actor.fitting import calibrate
from ml_actor.members import Fitted, Member, Shown, normalised
from ml_actor.preparation import UNKNOWN

BLOCKS: Final = 4
FEW_ROWS: Final = 20_000
FEW_BLOCKS: Final = 3
APART: Final = 10**9
"""Positions of two recordings differ by more than half of it."""
MOST_IN_ONE: Final = 0.7
"""Recordings are blocks unless one holds more than this share of the rows."""
BOOTSTRAPS: Final = 400
EARNED_QUANTILE: Final = 0.1
"""A member stays if nine of ten resamplings of the blocks lose log-loss without it."""
MIN_BLOCK_ROWS: Final = 200
KINDS: Final = (CalibrationKind.NONE, CalibrationKind.TEMPERATURE, CalibrationKind.SIGMOID)
"""Calibrations that treat up and down alike and have few parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Weights by member (0: did not earn its place), calibration of what they say together, the rule for calls, and the evidence."""

    weights: tuple[float, ...]
    calibration: Calibration
    rule: CallRule
    log_loss: float
    gains: tuple[float, ...]

    def probabilities(self, logs: Sequence[Float64Array | None]) -> Float64Array:
        """Return calibrated (n, 3) from the members' log-probabilities; None is allowed where the weight is 0."""
        said = [(weight, log) for weight, log in zip(self.weights, logs, strict=True) if weight > 0 and log is not None]
        return self.calibration.apply(np.exp(normalised(sum_of(said))))


def sum_of(said: Sequence[tuple[float, Float64Array]]) -> Float64Array:
    """Return the weighted sum of log-probabilities."""
    return np.asarray(sum(weight * log for weight, log in said))


def blocks(shown: Shown, embargo_rows: int) -> list[tuple[Int64Array, Int64Array]]:
    """Return for each block (rows to fit on, rows of the block), the former at least `embargo_rows` away from the latter."""
    found = []
    for inside in _runs(shown.positions):
        first, last = shown.positions[inside[0]], shown.positions[inside[-1]]
        outside = (shown.positions < first - embargo_rows) | (shown.positions > last + embargo_rows)
        found.append((np.flatnonzero(outside), inside))
    return found


def _runs(positions: Int64Array) -> list[Int64Array]:
    rows, joints = np.arange(len(positions)), np.flatnonzero(np.diff(positions) > APART // 2) + 1
    recordings = np.split(rows, joints)
    if len(recordings) > 1 and max(len(part) for part in recordings) <= MOST_IN_ONE * len(rows):
        return [np.concatenate(parts) for parts in _grouped(recordings)]
    return np.array_split(rows, FEW_BLOCKS if len(rows) < FEW_ROWS else BLOCKS)


def _grouped(recordings: Sequence[Int64Array]) -> list[list[Int64Array]]:
    """Return neighbouring recordings in at most `BLOCKS` groups of about as many rows."""
    lengths = np.array([len(part) for part in recordings])
    middles = np.cumsum(lengths) - lengths / 2
    places = (middles * min(BLOCKS, len(recordings)) / lengths.sum()).astype(np.int64)
    return [[part for part, place in zip(recordings, places, strict=True) if place == group] for group in np.unique(places)]


def out_of_fold(
    member: Member, shown: Shown, horizons: Sequence[int], seed: int, embargo_rows: int
) -> tuple[Member, dict[int, Float64Array]]:
    """Return the member with its choices made, and per horizon what it says of each row when fitted without its block."""
    cut = blocks(shown, embargo_rows)
    fits: list[tuple[Fitted, Shown]] = []
    for outside, inside in cut:
        fits.append((member.fit(shown.select(outside), horizons, seed), shown.select(inside)))
    chosen, fitted = member.tuned(fits, horizons)
    said = {horizon: np.empty((len(shown.positions), 3)) for horizon in horizons}
    for (_, inside), model in zip(cut, fitted, strict=True):
        for horizon in horizons:
            said[horizon][inside] = model.log_probabilities(shown.values[inside], horizon)
    return chosen, said


def fit_pool(logs: Sequence[Float64Array], classes: Int64Array, horizon: int, seed: int) -> Pool:
    """Choose weights and calibration on what members said of rows that they were not fitted on (`classes` -1 is left out)."""
    is_known = classes != UNKNOWN
    logs, classes = [log[is_known] for log in logs], classes[is_known]
    kept = list(range(len(logs)))
    rng = np.random.default_rng(seed)
    weights, gains = _weights(logs, classes, kept), np.zeros(len(logs))
    while len(kept) > 1:
        whole = _losses(logs, weights, classes)
        without = {member: _losses(logs, _weights(logs, classes, [k for k in kept if k != member]), classes) for member in kept}
        for member in kept:
            gains[member] = float((without[member] - whole).mean())
        idle = [member for member in kept if weights[member] < 1e-3 or not _is_earned(without[member] - whole, horizon, rng)]
        if not idle:
            break
        kept.remove(min(idle, key=lambda member: gains[member]))
        weights = _weights(logs, classes, kept)
    raw = np.exp(normalised(sum_of([(weight, log) for weight, log in zip(weights, logs, strict=True)])))
    calibration = calibrate(raw, classes, gap_rows=horizon, kinds=KINDS)
    said = calibration.apply(raw)
    return Pool(
        weights=tuple(float(w) for w in weights),
        calibration=calibration,
        rule=choose_calls(said, classes),
        log_loss=float(log_losses(said, classes).mean()),
        gains=tuple(float(g) for g in gains),
    )


def _weights(logs: Sequence[Float64Array], classes: Int64Array, kept: Sequence[int]) -> Float64Array:
    """Return the weights (0 outside `kept`) with the least mean log-loss: a convex problem."""
    stacked = np.stack([logs[member] for member in kept])
    rows = np.arange(len(classes))

    def loss(weights: Float64Array) -> tuple[float, Any]:
        mixed = normalised(np.tensordot(weights, stacked, axes=1))
        slopes = (stacked * np.exp(mixed)).sum(axis=2) - stacked[:, rows, classes]
        return float(-mixed[rows, classes].mean()), slopes.mean(axis=1)

    start = np.full(len(kept), 1.0 / len(kept))
    together = {"type": "eq", "fun": lambda weights: weights.sum() - 1.0, "jac": lambda weights: np.ones(len(weights))}
    found = minimize(loss, start, jac=True, method="SLSQP", bounds=[(0.0, 1.0)] * len(kept), constraints=[together])
    out = np.zeros(len(logs))
    out[list(kept)] = found.x
    return out


def _losses(logs: Sequence[Float64Array], weights: Float64Array, classes: Int64Array) -> Float64Array:
    mixed = normalised(sum_of([(float(weight), log) for weight, log in zip(weights, logs, strict=True)]))
    return np.asarray(-mixed[np.arange(len(classes)), classes])


def _is_earned(gains: Float64Array, horizon: int, rng: np.random.Generator) -> bool:
    size = max(MIN_BLOCK_ROWS, 2 * horizon)
    count = len(gains) // size
    if count < 2:
        return bool(gains.mean() > 0)
    means = gains[: count * size].reshape(count, size).mean(axis=1)
    drawn = means[rng.integers(0, count, size=(BOOTSTRAPS, count))].mean(axis=1)
    return bool(np.quantile(drawn, EARNED_QUANTILE) > 0)
