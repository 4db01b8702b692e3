from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from framework.clock import EventClock, LiveClock
from framework.model import NS_PER_S


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=30), st.integers(0, 25))
def test_timers_run_in_order_of_time_then_of_setting_and_cancelled_ones_never(asked: list[tuple[int, bool]], until_ns: int) -> None:
    clock = EventClock()
    ran: list[tuple[int, int]] = []
    for number, (when_ns, is_cancelled) in enumerate(asked):
        timer = clock.call_at(when_ns, lambda number=number: ran.append((clock.now_ns(), number)))  # type: ignore[misc]
        if is_cancelled:
            timer.cancel()

    clock.advance_to(until_ns)

    assert ran == sorted((when_ns, number) for number, (when_ns, gone) in enumerate(asked) if not gone and when_ns <= until_ns)
    assert clock.now_ns() == until_ns


def test_a_timer_in_the_past_is_due_at_once_and_time_never_goes_back() -> None:
    clock = EventClock(100)
    seen: list[int] = []
    clock.call_at(5, lambda: seen.append(clock.now_ns()))

    assert clock.next_timer_ns() == 100
    clock.advance_to(50)
    clock.advance_to(100)

    assert seen == [100]
    assert clock.now_ns() == 100


def test_running_one_timer_leaves_others_of_the_same_instant() -> None:
    clock = EventClock()
    ran: list[str] = []
    clock.call_at(1, lambda: ran.append("first")).cancel()
    clock.call_at(2, lambda: ran.append("second"))
    clock.call_at(2, lambda: ran.append("third"))

    assert not clock.run_next(1)
    assert clock.run_next(2)
    assert ran == ["second"]
    assert clock.now_ns() == 2
    assert clock.run_next(9)
    assert not clock.run_next(9)


def test_only_a_timer_before_all_others_is_announced() -> None:
    clock = EventClock()
    announced: list[int | None] = []
    clock.on_new_first = lambda: announced.append(clock.next_timer_ns())

    for when_ns in (5, 7, 5, 3):
        clock.call_at(when_ns, lambda: None)

    assert announced == [5, 3]


async def test_the_live_clock_runs_timers_on_the_loop_and_does_not_go_back() -> None:
    loop = asyncio.get_running_loop()
    clock = LiveClock(loop.call_later)
    reached: asyncio.Future[int] = loop.create_future()
    before = clock.now_ns()

    clock.call_at(before + NS_PER_S // 100, lambda: reached.set_result(clock.now_ns()))

    assert await reached >= before + NS_PER_S // 100 - NS_PER_S // 1000
