"""How fast recordings are read and imported, in CPU seconds of one core, with the most memory that each took.

    python tests/benchmarks/formats_cost.py [FOLDER OF RECORDINGS]

Each format runs in a process of its own. The last lines compare importing Databento files with decoding them by the vendor's library.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = {
    "LOBSTER, 10 levels": ["lobster_20120621/LOBSTER_SampleFile_GOOG_2012-06-21_10.zip"],
    "LOBSTER, 1 level": ["lobster_20120621/LOBSTER_SampleFile_AAPL_2012-06-21_1.zip"],
    "SHFE snapshots, 5 levels": ["shfe_rb_l2/rb_20250605.parquet"],
    "Binance streams": ["binance_futures_l2/usdm_btcusdt_20240808.gz"],
    "Databento mbo": ["cme_es_databento/esh4-glbx-mdp3-20231225.mbo.dbn.zst"],
    "Databento mbp-1": ["cme_es_databento/futures_mbp-1_2024-07-01T23-58_2024-07-02T00-02.dbn.zst"],
    "CME MDP 3.0, feeds A and B": [
        "cme_es_mdp3_pcap/es_mdp3_20190829_feedA_14310.pcap.xz",
        "cme_es_mdp3_pcap/es_mdp3_20190829_feedB_15310.pcap.xz",
    ],
    "SGX states, 3 levels": ["sgx_a50_l2/cn_20140129_book3.csv.zst"],
    "bars, 5 minutes": ["cme_es_bars_5m/ESH15_5m.csv.zst"],
}


def measure(names: list[str]) -> dict[str, float]:
    """Read and import one case in this process."""
    from framework.market.catalogue.importing import ImportOptions, import_files
    from framework.market.catalogue.index import Catalogue
    from framework.market.catalogue.reading import open_market

    begin = time.process_time()
    feed = open_market(names)
    opened = time.process_time()
    events = sum(1 for _ in feed.read())
    read = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        catalogue = Catalogue(Path(folder) / "catalogue")
        (entry, *_) = import_files(catalogue, [Path(name) for name in names], ImportOptions()).imported
        imported = time.process_time()
        back = sum(1 for _ in open_market([entry.key], catalogue).read())
        replayed = time.process_time()
    return {
        "events": events,
        "open_s": opened - begin,
        "read_per_s": events / (read - opened),
        "import_per_s": events / (imported - read),
        "replay_per_s": back / (replayed - imported),
        "max_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024,
    }


def vendor_s(path: Path) -> float:
    """Return the CPU seconds that the vendor's library takes to read a file, decompression and a look at the common fields included."""
    import databento_dbn
    import pyarrow as pa

    begin = time.process_time()
    decoder = databento_dbn.DBNDecoder()
    stream = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    while raw := stream.read(256 << 10):
        decoder.write(raw)
        for record in decoder.decode():
            if hasattr(record, "flags"):
                _ = (record.ts_event, record.ts_recv, record.price, record.size, record.flags, record.action, record.side)
    return time.process_time() - begin


def main() -> None:
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(measure(sys.argv[2:])))
        return
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data"
    print(f"{'':28} {'events':>8} {'open s':>7} {'read/s':>9} {'import/s':>9} {'replay/s':>9} {'MB':>5}")
    for title, names in CASES.items():
        paths = [str(folder / name) for name in names]
        done = subprocess.run([sys.executable, __file__, "--case", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
        one = json.loads(done.stdout)
        rates = f"{one['read_per_s']:>9,.0f} {one['import_per_s']:>9,.0f} {one['replay_per_s']:>9,.0f}"
        print(f"{title:28} {one['events']:>8,} {one['open_s']:>7.2f} {rates} {one['max_mb']:>5.0f}")
        if title.startswith("Databento"):
            vendor = min(vendor_s(Path(paths[0])) for _ in range(5))
            ratio = one["events"] / one["import_per_s"] / vendor
            print(f"{'':28} import takes {ratio:.1f} times the {vendor * 1_000:.1f} ms of reading with the vendor's library")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
