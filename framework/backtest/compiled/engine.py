"""Run a compiled strategy over a recording: one compiled loop, the fills, fees and figures of a lean backtest.

The interpreted code is the law: `tests/backtest/compiled` runs the same strategies both ways and wants every update, fill and denial equal.
"""

from __future__ import annotations

import time
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numba
from numba import types

from framework.backtest.compiled.allowed import check_compiled
from framework.backtest.compiled.cache import drop_stale
from framework.backtest.compiled.host import desk_of, host_of, limits_of, roomier
from framework.backtest.compiled.layout import GROW, REPORT_MARGIN, TOO_MANY_COMMANDS, TOO_MANY_REPORTS, Host, point
from framework.backtest.compiled.loop import play, wind_down
from framework.backtest.compiled.matching import match
from framework.backtest.compiled.reasons import CODES
from framework.backtest.compiled.tape import CompiledTape, Left
from framework.backtest.engine import OFF, Plan, Run, Source
from framework.backtest.lean.columns import MarketColumns
from framework.backtest.lean.kept import columns_of
from framework.errors import ConfigError, StartRefused
from framework.model import NS_PER_S
from framework.operations.options import Summary
from framework.operations.trading_process import WIND_DOWN_S
from framework.progress import Progress
from framework.strategy.compiled import CompiledStrategy
from framework.strategy.compiled.verbs import submit
from framework.strategy.compiled.views import MOST_COMMANDS, NO_LEVELS, NO_TRADE, SENT, Market, empty_orders
from framework.trading.portfolio import MICRO, Position

FIRST_ROOM: Final = 1 << 13
LARGEST: Final = 1 << 62


def run_compiled(plan: Plan, on_progress: Progress) -> Run:
    """Read the recordings of a plan and run it compiled. Blocks. The recordings of the last plan of this process are kept for the next."""
    check_compiled(plan)
    return execute_compiled(plan, columns_of(plan, on_progress), on_progress)


def execute_compiled(plan: Plan, columns: MarketColumns, on_progress: Progress) -> Run:
    """Run the strategy over a recording that was read. Blocks. Raises `TidebookError` when it cannot run."""
    check_compiled(plan)
    _check_money(plan, columns)
    return CompiledRun(plan, columns).run(on_progress)


def load_compiled(plan: Plan, columns: MarketColumns) -> None:
    """Compile the loop for the strategy of a plan (the first time on a machine: some ten seconds), so that no run has to."""
    CompiledRun(plan, columns)


def _check_money(plan: Plan, columns: MarketColumns) -> None:
    """Refuse positions whose cost would not fit into 64 bits."""
    most = plan.settings.risk.max_position + plan.settings.risk.max_order_quantity
    dearest = int(abs(columns.levels[:, ::2, 0]).max(initial=0)) + plan.settings.risk.price_collar_ticks
    if 2 * dearest * most * MICRO >= LARGEST:
        raise ConfigError(
            f"--compiled: risk.max_position {most:,} at prices of {dearest:,} ticks is more money than a compiled backtest can count; "
            "lower it, or leave --compiled out"
        )


class Loop(NamedTuple):
    """The compiled loop for one strategy, and what a call of it takes instead of the function."""

    entry: Any
    function: Any


@lru_cache(maxsize=64)
def _loop_for(function: Any, state_type: Any, host_type: Any) -> Loop:
    """Compile a strategy's function, and the loop for functions of its kind.

    The function goes in as an address: so the loop is the same for all strategies with the same `State`, and is kept on disk.
    """
    orders_type = _type_of(empty_orders(1))
    market_type = _type_of(Market(0, 0, 0, 0, 0, NO_LEVELS, NO_TRADE, 0, 0, 0.0, True, True))  # noqa: FBT003 (samples of the types)
    signature = types.none(market_type, orders_type, state_type)
    drop_stale((function, play, match, submit))
    function.compile(signature)
    loop = (types.FunctionType(signature), state_type, orders_type, *host_type)
    play.compile(loop)
    wind_down.compile((orders_type, *host_type, types.int64))
    return Loop(play.overloads[loop].entry_point, function)  # type: ignore[attr-defined]


def _type_of(value: Any) -> Any:
    return numba.typeof(value)  # type: ignore[no-untyped-call]


