"""Walk-forward: the best point of a grid on the recordings so far, judged on the next one, which it has not seen.

Each recording is one step. A choice made with hindsight is always good; what this says is what somebody would have earned who chose
each day by the days before (Pardo, The Evaluation and Optimization of Trading Strategies, 2nd ed., ch. 11). Nothing of one recording
reaches into another: every step starts flat, from its own first event, so that there is nothing to purge between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import polars as pl

from framework.backtest.engine import Plan
from framework.backtest.sweep import Done, Grid, Runner, results, write_table
from framework.errors import ConfigError
from framework.market.catalogue.reading import open_market

NET: Final = "net"
SHARPE: Final = "sharpe"
GOALS: Final[dict[str, Callable[[Done], float]]] = {
    NET: lambda done: float(done.figures.get(NET) or 0.0),
    SHARPE: lambda done: done.sharpe,
}
"""What is added up over the recordings so far; the point with the most is chosen."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One recording: the point that the recordings before it chose, what it found here, and the best that hindsight finds here."""

    recording: str
    chosen: dict[str, Any]
    before: float
    found: Done
    hindsight: float
    candidates: int


def walk_forward(plan: Plan, grid: Grid, out: Path, runner: Runner, *, goal: str = NET) -> list[Step]:
    """Run the grid on each recording of `plan` and choose step by step; the steps are written to `out` (Parquet).

    A walk that was killed goes on where it was (`<out>.jsonl`). Blocks. Raises `ConfigError` for fewer than two recordings or those
    that are out of order, and what `sweep` raises.
    """
    _check_order(plan.data)
    found = [results(replace(plan, data=(path,)), grid, out, runner) for path in plan.data]
    steps = choose([path.name for path in plan.data], found, goal=goal)
    write_table(as_table(steps), out)
    return steps


def choose(recordings: Sequence[str], found: Sequence[Sequence[Done]], *, goal: str = NET) -> list[Step]:
    """Return one step for each recording but the first; `found[i][j]` is point j on recording i.

    A point that failed on a recording so far is no candidate; of equals the first is taken. A step without a candidate is left out.
    """
    value = GOALS[goal]
    steps = []
    for number in range(1, len(found)):
        past = list(zip(*found[:number], strict=True))
        scores = {j: sum(map(value, column)) for j, column in enumerate(past) if not any(one.error for one in column)}
        if not scores:
            continue
        best = max(scores, key=lambda j: (scores[j], -j))
        here = found[number]
        hindsight = max((value(one) for one in here if not one.error), default=0.0)
        steps.append(
            Step(
                recording=recordings[number],
                chosen=here[best].point,
                before=scores[best],
                found=here[best],
                hindsight=hindsight,
                candidates=len(scores),
            )
        )
    return steps


def as_table(steps: Sequence[Step]) -> pl.DataFrame:
    """Return one line a step."""
    lines = [
        {
            "recording": step.recording,
            **{f"chosen.{name}": value for name, value in step.chosen.items()},
            "before": step.before,
            **step.found.figures,
            "sharpe": step.found.sharpe,
            "hindsight": step.hindsight,
            "candidates": step.candidates,
            "error": step.found.error,
        }
        for step in steps
    ]
    return pl.DataFrame(lines, infer_schema_length=None)


def _check_order(data: Sequence[Path]) -> None:
    if len(data) < 2:
        raise ConfigError(f"a walk forward needs at least two recordings, --data names {len(data)}; give --data once for each day")
    for (first_ns, first), (second_ns, second) in pairwise((_start_ns(path), path) for path in data):
        if second_ns <= first_ns:
            raise ConfigError(f"--data {second} does not begin after {first}; allowed recordings in the order of their days")


def _start_ns(path: Path) -> int:
    feed = open_market([str(path)])
    start_ns = feed.start_ns or 0
    feed.stop()
    return start_ns
