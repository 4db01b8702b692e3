"""A slice of hostile peers: a second of each on every socket."""

from __future__ import annotations

import pytest

from tests.faults import hostile
from tests.faults.hostile import SOCKETS, Found


@pytest.mark.parametrize("name", SOCKETS)
def test_hostile_peers_get_nothing_cost_little_and_do_not_end_a_process(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # How far a peer gets ahead of a reader depends on the machine, and this one may be busy with other tests: the goal of 128 MiB is
    # the command's, run alone.
    monkeypatch.setattr(hostile, "MOST_MIB", 256)

    found = SOCKETS[name](0.5)

    assert [text for one in found for text in one.violations] == []
    assert found


def test_what_does_not_hold_is_said_with_the_socket_and_the_attack() -> None:
    found = Found("ML process", "garbage")

    found.holds(True, "fine")
    found.holds(False, "the process died")

    assert found.violations == ["ML process, garbage: the process died"]
