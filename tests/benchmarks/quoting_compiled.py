"""The strategy of `bench_backtest_peers` for Tidebook, compiled; and one compiled backtest of it, in a process of its own.

python -m tests.benchmarks.quoting_compiled RECORDING... [--order-latency-ms X] [--response-latency-ms X]      prints one JSON line
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from framework.backtest.compiled.engine import CompiledRun, load_compiled
from framework.backtest.lean.columns import read_columns
from framework.config import MainConfig
from framework.model import NS_PER_MS
from framework.strategy.compiled import BOOK, BUY, SELL, TRADE, CompiledStrategy, Market, Orders
from framework.strategy.compiled.verbs import best_ask, best_bid, cancel, has_both, is_open, limit_of, quote
from tests.benchmarks.quoting_ours import measured, parser_of_run, plan, settings

QUOTE_NS = 100 * NS_PER_MS
STATE = np.dtype([(name, np.int64) for name in ("events", "due_ns", "bid", "ask")])


@njit(cache=True)
def keep(orders: Orders, side: int, order: int, price: int) -> int:
    """Take a quote back that is off the touch, or send the one that is missing."""
    if not is_open(orders, order):
        return quote(orders, side, 1, price)
    if limit_of(orders, order) != price:
        cancel(orders, order)
    return order


@njit(cache=True)
def on_event(market: Market, orders: Orders, state: Any) -> None:
    """Read the touch at each event; each 100 ms look after the quotes."""
    state.events += 1
    if market.kind != BOOK or not has_both(market) or market.now_ns < state.due_ns:
        return
    state.due_ns = market.now_ns + QUOTE_NS
    state.bid = keep(orders, BUY, state.bid, best_bid(market))
    state.ask = keep(orders, SELL, state.ask, best_ask(market))


class QuotingCompiled(CompiledStrategy):
    """Read the touch at each event; each 100 ms take back a quote that is off it, or send the one that is missing."""

    State = STATE
    hears = BOOK | TRADE
    on_event = staticmethod(on_event)


def measure_compiled(paths: list[Path], main: MainConfig) -> dict[str, Any]:
    """Run it once. Reading the recording and loading (the first time: compiling) the code is `load_cpu_s`, as with the peers.

    What counts has everything in it that a run leaves: arrays of orders and fills, the account, the touch of every book.
    """
    with tempfile.TemporaryDirectory() as folder:
        planned = plan(paths, Path(folder), main, "tests.benchmarks.quoting_compiled:QuotingCompiled")
        begun_cpu = time.process_time()
        columns = read_columns(paths, planned.deployment.file.instrument_id, lambda *_: None)
        load_compiled(planned, columns)
        load_cpu_s = time.process_time() - begun_cpu

        def run() -> tuple[int, int, int]:
            one = CompiledRun(planned, columns)
            ran = one.run(lambda *_: None)
            return int(one.state["events"]), ran.summary.orders, ran.summary.fills

        return measured(run, load_cpu_s)


def main() -> None:
    chosen = parser_of_run().parse_args()
    print(json.dumps(measure_compiled(chosen.recordings, settings(chosen.order_latency_ms, chosen.response_latency_ms))))


if __name__ == "__main__":
    main()
