"""How decisions end, without a bus: who gets the PnL of a fill, and what the market did after a decision."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Final

import msgspec

from framework.messages import MARKOUT_HORIZONS_S, Bar, BookSnapshot, DecisionMade, Feedback, Filled
from framework.model import NS_PER_S, TradeOutcome

_FEE_STEP: Final = Decimal("1e-8")


def mid_of(book: BookSnapshot) -> float | None:
    """Return the mid of `book` in ticks, or None while a side is empty."""
    return (book.bid_ticks[0] + book.ask_ticks[0]) / 2 if book.bid_ticks and book.ask_ticks else None


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one fill did for the decision that opened the lots: lots opened or closed, and the net PnL of those closed."""

    decision_id: str | None
    opened: int = 0
    closed: int = 0
    pnl: Decimal = Decimal(0)


class _Lot:
    __slots__ = ("decision_id", "fee", "price_ticks", "quantity")

    def __init__(self, decision_id: str | None, quantity: int, price_ticks: Decimal, fee: Decimal) -> None:
        self.decision_id = decision_id
        self.quantity = quantity
        self.price_ticks = price_ticks
        self.fee = fee


class FifoLots:
    """Open lots of one strategy in one instrument; the oldest are closed first.

    A round trip belongs to the decision that opened it: price difference, its share of the opening fee and the closing
    fee. Shares are exact: whatever the order of fills, they add up to the cash that was made. As many lots as the
    position has, at most. `None` stands for orders that no decision sent.
    """

    def __init__(self, tick_value: Decimal, *, position_lots: int = 0, average_ticks: float = 0.0) -> None:
        self._tick_value = tick_value
        self._lots: deque[_Lot] = deque()
        if position_lots:
            self._lots.append(_Lot(None, position_lots, Decimal(str(average_ticks)), Decimal(0)))

    @property
    def position_lots(self) -> int:
        """Return the signed sum of the open lots."""
        return sum(lot.quantity for lot in self._lots)

    def unrealized(self, mark_ticks: Decimal) -> Decimal:
        """Return the PnL of the open lots at `mark_ticks`, less the fees paid for them."""
        gains = (lot.quantity * (mark_ticks - lot.price_ticks) * self._tick_value - lot.fee for lot in self._lots)
        return sum(gains, Decimal(0))

    def apply(self, fill: Filled) -> list[Share]:
        """Take one fill; return a share for each lot that it closed and one for what it opened."""
        shares: list[Share] = []
        left, fee_left = fill.quantity, fill.fee
        while left and self._lots and self._lots[0].quantity * fill.side.sign < 0:
            count = min(left, abs(self._lots[0].quantity))
            fee = _part(fee_left, count, left)
            shares.append(self._close(fill, count, fee))
            left, fee_left = left - count, fee_left - fee
        if left:
            self._lots.append(_Lot(fill.decision_id, left * fill.side.sign, Decimal(fill.price_ticks), fee_left))
            shares.append(Share(decision_id=fill.decision_id, opened=left))
        return shares

    def _close(self, fill: Filled, count: int, closing_fee: Decimal) -> Share:
        lot = self._lots[0]
        opening_fee = _part(lot.fee, count, abs(lot.quantity))
        gain = -fill.side.sign * count * (fill.price_ticks - lot.price_ticks) * self._tick_value
        lot.quantity += fill.side.sign * count
        lot.fee -= opening_fee
        if lot.quantity == 0:
            self._lots.popleft()
        return Share(decision_id=lot.decision_id, closed=count, pnl=gain - opening_fee - closing_fee)


def _part(fee: Decimal, count: int, of: int) -> Decimal:
    """Return the fee of `count` lots; the last lots get the rest, so that nothing is lost to rounding."""
    return fee if count == of else (fee * count / of).quantize(_FEE_STEP)


class Markout(msgspec.Struct, frozen=True):
    """The mid-price move from a decision to a horizon, ticks; None where it cannot be known."""

    decision_id: str
    horizon_s: int
    ticks: float | None


