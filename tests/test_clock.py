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


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 3)), max_size=25),
    st.lists(st.integers(0, 6), min_size=1, max_size=6),
)
def test_events_without_timers_stand_where_timers_of_theirs_would(asked: list[tuple[int, bool, int]], events: list[int]) -> None:
    def ran(*, with_timers: bool) -> list[tuple[str, int, int]]:
        clock, said = EventClock(), []

        def note(name: str, number: int) -> None:
            said.append((name, number, clock.now_ns()))
            if name == "event":
                for at, (wait_ns, is_canceled, of_event) in enumerate(asked):
                    if of_event == number:
                        timer = clock.call_at(clock.now_ns() + wait_ns, lambda at=at: note("timer", at))
                        if is_canceled:
                            timer.cancel()

        times = sorted(events)
        if with_timers:

            def deliver(number: int) -> None:
                if number + 1 < len(times):
                    clock.call_at(times[number + 1], lambda: deliver(number + 1))
                note("event", number)

            clock.call_at(times[0], lambda: deliver(0))
            while said[-1:] != [("event", len(times) - 1, times[-1])] and clock.run_next(times[-1]):
                pass
            return said
        ticket = clock.ticket()
        for number, when_ns in enumerate(times):
            clock.run_before(when_ns, ticket)
            ticket = clock.ticket()
            note("event", number)
        return said

    assert ran(with_timers=False) == ran(with_timers=True)
