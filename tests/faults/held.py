"""What a long run holds, sample by sample, and whether it stays flat."""

from __future__ import annotations

import itertools
import os
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

EVERY_S: Final = 10.0
CALM_S: Final = 30.0
WARM_UP: Final = 0.25
COMPARED: Final = 250
MIB: Final = 1 << 20


class Sample(NamedTuple):
    """What a process holds at a moment. `rss` in bytes, `timers` of its loop."""

    at_s: float
    rss: int
    descriptors: int
    tasks: int
    timers: int


ALLOWED: Final[dict[str, Callable[[float], float]]] = {
    "rss": lambda level: max(8 * MIB, 0.05 * level),
    "descriptors": lambda _: 1.0,
    "tasks": lambda _: 1.0,
    "timers": lambda level: max(2.0, 0.1 * level),
}
"""By how much each may grow over the rest of a run, from its median level."""


@dataclass
class Found:
    """What came of one run."""

    name: str
    lasted_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    events: int = 0
    orders: int = 0
    predictions: int = 0
    violations: list[str] = field(default_factory=list)

    def judge(self) -> None:
        """Note what grew."""
        for name, allowed in ALLOWED.items():
            level, grown = growth(self.samples, name)
            if not grown < allowed(level):
                self.violations.append(f"{name} grew by {grown:,.1f} over the run, from {level:,.0f}")


def sample(at_s: float, tasks: int, timers: int) -> Sample:
    """Look at this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(at_s, pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), tasks, timers)


def growth(samples: Sequence[Sample], name: str) -> tuple[float, float]:
    """Return the median level after the warm-up, and the growth from there on: the median slope (Theil 1950, Sen 1968) times the span."""
    rest = samples[int(len(samples) * WARM_UP) :]
    if len(rest) < 2:
        return 0.0, float("nan")
    thinned = rest[:: max(1, len(rest) // COMPARED)]
    points = [(one.at_s, float(getattr(one, name))) for one in thinned]
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in itertools.combinations(points, 2)]
    return statistics.median(y for _, y in points), statistics.median(slopes) * (points[-1][0] - points[0][0])
