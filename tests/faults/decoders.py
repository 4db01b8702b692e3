"""Every decoder that reads what others wrote, with sound frames of every type that it knows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import get_args

import msgspec
import numpy as np

from framework import messages, wire, wire_json
from framework.errors import TidebookError, WireError
from framework.messages import Message
from framework.operations import control
from framework.trading import records
from framework.trading.journal import Journal
from framework.window import BAR_COLUMNS, FLOW_COLUMNS, LEVELS, Rows, Window
from ml_actor import window_check
from tests.faults.examples import example


def make_window(rows: int = 3, bars: int = 2) -> Window:
    """Return a small sound window."""
    draw = np.random.default_rng(3)
    best = np.full((rows, 1), 100, np.int32)
    levels = np.arange(LEVELS, dtype=np.int32)
    return Window(
        instrument_id="TIDE.SIM",
        tick_size=0.25,
        has_trades=True,
        rows=Rows(
            ts_event=np.arange(rows, dtype=np.int64) * 100 + 1_700_000_000_000_000_000,
            sequence=np.arange(rows, dtype=np.int64) + 1,
            segment=np.zeros(rows, np.int64),
            bid_ticks=best - levels,
            bid_sizes=draw.integers(1, 9, (rows, LEVELS)).astype(np.float32),
            ask_ticks=best + 1 + levels,
            ask_sizes=draw.integers(1, 9, (rows, LEVELS)).astype(np.float32),
            flow=draw.normal(size=(rows, len(FLOW_COLUMNS))).astype(np.float32),
        ),
        bars=np.abs(draw.normal(size=(bars, len(BAR_COLUMNS)))) + 1.0,
    )


class Decoder(msgspec.Struct, frozen=True):
    """A decoder under test: sound frames, what is called, and what it may raise."""

    sound: tuple[bytes, ...]
    decode: Callable[[bytes], object]
    typed: tuple[type[Exception], ...] = (WireError,)


def _request_header(frame: bytes) -> object:
    wire.request_id_of(frame)
    return wire.decode_request(frame)


def _window(request: wire.PredictRequest) -> Callable[[bytes], object]:
    """Return what the service does with the payload of a header. Both checks of its numbers have to agree."""

    def decode(payload: bytes) -> object:
        compiled, plain = _spoken(request, payload, window_check.find_fault), _spoken(request, payload)
        assert compiled == plain, f"the compiled check says {compiled!r}, the other {plain!r}"
        return wire.decode_window(request, payload)

    return decode


def _spoken(request: wire.PredictRequest, payload: bytes, *find: wire.FindFault) -> str:
    try:
        wire.decode_window(request, payload, *find)
    except WireError as exc:
        return str(exc)
    return ""


def _json_request(frame: bytes) -> object:
    wire_json.request_id_of(frame)
    return wire_json.decode_request(frame)


def _record(journal: Journal, kinds: tuple[type[Message], ...]) -> Callable[[bytes], object]:
    names = tuple(kind.__name__ for kind in kinds)

    def decode(frame: bytes) -> object:
        # The kind stands beside the record, not in it: a record is read as what it was, or as its neighbour.
        name = names[frame[0] % len(names)] if frame else names[0]
        return journal._decode(1, name, frame[1:])

    return decode


def journalled() -> tuple[type[Message], ...]:
    """Return every type of message that a journal can hold (all but the one that carries a view of memory)."""
    found = {}
    for module in (messages, records):
        for one in vars(module).values():
            if isinstance(one, type) and issubclass(one, Message) and one not in (Message, messages.DomUpdated):
                found[one.__name__] = one
    return tuple(found.values())


def _requests() -> list[wire.Request]:
    window = make_window()
    sound: list[wire.Request] = [example(kind) for kind in get_args(wire.Request) if kind is not wire.PredictRequest]
    sound = [msgspec.structs.replace(one, version=wire.PROTOCOL_VERSION) for one in sound]
    item = msgspec.structs.replace(example(wire.FeedbackItem), prediction_flow_type="BUY", trade_outcome=None)
    sound = [msgspec.structs.replace(one, items=(item,)) if isinstance(one, wire.FeedbackRequest) else one for one in sound]
    return [*sound, wire.predict_request(window, request_id="r-1", timeout_ms=90.0)]


def _replies() -> list[wire.Reply]:
    sound = [msgspec.structs.replace(example(kind), version=wire.PROTOCOL_VERSION) for kind in get_args(wire.Reply)]
    return [msgspec.structs.replace(one, flow_type="BUY") if isinstance(one, wire.PredictReply) else one for one in sound]


def _json_requests() -> tuple[bytes, ...]:
    mission = {
        "market_data": {
            "timestamp": ["2024-01-15T14:30:00Z"],
            "open": [4700.0],
            "high": [4701.0],
            "low": [4699.5],
            "close": [4700.5],
            "volume": [10.0],
        },
        "order_book": {"bids": [[4700.0, 3.0], [4699.75, 2.0]], "asks": [[4700.25, 1.0]], "timestamp": 1_705_329_000.5},
        "order_events": [],
    }
    others = [wire_json.encode_request(one) for one in _requests() if not isinstance(one, wire.PredictRequest)]
    window = make_window(1, 1)
    return (*others, msgspec.json.encode(mission), wire_json.encode_predict(window, request_id="r-2", timeout_ms=80.0))


@cache
def decoders() -> dict[str, Decoder]:
    """Return every decoder by name."""
    window = make_window()
    request = wire.predict_request(window, request_id="r-1", timeout_ms=90.0)
    kinds = journalled()
    sound_records = tuple(bytes([n]) + msgspec.msgpack.encode(example(kind)) for n, kind in enumerate(kinds))
    commands = tuple(msgspec.json.encode(example(kind)) for kind in get_args(control.AnyCommand))
    return {
        "requests": Decoder(tuple(map(wire.encode, _requests())), _request_header),
        "replies": Decoder(tuple(map(wire.encode, _replies())), wire.decode_reply),
        "windows": Decoder((wire.encode_window(window),), _window(request)),
        "json-requests": Decoder(_json_requests(), _json_request),
        "json-replies": Decoder(tuple(map(wire_json.encode_reply, _replies())), wire_json.decode_reply),
        "journal": Decoder(sound_records, _record(Journal(":memory:"), kinds), (TidebookError,)),
        "commands": Decoder(commands, control._COMMANDS.decode, (msgspec.DecodeError, RecursionError, UnicodeDecodeError)),
    }
