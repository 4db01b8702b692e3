"""The ML process decides first; the book-imbalance rule is the default behaviour without a usable prediction."""

from __future__ import annotations

from framework.messages import Action, BookSnapshot, DomUpdated
from framework.model import Side
from framework.strategy import MLStrategy
from strategies.book_imbalance import ImbalanceParameters, ImbalanceRule, cancel_stale_entries, enter, exit_by_price_or_time


class MLFuturesStrategy(MLStrategy):
    """The mission's decision flow for futures: predictions first, then the rule; exits by time and ticks either way."""

    class Parameters(MLStrategy.Parameters, ImbalanceParameters):
        """Everything of `MLStrategy` and of the imbalance rule."""

    parameters: Parameters
    rule: ImbalanceRule

    def on_start(self) -> None:
        """Start the rule cold."""
        self.rule = ImbalanceRule(self.parameters)

    def on_dom(self, update: DomUpdated) -> None:
        """Keep the rule warm, then follow the decision flow."""
        self.rule.update(update.book)
        cancel_stale_entries(self, self.parameters)
        super().on_dom(update)

    def exit_reason(self, book: BookSnapshot) -> str | None:
        """Leave at a gain or loss in ticks, or after a time."""
        return exit_by_price_or_time(self, self.parameters, book)

    def default_action(self, book: BookSnapshot) -> Action:  # noqa: ARG002 (the rule has seen the book already)
        """Do what the imbalance rule does."""
        if self.position_lots != 0:
            return Action.CLOSE if self.rule.is_against(self.position_lots) else Action.ABSTAIN
        side = self.rule.side()
        if side is None or self.position_age_s < self.parameters.entry_pause_s:
            return Action.ABSTAIN
        return Action(side.value)

    def enter(self, side: Side, quantity: int, decision_id: str) -> str:
        """Send the entry in the configured style."""
        return enter(self, self.parameters, side, quantity, decision_id)
