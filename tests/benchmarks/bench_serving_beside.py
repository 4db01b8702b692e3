"""What a prediction costs while challengers shadow the champion, and while the process trains. Prints one JSON object.

    python -m tests.benchmarks.bench_serving_beside [--requests 500] [--rounds 9] [--data FILE...] [--quick]

Real ML processes (`python -m ml_actor`), asked in turns over loopback, one request at a time every 3 ms, with windows of
100 rows that go on through a recording, as a strategy's do. `alone` has a champion; `one` and `three` have that champion and
as many challengers on trial. Figures are medians over the rounds of each round's quantile; ratios are to `alone` in the same round.
Then `alone` gets `--data` (a simulated market where none is named) as its dataset and is told to train: `training` is what
predictions cost until the training ends, against the rounds before it; `training_s` and `training_cpu_s` are the time that
it took by the clock and of a core.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import zmq

from framework import wire
from framework.dataset import DatasetWriter
from framework.market.formats import open_source
from framework.model import Instrument
from framework.research.evaluating.options import EvaluationOptions
from framework.research.evaluating.reading import Opened, read_recording
from framework.window import Rows, Window
from ml_actor.evaluate.run import read_part
from ml_actor.features.engine import select
from ml_actor.preparation import Recording, window_at
from ml_actor.registry import Registry
from tests.ml_actor.conftest import market_rows, small_job, train_in_memory

ROOT = Path(__file__).resolve().parents[2]
EVERY_S = 0.003
PARTS = {"alone": 0, "one": 1, "three": 3}
TARGET_SHADOW_RATIO = 1.2
TARGET_TRAINING_RATIO = 3.0
TARGET_TRAINING_S = 180.0
CONFIG = "training: {min_rows: 500, horizon_rows: 10, trial: {max_blocks: 1000000, min_blocks: 999999}}\n"
"""No trial ends while it is measured."""


class Service:
    """One ML process and a client of it."""

    def __init__(self, state: Path, config: Path, windows: Sequence[bytes], headers: Sequence[Any]) -> None:
        self._windows, self._headers, self._asked = windows, headers, 0
        command = [sys.executable, "-m", "ml_actor", "--state-dir", str(state), "--config", str(config), "--port", "0", "--ready-line"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        endpoint = json.loads(self.process.stdout.readline())["endpoint"]
        self._peer: Any = zmq.Context.instance().socket(zmq.DEALER)
        self._peer.setsockopt(zmq.LINGER, 0)
        self._peer.setsockopt(zmq.RCVTIMEO, 60_000)
        self._peer.connect(endpoint)

    def ask(self, *frames: bytes) -> Any:
        """Send one request and return its answer."""
        self._peer.send_multipart([b"", *frames])
        return wire.decode_reply(self._peer.recv_multipart()[-1])

    def predict_us(self) -> float:
        """Return how long the next window of the recording took, from sending to the answer."""
        number, self._asked = self._asked % len(self._windows), self._asked + 1
        request = wire.encode(msgspec.structs.replace(self._headers[number], request_id=f"b-{self._asked}"))
        start_ns = time.perf_counter_ns()
        reply = self.ask(request, self._windows[number])
        took_us = (time.perf_counter_ns() - start_ns) / 1e3
        assert isinstance(reply, wire.PredictReply), reply
        return took_us

    def round(self, requests: int) -> list[float]:
        """Return the times of that many requests, one every 3 ms."""
        found = []
        for _ in range(requests):
            due_s = time.perf_counter() + EVERY_S
            found.append(self.predict_us())
            time.sleep(max(0.0, due_s - time.perf_counter()))
        return found

    def status(self) -> dict[str, Any]:
        """Return the service's status document."""
        return dict(self.ask(wire.encode(wire.StatusRequest(version=1, request_id=""))).status)

    def close(self) -> None:
        """End the process."""
        self._peer.close()
        self.process.kill()
        self.process.communicate()


@contextmanager
def serving(*arguments: Any) -> Iterator[Service]:
    service = Service(*arguments)
    try:
        yield service
    finally:
        service.close()


def quantiles(times: Sequence[float]) -> dict[str, float]:
    """Return median and 99th percentile."""
    return {"p50_us": float(np.percentile(times, 50)), "p99_us": float(np.percentile(times, 99))}


