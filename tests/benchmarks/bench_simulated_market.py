"""The simulated market: how fast it is drawn, and its stylised facts by signal strength. Prints one JSON object.

    python -m tests.benchmarks.bench_simulated_market [--quick]

The limit measured in the same run: walking a list of the same events, built beforehand.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from framework.config import SimulatedMarketConfig
from framework.messages import BookSnapshot, MarketEvent, TradeTick
from framework.venues.simulated import generate_history

HORIZON_ROWS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small slice")
    duration_s = 300.0 if parser.parse_args().quick else 7_200.0
    print(json.dumps({"benchmark": "simulated_market", "market_s": duration_s} | measure_speed(duration_s) | measure_facts(duration_s)))


def measure_speed(duration_s: float) -> dict[str, Any]:
    start_s = time.perf_counter()
    events = list(generate_history(SimulatedMarketConfig(), seed=1, duration_s=duration_s))
    drawn_s = time.perf_counter() - start_s
    start_s = time.perf_counter()
    for event in events:
        _ = event.ts_event
    walked_s = time.perf_counter() - start_s
    return {
        "times_real_time": round(duration_s / drawn_s),
        "events_per_s": round(len(events) / drawn_s),
        "share_of_walking_a_list": round(walked_s / drawn_s, 4),
    }


def measure_facts(duration_s: float) -> dict[str, Any]:
    facts = {
        strength: facts_of(
            list(generate_history(SimulatedMarketConfig(signal_strength=strength), seed=3, duration_s=duration_s)), duration_s
        )
        for strength in (0.0, 0.3, 0.6, 1.0)
    }
    return {"facts_by_signal_strength": facts}


def facts_of(events: list[MarketEvent], duration_s: float) -> dict[str, float]:
    books = [event for event in events if isinstance(event, BookSnapshot)]
    trades = [event for event in events if isinstance(event, TradeTick)]
    mid = np.array([book.bid_ticks[0] + book.ask_ticks[0] for book in books])
    bid, ask = (np.array([sizes[0] for sizes in side]) for side in zip(*((b.bid_sizes, b.ask_sizes) for b in books), strict=True))
    spread = np.array([book.ask_ticks[0] - book.bid_ticks[0] for book in books])
    move = mid[HORIZON_ROWS:] - mid[:-HORIZON_ROWS]
    flow = trade_flow(events)
    is_moved = move != 0
    return {
        "rows_per_s": round(len(books) / duration_s, 2),
        "trades_per_s": round(len(trades) / duration_s, 2),
        "one_tick_spread_share": round(float((spread == 1).mean()), 4),
        "best_queue_lots_median": float(np.median(np.concatenate((bid, ask)))),
        "moved_within_20_rows_share": round(float(is_moved.mean()), 4),
        "mid_sd_1s_ticks": round(float((mid[10:] - mid[:-10]).std() / 2), 3),
        "auc_imbalance": area_under_curve(((bid - ask) / (bid + ask))[:-HORIZON_ROWS][is_moved], move[is_moved] > 0),
        "auc_trade_flow_20_rows": area_under_curve(flow[:-HORIZON_ROWS][is_moved], move[is_moved] > 0),
    }


def trade_flow(events: list[MarketEvent]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return signed lots traded over the last 20 rows, per row."""
    flow, signed = [], 0
    for event in events:
        if isinstance(event, BookSnapshot):
            flow.append(signed)
            signed = 0
        elif isinstance(event, TradeTick) and event.aggressor is not None:
            signed += event.size * event.aggressor.sign
    total = np.concatenate(([0.0], np.cumsum(flow)))
    return total[1:] - total[np.maximum(0, np.arange(len(flow)) + 1 - HORIZON_ROWS)]


def area_under_curve(values: np.ndarray[Any, Any], is_up: np.ndarray[Any, Any]) -> float:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    ups, downs = int(is_up.sum()), int((~is_up).sum())
    return round(float((ranks[is_up].sum() - ups * (ups + 1) / 2) / max(1, ups * downs)), 4)


if __name__ == "__main__":
    main()
