"""The ML protocol as JSON: the mission's request and feedback structures exactly as written, for a client in any language.

One frame that starts with `{`. The same structs as `framework.wire` come out of it and go into it, so the service knows no
difference. Reading costs milliseconds where the binary form costs microseconds. The specification is `docs/wire.md`.
"""

from __future__ import annotations

from framework.wire_json.messages import (
    JsonRequest,
    decode_reply,
    decode_request,
    encode_predict,
    encode_reply,
    encode_request,
    is_json,
    request_id_of,
    with_id,
)
from framework.wire_json.timestamps import iso_utc, to_ns

__all__ = [
    "JsonRequest",
    "decode_reply",
    "decode_request",
    "encode_predict",
    "encode_reply",
    "encode_request",
    "is_json",
    "iso_utc",
    "request_id_of",
    "to_ns",
    "with_id",
]
