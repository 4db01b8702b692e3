"""A slice of halting trading processes whose venue lives elsewhere: one that is stopped, and one that was killed."""

from __future__ import annotations

import signal

from framework.operations import kills
from framework.venues.port import Standing
from tests.faults.elsewhere import Found, cast, look, rest, run, standing_of


def test_a_halt_empties_a_venue_elsewhere_while_the_trading_process_is_stopped_or_dead() -> None:
    found = run(5, 2, ("is stopped", "was killed"))

    assert [text for one in found.values() for text in one.violations] == []
    assert all(one.resting and one.held for one in found.values())


def test_the_second_process_empties_the_venue_by_itself_when_the_byte_is_set_and_everybody_else_is_stopped() -> None:
    with cast() as one:
        one.trade(9, 12, "is stopped")
        assert one.core is not None
        one.core.send_signal(signal.SIGSTOP)
        before = standing_of(one)
        kills.write(one.state_dir, is_set=True)
        after = rest(one, is_flattening=False)

    assert before.open_orders
    assert after.open_orders == ()
    assert after.positions == before.positions


def test_the_watcher_sees_what_is_still_open_still_held_and_not_the_same_on_both_sides() -> None:
    found, held = Found(), {("s", "A.X"): 2}

    look("sound", found, said="", after=Standing((), held), opened=[], positions=held, is_flattening=False)
    assert found.violations == []

    look("open", found, said="", after=Standing(("o1",), {}), opened=[], positions={}, is_flattening=False)
    look("held", found, said="", after=Standing((), held), opened=[], positions=held, is_flattening=True)
    look("books", found, said="", after=Standing((), held), opened=["o1"], positions={}, is_flattening=False)
    look("said", found, said="no answer", after=Standing((), {}), opened=[], positions={}, is_flattening=False)
    assert len(found.violations) == 5
