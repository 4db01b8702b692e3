"""The log of backtests: who tries often enough on the same recordings finds something, so every try counts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from framework.errors import IntegrityError, StorageError
from framework.operations.state_dir import StateDir

FILE_NAME: Final = "backtests.jsonl"


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One try as it begins, or the Sharpe ratio that it ended with."""

    number: int
    ts: int = 0
    data: list[str] = []
    strategy: str = ""
    sharpe: float | None = None


class TryLog:
    """`backtests.jsonl` in a state directory; lines are only ever appended. Raises `StorageError`: what cannot be counted is not run."""

    def __init__(self, state_dir: Path) -> None:
        self._path = StateDir(state_dir).create().path / FILE_NAME
        self._own = 0

    def begin(self, data: Sequence[str], strategy: str, now_ns: int) -> tuple[int, tuple[float, ...]]:
        """Count a try at these recordings; return how many there were with it, and the Sharpe ratios of those before."""
        lines = self._read()
        self._own = 1 + max((line.number for line in lines), default=0)
        related = {line.number for line in lines if set(line.data) & set(data)}
        self._append(_Line(number=self._own, ts=now_ns, data=list(data), strategy=strategy))
        return len(related) + 1, tuple(line.sharpe for line in lines if line.number in related and line.sharpe is not None)

    def end(self, sharpe: float) -> None:
        """Note what the try found."""
        self._append(_Line(number=self._own, sharpe=sharpe))

    def _read(self) -> list[_Line]:
        try:
            content = self._path.read_bytes() if self._path.exists() else b""
            return [msgspec.json.decode(line, type=_Line) for line in content.splitlines() if line.strip()]
        except OSError as exc:
            raise StorageError(f"{self._path}: cannot be read: {exc.strerror}") from exc
        except msgspec.DecodeError as exc:
            raise IntegrityError(f"{self._path}: a line is not one of ours ({exc}); move the file away to count anew") from exc

    def _append(self, line: _Line) -> None:
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, msgspec.json.encode(line) + b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise StorageError(f"{self._path}: the try cannot be recorded: {exc.strerror}") from exc
