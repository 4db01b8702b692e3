"""Where in the queue our resting order stands, when the recording shows only sizes: models that can be exchanged.

A model sees what the market shows at our price (`see`) and what trades there (`trade`). All of them begin behind the displayed size.

- `RiskAverse`: we move up by trades, and when less is displayed than was ahead of us; cancels are never assumed to be ahead otherwise.
- `Probability`: a decrease that no trade explains is split between the lots ahead and behind by their sizes. With `f` the power or the
  logarithm of a size, the share that left behind us is f(behind) / (f(behind) + f(ahead)), or one of two variants
  (hftbacktest, "Order fill": probability queue models; R. Rigtorp, "Estimating order queue position", 2013).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from framework.config import PaperConfig
from framework.errors import ConfigError


class Place(Protocol):
    """The place of one resting order."""

    @property
    def ahead(self) -> float | None:
        """Return the lots in front of it; None while its level was never in view."""

    def see(self, displayed: int, now_ns: int) -> None:
        """Take the size that a book displays at our price."""

    def trade(self, size: int, now_ns: int) -> int:
        """Let `size` lots trade at our price, and return how many of them pass everybody ahead of us."""

    def lead(self) -> None:
        """Stand first: a trade went through our price."""

    def leave_session(self) -> None:
        """Stand last in the next session, behind what it will display."""


QueueModel = Callable[[int | None], Place]
"""Makes the place of an order that joins behind a displayed size (None: not in view)."""


@dataclass(slots=True)
class RiskAverse:
    """`ahead` falls by trades and to the displayed size.

    `moved_up` is how many lots the book of `moved_ns` took away, in case that a late trade tick tells of the same lots again.
    """

    ahead: int | None
    moved_up: int = 0
    moved_ns: int = 0

    def see(self, displayed: int, now_ns: int) -> None:
        """Take the size that a book displays at our price."""
        if now_ns > self.moved_ns:
            self.moved_up, self.moved_ns = 0, now_ns
        if self.ahead is None:
            self.ahead = displayed
        elif displayed < self.ahead:
            self.moved_up += self.ahead - displayed
            self.ahead = displayed

    def trade(self, size: int, now_ns: int) -> int:
        """Let `size` lots trade at our price, and return how many of them pass everybody ahead of us."""
        if self.ahead is None:
            return 0
        if now_ns <= self.moved_ns:
            known = min(self.moved_up, size)
            self.moved_up -= known
            size -= known
        passed = min(self.ahead, size)
        self.ahead -= passed
        return size - passed

    def lead(self) -> None:
        """Stand first."""
        self.ahead = 0

    def leave_session(self) -> None:
        """Stand last in the next session."""
        self.ahead = None


Share = Callable[[float, float], float]
"""Of (lots ahead, lots behind): the share of a decrease that left behind us, 0 to 1."""


@dataclass(slots=True)
class Probability:
    """`ahead` falls by trades, and by a share of every decrease that no trade explains."""

    ahead: float | None
    share: Share
    shown: int | None
    traded: int = 0

    def see(self, displayed: int, now_ns: int) -> None:  # noqa: ARG002 (the port's signature)
        """Take the size that a book displays at our price; one that did not change says nothing."""
        if self.ahead is None or self.shown is None:
            self.ahead, self.shown = float(displayed), displayed
        elif displayed != self.shown:
            self._change(self.ahead, self.shown, displayed)
            self.shown = displayed

    def _change(self, ahead: float, shown: int, displayed: int) -> None:
        # What traded at our price since the last change is part of this one.
        decrease, self.traded = shown - displayed - self.traded, 0
        if decrease > 0:
            behind = shown - ahead
            share = self.share(ahead, behind)
            ahead += min(behind - share * decrease, 0.0) - (1.0 - share) * decrease
        self.ahead = max(0.0, min(ahead, displayed))

    def trade(self, size: int, now_ns: int) -> int:  # noqa: ARG002 (the port's signature)
        """Let `size` lots trade at our price, and return how many of them pass everybody ahead of us."""
        if self.ahead is None:
            return 0
        self.traded += size
        # Whole lots: less than half a lot that is left ahead of us is nobody.
        passed = max(0, math.floor(size - self.ahead + 0.5))
        self.ahead = max(0.0, self.ahead - size)
        return passed

    def lead(self) -> None:
        """Stand first."""
        self.ahead = 0.0

    def leave_session(self) -> None:
        """Stand last in the next session."""
        self.ahead, self.shown, self.traded = None, None, 0


def _power(exponent: float) -> Callable[[float], float]:
    return lambda size: math.pow(max(size, 0.0), exponent)


def _log(size: float) -> float:
    return math.log1p(max(size, 0.0))


def _against_ahead(weight: Callable[[float], float]) -> Share:
    def share(ahead: float, behind: float) -> float:
        total = weight(behind) + weight(ahead)
        return weight(behind) / total if total > 0 else 1.0

    return share


def _against_all(weight: Callable[[float], float]) -> Share:
    def share(ahead: float, behind: float) -> float:
        total = weight(behind + ahead)
        return weight(behind) / total if total > 0 else 1.0

    return share


def _rest_of_ahead(weight: Callable[[float], float]) -> Share:
    def share(ahead: float, behind: float) -> float:
        return 1.0 - weight(ahead / (ahead + behind)) if ahead + behind > 0 else 1.0

    return share


_SHARES: dict[str, Callable[[float], Share]] = {
    "power": lambda exponent: _against_ahead(_power(exponent)),
    "power_2": lambda exponent: _against_all(_power(exponent)),
    "power_3": lambda exponent: _rest_of_ahead(_power(exponent)),
    "log": lambda _: _against_ahead(_log),
    "log_2": lambda _: _against_all(_log),
}


def queue_model(settings: PaperConfig) -> QueueModel:
    """Return the model that the settings name. Raises `ConfigError` for a name that nobody knows."""
    return model_of(settings.queue_model, settings.queue_power)


def model_of(name: str, exponent: float = 2.0) -> QueueModel:
    """Return the model of a name: `risk_averse`, `power`, `power_2`, `power_3`, `log`, `log_2`. Raises `ConfigError` for another."""
    if name == "risk_averse":
        return RiskAverse
    if name not in _SHARES:
        raise ConfigError(f"queue_model: found {name}; allowed risk_averse, {', '.join(_SHARES)}")
    share = _SHARES[name](exponent)
    return lambda displayed: Probability(None if displayed is None else float(displayed), share, displayed)