class CompiledRun:
    """One run: the arrays, the loop, and what is made of them afterwards."""

    def __init__(self, plan: Plan, columns: MarketColumns) -> None:
        deployed: type[CompiledStrategy] = plan.deployment.strategy_class  # type: ignore[assignment]
        parameters = plan.deployment.parameters
        self._plan, self._columns, self._instrument = plan, columns, columns.instrument
        self._state = deployed.first_state(parameters)
        self._orders = empty_orders(FIRST_ROOM)
        self._host: Host = host_of(columns, plan.settings.paper)
        self._desk = desk_of(columns, plan.settings.paper, hears=deployed.hears, interval_ns=deployed.interval_ns(parameters))
        self._limits = limits_of(plan.settings.risk, columns.instrument)
        point(self._desk, self._host)
        of_host = tuple(_type_of(one) for one in (self._desk, self._limits))
        self._loop = _loop_for(deployed.on_event, _type_of(self._state), of_host)

    @property
    def state(self) -> Any:
        """Return what the strategy remembers."""
        return self._state

    def run(self, on_progress: Progress) -> Run:
        """Run to the end of the recording."""
        began_s = time.perf_counter()
        self._play(on_progress)
        if self._desk["open_count"]:
            self._wind_down()
        return self._result(time.perf_counter() - began_s)

    def _play(self, on_progress: Progress) -> None:
        name = self._plan.deployment.file.name
        while True:
            try:
                found = self._loop.entry(self._loop.function, self._state, self._orders, self._desk, self._limits)
            # The place of the actor loop: what a strategy raises ends the run, in words.
            except Exception as exc:
                raise StartRefused(f"strategy {name} raised: {type(exc).__name__}: {exc}") from exc
            on_progress("trading", int(self._desk["instant"]) / max(1, len(self._columns.starts) - 1))
            if found == TOO_MANY_COMMANDS:
                raise StartRefused(f"strategy {name} gave more than {MOST_COMMANDS:,} commands at one time")
            if found == TOO_MANY_REPORTS:
                raise StartRefused(f"strategy {name} had more than {REPORT_MARGIN:,} fills at one instant; leave --compiled out")
            if found != GROW:
                return
            self._make_room()

    def _wind_down(self) -> None:
        until_ns = int(self._desk["now_ns"]) + round(WIND_DOWN_S * NS_PER_S)
        while wind_down(self._orders, self._desk, self._limits, until_ns) == GROW:
            self._make_room()

    def _make_room(self) -> None:
        self._orders, self._host = roomier(self._orders, self._host, self._desk, self._plan.settings.paper)
        point(self._desk, self._host)

    # --- the end -------------------------------------------------------------------------------------------------------------

    def _left(self) -> Left:
        desk, tables, orders = self._desk, self._host, self._orders
        return Left(
            self._columns,
            self._plan.settings,
            self._plan.deployment.file.name,
            orders.rows[: orders.counts[SENT]],
            tables.updates[: desk["updates"]],
            tables.fills[: desk["fills"]],
        )

    def _result(self, wall_s: float) -> Run:
        columns, desk, left = self._columns, self._desk, self._left()
        start_ns, end_ns = int(columns.times[0]) if len(columns.times) else 0, int(desk["now_ns"])
        tape = CompiledTape(left)
        tape.put_touch(self._instrument.instrument_id, columns.book_facts, columns.levels)
        return Run(
            plan=self._plan,
            summary=self._summary(left, (end_ns - start_ns) / NS_PER_S, wall_s),
            tape=tape,
            instruments={self._instrument.instrument_id: self._instrument},
            source=Source(kind=OFF),
            latency="none",
            start_ns=start_ns,
            end_ns=end_ns,
        )

    def _summary(self, left: Left, market_s: float, wall_s: float) -> Summary:
        desk = self._desk
        position = Position(self._instrument, int(desk["position"]), int(desk["open_cost"]), int(desk["realized"]), left.fees)
        mark = self._mark()
        return Summary(
            events=self._columns.accepted,
            orders=int(desk["sent"]),
            fills=left.fill_count,
            position=position.quantity,
            realized_pnl=position.realized_pnl,
            unrealized_pnl=position.unrealized_pnl(mark) if mark is not None else Decimal(0),
            fees=position.fees,
            reason="the recording is over",
            market_time_s=market_s,
            wall_time_s=wall_s,
            counters=self._counters(),
        )

    def _mark(self) -> float | None:
        """Return the mid of the last book, None where it has none."""
        row = int(self._desk["book"])
        facts, levels = self._columns.book_facts, self._columns.levels
        if row < 0 or not facts[row, 3:5].all():
            return None
        return float(levels[row, 0, 0] + levels[row, 2, 0]) / 2

    def _counters(self) -> dict[str, int]:
        desk, denials = self._desk, self._host.denials
        found = {"execution_orders": int(desk["sent"]), "execution_denied": int(desk["denied"]), "execution_fills": int(desk["fills"])}
        for code, name in CODES.items():
            if denials[code]:
                key = f"denials_{name.lower()}"
                found[key] = found.get(key, 0) + int(denials[code])
        return found | {"strategy_calls": int(desk["calls"])}
