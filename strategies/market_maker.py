"""Quote both sides around a fair price that leans against the inventory and with the prediction.

    reservation price = mid - inventory_lean_ticks * position / max_inventory + ml_lean_ticks * (p_up - p_down)

The lean against the inventory is the linear form of Avellaneda & Stoikov (2008), "High-frequency trading in a limit order book"
(reservation price), with the risk aversion and volatility in one number that a trader can set.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from framework.messages import Action, BookInvalid, BookSnapshot, DomUpdated, OrderUpdated, Prediction, PredictionFailed, SessionChanged
from framework.model import NS_PER_S, Side
from framework.strategy import Strategy


class MarketMakerStrategy(Strategy):
    """Keep one post-only order on each side; never hold more than `max_inventory` lots; step aside in a liquidity shock."""

    class Parameters(Strategy.Parameters):
        """Distances in ticks of the instrument, quantities in lots, times in s of market time.

        `lean_horizon_rows`: which horizon of the prediction to lean with, where the version knows it; 0 is the traded one.
        """

        order_quantity: Annotated[int, Field(ge=1)] = 1
        max_inventory: Annotated[int, Field(ge=1)] = 5
        half_spread_ticks: Annotated[float, Field(gt=0, le=1_000)] = 0.5
        inventory_lean_ticks: Annotated[float, Field(ge=0, le=1_000)] = 1.0
        ml_lean_ticks: Annotated[float, Field(ge=0, le=1_000)] = 1.5
        lean_horizon_rows: Annotated[int, Field(ge=0, le=1_000)] = 0
        requote_s: Annotated[float, Field(ge=0, le=3_600)] = 0.5
        max_shock_score: Annotated[float, Field(gt=0, le=1)] = 0.7
        stop_loss_ticks: Annotated[int, Field(ge=0)] = 12

    parameters: Parameters

    def on_start(self) -> None:
        """Begin without a prediction, with the orders of the run before gone: their prices are old."""
        self._prediction: Prediction | None = None
        self._decision_id: str | None = None
        self._quoted_ns = 0
        self._is_open = True
        self._quotes: dict[Side, str] = {}
        self.cancel_all()

    def on_dom(self, update: DomUpdated) -> None:
        """Ask for a prediction if one is due; leave what went too far against us; else move the quotes."""
        self.request_prediction()
        book = update.book
        if not (self.is_book_sound and self._is_open and book.bid_ticks and book.ask_ticks):
            return
        if self._has_lost(book):
            self._leave()
        elif self.now_ns - self._quoted_ns >= self.parameters.requote_s * NS_PER_S:
            self._quoted_ns = self.now_ns
            for side, price in self.prices(book).items():
                self._quote(side, price)

    def on_prediction(self, prediction: Prediction) -> None:
        """Lean with it from the next quote on, and record what it was used for."""
        self._prediction = prediction
        reason = "STEP_ASIDE" if self._is_shock() else "QUOTES_LEAN"
        self._decision_id = self.record_decision(Action.ABSTAIN, reason, prediction=prediction)

    def on_prediction_failed(self, failure: PredictionFailed) -> None:
        """Quote without a lean."""
        self._prediction = None
        self._decision_id = self.record_decision(Action.DEFAULT, f"ML_{failure.reason}", prediction_id=failure.prediction_id)

    def on_order(self, order: OrderUpdated) -> None:
        """Forget a quote that has ended."""
        if order.client_order_id not in self.open_orders and self._quotes.get(order.side) == order.client_order_id:
            del self._quotes[order.side]

    def on_book_invalid(self, event: BookInvalid) -> None:  # noqa: ARG002 (a hook)
        """Take the quotes back: they would rest blind."""
        self.cancel_all()

    def on_session(self, session: SessionChanged) -> None:
        """Quote while trading is open."""
        self._is_open = session.is_open
        if not session.is_open:
            self.cancel_all()

    # --- prices --------------------------------------------------------------------------------------------------------

    def prices(self, book: BookSnapshot) -> dict[Side, int | None]:
        """Return where each side should rest, in ticks; None where it should not: full inventory, or a shock."""
        if self._is_shock():
            return {Side.BUY: None, Side.SELL: None}
        fair, half = self.fair_ticks(book), self.parameters.half_spread_ticks
        # Never through the other side: a quote that would take is refused by the venue.
        bid = min(math.floor(fair - half), book.ask_ticks[0] - 1)
        ask = max(math.ceil(fair + half), book.bid_ticks[0] + 1)
        room = self.parameters.max_inventory - self.parameters.order_quantity
        return {Side.BUY: bid if self.position_lots <= room else None, Side.SELL: ask if -self.position_lots <= room else None}

    def fair_ticks(self, book: BookSnapshot) -> float:
        """Return the reservation price in ticks."""
        mid = (book.bid_ticks[0] + book.ask_ticks[0]) / 2
        lean = self.parameters.inventory_lean_ticks * self.position_lots / self.parameters.max_inventory
        return mid - lean + self.parameters.ml_lean_ticks * self._signal()

    def _signal(self) -> float:
        """Return how much likelier up is than down, over the horizon to lean with; 0 without a fresh prediction."""
        prediction = self._fresh()
        if prediction is None:
            return 0.0
        asked = prediction.over(self.parameters.lean_horizon_rows) or prediction
        return asked.p_up - asked.p_down

    def _fresh(self) -> Prediction | None:
        one = self._prediction
        return one if one is not None and one.age_s(self.now_ns) <= self.context.file.max_prediction_age_s else None

    def _is_shock(self) -> bool:
        prediction = self._fresh()
        return prediction is not None and prediction.shock_score > self.parameters.max_shock_score

    # --- orders --------------------------------------------------------------------------------------------------------

    def _quote(self, side: Side, price: int | None) -> None:
        order = self.open_orders.get(self._quotes.get(side, ""))
        if order is None:
            if price is not None and not self.is_closing:
                quantity = self.parameters.order_quantity
                with self.based_on(self._fresh()):
                    self._quotes[side] = self.submit(side, quantity, limit_ticks=price, post_only=True, decision_id=self._decision_id)
        elif price is None:
            self.cancel(order.client_order_id)
        elif order.limit_ticks != price:
            self.amend(order.client_order_id, limit_ticks=price)

    def _has_lost(self, book: BookSnapshot) -> bool:
        stop = self.parameters.stop_loss_ticks
        if not stop or self.position_lots == 0 or self.is_closing:
            return False
        exit_ticks = book.bid_ticks[0] if self.position_lots > 0 else book.ask_ticks[0]
        return (exit_ticks - self.average_ticks) * (1 if self.position_lots > 0 else -1) <= -stop

    def _leave(self) -> None:
        decision_id = self.next_decision_id()
        order_id = self.close(decision_id=decision_id)
        self.record_decision(Action.CLOSE, "STOP_LOSS", decision_id=decision_id, client_order_ids=(order_id,) if order_id else ())
        self.log.info("Closing position: STOP_LOSS")
