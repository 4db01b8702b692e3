"""The most memory that a backtest over a long recording has: ten million rows, books of ten levels and trades.

    python -m tests.benchmarks.bench_backtest_memory [--rows N]      prints one JSON object

The recording is generated part by part into a temporary folder (about 60 bytes a row). The shipped book imbalance strategy runs over it
in a process of its own, with all figures of the report; the peak of that process is what counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from framework.dataset.parts import Manifest, Part, write_manifest, write_part
from framework.market.recording import KIND, SCHEMA, VERSION
from framework.model import Instrument

ROOT = Path(__file__).resolve().parents[2]
INSTRUMENT = Instrument(instrument_id="LONG.SIM", tick_size=Decimal("0.25"), multiplier=Decimal(50))
PART_ROWS = 100_000
LEVELS = 10
STEP_NS = 50_000_000
GOAL_MB = 1_024.0
STRATEGY = ROOT / "config" / "strategies" / "book_imbalance.yaml"
RUN = """
import json, sys, time
from framework.backtest import run
from tests.benchmarks.quoting_ours import peak_rss_mb

found = run(sys.argv[1], [sys.argv[2]], ml="off", instrument_id=sys.argv[3], state_dir=sys.argv[4])
facts = found.facts
print(json.dumps({"rss_mb": peak_rss_mb(), "cpu_s": time.process_time(), "events": facts["events"], "orders": facts["orders"]}))
"""


def write_long(folder: Path, rows: int) -> Path:
    """Write a recording of `rows` events: nine books, then a trade, on a random walk of the price."""
    folder.mkdir()
    facts = msgspec.json.encode({INSTRUMENT.instrument_id: INSTRUMENT})
    schema = SCHEMA.with_metadata({"tidebook_recording": VERSION, "instruments": facts})
    rng = np.random.default_rng(7)
    manifest = Manifest(kind=KIND, schema=VERSION)
    for table in _parts(rng, rows, schema):
        name = f"part-{manifest.total_rows:012d}.parquet"
        size, sha256 = write_part(table, folder / name)
        part = Part(name=name, instrument_id="", first_total=manifest.total_rows, rows=len(table), bytes=size, sha256=sha256)
        manifest = msgspec.structs.replace(manifest, total_rows=manifest.total_rows + len(table), parts=(*manifest.parts, part))
    write_manifest(folder, manifest)
    return folder


def _parts(rng: np.random.Generator, rows: int, schema: pa.Schema) -> Iterator[pa.Table]:
    mid = 20_000
    for first in range(0, rows, PART_ROWS):
        count = min(PART_ROWS, rows - first)
        numbers = np.arange(first, first + count)
        mids = mid + np.cumsum(rng.choice((-1, 0, 1), count, p=(0.005, 0.99, 0.005)))
        mid = int(mids[-1])
        yield _table(rng, numbers, mids, schema)


def _table(rng: np.random.Generator, numbers: Any, mids: Any, schema: pa.Schema) -> pa.Table:
    count, is_trade = len(numbers), numbers % 10 == 9
    times = 1_704_067_200_000_000_000 + numbers * STEP_NS
    steps, none = np.arange(LEVELS), np.where(is_trade, 0, LEVELS)
    offsets = pa.array(np.concatenate(([0], np.cumsum(none))).astype(np.int32))
    books = ~is_trade

    def levels(values: Any) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, pa.array(values[books].ravel().astype(np.int64)))

    sizes = rng.integers(1, 100, (2, count, LEVELS))
    sizes[0] += np.rint(40 * (1 + np.sin(numbers / 3_000)))[:, None].astype(np.int64)  # so that the strategy trades now and then
    columns = {
        "kind": np.where(is_trade, "trade", "book"),
        "instrument_id": np.full(count, INSTRUMENT.instrument_id),
        "ts_event": times,
        "ts_recv": times,
        "sequence": numbers + 1,
        "bid_ticks": levels(mids[:, None] - steps),
        "bid_sizes": levels(sizes[0]),
        "ask_ticks": levels(mids[:, None] + 1 + steps),
        "ask_sizes": levels(sizes[1]),
        "price_ticks": pa.array(mids, mask=books),
        "size": pa.array(rng.integers(1, 5, count), mask=books),
        "aggressor": pa.array(np.where(rng.random(count) < 0.5, "BUY", "SELL"), mask=books),
        "is_open": pa.nulls(count, pa.bool_()),
        "reason": pa.nulls(count, pa.string()),
    }
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema=schema)


def measure(rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = write_long(Path(folder) / "long", rows)
        command = [sys.executable, "-c", RUN, str(STRATEGY), str(path), INSTRUMENT.instrument_id, f"{folder}/state"]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise SystemExit(ran.stderr[-3_000:])
        found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return {
        "benchmark": "backtest_memory",
        "rows": rows,
        "rss_mb": round(found["rss_mb"]),
        "goal_mb": GOAL_MB,
        "cpu_s": round(found["cpu_s"], 1),
        "orders": found["orders"],
        "events_per_cpu_s": round(found["events"] / found["cpu_s"]),
        "is_met": found["rss_mb"] <= GOAL_MB,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--quick", action="store_true", help="ten thousand rows")
    chosen = parser.parse_args()
    print(json.dumps(measure(10_000 if chosen.quick else chosen.rows)))


if __name__ == "__main__":
    main()
