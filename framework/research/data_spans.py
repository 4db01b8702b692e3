"""Times that people write on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

from framework.errors import ConfigError
from framework.logs import foreign
from framework.market.catalogue.reading import Span
from framework.model import NS_PER_S


def read_span(begin: str | None, end: str | None) -> Span:
    """Return the span from `begin` to `end`, ISO times (UTC unless they say otherwise). Raises `ConfigError`."""
    span = Span(begin_ns=_read_time("--from", begin), end_ns=_read_time("--to", end))
    if span.begin_ns is not None and span.end_ns is not None and span.begin_ns >= span.end_ns:
        raise ConfigError("--from: found a time that is not before --to; allowed an earlier one")
    return span


def _read_time(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ConfigError(f"{option}: found {foreign(text, 60)}; allowed an ISO time, for example 2023-12-25T23:10") from exc
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1_000_000) * (NS_PER_S // 1_000_000)
