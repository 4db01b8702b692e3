"""Follow a breakout of the price from its range, unless the ML process says that it will turn.

The range is the Donchian channel of the last bars (highest high, lowest low); distances are in average true ranges (Wilder 1978).
"""

from __future__ import annotations

from collections import deque
from typing import Annotated, Literal

from pydantic import Field

from framework.messages import Action, Bar, Prediction, PredictionFailed
from framework.model import NS_PER_S, Side
from framework.strategy import NotDue, Strategy


class Candle:
    """A bar over several seconds, built from shorter ones. Prices in ticks."""

    __slots__ = ("close_ticks", "high_ticks", "low_ticks", "number")

    def __init__(self, number: int, bar: Bar) -> None:
        self.number = number
        self.high_ticks, self.low_ticks, self.close_ticks = bar.high_ticks, bar.low_ticks, bar.close_ticks

    def add(self, bar: Bar) -> None:
        """Take another bar of the same interval."""
        self.high_ticks, self.low_ticks = max(self.high_ticks, bar.high_ticks), min(self.low_ticks, bar.low_ticks)
        self.close_ticks = bar.close_ticks


class Channel:
    """The last `length` finished candles: their range, and the average of their true ranges."""

    def __init__(self, length: int, candle_s: float) -> None:
        self._candle_ns = round(candle_s * NS_PER_S)
        self._candles: deque[Candle] = deque(maxlen=length)
        # Beside the candles: the extremes of plain numbers take a fifth of the time.
        self._highs: deque[int] = deque(maxlen=length)
        self._lows: deque[int] = deque(maxlen=length)
        self._running: Candle | None = None

    @property
    def is_full(self) -> bool:
        """Return whether there are as many candles as it looks at."""
        return len(self._candles) == self._candles.maxlen

    def add(self, bar: Bar) -> Candle | None:
        """Take a bar; return the candle that it ends, which is not part of the channel yet: `push` it when it was looked at."""
        number = (bar.ts_event - 1) // self._candle_ns
        finished = self._running
        if finished is not None and finished.number == number:
            finished.add(bar)
            return None
        self._running = Candle(number, bar)
        return finished

    def push(self, candle: Candle) -> None:
        """Make a finished candle part of the channel."""
        self._candles.append(candle)
        self._highs.append(candle.high_ticks)
        self._lows.append(candle.low_ticks)

    def side_of(self, candle: Candle, beyond_ticks: int) -> Side | None:
        """Return which way a candle closed beyond the channel, or None."""
        if candle.close_ticks >= max(self._highs) + beyond_ticks:
            return Side.BUY
        return Side.SELL if candle.close_ticks <= min(self._lows) - beyond_ticks else None

    def true_range_ticks(self) -> float:
        """Return the mean of the true ranges, at least 1 tick."""
        candles = list(self._candles)
        closes = [candles[0].close_ticks, *(one.close_ticks for one in candles)]
        ranges = [max(one.high_ticks, before) - min(one.low_ticks, before) for one, before in zip(candles, closes, strict=False)]
        return max(1.0, sum(ranges) / len(ranges))


class BreakoutStrategy(Strategy):
    """Enter with a bracket when a candle closes beyond the channel; a confident prediction against it is a veto."""

    class Parameters(Strategy.Parameters):
        """`candle_s` and times in s of market time; `stop_ranges` and `target_ranges` in average true ranges."""

        order_quantity: Annotated[int, Field(ge=1)] = 1
        candle_s: Annotated[float, Field(ge=1, le=86_400)] = 15.0
        length: Annotated[int, Field(ge=2, le=1_000)] = 20
        beyond_ticks: Annotated[int, Field(ge=0, le=1_000)] = 1
        stop_ranges: Annotated[float, Field(gt=0, le=100)] = 1.5
        target_ranges: Annotated[float, Field(gt=0, le=100)] = 3.0
        max_holding_s: Annotated[float, Field(ge=0)] = 600.0
        without_ml: Literal["trade", "abstain"] = "trade"

    parameters: Parameters

    def on_start(self) -> None:
        """Begin with an empty channel; a position of the run before is left after its time."""
        self._channel = Channel(self.parameters.length, self.parameters.candle_s)
        self._waiting: Side | None = None
        self._target_ticks = 0
        self._stop_ticks = 0

    def on_bar(self, bar: Bar) -> None:
        """Look at a finished candle, and leave a position that is too old."""
        if 0 < self.parameters.max_holding_s <= self.position_age_s and self.position_lots != 0 and not self.is_closing:
            self._leave()
        candle = self._channel.add(bar)
        if candle is None:
            return
        if self._channel.is_full:
            self._look(candle)
        self._channel.push(candle)

    def _look(self, candle: Candle) -> None:
        side = self._channel.side_of(candle, self.parameters.beyond_ticks)
        if side is None or self.position_lots != 0 or self.open_orders or self._waiting is not None or not self.is_book_sound:
            return
        width = self._channel.true_range_ticks()
        self._target_ticks = candle.close_ticks + side.sign * round(self.parameters.target_ranges * width)
        self._stop_ticks = candle.close_ticks - side.sign * max(1, round(self.parameters.stop_ranges * width))
        answer = self.request_prediction()
        if isinstance(answer, NotDue):
            self._without_ml(side, f"ML_{answer.reason}", None)
        else:
            self._waiting = side

    def on_prediction(self, prediction: Prediction) -> None:
        """Enter, unless the prediction is sure of the other direction."""
        side, self._waiting = self._waiting, None
        if side is None:
            return
        is_sure = prediction.confidence >= self.context.file.prediction_confidence_threshold
        if is_sure and prediction.flow_type.direction == -side.sign:
            self.record_decision(Action.ABSTAIN, "ML_VETO", prediction=prediction)
        else:
            self._enter(side, "BREAKOUT", prediction)

    def on_prediction_failed(self, failure: PredictionFailed) -> None:
        """Do without."""
        side, self._waiting = self._waiting, None
        if side is not None:
            self._without_ml(side, f"ML_{failure.reason}", failure.prediction_id)

    def _without_ml(self, side: Side, reason: str, prediction_id: str | None) -> None:
        if self.parameters.without_ml == "trade":
            self._enter(side, reason, None, prediction_id)
        elif self.book is not None:
            self.record_decision(Action.ABSTAIN, reason, prediction_id=prediction_id)

    def _enter(self, side: Side, reason: str, prediction: Prediction | None, prediction_id: str | None = None) -> None:
        if self.book is None or not self.is_book_sound or self.position_lots != 0 or self.open_orders:
            return
        decision_id = self.next_decision_id()
        with self.based_on(prediction):
            ids = self.bracket(
                side, self.parameters.order_quantity, target_ticks=self._target_ticks, stop_ticks=self._stop_ticks, decision_id=decision_id
            )
        self.record_decision(
            Action(side.value),
            reason,
            decision_id=decision_id,
            prediction=prediction,
            prediction_id=prediction_id,
            client_order_ids=(ids.entry,),
        )
        self.log.info(
            "%s %d lots: breakout, target %d, stop %d", side, self.parameters.order_quantity, self._target_ticks, self._stop_ticks
        )

    def _leave(self) -> None:
        decision_id = self.next_decision_id()
        order_id = self.close(decision_id=decision_id)
        self.record_decision(Action.CLOSE, "MAX_HOLDING", decision_id=decision_id, client_order_ids=(order_id,) if order_id else ())
