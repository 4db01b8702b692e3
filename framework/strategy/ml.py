"""`MLStrategy`: the mission's decision flow, ready to subclass."""

from __future__ import annotations

from typing import Final, Literal

from framework.config import Count
from framework.inference.analyzer import NotDue
from framework.inference.decision import (
    ENTRIES,
    TRADES,
    Cell,
    Cooldown,
    Decision,
    DecisionInputs,
    DecisionSettings,
    Holding,
    OnSell,
    decide,
)
from framework.messages import Action, BookSnapshot, DomUpdated, FailureReason, Prediction, PredictionFailed
from framework.model import Side
from framework.strategy.base import Strategy
from framework.strategy.context import StrategyContext

REFUSAL_PAUSE_S: Final = 1.0
"""What runs at every book (exits, the default behaviour) waits this long after a denied or rejected order."""

_EXECUTING: Final = {
    Action.BUY: "Executing buy strategy based on ML signal...",
    Action.SELL: "Executing sell strategy based on ML signal...",
    Action.CLOSE: "Closing position based on ML signal...",
}
_DEFAULT_SELLS: Final = {
    (OnSell.SHORT, Holding.FLAT): Action.SELL,
    (OnSell.SHORT, Holding.LONG): Action.SELL,
    (OnSell.SHORT, Holding.SHORT): Action.ABSTAIN,
    (OnSell.FLAT, Holding.FLAT): Action.ABSTAIN,
    (OnSell.FLAT, Holding.LONG): Action.CLOSE,
    (OnSell.FLAT, Holding.SHORT): Action.ABSTAIN,
    (OnSell.IGNORE, Holding.FLAT): Action.ABSTAIN,
    (OnSell.IGNORE, Holding.LONG): Action.ABSTAIN,
    (OnSell.IGNORE, Holding.SHORT): Action.ABSTAIN,
}


