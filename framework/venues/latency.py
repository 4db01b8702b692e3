"""How long messages travel: models of the latency between us and a venue, and a line on which nothing overtakes.

Every model is deterministic: those that draw are given a seed.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Protocol

from framework.config import PaperConfig
from framework.errors import ConfigError
from framework.model import NS_PER_MS


class Latency(Protocol):
    """How long a message that leaves at `now_ns` is under way, ns."""

    def __call__(self, now_ns: int) -> int:
        """Return the time of travel, at least 0."""


class ConstantLatency:
    """Always the same time."""

    def __init__(self, latency_ns: int) -> None:
        self._latency_ns = latency_ns

    def __call__(self, now_ns: int) -> int:  # noqa: ARG002 (the port's signature)
        """Return the time of travel."""
        return self._latency_ns


class LognormalLatency:
    """Lognormal around `median_ns`; `sigma` is that of its logarithm (0: constant)."""

    def __init__(self, *, median_ns: int, sigma: float, seed: int) -> None:
        self._median_ns, self._sigma = median_ns, sigma
        self._rng = Random(seed)

    def __call__(self, now_ns: int) -> int:  # noqa: ARG002 (the port's signature)
        """Draw the time of travel."""
        return round(self._median_ns * self._rng.lognormvariate(0.0, self._sigma))


class RecordedLatency:
    """Latencies as they were measured: between two measurements the time is interpolated, outside of them the nearest one holds.

    `times` and `latencies` are the profile, ns.
    """

    def __init__(self, profile: Sequence[tuple[int, int]]) -> None:
        """`profile` is (time ns, latency ns), in order of time. Raises `ConfigError` for one that is empty or out of order."""
        self.times = [when for when, _ in profile]
        self.latencies = [latency for _, latency in profile]
        if not profile or self.times != sorted(set(self.times)) or min(self.latencies) < 0:
            raise ConfigError("a latency profile needs at least one row (time, latency), times rising, no latency below 0")

    def __call__(self, now_ns: int) -> int:
        """Return the time of travel, interpolated in whole ns."""
        after = bisect_right(self.times, now_ns)
        if after == 0:
            return self.latencies[0]
        if after == len(self.times):
            return self.latencies[-1]
        begin, end = self.times[after - 1], self.times[after]
        first, last = self.latencies[after - 1], self.latencies[after]
        return first + (last - first) * (now_ns - begin) // (end - begin)


def latencies(settings: PaperConfig) -> tuple[Latency, Latency]:
    """Return the latencies of orders and of what the venue says. Raises `ConfigError` for a profile that cannot be read."""
    if settings.latency_profile is not None:
        return read_profile(Path(settings.latency_profile))
    medians_ns = (round(settings.order_latency_ms * NS_PER_MS), round(settings.response_latency_ms * NS_PER_MS))
    if not settings.latency_spread:
        return ConstantLatency(medians_ns[0]), ConstantLatency(medians_ns[1])
    out, back = (
        LognormalLatency(median_ns=median_ns, sigma=settings.latency_spread, seed=settings.latency_seed + place)
        for place, median_ns in enumerate(medians_ns)
    )
    return out, back


def read_profile(path: Path) -> tuple[RecordedLatency, RecordedLatency]:
    """Return recorded latencies from a CSV with the columns `ts_ns`, `order_ns` and `response_ns`. Raises `ConfigError`."""
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        columns = [[int(row[name]) for row in rows] for name in ("ts_ns", "order_ns", "response_ns")]
    except (OSError, KeyError, TypeError, ValueError) as exc:
        raise ConfigError(
            f"{path}: a latency profile is a CSV of whole numbers with the columns ts_ns, order_ns, response_ns: {exc}"
        ) from exc
    times, orders, responses = columns
    return RecordedLatency(list(zip(times, orders, strict=True))), RecordedLatency(list(zip(times, responses, strict=True)))


class Line:
    """One direction between us and a venue: what is sent arrives after the latency, and never before what was sent earlier."""

    def __init__(self, latency: Latency) -> None:
        self._latency = latency
        self._last_ns = 0

    def arrival_ns(self, now_ns: int) -> int:
        """Send something now, and return when it arrives."""
        self._last_ns = max(self._last_ns, now_ns + self._latency(now_ns))
        return self._last_ns
