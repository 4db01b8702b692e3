from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from framework.clock import EventClock
from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.kernel.pacer import Pacer
from framework.kernel.simulation import Deadlock, EscapedSimulation, SimulatedLoop, TraceHash, run_simulated
from framework.messages import BookInvalid, BookRecovered, BookSnapshot, DomUpdated, Message
from framework.model import NS_PER_S

ROOT = Path(__file__).resolve().parents[2]


async def race(names: str = "abcdef") -> str:
    order: list[str] = []

    async def run(name: str) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            order.append(name)

    await asyncio.gather(*(run(name) for name in names))
    return "".join(order)


def test_the_same_seed_schedules_alike_and_other_seeds_differently() -> None:
    runs = {seed: run_simulated(race, seed=seed) for seed in range(5)}

    assert run_simulated(race, seed=3) == runs[3]
    assert len(set(runs.values())) > 1


def test_virtual_time_jumps() -> None:
    async def main() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    assert run_simulated(main, seed=0) == 86_400


def test_waiting_for_what_never_comes_is_a_deadlock() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run_simulated(main, seed=0)


async def _thread() -> None:
    await asyncio.to_thread(threading.get_ident)


async def _child() -> None:
    await asyncio.create_subprocess_exec("true")


async def _shell() -> None:
    await asyncio.create_subprocess_shell("true")


async def _connection() -> None:
    await asyncio.open_connection("127.0.0.1", 9)


async def _server() -> None:
    await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)


async def _unix_server() -> None:
    await asyncio.start_unix_server(lambda *_: None, "never.sock")


async def _reader() -> None:
    asyncio.get_running_loop().add_reader(0, print)


async def _name() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 9)


async def _signal() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)


