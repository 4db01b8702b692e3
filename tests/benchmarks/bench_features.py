"""What the features cost: one window as served, one more row of a stream, and a recording as trained. Prints one JSON object.

    python -m tests.benchmarks.bench_features [--rows 20000]

The limits are measured in the same run: `copy_us` is what copying the window's arrays alone costs, `call_us` what a
compiled function that does nothing costs with the arguments of the stream (nothing can be faster), and `numpy_us` what three
of the features cost as the obvious numpy expressions. Batch is on one core: the kernel is single-threaded.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from framework.window import BAR_COLUMNS, Rows, Window
from ml_actor.features.engine import AdvancedMLFeatureEngine, last_rows, plain_arrays, select
from ml_actor.features.kernel import FEATURE_COUNT, new_memory, next_features
from ml_actor.features.stream import ROOM, FeatureStream
from tests.ml_actor.conftest import market_rows

TARGET_WINDOW_US = 50.0
TARGET_ROW_US = 10.0
TARGET_BATCH_ROWS_PER_MINUTE = 1_000_000.0


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


def stream_us(rows: Rows) -> tuple[float, float]:
    """Return p50 and p99 of one `FeatureStream.push` of one row in us, over the second half of `rows`."""
    stream, half = FeatureStream(has_trades=True), len(rows) // 2
    stream.push(select(rows, slice(0, half)))
    single = [select(rows, slice(row, row + 1)) for row in range(half, len(rows))]
    times = np.empty(len(single))
    for number, row in enumerate(single):
        start = time.perf_counter_ns()
        stream.push(row)
        times[number] = time.perf_counter_ns() - start
    return float(np.quantile(times, 0.5)) / 1e3, float(np.quantile(times, 0.99)) / 1e3


def batch_rows_per_minute(engine: AdvancedMLFeatureEngine, rows: Rows) -> tuple[float, float]:
    """Return rows a minute of wall time (best of three) and of processor time."""
    wall, processor = [], []
    for _ in range(3):
        start, used = time.perf_counter(), time.process_time()
        engine.transform_rows(rows, has_trades=True)
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return 60.0 * len(rows) / min(wall), 60.0 * len(rows) / min(processor)


def measure(rows: int, repeats: int) -> dict[str, Any]:
    recording = market_rows(rows)
    engine = AdvancedMLFeatureEngine(window_rows=100)
    window = Window(
        instrument_id="ES.SIM", tick_size=0.25, has_trades=True, rows=last_rows(recording, 100), bars=np.empty((0, len(BAR_COLUMNS)))
    )
    p50, p99 = quantiles_us(lambda: engine.transform(window), repeats)
    row_p50, row_p99 = stream_us(recording)
    memory, nothing, out = new_memory(100, ROOM * 100), plain_arrays(select(recording, slice(0, 0))), np.empty((0, FEATURE_COUNT))
    limits = {
        "copy_us": quantiles_us(lambda: plain_arrays(window.rows), repeats)[0],
        "call_us": quantiles_us(lambda: next_features(memory, nothing, 1.0, out), repeats)[0],
        "numpy_us_for_3_features": quantiles_us(lambda: three_in_numpy(window.rows), repeats)[0],
    }
    wall, processor = batch_rows_per_minute(engine, recording)
    return {
        "benchmark": "features",
        "features": len(engine.names),
        "window_us": {"p50": round(p50, 1), "p99": round(p99, 1), "target_p50": TARGET_WINDOW_US},
        "row_us": {"p50": round(row_p50, 1), "p99": round(row_p99, 1), "target_p50": TARGET_ROW_US},
        "batch_rows_per_minute": {"wall": round(wall), "processor": round(processor), "target": TARGET_BATCH_ROWS_PER_MINUTE},
        "limits": {name: round(value, 1) for name, value in limits.items()},
        "is_met": bool(p50 <= TARGET_WINDOW_US and row_p50 <= TARGET_ROW_US and wall >= TARGET_BATCH_ROWS_PER_MINUTE),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=2_000)
    chosen = parser.parse_args()
    print(json.dumps(measure(chosen.rows, chosen.repeats)))


if __name__ == "__main__":
    main()
