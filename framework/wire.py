"""The ML protocol: message structs and their two encodings, without sockets.

Frames after the empty delimiter: *binary* is `[header]` or `[header, payload]`, the header a msgpack array that starts
with its type, the payload the arrays of a window one behind the other, little endian; *JSON* is one frame that starts
with `{`, the mission's structures as written. The specification is `docs/wire.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from framework.errors import ErrorCode, WireError
from framework.messages import HorizonPrediction
from framework.model import FlowType, TradeOutcome
from framework.window import (
    BAR_COLUMNS,
    FLOW_COLUMNS,
    LEVELS,
    ROW_SCHEMA_HASH,
    Float32Array,
    Float64Array,
    Int32Array,
    Int64Array,
    Rows,
    Window,
)

PROTOCOL_VERSION: Final = 1
MAX_FRAME_BYTES: Final = 1 << 20
MAX_WINDOW_ROWS: Final = 2_000
MAX_BARS: Final = 1_000
MAX_FEEDBACK_ITEMS: Final = 5_000
MAX_HORIZONS: Final = 16
MAX_TIMEOUT_MS: Final = 60_000.0
"""A deadline farther away is not one: a prediction is about the next seconds."""

Id = Annotated[str, msgspec.Meta(max_length=128)]
Text = Annotated[str, msgspec.Meta(max_length=1_000)]
Fact = str | float | int | bool | None
Snapshot = Annotated[dict[Annotated[str, msgspec.Meta(max_length=100)], Fact], msgspec.Meta(max_length=50)]
"""What the market or the book was like, as flat facts: nothing nested, so nothing deep."""


class _Header(msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag_field="type"):
    """Common head: protocol version and the id that the answer repeats."""

    version: int
    request_id: Id


class Ping(_Header, array_like=True, frozen=True, kw_only=True, tag="ping"):
    """Is the service alive? Answered by `Pong` from the loop that predicts."""


class PredictRequest(_Header, array_like=True, frozen=True, kw_only=True, tag="predict"):
    """Predict from the window in the payload frame. `timeout_ms` is what is left of the deadline at sending, at most 60 s."""

    timeout_ms: float
    instrument_id: Id
    tick_size: float
    has_trades: bool
    schema_hash: Id
    row_count: int
    bar_count: int


class TrainRequest(_Header, array_like=True, frozen=True, kw_only=True, tag="train"):
    """Start a training on the service's dataset directory; `reason` is kept with the version. `refit` is full, warm or "" (as due)."""

    reason: Text
    refit: Id = ""


class FeedbackRequest(_Header, array_like=True, frozen=True, kw_only=True, tag="feedback"):
    """Store a batch; each item is the mission's structure plus `feedback_id`, markouts and ids (`FeedbackItem`)."""

    items: Annotated[tuple[FeedbackItem, ...], msgspec.Meta(max_length=MAX_FEEDBACK_ITEMS)]


class StatusRequest(_Header, array_like=True, frozen=True, kw_only=True, tag="status"):
    """What does the service serve, count and train?"""


class ModelsRequest(_Header, array_like=True, frozen=True, kw_only=True, tag="models"):
    """Look at versions, or decide about them. `action` is `list`, `show`, `compare`, `promote`, `rollback`, `pin` or `unpin`.

    `other_id` is the second version to compare (default: the champion); `reason` is kept with the decision.
    """

    action: Id
    version_id: Id = ""
    other_id: Id = ""
    reason: Text = ""


class FeedbackItem(msgspec.Struct, frozen=True, kw_only=True):
    """One decision and its outcome, in the mission's names; the optional fields are ours. `check_feedback` says what it may hold."""

    timestamp: Id
    prediction_flow_type: Id | None
    prediction_confidence: float | None
    trade_executed: bool
    trade_outcome: Id | None
    market_data_snapshot: Snapshot
    dom_data_snapshot: Snapshot
    feedback_id: Id = ""
    decision_id: Id = ""
    prediction_id: Id = ""
    strategy_id: Id = ""
    instrument_id: Id = ""
    model_version: Id = ""
    ts_event: int = 0
    as_of_sequence: int = 0
    action: Id = ""
    reason: Text = ""
    pnl: float | None = None
    markouts_ticks: Annotated[dict[Id, float], msgspec.Meta(max_length=50)] = {}


class Pong(_Header, array_like=True, frozen=True, kw_only=True, tag="pong"):
    """Alive. `state` is `NO_MODEL`, `SERVING` or `TRAINING`; the rest says what it serves and how busy it is."""

    state: str
    model_version: str
    is_training: bool
    predictions: int
    trainings: int


