"""What a strategy is given: its collaborators, its ids, and what it had before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from framework.clock import Clock
from framework.config import StrategyFile
from framework.inference.analyzer import OrderFlowAnalyzer
from framework.kernel.bus import EventBus
from framework.messages import OrderUpdated
from framework.model import Instrument
from framework.window import DomView


class IdSequence:
    """Ids `<prefix><n>`. `last` is the highest number ever used, read from the journal: an id is never used twice."""

    def __init__(self, prefix: str, last: int = 0) -> None:
        self._prefix = prefix
        self._last = last

    @staticmethod
    def after(prefix: str, used_ids: Iterable[str]) -> IdSequence:
        """Return the sequence that goes on after the highest of `used_ids` (ids of other prefixes are skipped)."""
        numbers = (used_id.removeprefix(prefix) for used_id in used_ids if used_id.startswith(prefix))
        return IdSequence(prefix, max((int(number) for number in numbers if number.isdecimal()), default=0))

    @property
    def last(self) -> int:
        """Return the highest number used."""
        return self._last

    def next_id(self) -> str:
        """Return the next id."""
        self._last += 1
        return f"{self._prefix}{self._last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a strategy already has when it starts: its position and orders of the run before."""

    position_lots: int = 0
    average_ticks: float = 0.0
    open_orders: tuple[OrderUpdated, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyContext:
    """A strategy's collaborators. `analyzer` is None when there is no ML process at all (`ml_service.mode: off`)."""

    file: StrategyFile
    instrument: Instrument
    bus: EventBus
    clock: Clock
    dom: DomView
    order_ids: IdSequence
    decision_ids: IdSequence
    analyzer: OrderFlowAnalyzer | None = None
    recovered: Recovered = Recovered()
    is_book_sound: bool = True
