"""What other clients of the ML process can do to one that asks decently: its round trips in quiet and under each attack, in turns.

python -m tests.benchmarks.bench_hostile_clients [--phase S] [--repeats N] [--quick]      prints one JSON line

The service is the real rim with a model that computes for 200 us. The victim asks 100 times a second for a full window's
prediction. The attackers, each in a process of its own on loopback, bounded in time: `flood` sends sound requests as fast as
its connection takes them; `garbage` sends random frames so; `crowd` is 20 connections that each ask 20 times a second;
`strangers` open raw TCP connections, 50 a second, and write what is no ZMTP. Medians over the repeats of p99 under attack
over p99 in the quiet phase before it; `memory_mib` is by how much the service had grown at its largest. `next_door` are the
same ratios while the attackers attack another service on the same machine: what their share of its cores costs alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import uvloop
import zmq

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from framework import wire
from framework.inference.client import MLClient
from framework.parent_death import die_with_parent
from tests.benchmarks.bench_prediction_round_trip import ROOT, child, connected, make_window, our_round_trip

TARGET_RATIO = 2.0
TARGET_MIB = 128.0
COMPUTE_US = 200
VICTIM_INTERVAL_S = 0.01
CROWD = 20


# --- attackers: each runs until its parent closes its stdin or the time is over ------------------------------------------------


def dealer(endpoint: str) -> zmq.Socket[bytes]:
    """Return a connected DEALER."""
    one = zmq.Context.instance().socket(zmq.DEALER)
    one.linger = 0
    one.connect(endpoint)
    return one


def frames_of(number: int) -> list[bytes]:
    """Return a sound request."""
    window = make_window()
    head = wire.predict_request(window, request_id=f"{os.getpid()}-{number}", timeout_ms=1_000.0)
    return [b"", wire.encode(head), wire.encode_window(window)]


def flood(endpoint: str, end_s: float) -> None:
    """Send as fast as the connection takes it, and read the answers."""
    one, payload, number = dealer(endpoint), frames_of(0)[2], 0
    window = make_window()
    while time.monotonic() < end_s:
        head = wire.predict_request(window, request_id=f"{os.getpid()}-{(number := number + 1)}", timeout_ms=1_000.0)
        if one.poll(10, zmq.POLLOUT):
            one.send_multipart([b"", wire.encode(head), payload])
        while one.poll(0, zmq.POLLIN):
            one.recv_multipart()


def garbage(endpoint: str, end_s: float) -> None:
    """Send random frames as fast as the connection takes them."""
    one, junk = dealer(endpoint), [b"", os.urandom(300), os.urandom(20_000)]
    while time.monotonic() < end_s:
        if one.poll(10, zmq.POLLOUT):
            one.send_multipart(junk)
        while one.poll(0, zmq.POLLIN):
            one.recv_multipart()


def crowd(endpoint: str, end_s: float) -> None:
    """Ask over 20 connections, 20 times a second over each."""
    many, number = [dealer(endpoint) for _ in range(CROWD)], 0
    while time.monotonic() < end_s:
        for one in many:
            one.send_multipart(frames_of(number := number + 1))
            while one.poll(0, zmq.POLLIN):
                one.recv_multipart()
            time.sleep(0.05 / CROWD)


def strangers(endpoint: str, end_s: float) -> None:
    """Open TCP connections and write noise."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    while time.monotonic() < end_s:
        with socket.create_connection((host, int(port)), timeout=1) as one:
            one.sendall(os.urandom(500))
        time.sleep(0.02)


ATTACKS: dict[str, Callable[[str, float], None]] = {"flood": flood, "garbage": garbage, "crowd": crowd, "strangers": strangers}


# --- the victim ------------------------------------------------------------------------------------------------------------


async def p99_us(client: MLClient, seconds: float) -> float:
    """Return p99 of the victim's round trips over a while, us."""
    window, trips, end_s = make_window(), [], time.monotonic() + seconds
    while time.monotonic() < end_s:
        trips.append(await our_round_trip(client, window))
        await asyncio.sleep(VICTIM_INTERVAL_S)
    return statistics.quantiles(trips, n=100)[98] / 1e3


async def under(attack: str, endpoint: str, client: MLClient, phase_s: float) -> float:
    """Return p99 under an attack."""
    command = [sys.executable, __file__, "--attack", attack, "--endpoint", endpoint, "--phase", str(phase_s + 3)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT)
    try:
        await asyncio.sleep(1.5)  # it has to import and connect first
        return await p99_us(client, phase_s)
    finally:
        process.kill()
        process.wait()


def memory_mib(endpoint_port: str) -> float:
    """Return the largest resident size of the process that listens on a port, MiB."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"tcp://127.0.0.1:{endpoint_port}" in (path / "cmdline").read_text():
                peak = next(line for line in (path / "status").read_text().splitlines() if line.startswith("VmHWM"))
                return int(peak.split()[1]) / 1024
        except (OSError, StopIteration):
            continue
    return 0.0


async def measure(endpoint: str, other: str, phase_s: float, repeats: int) -> dict[str, Any]:
    """Return the figures; `other` is a service that the victim does not use."""
    port = endpoint.rpartition(":")[2]
    quiet: list[float] = []
    attacked: dict[str, list[tuple[float, float]]] = {name: [] for name in ATTACKS}
    next_door: dict[str, list[tuple[float, float]]] = {name: [] for name in ATTACKS}
    async with connected(endpoint) as client:
        await p99_us(client, phase_s)
        before_mib = memory_mib(port)
        for _ in range(repeats):
            for name, pairs in attacked.items():
                quiet.append(await p99_us(client, phase_s))
                pairs.append((await under(name, endpoint, client, phase_s), quiet[-1]))
                next_door[name].append((await under(name, other, client, phase_s), quiet[-1]))
    ratios = medians(attacked)
    grown = memory_mib(port) - before_mib
    return {
        "benchmark": "hostile_clients",
        "quiet_p99_us": round(statistics.median(quiet), 1),
        "p99_us": {name: round(statistics.median(hit for hit, _ in pairs), 1) for name, pairs in attacked.items()},
        "ratios": ratios,
        "next_door": medians(next_door),
        "target_ratio": TARGET_RATIO,
        "memory_mib": round(grown, 1),
        "target_mib": TARGET_MIB,
        "met": max(ratios.values()) <= TARGET_RATIO and grown <= TARGET_MIB,
    }


def medians(pairs_of: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    """Return the median ratio of each attack."""
    return {name: round(statistics.median(hit / calm for hit, calm in pairs), 2) for name, pairs in pairs_of.items()}


def service() -> AbstractContextManager[str]:
    """Run a service and give its endpoint."""
    return child("tests/inference/stub_service.py", f"tcp://127.0.0.1:{free_port()}", str(COMPUTE_US))


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--phase", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a slice: one second of each")
    parser.add_argument("--attack", choices=tuple(ATTACKS), help=argparse.SUPPRESS)
    parser.add_argument("--endpoint", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        die_with_parent()
        ATTACKS[options.attack](options.endpoint, time.monotonic() + options.phase)
        return
    phase_s, repeats = (1.0, 1) if options.quick else (options.phase, options.repeats)
    with service() as endpoint, service() as other:
        print(json.dumps(uvloop.run(measure(endpoint, other, phase_s, repeats))))


if __name__ == "__main__":
    main()
