"""One line per record: `2024-01-15 10:30:15 | INFO | YourFuturesStrategy | message`, safe to read in a terminal.

The time is market time where a clock is handed in (replays, simulations), else the wall time of the record, both UTC.
Text from outside is escaped and cut, so no venue, file or reply can forge a line or move the cursor.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final, TextIO

from framework.model import NS_PER_S

MAX_FOREIGN: Final = 200
MAX_LINE: Final = 4_000
MAX_FILE_BYTES: Final = 20_000_000
FILES_KEPT: Final = 3

_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def escape(text: str) -> str:
    r"""Return `text` on one line: control, direction and surrogate characters become `\x1b` or `\u202e`."""
    return _UNSAFE.sub(lambda match: _escaped(ord(match.group())), text)


def foreign(text: str, limit: int = MAX_FOREIGN) -> str:
    """Return text from outside, escaped and cut after `limit` characters (the cut says how much is missing)."""
    if len(text) <= limit:
        return escape(text)
    return f"{escape(text[:limit])}... ({len(text) - limit} more)"


def _escaped(code: int) -> str:
    return {10: "\\n", 13: "\\r", 9: "\\t"}.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


class LineFormatter(logging.Formatter):
    """Format records as lines. `now_ns` is the market time, ns UTC; None means the wall time of the record.

    Arguments that are texts or exceptions count as foreign. Lines of a traceback are indented, each escaped.
    """

    def __init__(self, now_ns: Callable[[], int] | None = None) -> None:
        super().__init__()
        self._now_ns = now_ns
        self._second = -1
        self._stamp = ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by those of the exception if the record has one. Never raises for a bad argument."""
        second = int(record.created) if self._now_ns is None else self._now_ns() // NS_PER_S
        if second != self._second:
            self._second, self._stamp = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")
        line = f"{self._stamp} | {record.levelname} | {foreign(record.name)} | {foreign(_message(record), MAX_LINE)}"
        if not record.exc_info:
            return line
        traceback = self.formatException(record.exc_info).splitlines()
        return "\n".join([line, *(f"    {foreign(part, MAX_LINE)}" for part in traceback)])


def _message(record: logging.LogRecord) -> str:
    try:
        return str(record.msg) % _arguments(record.args) if record.args else str(record.msg)
    except (TypeError, ValueError, KeyError) as exc:
        return f"{record.msg} (its arguments do not fit: {exc})"


def _arguments(arguments: Any) -> Any:
    if isinstance(arguments, Mapping):
        return {key: _argument(value) for key, value in arguments.items()}
    return tuple(_argument(value) for value in arguments)


def _argument(value: Any) -> Any:
    return foreign(str(value)) if isinstance(value, str | BaseException) else value


class LogRing(logging.Handler):
    """The last `size` lines, for a view."""

    def __init__(self, size: int = 200) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=size)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line, drop the oldest."""
        self._lines.append(self.format(record))

    def tail(self, count: int) -> tuple[str, ...]:
        """Return the last `count` lines, oldest first."""
        return tuple(self._lines)[-count:] if count > 0 else ()


class QuietStreamHandler(logging.StreamHandler[TextIO]):
    """Write to a stream; a reader that went away costs lines, never a traceback. `lost` counts them."""

    lost = 0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002 (logging's signature)
        """Count the line."""
        self.lost += 1


class QuietFileHandler(RotatingFileHandler):
    """Write to a file that rotates at `MAX_FILE_BYTES`; a full disk costs lines, never a traceback. `lost` counts them."""

    lost = 0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002 (logging's signature)
        """Count the line."""
        self.lost += 1


def setup_logging(
    *,
    level: int | str,
    stream: TextIO | None,
    file: Path | None = None,
    now_ns: Callable[[], int] | None = None,
    ring: LogRing | None = None,
) -> None:
    """Send every record of this process to `stream`, `file` and `ring`, whichever is given.

    Replaces what an earlier call set up. One process per file: rotation is not shared. Raises `OSError` if `file` cannot be opened.
    """
    handlers: list[logging.Handler] = [QuietStreamHandler(stream)] if stream is not None else []
    if file is not None:
        handlers.append(
            QuietFileHandler(file, maxBytes=MAX_FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8", errors="backslashreplace")
        )
    if ring is not None:
        handlers.append(ring)
    reset_logging()
    formatter = LineFormatter(now_ns)
    root = logging.getLogger()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
        _INSTALLED.append(handler)
    _LEVEL_BEFORE.append(root.level)
    root.setLevel(level)


def reset_logging() -> None:
    """Remove and close what `setup_logging` installed, and bring the level of before back."""
    root = logging.getLogger()
    while _LEVEL_BEFORE:
        root.setLevel(_LEVEL_BEFORE.pop())
    while _INSTALLED:
        handler = _INSTALLED.pop()
        root.removeHandler(handler)
        handler.close()


_INSTALLED: Final[list[logging.Handler]] = []
_LEVEL_BEFORE: Final[list[int]] = []
