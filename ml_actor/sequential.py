"""Evidence that may be looked at after every block: e-processes on differences of scores.

For differences x_1, x_2 ... with |x| <= b (clipped) the process

    E_t = sum_k w_k exp(lambda_k S_t - psi(lambda_k) V_t),   psi(l) = (-ln(1 - c l) - c l) / c^2,   c = 2 b,

with S_t = sum x_i and V_t = sum (x_i - g_i)^2, g_i the mean of x_1 ... x_{i-1}, is for each fixed mixture over
lambda in [0, 1/c) an e-process of "the average conditional mean of the differences is not above zero": whenever one looks and
stops, P(E_t >= 1/alpha ever) <= alpha. (Choe & Ramdas, Comparing sequential forecasters, Operations Research 2024, theorems 2 and
3; the inequality behind it: Fan, Grama & Liu 2015; mixtures: Robbins 1970, Howard et al. 2021.)

Scores of neighbouring blocks are correlated where a market's mood outlasts a block, so V_t is the largest of three estimates:
squared residuals of single blocks, of sums of 4 and of sums of 16 neighbours. V only grows by that, so the bound still holds, and
what it costs where nothing is correlated is next to nothing. `tests/benchmarks/bench_trials.py` measures how often it errs.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

WARM_UP_BLOCKS: Final = 8
CLIP_RMS: Final = 2.0
SPANS: Final = (1, 4, 16)
LAMBDAS: Final = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
"""Times 1/c, with equal weights."""

_MAX_LOG: Final = 500.0


class Evidence(msgspec.Struct, kw_only=True):
    """An e-process in both directions. The first `WARM_UP_BLOCKS` differences only set the scale (b = 2 of their root mean square).

    Plain numbers, so that it can be written down and gone on with after a restart.
    """

    count: int = 0
    raw_total: float = 0.0
    warm: list[float] = []
    bound: float = 0.0
    clipped_total: float = 0.0
    tested_total: float = 0.0
    closed: list[float] = msgspec.field(default_factory=lambda: [0.0] * len(SPANS))
    open_sums: list[float] = msgspec.field(default_factory=lambda: [0.0] * len(SPANS))

    @property
    def tested(self) -> int:
        """Return how many differences counted as evidence."""
        return max(0, self.count - WARM_UP_BLOCKS)

    @property
    def mean(self) -> float:
        """Return the mean of all differences, unclipped; NaN without any."""
        return self.raw_total / self.count if self.count else math.nan

    def add(self, difference: float) -> None:
        """Take the next difference (above zero speaks for the challenger)."""
        self.raw_total += difference
        self.count += 1
        if self.count <= WARM_UP_BLOCKS:
            self._warm_up(difference)
            return
        clipped = min(max(difference, -self.bound), self.bound)
        residual = clipped - self.clipped_total / (self.count - 1)
        self.clipped_total += clipped
        self.tested_total += clipped
        for at, span in enumerate(SPANS):
            self.open_sums[at] += residual
            if self.tested % span == 0:
                self.closed[at] += self.open_sums[at] ** 2
                self.open_sums[at] = 0.0

    def _warm_up(self, difference: float) -> None:
        self.warm.append(difference)
        if self.count == WARM_UP_BLOCKS:
            self.bound = CLIP_RMS * math.sqrt(sum(value * value for value in self.warm) / WARM_UP_BLOCKS)
            self.clipped_total = sum(min(max(value, -self.bound), self.bound) for value in self.warm)

    @property
    def variance(self) -> float:
        """Return V_t, the largest of the estimates."""
        return max(done + part * part for done, part in zip(self.closed, self.open_sums, strict=True))

    def better(self) -> float:
        """Return E_t against "not better"; 1 while nothing counts yet."""
        return self._e(self.tested_total)

    def worse(self) -> float:
        """Return E_t against "not worse"."""
        return self._e(-self.tested_total)

    def _e(self, total: float) -> float:
        if self.bound <= 0.0:
            return 1.0
        scale, variance = 2 * self.bound, self.variance
        logs = (share / scale * total - (-math.log1p(-share) - share) / scale**2 * variance for share in LAMBDAS)
        return sum(math.exp(min(log, _MAX_LOG)) for log in logs) / len(LAMBDAS)
