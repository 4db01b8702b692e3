"""What asking for a prediction costs the strategy's loop, in the running process with a real connection.

python tests/benchmarks/bench_request_cost.py [--requests N] [--quick]      prints one JSON line

`request`: the call of `request_prediction` with a full window (100 rows, 100 bars): encode, register, send. `with_window`:
the same with cutting the window out of the DOM buffer. `reply`: what the answer costs when it comes. `refused`: asking
while the circuit is open. `json`: `request` with `use_binary: false`. `floor`: copying the window's arrays and sending those
bytes on a bare socket, which any asking has to do. Single requests, one after the other's answer; medians, us.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import uvloop
import zmq
import zmq.asyncio

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from framework import wire
from framework.inference.client import MLClient
from framework.market.dom import DomBuffer
from framework.messages import Bar, BookSnapshot
from framework.model import Instrument
from framework.window import Window
from tests.benchmarks.bench_prediction_round_trip import BARS, ROWS, child, connected

TARGET_US = 100.0
TARGET_REFUSED_US = 10.0
WARM_UP = 100


def full_buffer() -> DomBuffer:
    """Return a DOM buffer with its rows and bars."""
    buffer = DomBuffer(Instrument(instrument_id="BENCH.SIM", tick_size=Decimal("0.25")), ROWS)
    for number in range(ROWS + 17):
        stamps = {"instrument_id": "BENCH.SIM", "ts_event": number * 100_000_000}
        best = 20_000 + number % 3
        buffer.append(
            BookSnapshot(
                ts_recv=stamps["ts_event"],
                sequence=number,
                bid_ticks=tuple(range(best, best - 10, -1)),
                bid_sizes=tuple(range(5, 15)),
                ask_ticks=tuple(range(best + 1, best + 11)),
                ask_sizes=tuple(range(7, 17)),
                **stamps,
            )
        )
    for number in range(BARS):
        prices = dict.fromkeys(("open_ticks", "high_ticks", "low_ticks", "close_ticks"), 20_000)
        buffer.add_bar(
            Bar(instrument_id="BENCH.SIM", ts_event=number * 10**9, interval_s=1.0, volume=5, buy_volume=3, sell_volume=2, **prices)
        )
    return buffer


async def cost_us(client: MLClient, cut: Callable[[], Window], requests: int, *, timed_cut: bool) -> list[float]:
    """Return the cost of each request, with or without cutting its window."""
    costs = []
    for _ in range(WARM_UP + requests):
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        window = cut()
        start_ns = perf_counter_ns()
        if timed_cut:
            window = cut()
        client.request_prediction(window, strategy_id="bench", timeout_s=5.0, on_outcome=lambda outcome, _, f=ended: f.set_result(outcome))
        costs.append((perf_counter_ns() - start_ns) / 1e3)
        assert isinstance(await ended, wire.PredictReply)
    return costs[WARM_UP:]


class TimedClient(MLClient):
    """Notes what each answer costs: from its frames to the outcome."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.costs: list[float] = []

    def _on_frames(self, frames: list[bytes]) -> None:
        start_ns = perf_counter_ns()
        super()._on_frames(frames)
        self.costs.append((perf_counter_ns() - start_ns) / 1e3)


async def reply_us(client: TimedClient, window: Window, requests: int) -> list[float]:
    """Return what the answers cost."""
    client.costs.clear()
    await cost_us(client, lambda: window, requests, timed_cut=False)
    return client.costs[WARM_UP:]


async def refused_us(client: MLClient, window: Window, requests: int) -> list[float]:
    """Return what asking costs while the process is away."""
    client.peer_lost("benchmark")
    costs = []
    for _ in range(requests):
        start_ns = perf_counter_ns()
        client.request_prediction(window, strategy_id="bench", timeout_s=5.0, on_outcome=lambda _outcome, _detail: None)
        costs.append((perf_counter_ns() - start_ns) / 1e3)
        await asyncio.sleep(0)
    return costs


async def floor_us(endpoint: str, window: Window, requests: int) -> list[float]:
    """Return what copying the arrays and sending them on a bare socket costs."""
    context = zmq.asyncio.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.connect(endpoint)
    header = wire.encode(wire.predict_request(window, request_id="floor", timeout_ms=5_000.0))
    costs = []
    for _ in range(WARM_UP + requests):
        start_ns = perf_counter_ns()
        payload = wire.encode_window(window)
        dealer.send_multipart([b"", header, payload], flags=zmq.NOBLOCK)
        costs.append((perf_counter_ns() - start_ns) / 1e3)
        await dealer.recv_multipart()
    dealer.close(linger=0)
    context.term()
    return costs[WARM_UP:]


async def measure(endpoint: str, requests: int) -> dict[str, Any]:
    """Return the figures."""
    buffer = full_buffer()
    window = buffer.window(ROWS)
    found: dict[str, list[float]] = {"floor": await floor_us(endpoint, window, requests)}
    async with connected(endpoint, "binary") as client:
        found["request"] = await cost_us(client, lambda: window, requests, timed_cut=False)
        found["with_window"] = await cost_us(client, lambda: buffer.window(ROWS), requests, timed_cut=True)
    async with connected(endpoint, "refused") as client:
        found["refused"] = await refused_us(client, window, requests)
    async with connected(endpoint, "reply", kind=TimedClient) as timed:
        found["reply"] = await reply_us(timed, window, requests)
    async with connected(endpoint, "json", use_binary=False) as client:
        found["json"] = await cost_us(client, lambda: window, requests // 10, timed_cut=False)
    medians = {f"{name}_p50_us": round(statistics.median(costs), 1) for name, costs in found.items()}
    is_met = medians["with_window_p50_us"] <= TARGET_US and medians["refused_p50_us"] <= TARGET_REFUSED_US
    return {
        "benchmark": "request_cost",
        "requests": requests,
        **medians,
        "request_p99_us": round(statistics.quantiles(found["request"], n=100)[98], 1),
        "target_us": TARGET_US,
        "target_refused_us": TARGET_REFUSED_US,
        "met": is_met,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--quick", action="store_true", help="a slice: 200 requests")
    options = parser.parse_args()
    with child("tests/inference/stub_service.py") as endpoint:
        print(json.dumps(uvloop.run(measure(endpoint, 200 if options.quick else options.requests))))


if __name__ == "__main__":
    main()
