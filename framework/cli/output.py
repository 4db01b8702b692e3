"""What the verbs say: tables or JSON on stdout, complaints on stderr. A reader that went away changes no exit code."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO

import msgspec
from rich.console import Console, RenderableType

from framework.logs import escape


class _PatientConsole(Console):
    """A console that goes on silently when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Write to nowhere from now on."""
        _to_nowhere(sys.stdout)


def say(renderable: RenderableType) -> None:
    """Print for people."""
    _PatientConsole().print(renderable, markup=False, highlight=False)
    _flush()


def say_json(value: Any) -> None:
    """Print one line of JSON for scripts."""
    try:
        sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    except BrokenPipeError:
        _to_nowhere(sys.stdout)
    _flush()


def say_line(text: str) -> bool:
    """Print one line at once; return whether somebody may still read."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError:
        _to_nowhere(sys.stdout)
        return False
    return True


def complain(text: str) -> None:
    """Print each line of `text` on stderr as `error: ...`, escaped."""
    try:
        for line in text.splitlines() or [""]:
            sys.stderr.write(f"error: {escape(line)}\n")
        sys.stderr.flush()
    except OSError:
        _to_nowhere(sys.stderr)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _to_nowhere(sys.stdout)


def _to_nowhere(stream: TextIO) -> None:
    """Point a stream at /dev/null, so that the interpreter's last flush finds a reader too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
