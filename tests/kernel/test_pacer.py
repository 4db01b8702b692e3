from __future__ import annotations

import asyncio

from framework.clock import EventClock
from framework.kernel.bus import EventBus
from framework.kernel.pacer import Pacer
from framework.kernel.simulation import run_simulated
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
