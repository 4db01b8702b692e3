"""What an import costs beside reading the same file with its vendor's own library, in CPU seconds of one process.

    python tests/benchmarks/formats_cost.py [FOLDER OF RECORDINGS] [--repeats N] [--vendor-python PYTHON]

Each format runs in a process of its own; its reading by the peer, by us into columns and events, and its import take turns there, and
medians are told. The peer decompresses and decodes the whole file: `databento` (to_df) for Databento, in the interpreter that
`--vendor-python` names (else, or beside it, `databento-dbn` with a look at the fields of each record); polars for CSV and Parquet; for
streams of JSON msgspec, line by line. The first import of market by order on a machine compiles its code, once, which is not counted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MBO = "cme_es_databento/esh4-glbx-mdp3-20231225.mbo.dbn.zst"
CASES = {
    "Databento mbo": [MBO],
    "Databento mbo, 16 times as long": [f"long:{MBO}"],
    "Databento mbp-1": ["cme_es_databento/futures_mbp-1_2024-07-01T23-58_2024-07-02T00-02.dbn.zst"],
    "LOBSTER, 10 levels": ["lobster_20120621/LOBSTER_SampleFile_GOOG_2012-06-21_10.zip"],
    "LOBSTER, 1 level": ["lobster_20120621/LOBSTER_SampleFile_AAPL_2012-06-21_1.zip"],
    "SHFE snapshots, 5 levels": ["shfe_rb_l2/rb_20250605.parquet"],
    "Tardis trades": ["tardis:trades"],
    "Tardis incremental book": ["tardis:book"],
    "Binance archive, aggTrades": ["binance:BTCUSDT-aggTrades-2024-08-08.csv"],
    "bars, 5 minutes": ["cme_es_bars_5m/ESH15_5m.csv.zst"],
    "Binance streams": ["binance_futures_l2/usdm_btcusdt_20240808.gz"],
    "SGX states, 3 levels": ["sgx_a50_l2/cn_20140129_book3.csv.zst"],
    "CME MDP 3.0, feeds A and B": [
        "cme_es_mdp3_pcap/es_mdp3_20190829_feedA_14310.pcap.xz",
        "cme_es_mdp3_pcap/es_mdp3_20190829_feedB_15310.pcap.xz",
    ],
}
ROWS = 200_000
LONG = 16


# --- files that nobody recorded here ----------------------------------------------------------------------------------------


def made(name: str, recordings: Path, folder: Path) -> Path:
    """Return the path of a recording, or write one in the layout that a name like `tardis:trades` asks for."""
    kind, _, what = name.partition(":")
    makers = {"long": _long, "tardis": _tardis, "binance": _binance}
    return makers[kind](what, recordings, folder) if what else recordings / name


def _long(name: str, recordings: Path, folder: Path) -> Path:
    """Repeat the continuous part of market by order, later each time, so that its orders are others."""
    import numpy as np
    import pyarrow as pa

    from framework.market.formats.dbn_records import LAYOUTS, DbnFile

    file = DbnFile(recordings / name)
    with pa.CompressedInputStream(pa.OSFile(str(recordings / name)), "zstd") as stream:
        raw = stream.read()
    head = raw[: 8 + int.from_bytes(raw[4:8], "little")]
    records = np.concatenate(list(file.records(*LAYOUTS["mbo"])))
    span = records["ts_recv"][-1] - records["ts_recv"][records["flags"] & 0x20 == 0][0] + np.uint64(1_000_000_000)
    parts = [records]
    for number in range(1, LONG):
        again = records.copy()
        again[0]["action"] = b"R"
        for field in ("ts_recv", "ts_event"):
            again[field] += np.uint64(number) * span
        again["flags"] &= 0xDF
        first = again["ts_recv"] < parts[-1]["ts_recv"][-1]
        again["ts_recv"][first] = parts[-1]["ts_recv"][-1]
        parts.append(again)
    path = folder / "long.mbo.dbn.zst"
    with pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd") as out:
        out.write(head + np.concatenate(parts).tobytes())
    return path


def _tardis(what: str, _: Path, folder: Path) -> Path:
    head = "exchange,symbol,timestamp,local_timestamp"
    path = folder / f"{what}.csv.gz"
    with gzip.open(path, "wt") as file:
        columns = "id,side,price,amount" if what == "trades" else "is_snapshot,side,price,amount"
        file.write(f"{head},{columns}\n")
        for row in range(ROWS):
            at = 1_720_000_000_000_000 + row * 1_000
            side = row * 7 % 2
            price = (60_000 + row * 31 % 40 * (1 if side else -1)) + (0.1 if side else 0.0)
            first = row if what == "trades" else str(row < 100).lower()
            names = ("sell", "buy") if what == "trades" else ("bid", "ask")
            file.write(f"binance-futures,BTCUSDT,{at},{at + 300},{first},{names[side]},{price:.1f},{0.001 * (1 + row % 90):.3f}\n")
    return path


def _binance(name: str, _: Path, folder: Path) -> Path:
    path = folder / name
    with path.open("w") as file:
        file.write("agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n")
        for row in range(ROWS):
            maker = str(row % 3 == 0).lower()
            file.write(f"{row},{60_000 + row % 97 / 10:.1f},{0.001 * (1 + row % 90):.3f},{row},{row},{1_720_000_000_000 + row},{maker}\n")
    return path


# --- peers ------------------------------------------------------------------------------------------------------------------


def peer_of(path: Path, vendor_python: str) -> tuple[str, Callable[[], float]] | None:
    """Return what else reads a file, and how many CPU seconds it takes."""
    if ".dbn" in path.name:
        vendor = _vendor(path, vendor_python)
        return ("databento to_df", lambda: vendor) if vendor is not None else ("databento-dbn", lambda: timed(lambda: decode_dbn(path)))
    if path.name.endswith(".parquet"):
        return "polars", lambda: timed(lambda: polars().read_parquet(path))
    if path.name.endswith(".zip"):
        return "polars", lambda: timed(lambda: read_pair(path))
    if path.name.startswith("usdm_"):
        return "msgspec by line", lambda: timed(lambda: read_json(path))
    if path.suffix in (".csv", ".zst") or path.name.endswith(".csv.gz"):
        return "polars", lambda: timed(lambda: polars().read_csv(path, ignore_errors=True, truncate_ragged_lines=True))
    return None


def polars() -> Any:
    import polars as pl

    return pl


def timed(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def decode_dbn(path: Path) -> None:
    """Decode with `databento-dbn`, decompression and a look at the common fields included."""
    import databento_dbn
    import pyarrow as pa

    decoder = databento_dbn.DBNDecoder()
    stream = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    while raw := stream.read(256 << 10):
        decoder.write(raw)
        records: list[Any] = decoder.decode()
        for record in records:
            if hasattr(record, "flags"):
                _ = (record.ts_event, record.ts_recv, record.price, record.size, record.flags, record.action, record.side)


def _vendor(path: Path, vendor_python: str) -> float | None:
    script = (
        "import sys, time, statistics, warnings, databento as db\nwarnings.simplefilter('ignore')\nspent = []\n"
        "for _ in range(5):\n    begin = time.process_time(); db.DBNStore.from_file(sys.argv[1]).to_df()\n"
        "    spent.append(time.process_time() - begin)\nprint(statistics.median(spent))\n"
    )
    done = subprocess.run([vendor_python, "-c", script, str(path)], capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def read_pair(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".csv"):
                polars().read_csv(archive.read(name), has_header=False)


def read_json(path: Path) -> None:
    import msgspec

    with gzip.open(path) as file:
        for line in file:
            msgspec.json.decode(line[line.index(b" ") + 1 :])


# --- ours -------------------------------------------------------------------------------------------------------------------


def read_rows(names: list[str]) -> int:
    from framework.market.catalogue.reading import sources_of
    from framework.market.formats.rows import InRows

    (source,) = sources_of(names)
    return sum(len(rows) for rows in source.rows(0)) if isinstance(source, InRows) else -1


def read_events(names: list[str]) -> int:
    from framework.market.catalogue.reading import open_market

    return sum(1 for _ in open_market(names).read())


def bring(names: list[str]) -> float:
    from framework.market.catalogue.importing import ImportOptions, import_files
    from framework.market.catalogue.index import Catalogue

    with tempfile.TemporaryDirectory() as folder:
        return timed(lambda: import_files(Catalogue(Path(folder) / "catalogue"), [Path(name) for name in names], ImportOptions()))


def measure(names: list[str], recordings: Path, repeats: int, vendor_python: str) -> dict[str, Any]:
    """Read and import one case in this process."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(made(name, recordings, Path(folder))) for name in names]
        peer = peer_of(Path(paths[0]), vendor_python)
        events = read_events(paths)
        max_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
        bring(paths)
        spent: dict[str, list[float]] = {"peer": [], "rows": [], "events": [], "import": []}
        for _ in range(repeats):
            spent["peer"].append(peer[1]() if peer else 0.0)
            spent["rows"].append(timed(lambda: read_rows(paths)))
            spent["events"].append(timed(lambda: read_events(paths)))
            spent["import"].append(bring(paths))
    medians = {f"{name}_ms": round(1_000 * statistics.median(times), 1) for name, times in spent.items()}
    return {
        "events": events,
        "peer": peer[0] if peer else "",
        **medians,
        "import_to_peer": round(medians["import_ms"] / medians["peer_ms"], 2) if peer else None,
        "import_events_per_s": round(1_000 * events / medians["import_ms"]),
        "reading_mb": round(max_mb),
        "max_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="?", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--vendor-python", default=sys.executable, help="a Python that has the package databento")
    parser.add_argument("--case", nargs="+", help="one case, by its files")
    chosen = parser.parse_args()
    if chosen.case:
        print(json.dumps(measure(chosen.case, chosen.recordings, chosen.repeats, chosen.vendor_python)))
        return
    print(f"{'':32} {'events':>9} {'peer ms':>9} {'columns':>8} {'events':>8} {'import':>8} {'ratio':>6} {'per s':>9} {'MB':>5}")
    for title, names in CASES.items():
        command = [sys.executable, __file__, str(chosen.recordings), "--repeats", str(chosen.repeats)]
        command += ["--vendor-python", chosen.vendor_python, "--case", *names]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        one = json.loads(done.stdout)
        times = f"{one['peer_ms']:>9.1f} {one['rows_ms']:>8.1f} {one['events_ms']:>8.1f} {one['import_ms']:>8.1f}"
        ratio = "" if one["import_to_peer"] is None else f"{one['import_to_peer']:.2f}"
        rate = f"{one['import_events_per_s']:>9,}"
        print(f"{title:32} {one['events']:>9,} {times} {ratio:>6} {rate} {one['max_mb']:>5} {one['peer']}", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
