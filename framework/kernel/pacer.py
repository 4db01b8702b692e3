"""The driver: runs the timers of an `EventClock`, at full speed or paced against process time."""

from __future__ import annotations

import asyncio
from typing import Final

from framework.clock import EventClock
from framework.kernel.bus import EventBus
from framework.model import NS_PER_S

YIELD_AFTER_S: Final = 0.001
YIELD_AFTER_TIMERS: Final = 64
LOOK_AFTER_TIMERS: Final = 16
NEVER_NS: Final = 1 << 63
CATCH_UP_S: Final = 0.01


class Pacer:
    """Advance market time from timer to timer and drain the bus after each.

    `speed` None is full speed (lockstep): no timer that is due at or after the instant of a `hold` runs before its future is
    done, so the outcome does not depend on how fast anything outside is. A finite speed is market seconds per process
    second; holds do not wait then, and `lag_s` says how far market time is behind, in process time. The event loop gets its
    turn at least every `YIELD_AFTER_S` of work or `YIELD_AFTER_TIMERS` timers.
    """

    def __init__(self, clock: EventClock, bus: EventBus, *, speed: float | None) -> None:
        self._clock = clock
        self._bus = bus
        self._speed = speed
        self._holds: dict[asyncio.Future[None], int] = {}
        self._alarm: asyncio.Future[None] | None = None
        self._is_running = False
        self._is_stopped = False
        self._until_ns: int | None = None
        self._base_ns = 0
        self._base_s = 0.0
        self._yield_at = (0.0, 0)
        self.lag_s = 0.0
        self.lag_s_max = 0.0
        self.timers_run = 0

    @property
    def is_lockstep(self) -> bool:
        """Return whether this runs at full speed."""
        return self._speed is None

    def stop(self) -> None:
        """Let `run` return before the next timer, also while it waits for one or for a hold."""
        self._is_stopped = True
        self.wake()

    def wake(self) -> None:
        """Look at the timers again. A new earliest timer does this by itself."""
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    def hold(self, when_ns: int, done: asyncio.Future[None]) -> None:
        """Keep market time from reaching `when_ns` until `done` is done. Does nothing at a finite speed."""
        if self.is_lockstep:
            self._holds[done] = min(when_ns, self._holds.get(done, when_ns))

    def catch_up(self) -> None:
        """Bring market time up to process time (finite speed only), running due timers: something came from outside.

        Does nothing at full speed, outside of `run`, after `stop` and inside a handler; stops early after `CATCH_UP_S` of
        work, so that a run that is far behind does not block the loop.
        """
        if self._speed is None or not self._is_running or self._is_stopped or self._bus.is_draining:
            return
        now_ns = self._paced_now_ns()
        limit_ns = now_ns if self._until_ns is None else min(now_ns, self._until_ns)
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + CATCH_UP_S
        self._bus.drain()
        while self._step(limit_ns):
            if self._is_stopped or loop.time() >= give_up_s:
                return
        self._clock.advance_to(limit_ns)

    async def run(self, *, until_ns: int | None = None) -> None:
        """Run timers until `stop`, until market time reaches `until_ns`, or until no timer and no hold is left.

        Leaves no mail behind.
        """
        loop = asyncio.get_running_loop()
        self._is_running, self._is_stopped, self._until_ns = True, False, until_ns
        self._base_ns, self._base_s = self._clock.now_ns(), loop.time()
        self._clock.on_new_first = self.wake
        try:
            self._bus.drain()
            await self._run_timers(loop)
            if until_ns is not None and not self._is_stopped:
                self._clock.advance_to(until_ns)
            self._bus.drain()
        finally:
            self._is_running = False
            self._clock.on_new_first = None

    async def _run_timers(self, loop: asyncio.AbstractEventLoop) -> None:
        self._note_turn(loop)
        while not self._is_stopped:
            if self._speed is None and self._run_freely(loop):
                await asyncio.sleep(0)
                self._note_turn(loop)
                continue
            next_ns = self._next_ns()
            if await self._had_to_wait(loop, next_ns):
                self._note_turn(loop)
                continue
            if next_ns is None:
                return
            self._step(next_ns)
            if loop.time() >= self._yield_at[0] or self.timers_run >= self._yield_at[1]:
                await asyncio.sleep(0)
                self._note_turn(loop)

    def _run_freely(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Run timers as long as nothing may have to be waited for; return whether it is the event loop's turn, or the end."""
        run_next, drain, holds = self._clock.run_next, self._bus.drain, self._holds
        limit_ns = NEVER_NS if self._until_ns is None else self._until_ns
        yield_s, yield_at = self._yield_at
        while not (holds or self._is_stopped) and run_next(limit_ns):
            drain()
            self.timers_run = count = self.timers_run + 1
            if count >= yield_at or (count % LOOK_AFTER_TIMERS == 0 and loop.time() >= yield_s):
                return True
        return self._is_stopped

    def _step(self, limit_ns: int) -> bool:
        """Run the first timer if it is due by `limit_ns`, and what follows from it; return whether there was one."""
        if not self._clock.run_next(limit_ns):
            return False
        self._bus.drain()
        self.timers_run += 1
        return True

    def _next_ns(self) -> int | None:
        next_ns = self._clock.next_timer_ns()
        return None if next_ns is None or (self._until_ns is not None and next_ns > self._until_ns) else next_ns

    def _note_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._yield_at = (loop.time() + YIELD_AFTER_S, self.timers_run + YIELD_AFTER_TIMERS)

    async def _had_to_wait(self, loop: asyncio.AbstractEventLoop, next_ns: int | None) -> bool:
        """Wait for what keeps market time from `next_ns`, or from the end; return whether anything did."""
        limit_ns = self._until_ns if next_ns is None else next_ns
        if self._speed is not None:
            return limit_ns is not None and await self._wait_for_time(loop, limit_ns, self._speed)
        return bool(self._holds) and await self._wait_for_hold(loop, limit_ns)

    async def _wait_for_hold(self, loop: asyncio.AbstractEventLoop, limit_ns: int | None) -> bool:
        done, when_ns = min(self._holds.items(), key=lambda item: item[1])
        if limit_ns is not None and when_ns > limit_ns:
            return False
        if not done.done():
            self._alarm = loop.create_future()
            done.add_done_callback(self._ring)
            try:
                await self._alarm
            finally:
                done.remove_done_callback(self._ring)
        if done.done():
            self._holds.pop(done, None)
            self._bus.drain()
        # The answer may have set an earlier timer, or asked the next question.
        return True

    def _ring(self, _: asyncio.Future[None]) -> None:
        self.wake()

    async def _wait_for_time(self, loop: asyncio.AbstractEventLoop, when_ns: int, speed: float) -> bool:
        ahead_s = (when_ns - self._paced_now_ns()) / NS_PER_S / speed
        self.lag_s = max(0.0, -ahead_s)
        self.lag_s_max = max(self.lag_s, self.lag_s_max)
        if ahead_s <= 0:
            return False
        self._alarm = loop.create_future()
        ring = loop.call_later(ahead_s, self.wake)
        try:
            await self._alarm
        finally:
            ring.cancel()
        return True

    def _paced_now_ns(self) -> int:
        assert self._speed is not None
        elapsed_s = asyncio.get_running_loop().time() - self._base_s
        return self._base_ns + round(elapsed_s * self._speed * NS_PER_S)