class PredictReply(_Header, array_like=True, frozen=True, kw_only=True, tag="prediction"):
    """Probabilities over the next `horizon_rows` rows, flow type, confidence, and what stood behind them.

    `instrument_id`, `as_of_ns` and `as_of_sequence` repeat the window's: an answer about another one is not used.
    `wants_training` says why the service would like to be trained (drift), or "". `horizons` are further horizons, the nearest first.
    """

    flow_type: str
    confidence: float
    p_down: float
    p_flat: float
    p_up: float
    model_version: str
    is_calibrated: bool
    horizon_rows: int
    as_of_ns: int
    as_of_sequence: int
    regime: int
    shock_score: float
    compute_us: float
    instrument_id: Id = ""
    wants_training: Text = ""
    horizons: Annotated[tuple[HorizonPrediction, ...], msgspec.Meta(max_length=MAX_HORIZONS)] = ()


class TrainReply(_Header, array_like=True, frozen=True, kw_only=True, tag="train_accepted"):
    """A training runs: a new one, or the one that ran already (`is_new` False)."""

    job_id: str
    is_new: bool


class FeedbackReply(_Header, array_like=True, frozen=True, kw_only=True, tag="feedback_stored"):
    """These feedback ids are stored durably (now or before)."""

    feedback_ids: tuple[str, ...]


class StatusReply(_Header, array_like=True, frozen=True, kw_only=True, tag="status_reply"):
    """The service's status document; keys are listed in `docs/ml_service.md`."""

    status: dict[str, Any]


class ModelsReply(_Header, array_like=True, frozen=True, kw_only=True, tag="models_reply"):
    """All versions, newest first, and the champion. `facts` is what the action has to say: decisions, trials, manifests."""

    champion: str
    versions: tuple[dict[str, Any], ...]
    facts: dict[str, Any] = {}


class ErrorReply(_Header, array_like=True, frozen=True, kw_only=True, tag="error"):
    """The request was refused or failed; `code` is an `ErrorCode`."""

    code: str
    message: str


Request = Ping | PredictRequest | TrainRequest | FeedbackRequest | StatusRequest | ModelsRequest
Reply = Pong | PredictReply | TrainReply | FeedbackReply | StatusReply | ModelsReply | ErrorReply

_ENCODER: Final = msgspec.msgpack.Encoder()
_REQUESTS: Final = msgspec.msgpack.Decoder(Request)
_REPLIES: Final = msgspec.msgpack.Decoder(Reply)

_I8, _I4, _F4, _F8 = (np.dtype(code) for code in ("<i8", "<i4", "<f4", "<f8"))
_PAYLOAD: Final = (
    ("ts_event", _I8),
    ("sequence", _I8),
    ("bid_ticks", _I4),
    ("ask_ticks", _I4),
    ("bid_sizes", _F4),
    ("ask_sizes", _F4),
    ("flow", _F4),
)
"""The arrays of the rows in the payload, one whole array behind the other; the bars (`<f8`) follow."""

_FLOW: Final = len(FLOW_COLUMNS)
_ONE_SEGMENT: Final = np.zeros(MAX_WINDOW_ROWS, np.int64)
_ONE_SEGMENT.setflags(write=False)
_ROW_BYTES: Final = 2 * 8 + 4 * LEVELS * 4 + _FLOW * 4
_BAR_BYTES: Final = 8 * len(BAR_COLUMNS)


def encode(message: Request | Reply) -> bytes:
    """Encode one header frame. Never raises for a message of the right types."""
    return _ENCODER.encode(message)


def decode_request(frame: bytes) -> Request:
    """Decode a header frame from a client. Raises `WireError` (DECODE, UNKNOWN_TYPE or UNSUPPORTED_VERSION)."""
    return _decode(_REQUESTS, frame)  # type: ignore[no-any-return]


def decode_reply(frame: bytes) -> Reply:
    """Decode a header frame from a service. Raises `WireError`."""
    return _decode(_REPLIES, frame)  # type: ignore[no-any-return]


def _decode(decoder: msgspec.msgpack.Decoder[Any], frame: bytes) -> Any:
    if len(frame) > MAX_FRAME_BYTES:
        raise WireError(ErrorCode.DECODE, f"header of {len(frame)} bytes, at most {MAX_FRAME_BYTES} allowed")
    try:
        message = decoder.decode(frame)
    except msgspec.ValidationError as exc:
        code = ErrorCode.UNKNOWN_TYPE if str(exc).startswith("Invalid value") else ErrorCode.BAD_FIELD
        raise WireError(code, str(exc)) from exc
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise WireError(ErrorCode.DECODE, str(exc)) from exc
    if message.version != PROTOCOL_VERSION:
        raise WireError(ErrorCode.UNSUPPORTED_VERSION, f"version {message.version}, this side speaks {PROTOCOL_VERSION}")
    return message


