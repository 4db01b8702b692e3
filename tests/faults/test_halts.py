"""A slice of closing gates: nothing leaves after an instant, wherever it is, and the watcher can see."""

from __future__ import annotations

import pytest

from framework.messages import OrderUpdated
from framework.model import OrderStatus
from framework.trading.risk import RiskGate
from framework.trading.risk.checks import STEPS
from tests.faults.halts import FLATTEN, WAYS, run
from tests.faults.scenarios import mix_of
from tests.faults.world import World

FIXTURES = (2, 6, 8, 11, 12, 15, 17, 18, 19, 20)
"""Worlds in which an order once left after the kill switch had been set: while its intent was written."""


def test_nothing_leaves_after_the_gate_was_closed_at_a_thousand_instants() -> None:
    found = run(1_001, 1_000)

    assert [text for one in found.values() for text in one.violations] == []
    assert sum(one.instants for one in found.values()) == 1_000
    assert all(one.asked > 100 for one in found.values())
    assert sum(one.restarts for one in found.values()) > 50
    # An operator's way out stays open.
    assert {ways for ways in WAYS if found[ways].flattening} == {(FLATTEN,)}


@pytest.mark.parametrize("seed", FIXTURES)
def test_a_world_in_which_an_order_once_left_late_lets_none_out(seed: int) -> None:
    assert not [text for one in run(seed, 10).values() for text in one.violations]


def test_an_order_whose_intent_was_being_written_when_the_kill_switch_was_set_ends_here() -> None:
    world = World(1, mix_of("calm", 1))
    ends: list[OrderUpdated] = []
    world.core.on_update = ends.append
    world.begin()
    writes: list[int] = []

    def set_at_the_commit() -> None:
        writes.append(len(world.core.line.submitted))
        world.core.is_killed = True

    order = world.workload.order(quantity=1, reduce_only=False)
    world.core.on_point = lambda: set_at_the_commit() if world.core.journal._db.in_transaction else None
    world.workload.tell(order)
    world.core.close()

    assert writes
    assert not world.core.line.submitted
    assert [(one.status, one.reason) for one in ends][-1] == (OrderStatus.CANCELED, "the kill switch is set")


def test_the_watcher_sees_an_order_that_leaves_after_a_halt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    open_steps = tuple(step for step in STEPS if step[0] != "HALTED")
    check = RiskGate._check
    monkeypatch.setattr(RiskGate, "_check", lambda self, steps, *rest: check(self, open_steps if steps is STEPS else steps, *rest))

    found = run(1, 20)

    assert any("halt" in text for one in found.values() for text in one.violations)
    assert "replay: python -m tests.faults halt --seed" in capsys.readouterr().err