class Markouts:
    """Markouts of one instrument: the mid of the last book at or before decision time + horizon, less the decision's.

    Time is that of the books. A joint (session break, gap, refused book: where the rows of the DOM buffer break too) cuts
    what is due after the last book before it. `add` takes decisions in order of time.
    """

    def __init__(self) -> None:
        self._due: dict[int, deque[tuple[int, str, float]]] = {horizon_s: deque() for horizon_s in MARKOUT_HORIZONS_S}
        self._mid: float | None = None
        self._ts_event = 0
        self._sequence = -1

    def add(self, decision: DecisionMade) -> list[Markout]:
        """Follow a decision; returns what got due (the book that it was made on may be new here) or cannot be followed."""
        resolved = self.on_book(decision.book)
        mid = mid_of(decision.book)
        if mid is None:
            return resolved + [Markout(decision.decision_id, horizon_s, None) for horizon_s in self._due]
        for horizon_s, due in self._due.items():
            due.append((decision.ts_event + horizon_s * NS_PER_S, decision.decision_id, mid))
        return resolved

    def on_book(self, book: BookSnapshot) -> list[Markout]:
        """Take a book; return the markouts that were due before it."""
        if book.sequence <= self._sequence:
            return []
        resolved = self.resolve(book.ts_event - 1)
        self._mid, self._ts_event, self._sequence = mid_of(book), book.ts_event, book.sequence
        return resolved

    def resolve(self, until_ns: int) -> list[Markout]:
        """Return the markouts that are due at or before `until_ns`, at the last mid."""
        resolved = []
        for horizon_s, due in self._due.items():
            while due and due[0][0] <= until_ns:
                _, decision_id, mid = due.popleft()
                resolved.append(Markout(decision_id, horizon_s, None if self._mid is None else self._mid - mid))
        return resolved

    def cut(self) -> list[Markout]:
        """Return everything that is due after the last book as unknown: nobody saw that market. Sequences may start anew."""
        resolved = self.resolve(self._ts_event)
        for horizon_s, due in self._due.items():
            resolved += [Markout(decision_id, horizon_s, None) for _, decision_id, _ in due]
            due.clear()
        self._mid, self._sequence = None, -1
        return resolved


class OpenDecision:
    """A decision that waits for its outcome."""

    __slots__ = ("closed", "decision", "filled", "last_bar", "markouts", "opened", "pnl", "reported", "unknown_markouts", "working")

    def __init__(self, decision: DecisionMade, last_bar: Bar | None) -> None:
        self.decision = decision
        self.last_bar = last_bar
        self.working = set(decision.client_order_ids)
        self.reported = 0
        self.filled = 0
        self.opened = 0
        self.closed = 0
        self.pnl = Decimal(0)
        self.markouts: dict[int, float] = {}
        self.unknown_markouts = len(MARKOUT_HORIZONS_S)

    def has_ended(self) -> bool:
        """Return whether the trade is over: no order works, every fill is here, every lot it opened is closed."""
        return not self.working and self.filled >= self.reported and self.opened == self.closed

    def outcome(self) -> TradeOutcome | None:
        """Return the trade's outcome: by net PnL once what it opened is closed, EXECUTED before that or if it opened nothing."""
        if self.filled == 0:
            return None
        if self.opened == 0 or self.opened > self.closed:
            return TradeOutcome.EXECUTED
        return TradeOutcome.PROFIT if self.pnl > 0 else TradeOutcome.LOSS if self.pnl < 0 else TradeOutcome.BREAKEVEN

    def to_feedback(self, closed_ns: int) -> Feedback:
        """Close the decision with what is known; the feedback has its id."""
        return Feedback(
            feedback_id=self.decision.decision_id,
            decision=self.decision,
            trade_executed=self.filled > 0,
            trade_outcome=self.outcome(),
            pnl=self.pnl if self.closed else None,
            markouts_ticks={str(horizon_s): self.markouts[horizon_s] for horizon_s in sorted(self.markouts)},
            last_bar=self.last_bar,
            closed_ns=closed_ns,
        )
