"""The outside judge: run commands against a recording in hftbacktest, and write what became of each order.

    python judge_hftbacktest.py INPUT.npz OUTPUT.npz

It imports nothing of Tidebook, so that it can run in an environment of its own (`pip install hftbacktest numpy`).
"""

from __future__ import annotations

import sys
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
from hftbacktest.order import IOC  # type: ignore[import-not-found, unused-ignore]
from hftbacktest.types import event_dtype  # type: ignore[import-not-found, unused-ignore]

BUY, SELL = 1, -1
KIND = {0: DEPTH_EVENT, 1: TRADE_EVENT}
SIDE = {BUY: BUY_EVENT, SELL: SELL_EVENT, 0: 0}


def events_of(given: Any) -> Any:
    rows = np.zeros(len(given["ts"]), dtype=event_dtype)
    flags = np.vectorize(lambda kind, side: EXCH_EVENT | LOCAL_EVENT | KIND[kind] | SIDE[side], otypes=[np.uint64])
    rows["ev"] = flags(given["kind"], given["side"])
    rows["exch_ts"] = given["ts"]
    rows["local_ts"] = given["ts"] + int(given["feed_latency_ns"])
    rows["px"], rows["qty"] = given["ticks"], given["size"]
    return rows


def asset_of(given: Any, events: Any) -> Any:
    asset = (
        BacktestAsset()
        .data(events)
        .linear_asset(1.0)
        .constant_order_latency(int(given["order_latency_ns"]), int(given["response_latency_ns"]))
        .trading_qty_fee_model(0.0, 0.0)
        .no_partial_fill_exchange()
        .tick_size(1.0)
        .lot_size(1.0)
        .last_trades_capacity(0)
    )
    name, exponent = str(given["queue_model"]), float(given["queue_power"])
    models = {
        "risk_averse": lambda: asset.risk_adverse_queue_model(),
        "power": lambda: asset.power_prob_queue_model(exponent),
        "power_2": lambda: asset.power_prob_queue_model2(exponent),
        "power_3": lambda: asset.power_prob_queue_model3(exponent),
        "log": lambda: asset.log_prob_queue_model(),
        "log_2": lambda: asset.log_prob_queue_model2(),
    }
    return models[name]()


def run(given: Any) -> dict[str, Any]:
    events = events_of(given)  # named: it has to outlive the asset, which keeps its address only
    backtest = HashMapMarketDepthBacktest([asset_of(given, events)])
    backtest.elapse(0)  # to the first event: before it there is no time
    for when, order_id, action, side, ticks, size in given["commands"].tolist():
        wait = when - backtest.current_timestamp
        code = backtest.elapse(wait) if wait > 0 else 0
        if code:
            raise SystemExit(f"hftbacktest stops with code {code} at {when}, before order {order_id}")
        if action == 0:
            backtest.cancel(0, order_id, False)
        else:
            send = backtest.submit_buy_order if side == BUY else backtest.submit_sell_order
            send(0, order_id, float(ticks), float(size), GTX if action == 1 else IOC, LIMIT, False)
    backtest.elapse(10_000_000_000)
    orders = backtest.orders(0)
    found: dict[str, list[int]] = {"order_id": [], "filled": [], "ticks": [], "ts": []}
    for order_id in sorted(set(given["commands"][:, 1].tolist())):
        order = orders.get(order_id)
        if order is None:
            continue
        filled = round(order.qty - order.leaves_qty)
        found["order_id"].append(order_id)
        found["filled"].append(filled)
        found["ticks"].append(round(order.exec_price) if filled else 0)
        found["ts"].append(order.exch_timestamp if filled else 0)
    backtest.close()
    return {name: np.array(column, dtype=np.int64) for name, column in found.items()}


if __name__ == "__main__":
    np.savez(sys.argv[2], **run(dict(np.load(sys.argv[1]))))
