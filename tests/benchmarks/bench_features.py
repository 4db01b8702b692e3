"""What the features cost: one window as served, and a recording as trained. Prints one JSON object.

    python -m tests.benchmarks.bench_features [--rows 20000]

The limits are measured in the same run: `copy_us` is what copying the window's arrays alone costs (nothing can be
faster), `numpy_us` what three of the sixty-five features cost as the obvious numpy expressions.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from framework.window import BAR_COLUMNS, Rows, Window
from ml_actor.features.engine import AdvancedMLFeatureEngine, _arrays, last_rows
from tests.ml_actor.conftest import market_rows

TARGET_WINDOW_US = 50.0
TARGET_BATCH_ROWS_PER_S = 30_000.0


def quantiles_us(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Return p50 and p99 of one call in us, after ten calls to warm up."""
    for _ in range(10):
        call()
    times = np.empty(repeats)
    for i in range(repeats):
        start = time.perf_counter_ns()
        call()
        times[i] = time.perf_counter_ns() - start
    return float(np.quantile(times, 0.5)) / 1e3, float(np.quantile(times, 0.99)) / 1e3


def three_in_numpy(rows: Rows) -> float:
    """Return imbalance, OFI over 20 rows and volatility, summed, as one would write them."""
    bid, ask = rows.bid_sizes[-1, 0], rows.ask_sizes[-1, 0]
    depth = (rows.bid_sizes[:, 0] + rows.ask_sizes[:, 0]).mean()
    mids = (rows.bid_ticks[:, 0] + rows.ask_ticks[:, 0]) / 2
    return float((bid - ask) / (bid + ask) + rows.flow[-20:, 7].sum() / depth + np.sqrt((np.diff(mids) ** 2).mean()))


def measure(rows: int, repeats: int) -> dict[str, Any]:
    recording = market_rows(rows)
    engine = AdvancedMLFeatureEngine(window_rows=100)
    window = Window(
        instrument_id="ES.SIM", tick_size=0.25, has_trades=True, rows=last_rows(recording, 100), bars=np.empty((0, len(BAR_COLUMNS)))
    )
    p50, p99 = quantiles_us(lambda: engine.transform(window), repeats)
    copy_us, _ = quantiles_us(lambda: _arrays(window.rows), repeats)
    numpy_us, _ = quantiles_us(lambda: three_in_numpy(window.rows), repeats)
    start = time.perf_counter()
    features = engine.transform_rows(recording, has_trades=True)
    batch_s = time.perf_counter() - start
    return {
        "benchmark": "features",
        "features": features.shape[1],
        "window_us": {"p50": round(p50, 1), "p99": round(p99, 1), "target_p50": TARGET_WINDOW_US},
        "batch_rows_per_s": {"value": round(rows / batch_s), "target": TARGET_BATCH_ROWS_PER_S},
        "limits": {"copy_us": round(copy_us, 1), "numpy_us_for_3_features": round(numpy_us, 1)},
        "is_met": bool(p50 <= TARGET_WINDOW_US and rows / batch_s >= TARGET_BATCH_ROWS_PER_S),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=2_000)
    chosen = parser.parse_args()
    print(json.dumps(measure(chosen.rows, chosen.repeats)))


if __name__ == "__main__":
    main()
