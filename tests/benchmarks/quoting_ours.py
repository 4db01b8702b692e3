"""One backtest of the quoting strategy of `bench_backtest_peers`, in a process of its own.

python -m tests.benchmarks.quoting_ours RECORDING... [--order-latency-ms X] [--response-latency-ms X] [--lean]      prints one JSON line
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from framework.backtest.engine import OFF, Plan, Run, execute, prepare
from framework.backtest.planning import plan_for
from framework.config import MainConfig, PaperConfig, RiskLimits
from framework.market.catalogue.reading import open_market
from tests.benchmarks.quoting_strategy import QuotingStrategy

MOST = 1_000_000


def peak_rss_mb() -> float:
    """Return the most memory that this process itself had; what its parent had at the fork does not count."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def settings(order_latency_ms: float, response_latency_ms: float) -> MainConfig:
    """Return settings in which the gate has all its checks on, and limits that this strategy does not meet."""
    limits = RiskLimits(max_orders_per_second=1_000, max_orders_per_minute=0, max_cancels_per_second=1_000, max_position=MOST)
    venue = PaperConfig(
        order_latency_ms=order_latency_ms, response_latency_ms=response_latency_ms, maker_fee=Decimal("0.25"), taker_fee=Decimal("0.85")
    )
    return MainConfig(risk=limits, paper=venue)


def plan(paths: list[Path], state_dir: Path, main: MainConfig, strategy: str = "tests.benchmarks.quoting_strategy:QuotingStrategy") -> Plan:
    """Plan a backtest of the strategy on the first instrument of a recording."""
    feed = open_market([str(path) for path in paths])
    instrument_id = feed.instruments[0].instrument_id
    feed.stop()
    file = state_dir / "quoting.yaml"
    file.write_text(f"name: quoting\nstrategy: {strategy}\ninstrument_id: {instrument_id}\n")
    return plan_for(file, paths, ml=OFF, latency=None, settings=main, instrument_id=None, state_dir=state_dir / "state", seed=7)


def measured(run: Callable[[], tuple[int, int, int]], load_cpu_s: float = 0.0) -> dict[str, Any]:
    """Run once what returns how many events it saw, orders it sent and fills it had; return them and what it cost."""
    gc.collect()
    begun, begun_cpu = time.perf_counter(), time.process_time()
    events, orders, fills = run()
    cpu_s, wall_s = time.process_time() - begun_cpu, time.perf_counter() - begun
    return {
        "events": events,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "load_cpu_s": load_cpu_s,
        "rss_mb": peak_rss_mb(),
        "orders": orders,
        "fills": fills,
    }


def measure(paths: list[Path], main: MainConfig) -> dict[str, Any]:
    """Run it once. The time has everything in it: the file, the gate, the journal, the accounts."""
    with tempfile.TemporaryDirectory() as folder:
        planned = plan(paths, Path(folder), main)

        def run() -> tuple[int, int, int]:
            ran: Run = execute(planned, prepare(planned, lambda *_: None), lambda *_: None)
            return QuotingStrategy.events_seen, ran.summary.orders, len(ran.tape.fills)

        return measured(run)


def measure_lean(paths: list[Path], main: MainConfig) -> dict[str, Any]:
    """Run it once as a lean backtest. Reading the recording is `load_cpu_s`, as with the peers."""
    # Here, so that the memory of a whole backtest is its own.
    from framework.backtest.lean.columns import read_columns
    from framework.backtest.lean.engine import execute_lean

    with tempfile.TemporaryDirectory() as folder:
        planned = plan(paths, Path(folder), main)
        begun_cpu = time.process_time()
        columns = read_columns(paths, planned.deployment.file.instrument_id, lambda *_: None)
        load_cpu_s = time.process_time() - begun_cpu

        def run() -> tuple[int, int, int]:
            ran = execute_lean(planned, columns, lambda *_: None)
            return QuotingStrategy.events_seen, ran.summary.orders, ran.summary.fills

        return measured(run, load_cpu_s)


def parser_of_run() -> argparse.ArgumentParser:
    """Return what every contender of ours is told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument("--order-latency-ms", type=float, default=2.0)
    parser.add_argument("--response-latency-ms", type=float, default=1.0)
    return parser


def main() -> None:
    parser = parser_of_run()
    parser.add_argument("--lean", action="store_true", help="without the trading process around it")
    chosen = parser.parse_args()
    run = measure_lean if chosen.lean else measure
    print(json.dumps(run(chosen.recordings, settings(chosen.order_latency_ms, chosen.response_latency_ms))))


if __name__ == "__main__":
    main()
