"""What the summary counts: a tap of the bus that journals predictions on its way."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from framework.errors import StorageError
from framework.kernel.bus import Tap, TapByType
from framework.messages import (
    DecisionMade,
    Message,
    MLStateChanged,
    Prediction,
    PredictionFailed,
    PredictionReceived,
    StrategyQuarantined,
    TradeTick,
)
from framework.trading.journal import Journal

PREDICTIONS_SHOWN: Final = 6
COUNTED: Final = (PredictionReceived, PredictionFailed, DecisionMade, MLStateChanged, StrategyQuarantined, TradeTick)
"""What a `Tally` looks at."""
log = logging.getLogger("Tidebook")


@dataclass(slots=True)
class Tally:
    """What the summary counts and nobody else keeps: a `tap` of the bus that journals predictions, then calls the next one."""

    journal: Journal
    then: Callable[[Message], None] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    last_predictions: dict[str, deque[Prediction]] = field(default_factory=dict)
    last_trades: dict[str, int] = field(default_factory=dict)

    def tap_of(self, kind: type[Message]) -> Tap | None:
        """Return what sees the messages of a type: this, what comes after it, or nothing."""
        after = self.then.tap_of(kind) if isinstance(self.then, TapByType) else self.then
        if kind is TradeTick and after is None:
            return self._note_trade
        return self if kind in COUNTED else after

    def __call__(self, message: Message) -> None:
        """See one message."""
        kind = type(message)
        if kind is PredictionReceived or kind is PredictionFailed:
            self._note_prediction(message)
        elif kind is DecisionMade:
            self.counts["decisions"] += 1
        elif kind is MLStateChanged or kind is StrategyQuarantined:
            self._write(message)
        elif isinstance(message, TradeTick):
            self._note_trade(message)
        if self.then is not None:
            self.then(message)

    def _note_trade(self, tick: TradeTick) -> None:
        self.last_trades[tick.instrument_id] = tick.price_ticks

    def _note_prediction(self, message: Message) -> None:
        if isinstance(message, PredictionReceived):
            self.counts["predictions"] += 1
            self.last_predictions.setdefault(message.strategy_id, deque(maxlen=PREDICTIONS_SHOWN)).appendleft(message.prediction)
            self._write(message, key=message.prediction.prediction_id)
        elif isinstance(message, PredictionFailed):
            self.counts["predictions_failed"] += 1
            self.counts[f"predictions_failed_{message.reason.lower()}"] += 1
            self._write(message, key=message.prediction_id)

    def _write(self, message: Message, *, key: str = "") -> None:
        try:
            self.journal.append(type(message).__name__, message, key=key)
        except StorageError as exc:
            log.error("%s", exc)
