"""The log of tries: who looks at a test often enough finds something in it, so every look is counted."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

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

    Several runs may share it; a line that a power loss cut is dropped. Raises `StorageError` if the directory does not take a
    line (a try that cannot be counted is not made), `IntegrityError` if there is something else in it.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = StateDir(state_dir).create().path / FILE_NAME
        self._lines: list[_Line] = []

    def begin(self, test: Sequence[str], *, label: str, model: str, now_ns: int) -> int:
        """Count a try at the recordings with these digests; return its number in the log."""
        with self._open() as file:
            self._lines = self._read(file)
            number = 1 + max((line.trial for line in self._lines), default=0)
            begun = _Line(trial=number, ts=now_ns, test=list(test), label=label, model=model)
            _write(file, begun)
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

    def _append(self, line: _Line) -> None:
        with self._open() as file:
            self._read(file)
            _write(file, line)

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        """Give the file, for us alone as long as the block lasts."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
        except OSError as exc:
            raise StorageError(f"{self._path}: the try cannot be recorded: {exc.strerror}; every look at a test has to be counted") from exc

    def _read(self, file: IO[bytes]) -> list[_Line]:
        """Return the whole lines, and leave the file at their end, without what a power loss cut."""
        content = file.read()
        end = content.rfind(b"\n") + 1
        file.seek(end)
        file.truncate()
        try:
            return [msgspec.json.decode(line, type=_Line) for line in content[:end].splitlines()]
        except msgspec.DecodeError as exc:
            raise IntegrityError(f"{self._path}: a line is not one of ours ({exc}); move the file away to count anew") from exc


def _write(file: IO[bytes], line: _Line) -> None:
    file.write(msgspec.json.encode(line) + b"\n")
    os.fsync(file.fileno())
