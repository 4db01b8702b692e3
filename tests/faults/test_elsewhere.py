"""A slice of halting trading processes whose venue lives elsewhere: one that is stopped, and one that was killed."""

from __future__ import annotations

from framework.venues.port import Standing
from tests.faults.elsewhere import Found, look, run


def test_a_halt_empties_a_venue_elsewhere_while_the_trading_process_is_stopped_or_dead() -> None:
    found = run(5, 2, ("is stopped", "was killed"))

    assert [text for one in found.values() for text in one.violations] == []
    assert all(one.resting and one.held for one in found.values())


def test_the_watcher_sees_what_is_still_open_still_held_and_not_the_same_on_both_sides() -> None:
    found, held = Found(), {("s", "A.X"): 2}

    look("sound", found, said="", after=Standing((), held), opened=[], positions=held, is_flattening=False)
    assert found.violations == []

    look("open", found, said="", after=Standing(("o1",), {}), opened=[], positions={}, is_flattening=False)
    look("held", found, said="", after=Standing((), held), opened=[], positions=held, is_flattening=True)
    look("books", found, said="", after=Standing((), held), opened=["o1"], positions={}, is_flattening=False)
    look("said", found, said="no answer", after=Standing((), {}), opened=[], positions={}, is_flattening=False)
    assert len(found.violations) == 5
