"""How long messages travel: models of the latency between us and a venue, and a line on which nothing overtakes.

Every model is deterministic: those that draw are given a seed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from framework.clock import Clock
from framework.errors import ConfigError


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
    """A least time and a lognormal rest: `median_ns` of the rest, `sigma` of its logarithm (0: constant)."""

    def __init__(self, *, least_ns: int, median_ns: int, sigma: float, seed: int) -> None:
        self._least_ns, self._median_ns, self._sigma = least_ns, median_ns, sigma
        self._rng = Random(seed)

    def __call__(self, now_ns: int) -> int:  # noqa: ARG002 (the port's signature)
        """Draw the time of travel."""
        return self._least_ns + round(self._median_ns * self._rng.lognormvariate(0.0, self._sigma))


class RecordedLatency:
    """Latencies as they were measured: between two measurements the time is interpolated, outside of them the nearest one holds."""

    def __init__(self, profile: Sequence[tuple[int, int]]) -> None:
        """`profile` is (time ns, latency ns), in order of time. Raises `ConfigError` for one that is empty or out of order."""
        self._times = [when for when, _ in profile]
        self._latencies = [latency for _, latency in profile]
        if not profile or self._times != sorted(set(self._times)) or min(self._latencies) < 0:
            raise ConfigError("a latency profile needs at least one row (time, latency), times rising, no latency below 0")

    def __call__(self, now_ns: int) -> int:
        """Return the time of travel, interpolated in whole ns."""
        after = bisect_right(self._times, now_ns)
        if after == 0:
            return self._latencies[0]
        if after == len(self._times):
            return self._latencies[-1]
        begin, end = self._times[after - 1], self._times[after]
        first, last = self._latencies[after - 1], self._latencies[after]
        return first + (last - first) * (now_ns - begin) // (end - begin)


class Line:
    """One direction between us and a venue: what is sent arrives after the latency, and never before what was sent earlier."""

    def __init__(self, latency: Latency) -> None:
        self._latency = latency
        self._last_ns = 0

    def send(self, clock: Clock, act: Callable[[], None]) -> None:
        """Let `act` happen at the other end."""
        now_ns = clock.now_ns()
        self._last_ns = max(self._last_ns, now_ns + self._latency(now_ns))
        clock.call_at(self._last_ns, act)
