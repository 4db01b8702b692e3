"""The table of requests to another process: every one ends exactly once, with an answer, by its deadline, or for lack of a peer."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Final

from framework.messages import FailureReason
from framework.wire import PredictReply, Reply

FINISHED_KEPT: Final = 4_096
ROUND_TRIPS_KEPT: Final = 1_000
BACKOFF_S: Final = 0.02
BACKOFF_MAX_S: Final = 0.5
_EARLY_S: Final = 1e-6
"""A loop's timer may fire this much before its time, by rounding."""

Result = Reply | FailureReason
FramesOf = Callable[[float], list[bytes]]
"""Encode a request for the time that is left of its deadline, s."""


class _Request:
    __slots__ = ("attempts_left", "backoff_s", "deadline_s", "frames_of", "on_end", "retry", "sent_s", "survives", "timeout_s")

    def __init__(
        self,
        timeout_s: float,
        deadline_s: float,
        frames_of: FramesOf,
        on_end: Callable[[Result, str], None],
        attempts: float,
        *,
        survives: bool,
    ) -> None:
        self.timeout_s = timeout_s
        self.deadline_s = deadline_s
        self.frames_of = frames_of
        self.on_end = on_end
        self.attempts_left = attempts
        self.survives = survives
        self.backoff_s = BACKOFF_S
        self.sent_s: float | None = None
        self.retry: asyncio.Handle | None = None


class RequestTable:
    """Requests by id, with deadlines and retries in the loop's time.

    `on_end(result, detail)` of a request is called once and never inside `open`. A request is sent again only if the
    connection did not take it (or was lost, for one that `survives`), before its deadline and under the same id. `timer`
    measures round trips, s: a loop's time may be as coarse as 1 ms.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, send: Callable[[list[bytes]], bool], counts: Counter[str], timer: Callable[[], float]
    ) -> None:
        self.round_trips_s: deque[float] = deque(maxlen=ROUND_TRIPS_KEPT)
        self._loop = loop
        self._send = send
        self._counts = counts
        self._timer = timer
        self._open: dict[str, _Request] = {}
        self._finished: OrderedDict[str, str] = OrderedDict()
        self._deadlines: list[tuple[float, str]] = []
        self._alarm: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def open(
        self,
        request_id: str,
        frames_of: FramesOf,
        on_end: Callable[[Result, str], None],
        *,
        timeout_s: float,
        attempts: float,
        survives: bool = False,
    ) -> None:
        """Send a request. `attempts` says how often it may be sent again when the connection does not take it."""
        deadline_s = self._loop.time() + timeout_s
        request = self._open[request_id] = _Request(timeout_s, deadline_s, frames_of, on_end, attempts, survives=survives)
        heapq.heappush(self._deadlines, (deadline_s, request_id))
        if self._deadlines[0][1] == request_id:
            self._set_alarm()
        self._try(request_id, request)

    def answer(self, reply: Reply) -> None:
        """Take an answer: the outcome of its request, or late, repeated or foreign and only counted."""
        request = self._open.get(reply.request_id)
        if request is None:
            self._counts[self._finished.get(reply.request_id, "unknown")] += 1
            return
        now_s = self._loop.time()
        if now_s > request.deadline_s:
            self._end(reply.request_id, FailureReason.TIMEOUT, "the answer came after the deadline")
            self._counts["late"] += 1
            return
        if request.sent_s is not None and isinstance(reply, PredictReply):
            self.round_trips_s.append(self._timer() - request.sent_s)
        self._counts["received"] += 1
        self._end(reply.request_id, reply, "")

    def lose_peer(self, detail: str) -> None:
        """End what was asked of a process that is gone; what survives waits for its successor."""
        for request_id, request in tuple(self._open.items()):
            if not request.survives:
                self._end(request_id, FailureReason.ML_DOWN, detail)
            elif request.sent_s is not None:
                request.sent_s = None
                self._try_later(request_id, request)

    def end_all(self, detail: str) -> None:
        """End every request with ML_DOWN."""
        for request_id in tuple(self._open):
            self._end(request_id, FailureReason.ML_DOWN, detail)
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Wake at the first deadline of an open request: one timer for all, because most requests end before theirs."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._deadlines and self._deadlines[0][1] not in self._open:
            heapq.heappop(self._deadlines)
        if self._deadlines:
            self._alarm = self._loop.call_at(self._deadlines[0][0], self._expire)

    def _expire(self) -> None:
        due_s = self._loop.time() + _EARLY_S
        while self._deadlines and self._deadlines[0][0] <= due_s:
            _, request_id = heapq.heappop(self._deadlines)
            request = self._open.get(request_id)
            if request is not None:
                self._end(request_id, FailureReason.TIMEOUT, f"no answer within {request.timeout_s:g} s")
        self._set_alarm()

    def _try(self, request_id: str, request: _Request) -> None:
        start_s = self._timer()
        if self._send(request.frames_of(request.deadline_s - self._loop.time())):
            request.sent_s = start_s
            self._counts["sent"] += 1
        else:
            self._try_later(request_id, request)

    def _try_later(self, request_id: str, request: _Request) -> None:
        if request.attempts_left <= 0 or self._loop.time() + request.backoff_s >= request.deadline_s:
            request.retry = self._loop.call_soon(self._end, request_id, FailureReason.ML_DOWN, "no connection to the ML process")
            return
        request.attempts_left -= 1
        request.retry = self._loop.call_later(request.backoff_s, self._try_again, request_id)
        request.backoff_s = min(request.backoff_s * 2, BACKOFF_MAX_S)

    def _try_again(self, request_id: str) -> None:
        request = self._open[request_id]
        if self._loop.time() >= request.deadline_s:
            return  # the loop stood still; the deadline's timer is due too and ends it
        self._counts["retried"] += 1
        self._try(request_id, request)

    def _end(self, request_id: str, result: Result, detail: str) -> None:
        request = self._open.pop(request_id)
        if request.retry is not None:
            request.retry.cancel()
        self._finished[request_id] = "late" if isinstance(result, FailureReason) else "duplicate"
        if len(self._finished) > FINISHED_KEPT:
            self._finished.popitem(last=False)
        request.on_end(result, detail)


def quantile(values: Iterable[float], share: float) -> float:
    """Return the value that `share` of `values` does not exceed; 0 if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
