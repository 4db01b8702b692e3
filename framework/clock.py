"""Market time, handed to everybody. Nothing below `app` reads the wall clock.

Two kinds of time live side by side. *Market time* (`Clock`, ns UTC) stamps events and rules ages, cooldowns and
order latencies; in a replay it is the recording's. *Process time* (`asyncio` loop time, s) rules the deadlines of
requests to another process; on the virtual-time loop of the tests it is simulated too.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol

from framework.model import NS_PER_S


class Timer(Protocol):
    """A callback that is due at some time."""

    def cancel(self) -> None:
        """Forget the callback. Calling it again, or after it ran, does nothing."""


class Clock(Protocol):
    """Source of market time and of timers on it."""

    def now_ns(self) -> int:
        """Return the market time, ns UTC. Never goes back."""

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """Call `callback` once when market time reaches `when_ns`, in order of (time, order of calling)."""


class _HeapTimer:
    __slots__ = ("callback", "canceled")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.canceled = False

    def cancel(self) -> None:
        self.canceled = True


class EventClock:
    """Clock that stands still until somebody advances it: replays, simulations, backtests and tests.

    `on_new_first` is called when a new timer is due before all others: whoever waits for the first one looks again.
    """

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._heap: list[tuple[int, int, _HeapTimer]] = []
        self._tiebreak = itertools.count()
        self.on_new_first: Callable[[], None] | None = None

    def now_ns(self) -> int:
        """Return the time of the last advance."""
        return self._now_ns

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """Call `callback` when the clock is advanced to `when_ns` or beyond; a past time means the next advance."""
        timer = _HeapTimer(callback)
        heapq.heappush(self._heap, (when_ns if when_ns > self._now_ns else self._now_ns, next(self._tiebreak), timer))
        if self.on_new_first is not None and self._heap[0][2] is timer:
            self.on_new_first()
        return timer

    def next_timer_ns(self) -> int | None:
        """Return when the next live timer is due, or None."""
        heap = self._heap
        while heap and heap[0][2].canceled:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def run_next(self, limit_ns: int) -> bool:
        """Run the one timer that is due first, at its own time, if that is not after `limit_ns`; return whether there was one."""
        heap = self._heap
        while heap and heap[0][0] <= limit_ns:
            due_ns, _, timer = heapq.heappop(heap)
            if timer.canceled:
                continue
            self._now_ns = max(self._now_ns, due_ns)
            timer.callback()
            return True
        return False

    def ticket(self) -> int:
        """Take a place in the order of calling, for `run_before`."""
        return next(self._tiebreak)

    def run_before(self, when_ns: int, ticket: int) -> None:
        """Run every timer that is due before one of `when_ns` which was set when the ticket was taken, then stand at `when_ns`.

        What has one event after the other goes without a timer for each.
        """
        heap = self._heap
        while heap:
            due_ns, place, timer = heap[0]
            if not timer.canceled and (due_ns > when_ns or (due_ns == when_ns and place > ticket)):
                break
            heapq.heappop(heap)
            if not timer.canceled:
                self._now_ns = max(self._now_ns, due_ns)
                timer.callback()
        self._now_ns = max(self._now_ns, when_ns)

    def advance_to(self, when_ns: int) -> None:
        """Run every timer due up to `when_ns` at its own time, in order, then stand at `when_ns`. Never goes back."""
        while self.run_next(when_ns):
            pass
        self._now_ns = max(self._now_ns, when_ns)


class LiveClock:
    """The wall clock, made monotone: read once, then advanced by the monotonic clock. Timers run on the asyncio loop."""

    def __init__(self, call_later: Callable[[float, Callable[[], None]], Timer]) -> None:
        self._call_later = call_later
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        """Return the wall time, ns UTC."""
        return self._offset_ns + time.monotonic_ns()

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the loop at `when_ns`."""
        return self._call_later(max(0, when_ns - self.now_ns()) / NS_PER_S, callback)


def wall_time_ns() -> int:
    """Return the wall time, ns UTC: for the command line, which acts outside of every market time."""
    return time.time_ns()
