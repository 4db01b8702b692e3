"""A slice of the fault runner: every scenario with a few seeds, the same trace for the same seed, and that the checker can see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from framework.trading.exposure import Exposure
from framework.trading.orders import Order
from tests.faults.checker import Violation
from tests.faults.scenarios import SCENARIOS, mix_of
from tests.faults.world import World
from tests.faults.write_points import sweep

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = (("disk", 3), ("everything", 3), ("crash", 2), ("lost", 3), ("lost", 4), ("disconnect", 2))
"""Seeds that once found a bug."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_invariant_is_violated_whatever_goes_wrong(name: str) -> None:
    for seed in (1_001, 1_002):
        world = World(seed, mix_of(name, seed), 250).run()

        assert world.checks > 1_000


@pytest.mark.parametrize(("name", "seed"), FIXTURES)
def test_a_seed_that_found_a_bug_finds_none_any_more(name: str, seed: int) -> None:
    World(seed, mix_of(name, seed), 400).run()


def test_an_order_that_was_changed_and_filled_is_the_same_when_it_comes_back_from_the_journal() -> None:
    """Found by seed 33 after 958 steps: a fill of what a change had added, and the word for the change long after a restart."""
    World(33, mix_of("everything", 33), 970).run()


def test_an_order_that_the_venue_clipped_ends_although_a_change_of_it_was_refused_or_made_before_it_left() -> None:
    """Found by seed 2126 after 2,436 steps: what the venue said of a clipped reduce-only order was taken for older than our change."""
    World(2126, mix_of("everything", 2126), events=10_000).run()


def test_the_same_seed_is_the_same_run_in_every_process() -> None:
    script = (
        "import logging; logging.disable(50)\n"
        "from tests.faults.scenarios import mix_of\n"
        "from tests.faults.world import World\n"
        "print(World(5, mix_of('everything', 5), 200).run().trace.hexdigest())"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(hashes) == 1
    assert World(6, mix_of("everything", 6), 200).run().trace.hexdigest() not in hashes


def test_the_checker_sees_an_exposure_that_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget_unknown(self: Exposure, order: Order) -> None:
        self.forget(order.intent.client_order_id)

    monkeypatch.setattr(Exposure, "note", forget_unknown)

    with pytest.raises(Violation, match="the sum over open orders is off"):
        World(1, mix_of("calm", 1), 100).run()


def test_at_every_write_of_a_script_nothing_is_lost_and_nothing_is_sent_twice(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")

    count, violations = sweep(12, 1)

    assert violations == []
    assert count >= 200
