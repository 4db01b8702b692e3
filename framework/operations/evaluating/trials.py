"""The log of tries: who looks at a test often enough finds something in it, so every look is counted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.errors import IntegrityError, StorageError
from framework.evaluation_job import Trials
from framework.operations.state_dir import StateDir

FILE_NAME: Final = "trials.jsonl"


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One try as it begins (`test`, `label`, `model`, `ts`), or its Sharpe ratios by horizon when it has ended (`sharpes`).

    A try that was refused is void.
    """

    trial: int
    ts: int = 0
    test: list[str] = []
    label: str = ""
    model: str = ""
    sharpes: dict[str, float | None] = {}
    is_void: bool = False


class TrialLog:
    """`trials.jsonl` in a state directory: lines are only ever appended, each by one write that is on disk before it counts.

    Raises `StorageError` if the directory does not take a line: a try that cannot be counted is not made.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = StateDir(state_dir).create().path / FILE_NAME
        self._lines: list[_Line] = []

    def begin(self, test: Sequence[str], *, label: str, model: str, now_ns: int) -> int:
        """Count a try at the recordings with these digests; return its number in the log."""
        self._lines = self._read()
        number = 1 + max((line.trial for line in self._lines), default=0)
        begun = _Line(trial=number, ts=now_ns, test=list(test), label=label, model=model)
        self._append(begun)
        self._lines.append(begun)
        return number

    def end(self, number: int, report: dict[str, Any]) -> None:
        """Note what the try found."""
        horizons = report["horizons"].items()
        self._append(_Line(trial=number, sharpes={horizon: scored["deflated"]["gain"]["sharpe"] for horizon, scored in horizons}))

    def void(self, number: int) -> None:
        """Take back a try that was refused before it showed anything."""
        self._append(_Line(trial=number, is_void=True))

    def before(self, number: int) -> Trials:
        """Return how many tries at any of the recordings of try `number` there were up to it, and what those before it found."""
        own = next(line for line in self._lines if line.trial == number and line.test)
        void = {line.trial for line in self._lines if line.is_void}
        alike = [line for line in self._lines if set(line.test) & set(own.test) and line.label == own.label]
        related = {line.trial for line in alike if line.trial <= number} - void
        sharpes: dict[str, list[float]] = {}
        for line in self._lines:
            for horizon, ratio in line.sharpes.items() if line.trial in related else ():
                if ratio is not None:
                    sharpes.setdefault(horizon, []).append(ratio)
        return Trials(number=len(related), sharpes=sharpes)

    def _read(self) -> list[_Line]:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise StorageError(f"{self._path}: cannot be read: {exc.strerror}") from exc
        try:
            return [msgspec.json.decode(line, type=_Line) for line in content.splitlines() if line.strip()]
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
            raise StorageError(f"{self._path}: the try cannot be recorded: {exc.strerror}; every look at a test has to be counted") from exc
