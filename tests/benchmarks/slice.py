"""A small slice of every benchmark: does each still run, and roughly what does it say? Prints one JSON object per line.

    python -m tests.benchmarks.slice [--timeout 120]

Runs each `bench_*.py` beside this file in a process of its own, one after the other, with its quick options. Exits 1 if one
crashes, hangs or prints anything but one JSON object. A goal that is not met is shown, not failed: a slice on a busy
machine decides nothing about speed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
QUICK: dict[str, tuple[str, ...]] = {
    "bench_dom": ("--rows", "3000"),
    "bench_event_bus": ("--bursts", "500", "--repeats", "3"),
    "bench_features": ("--rows", "3000", "--repeats", "200"),
    "bench_inference": ("--rows", "3000", "--repeats", "200"),
    "bench_prediction_round_trip": ("--requests", "200"),
    "bench_simulated_market": ("--duration", "300", "--seeds", "1"),
}
"""Small options of the benchmarks that have no `--quick`."""


def run(name: str, timeout_s: float) -> dict[str, Any]:
    """Run one benchmark's slice and return what it printed. Raises `ValueError` that says what went wrong."""
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", *QUICK.get(name, ("--quick",))]
    try:
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as exc:
        raise ValueError(f"{name}: no result within {timeout_s:g} s") from exc
    if ran.returncode:
        raise ValueError(f"{name}: exit code {ran.returncode}\n{ran.stderr[-2_000:]}")
    try:
        found: dict[str, Any] = json.loads(ran.stdout)
    except ValueError as exc:
        raise ValueError(f"{name}: printed no JSON object: {ran.stdout[:200]!r}") from exc
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds that one benchmark may take")
    timeout_s = parser.parse_args().timeout
    failures = 0
    for path in sorted(FOLDER.glob("bench_*.py")):
        start_s = time.monotonic()
        try:
            found = run(path.stem, timeout_s)
        except ValueError as exc:
            failures += 1
            print(exc, file=sys.stderr, flush=True)
            continue
        print(json.dumps({"slice": path.stem, "took_s": round(time.monotonic() - start_s, 1)} | found), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