class MLStrategy(Strategy):
    """Ask the ML process first; do what the decision table says (`docs/decision_table.md`).

    Override `default_action` (what to do without a usable prediction), `exit_reason` (when to leave a position) and
    `enter` (how to get in). A failure stands until the next outcome: meanwhile the default behaviour runs at every book.
    """

    class Parameters(Strategy.Parameters):
        """`order_quantity` in lots; `on_sell`: what a confident SELL means."""

        order_quantity: Count = 1
        on_sell: Literal["short", "flat", "ignore"] = "short"

    parameters: Parameters

    def __init__(self, context: StrategyContext, parameters: Parameters) -> None:
        super().__init__(context, parameters)
        self.decision_settings = DecisionSettings.of(context.file, OnSell(parameters.on_sell))
        self._standing: FailureReason | None = None if context.analyzer else FailureReason.ML_DOWN
        self._spell: Cell | None = None

    # --- what to override ------------------------------------------------------------------------------------------------

    def default_action(self, book: BookSnapshot) -> Action:  # noqa: ARG002 (a hook: overrides read the book)
        """Return what to do without a usable prediction: BUY, SELL, CLOSE or ABSTAIN.

        `on_sell` rules a SELL from here too, and nothing is sent while an order is open.
        """
        return Action.ABSTAIN

    def exit_reason(self, book: BookSnapshot) -> str | None:  # noqa: ARG002 (a hook: overrides read the book)
        """Return why the position has to be left now, or None. Asked at every book while there is a position."""
        return None

    def enter(self, side: Side, quantity: int, decision_id: str) -> str:
        """Send the order that opens (or turns) the position and return its `client_order_id`."""
        return self.submit(side, quantity, decision_id=decision_id)

    # --- the six steps ---------------------------------------------------------------------------------------------------

    def on_dom(self, update: DomUpdated) -> None:
        """Leave the position if it is time to; else ask for a prediction if one is due."""
        if self._leave(update.book):
            return
        answer = self.request_prediction()
        if isinstance(answer, NotDue) and answer.reason is Cell.INSUFFICIENT_DOM:
            self._say_once(answer.reason, "Insufficient DOM data for ML analysis. Waiting for more data...")
        if self._standing is not None:
            self._follow(self._standing, is_new=False)

    def on_prediction(self, prediction: Prediction) -> None:
        """Decide, act, record."""
        self._standing = None
        self._follow(prediction)

    def on_prediction_failed(self, failure: PredictionFailed) -> None:
        """Fall back to the default behaviour until the next outcome."""
        self._standing = failure.reason
        self._follow(failure.reason, prediction_id=failure.prediction_id)

    def _leave(self, book: BookSnapshot) -> bool:
        if self.position_lots == 0 or self.is_closing or not self.is_book_sound or self.refused_age_s < REFUSAL_PAUSE_S:
            return False
        reason = self.exit_reason(book)
        if reason is None:
            return False
        decision_id = self.next_decision_id()
        orders = self._trade(Action.CLOSE, decision_id)
        self.record_decision(Action.CLOSE, reason, decision_id=decision_id, client_order_ids=orders)
        self.log.info("Closing position: %s", reason)
        return True

    def _follow(self, outcome: Prediction | FailureReason, *, prediction_id: str | None = None, is_new: bool = True) -> None:
        decision = decide(self._inputs(outcome))
        prediction = outcome if isinstance(outcome, Prediction) else None
        self._say(decision, prediction)
        is_default = decision.action is Action.DEFAULT
        action = self._default() if is_default else decision.action
        decision_id = self.next_decision_id() if is_new or action in TRADES else None
        with self.based_on(None if is_default else prediction):
            orders = self._trade(action, decision_id)
        # A standing failure is one decision; what the default behaviour does in its time are decisions of their own.
        if is_new or orders:
            self.record_decision(
                decision.action,
                decision.reason,
                decision_id=decision_id,
                prediction=prediction,
                prediction_id=prediction_id,
                client_order_ids=orders,
            )

    def _inputs(self, outcome: Prediction | FailureReason) -> DecisionInputs:
        analyzer = self.context.analyzer
        return DecisionInputs(
            position_lots=self.position_lots,
            has_open_orders=bool(self.open_orders),
            is_book_sound=self.is_book_sound and self.dom.mid_ticks() is not None,
            cooldown=analyzer.cooldown(self.now_ns) if analyzer else Cooldown.READY,
            rows=self.dom.row_count,
            total_rows=self.dom.total_rows,
            now_ns=self.now_ns,
            outcome=outcome,
            settings=self.decision_settings,
        )

    def _default(self) -> Action:
        """Return the default action, kept to what the table keeps to: no pyramids, no shorts unless `on_sell` says so."""
        if self.book is None or self.refused_age_s < REFUSAL_PAUSE_S:
            return Action.ABSTAIN
        action = self.default_action(self.book)
        if self.open_orders and action in ENTRIES:
            return Action.ABSTAIN
        if action is Action.BUY:
            return Action.ABSTAIN if self.position_lots > 0 else action
        if action is Action.SELL:
            return _DEFAULT_SELLS[self.decision_settings.on_sell, Holding.of(self.position_lots)]
        return action

    def _trade(self, action: Action, decision_id: str | None) -> tuple[str, ...]:
        if decision_id is None or action not in TRADES:
            return ()
        if action is Action.CLOSE:
            order = self.close(decision_id=decision_id)
            return () if order is None else (order,)
        side = Side.BUY if action is Action.BUY else Side.SELL
        quantity = self.parameters.order_quantity + abs(self.position_lots)
        return (self.enter(side, quantity, decision_id),)

    # --- the mission's log lines -------------------------------------------------------------------------------------------

    def _say(self, decision: Decision, prediction: Prediction | None) -> None:
        threshold = self.decision_settings.confidence_threshold
        if decision.reason is Cell.LOW_CONFIDENCE and prediction is not None:
            self._say_once(decision.reason, "ML prediction confidence %.2f below threshold %s", prediction.confidence, threshold)
        elif decision.action is Action.DEFAULT or prediction is None:
            self._say_once(decision.reason, "No usable ML prediction (%s): default behaviour", decision.reason)
        else:
            self._spell = None
            self.log.info("ML prediction: %s with confidence %.2f", prediction.flow_type, prediction.confidence)
            if decision.action in _EXECUTING:
                self.log.info(_EXECUTING[decision.action])

    def _say_once(self, cell: Cell, sentence: str, *values: object) -> None:
        """Log a sentence that would repeat at every book once per spell."""
        if cell is not self._spell:
            self._spell = cell
            self.log.info(sentence, *values)
