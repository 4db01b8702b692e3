"""Scores with their intervals of chance: everything is averaged in blocks of rows, and blocks are drawn again.

Labels of neighbouring rows overlap and features remember, so rows are no independent observations; blocks of `BLOCK_ROWS` rows,
many times the horizon, nearly are (Kuensch 1989). Nothing here knows what is scored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from framework.window import Float64Array, Int64Array

BLOCK_ROWS: Final = 200
DRAWS: Final = 500
FALSE_ALARM: Final = 1e-3
"""Chance that a check of something honest says leak, over all its columns and seeds together."""
INTERVAL: Final = 0.95
TINY: Final = 1e-9
"""A score that varies less than this is a constant: it says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Scores (F,) with their standard errors and the ends of their 95 % intervals, by block bootstrap."""

    value: Float64Array
    error: Float64Array
    low: Float64Array
    high: Float64Array


def bootstrap(value: Float64Array, drawn: Float64Array, blocks: int) -> Estimate:
    """Return an estimate from its value (F,) and what it is in `DRAWS` draws of `blocks` blocks (draws, F).

    Few blocks make percentiles too narrow, so the interval is Student's, with the error of that many independent units.
    """
    error = drawn.std(axis=0, ddof=1) * math.sqrt(blocks / max(1, blocks - 1))
    width = float(student.isf((1 - INTERVAL) / 2, max(1, blocks - 1))) * error
    return Estimate(value=value, error=error, low=value - width, high=value + width)


def block_weights(blocks: int, seed: int) -> Float64Array:
    """Return how often each block is drawn, (DRAWS, blocks)."""
    rng = np.random.default_rng((seed, 211))
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=DRAWS).astype(np.float64)


def block_sums(values: Float64Array, rows: Int64Array, blocks: int) -> Float64Array:
    """Return the sums of `values` (m, F) by block, (blocks, F); `rows` (m,) are the rows they belong to."""
    sums = np.zeros((blocks, values.shape[1]))
    np.add.at(sums, np.minimum(rows // BLOCK_ROWS, blocks - 1), values)
    return sums


def direction_auc(columns: Float64Array, moves: Int64Array, is_valid: Any, *, seed: int) -> Estimate:
    """Return by how much the AUC of up against down (rows that moved) of each column is away from 1/2.

    The area under the curve is a difference of mean ranks, so one pass over blocks gives value and draws. A value that is not
    there counts as the middle rank.
    """
    rows = np.flatnonzero(is_valid & (moves != 0))
    went_up = (moves[rows] > 0)[:, None]
    chosen = columns[rows]
    ranks: Float64Array = rankdata(np.where(np.isnan(chosen), -np.inf, chosen), axis=0) / len(rows)
    ranks = np.where(np.isnan(chosen), np.nan, ranks)
    ranks = np.where(np.isnan(ranks), _mean_known(ranks), ranks)
    blocks = max(1, len(columns) // BLOCK_ROWS)
    up, down = went_up.astype(np.float64), (~went_up).astype(np.float64)
    parts = [block_sums(values, rows, blocks) for values in (ranks * up, ranks * down, up, down)]
    weights = block_weights(blocks, seed)
    drawn = _difference(*(weights @ part for part in parts))
    whole = _difference(*(part.sum(axis=0, keepdims=True) for part in parts))
    return bootstrap(whole[0], drawn, blocks)


def _mean_known(ranks: Float64Array) -> Float64Array:
    known = ~np.isnan(ranks)
    return np.asarray(np.where(known, ranks, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _difference(up: Float64Array, down: Float64Array, ups: Float64Array, downs: Float64Array) -> Float64Array:
    return np.asarray(up / np.maximum(ups, 1) - down / np.maximum(downs, 1))


def mean_of(values: Float64Array, rows: Int64Array, total_rows: int, *, seed: int) -> Estimate:
    """Return the mean of `values` (m, F) at `rows` of a recording, with its interval."""
    blocks = max(1, total_rows // BLOCK_ROWS)
    sums, counts = block_sums(values, rows, blocks), block_sums(np.ones((len(rows), 1)), rows, blocks)
    weights = block_weights(blocks, seed)
    return bootstrap(values.mean(axis=0), (weights @ sums) / np.maximum(weights @ counts, 1), blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """Estimates of several seeds taken together: mean (F,), its standard error, and how many lay outside their own interval."""

    value: Float64Array
    error: Float64Array
    outside: int
    of: int
    outside_jointly: int = 0
    """Outside the wider intervals that all of them together stay in 95 % of the time."""

    def beyond(self, *, is_one_sided: bool = False) -> Any:
        """Return per column whether it is away from 0 by more than chance allows, at `FALSE_ALARM` over all columns."""
        z = np.where(self.error > TINY, self.value / np.where(self.error > TINY, self.error, 1.0), 0.0)
        limit = self.limit(is_one_sided=is_one_sided)
        return z > limit if is_one_sided else np.abs(z) > limit

    def limit(self, *, is_one_sided: bool = False) -> float:
        """Return how many standard errors chance is allowed."""
        sides = 1 if is_one_sided else 2
        return float(norm.isf(FALSE_ALARM / max(1, len(self.value)) / sides))


def pool(estimates: list[Estimate]) -> Pooled:
    """Take the estimates of independent seeds together."""
    values, errors = np.array([one.value for one in estimates]), np.array([one.error for one in estimates])
    is_outside = [((one.low > 0) | (one.high < 0)) & (one.error > TINY) for one in estimates]
    return Pooled(
        value=values.mean(axis=0),
        error=np.sqrt((errors**2).sum(axis=0)) / len(estimates),
        outside=int(np.sum(is_outside)),
        of=int(np.sum(errors > TINY)),
        outside_jointly=int(np.sum(np.abs(values) > errors * float(norm.isf((1 - INTERVAL) / 2 / max(1, values.size))) + TINY)),
    )


def expected_outside(count: int) -> float:
    """Return how many of `count` honest scores lie outside their own interval on average."""
    return math.ceil(10 * count * (1 - INTERVAL)) / 10
