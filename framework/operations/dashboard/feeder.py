"""The trading side of the live view: starts the drawing process and feeds it frames without ever waiting."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final, TextIO

import msgspec

from framework.kernel.spawn import finding_us
from framework.operations.dashboard.snapshot import DashboardSnapshot

MIN_COLUMNS: Final = 40
MIN_ROWS: Final = 8
_RESTORE_SCREEN: Final = "\x1b[?1049l\x1b[?25h"


def can_show(stream: TextIO | None) -> bool:
    """Return whether `stream` is a terminal that can move its cursor and has room for the view."""
    try:
        if stream is None or not stream.isatty() or os.environ.get("TERM", "dumb") in {"", "dumb"}:
            return False
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return False
    return size.columns >= MIN_COLUMNS and size.lines >= MIN_ROWS


class Dashboard:
    """The live view. `dropped` counts frames that the view was too slow for."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._unsent = b""
        self._encode = msgspec.json.Encoder().encode
        self.dropped = 0

    @property
    def is_alive(self) -> bool:
        """Return whether somebody draws."""
        return self._pipe >= 0

    def start(self) -> None:
        """Start the drawing process on this terminal. Takes a few ms; raises `OSError` if there can be no process."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            argv = [sys.executable, "-m", "framework.operations.dashboard"]
            self._child = subprocess.Popen(argv, stdin=read_end, env=finding_us(os.environ))
        except OSError:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
        os.set_blocking(write_end, False)
        self._pipe = write_end

    def show(self, snapshot: DashboardSnapshot) -> bool:
        """Hand over a frame; return False if it was dropped. Never waits."""
        if not self.is_alive:
            return False
        self._flush()
        if self._unsent:
            self.dropped += 1
            return False
        self._unsent = self._encode(snapshot) + b"\n"
        self._flush()
        return self.is_alive

    def stop(self, timeout_s: float = 2.0) -> None:
        """End the view and give the terminal back. Waits for at most `timeout_s`, then kills it."""
        self._close_pipe()
        if self._child is None:
            return
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
            sys.stdout.write(_RESTORE_SCREEN)
        self._child = None

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._pipe, self._unsent) :]
        except BlockingIOError:
            return
        except OSError:  # the view is gone (a closed terminal); the run goes on without it
            self._close_pipe()

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe, self._unsent = -1, b""