@pytest.mark.parametrize("escape", [_thread, _child, _shell, _connection, _server, _unix_server, _reader, _name, _signal])
def test_nothing_real_is_reached_from_virtual_time(escape: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with pytest.raises(EscapedSimulation):
        run_simulated(escape, seed=0)


def test_another_thread_cannot_call_in_and_changes_nothing() -> None:
    async def main() -> tuple[list[str], list[str]]:
        loop = asyncio.get_running_loop()
        refused: list[str] = []
        called: list[str] = []

        def call_in() -> None:
            try:
                loop.call_soon_threadsafe(called.append, "from outside")
            except EscapedSimulation as exc:
                refused.append(str(exc))

        thread = threading.Thread(target=call_in)
        thread.start()
        thread.join()
        loop.call_soon_threadsafe(called.append, "from inside")
        await asyncio.sleep(1)
        return refused, called

    assert run_simulated(main, seed=0) == (["another thread called into the virtual loop"], ["from inside"])


def test_timers_keep_the_order_of_their_times_and_draw_lots_for_the_same_time() -> None:
    def run(seed: int) -> list[tuple[int, int]]:
        async def main() -> list[tuple[int, int]]:
            loop = asyncio.get_running_loop()
            ran: list[tuple[int, int]] = []
            for number in range(5):
                for when_s in (3, 1, 2):
                    loop.call_at(when_s, ran.append, (when_s, number))
            await asyncio.sleep(10)
            return ran

        return run_simulated(main, seed=seed)

    runs = [run(seed) for seed in range(5)]

    assert all([when_s for when_s, _ in ran] == [1] * 5 + [2] * 5 + [3] * 5 for ran in runs)
    assert len({tuple(ran) for ran in runs}) > 1
    assert run(2) == runs[2]


def test_a_cancelled_timer_does_not_run() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        ran: list[int] = []
        handles = [loop.call_later(number % 3, ran.append, number) for number in range(300)]
        for handle in handles[::2]:
            handle.cancel()
        await asyncio.sleep(5)
        return sorted(ran)

    assert run_simulated(main, seed=0) == list(range(1, 300, 2))


def test_what_is_left_is_cancelled_in_order_of_creation_and_generators_are_closed() -> None:
    story: list[str] = []

    async def wait(name: str) -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            story.append(name)

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            story.append("generator")

    async def main() -> None:
        kept.append(numbers())
        await anext(kept[0])
        for name in "abc":
            kept_tasks.append(asyncio.ensure_future(wait(name)))
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        await asyncio.sleep(1)
        assert loop.tasks()[1:] == kept_tasks

    kept: list[AsyncIterator[int]] = []
    kept_tasks: list[asyncio.Task[None]] = []
    run_simulated(main, seed=0)

    assert sorted(story[:-1]) == ["a", "b", "c"]
    assert story[-1] == "generator"


def test_a_stalled_loop_is_late_for_everything_at_once() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        seen: list[float] = []
        for when_s in (1.0, 2.0):
            loop.call_at(when_s, lambda: seen.append(loop.time()))
        loop.stall(5.0)
        await asyncio.sleep(1)
        return seen

    assert run_simulated(main, seed=0) == [5.0, 5.0]


def trace(seed: int) -> str:
    """Run a small world of tasks, timers, a bus and a pacer, and return the digest of every message."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        digest = TraceHash()
        bus = EventBus(schedule=loop.call_soon, tap=digest)
        clock = EventClock()
        pacer = Pacer(clock, bus, speed=100.0)
        for name in ("echo-a", "echo-b"):
            bus.register(Echo(name, bus))
            bus.subscribe(name, BookSnapshot, f"{name[-1]}.X")

        async def outside(name: str) -> None:
            for number in range(20):
                await asyncio.sleep(0.01)
                pacer.catch_up()
                bus.publish(BookInvalid(instrument_id=name, ts_event=clock.now_ns(), reason=str(number)))

        for number in range(200):
            clock.call_at(number * NS_PER_S // 10, partial(bus.publish, make_book(number, "ab"[number % 2] + ".X")))
        await asyncio.gather(pacer.run(), *(outside(name) for name in ("x", "y", "z")))
        assert digest.count > 400
        return digest.hexdigest()

    return run_simulated(main, seed=seed)


class Echo(Actor):
    def __init__(self, name: str, bus: EventBus) -> None:
        super().__init__(name)
        self._bus = bus

    def handle(self, message: Message) -> None:
        assert isinstance(message, BookSnapshot)
        self._bus.publish(DomUpdated(instrument_id=message.instrument_id, ts_event=1, sequence=message.sequence, book=message, dom=NO_DOM))


NO_DOM: Any = object()


def make_book(sequence: int, instrument_id: str) -> BookSnapshot:
    sides = {"bid_ticks": (1,), "bid_sizes": (1,), "ask_ticks": (2,), "ask_sizes": (1,)}
    return BookSnapshot(instrument_id=instrument_id, ts_event=0, ts_recv=0, sequence=sequence, **sides)


def test_the_same_seed_gives_the_same_trace_in_this_process_and_others_and_another_seed_another() -> None:
    script = "from tests.kernel.test_simulation import trace; print(trace(5))"
    elsewhere = {
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2")
    }

    assert {trace(5), trace(5)} == elsewhere
    assert trace(6) not in elsewhere


def test_a_trace_hash_sees_every_field_of_a_row() -> None:
    digests = set()
    for sequence, ts_event in ((1, 1), (2, 1), (1, 2)):
        found = TraceHash()
        found(DomUpdated(instrument_id="A.X", ts_event=ts_event, sequence=sequence, book=make_book(1, "A.X"), dom=NO_DOM))
        digests.add(found.hexdigest())

    assert len(digests) == 3


def test_a_trace_hash_depends_on_content_and_order_and_not_on_the_hash_seed() -> None:
    script = (
        "from framework.kernel.simulation import TraceHash; from framework.messages import BookRecovered\n"
        "t = TraceHash()\n"
        "for name in {'x': 1, 'y': 2}: t(BookRecovered(instrument_id=name, ts_event=1))\n"
        "print(t.hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2")
    }
    other = TraceHash()
    for name in ("y", "x"):
        other(BookRecovered(instrument_id=name, ts_event=1))

    assert len(digests) == 1
    assert other.hexdigest() not in digests
