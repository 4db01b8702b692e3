"""`ZmqTransport` on real sockets, and the client over it against a process that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.asyncio

from framework.inference.client import ClientSettings, MLClient
from framework.inference.transport import ClientCurve, ZmqTransport
from framework.kernel.child_process import ChildPolicy, ChildProcess, ChildState
from framework.messages import FailureReason
from framework.wire import PredictReply
from ml_actor.composition import blank_window

ROOT = Path(__file__).resolve().parents[2]


class Peer:
    """A ROUTER that keeps what it gets and answers when told to."""

    def __init__(self, endpoint: str = "tcp://127.0.0.1:0", **options: int) -> None:
        self.context = zmq.asyncio.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        for name, value in options.items():
            self.socket.set(getattr(zmq, name), value)
        self.socket.bind(endpoint)
        self.endpoint = self.socket.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()

    async def received(self, within_s: float = 5.0) -> list[bytes] | None:
        return await self.socket.recv_multipart() if await self.socket.poll(within_s * 1_000) else None

    async def echo(self) -> list[bytes]:
        message = await self.received()
        assert message is not None, "nothing came"
        await self.socket.send_multipart(message)
        return message[1:]

    def close(self) -> None:
        self.socket.close(linger=0)
        self.context.term()


@contextlib.asynccontextmanager
async def started(endpoint: str | None = None, on_frames: Callable[[list[bytes]], None] | None = None) -> AsyncIterator[Any]:
    transport = ZmqTransport(endpoint)
    got: list[list[bytes]] = []
    transport.start(on_frames or got.append)
    transport.got = got  # type: ignore[attr-defined]
    try:
        yield transport
    finally:
        await transport.close()


@contextlib.contextmanager
def peer(endpoint: str = "tcp://127.0.0.1:0", **options: int) -> Any:
    one = Peer(endpoint, **options)
    try:
        yield one
    finally:
        one.close()


async def sent(transport: ZmqTransport, frames: list[bytes]) -> None:
    async with asyncio.timeout(5):
        while not transport.send(frames):
            await asyncio.sleep(0.005)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_frames_go_behind_an_empty_delimiter_and_come_back_without_it() -> None:
    with peer() as service:
        async with started(service.endpoint) as transport:
            await sent(transport, [b"header", b"payload"])

            assert await service.echo() == [b"", b"header", b"payload"]
            await until(lambda: transport.got == [[b"header", b"payload"]])


async def test_without_a_peer_nothing_is_taken_and_nothing_is_delivered_later() -> None:
    with peer() as gone:
        endpoint = gone.endpoint
    async with started(endpoint) as transport:
        assert [transport.send([b"stale"]) for _ in range(5)] == [False] * 5

        with peer(endpoint) as service:
            await sent(transport, [b"fresh"])
            first, second = await service.received(), await service.received(within_s=0.2)

            assert first is not None
            assert first[2:] == [b"fresh"]
            assert second is None


async def test_before_it_knows_an_endpoint_it_takes_nothing() -> None:
    async with started() as transport:
        assert transport.send([b"x"]) is False
        with peer() as service:
            transport.connect(service.endpoint)
            await sent(transport, [b"x"])

            assert await service.received() is not None


async def test_an_answer_whose_wake_up_went_to_a_send_is_delivered() -> None:
    with peer() as service:
        async with started(service.endpoint) as transport:
            await sent(transport, [b"first"])
            router: zmq.Socket[bytes] = zmq.Socket.shadow(service.socket)
            dealer: zmq.Socket[bytes] = zmq.Socket.shadow(transport._socket)
            assert router.poll(5_000)
            router.send_multipart(router.recv_multipart())
            assert dealer.poll(5_000)  # the loop has had no turn: nobody has heard of the answer, and its wake-up is spent

            transport.send([b"second"])

            await until(lambda: transport.got == [[b"first"]])


async def test_it_follows_the_service_to_another_port() -> None:
    with peer() as first, peer() as second:
        async with started(first.endpoint) as transport:
            await sent(transport, [b"1"])
            assert await first.received() is not None

            transport.reconnect(second.endpoint)
            await sent(transport, [b"2"])

            assert ((await second.received()) or [])[2:] == [b"2"]
            assert await first.received(within_s=0.1) is None


async def test_it_comes_back_to_the_same_port_after_a_restart() -> None:
    with peer() as first:
        endpoint = first.endpoint
        async with started(endpoint) as transport:
            await sent(transport, [b"1"])
            first.close()
            with peer(endpoint) as second:
                transport.connect(endpoint)
                await sent(transport, [b"2"])

                assert ((await second.received()) or [])[2:] == [b"2"]


async def test_a_peer_that_does_not_read_fills_up_and_sending_never_waits() -> None:
    with peer(RCVHWM=1, RCVBUF=4_096) as service:
        async with started(service.endpoint) as transport:
            await sent(transport, [b"x" * 500_000])

            taken = [transport.send([b"x" * 500_000]) for _ in range(200)]

            assert False in taken
            assert transport.counts["would_block"] > 0


async def test_closing_with_unsent_messages_does_not_hang() -> None:
    with peer(RCVHWM=1, RCVBUF=4_096) as service:
        async with started(service.endpoint) as transport:
            await sent(transport, [b"x" * 500_000])
            while transport.send([b"x" * 500_000]):
                pass

            async with asyncio.timeout(2):
                await transport.close()


async def test_a_message_without_the_delimiter_is_counted() -> None:
    with peer() as service:
        async with started(service.endpoint) as transport:
            await sent(transport, [b"x"])
            identity = ((await service.received()) or [b""])[0]
            await service.socket.send_multipart([identity, b"no delimiter"])
            await until(lambda: transport.counts["bad_envelopes"] == 1)

            assert transport.got == []


async def test_a_listener_that_fails_costs_one_message_and_is_reported() -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))
    got: list[list[bytes]] = []

    def listen(frames: list[bytes]) -> None:
        if frames == [b"bad"]:
            raise RuntimeError("listener")
        got.append(frames)

    with peer() as service:
        async with started(service.endpoint, listen) as transport:
            for content in (b"bad", b"good"):
                await sent(transport, [content])
                await service.echo()
            await until(lambda: got == [[b"good"]])

    assert [str(report["exception"]) for report in reports] == ["listener"]


async def test_no_message_is_lost_in_a_burst_both_ways() -> None:
    async def answer(service: Peer) -> None:
        for _ in range(2_000):
            await service.echo()

    with peer() as service:
        async with started(service.endpoint) as transport:
            answering = asyncio.ensure_future(answer(service))
            for number in range(2_000):
                await sent(transport, [b"%d" % number])
            await answering
            await until(lambda: len(transport.got) == 2_000)

            assert [frames[0] for frames in transport.got] == [b"%d" % number for number in range(2_000)]


def test_keys_do_not_show_in_a_repr() -> None:
    assert "SECRET" not in repr(ClientCurve(public_key=b"public", secret_key=b"SECRET", server_key=b"server"))


class Killed:
    """A stub ML process under supervision, and strategies that ask it all the time."""

    def __init__(self) -> None:
        self.transport = ZmqTransport()
        self.client = MLClient(
            self.transport,
            settings=ClientSettings(heartbeat_interval_s=0.05, heartbeat_misses=10),
            run_id="run",
            session=f"{os.getpid()}",
            on_heard=lambda: self.child.heard(),
        )
        self.child = ChildProcess(
            (sys.executable, str(ROOT / "tests" / "inference" / "stub_service.py")),
            policy=ChildPolicy(heartbeat_interval_s=0.05, heartbeat_misses=20, max_restarts=100, backoff_s=0.01, backoff_s_max=0.01),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            on_ready=lambda ready: self.transport.connect(ready["endpoint"]),
            on_state=self.on_state,
        )
        self.outcomes: dict[str, list[tuple[Any, float]]] = {}
        self.deadlines: dict[str, float] = {}

    def on_state(self, state: ChildState, detail: str) -> None:
        if state is ChildState.BACKOFF:
            self.client.peer_lost(detail)

    def ask(self) -> None:
        loop = asyncio.get_running_loop()
        ends: list[tuple[Any, float]] = []
        prediction_id = self.client.request_prediction(
            blank_window(), strategy_id="s", timeout_s=0.2, on_outcome=lambda outcome, _: ends.append((outcome, loop.time()))
        )
        self.outcomes[prediction_id] = ends
        self.deadlines[prediction_id] = loop.time() + 0.2

    def answers(self) -> int:
        return sum(isinstance(outcome, PredictReply) for ends in self.outcomes.values() for outcome, _ in ends)

    async def until_it_answers(self) -> None:
        before = self.answers()
        while self.answers() == before:
            self.ask()
            await asyncio.sleep(0.005)

    async def kill_while_asking(self, number: signal.Signals) -> None:
        await self.until_it_answers()
        for step in range(60):
            if step == 20 and self.child.pid is not None:
                os.kill(self.child.pid, number)
            self.ask()
            await asyncio.sleep(0.002)
        while self.child.state is ChildState.READY:
            self.ask()
            await asyncio.sleep(0.01)


@pytest.mark.timeout(90)
async def test_one_outcome_each_while_the_process_is_killed_stopped_and_replaced() -> None:
    bench = Killed()
    bench.client.start()
    bench.child.start()
    try:
        for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL):
            await bench.kill_while_asking(number)
        await bench.until_it_answers()
        await asyncio.sleep(0.3)
    finally:
        await bench.child.stop()
        await bench.client.close()

    ends = bench.outcomes
    failures = {outcome for outcomes in ends.values() for outcome, _ in outcomes if isinstance(outcome, FailureReason)}
    overshoot_s = max(when_s - bench.deadlines[name] for name, outcomes in ends.items() for _, when_s in outcomes)
    assert {len(outcomes) for outcomes in ends.values()} == {1}
    assert failures <= {FailureReason.ML_DOWN, FailureReason.TIMEOUT}
    assert bench.child.restarts >= 3
    assert overshoot_s < 0.5
