"""The socket behind `MLClient`: one DEALER for each process it talks to, read for the socket's whole life."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import zmq
import zmq.asyncio
import zmq.auth

from framework.errors import ConfigError
from framework.socket_reader import SocketReader
from framework.wire import MAX_FRAME_BYTES

OnFrames = Callable[[list[bytes]], None]
SEND_HWM: Final = 64
RECEIVE_HWM: Final = 256
RECONNECT_MS: Final = (50, 2_000)
TAKEN_AT_ONCE: Final = 16


class ClientCurve(msgspec.Struct, frozen=True, kw_only=True):
    """CURVE keys of a client, Z85: its own pair, and the server's public key."""

    public_key: bytes
    secret_key: bytes
    server_key: bytes

    @staticmethod
    def load(secret_file: Path, server_file: Path) -> ClientCurve:
        """Read the client's own pair (`*.key_secret`, mode 0600) and the server's public key (`*.key`). Raises `ConfigError`."""
        try:
            if secret_file.stat().st_mode & 0o077:
                raise ConfigError(f"{secret_file}: others can read this secret key; allowed mode 0600 (chmod 600 {secret_file})")
            public_key, secret_key = zmq.auth.load_certificate(secret_file)
            server_key, _ = zmq.auth.load_certificate(server_file)
        except (OSError, ValueError) as exc:
            raise ConfigError(f"CURVE keys cannot be read: {exc}") from exc
        if secret_key is None:
            raise ConfigError(f"{secret_file}: holds no secret key")
        return ClientCurve(public_key=public_key, secret_key=secret_key, server_key=server_key)

    def __repr__(self) -> str:
        return f"ClientCurve(public_key={self.public_key!r}, secret_key=..., server_key={self.server_key!r})"


class ZmqTransport:
    """A DEALER that never waits: `send` says whether the peer's connection took the message.

    Without an endpoint, and while the peer is away, nothing is queued (`IMMEDIATE`): what was asked while the service was
    down is never delivered to it later. Uses the running loop; `counts` tells what went wrong.
    """

    def __init__(self, endpoint: str | None = None, *, curve: ClientCurve | None = None) -> None:
        self.counts = {"sent": 0, "would_block": 0, "received": 0, "bad_envelopes": 0, "listener_faults": 0}
        self._endpoint = endpoint
        self._curve = curve
        self._on_frames: OnFrames = lambda _frames: None
        self._context: zmq.asyncio.Context | None = None
        self._socket: zmq.asyncio.Socket | None = None
        self._plain: Any = None
        self._reader: SocketReader | None = None

    def start(self, on_frames: OnFrames) -> None:
        """Call `on_frames` with the frames of every message behind the delimiter, from now on."""
        self._context = zmq.asyncio.Context()
        self._on_frames = on_frames
        if self._endpoint is not None:
            self._open_socket(self._endpoint)

    def connect(self, endpoint: str) -> None:
        """Leave the present peer, if any, and connect to `endpoint` now (also to the same one: its process is a new one).

        With a new socket: what is sent from here on cannot end at the peer before.
        """
        self._endpoint = endpoint
        if self._context is not None:
            self._close_socket()
            self._open_socket(endpoint)

    reconnect = connect

    def send(self, frames: list[bytes]) -> bool:
        """Hand one message to the peer's connection; False if there is none or it is full."""
        if self._reader is None:
            return False
        try:
            self._plain.send_multipart([b"", *frames], zmq.NOBLOCK)
        except zmq.ZMQError:
            self.counts["would_block"] += 1
            return False
        self.counts["sent"] += 1
        self._reader.wake()
        return True

    async def close(self) -> None:
        """Close the socket; unsent messages are dropped. Does nothing if it is closed."""
        self._close_socket()
        if self._context is not None:
            self._context.term()
            self._context = None

    def _close_socket(self) -> None:
        if self._reader is not None:
            self._reader.stop()
            self._reader = None
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = self._plain = None

    def _open_socket(self, endpoint: str) -> None:
        assert self._context is not None
        socket = self._socket = self._context.socket(zmq.DEALER)
        options: dict[int, int | bytes] = {
            zmq.IMMEDIATE: 1,
            zmq.LINGER: 0,
            zmq.SNDHWM: SEND_HWM,
            zmq.RCVHWM: RECEIVE_HWM,
            zmq.MAXMSGSIZE: MAX_FRAME_BYTES,
            zmq.RECONNECT_IVL: RECONNECT_MS[0],
            zmq.RECONNECT_IVL_MAX: RECONNECT_MS[1],
            zmq.IPV6: int("[" in endpoint),  # else a name with both kinds of address may end at the one that nobody binds
        }
        if self._curve is not None:
            options |= {
                zmq.CURVE_PUBLICKEY: self._curve.public_key,
                zmq.CURVE_SECRETKEY: self._curve.secret_key,
                zmq.CURVE_SERVERKEY: self._curve.server_key,
            }
        for option, value in options.items():
            socket.set(option, value)
        socket.connect(endpoint)
        # The same socket without futures, which cost 5 to 10 us each: a send never waits, and the loop reads by itself.
        self._plain = zmq.Socket.shadow(socket)
        self._reader = SocketReader(self._plain, self._take)
        self._reader.start()

    def _take(self) -> None:
        """Deliver what has come. A listener's fault costs one message, not the connection."""
        reader = self._reader
        assert reader is not None
        for _ in range(TAKEN_AT_ONCE):
            message = reader.receive()
            if message is None:
                return
            try:
                self._deliver(message)
            except Exception:
                self.counts["listener_faults"] += 1
                reader.again()
                raise
            if self._reader is not reader:
                return  # the listener closed it, or connected to another peer
        reader.again()

    def _deliver(self, message: list[bytes]) -> None:
        self.counts["received"] += 1
        if len(message) < 2 or message[0]:
            self.counts["bad_envelopes"] += 1
            return
        self._on_frames(message[1:])
