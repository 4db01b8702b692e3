"""Both encodings of the protocol behind one door, so that the service knows no difference."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

import msgspec

from framework import wire, wire_json
from framework.errors import ErrorCode, WireError
from framework.window import Window
from ml_actor.window_check import find_fault


class Call(msgspec.Struct, frozen=True):
    """A decoded request. `content` is equal for the same request sent twice; `payload` and `window` are those of a predict."""

    request: wire.Request
    content: Hashable
    payload: bytes = b""
    window: Window | None = None

    def to_window(self) -> Window:
        """Return the window of a predict request. Raises `WireError`."""
        assert isinstance(self.request, wire.PredictRequest)
        return self.window if self.window is not None else wire.decode_window(self.request, self.payload, find_fault)


class Codec(Protocol):
    """One encoding."""

    def decode(self, frames: Sequence[bytes]) -> Call:
        """Decode a request. Raises `WireError`."""

    def request_id(self, frames: Sequence[bytes]) -> str:
        """Return the id of a request that cannot be decoded, or ""."""

    def encode(self, reply: wire.Reply) -> bytes:
        """Encode an answer."""


class _Binary:
    def decode(self, frames: Sequence[bytes]) -> Call:
        request = wire.decode_request(frames[0])
        if not isinstance(request, wire.PredictRequest):
            if len(frames) != 1:
                raise WireError(ErrorCode.BAD_FIELD, "only a predict request has a payload frame")
            return Call(request, frames[0])
        if len(frames) != 2:
            raise WireError(ErrorCode.BAD_FIELD, "a predict request has a header and a payload frame")
        # Not the deadline: a request that is sent again has less time left.
        same = (request.instrument_id, request.tick_size, request.has_trades, request.schema_hash, request.row_count, request.bar_count)
        return Call(request, (same, frames[1]), frames[1])

    def request_id(self, frames: Sequence[bytes]) -> str:
        return wire.request_id_of(frames[0])

    def encode(self, reply: wire.Reply) -> bytes:
        return wire.encode(reply)


class _Json:
    def decode(self, frames: Sequence[bytes]) -> Call:
        if len(frames) != 1:
            raise WireError(ErrorCode.BAD_FIELD, "a JSON request is one frame")
        found = wire_json.decode_request(frames[0])
        return Call(found.request, frames[0], b"", found.window)

    def request_id(self, frames: Sequence[bytes]) -> str:
        return wire_json.request_id_of(frames[0])

    def encode(self, reply: wire.Reply) -> bytes:
        return wire_json.encode_reply(reply)


_BINARY, _JSON = _Binary(), _Json()


def codec_of(frames: Sequence[bytes]) -> Codec:
    """Return the encoding of a message, which starts with a frame that is not empty."""
    return _JSON if wire_json.is_json(frames[0]) else _BINARY
