"""The ROUTER rim, with real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zmq
import zmq.asyncio
import zmq.auth

from framework import wire
from framework.config import CurveKeys, MLServer
from framework.errors import ConfigError, ErrorCode, StartRefused
from framework.inference.transport import ClientCurve, ZmqTransport
from framework.model import FlowType
from framework.wire import PROTOCOL_VERSION
from ml_actor import server as rim
from ml_actor.composition import blank_window
from ml_actor.server import RouterServer, check_libzmq, endpoint_of
from ml_actor.service import MLService
from ml_actor.waiting import Waiting, WaitingRoom

SCORES = SimpleNamespace(p_down=0.2, p_flat=0.3, p_up=0.5, flow_type=FlowType.BUY, confidence=0.5, regime=0, shock_score=0.1, horizons=())
PING = [wire.encode(wire.Ping(version=PROTOCOL_VERSION, request_id="ping"))]
LIST = [wire.encode(wire.ModelsRequest(version=PROTOCOL_VERSION, request_id="list", action="list"))]


def predict(request_id: str, timeout_ms: float = 5_000.0) -> list[bytes]:
    window = blank_window()
    return [wire.encode(wire.predict_request(window, request_id=request_id, timeout_ms=timeout_ms)), wire.encode_window(window)]


def make_service(list_versions: Callable[[], Any] = tuple) -> MLService:
    predictor = SimpleNamespace(version="v1", window_rows=2, horizon_rows=5, is_calibrated=True, predict=lambda window: SCORES)
    models: Any = SimpleNamespace(champion=lambda: "v1", versions=list_versions, load_champion=lambda: predictor, decisions=tuple)
    trainer: Any = SimpleNamespace(is_running=False, status=dict)
    store: Any = SimpleNamespace(count=0, add=lambda items, received_ns: len(items))
    service = MLService(models, trainer, store, wall_ns=lambda: 0, timer=lambda: 0.0)
    service.use(predictor)  # type: ignore[arg-type]
    return service


@contextlib.asynccontextmanager
async def serving(
    endpoint: str = "tcp://127.0.0.1:0", *, service: MLService | None = None, server: MLServer | None = None
) -> AsyncIterator[RouterServer]:
    router = RouterServer(service or make_service(), endpoint, server=server)
    router.start()
    try:
        yield router
    finally:
        await router.close()


@contextlib.asynccontextmanager
async def client(endpoint: str, kind: int = zmq.DEALER, *, options: dict[int, Any] | None = None) -> AsyncIterator[Any]:
    context = zmq.asyncio.Context()
    peer = context.socket(kind)
    for option, value in ({zmq.LINGER: 0} | (options or {})).items():
        peer.set(option, value)
    peer.connect(endpoint)
    try:
        yield peer
    finally:
        peer.close(linger=0)
        context.term()


async def answer_of(peer: Any, *, within_s: float = 5.0) -> Any:
    assert await peer.poll(within_s * 1_000), "no answer"
    return wire.decode_reply((await peer.recv_multipart())[-1])


async def is_answered(peer: Any, *, within_s: float = 0.4) -> bool:
    await peer.send_multipart([b"", *PING])
    return bool(await peer.poll(within_s * 1_000))


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_a_dealer_with_a_delimiter_is_answered(transport: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    endpoint = "tcp://127.0.0.1:0" if transport == "tcp" else f"ipc://{tmp_path}/ml.sock"

    async with serving(endpoint) as router, client(router.endpoint) as peer:
        await peer.send_multipart([b"", *predict("p-1")])

        assert (await answer_of(peer)).request_id == "p-1"


async def test_a_dealer_without_a_delimiter_is_answered_without_one() -> None:
    async with serving() as router, client(router.endpoint) as peer:
        await peer.send_multipart(predict("p-1"))

        assert await peer.poll(5_000)
        (frame,) = await peer.recv_multipart()
        assert wire.decode_reply(frame).request_id == "p-1"


async def test_a_plain_req_socket_speaks_the_mission_s_json() -> None:
    request = {"order_events": [], "market_data": {}, "order_book": {"bids": [[18520.0, 5]], "asks": [[18520.25, 3]]}}
    async with serving() as router, client(router.endpoint, zmq.REQ) as peer:
        await peer.send(json.dumps(request).encode())

        reply = json.loads(await peer.recv())

    assert (reply["signal"], reply["prediction_confidence"]) == ("buy", 0.5)


async def test_garbage_on_a_req_socket_is_answered_so_that_it_does_not_wait_for_ever() -> None:
    async with serving() as router, client(router.endpoint, zmq.REQ) as peer:
        await peer.send(b"\xc1hello")

        assert (await answer_of(peer)).code == ErrorCode.DECODE


async def test_a_slow_answer_does_not_hold_up_predictions() -> None:
    release = threading.Event()
    service = make_service(lambda: (release.wait(10), ())[1])
    async with serving(service=service) as router, client(router.endpoint) as peer:
        await peer.send_multipart([b"", *LIST])
        for number in range(20):
            await peer.send_multipart([b"", *predict(f"p-{number}")])
        first = [(await answer_of(peer)).request_id for _ in range(20)]
        release.set()

        assert first == [f"p-{number}" for number in range(20)]
        assert isinstance(await answer_of(peer), wire.ModelsReply)


async def test_an_answer_to_a_client_that_left_is_counted_and_harms_nobody() -> None:
    release = threading.Event()
    service = make_service(lambda: (release.wait(10), ())[1])
    async with serving(service=service) as router:
        async with client(router.endpoint) as gone:
            await gone.send_multipart([b"", *LIST])
            await gone.send_multipart([b"", *PING])
            await answer_of(gone)
        async with client(router.endpoint) as peer:
            # The end of one connection and the words of another come by different ways: leave the first one time to arrive.
            for _ in range(100):
                await peer.send_multipart([b"", *PING])
                await answer_of(peer)
            release.set()
            while router.stats()["slow"]:
                await peer.send_multipart([b"", *PING])
                await answer_of(peer)

        assert router.stats()["unroutable"] == 1


async def test_a_client_that_does_not_read_loses_its_answers_and_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rim, "SEND_HWM", 2)
    small = {zmq.RCVHWM: 2, zmq.SNDHWM: 5_000, zmq.RCVBUF: 4_096}
    versions = tuple({"version": f"v{n}", "facts": "x" * 20_000} for n in range(20))
    async with serving(service=make_service(lambda: versions)) as router, client(router.endpoint, options=small) as deaf:
        for number in range(60):
            await deaf.send_multipart([b"", wire.encode(wire.ModelsRequest(version=1, request_id=f"m{number}", action="list"))])
        async with client(router.endpoint) as peer:
            while router.stats()["received"] < 60 or router.stats()["slow"]:
                await peer.send_multipart([b"", *PING])
                await answer_of(peer)

        assert router.stats()["undelivered"] > 0


async def test_a_second_client_with_the_same_identity_never_gets_the_first_one_s_answers() -> None:
    same = {zmq.ROUTING_ID: b"twin"}
    async with serving() as router, client(router.endpoint, options=same) as first:
        await first.send_multipart([b"", *PING])
        await answer_of(first)
        async with client(router.endpoint, options=same) as second:
            await second.send_multipart([b"", *predict("from-second")])
            for number in range(20):
                await first.send_multipart([b"", *predict(f"p-{number}")])
            answers = [(await answer_of(first)).request_id for _ in range(20)]

            assert answers == [f"p-{number}" for number in range(20)]
            assert not await second.poll(200)


async def test_a_frame_beyond_the_limit_ends_its_connection_and_others_are_served() -> None:
    async with serving() as router, client(router.endpoint) as big, client(router.endpoint) as peer:
        await big.send_multipart([b"", b"x" * (wire.MAX_FRAME_BYTES + 1)])
        await peer.send_multipart([b"", *PING])

        assert (await answer_of(peer)).request_id == "ping"
        assert not await big.poll(200)


async def test_too_many_frames_are_dropped_and_counted() -> None:
    async with serving() as router, client(router.endpoint) as peer:
        await peer.send_multipart([b"", *[b"x"] * 9])
        await peer.send_multipart([b"", b"x" * 1_000_000, b"y" * 1_000_000, b"z" * 1_000_000])
        await peer.send_multipart([b"", *PING])
        await answer_of(peer)

        assert (router.stats()["bad_envelopes"], router.stats()["too_large"]) == (1, 1)


async def test_raw_connections_with_other_protocols_are_ignored() -> None:
    async with serving() as router, client(router.endpoint) as peer:
        address = ("127.0.0.1", int(router.endpoint.rpartition(":")[2]))
        with contextlib.ExitStack() as stack:
            for number in range(60):
                raw = stack.enter_context(socket.create_connection(address))
                if number % 2:
                    raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" if number % 4 == 1 else os.urandom(64))
            await peer.send_multipart([b"", *PING])

            assert (await answer_of(peer)).request_id == "ping"


async def test_what_has_no_place_to_wait_is_refused_as_overload_with_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as router:
        router._waiting = WaitingRoom(per_client=4)
        sent: list[list[bytes]] = []
        monkeypatch.setattr(router, "_send", lambda envelope, frames: sent.append(frames))
        for number in range(6):
            router._take([b"peer", b"", *predict(f"p-{number}")])

        refused = [(reply.request_id, getattr(reply, "code", "")) for reply in (wire.decode_reply(frames[0]) for frames in sent)]
        assert refused == [("p-4", "OVERLOADED"), ("p-5", "OVERLOADED")]
        assert (router.stats()["waiting"], router.stats()["overloaded"]) == (4, 2)


def message(client: str, number: int = 0, size: int = 1) -> Waiting:
    return Waiting([client.encode(), b""], [b"%d" % number], 0.0, size)


def test_clients_take_turns_and_each_one_s_requests_keep_their_order() -> None:
    room = WaitingRoom()
    for number in range(3):
        room.put(message("loud", number))
    room.put(message("calm", 7))

    order = [(waiting.envelope[0], waiting.frames[0]) for waiting in (room.next() for _ in range(len(room)))]

    assert order == [(b"loud", b"0"), (b"calm", b"7"), (b"loud", b"1"), (b"loud", b"2")]


def test_the_waiting_room_is_bounded_by_client_by_clients_and_by_bytes() -> None:
    room = WaitingRoom(per_client=2, clients=2, most_bytes=100)

    taken = [room.put(message(client, size=size)) for client, size in [("a", 1), ("a", 1), ("a", 1), ("b", 97), ("b", 2), ("c", 1)]]
    for _ in range(3):
        room.next()

    assert taken == [True, True, False, True, False, False]
    assert len(room) == 0
    assert room.put(message("c", size=100))


async def test_a_port_in_use_is_refused_by_name() -> None:
    async with serving() as router:
        taken = router.endpoint
        second = RouterServer(make_service(), taken)

        with pytest.raises(StartRefused, match=taken):
            second.start()
        await second.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "trading-host"])
def test_a_bind_beyond_loopback_without_keys_is_refused_with_the_way_out(host: str) -> None:
    with pytest.raises(StartRefused, match=r"127\.0\.0\.1.*curve"):
        endpoint_of(MLServer(host=host))


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("127.0.0.1", "tcp://127.0.0.1:5556"),
        ("localhost", "tcp://127.0.0.1:5556"),
        ("::1", "tcp://[::1]:5556"),
        ("127.0.0.2", "tcp://127.0.0.2:5556"),
    ],
)
def test_loopback_needs_no_keys(host: str, endpoint: str) -> None:
    assert endpoint_of(MLServer(host=host)) == endpoint


async def test_an_ipc_socket_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for endpoint in (f"ipc://{tmp_path}/ml.sock", "ipc://@abstract"):
        router = RouterServer(make_service(), endpoint)
        with pytest.raises(StartRefused, match="0700"):
            router.start()
        await router.close()


def test_an_old_libzmq_is_refused() -> None:
    check_libzmq((4, 3, 5))
    with pytest.raises(StartRefused, match=r"4\.3\.4.*4\.3\.5"):
        check_libzmq((4, 3, 4))


# --- CURVE -----------------------------------------------------------------------------------------------------------


class Keys:
    """A server's keys, a folder of allowed clients with one in it, and a stranger's keys."""

    def __init__(self, folder: Path) -> None:
        self.allowed_dir = folder / "clients"
        (folder / "own").mkdir()
        self.allowed_dir.mkdir(mode=0o700)
        self.public_file, self.secret_file = (Path(name) for name in zmq.auth.create_certificates(folder / "own", "server"))
        self.secret_file.chmod(0o600)
        self.server_key, _ = zmq.auth.load_certificate(self.public_file)
        friend_public, self.friend_file = (Path(name) for name in zmq.auth.create_certificates(folder / "own", "friend"))
        self.friend_file.chmod(0o600)
        friend_public.rename(self.allowed_dir / "friend.key")
        self.friend = zmq.auth.load_certificate(self.friend_file)
        self.stranger = zmq.curve_keypair()
        self.config = MLServer(
            host="127.0.0.1",
            port=0,
            curve=CurveKeys(server_secret_file=str(self.secret_file), allowed_clients_dir=str(self.allowed_dir)),
        )

    def of(self, pair: tuple[bytes, bytes | None]) -> dict[int, Any]:
        return {zmq.CURVE_PUBLICKEY: pair[0], zmq.CURVE_SECRETKEY: pair[1], zmq.CURVE_SERVERKEY: self.server_key}


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


async def test_only_clients_on_the_list_get_through_curve(keys: Keys) -> None:
    async with serving(server=keys.config) as router:
        async with client(router.endpoint, options=keys.of(keys.friend)) as friend:
            assert await is_answered(friend, within_s=5.0)
        async with client(router.endpoint, options=keys.of(keys.stranger)) as stranger:
            assert not await is_answered(stranger)
        async with client(router.endpoint) as plain:
            assert not await is_answered(plain)


async def test_the_client_s_transport_speaks_curve(keys: Keys) -> None:
    curve = ClientCurve.load(keys.friend_file, keys.public_file)
    async with serving(server=keys.config) as router:
        transport, got = ZmqTransport(router.endpoint, curve=curve), asyncio.Event()
        transport.start(lambda _frames: got.set())
        async with asyncio.timeout(5):
            while not transport.send(PING):
                await asyncio.sleep(0.01)
            await got.wait()
        await transport.close()


def test_a_client_key_that_others_can_read_or_that_is_missing_is_refused(keys: Keys) -> None:
    keys.friend_file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        ClientCurve.load(keys.friend_file, keys.public_file)
    with pytest.raises(ConfigError, match="nowhere"):
        ClientCurve.load(keys.friend_file.with_name("nowhere"), keys.public_file)


async def test_without_its_authenticator_the_service_lets_nobody_in(keys: Keys) -> None:
    async with serving(server=keys.config) as router:
        assert router._authenticator is not None
        router._authenticator.stop()

        async with client(router.endpoint, options=keys.of(keys.friend)) as friend:
            assert not await is_answered(friend)


async def test_a_key_that_others_can_read_is_refused(keys: Keys) -> None:
    keys.secret_file.chmod(0o644)
    router = RouterServer(make_service(), "tcp://127.0.0.1:0", server=keys.config)

    with pytest.raises(StartRefused, match="0644"):
        router.start()
    await router.close()


async def test_a_folder_of_clients_that_is_empty_or_open_to_writers_is_refused(keys: Keys) -> None:
    router = RouterServer(make_service(), "tcp://127.0.0.1:0", server=keys.config)
    keys.allowed_dir.chmod(0o722)
    with pytest.raises(StartRefused, match="0722"):
        router.start()

    keys.allowed_dir.chmod(0o700)
    (keys.allowed_dir / "friend.key").unlink()
    with pytest.raises(StartRefused, match="nobody could connect"):
        router.start()
    await router.close()


async def test_the_service_stops_while_a_slow_answer_runs() -> None:
    release = threading.Event()
    async with serving(service=make_service(lambda: (release.wait(10), ())[1])) as router, client(router.endpoint) as peer:
        await peer.send_multipart([b"", *LIST])
        await peer.send_multipart([b"", *PING])
        await answer_of(peer)
        asyncio.get_running_loop().call_later(0.05, release.set)
