"""Requests and answers as JSON objects, by the names of their fields; predictions and errors in the mission's shape."""

from __future__ import annotations

import hashlib
import math
from typing import Any, Final, get_args

import msgspec

from framework import wire
from framework.errors import ErrorCode, WireError
from framework.messages import HorizonPrediction
from framework.model import FlowType
from framework.window import Window
from framework.wire import PROTOCOL_VERSION, FeedbackItem, FeedbackRequest, PredictReply, Reply, Request
from framework.wire_json.timestamps import iso_utc
from framework.wire_json.windows import PredictBody, to_body, to_window

SIGNALS: Final = {-1: "sell", 0: "hold", 1: "buy"}


class JsonRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request and, for a predict, the window that came with it."""

    request: Request
    window: Window | None = None


# --- the service's side ----------------------------------------------------------------------------------------------


def is_json(frame: bytes) -> bool:
    """Return whether a frame claims to be JSON: an object, with or without white space before it (no binary header starts so)."""
    return frame[:64].lstrip()[:1] == b"{"


def decode_request(frame: bytes) -> JsonRequest:
    """Decode the mission's structures, or an object with a `type`. Raises `WireError`; its message names the path."""
    fields = _object(frame)
    kind = _kind(fields)
    if fields.get("version", PROTOCOL_VERSION) != PROTOCOL_VERSION:
        raise WireError(ErrorCode.UNSUPPORTED_VERSION, f"version {fields['version']!r}, this side speaks {PROTOCOL_VERSION}")
    fields.setdefault("request_id", "")
    if kind == "predict":
        return _predict(fields)
    if kind == "feedback":
        return JsonRequest(request=_feedback(fields))
    if kind == "train":
        fields.setdefault("reason", "asked for by a client")
    elif kind == "models":
        fields.setdefault("action", "list")
    return JsonRequest(request=_convert_message(kind, fields, Request))


def request_id_of(frame: bytes) -> str:
    """Return the request id of an object that may be wrong in every other way, or "". Never raises."""
    try:
        request_id = _object(frame).get("request_id", "")
    except WireError:
        return ""
    return request_id if isinstance(request_id, str) and len(request_id) <= 128 else ""


def encode_reply(reply: Reply) -> bytes:
    """Encode an answer as one object; `type` names it."""
    fields = _fields(reply)
    if isinstance(reply, PredictReply):
        fields = _prediction_object(reply)
    elif isinstance(reply, wire.ErrorReply):
        fields = {"type": "error", "request_id": reply.request_id, "error": {"code": reply.code, "message": reply.message}}
    return msgspec.json.encode(fields)


def with_id(item: FeedbackItem) -> FeedbackItem:
    """Return an item with an id: its own, or a digest of what it says, so that the same item is the same feedback."""
    if item.feedback_id:
        return item
    content = msgspec.json.encode(item, order="deterministic")
    return msgspec.structs.replace(item, feedback_id="sha256-" + hashlib.sha256(content).hexdigest()[:32])


# --- the client's side -----------------------------------------------------------------------------------------------


def encode_predict(window: Window, *, request_id: str, timeout_ms: float) -> bytes:
    """Encode a window as the mission's request (`windows.to_body`)."""
    return msgspec.json.encode(to_body(window, request_id=request_id, timeout_ms=timeout_ms))


def encode_request(request: Request) -> bytes:
    """Encode any request but a predict, whose window `encode_predict` needs."""
    return msgspec.json.encode(_fields(request))


def decode_reply(frame: bytes) -> Reply:
    """Decode an answer. Raises `WireError`."""
    fields = _object(frame)
    kind = fields.get("type")
    if kind == "prediction":
        fields = _flat_prediction(fields)
    elif kind == "error":
        error = fields.get("error")
        fields |= error if isinstance(error, dict) else {}
    return _convert_message(kind, fields, Reply)  # type: ignore[no-any-return]


# --- messages as objects ---------------------------------------------------------------------------------------------


def _message_fields(union: Any) -> dict[str, tuple[str, ...]]:
    return {message.__struct_config__.tag: message.__struct_fields__ for message in get_args(union)}


_FIELD_NAMES: Final = _message_fields(Request) | _message_fields(Reply)


def _fields(message: Request | Reply) -> dict[str, Any]:
    tag, _, *values = msgspec.to_builtins(message)
    return dict(zip(("type", *message.__struct_fields__[1:]), (tag, *values), strict=True))


def _convert_message(kind: Any, fields: dict[str, Any], union: Any) -> Any:
    """Build the struct from its fields by name; trailing ones may be missing where they have a default."""
    if not isinstance(kind, str) or kind not in _FIELD_NAMES:
        raise WireError(ErrorCode.UNKNOWN_TYPE, f"unknown type {str(kind)[:40]!r}")
    values: list[Any] = [kind, PROTOCOL_VERSION]
    for name in _FIELD_NAMES[kind][1:]:
        if name not in fields:
            break
        values.append(fields[name])
    return _convert(values, union)


