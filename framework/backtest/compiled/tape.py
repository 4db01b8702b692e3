"""What a compiled run leaves, as the messages of every other run: made when somebody asks for them."""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property

from framework.backtest.compiled.layout import MAKER
from framework.backtest.compiled.reasons import Words, price_or_none
from framework.backtest.lean.columns import MarketColumns
from framework.backtest.tape import Tape
from framework.config import MainConfig
from framework.messages import Filled, OrderUpdated
from framework.model import Liquidity, OrderType, Side
from framework.strategy.compiled.views import LIFE, LIMIT, LIVES, NO_LIMIT, SIDE, STATES
from framework.window import Int64Array

_SIDES = {1: Side.BUY, -1: Side.SELL}


class Left:
    """The tables of a run, cut to what is in them: orders ever made, what became of them, fills."""

    def __init__(self, columns: MarketColumns, settings: MainConfig, name: str, rows: Int64Array, updates: Int64Array, fills: Int64Array):
        self._instrument_id, self._name = columns.instrument.instrument_id, name
        self._words = Words(columns, settings.risk, name)
        self._fees = {liquidity: fee for liquidity, fee in enumerate((settings.paper.maker_fee, settings.paper.taker_fee))}
        self._rows, self._updates, self._fills = rows, updates, fills

    @property
    def fill_count(self) -> int:
        """Return how many fills there were."""
        return len(self._fills)

    @property
    def fees(self) -> Decimal:
        """Return what all fills cost."""
        lots = [int(self._fills[self._fills[:, 4] == liquidity, 2].sum()) for liquidity in self._fees]
        return sum((fee * count for fee, count in zip(self._fees.values(), lots, strict=True)), Decimal(0))

    @cached_property
    def fills(self) -> list[Filled]:
        """Return the fills, in the order in which they were heard of."""
        sides = self._rows[self._fills[:, 0] - 1, SIDE].tolist()
        return [self._filled(side, *row) for side, row in zip(sides, self._fills.tolist(), strict=True)]

    @cached_property
    def updates(self) -> list[OrderUpdated]:
        """Return every change of every order."""
        rows = self._rows[self._updates[:, 0] - 1]
        terms = zip(rows[:, SIDE].tolist(), rows[:, LIFE].tolist(), (rows[:, LIMIT] == NO_LIMIT).tolist(), strict=True)
        return [self._update(*term, *row) for term, row in zip(terms, self._updates.tolist(), strict=True)]

    def _filled(self, side: int, order: int, ts_event: int, lots: int, price: int, liquidity: int, done: int) -> Filled:
        name = f"{self._name}-{order}"
        return Filled(
            client_order_id=name,
            trade_id=f"T-{name}-{done}",
            strategy_id=self._name,
            instrument_id=self._instrument_id,
            ts_event=ts_event,
            side=_SIDES[side],
            quantity=lots,
            price_ticks=price,
            fee=self._fees[liquidity] * lots,
            liquidity=Liquidity.MAKER if liquidity == MAKER else Liquidity.TAKER,
        )

    def _update(
        self,
        side: int,
        life: int,
        is_market: bool,  # noqa: FBT001 (a column)
        order: int,
        ts_event: int,
        state: int,
        lots: int,
        done: int,
        paid: int,
        limit: int,
        *reason: int,
    ) -> OrderUpdated:
        return OrderUpdated(
            client_order_id=f"{self._name}-{order}",
            strategy_id=self._name,
            instrument_id=self._instrument_id,
            ts_event=ts_event,
            side=_SIDES[side],
            quantity=lots,
            filled_quantity=done,
            average_ticks=paid / done if done else None,
            limit_ticks=price_or_none(limit),
            status=STATES[state - 1],
            reason=self._words.of(*reason),
            order_type=OrderType.MARKET if is_market else OrderType.LIMIT,
            time_in_force=LIVES[life],
        )


class CompiledTape(Tape):
    """A tape whose orders and fills are made when they are asked for."""

    def __init__(self, left: Left) -> None:
        self._left: Left | None = None
        super().__init__()
        self._left = left

    @property
    def orders(self) -> list[OrderUpdated]:
        """Return every change of every order."""
        return [] if self._left is None else self._left.updates

    @orders.setter
    def orders(self, orders: list[OrderUpdated]) -> None:
        """Leave out what a tape begins with: nothing."""

    @property
    def fills(self) -> list[Filled]:
        """Return the fills."""
        return [] if self._left is None else self._left.fills

    @fills.setter
    def fills(self, fills: list[Filled]) -> None:
        """Leave out what a tape begins with: nothing."""