def request_id_of(frame: bytes) -> str:
    """Return the request id of a header that may be wrong in every other way, or "". Never raises."""
    if len(frame) > MAX_FRAME_BYTES:
        return ""
    try:
        head = msgspec.msgpack.decode(frame)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError):
        return ""
    is_header = isinstance(head, list) and len(head) >= 3 and isinstance(head[2], str) and len(head[2]) <= 128
    return head[2] if is_header else ""


def check_timeout(timeout_ms: float) -> None:
    """Raise `WireError`: BAD_FIELD for what is no deadline, EXPIRED for one that is over."""
    if not timeout_ms <= MAX_TIMEOUT_MS:  # also NaN
        raise WireError(ErrorCode.BAD_FIELD, f"timeout_ms must be at most {MAX_TIMEOUT_MS:g}, got {timeout_ms}")
    if timeout_ms <= 0:
        raise WireError(ErrorCode.EXPIRED, "the deadline was over when the request was sent")


def check_feedback(items: Iterable[FeedbackItem]) -> None:
    """Raise `WireError` (BAD_FIELD, with the path) for an item whose words or numbers are none that the structure allows."""
    for position, item in enumerate(items):
        wrong = _wrong_feedback_field(item)
        if wrong:
            raise WireError(ErrorCode.BAD_FIELD, f"{wrong} - at `$.items[{position}]`")


def _wrong_feedback_field(item: FeedbackItem) -> str:
    confidence, pnl = item.prediction_confidence, item.pnl
    if item.prediction_flow_type is not None and item.prediction_flow_type not in FlowType.__members__:
        return f"prediction_flow_type must be one of {', '.join(FlowType)} or null"
    if item.trade_outcome is not None and item.trade_outcome not in TradeOutcome.__members__:
        return f"trade_outcome must be one of {', '.join(TradeOutcome)} or null"
    if confidence is not None and not 0 <= confidence <= 1:
        return "prediction_confidence must be 0 to 1 or null"
    numbers = [*item.market_data_snapshot.values(), *item.dom_data_snapshot.values(), *item.markouts_ticks.values(), pnl]
    if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
        return "numbers must be finite"
    whole = [number for number in numbers if isinstance(number, int)]
    if not all(-(1 << 63) <= number < 1 << 63 for number in [*whole, item.ts_event, item.as_of_sequence]):
        return "integers must fit into 64 bits"
    return ""


def predict_request(window: Window, *, request_id: str, timeout_ms: float) -> PredictRequest:
    """Describe `window` in a header; its arrays go into the payload frame (`encode_window`)."""
    return PredictRequest(
        version=PROTOCOL_VERSION,
        request_id=request_id,
        timeout_ms=timeout_ms,
        instrument_id=window.instrument_id,
        tick_size=window.tick_size,
        has_trades=window.has_trades,
        schema_hash=ROW_SCHEMA_HASH,
        row_count=len(window.rows),
        bar_count=len(window.bars),
    )


def encode_window(window: Window) -> bytes:
    """Copy the arrays of `window` into one payload frame (244 B a row with its flow, 48 B a bar)."""
    rows = window.rows
    # `join` takes the memory of the arrays as it is: each byte is copied once.
    parts = [np.ascontiguousarray(getattr(rows, name), dtype).data for name, dtype in _PAYLOAD]
    return b"".join([*parts, np.ascontiguousarray(window.bars, _F8).data])


def decode_window(request: PredictRequest, payload: bytes, find: FindFault | None = None) -> Window:
    """Rebuild the window of `request` on top of `payload`, without a copy. `find` stands in for `find_fault`.

    Raises `WireError` before any array is made when counts or lengths do not fit, and after it when numbers are not
    finite, times run backwards, levels are unsorted or a book is crossed.
    """
    _check_counts(request, len(payload))
    count = request.row_count
    # Arrays of one type lie together, so that a handful of views and passes is enough: this is on every request's way.
    times: Int64Array = np.ndarray((2, count), _I8, payload)
    ticks: Int32Array = np.ndarray((2, count, LEVELS), _I4, payload, times.nbytes)
    floats: Float32Array = np.ndarray((2 * LEVELS + _FLOW) * count, _F4, payload, times.nbytes + ticks.nbytes)
    sizes = floats[: 2 * count * LEVELS].reshape(2, count, LEVELS)
    bars: Float64Array = np.ndarray((request.bar_count, len(BAR_COLUMNS)), _F8, payload, times.nbytes + ticks.nbytes + floats.nbytes)
    _refuse(find(payload, count, request.bar_count) if find else find_fault(times, ticks, sizes, floats, bars))
    return Window(
        instrument_id=request.instrument_id,
        tick_size=request.tick_size,
        has_trades=request.has_trades,
        rows=Rows(
            ts_event=times[0],
            sequence=times[1],
            segment=_ONE_SEGMENT[:count],
            bid_ticks=ticks[0],
            ask_ticks=ticks[1],
            bid_sizes=sizes[0],
            ask_sizes=sizes[1],
            flow=floats[2 * count * LEVELS :].reshape(count, _FLOW),
        ),
        bars=bars,
    )


