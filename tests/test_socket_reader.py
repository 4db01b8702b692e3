"""`SocketReader` on a real socket pair."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from framework.socket_reader import SocketReader


@contextlib.contextmanager
def pair() -> Iterator[tuple[Any, Any]]:
    context = zmq.Context()
    left, right = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    left.bind("inproc://pair")
    right.connect("inproc://pair")
    try:
        yield left, right
    finally:
        left.close(linger=0)
        right.close(linger=0)
        context.term()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_every_message_is_read_whether_it_came_before_the_start_or_after() -> None:
    got: list[list[bytes]] = []

    def turn() -> None:
        while (message := reader.receive()) is not None:
            got.append(message)

    with pair() as (near, far):
        far.send_multipart([b"early"])
        reader = SocketReader(near, turn)
        reader.start()
        await until(lambda: got == [[b"early"]])

        for number in range(100):
            far.send_multipart([b"%d" % number])
            await asyncio.sleep(0)
        await until(lambda: len(got) == 101)
        reader.stop()


async def test_a_message_whose_wake_up_went_to_a_send_is_read() -> None:
    got: list[list[bytes]] = []

    def turn() -> None:
        while (message := reader.receive()) is not None:
            got.append(message)

    with pair() as (near, far):
        reader = SocketReader(near, turn)
        reader.start()
        await asyncio.sleep(0.01)
        far.send(b"answer")
        near.send(b"question")
        near.get(zmq.EVENTS)  # as a send does: the wake-up is spent, and the loop has had no turn

        reader.wake()

        await until(lambda: got == [[b"answer"]])
        reader.stop()


async def test_a_turn_that_raises_costs_one_message_and_reading_goes_on() -> None:
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
    got: list[list[bytes]] = []

    def turn() -> None:
        message = reader.receive()
        if message is None:
            return
        reader.again()
        if message == [b"bad"]:
            raise ValueError("bad")
        got.append(message)

    with pair() as (near, far):
        reader = SocketReader(near, turn)
        reader.start()
        for word in (b"bad", b"good"):
            far.send(word)
        await until(lambda: got == [[b"good"]])
        reader.stop()

    assert [str(fault) for fault in faults] == ["bad"]


async def test_however_often_it_is_asked_for_one_turn_follows() -> None:
    turns: list[int] = []
    with pair() as (near, _):
        reader = SocketReader(near, lambda: turns.append(near.get(zmq.EVENTS)))
        reader.start()
        await asyncio.sleep(0.01)
        turns.clear()

        for _ in range(5):
            reader.again()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        assert len(turns) == 1
        reader.stop()


@pytest.mark.parametrize("started", [True, False])
async def test_after_the_stop_it_reads_no_more(started: bool) -> None:
    turns: list[int] = []
    with pair() as (near, far):
        reader = SocketReader(near, lambda: turns.append(1))
        if started:
            reader.start()
        reader.stop()
        far.send(b"late")
        reader.again()
        await asyncio.sleep(0.02)

        assert not turns
