"""How strategies, instruments and the account have done: the day's loss, the drawdown, losing trades in a row."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Final, TypeVar

from framework.model import NS_PER_S, TradingState
from framework.trading.portfolio import Key, Portfolio, Position
from framework.trading.records import RiskMarked
from framework.trading.risk.view import Loss

DAY_NS: Final = 86_400 * NS_PER_S
Scope = tuple[str | None, str | None]
Value = TypeVar("Value")
ACCOUNT: Final[Scope] = (None, None)
ZERO: Final = Decimal(0)


class LossBook:
    """Profit by scope: (strategy, None), (None, instrument), (None, None) for the account.

    Realized profit, losing trades and fills come from the fills themselves and so from the journal. What depends on the market (the
    equity at which the day began, the best there ever was) is written to the journal when it changes: `mark` returns that record.
    """

    def __init__(self, portfolio: Portfolio) -> None:
        self._portfolio = portfolio
        self._marks: dict[str, float] = {}
        self._equities: dict[Scope, Decimal] = {}
        self._worked_out_at = (-1, -1)
        self._moves = 0
        self._trade_base: dict[Key, Decimal] = {}
        self.losses: Counter[Scope] = Counter()
        self.fills: Counter[Scope] = Counter()
        self.day = -1
        self.day_start: dict[Scope, Decimal] = {}
        self.peak: dict[Scope, Decimal] = {}

    def on_mid(self, instrument_id: str, mid_ticks: float) -> None:
        """Take the market's price of an instrument."""
        if self._marks.get(instrument_id) != mid_ticks:
            self._marks[instrument_id] = mid_ticks
            self._moves += 1

    def on_fill(self, key: Key, position: Position, *, quantity_before: int, net_before: Decimal | None) -> None:
        """Count a fill, and the trade that it ends: a position that became flat or turned. `net_before`: if it was flat."""
        scopes = scopes_of(key)
        self.fills.update(scopes)
        if net_before is not None:
            self._trade_base[key] = net_before
        if quantity_before == 0 or position.quantity * quantity_before > 0:
            return
        result = position.net_realized - self._trade_base.get(key, ZERO)
        for scope in scopes:
            self.losses[scope] = self.losses[scope] + 1 if result < 0 else 0
        self._trade_base[key] = position.net_realized

    def on_state(self, state: TradingState) -> None:
        """Begin to count anew when an operator lets trading go on."""
        if state is TradingState.ACTIVE:
            self.losses.clear()
            self.fills.clear()

    def equity(self, scope: Scope = ACCOUNT) -> Decimal:
        """Return realized and open profit less fees; a position that has no mark yet counts at its cost."""
        if self._worked_out_at != (self._portfolio.version, self._moves):
            self._work_out()
        return self._equities.get(scope, ZERO)

    def _work_out(self) -> None:
        """Work out what every scope is worth: a price or a position has moved. The gate asks for three of them at each order."""
        self._worked_out_at = (self._portfolio.version, self._moves)
        equities = self._equities = {}
        for key, position in self._portfolio.positions().items():
            profit = self._profit(key, position)
            for scope in (*scopes_of(key), key):
                equities[scope] = equities.get(scope, ZERO) + profit

    def loss(self, scope: Scope) -> Loss:
        """Return how a scope has done. One that was never marked begins here."""
        equity = self.equity(scope)
        return Loss(
            day=equity - self.day_start.get(scope, equity),
            drawdown=max(self.peak.get(scope, equity), equity) - equity,
            losses_in_a_row=self.losses[scope],
            fills_unattended=self.fills[scope],
        )

    def mark(self, now_ns: int, day_starts_ns: int, wanted: tuple[Scope, ...]) -> RiskMarked | None:
        """Take the equity of some scopes as it is now; return what has to be remembered, None if nothing changed."""
        day = (now_ns - day_starts_ns) // DAY_NS
        is_new = day != self.day
        if is_new:
            self.day, self.day_start = day, {}
        for scope in wanted:
            equity = self.equity(scope)
            if scope not in self.day_start:
                self.day_start[scope] = equity
                is_new = True
            if scope not in self.peak or equity > self.peak[scope]:
                self.peak[scope] = equity
                is_new = True
        return self.record(now_ns) if is_new and wanted else None

    def record(self, now_ns: int) -> RiskMarked:
        """Return what only the market knew, as a record."""
        return RiskMarked(ts_event=now_ns, day=self.day, day_start=_named(self.day_start), peak=_named(self.peak))

    def recall(self, marked: RiskMarked) -> None:
        """Take what an earlier run remembered."""
        self.day, self.day_start, self.peak = marked.day, _scoped(marked.day_start), _scoped(marked.peak)

    def counted(self, counts: Counter[Scope]) -> dict[str, int]:
        """Return counts by the names of their scopes, those that are not 0."""
        return {_name(scope): count for scope, count in sorted(counts.items(), key=lambda item: _name(item[0])) if count}

    def restore(self, losses: dict[str, int], fills: dict[str, int], marks: RiskMarked) -> None:
        """Take what `counted` and `record` returned."""
        self.losses, self.fills = Counter(_scoped(losses)), Counter(_scoped(fills))
        self.recall(marks)

    def bases(self) -> dict[Key, Decimal]:
        """Return the realized profit at which each open trade began."""
        return dict(self._trade_base)

    def restore_bases(self, bases: dict[Key, Decimal]) -> None:
        """Take what `bases` returned."""
        self._trade_base = dict(bases)

    def _profit(self, key: Key, position: Position) -> Decimal:
        mark = self._marks.get(key[1])
        return position.net_realized + (position.unrealized_pnl(mark) if mark is not None and position.quantity else ZERO)


def scopes_of(key: Key) -> tuple[Scope, Scope, Scope]:
    """Return the scopes that a strategy's position in an instrument counts in."""
    return (key[0], None), (None, key[1]), ACCOUNT


def _name(scope: Scope) -> str:
    return f"{scope[0] or ''}\t{scope[1] or ''}"


def _named(values: dict[Scope, Value]) -> dict[str, Value]:
    return {_name(scope): value for scope, value in sorted(values.items(), key=lambda item: _name(item[0]))}


def _scoped(values: dict[str, Value]) -> dict[Scope, Value]:
    found: dict[Scope, Value] = {}
    for name, value in values.items():
        strategy_id, _, instrument_id = name.partition("\t")
        found[strategy_id or None, instrument_id or None] = value
    return found
