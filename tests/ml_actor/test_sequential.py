"""The e-process: how seldom it errs on equal scores, however correlated, and how soon it sees a difference."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from ml_actor.sequential import WARM_UP_BLOCKS, Evidence


def run(differences: Any) -> list[float]:
    evidence, path = Evidence(), []
    for difference in differences:
        evidence.add(float(difference))
        path.append(evidence.better())
    return path


def test_equal_scores_are_no_evidence_for_anything() -> None:
    evidence = Evidence()
    for _ in range(500):
        evidence.add(0.0)

    assert (evidence.better(), evidence.worse(), evidence.mean) == (1.0, 1.0, 0.0)


def test_the_first_blocks_set_the_scale_and_are_no_evidence() -> None:
    evidence = Evidence()
    for _ in range(WARM_UP_BLOCKS):
        evidence.add(1.0)
        assert evidence.better() == 1.0

    assert (evidence.bound, evidence.tested) == (2.0, 0)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_evidence_does_not_depend_on_the_unit_of_the_scores(scale: float) -> None:
    differences = np.random.default_rng(1).normal(0.5, 1.0, 100)

    assert run(scale * differences) == pytest.approx(run(differences), rel=1e-9)


def test_better_and_worse_are_mirror_images() -> None:
    there, back = Evidence(), Evidence()
    for difference in np.random.default_rng(2).normal(0.3, 1.0, 120):
        there.add(float(difference))
        back.add(-float(difference))

    assert (there.better(), there.worse()) == pytest.approx((back.worse(), back.better()))


@pytest.mark.parametrize(("mean", "blocks"), [(0.7, 90), (2.0, 50)])
def test_a_difference_is_seen_within_tens_of_blocks(mean: float, blocks: int) -> None:
    rng = np.random.default_rng(3)
    needed = [next((at for at, e in enumerate(run(rng.normal(mean, 1.0, 200))) if e >= 20), 200) for _ in range(40)]

    assert np.median(needed) <= blocks


def test_one_wild_block_decides_nothing() -> None:
    differences = np.random.default_rng(4).normal(-0.2, 1.0, 200)
    differences[100] = 1e9

    assert max(run(differences)) < 20


@pytest.mark.parametrize("phi", [0.0, 0.9])
def test_equal_challengers_pass_seldom_although_their_scores_are_correlated(phi: float) -> None:
    # 20 windows a block, AR(1) from window to window; bench_trials measures the same with more runs.
    rng = np.random.default_rng(5)
    passed = 0
    for _ in range(100):
        noise = rng.normal(size=20 * 200)
        for at in range(1, len(noise)):
            noise[at] += phi * noise[at - 1]
        passed += max(run(noise.reshape(200, 20).mean(axis=1))) >= 20

    assert passed <= 5


def test_evidence_that_was_written_down_is_gone_on_with() -> None:
    differences = np.random.default_rng(6).normal(0.2, 1.0, 100)
    whole, half = Evidence(), Evidence()
    for at, difference in enumerate(differences):
        whole.add(float(difference))
        half.add(float(difference))
        if at in (3, 50):
            half = msgspec.json.decode(msgspec.json.encode(half), type=Evidence)

    assert half == whole
