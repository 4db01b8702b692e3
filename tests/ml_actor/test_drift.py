"""Drift monitors: seen when it is there, seldom when it is not, and none of them acts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ml_actor.drift import ALPHA, PH_LIMIT, Blocks, DriftMonitor, EvidenceTable, FeatureDrift, PageHinkley
from ml_actor.sequential import Evidence
from ml_actor.trial import Claim, Move

UP, FLAT, DOWN = Move(2, 2), Move(0, 2), Move(-2, 2)


def claims(rng: np.random.Generator, count: int, *, truth: float = 1.0) -> Iterator[tuple[Claim, Move]]:
    """Honest claims for `truth` 1; for less the market follows them less, for -1 it does the opposite."""
    for _ in range(count):
        lean = float(np.tanh(rng.normal()))
        chance = 0.25 * (1 + truth * lean)
        draw = rng.random()
        yield Claim(0.25 * (1 - lean), 0.5, 0.25 * (1 + lean)), UP if draw < chance else DOWN if draw < 0.5 else FLAT


def run(monitor: DriftMonitor, truth: float, *, blocks: int = 300, seed: int = 1, start: int = 0) -> int:
    """Ten windows a block; return after how many blocks there is an alarm."""
    rng = np.random.default_rng(seed)
    for at, (claim, move) in enumerate(claims(rng, 10 * blocks, truth=truth)):
        monitor.label("ES", start + at, claim, move)
        if monitor.alarms:
            return at // 10
    return blocks


def test_a_table_of_evidence_is_the_evidence_of_each_series() -> None:
    differences = np.random.default_rng(1).normal(0.2, 1.0, (120, 3)) * np.array([1.0, 50.0, 0.0])
    table, single = EvidenceTable(3), [Evidence() for _ in range(3)]
    for row in differences:
        table.add(row)
        for one, value in zip(single, row, strict=True):
            one.add(float(value))

    assert table.better() == pytest.approx([one.better() for one in single])


def test_blocks_close_when_their_rows_are_over() -> None:
    blocks = Blocks(10)
    closed = [blocks.add("A", row, float(row)) for row in range(0, 40, 4)]

    assert [value for value in closed if value is not None] == [4.0, 16.0, 28.0]


def test_an_honest_champion_in_a_steady_market_raises_no_alarm() -> None:
    assert [run(DriftMonitor(10), 1.0, seed=seed) for seed in range(8)] == [300] * 8


@pytest.mark.parametrize("truth", [0.0, -1.0])
def test_a_champion_that_is_no_longer_right_is_noticed(truth: float) -> None:
    monitor = DriftMonitor(10)
    assert run(monitor, 1.0, blocks=60) == 60
    after = run(monitor, truth, blocks=400, seed=2, start=600)

    assert after < 150
    assert set(monitor.alarms) <= {"calibration", "outcome"}
    assert monitor.status()["alarms"] == monitor.alarms


def test_the_alarm_stays_until_a_training_begins() -> None:
    monitor = DriftMonitor(10)
    run(monitor, -1.0)
    assert monitor.alarms

    monitor.reset()
    assert monitor.alarms == {}
    assert run(monitor, 1.0, blocks=50, start=10_000) == 50


def test_features_that_moved_are_named() -> None:
    rng, shift = np.random.default_rng(3), np.zeros(40)
    monitor = DriftMonitor(10, lambda window: rng.normal(size=40) + window, names=[f"f{number}" for number in range(40)])
    window: Any = shift
    for row in range(0, 1_000, 2):
        monitor.observe("ES", row, window)
    assert monitor.alarms == {}
    shift[7] = 3.0
    for row in range(1_000, 3_000, 2):
        monitor.observe("ES", row, window)

    assert monitor.alarms["features"].startswith("f7 moved away from training")


def test_slow_features_that_stay_where_they_were_raise_no_alarm() -> None:
    # AR(1) with phi 0.9 from block to block; bench_trials measures the share of false alarms with more runs.
    alarms = 0
    for seed in range(10):
        rng, drift = np.random.default_rng(seed), FeatureDrift(30)
        state = rng.normal(size=30)
        for _ in range(200):
            state = 0.9 * state + np.sqrt(1 - 0.81) * rng.normal(size=30)
            drift.add(state)
            alarms += drift.evidence().mean() >= 1 / ALPHA

    assert alarms == 0


def test_page_hinkley_sees_a_fall_and_no_rise() -> None:
    rng = np.random.default_rng(5)
    falls, rises = PageHinkley(), PageHinkley()
    for value in rng.normal(size=200):
        falls.add(value)
        rises.add(value)
    assert max(falls.height, rises.height) < PH_LIMIT
    seen = None
    for at in range(60):
        falls.add(float(rng.normal()) - 3.0)
        rises.add(float(rng.normal()) + 3.0)
        seen = at if seen is None and falls.height > PH_LIMIT else seen

    assert seen is not None
    assert seen < 15
    assert rises.height < PH_LIMIT