def _check_counts(request: PredictRequest, payload_bytes: int) -> None:
    if request.schema_hash != ROW_SCHEMA_HASH:
        raise WireError(ErrorCode.SCHEMA_MISMATCH, f"rows of schema {request.schema_hash}, this side has {ROW_SCHEMA_HASH}")
    if not 1 <= request.row_count <= MAX_WINDOW_ROWS:
        raise WireError(ErrorCode.BAD_FIELD, f"row_count must be 1 to {MAX_WINDOW_ROWS}, got {request.row_count}")
    if not 0 <= request.bar_count <= MAX_BARS:
        raise WireError(ErrorCode.BAD_FIELD, f"bar_count must be 0 to {MAX_BARS}, got {request.bar_count}")
    if not (math.isfinite(request.tick_size) and request.tick_size > 0):
        raise WireError(ErrorCode.BAD_FIELD, f"tick_size must be finite and positive, got {request.tick_size}")
    expected = request.row_count * _ROW_BYTES + request.bar_count * _BAR_BYTES
    if payload_bytes != expected:
        raise WireError(ErrorCode.BAD_FIELD, f"payload must have {expected} bytes, got {payload_bytes}")


def check_rows(rows: Rows, bars: Float64Array) -> None:
    """Raise `WireError` (BAD_FIELD) for numbers that are not finite, times that run backwards, levels unsorted or crossed."""
    sizes = np.stack((rows.bid_sizes, rows.ask_sizes))
    ticks = np.stack((rows.bid_ticks, rows.ask_ticks))
    _refuse(find_fault(np.stack((rows.ts_event, rows.sequence)), ticks, sizes, np.append(sizes, rows.flow), bars.ravel()))


FAULTS: Final = (
    "",
    "sizes, flow and bars must be finite",
    "ts_event and sequence must not run backwards",
    "sizes must not be negative",
    "levels must be sorted, best first, without gaps",
    "best bid must be below best ask",
)

FindFault = Callable[[bytes, int, int], int]
"""`find_fault` on a payload and its numbers of rows and bars."""


def find_fault(times: Int64Array, ticks: Int32Array, sizes: Float32Array, floats: Float32Array, bars: Float64Array) -> int:
    """Return the number in `FAULTS` of the first fault, 0 for none.

    Takes (2, n) times (ts_event, sequence), (2, n, 10) ticks and sizes (bid, ask), all floats of the rows and of the bars.
    """
    if not (_all(np.isfinite(floats)) and _all(np.isfinite(bars))):
        return 1
    if times[0, 0] < 0 or not _all(times[:, 1:] >= times[:, :-1]):
        return 2
    smallest = sizes.min()
    if smallest < 0:
        return 3
    bids_fall, asks_rise = ticks[0, :, 1:] < ticks[0, :, :-1], ticks[1, :, 1:] > ticks[1, :, :-1]
    is_open = ticks[0, :, 0] < ticks[1, :, 0]
    if smallest == 0:  # some levels are missing: allowed behind the others only
        present = sizes > 0
        bids_fall, asks_rise = _or_missing(bids_fall, present[0]), _or_missing(asks_rise, present[1])
        is_open |= ~(present[0, :, 0] & present[1, :, 0])
    if not (_all(bids_fall) and _all(asks_rise)):
        return 4
    return 0 if _all(is_open) else 5


def _refuse(fault: int) -> None:
    if fault:
        raise WireError(ErrorCode.BAD_FIELD, FAULTS[fault])


def _or_missing(follows: np.ndarray[Any, Any], present: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(~present[:, 1:] | (follows & present[:, :-1]))


def _all(truths: np.ndarray[Any, Any]) -> bool:
    return int(np.count_nonzero(truths)) == truths.size  # three times as fast as `all`
