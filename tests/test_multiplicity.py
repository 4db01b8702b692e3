"""Deflation says what SciPy's distributions say, without loading them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import kurtosis, norm, skew

from framework.multiplicity import deflated, expected_best


@pytest.mark.parametrize("trials", [2, 3, 10, 1_000, 1_000_000])
def test_what_the_best_of_many_shows_is_made_of_normal_quantiles(trials: int) -> None:
    first, second = norm.ppf(1 - 1 / trials), norm.ppf(1 - 1 / (trials * np.e))

    assert expected_best(4.0, trials) == pytest.approx(2 * ((1 - np.euler_gamma) * first + np.euler_gamma * second), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_probabilities_are_those_of_scipy_s_moments_and_normal(seed: int) -> None:
    observations = np.random.default_rng(seed).standard_t(4, 50) + 0.3

    found = deflated(observations, 20, [0.1, 0.4])

    ratio, luck = found["sharpe"], found["luck"]
    skewness, tails = float(skew(observations)), float(kurtosis(observations, fisher=False))
    inside = 1 - skewness * ratio + (tails - 1) / 4 * ratio**2
    assert found["probability"] == pytest.approx(float(norm.cdf((ratio - luck) * 7 / inside**0.5)), rel=1e-9)


def test_a_backtest_does_not_load_scipy() -> None:
    asked = "import sys, framework.backtest.lean.engine; sys.exit('scipy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
