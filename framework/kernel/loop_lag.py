"""How late the event loop is: the one number that says whether anything blocks it."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

BOUNDS_MS: Final = tuple(0.05 * 1.04**step for step in range(360))


class LoopLagMonitor:
    """Set a loop timer every `interval_s` and count by how much it comes late, in a fixed histogram (0.05 ms to 60 s).

    A timer that comes late by more than an interval stands for those that a loop which is not blocked would have run
    meanwhile, each late by an interval less: otherwise one long block would be one sample among many good ones.

    `timer` is process time in s with a resolution well below a millisecond (uvloop's own has one of 1 ms); without it, the
    loop's time is taken.
    """

    def __init__(self, *, interval_s: float = 0.01, timer: Callable[[], float] | None = None) -> None:
        self._interval_s = interval_s
        self._timer = timer
        self._counts = [0] * (len(BOUNDS_MS) + 1)
        self._handle: asyncio.TimerHandle | None = None
        self.samples = 0
        self.max_ms = 0.0

    def start(self) -> None:
        """Begin; needs a running loop."""
        self._next()

    def stop(self) -> None:
        """End; the figures stay."""
        if self._handle is not None:
            self._handle.cancel()

    def quantile_ms(self, share: float) -> float:
        """Return the lag in ms that `share` of the samples do not exceed (upper bound of its bin, 4 % wide); 0 without samples."""
        wanted, seen = share * self.samples, 0
        for bound_ms, count in zip((*BOUNDS_MS, self.max_ms), self._counts, strict=True):
            seen += count
            if count and seen >= wanted:
                return min(bound_ms, self.max_ms)
        return self.max_ms

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = (self._timer or loop.time)() + self._interval_s
        self._handle = loop.call_later(self._interval_s, self._sample, due_s)

    def _sample(self, due_s: float) -> None:
        now_s = (self._timer or asyncio.get_running_loop().time)()
        lag_ms = max(0.0, (now_s - due_s) * 1e3)
        self.max_ms = max(self.max_ms, lag_ms)
        self._count(lag_ms)
        while (lag_ms := lag_ms - self._interval_s * 1e3) > 0:
            self._count(lag_ms)
        self._next()

    def _count(self, lag_ms: float) -> None:
        self.samples += 1
        self._counts[bisect_left(BOUNDS_MS, lag_ms)] += 1
