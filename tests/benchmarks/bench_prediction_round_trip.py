"""Round trip of one prediction with a trivial model, beside a bare socket pair that carries the same bytes, in the same run.

python tests/benchmarks/bench_prediction_round_trip.py [--requests N]      prints one JSON line

*Ours*: `MLClient.request_prediction` with a full window (100 rows, 100 bars) to its outcome, through `ZmqTransport`, a
service process with the real rim, checks and codecs, and back. *Bare*: `zmq.asyncio` DEALER here and ROUTER in a process
of its own, which sends back as many bytes as a prediction has. Single requests, taking turns; loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import uvloop
import zmq
import zmq.asyncio

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from framework import wire
from framework.inference.client import ClientSettings, MLClient
from framework.inference.transport import ZmqTransport
from framework.parent_death import die_with_parent
from framework.window import BAR_COLUMNS, FLOW_COLUMNS, LEVELS, Rows, Window

ROOT = Path(__file__).resolve().parents[2]
ROWS = BARS = 100
TARGET_RATIO = 1.3
WARM_UP = 200


def make_window(rows: int = ROWS, bars: int = BARS) -> Window:
    """Return a full window of a book that moves."""
    draw = np.random.default_rng(7)
    level = np.arange(LEVELS)
    best = 20_000 + draw.integers(-1, 2, rows).cumsum()[:, None]
    return Window(
        instrument_id="BENCH.SIM",
        tick_size=0.25,
        has_trades=True,
        rows=Rows(
            ts_event=1_700_000_000_000_000_000 + np.arange(rows) * 100_000_000,
            sequence=np.arange(rows),
            segment=np.zeros(rows, np.int64),
            bid_ticks=(best - level).astype(np.int32),
            bid_sizes=draw.integers(1, 500, (rows, LEVELS)).astype(np.float32),
            ask_ticks=(best + 1 + level).astype(np.int32),
            ask_sizes=draw.integers(1, 500, (rows, LEVELS)).astype(np.float32),
            flow=draw.normal(size=(rows, len(FLOW_COLUMNS))).astype(np.float32),
        ),
        bars=20_000 + draw.normal(size=(bars, len(BAR_COLUMNS))),
    )


def reply_bytes() -> int:
    """Return how long the stub's answer is."""
    reply = wire.PredictReply(
        version=1, request_id="bench.run-1000", flow_type="BUY", confidence=0.5, p_down=0.2, p_flat=0.3, p_up=0.5, model_version="v1",
        is_calibrated=True, horizon_rows=20, as_of_ns=1_700_000_000_000_000_000, as_of_sequence=99, regime=0, shock_score=0.1,
        compute_us=1.5, instrument_id="BENCH.SIM",
    )  # fmt: skip
    return len(wire.encode(reply))


async def echo(size: int) -> None:
    """Answer every message with `size` bytes until stdin ends: the bare server."""
    context = zmq.asyncio.Context()
    router = context.socket(zmq.ROUTER)
    router.bind("tcp://127.0.0.1:0")
    print(json.dumps({"endpoint": router.get(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()}), flush=True)
    answer = bytes(size)
    while True:
        identity, delimiter, *_ = await router.recv_multipart()
        await router.send_multipart([identity, delimiter, answer])


@contextlib.contextmanager
def child(*arguments: str) -> Iterator[str]:
    """Run a server process that dies with this one, and give its endpoint."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["endpoint"]
    finally:
        process.kill()
        process.communicate()


@contextlib.asynccontextmanager
async def connected(endpoint: str, session: str = "bench", *, use_binary: bool = True, kind: type[Any] = MLClient) -> AsyncIterator[Any]:
    """Give a client (an `MLClient`, or one derived from it) that has heard of the service."""
    client = kind(ZmqTransport(endpoint), settings=ClientSettings(use_binary=use_binary), run_id="run", session=session)
    client.start()
    async with asyncio.timeout(20):
        while not client.is_up:
            await asyncio.sleep(0.01)
    try:
        yield client
    finally:
        await client.close()


async def our_round_trip(client: MLClient, window: Window) -> int:
    """Return the ns from asking to the call with the outcome."""
    ended: asyncio.Future[tuple[Any, int]] = asyncio.get_running_loop().create_future()
    start_ns = perf_counter_ns()
    client.request_prediction(
        window, strategy_id="bench", timeout_s=5.0, on_outcome=lambda result, _: ended.set_result((result, perf_counter_ns()))
    )
    result, end_ns = await ended
    assert isinstance(result, wire.PredictReply), result
    return end_ns - start_ns


async def bare_round_trip(dealer: Any, frames: list[bytes]) -> int:
    """Return the ns from sending to the answer."""
    start_ns = perf_counter_ns()
    await dealer.send_multipart([b"", *frames])
    await dealer.recv_multipart()
    return perf_counter_ns() - start_ns


async def take_turns(client: MLClient, dealer: Any, requests: int) -> tuple[list[int], list[int]]:
    """Measure both, one request each by turns."""
    window = make_window()
    frames = [wire.encode(wire.predict_request(window, request_id="bench.run-1000", timeout_ms=5_000.0)), wire.encode_window(window)]
    ours: list[int] = []
    bare: list[int] = []
    for number in range(WARM_UP + requests):
        ours.append(await our_round_trip(client, window))
        bare.append(await bare_round_trip(dealer, frames))
        if number == WARM_UP - 1:
            ours.clear()
            bare.clear()
    return ours, bare


async def measure(requests: int, ours_at: str, bare_at: str) -> dict[str, Any]:
    """Return the figures."""
    context = zmq.asyncio.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.connect(bare_at)
    async with connected(ours_at) as client:
        ours, bare = await take_turns(client, dealer, requests)
        compute_us = (await client.status())["compute_us"]["p50"]
    dealer.close(linger=0)
    context.term()
    return figures(ours, bare, compute_us)


def figures(ours: list[int], bare: list[int], compute_us: float) -> dict[str, Any]:
    """Return quantiles in us and the ratio of the medians, less what the (trivial) model took."""
    p50_ours, p50_bare = statistics.median(ours) / 1e3, statistics.median(bare) / 1e3
    ratio = (p50_ours - compute_us) / p50_bare
    return {
        "benchmark": "prediction_round_trip",
        "requests": len(ours),
        "ours_p50_us": round(p50_ours, 1),
        "ours_p99_us": round(statistics.quantiles(ours, n=100)[98] / 1e3, 1),
        "bare_p50_us": round(p50_bare, 1),
        "bare_p99_us": round(statistics.quantiles(bare, n=100)[98] / 1e3, 1),
        "model_p50_us": compute_us,
        "ratio": round(ratio, 3),
        "target_ratio": TARGET_RATIO,
        "met": ratio <= TARGET_RATIO,
    }


def run(requests: int) -> dict[str, Any]:
    """Start both servers, measure, stop them."""
    with child("tests/inference/stub_service.py") as ours_at, child(__file__, "--echo", str(reply_bytes())) as bare_at:
        return uvloop.run(measure(requests, ours_at, bare_at))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=3_000)
    parser.add_argument("--quick", action="store_true", help="a slice: 300 requests")
    parser.add_argument("--echo", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        die_with_parent()
        uvloop.run(echo(options.echo))
    print(json.dumps(run(300 if options.quick else options.requests)))


if __name__ == "__main__":
    main()
