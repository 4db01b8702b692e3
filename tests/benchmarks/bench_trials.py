"""How often a trial promotes an equal challenger, and how often a drift monitor cries wolf, on autocorrelated scores.

    python -m tests.benchmarks.bench_trials [--runs 1000] [--blocks 400] [--quick]

Scores of windows are AR(1) with the coefficients `PHIS`, 20 windows a block, Gaussian or with heavy tails (Student, 3 degrees); a trial
gets two such series (log-loss and gain differences) with mean zero, the monitors theirs. Beside the error rates stands what it takes to
see a real difference: the median number of blocks by the size of the difference in standard deviations of a block. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba import njit

from framework.window import Float64Array
from ml_actor.drift import ALPHA, PH_LIMIT, RESTART_BLOCKS, FeatureDrift, PageHinkley
from ml_actor.sequential import Evidence
from ml_actor.trial import OBJECTION, Rules

PHIS: Final = (0.0, 0.5, 0.9, 0.97, 0.99)
SIZES: Final = (0.2, 0.4, 0.7, 1.0, 2.0)
WINDOWS_A_BLOCK: Final = 20
FEATURES: Final = 30
RULES: Final = Rules()


@njit(cache=True)
def _filtered(noise: Any, phi: float) -> Any:
    out = np.empty_like(noise)
    state = noise[0]
    scale = math.sqrt(1.0 - phi * phi)
    for at in range(len(noise)):
        state = phi * state + scale * noise[at]
        out[at] = state
    return out


def block_means(rng: np.random.Generator, blocks: int, phi: float, *, has_heavy_tails: bool = False) -> Float64Array:
    """Return means of `WINDOWS_A_BLOCK` neighbours of a stationary AR(1) series with mean zero."""
    size = blocks * WINDOWS_A_BLOCK
    noise = rng.standard_t(3, size) if has_heavy_tails else rng.normal(size=size)
    series = np.asarray(_filtered(noise, phi))
    return np.asarray(series.reshape(blocks, WINDOWS_A_BLOCK).mean(axis=1))


def promoted_at(losses: Float64Array, gains: Float64Array) -> int | None:
    """Return the block at which a trial promotes, by the rules of `Trial.outcome`."""
    loss, gain = Evidence(), Evidence()
    for at, (one, other) in enumerate(zip(losses.tolist(), gains.tolist(), strict=True), start=1):
        loss.add(one)
        gain.add(other)
        is_enough = at >= RULES.min_blocks and (loss.better() + gain.better()) / 2 >= 1 / RULES.alpha
        if is_enough and loss.mean >= 0 and gain.worse() < OBJECTION:
            return at
    return None


def calibration_alarms(excess: Float64Array) -> bool:
    """Return whether the calibration monitor, begun anew as it is live, alarms."""
    evidence = Evidence()
    for one in excess.tolist():
        if evidence.count >= RESTART_BLOCKS:
            evidence = Evidence()
        evidence.add(one)
        if evidence.better() >= 1 / ALPHA:
            return True
    return False


def outcome_alarms(skill: Float64Array) -> bool:
    """Return whether Page-Hinkley alarms."""
    monitor = PageHinkley()
    for one in skill.tolist():
        monitor.add(one)
        if monitor.height > PH_LIMIT:
            return True
    return False


def feature_alarms(rng: np.random.Generator, blocks: int, phi: float) -> bool:
    """Return whether any look at `FEATURES` independent features of unit variance gives an alarm."""
    table = np.stack([block_means(rng, blocks, phi) for _ in range(FEATURES)], axis=1)
    monitor = FeatureDrift(FEATURES)
    for means in table:
        if monitor.count >= RESTART_BLOCKS:
            monitor = FeatureDrift(FEATURES)
        monitor.add(means)
        if monitor.evidence().mean() >= 1 / ALPHA:
            return True
    return False


def share(runs: int, is_hit: Callable[[], bool]) -> float:
    return round(sum(is_hit() for _ in range(runs)) / runs, 4)


def false_promotions(rng: np.random.Generator, runs: int, blocks: int) -> dict[str, float]:
    found = {}
    for phi in PHIS:
        for tails in (False, True):

            def is_promoted(phi: float = phi, tails: bool = tails) -> bool:
                pair = [block_means(rng, blocks, phi, has_heavy_tails=tails) for _ in range(2)]
                return promoted_at(*pair) is not None

            found[f"phi {phi}{', heavy tails' if tails else ''}"] = share(runs, is_promoted)
    return found


def false_alarms(rng: np.random.Generator, runs: int, blocks: int) -> dict[str, dict[str, float]]:
    few = max(10, runs // 10)
    return {
        "features": {f"phi {phi}": share(few, lambda phi=phi: feature_alarms(rng, blocks, phi)) for phi in PHIS},  # type: ignore[misc]
        "calibration": {f"phi {phi}": share(runs, lambda phi=phi: calibration_alarms(block_means(rng, blocks, phi))) for phi in PHIS},  # type: ignore[misc]
        "outcome": {f"phi {phi}": share(runs, lambda phi=phi: outcome_alarms(block_means(rng, blocks, phi))) for phi in PHIS},  # type: ignore[misc]
    }


def blocks_needed(rng: np.random.Generator, runs: int, blocks: int) -> dict[str, Any]:
    """Return the median block of a promotion, and the share of promoted, by the size of the advantage in both scores."""
    found = {}
    for size in SIZES:
        ends = [promoted_at(rng.normal(size, 1, blocks), rng.normal(size, 1, blocks)) for _ in range(runs)]
        known = [end for end in ends if end is not None]
        found[f"{size} deviations"] = {"median": float(np.median(known)) if known else None, "promoted": round(len(known) / runs, 3)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--blocks", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a few short runs: does it still run?")
    options = parser.parse_args()
    runs, blocks = (20, 100) if options.quick else (options.runs, options.blocks)
    rng = np.random.default_rng(options.seed)
    result = {
        "benchmark": "trials",
        "runs": runs,
        "blocks": blocks,
        "windows_a_block": WINDOWS_A_BLOCK,
        "alpha": RULES.alpha,
        "false_promotions": false_promotions(rng, runs, blocks),
        "blocks_needed": blocks_needed(rng, max(10, runs // 10), blocks),
        "false_alarms": false_alarms(rng, runs, blocks),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
