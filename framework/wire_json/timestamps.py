"""Times on the JSON wire: ISO-8601 text, or a number since 1970 whose size tells its unit."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final

from framework.model import NS_PER_S

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT: Final = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_UNITS: Final = ((1e11, NS_PER_S), (1e14, 1_000_000), (1e17, 1_000), (float(1 << 63), 1))
"""Below the first number it is seconds (to the year 5138), then milliseconds, microseconds, nanoseconds (to 2262)."""


def iso_utc(ns: int) -> str:
    """Return `ns` UTC as ISO-8601 with a Z, all nine digits of a second if it has a fraction."""
    seconds, fraction_ns = divmod(ns, NS_PER_S)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction_ns:09d}Z" if fraction_ns else f"{text}Z"


def to_ns(stamp: str | int | float) -> int:
    """Return a time in ns UTC: text in ISO-8601 (UTC if it names no offset), a number in s, ms, us or ns by its size.

    Raises `ValueError` for anything else, and for a time before 1970 or after 2262.
    """
    ns = _text_to_ns(stamp) if isinstance(stamp, str) else _number_to_ns(stamp)
    if not 0 <= ns < 1 << 63:
        raise ValueError("a time must lie between 1970 and 2262")
    return ns


def _text_to_ns(text: str) -> int:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError("not an ISO-8601 time")
    whole, fraction, offset = match.groups()
    passed = datetime.fromisoformat(whole + (offset or "Z")) - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * NS_PER_S + int((fraction or "0").ljust(9, "0"))


def _number_to_ns(number: int | float) -> int:
    if not math.isfinite(number) or number < 0:
        raise ValueError("a time must lie between 1970 and 2262")
    scale = next((scale for limit, scale in _UNITS if number < limit), 0)
    if not scale:
        raise ValueError("a time must lie between 1970 and 2262")
    whole = int(number)
    return whole * scale + round((number - whole) * scale)
