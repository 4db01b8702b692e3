"""The log of backtests: who tries often enough on the same recordings finds something, so every try counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from framework.operations.state_dir import StateDir
from framework.research.line_log import LineLog

FILE_NAME: Final = "backtests.jsonl"


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One try as it begins, or the Sharpe ratio that it ended with."""

    number: int
    ts: int = 0
    data: list[str] = []
    strategy: str = ""
    sharpe: float | None = None


class TryLog:
    """`backtests.jsonl` in a state directory. Raises as `LineLog`: a try that cannot be counted is not run."""

    def __init__(self, state_dir: Path) -> None:
        self._log = LineLog(StateDir(state_dir).create().path / FILE_NAME, _Line)
        self._own = 0

    def begin(self, data: Sequence[str], strategy: str, now_ns: int) -> tuple[int, tuple[float, ...]]:
        """Count a try at these recordings; return how many there were with it, and the Sharpe ratios of those before."""
        lines = self._log.append(lambda before: _Line(number=_next(before), ts=now_ns, data=list(data), strategy=strategy))
        self._own = lines[-1].number
        related = {line.number for line in lines if set(line.data) & set(data)}
        return len(related), tuple(line.sharpe for line in lines if line.number in related and line.sharpe is not None)

    def end(self, sharpe: float) -> None:
        """Note what the try found."""
        self._log.append(lambda _: _Line(number=self._own, sharpe=sharpe))


def _next(lines: Sequence[_Line]) -> int:
    return 1 + max((line.number for line in lines), default=0)
