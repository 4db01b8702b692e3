"""The log of tries: who looks at a test often enough finds something in it, so every look is counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.evaluation_job import Trials
from framework.operations.state_dir import StateDir
from framework.research.line_log import LineLog

FILE_NAME: Final = "trials.jsonl"


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One try as it begins (`test`, `label`, `model`, `ts`), or its Sharpe ratios by horizon when it has ended (`sharpes`).

    A try that was refused is void. `looks` are how many tries it stands for.
    """

    trial: int
    ts: int = 0
    test: list[str] = []
    label: str = ""
    model: str = ""
    sharpes: dict[str, float | None] = {}
    is_void: bool = False
    looks: int = 1


class TrialLog:
    """`trials.jsonl` in a state directory: lines are only ever appended, each by one write that is on disk before it counts.

    Several runs may share it; a line that a power loss cut is dropped. Raises `StorageError` if the directory does not take a
    line (a try that cannot be counted is not made), `IntegrityError` if there is something else in it.
    """

    def __init__(self, state_dir: Path) -> None:
        self._log = LineLog(StateDir(state_dir).create().path / FILE_NAME, _Line)
        self._lines: list[_Line] = []

    def begin(self, test: Sequence[str], *, label: str, model: str, now_ns: int, looks: int = 1) -> int:
        """Count a try (or `looks` of them) at the recordings with these digests; return its number in the log."""
        self._lines = self._log.append(
            lambda lines: _Line(trial=_next(lines), ts=now_ns, test=list(test), label=label, model=model, looks=looks)
        )
        return self._lines[-1].trial

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
        return Trials(number=sum(line.looks for line in alike if line.trial in related), sharpes=sharpes)

    def _append(self, line: _Line) -> None:
        self._log.append(lambda _: line)


def _next(lines: Sequence[_Line]) -> int:
    return 1 + max((line.trial for line in lines), default=0)
