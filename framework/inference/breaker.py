"""A circuit breaker as a table: while the ML process does not answer, asking costs microseconds."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Circuit(StrEnum):
    """CLOSED lets requests through, OPEN none, HALF_OPEN one as a probe (PROBING: it is under way)."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"
    PROBING = "PROBING"


class Sign(StrEnum):
    """What the breaker is told.

    ANSWERED: a prediction request got an answer in time; ALIVE: a heartbeat did; FAILED: a prediction request got none;
    GONE: the process died or is silent; ASKED: a request goes out.
    """

    ANSWERED = "ANSWERED"
    ALIVE = "ALIVE"
    FAILED = "FAILED"
    GONE = "GONE"
    ASKED = "ASKED"


_C, _O, _H, _P = Circuit.CLOSED, Circuit.OPEN, Circuit.HALF_OPEN, Circuit.PROBING

TABLE: Final[dict[tuple[Circuit, Sign], Circuit]] = {
    (_C, Sign.ANSWERED): _C,
    (_C, Sign.ALIVE): _C,
    (_C, Sign.FAILED): _C,  # the third in a row: OPEN (`Breaker.failures_to_open`)
    (_C, Sign.GONE): _O,
    (_C, Sign.ASKED): _C,
    (_O, Sign.ANSWERED): _H,
    (_O, Sign.ALIVE): _H,
    (_O, Sign.FAILED): _O,
    (_O, Sign.GONE): _O,
    (_O, Sign.ASKED): _O,
    (_H, Sign.ANSWERED): _C,
    (_H, Sign.ALIVE): _H,
    (_H, Sign.FAILED): _O,
    (_H, Sign.GONE): _O,
    (_H, Sign.ASKED): _P,
    (_P, Sign.ANSWERED): _C,
    (_P, Sign.ALIVE): _P,
    (_P, Sign.FAILED): _O,
    (_P, Sign.GONE): _O,
    (_P, Sign.ASKED): _P,
}


class Breaker:
    """State and count of failures in a row. Pure: no time, no timers; heartbeats bring it back."""

    def __init__(self, *, failures_to_open: int = 3) -> None:
        self.circuit = Circuit.CLOSED
        self.times_opened = 0
        self._failures_to_open = failures_to_open
        self._failures = 0

    @property
    def lets_through(self) -> bool:
        """Return whether a request may go out now."""
        return self.circuit is Circuit.CLOSED or self.circuit is Circuit.HALF_OPEN

    def note(self, sign: Sign) -> None:
        """Take one sign."""
        before, self.circuit = self.circuit, TABLE[self.circuit, sign]
        if sign is Sign.ANSWERED:
            self._failures = 0
        elif sign is Sign.FAILED:
            self._failures += 1
            if self._failures >= self._failures_to_open:
                self.circuit = Circuit.OPEN
        if self.circuit is Circuit.OPEN and before is not Circuit.OPEN:
            self._failures = 0
            self.times_opened += 1
