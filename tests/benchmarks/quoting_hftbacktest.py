"""The strategy of `bench_backtest_peers` for hftbacktest, compiled or driven from Python, and one backtest of it.

    python quoting_hftbacktest.py EVENTS.npz compiled|python      prints one JSON line

It imports nothing of Tidebook: it runs in an environment of its own. Each level that changed is an event of its own there: `wakeups`
is how often the strategy was called, `events` counts books and trades as the others do.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from hftbacktest import (  # type: ignore[import-not-found, unused-ignore]
    BUY_EVENT,
    DEPTH_EVENT,
    EXCH_EVENT,
    GTX,
    LIMIT,
    LOCAL_EVENT,
    SELL_EVENT,
    TRADE_EVENT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
)
from hftbacktest.types import event_dtype  # type: ignore[import-not-found, unused-ignore]
from numba import njit  # type: ignore[import-untyped, unused-ignore]

QUOTE_NS = 100_000_000
LONGEST = 10**15
END = 1


def events_of(given: Any) -> Any:
    rows = np.zeros(len(given["ts"]), dtype=event_dtype)
    kinds = np.where(given["kind"] == 1, TRADE_EVENT, DEPTH_EVENT).astype(np.uint64)
    sides = np.select([given["side"] > 0, given["side"] < 0], [BUY_EVENT, SELL_EVENT], 0).astype(np.uint64)
    rows["ev"] = kinds | sides | np.uint64(EXCH_EVENT | LOCAL_EVENT)
    rows["exch_ts"] = rows["local_ts"] = given["ts"]
    rows["px"], rows["qty"] = given["ticks"], given["size"]
    return rows


def backtest_of(given: Any, events: Any) -> Any:
    asset = (
        BacktestAsset()
        .data(events)
        .linear_asset(1.0)
        .constant_order_latency(int(given["order_latency_ns"]), int(given["response_latency_ns"]))
        .risk_adverse_queue_model()
        .trading_qty_fee_model(0.25, 0.85)
        .no_partial_fill_exchange()
        .tick_size(1.0)
        .lot_size(1.0)
        .last_trades_capacity(0)
    )
    return HashMapMarketDepthBacktest([asset])


def quote(hbt: Any) -> tuple[int, int]:
    wakeups, sent, due = 0, 0, 0
    bid_id, ask_id = 0, 0
    while True:
        code = hbt.wait_next_feed(True, LONGEST)
        if code <= END:
            return wakeups, sent
        wakeups += 1
        depth = hbt.depth(0)
        bid, ask = depth.best_bid_tick, depth.best_ask_tick
        if bid <= 0 or ask <= 0 or bid >= ask or ask > 10**9:
            continue
        now = hbt.current_timestamp
        if now < due:
            continue
        due = now + QUOTE_NS
        hbt.clear_inactive_orders(0)
        orders = hbt.orders(0)
        if bid_id in orders:
            order = orders.get(bid_id)
            if order.price_tick != bid and order.cancellable:
                hbt.cancel(0, bid_id, False)
        else:
            sent += 1
            bid_id = sent
            hbt.submit_buy_order(0, bid_id, float(bid), 1.0, GTX, LIMIT, False)
        if ask_id in orders:
            order = orders.get(ask_id)
            if order.price_tick != ask and order.cancellable:
                hbt.cancel(0, ask_id, False)
        else:
            sent += 1
            ask_id = sent
            hbt.submit_sell_order(0, ask_id, float(ask), 1.0, GTX, LIMIT, False)


def run(path: Path, how: str) -> dict[str, Any]:
    given = dict(np.load(path))
    begun_cpu = time.process_time()
    events = events_of(given)  # named: it has to outlive the asset, which keeps its address only
    drive = njit(quote) if how == "compiled" else quote
    head = events[:200].copy()
    drive(backtest_of(given, head))  # so that nothing is compiled while the clock runs
    hbt = backtest_of(given, events)
    gc.collect()
    load_cpu_s = time.process_time() - begun_cpu
    begun, begun_cpu = time.perf_counter(), time.process_time()
    wakeups, sent = drive(hbt)
    cpu_s, wall_s = time.process_time() - begun_cpu, time.perf_counter() - begun
    fills = int(hbt.state_values(0).num_trades)
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {
        "events": int(given["event"][-1]) + 1,
        "wakeups": wakeups,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "load_cpu_s": load_cpu_s,
        "rss_mb": peak / 1024,
        "orders": sent,
        "fills": fills,
    }


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), sys.argv[2])))
