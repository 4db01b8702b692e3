"""The scores of the table, as sums over blocks of rows, so that a bootstrap draws blocks and adds.

Every score is a function of sums (losses, a confusion matrix, histograms), and sums of a resample are sums of its blocks: one
matrix product gives a thousand resamples. Sources: macro-F1 and balanced accuracy as in Sokolova & Lapalme (2009); MCC
for several classes, Gorodkin (2004); Brier (1950), 0 to 2; AUC as the Mann-Whitney statistic, ties half, on 512 bins of
equal mass; ECE over 15 bins of equal mass of the largest probability (Guo et al. 2017; equal mass: Nixon et al. 2019);
block bootstrap, Kuensch (1989), percentile intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from framework.window import Float64Array, Int64Array
from ml_actor.evaluation import ECE_BINS, log_losses
from ml_actor.labels import DOWN, FLAT, UP

AUC_BINS: Final = 512
RESAMPLES: Final = 1_000
LEVEL: Final = 0.95
MIN_BLOCK_ROWS: Final = 100
LARGEST: Final = "_largest"
EVEN: Final = "_even"
_TINY: Final = 1e-12


def block_numbers(groups: Int64Array, rows: Int64Array, horizon: int) -> Int64Array:
    """Return per scored row the number of its block: consecutive rows of one group (session), `block_rows(horizon)` long."""
    size = block_rows(horizon)
    keys = np.stack([groups, rows // size], axis=1)
    return np.asarray(np.unique(keys, axis=0, return_inverse=True)[1]).reshape(-1)


def block_rows(horizon: int) -> int:
    """Return how many rows a block has: twice the life of a label, 100 at least."""
    return max(2 * horizon, MIN_BLOCK_ROWS)


def draws(block_count: int, seed: int, resamples: int = RESAMPLES) -> Float64Array:
    """Return (resamples, blocks): how often each block is drawn in each resample."""
    return np.random.default_rng(seed).multinomial(block_count, np.full(block_count, 1 / block_count), size=resamples).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The block of each scored row, and how often each block is drawn in each resample, (resamples, blocks)."""

    numbers: Int64Array
    drawn: Float64Array

    @property
    def count(self) -> int:
        """Return how many blocks there are."""
        return int(self.drawn.shape[1])

    def sums(self, values: Float64Array, chosen: Int64Array | None = None) -> Float64Array:
        """Return the sum of `values` within each block; they belong to the rows at `chosen`, or to all."""
        numbers = self.numbers if chosen is None else self.numbers[chosen]
        return np.bincount(numbers, values, self.count).astype(np.float64)

    def mean(self, values: Float64Array, chosen: Int64Array | None = None) -> dict[str, Any]:
        """Return the mean of `values` with its interval."""
        sums, sizes = self.sums(values, chosen), self.sums(np.ones(len(values)), chosen)
        weights = self.drawn @ sizes
        resampled = np.where(weights > 0, self.drawn @ sums / np.maximum(weights, _TINY), np.nan)
        return {"value": float(values.mean()), "interval": interval(resampled)}


def make_blocks(groups: Int64Array, rows: Int64Array, horizon: int, seed: int) -> Blocks:
    """Return the blocks of the scored rows, drawn `RESAMPLES` times."""
    numbers = block_numbers(groups, rows, horizon)
    return Blocks(numbers=numbers, drawn=draws(int(numbers.max()) + 1, seed))


def interval(values: Float64Array) -> list[float]:
    """Return the 95 % percentile interval of resampled scores; NaN where none is finite."""
    known = values[np.isfinite(values)]
    if not len(known):
        return [math.nan, math.nan]
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def up_share(probabilities: Float64Array) -> Float64Array:
    """Return p_up / (p_up + p_down) per row; 1/2 where both are 0."""
    total = probabilities[:, UP] + probabilities[:, DOWN]
    return np.where(total > 0, probabilities[:, UP] / np.where(total > 0, total, 1.0), 0.5)


def _per_block(values: Float64Array, blocks: Int64Array, count: int) -> Float64Array:
    """Return (blocks, columns): the sums of (n, columns) values within each block."""
    out = np.zeros((count, values.shape[1]))
    np.add.at(out, blocks, values)
    return out


