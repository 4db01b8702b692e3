"""Deflation: how much of a score is what the best of many tries shows by luck.

Bailey & Lopez de Prado (2014), "The Deflated Sharpe Ratio": of N independent tries without any skill whose Sharpe ratios
have the variance V, the best is expected at

    SR0 = sqrt(V) * ((1 - g) * Z(1 - 1/N) + g * Z(1 - 1/(N e))),   g = 0.5772 (Euler-Mascheroni), Z the normal quantile

and the probability that the true ratio is above it, from T observations with skewness g3 and kurtosis g4, is

    DSR = Phi((SR - SR0) * sqrt(T - 1) / sqrt(1 - g3 * SR + (g4 - 1) / 4 * SR**2)).

Observations are sums over blocks longer than a label's life, so that overlap of labels does not count twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from framework.window import Float64Array

EULER: Final = 0.5772156649015329
# Not SciPy's: to load it costs every verb half a second and 70 MB, for these two and the moments below.
_QUANTILE: Final = NormalDist().inv_cdf


def sharpe(observations: Float64Array) -> float:
    """Return mean over standard deviation, per observation (not annualised); 0 where nothing varies."""
    spread = float(observations.std(ddof=1)) if len(observations) > 1 else 0.0
    return float(observations.mean()) / spread if spread > 0 else 0.0


def expected_best(variance: float, trials: int) -> float:
    """Return the Sharpe ratio that the best of `trials` tries without skill is expected to show; 0 for one try."""
    if trials < 2:
        return 0.0
    quantiles = _QUANTILE(1 - 1 / trials), _QUANTILE(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - EULER) * quantiles[0] + EULER * quantiles[1])


def deflated(observations: Float64Array, trials: int, earlier: Sequence[float]) -> dict[str, Any]:
    """Return the Sharpe ratio, what luck shows at best among `trials`, and the deflated probability that there is skill.

    `earlier` are the ratios of the tries before this one; with fewer than two ratios in all, V is that of an estimate without skill,
    1 / T.
    """
    count, ratio = len(observations), sharpe(observations)
    known = [*earlier, ratio]
    variance = float(np.var(known, ddof=1)) if len(known) > 1 else 0.0
    luck = expected_best(max(variance, 1 / max(count, 1)), trials)
    return {"sharpe": ratio, "luck": luck, "trials": trials, "blocks": count, "probability": _probability(observations, ratio, luck)}


def _probability(observations: Float64Array, ratio: float, luck: float) -> float:
    if len(observations) < 3 or not observations.std() > 0:
        return math.nan
    skewness, tails = _shape(observations)
    return probability_above(luck, ratio, count=len(observations), skewness=skewness, tails=tails)


def _shape(observations: Float64Array) -> tuple[float, float]:
    """Return skewness and kurtosis: the third and fourth central moment over powers of the second, of a population."""
    apart = observations - observations.mean()
    second = float((apart**2).mean())
    return float((apart**3).mean()) / second**1.5, float((apart**4).mean()) / second**2


def probability_above(luck: float, ratio: float, *, count: int, skewness: float, tails: float) -> float:
    """Return the probability that the true Sharpe ratio is above `luck`; `tails` is the kurtosis, 3 for a normal."""
    inside = 1 - skewness * ratio + (tails - 1) / 4 * ratio**2
    distance = (ratio - luck) * math.sqrt(count - 1) / math.sqrt(max(inside, 1e-12))
    return 0.5 * math.erfc(-distance / math.sqrt(2))
