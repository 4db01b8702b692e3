"""The ML protocol: message structs and their two encodings, without sockets.

Frames after the empty delimiter: *binary* is `[header]` or `[header, payload]`, the header a msgpack array that starts
with its type, the payload the arrays of a window one behind the other, little endian; *JSON* is one frame that starts
with `{`, the mission's structures as written. The specification is `docs/wire.md`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from framework.errors import ErrorCode, WireError
from framework.window import BAR_COLUMNS, FLOW_COLUMNS, LEVELS, ROW_SCHEMA_HASH, Rows, Window

PROTOCOL_VERSION: Final = 1
MAX_FRAME_BYTES: Final = 1 << 20
MAX_WINDOW_ROWS: Final = 2_000
MAX_BARS: Final = 1_000
MAX_LEVELS_JSON: Final = 1_000


class _Header(msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag_field="type"):
    """Common head: protocol version and the id that the answer repeats."""

    version: int
    request_id: str


class Ping(_Header, array_like=True, frozen=True, kw_only=True, tag="ping"):
    """Is the service alive? Answered by `Pong` from the loop that predicts."""


class PredictRequest(_Header, array_like=True, frozen=True, kw_only=True, tag="predict"):
    """Predict from the window in the payload frame. `timeout_ms` is what is left of the deadline at sending."""

    timeout_ms: float
    instrument_id: str
    tick_size: float
    has_trades: bool
    schema_hash: str
    row_count: int
    bar_count: int


class TrainRequest(_Header, array_like=True, frozen=True, kw_only=True, tag="train"):
    """Start a training on the service's dataset directory; `reason` is kept with the version."""

    reason: str


class FeedbackRequest(_Header, array_like=True, frozen=True, kw_only=True, tag="feedback"):
    """Store a batch; each item is the mission's structure plus `feedback_id`, markouts and ids (`FeedbackItem`)."""

    items: tuple[FeedbackItem, ...]


class StatusRequest(_Header, array_like=True, frozen=True, kw_only=True, tag="status"):
    """What does the service serve, count and train?"""


class ModelsRequest(_Header, array_like=True, frozen=True, kw_only=True, tag="models"):
    """List versions, or promote / roll back. `action` is `list`, `promote` or `rollback`."""

    action: str
    version_id: str = ""


class FeedbackItem(msgspec.Struct, frozen=True, kw_only=True):
    """One decision and its outcome, in the mission's names; the optional fields are ours."""

    timestamp: str
    prediction_flow_type: str | None
    prediction_confidence: float | None
    trade_executed: bool
    trade_outcome: str | None
    market_data_snapshot: dict[str, Any]
    dom_data_snapshot: dict[str, Any]
    feedback_id: str = ""
    decision_id: str = ""
    prediction_id: str = ""
    strategy_id: str = ""
    instrument_id: str = ""
    model_version: str = ""
    ts_event: int = 0
    as_of_sequence: int = 0
    action: str = ""
    reason: str = ""
    pnl: float | None = None
    markouts_ticks: dict[str, float] = {}


class Pong(_Header, array_like=True, frozen=True, kw_only=True, tag="pong"):
    """Alive. `state` is `NO_MODEL`, `SERVING` or `TRAINING`; the rest says what it serves and how busy it is."""

    state: str
    model_version: str
    is_training: bool
    predictions: int
    trainings: int


class PredictReply(_Header, array_like=True, frozen=True, kw_only=True, tag="prediction"):
    """Probabilities over the next `horizon_rows` rows, flow type, confidence, and what stood behind them."""

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
    """All versions, newest first, and the champion."""

    champion: str
    versions: tuple[dict[str, Any], ...]


class ErrorReply(_Header, array_like=True, frozen=True, kw_only=True, tag="error"):
    """The request was refused or failed; `code` is an `ErrorCode`."""

    code: str
    message: str


Request = Ping | PredictRequest | TrainRequest | FeedbackRequest | StatusRequest | ModelsRequest
Reply = Pong | PredictReply | TrainReply | FeedbackReply | StatusReply | ModelsReply | ErrorReply

_ENCODER: Final = msgspec.msgpack.Encoder()
_REQUESTS: Final = msgspec.msgpack.Decoder(Request)
_REPLIES: Final = msgspec.msgpack.Decoder(Reply)