def _counts(cells: Int64Array, width: int, blocks: Int64Array, count: int) -> Float64Array:
    """Return (blocks, width): how many rows of each block are in each cell."""
    return np.bincount(blocks * width + cells, minlength=count * width).reshape(count, width).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one model said: probabilities (n, 3), the class that it names for each row, and the training shares, (n, 3) or (3,)."""

    probabilities: Float64Array
    calls: Int64Array
    shares: Float64Array


class Sums:
    """What the scores of one model on one set of rows are computed from: per block, sums that add up."""

    def __init__(self, said: Said, classes: Int64Array, blocks: Int64Array) -> None:
        self.count = int(blocks.max()) + 1
        self.rows = _counts(np.zeros_like(blocks), 1, blocks, self.count)
        probabilities, largest = said.probabilities, said.probabilities.argmax(axis=1)
        losses = np.stack([log_losses(probabilities, classes), np.sum((probabilities - np.eye(3)[classes]) ** 2, axis=1)], axis=1)
        self.losses = _per_block(losses, blocks, self.count)
        named = {"": said.calls, LARGEST: largest, EVEN: even_calls(probabilities, said.shares)}
        self.confusions = {suffix: _counts(calls * 3 + classes, 9, blocks, self.count) for suffix, calls in named.items()}
        self.calibration = self._calibration(probabilities.max(axis=1), largest == classes, blocks)
        self.directions = self._directions(up_share(probabilities), classes, blocks)

    def _calibration(self, confidence: Float64Array, is_right: Any, blocks: Int64Array) -> Float64Array:
        """Return (blocks, 2 * bins): per bin of equal mass the sum of confidences and how many were right."""
        cells = equal_mass_bins(confidence, ECE_BINS)
        width = ECE_BINS
        flat = blocks * width + cells
        sums = [np.bincount(flat, weights=values, minlength=self.count * width) for values in (confidence, is_right.astype(np.float64))]
        return np.hstack([part.reshape(self.count, width) for part in sums])

    def _directions(self, shares: Float64Array, classes: Int64Array, blocks: Int64Array) -> Float64Array:
        """Return (blocks, 2 * bins): histograms of the share of up, of the rows that went down and of those that went up."""
        has_moved = classes != FLAT
        if not has_moved.any():
            return np.zeros((self.count, 2 * AUC_BINS))
        cells = np.unique(shares[has_moved], return_inverse=True)[1]
        distinct = int(cells.max()) + 1
        if distinct > AUC_BINS:
            cells = equal_mass_bins(shares[has_moved], AUC_BINS)
        side = (classes[has_moved] == UP) * AUC_BINS
        return _counts(side + cells, 2 * AUC_BINS, blocks[has_moved], self.count)

    def scores(self, weights: Float64Array | None = None) -> dict[str, Float64Array]:
        """Return each score per resample; `weights` (resamples, blocks), or None for the rows as they are."""
        drawn = np.ones((1, self.count)) if weights is None else weights
        rows = (drawn @ self.rows)[:, 0]
        sums = {name: drawn @ getattr(self, name) for name in ("losses", "calibration", "directions")}
        found = {name: FORMULAS[name](sums, rows) for name in FORMULAS if name not in OF_CALLS}
        for suffix, confusion in self.confusions.items():
            table = {"confusion": drawn @ confusion}
            found |= {name + suffix: FORMULAS[name](table, rows) for name in OF_CALLS}
        return found


def even_calls(probabilities: Float64Array, shares: Float64Array) -> Int64Array:
    """Return per row the class whose probability is largest against its share in the training part, (n, 3) or (3,).

    It is the best call where every class counts the same (Elkan 2001); the largest probability alone is nearly always the
    commonest class, which says little about the others.
    """
    return np.asarray((probabilities / np.maximum(shares, _TINY)).argmax(axis=1))


def equal_mass_bins(values: Float64Array, bins: int) -> Int64Array:
    """Return per value its bin among `bins` of equal mass; equal values may part, as `np.array_split` of the sorted ones has it."""
    order = np.argsort(values, kind="stable")
    cells = np.empty(len(values), np.int64)
    for number, part in enumerate(np.array_split(order, bins)):
        cells[part] = number
    return cells


# --- formulas: from sums per resample to a score per resample -----------------------------------------------------------------

SumsByName = Mapping[str, Float64Array]


def _table(sums: SumsByName) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return (r, 3) each: right per class, said per class, happened per class."""
    confusion = sums["confusion"].reshape(-1, 3, 3)
    return np.einsum("rii->ri", confusion), confusion.sum(axis=2), confusion.sum(axis=1)


def _macro_f1(sums: SumsByName, _: Float64Array) -> Float64Array:
    right, said, happened = _table(sums)
    present = said + happened
    each = np.where(present > 0, 2 * right / np.maximum(present, _TINY), 0)
    return np.asarray(each.sum(axis=1) / np.maximum((present > 0).sum(axis=1), 1))


def _balanced_accuracy(sums: SumsByName, _: Float64Array) -> Float64Array:
    right, _, happened = _table(sums)
    each = np.where(happened > 0, right / np.maximum(happened, _TINY), 0)
    return np.asarray(each.sum(axis=1) / np.maximum((happened > 0).sum(axis=1), 1))


def _matthews(sums: SumsByName, rows: Float64Array) -> Float64Array:
    right, said, happened = _table(sums)
    top = right.sum(axis=1) * rows - (said * happened).sum(axis=1)
    scale = np.sqrt((rows**2 - (said**2).sum(axis=1)) * (rows**2 - (happened**2).sum(axis=1)))
    return np.where(scale > 0, top / np.maximum(scale, _TINY), 0.0)


def _auc(sums: SumsByName, _: Float64Array) -> Float64Array:
    down, up = sums["directions"][:, :AUC_BINS], sums["directions"][:, AUC_BINS:]
    below = np.cumsum(down, axis=1) - down
    pairs = down.sum(axis=1) * up.sum(axis=1)
    wins = (up * (below + down / 2)).sum(axis=1)
    return np.where(pairs > 0, wins / np.maximum(pairs, _TINY), np.nan)


def _ece(sums: SumsByName, rows: Float64Array) -> Float64Array:
    confidence, right = sums["calibration"][:, :ECE_BINS], sums["calibration"][:, ECE_BINS:]
    return np.asarray(np.abs(confidence - right).sum(axis=1) / rows)


FORMULAS: Final[dict[str, Callable[[SumsByName, Float64Array], Float64Array]]] = {
    "log_loss": lambda sums, rows: np.asarray(sums["losses"][:, 0] / rows),
    "brier": lambda sums, rows: np.asarray(sums["losses"][:, 1] / rows),
    "macro_f1": _macro_f1,
    "balanced_accuracy": _balanced_accuracy,
    "mcc": _matthews,
    "auc_up_down": _auc,
    "ece": _ece,
}
OF_CALLS: Final = ("macro_f1", "balanced_accuracy", "mcc")
"""Scores of named classes: of the model's own rule, and again of the largest probability and of `even_calls`."""
