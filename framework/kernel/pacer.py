"""The driver: runs the timers of an `EventClock`, at full speed or paced against process time."""

from __future__ import annotations

import asyncio
from typing import Final

from framework.clock import EventClock
from framework.kernel.bus import EventBus
from framework.model import NS_PER_S

YIELD_AFTER_S: Final = 0.001
LONGEST_WAIT_S: Final = 0.25


class Pacer:
    """Advance market time from timer to timer and drain the bus after each.

    `speed` None is full speed (lockstep): market time passes the instant of a `hold` only once its future is done, so the
    outcome does not depend on how fast anything outside is. A finite speed is market seconds per process second; holds
    do not wait then, and `lag_s` says how far market time is behind.
    """

    def __init__(self, clock: EventClock, bus: EventBus, *, speed: float | None) -> None:
        self._clock = clock
        self._bus = bus
        self._speed = speed
        self._holds: dict[asyncio.Future[None], int] = {}
        self._is_stopped = False
        self._wake: asyncio.Event | None = None
        self._base_ns = 0
        self._base_s = 0.0
        self.lag_s = 0.0
        self.lag_s_max = 0.0
        self.timers_run = 0

    @property
    def is_lockstep(self) -> bool:
        """Return whether this runs at full speed."""
        return self._speed is None

    def stop(self) -> None:
        """Let `run` return before the next timer."""
        self._is_stopped = True
        self.wake()

    def wake(self) -> None:
        """Look at the timers again: an earlier one was set from outside."""
        if self._wake is not None:
            self._wake.set()

    def hold(self, when_ns: int, done: asyncio.Future[None]) -> None:
        """Keep market time from passing `when_ns` until `done` is done. Does nothing at a finite speed."""
        if self.is_lockstep:
            self._holds[done] = when_ns

    def catch_up(self) -> None:
        """Bring market time up to process time (finite speed only), running due timers: something came from outside."""
        if self._speed is not None and self._wake is not None:
            self._clock.advance_to(self._paced_now_ns())
            self.wake()

    async def run(self, *, until_ns: int | None = None) -> None:
        """Run timers until `stop`, until market time reaches `until_ns`, or until no timer is left."""
        loop = asyncio.get_running_loop()
        self._is_stopped = False
        self._wake = asyncio.Event()
        self._base_ns, self._base_s = self._clock.now_ns(), loop.time()
        self._bus.drain()
        yield_at_s = loop.time() + YIELD_AFTER_S
        while not self._is_stopped:
            next_ns = self._clock.next_timer_ns()
            if next_ns is None or (until_ns is not None and next_ns > until_ns):
                if await self._is_over(until_ns):
                    break
                continue
            if self._speed is None:
                await self._await_holds(next_ns)
            elif await self._wait_for(next_ns):
                yield_at_s = loop.time() + YIELD_AFTER_S
                continue
            self._clock.advance_to(next_ns)
            self._bus.drain()
            self.timers_run += 1
            if loop.time() >= yield_at_s:
                await asyncio.sleep(0)
                yield_at_s = loop.time() + YIELD_AFTER_S

    async def _is_over(self, until_ns: int | None) -> bool:
        if self._speed is None:
            # An answer that is still out may set the next timer.
            await self._await_holds(None)
            next_ns = self._clock.next_timer_ns()
            if next_ns is not None and (until_ns is None or next_ns <= until_ns):
                return False
        elif until_ns is not None and await self._wait_for(until_ns):
            return False
        if until_ns is not None:
            self._clock.advance_to(until_ns)
            self._bus.drain()
        return True

    async def _await_holds(self, next_ns: int | None) -> None:
        for done, when_ns in sorted(self._holds.items(), key=lambda item: item[1]):
            if done.done() or next_ns is None or when_ns <= next_ns:
                await asyncio.wait((done,))
                self._holds.pop(done, None)
                self._bus.drain()

    async def _wait_for(self, when_ns: int) -> bool:
        """Wait towards `when_ns`; return True if it is not reached yet (woken early), False when it is due."""
        assert self._wake is not None
        ahead_s = (when_ns - self._paced_now_ns()) / NS_PER_S / (self._speed or 1.0)
        self.lag_s = max(0.0, -ahead_s)
        self.lag_s_max = max(self.lag_s, self.lag_s_max)
        if ahead_s <= 0:
            return False
        self._wake.clear()
        try:
            async with asyncio.timeout(min(ahead_s, LONGEST_WAIT_S)):
                await self._wake.wait()
        except TimeoutError:
            return ahead_s > LONGEST_WAIT_S
        return True

    def _paced_now_ns(self) -> int:
        elapsed_s = asyncio.get_running_loop().time() - self._base_s
        return self._base_ns + round(elapsed_s * (self._speed or 1.0) * NS_PER_S)