_ROW_LAYOUT: Final = (
    ("ts_event", np.dtype("<i8"), 1),
    ("sequence", np.dtype("<i8"), 1),
    ("bid_ticks", np.dtype("<i4"), LEVELS),
    ("bid_sizes", np.dtype("<f4"), LEVELS),
    ("ask_ticks", np.dtype("<i4"), LEVELS),
    ("ask_sizes", np.dtype("<f4"), LEVELS),
    ("flow", np.dtype("<f4"), len(FLOW_COLUMNS)),
)
_ROW_BYTES: Final = sum(dtype.itemsize * width for _, dtype, width in _ROW_LAYOUT)
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
        code = ErrorCode.UNKNOWN_TYPE if "Invalid value" in str(exc) else ErrorCode.BAD_FIELD
        raise WireError(code, str(exc)) from exc
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise WireError(ErrorCode.DECODE, str(exc)) from exc
    if message.version != PROTOCOL_VERSION:
        raise WireError(ErrorCode.UNSUPPORTED_VERSION, f"version {message.version}, this side speaks {PROTOCOL_VERSION}")
    return message


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
    parts = [np.ascontiguousarray(getattr(rows, name), dtype).tobytes() for name, dtype, _ in _ROW_LAYOUT]
    parts.append(np.ascontiguousarray(window.bars, "<f8").tobytes())
    return b"".join(parts)


def decode_window(request: PredictRequest, payload: bytes) -> Window:
    """Rebuild the window of `request` on top of `payload`, without a copy.

    Raises `WireError` before any array is made when counts or lengths do not fit, and after it when numbers are not
    finite, times run backwards or a book is crossed.
    """
    _check_counts(request, len(payload))
    arrays: dict[str, Any] = {}
    offset = 0
    for name, dtype, width in _ROW_LAYOUT:
        count = request.row_count * width
        flat = np.frombuffer(payload, dtype, count, offset)
        arrays[name] = flat.reshape(request.row_count, width) if width > 1 else flat
        offset += flat.nbytes
    bars = np.frombuffer(payload, "<f8", request.bar_count * len(BAR_COLUMNS), offset)
    rows = Rows(segment=np.zeros(request.row_count, np.int64), **arrays)
    _check_values(rows, bars)
    return Window(
        instrument_id=request.instrument_id,
        tick_size=request.tick_size,
        has_trades=request.has_trades,
        rows=rows,
        bars=bars.reshape(request.bar_count, len(BAR_COLUMNS)),
    )


def _check_counts(request: PredictRequest, payload_bytes: int) -> None:
    if request.schema_hash != ROW_SCHEMA_HASH:
        raise WireError(ErrorCode.SCHEMA_MISMATCH, f"rows of schema {request.schema_hash}, this side has {ROW_SCHEMA_HASH}")
    if not 1 <= request.row_count <= MAX_WINDOW_ROWS:
        raise WireError(ErrorCode.BAD_FIELD, f"row_count must be 1 to {MAX_WINDOW_ROWS}, got {request.row_count}")
    if not 0 <= request.bar_count <= MAX_BARS:
        raise WireError(ErrorCode.BAD_FIELD, f"bar_count must be 0 to {MAX_BARS}, got {request.bar_count}")
    if not (np.isfinite(request.tick_size) and request.tick_size > 0):
        raise WireError(ErrorCode.BAD_FIELD, f"tick_size must be finite and positive, got {request.tick_size}")
    expected = request.row_count * _ROW_BYTES + request.bar_count * _BAR_BYTES
    if payload_bytes != expected:
        raise WireError(ErrorCode.BAD_FIELD, f"payload must have {expected} bytes, got {payload_bytes}")


def _check_values(rows: Rows, bars: np.ndarray[Any, Any]) -> None:
    sizes_are_sound = np.isfinite(rows.bid_sizes).all() and np.isfinite(rows.ask_sizes).all()
    if not (sizes_are_sound and rows.bid_sizes.min() >= 0 and rows.ask_sizes.min() >= 0):
        raise WireError(ErrorCode.BAD_FIELD, "sizes must be finite and not negative")
    if not (np.isfinite(rows.flow).all() and np.isfinite(bars).all()):
        raise WireError(ErrorCode.BAD_FIELD, "flow and bars must be finite")
    if (np.diff(rows.ts_event) < 0).any() or (np.diff(rows.sequence) < 0).any():
        raise WireError(ErrorCode.BAD_FIELD, "ts_event and sequence must not run backwards")
    two_sided = (rows.bid_sizes[:, 0] > 0) & (rows.ask_sizes[:, 0] > 0)
    if (rows.bid_ticks[two_sided, 0] >= rows.ask_ticks[two_sided, 0]).any():
        raise WireError(ErrorCode.BAD_FIELD, "best bid must be below best ask")
