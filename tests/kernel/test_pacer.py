from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from framework.clock import EventClock
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.kernel.pacer import CATCH_UP_S, YIELD_AFTER_TIMERS, Pacer
from framework.kernel.simulation import SimulatedLoop, run_simulated
from framework.messages import BookSnapshot, Message
from framework.model import NS_PER_S


def make(*, speed: float | None) -> tuple[EventClock, Pacer]:
    clock = EventClock()
    return clock, Pacer(clock, EventBus(), speed=speed)


def test_at_full_speed_timers_run_in_order_without_process_time_passing() -> None:
    async def main() -> tuple[list[int], float]:
        clock, pacer = make(speed=None)
        seen: list[int] = []
        for when_s in (3, 1, 2):
            clock.call_at(when_s * NS_PER_S, lambda: seen.append(clock.now_ns() // NS_PER_S))
        await pacer.run()
        return seen, asyncio.get_running_loop().time()

    assert run_simulated(main, seed=1) == ([1, 2, 3], 0.0)


def test_a_finite_speed_takes_market_time_divided_by_speed() -> None:
    async def main() -> float:
        clock, pacer = make(speed=4.0)
        clock.call_at(8 * NS_PER_S, lambda: None)
        await pacer.run()
        return asyncio.get_running_loop().time()

    assert abs(run_simulated(main, seed=1) - 2.0) < 1e-6


def test_market_time_does_not_pass_a_hold_before_its_answer_is_there() -> None:
    async def main() -> list[str]:
        clock, pacer = make(speed=None)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        story: list[str] = []
        clock.call_at(1, lambda: story.append("before"))
        clock.call_at(3, lambda: story.append("after"))
        pacer.hold(2, done)
        loop.call_later(5.0, lambda: (story.append("answer"), done.set_result(None)))
        await pacer.run()
        return story

    assert run_simulated(main, seed=1) == ["before", "answer", "after"]


def test_stop_ends_the_run_while_it_waits_for_the_next_timer() -> None:
    async def main() -> float:
        clock, pacer = make(speed=1.0)
        clock.call_at(3600 * NS_PER_S, lambda: None)
        loop = asyncio.get_running_loop()
        loop.call_later(2.0, pacer.stop)
        await pacer.run()
        return loop.time()

    assert abs(run_simulated(main, seed=1) - 2.0) < 1e-6


def test_until_leaves_market_time_at_the_end_and_later_timers_unrun() -> None:
    async def main() -> tuple[int, list[str]]:
        clock, pacer = make(speed=None)
        ran: list[str] = []
        clock.call_at(1 * NS_PER_S, lambda: ran.append("in"))
        clock.call_at(9 * NS_PER_S, lambda: ran.append("out"))
        await pacer.run(until_ns=5 * NS_PER_S)
        return clock.now_ns(), ran

    assert run_simulated(main, seed=1) == (5 * NS_PER_S, ["in"])


def test_catching_up_brings_market_time_to_process_time() -> None:
    async def main() -> list[int]:
        clock, pacer = make(speed=10.0)
        clock.call_at(100 * NS_PER_S, lambda: None)
        seen: list[int] = []

        def arrive() -> None:
            pacer.catch_up()
            seen.append(clock.now_ns())

        asyncio.get_running_loop().call_later(3.0, arrive)
        await pacer.run()
        return seen

    assert run_simulated(main, seed=1) == [30 * NS_PER_S]


def book(sequence: int) -> BookSnapshot:
    sides = {"bid_ticks": (1,), "bid_sizes": (1,), "ask_ticks": (2,), "ask_sizes": (1,)}
    return BookSnapshot(instrument_id="A.X", ts_event=0, ts_recv=0, sequence=sequence, **sides)


class Reader(Actor):
    def __init__(self, react: Callable[[Message], None] = lambda _: None) -> None:
        super().__init__("reader")
        self.got: list[int] = []
        self._react = react

    def handle(self, message: Message) -> None:
        self.got.append(message.sequence)  # type: ignore[attr-defined]
        self._react(message)


def with_reader(*, speed: float | None, react: Callable[[Message], None] = lambda _: None) -> tuple[EventClock, EventBus, Pacer, Reader]:
    clock, bus, reader = EventClock(), EventBus(), Reader(react)
    bus.register(reader)
    bus.subscribe("reader", BookSnapshot)
    return clock, bus, Pacer(clock, bus, speed=speed), reader


@pytest.mark.parametrize("speed", [None, 1.0])
def test_mail_of_one_timer_is_handled_before_the_next_timer_of_the_same_instant(speed: float | None) -> None:
    async def main() -> list[int]:
        clock, bus, pacer, reader = with_reader(speed=speed)
        for sequence in range(3):
            clock.call_at(NS_PER_S, lambda sequence=sequence: bus.publish(book(sequence)))  # type: ignore[misc]
        await pacer.run()
        return reader.got

    assert run_simulated(main, seed=1) == [0, 1, 2]


def test_at_full_speed_the_loop_gets_its_turn_between_timers() -> None:
    async def main() -> list[int]:
        clock, pacer = make(speed=None)
        for when_ns in range(10 * YIELD_AFTER_TIMERS):
            clock.call_at(when_ns, lambda: None)
        turns: list[int] = []

        async def somebody_else() -> None:
            while True:
                turns.append(pacer.timers_run)
                await asyncio.sleep(0)

        other = asyncio.ensure_future(somebody_else())
        await pacer.run()
        other.cancel()
        return turns

    turns = run_simulated(main, seed=1)

    assert turns[-1] >= 9 * YIELD_AFTER_TIMERS
    assert all(later - earlier <= 2 * YIELD_AFTER_TIMERS for earlier, later in itertools.pairwise(turns))


def test_stop_ends_the_run_while_it_waits_for_an_answer_that_never_comes() -> None:
    async def main() -> tuple[float, list[str]]:
        clock, pacer = make(speed=None)
        loop = asyncio.get_running_loop()
        ran: list[str] = []
        clock.call_at(3, lambda: ran.append("after"))
        pacer.hold(2, loop.create_future())
        loop.call_later(4.0, pacer.stop)
        await pacer.run()
        return loop.time(), ran

    assert run_simulated(main, seed=1) == (4.0, [])


def test_mail_that_came_just_before_a_stop_is_handled() -> None:
    async def main() -> list[int]:
        clock, bus, pacer, reader = with_reader(speed=1.0)

        def stop() -> None:
            pacer.stop()
            bus.publish(book(1))

        clock.call_at(100 * NS_PER_S, lambda: None)
        asyncio.get_running_loop().call_later(1.0, stop)
        await pacer.run()
        return reader.got

    assert run_simulated(main, seed=1) == [1]


def test_what_an_answer_sets_off_before_the_next_timer_runs_before_it() -> None:
    async def main() -> list[str]:
        clock, pacer = make(speed=None)
        loop = asyncio.get_running_loop()
        first: asyncio.Future[None] = loop.create_future()
        second: asyncio.Future[None] = loop.create_future()
        story: list[str] = []
        clock.call_at(10, lambda: story.append("next event"))
        pacer.hold(5, first)

        def answer() -> None:
            story.append("answer")
            clock.call_at(7, lambda: story.append("timer of the answer"))
            pacer.hold(8, second)
            first.set_result(None)
            loop.call_later(1.0, lambda: (story.append("second answer"), second.set_result(None)))

        loop.call_later(1.0, answer)
        await pacer.run()
        return story

    assert run_simulated(main, seed=1) == ["answer", "timer of the answer", "second answer", "next event"]


def test_an_answer_after_the_last_timer_is_waited_for_and_may_set_the_next_one() -> None:
    async def main() -> list[int]:
        clock, pacer = make(speed=None)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        seen: list[int] = []
        pacer.hold(2, done)

        def answer() -> None:
            clock.call_at(9, lambda: seen.append(clock.now_ns()))
            done.set_result(None)

        asyncio.get_running_loop().call_later(1.0, answer)
        await pacer.run()
        return seen

    assert run_simulated(main, seed=1) == [9]


def test_an_answer_that_is_due_after_the_end_is_not_waited_for() -> None:
    async def main() -> tuple[int, float]:
        clock, pacer = make(speed=None)
        pacer.hold(50, asyncio.get_running_loop().create_future())
        await pacer.run(until_ns=40)
        return clock.now_ns(), asyncio.get_running_loop().time()

    assert run_simulated(main, seed=1) == (40, 0.0)


def test_a_timer_set_from_outside_is_on_time_although_the_run_waits_for_a_later_one() -> None:
    async def main() -> list[float]:
        clock, pacer = make(speed=1.0)
        loop = asyncio.get_running_loop()
        seen: list[float] = []
        clock.call_at(100 * NS_PER_S, lambda: None)
        loop.call_later(2.0, lambda: clock.call_at(3 * NS_PER_S, lambda: seen.append(loop.time())))
        loop.call_later(5.0, pacer.stop)
        await pacer.run()
        return seen

    assert run_simulated(main, seed=1) == [pytest.approx(3.0)]


def test_a_run_that_is_behind_hurries_and_says_by_how_much() -> None:
    async def main() -> tuple[int, float, float]:
        clock, pacer = make(speed=1.0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        clock.call_at(NS_PER_S, lambda: loop.stall(5.0))
        for when_s in (2, 3, 10):
            clock.call_at(when_s * NS_PER_S, lambda: None)
        await pacer.run()
        return pacer.timers_run, round(pacer.lag_s_max, 6), loop.time()

    assert run_simulated(main, seed=1) == (4, 4.0, 10.0)


def test_catching_up_runs_due_timers_and_their_mail_one_by_one() -> None:
    async def main() -> tuple[list[int], int]:
        clock, bus, pacer, reader = with_reader(speed=1.0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        now_ns = []

        def arrive() -> None:
            for when_s in (1, 2, 3, 9):
                clock.call_at(when_s * NS_PER_S, lambda when_s=when_s: bus.publish(book(when_s)))  # type: ignore[misc]
            loop.stall(5.0)
            pacer.catch_up()
            now_ns.append(clock.now_ns())
            pacer.stop()

        clock.call_at(100 * NS_PER_S, lambda: None)
        loop.call_soon(arrive)
        await pacer.run()
        return reader.got, now_ns[0]

    assert run_simulated(main, seed=1) == ([1, 2, 3], 5 * NS_PER_S)


def test_catching_up_never_passes_the_end_of_the_run() -> None:
    async def main() -> list[int]:
        clock, pacer = make(speed=1.0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        seen: list[int] = []

        def arrive() -> None:
            loop.stall(30.0)
            pacer.catch_up()
            seen.append(clock.now_ns())

        loop.call_later(1.0, arrive)
        clock.call_at(20 * NS_PER_S, lambda: seen.append(-1))
        await pacer.run(until_ns=10 * NS_PER_S)
        pacer.catch_up()
        seen.append(clock.now_ns())
        return seen

    assert run_simulated(main, seed=1) == [10 * NS_PER_S, 10 * NS_PER_S]


def test_catching_up_from_far_behind_gives_the_loop_back_before_it_is_done() -> None:
    async def main() -> tuple[int, int]:
        clock, pacer = make(speed=1.0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        caught_up = []

        def arrive() -> None:
            for _ in range(100):
                clock.call_at(NS_PER_S, lambda: loop.stall(CATCH_UP_S / 4))
            loop.stall(3.0)
            pacer.catch_up()
            caught_up.append(pacer.timers_run)

        loop.call_soon(arrive)
        clock.call_at(4 * NS_PER_S, lambda: None)
        await pacer.run()
        return caught_up[0], pacer.timers_run

    assert run_simulated(main, seed=1) == (4, 101)


def test_market_time_does_not_move_under_a_handler() -> None:
    async def main() -> list[int]:
        seen: list[int] = []

        def react(_: Message) -> None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SimulatedLoop)
            loop.stall(5.0)
            pacer.catch_up()
            seen.append(clock.now_ns())

        clock, bus, pacer, _ = with_reader(speed=1.0, react=react)
        clock.call_at(NS_PER_S, lambda: bus.publish(book(1)))
        await pacer.run()
        return seen

    assert run_simulated(main, seed=1) == [NS_PER_S]


def test_at_full_speed_a_late_answer_changes_nothing_about_the_run() -> None:
    def run(answer_after_s: float, seed: int) -> list[tuple[str, int]]:
        async def main() -> list[tuple[str, int]]:
            clock, pacer = make(speed=None)
            loop = asyncio.get_running_loop()
            story: list[tuple[str, int]] = []

            def ask() -> None:
                done: asyncio.Future[None] = loop.create_future()
                clock.call_at(clock.now_ns() + 25, lambda: story.append(("answer", clock.now_ns())))
                pacer.hold(clock.now_ns() + 24, done)
                loop.call_later(answer_after_s, done.set_result, None)

            for when_ns in range(0, 1000, 10):
                clock.call_at(when_ns, lambda: story.append(("event", clock.now_ns())))
            for when_ns in range(0, 1000, 40):
                clock.call_at(when_ns, ask)
            await pacer.run()
            return story

        return run_simulated(main, seed=seed)

    assert run(0.0, 1) == run(0.01, 2) == run(30.0, 3)
