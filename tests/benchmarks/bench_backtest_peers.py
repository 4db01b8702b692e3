"""A Python strategy that quotes, through a backtest here and through those of NautilusTrader and hftbacktest, on one recording.

    python -m tests.benchmarks.bench_backtest_peers [RECORDING...] [--repeats N] [--peers nautilus,compiled,python] [--home DIR]

Prints one JSON object. The strategy reads the best bid and ask at each book, counts each trade, and every 100 ms takes back a quote
that is off the touch or sends the one that is missing: post-only limit orders of one lot, both sides. Order latency, queue model
(NautilusTrader 1.221 has none, but a chance to fill), fees, accounts and gate are on. Without a RECORDING it takes half an hour of the
simulated market. The peers are installed into an environment of their own, pinned (`--peers ""` does without); all take turns, each run
in a process of its own.

What counts: `tidebook` is the whole backtest with reading the file; `tidebook_lean` is the lean one, and of it, as of a peer, only its
run counts, on events that are in memory already (`load_cpu_s` says what that cost). The targets are asked of the lean one.
`tidebook_compiled` is the same strategy compiled (`backtest --compiled`), to be held beside hftbacktest compiled; as there, compiling is
not in the time that counts, and what a run leaves (arrays of orders and fills, the account, the touch of every book) is.
`events_per_cpu_s` is the median over the repeats; memory is the peak of the process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from framework.market.catalogue.reading import open_market
from framework.messages import BookSnapshot, TradeTick
from framework.model import NS_PER_MS, Side
from tests.benchmarks.agree_hftbacktest import in_order, level_changes
from tests.flows.harness import record_market

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# The last release of NautilusTrader for Python 3.11; its 2.x, release candidates so far, wants 3.12 or newer.
PACKAGES = ("nautilus_trader==1.221.0", "hftbacktest==2.4.4")
ORDER_LATENCY_MS, RESPONSE_LATENCY_MS = 2.0, 1.0
TARGET_OF_NAUTILUS = 2.5
TARGET_OF_MEMORY = 0.5
TARGET_OF_COMPILED = 0.5
SIMULATED_S = 1_800.0
OURS = ("tidebook", "tidebook_lean", "tidebook_compiled")
Contender = Callable[[], dict[str, Any]]


# --- the recording, for peers --------------------------------------------------------------------------------------------------


def as_rows(paths: list[Path]) -> dict[str, Any]:
    """Return a recording as changes of levels (kind 0) and trades (kind 1); `event` numbers the books and trades that they are of."""
    feed = open_market([str(path) for path in paths])
    known: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
    rows: list[tuple[int, ...]] = []
    for number, event in enumerate(in_order(feed.read(), feed.instruments[0].instrument_id)):
        rows += [(number, event.ts_event, *one) for one in _rows_of(event, known)]
    names = ("event", "ts", "kind", "side", "ticks", "size")
    columns = {name: np.array(column, dtype=np.int64) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return columns | {
        "order_latency_ns": round(ORDER_LATENCY_MS * NS_PER_MS),
        "response_latency_ns": round(RESPONSE_LATENCY_MS * NS_PER_MS),
    }


def _rows_of(event: BookSnapshot | TradeTick, known: dict[Side, dict[int, int]]) -> list[tuple[int, int, int, int]]:
    if isinstance(event, TradeTick):
        return [(1, event.aggressor.sign if event.aggressor else 0, event.price_ticks, event.size)]
    changes = level_changes(known, event)
    if not changes and event.bid_ticks:  # a book like the one before is an event too: its best bid is said again
        changes = [(1, event.bid_ticks[0], event.bid_sizes[0])]
    return [(0, *change) for change in changes]


# --- contenders ----------------------------------------------------------------------------------------------------------------


def peer_python(home: Path) -> Path:
    """Return the Python of an environment that has the peers; install them if they are not there."""
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True, stdout=sys.stderr)
    return python


def child(*command: str | Path) -> Contender:
    """Return what runs a command and reads the JSON line that it prints last."""

    def run() -> dict[str, Any]:
        ran = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise SystemExit(f"{command[1]}: exit code {ran.returncode}\n{ran.stderr[-3_000:]}")
        found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
        return found

    return run


def contenders(paths: list[Path], peers: list[str], home: Path, rows_file: Path) -> dict[str, Contender]:
    latencies = ("--order-latency-ms", str(ORDER_LATENCY_MS), "--response-latency-ms", str(RESPONSE_LATENCY_MS))
    ours: tuple[str | Path, ...] = (sys.executable, "-m", "tests.benchmarks.quoting_ours", *paths, *latencies)
    as_compiled: tuple[str | Path, ...] = (sys.executable, "-m", "tests.benchmarks.quoting_compiled", *paths, *latencies)
    found = {"tidebook": child(*ours), "tidebook_lean": child(*ours, "--lean"), "tidebook_compiled": child(*as_compiled)}
    if not peers:
        return found
    python = peer_python(home)
    np.savez(rows_file, **as_rows(paths))
    known = {
        "nautilus": child(python, HERE / "quoting_nautilus.py", rows_file),
        "compiled": child(python, HERE / "quoting_hftbacktest.py", rows_file, "compiled"),
        "python": child(python, HERE / "quoting_hftbacktest.py", rows_file, "python"),
    }
    names = {"nautilus": "nautilus", "compiled": "hftbacktest_compiled", "python": "hftbacktest_from_python"}
    return found | {names[peer]: known[peer] for peer in peers}


# --- measuring -----------------------------------------------------------------------------------------------------------------


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one contender's medians, with the slowest and fastest run."""
    rates = [one["events"] / one["cpu_s"] for one in runs]
    kept = {name: runs[0][name] for name in ("events", "orders", "fills", "wakeups", "version") if name in runs[0]}
    medians = {name: round(statistics.median(one[name] for one in runs), 3) for name in ("cpu_s", "wall_s", "load_cpu_s", "rss_mb")}
    return kept | medians | {"events_per_cpu_s": round(statistics.median(rates)), "range": [round(min(rates)), round(max(rates))]}


