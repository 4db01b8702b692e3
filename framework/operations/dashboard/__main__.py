"""The drawing process: frames of JSON on stdin, a screen on stdout; ends when stdin does or the terminal is gone."""

from __future__ import annotations

import os
import signal
import sys
from typing import TextIO

import msgspec
from rich.console import Console
from rich.live import Live

from framework.operations.dashboard.snapshot import DashboardSnapshot
from framework.operations.dashboard.view import render


def draw(frames: TextIO, console: Console) -> None:
    """Draw each line of `frames` until they end. Lines that are no frame are skipped."""
    decoder = msgspec.json.Decoder(DashboardSnapshot)
    with Live(console=console, screen=console.is_terminal, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        for line in frames:
            try:
                snapshot = decoder.decode(line)
            except msgspec.DecodeError:
                continue
            live.update(render(snapshot, console.width, console.height), refresh=True)


def main() -> None:
    """Draw stdin on stdout. Ctrl-C is the trading process's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        draw(sys.stdin, Console())
    except OSError:
        os._exit(0)  # the terminal is gone: nothing can be flushed or restored, and nobody reads a traceback


if __name__ == "__main__":
    main()
