"""Answers given lately, so that a request that comes twice is carried out once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from enum import StrEnum
from typing import Final

import msgspec

MAX_ANSWERS: Final = 4_096
MAX_BYTES: Final = 16 << 20
KEPT_S: Final = 60.0
MAX_UNSETTLED: Final = 16


class Claim(StrEnum):
    """What a request id is to us."""

    NEW = "NEW"
    RUNNING = "RUNNING"
    ANSWERED = "ANSWERED"
    CONFLICT = "CONFLICT"


class _Answer(msgspec.Struct):
    content: Hashable
    since_s: float
    frame: bytes | None = None


class Answered:
    """Requests of the last 60 s by id, at most 4,096 and 16 MiB of answers; the oldest are forgotten.

    A client that sends the same request again (its answer was lost on the way) uses the same id and gets the same answer.
    What a request said is kept as its hash; hashing a window takes a while, so `settle` does it when the answer is on its way.
    """

    def __init__(self, *, max_answers: int = MAX_ANSWERS, max_bytes: int = MAX_BYTES, kept_s: float = KEPT_S) -> None:
        self._max_answers = max_answers
        self._max_bytes = max_bytes
        self._kept_s = kept_s
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._unsettled: list[_Answer] = []
        self._bytes = 0

    def claim(self, request_id: str, content: Hashable, now_s: float) -> Claim:
        """Say whether this id is new (then it is running), and whether it came with the same content before."""
        self._forget(now_s)
        known = self._answers.get(request_id)
        if known is None:
            answer = self._answers[request_id] = _Answer(content, now_s)
            self._unsettled.append(answer)
            if len(self._unsettled) > MAX_UNSETTLED:
                self.settle()
            return Claim.NEW
        self.settle()
        if known.content != hash(content):
            return Claim.CONFLICT
        return Claim.RUNNING if known.frame is None else Claim.ANSWERED

    def settle(self) -> None:
        """Keep hashes in place of contents."""
        for answer in self._unsettled:
            answer.content = hash(answer.content)
        self._unsettled.clear()

    def store(self, request_id: str, frame: bytes) -> None:
        """Keep the answer of a running request."""
        known = self._answers.get(request_id)
        if known is not None and known.frame is None:
            known.frame = frame
            self._bytes += len(frame)

    def frame(self, request_id: str) -> bytes:
        """Return the answer of an answered request."""
        found = self._answers[request_id].frame
        assert found is not None
        return found

    def _forget(self, now_s: float) -> None:
        answers = self._answers
        while answers:
            oldest = next(iter(answers.values()))
            if len(answers) < self._max_answers and self._bytes <= self._max_bytes and now_s - oldest.since_s < self._kept_s:
                return
            answers.popitem(last=False)
            self._bytes -= len(oldest.frame or b"")