def median_of(rounds: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return the medians over rounds of each round's quantiles."""
    each = [quantiles(times) for times in rounds]
    return {name: round(statistics.median(one[name] for one in each), 1) for name in each[0]}


def ratio_of(ours: Sequence[Sequence[float]], alone: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return the medians over rounds of the ratio of quantiles within a round."""
    pairs = [(quantiles(a), quantiles(b)) for a, b in zip(ours, alone, strict=True)]
    names = {"p50_us": "p50_ratio", "p99_us": "p99_ratio"}
    return {label: round(statistics.median(a[name] / b[name] for a, b in pairs), 3) for name, label in names.items()}


def make_states(directory: Path) -> Recording:
    """Make a state directory for each part, all with the same champion; return what to ask about."""
    rows = market_rows(8_000, seed=11)
    base = directory / "base"
    base.mkdir(mode=0o700)
    versions = [train_in_memory(rows, small_job(base / "models", seed=seed)).version for seed in range(1 + max(PARTS.values()))]
    Registry(base / "models").promote(versions[0])
    for name, challengers in PARTS.items():
        shutil.copytree(base, directory / name)
        for version in versions[1 : 1 + challengers]:
            Registry(directory / name / "models").challenge(version, by="bench")
    return Recording(instrument_id="ES.SIM", tick_size=0.25, has_trades=True, rows=rows)


def requests_of(recording: Recording, count: int) -> tuple[list[bytes], list[Any]]:
    """Return payloads and headers of windows that follow each other row by row."""
    windows: list[Window] = [window_at(recording, row, 100) for row in range(4_200, 4_200 + count)]
    headers = [wire.predict_request(window, request_id="b", timeout_ms=1_000.0) for window in windows]
    return [wire.encode_window(window) for window in windows], headers


def recorded(paths: Sequence[Path], directory: Path) -> list[tuple[Instrument, Rows]]:
    """Return the rows of recordings, or of a simulated market where none is named."""
    if not paths:
        return [(Instrument(instrument_id="ES.SIM", tick_size=Decimal("0.25")), market_rows(20_000, seed=3))]
    options = EvaluationOptions(horizons=(10,), state_dir=directory)
    found = []
    for number, path in enumerate(paths):
        source = open_source(path)
        one = read_recording(Opened(path=path, role="train", source=source), None, directory / f"{number}.parquet", options, lambda _: None)
        found.append((one.instrument, read_part(one.file()).recording.rows))
    return found


def fill(state: Path, days: Sequence[tuple[Instrument, Rows]]) -> int:
    """Write the dataset of a state directory; return its rows."""
    writer = DatasetWriter(state / "training_data.parquet")
    for instrument, rows in days:
        for start in range(0, len(rows), 10_000):
            writer.append(instrument, select(rows, slice(start, start + 10_000)), after_gap=start == 0)
    writer.seal()
    total = writer.total_rows
    writer.close()
    return total


def while_training(service: Service, requests: int) -> tuple[list[list[float]], float, dict[str, Any]]:
    """Tell it to train; return the rounds until that ends, how long it took, and how it ended."""
    start_s, rounds = time.perf_counter(), []
    service.ask(wire.encode(wire.TrainRequest(version=1, request_id="t", reason="bench")))
    while service.status()["state"] == "TRAINING":
        rounds.append(service.round(requests))
    return rounds, time.perf_counter() - start_s, service.status()["training"]["job"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(arguments)
    requests, count = (100, 2) if asked.quick else (asked.requests, asked.rounds)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        directory = Path(scratch)
        windows, headers = requests_of(make_states(directory), 2_000)
        rows = fill(directory / "alone", recorded(asked.data, directory))
        (directory / "main.yaml").write_text(CONFIG)
        services = {name: stack.enter_context(serving(directory / name, directory / "main.yaml", windows, headers)) for name in PARTS}
        for service in services.values():
            service.round(200)
        times: dict[str, list[list[float]]] = {name: [] for name in PARTS}
        for _ in range(count):
            for name, service in services.items():
                times[name].append(service.round(requests))
        training, took_s, job = while_training(services["alone"], requests)
        spent = psutil.Process(services["alone"].process.pid).cpu_times()
        lanes = {name: service.status()["learning"] for name, service in services.items()}
    found: dict[str, Any] = {name: median_of(rounds) for name, rounds in times.items()}
    for name in ("one", "three"):
        found[name] |= ratio_of(times[name], times["alone"]) | {"shadowed": lanes[name]["scored"], "shed": lanes[name]["shed"]}
    slow = median_of(training)
    found["training"] = slow | {"p99_ratio": round(slow["p99_us"] / found["alone"]["p99_us"], 3), "rounds": len(training)}
    found["training_s"], found["training_rows"], found["training_ended"] = round(took_s, 1), rows, job["state"]
    found["training_cpu_s"] = round(spent.children_user + spent.children_system, 1)
    found["targets"] = {"shadow": TARGET_SHADOW_RATIO, "training": TARGET_TRAINING_RATIO, "training_s": TARGET_TRAINING_S}
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
