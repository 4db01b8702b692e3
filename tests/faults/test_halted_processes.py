"""A slice of halting real processes: one that answers, one that hangs and one that is stopped."""

from __future__ import annotations

import pytest

from tests.faults import halted_processes
from tests.faults.halted_processes import WAYS, Found, Halt, run


def test_nothing_leaves_a_process_after_it_was_halted_whether_it_answers_hangs_or_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halted_processes, "HALTS", 8)

    found = run(1, 3)

    assert [text for one in found.values() for text in one.violations] == []
    assert {way: one.killed for way, one in found.items()} == dict(zip(WAYS, (0, 1, 1), strict=True))
    assert all(one.orders for one in found.values())


def test_the_watcher_sees_an_order_after_a_halt_and_a_second_one_on_its_way() -> None:
    found = Found()

    halted_processes._look(Halt(byte_ns=10, done_ns=20, open_ns=30), [5, 11, 35], "sound", found)
    assert found.violations == []

    halted_processes._look(Halt(byte_ns=10, done_ns=20, open_ns=30), [11, 12], "two on their way", found)
    halted_processes._look(Halt(byte_ns=10, done_ns=20, open_ns=30), [25], "after", found)
    assert len(found.violations) == 2