def _convert(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, OverflowError, RecursionError) as exc:
        raise WireError(ErrorCode.BAD_FIELD, str(exc)) from exc


def _object(frame: bytes) -> dict[str, Any]:
    if len(frame) > wire.MAX_FRAME_BYTES:
        raise WireError(ErrorCode.DECODE, f"frame of {len(frame)} bytes, at most {wire.MAX_FRAME_BYTES} allowed")
    try:
        fields = msgspec.json.decode(frame)
    except (msgspec.DecodeError, RecursionError, UnicodeError, ValueError) as exc:
        raise WireError(ErrorCode.DECODE, str(exc)) from exc
    if not isinstance(fields, dict):
        raise WireError(ErrorCode.DECODE, "the frame must hold one JSON object")
    return fields


def _kind(fields: dict[str, Any]) -> Any:
    if "type" in fields:
        return fields["type"]
    if "order_book" in fields or "market_data" in fields:
        return "predict"
    if "trade_executed" in fields or "prediction_flow_type" in fields:
        return "feedback"
    raise WireError(ErrorCode.UNKNOWN_TYPE, "found neither `type` nor the keys of a prediction request or of feedback")


# --- feedback --------------------------------------------------------------------------------------------------------


def _feedback(fields: dict[str, Any]) -> FeedbackRequest:
    request_id = _convert(fields["request_id"], wire.Id)
    items = fields.get("items", [fields])
    request: FeedbackRequest = _convert(["feedback", PROTOCOL_VERSION, request_id, items], FeedbackRequest)
    wire.check_feedback(request.items)
    return msgspec.structs.replace(request, items=tuple(map(with_id, request.items)))


# --- predictions -----------------------------------------------------------------------------------------------------


def _predict(fields: dict[str, Any]) -> JsonRequest:
    body: PredictBody = _convert(fields, PredictBody)
    request_id = _convert(fields["request_id"], wire.Id)
    if not math.isfinite(body.timeout):
        raise WireError(ErrorCode.BAD_FIELD, "must be finite - at `$.timeout`")
    wire.check_timeout(body.timeout * 1e3)
    window = to_window(body)
    request = wire.predict_request(window, request_id=request_id, timeout_ms=body.timeout * 1e3)
    return JsonRequest(request=request, window=window)


def _prediction_object(reply: PredictReply) -> dict[str, Any]:
    direction = FlowType(reply.flow_type).direction
    return {
        "type": "prediction",
        "request_id": reply.request_id,
        "instrument_id": reply.instrument_id,
        "prediction_flow_type": reply.flow_type,
        "prediction_confidence": reply.confidence,
        "signal": SIGNALS[direction],
        "probabilities": {"down": reply.p_down, "flat": reply.p_flat, "up": reply.p_up},
        "model_version": reply.model_version,
        "as_of": iso_utc(reply.as_of_ns),
        "as_of_ns": reply.as_of_ns,
        "as_of_sequence": reply.as_of_sequence,
        "is_calibrated": reply.is_calibrated,
        "horizon_rows": reply.horizon_rows,
        "regime": reply.regime,
        "shock_score": reply.shock_score,
        "compute_us": reply.compute_us,
        **({"horizons": [_horizon_object(one) for one in reply.horizons]} if reply.horizons else {}),
        **({"wants_training": reply.wants_training} if reply.wants_training else {}),
    }


def _horizon_object(one: HorizonPrediction) -> dict[str, Any]:
    return {
        "horizon_rows": one.horizon_rows,
        "prediction_flow_type": one.flow_type,
        "prediction_confidence": one.confidence,
        "signal": SIGNALS[one.flow_type.direction],
        "probabilities": {"down": one.p_down, "flat": one.p_flat, "up": one.p_up},
    }


def _flat_prediction(fields: dict[str, Any]) -> dict[str, Any]:
    further = fields.get("horizons", [])
    if isinstance(further, list):
        further = [_flat_horizon(one) if isinstance(one, dict) else one for one in further]
    return {"wants_training": "", **fields, **_flat_claim(fields), "horizons": further}


def _flat_claim(fields: dict[str, Any]) -> dict[str, Any]:
    probabilities = fields.get("probabilities")
    probabilities = probabilities if isinstance(probabilities, dict) else {}
    return {
        "flow_type": fields.get("prediction_flow_type"),
        "confidence": fields.get("prediction_confidence"),
        "p_down": probabilities.get("down"),
        "p_flat": probabilities.get("flat"),
        "p_up": probabilities.get("up"),
    }


def _flat_horizon(fields: dict[str, Any]) -> list[Any]:
    claim = {**fields, **_flat_claim(fields)}
    return [claim.get(name) for name in HorizonPrediction.__struct_fields__]