def ratios_of(runs: dict[str, list[dict[str, Any]]], own: str) -> dict[str, Any]:
    """Return how one of ours compares with each peer: speed round by round (median, least, most), and memory."""
    ours = runs[own]
    found = {}
    for peer, theirs in runs.items():
        if peer in OURS:
            continue
        pairs = [(a["events"] / a["cpu_s"]) / (b["events"] / b["cpu_s"]) for a, b in zip(ours, theirs, strict=True)]
        memory = statistics.median(a["rss_mb"] for a in ours) / statistics.median(b["rss_mb"] for b in theirs)
        found[peer] = {
            "speed": round(statistics.median(pairs), 3),
            "speed_range": [round(min(pairs), 3), round(max(pairs), 3)],
            "memory": round(memory, 2),
        }
    return found


def measure(paths: list[Path], peers: list[str], home: Path, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        simulated_s = SIMULATED_S if repeats > 1 else 120.0
        known = paths or [record_market(Path(folder) / "market", duration_s=simulated_s)]
        entered = contenders(known, peers, home, Path(folder) / "rows.npz")
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in entered}
        for _ in range(repeats):
            for name, run in entered.items():
                runs[name].append(run())
    ratios = {own: ratios_of(runs, own) for own in OURS}
    against, compiled = ratios["tidebook_lean"].get("nautilus"), ratios["tidebook_compiled"].get("hftbacktest_compiled")
    return {
        "benchmark": "backtest_peers",
        "recording": [path.name for path in paths] or "simulated",
        "repeats": repeats,
        "contenders": {name: summary(found) for name, found in runs.items()},
        "ours_of": ratios,
        "targets": {
            "speed_of_nautilus": TARGET_OF_NAUTILUS,
            "memory_of_nautilus": TARGET_OF_MEMORY,
            "compiled_speed_of_hftbacktest": TARGET_OF_COMPILED,
        },
        "is_compiled_met": compiled is not None and compiled["speed"] >= TARGET_OF_COMPILED,
        "is_met": against is not None and against["speed"] >= TARGET_OF_NAUTILUS and against["memory"] <= TARGET_OF_MEMORY,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", default="nautilus,compiled,python", help="which of nautilus, compiled, python (hftbacktest)")
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "tidebook-bench-peers")
    parser.add_argument("--quick", action="store_true", help="ours alone, once, on two minutes of the simulated market")
    chosen = parser.parse_args()
    missing = [str(path) for path in chosen.recordings if not path.exists()]
    if missing:
        print(json.dumps({"benchmark": "backtest_peers", "skipped": f"no such recording: {', '.join(missing)}"}))
        return
    peers = [] if chosen.quick else [name for name in chosen.peers.split(",") if name]
    print(json.dumps(measure(chosen.recordings, peers, chosen.home, 1 if chosen.quick else chosen.repeats)))


if __name__ == "__main__":
    main()
