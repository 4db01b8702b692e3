"""Break small files of every format in every way that disks, networks and people do; only events or a clear error may come of it.

    PYTHONPATH=. python tests/market/formats/fuzz.py --cases 100000 [--seed 1]

Prints how many cases ended in events and in which errors; exits 1, with the case, at the first that ends otherwise.
"""

from __future__ import annotations

import argparse
import gzip
import random
import struct
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from framework.errors import TidebookError
from framework.market.formats import open_source
from framework.market.formats.dbn_records import MBO, MBP_1

MAX_EVENTS = 10_000
JUNK = (b"\n", b",", b"-", b"9" * 30, b"nan", b"1e999", b"\xff" * 8, b"\0" * 8)

TARDIS = """exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount
binance-futures,BTCUSDT,2,20,true,bid,37000.0,2
binance-futures,BTCUSDT,2,20,true,ask,37000.5,3
binance-futures,BTCUSDT,3,30,false,bid,37000.1,1
"""
BARS = """Date, Time, Open, High, Low, Last, Volume, NumberOfTrades, BidVolume, AskVolume
2014/12/23, 18:00:00, 2078.75, 2079.25, 2078.75, 2079.00, 129, 80, 60, 69
2014/12/23, 18:05:00, 2079.00, 2079.25, 2078.50, 2079.00, 145, 84, 48, 97
"""
MAPPED = "ts;b;bq;a;aq\n1;99.75;3;100;2\n2;99.75;4;100;2\n3;99.75;4;100.25;2\n"
MAPPING = """instrument: {instrument_id: XYZ.VENUE, tick_size: 0.25}
delimiter: ";"
time: {columns: [ts], unit: ns}
book: {bid_price: b, bid_size: bq, ask_price: a, ask_size: aq, levels: 1}
"""
BINANCE = b"""1723161255000000000 {"lastUpdateId":20,"E":1,"T":1,"bids":[["100.0","1.000"]],"asks":[["100.2","3.000"]]}
1723161255000000001 {"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1,"T":1,"U":15,"u":22,"pu":10,"b":[["99.9","5"]],"a":[]}}
1723161255000000002 {"stream":"btcusdt@trade","data":{"e":"trade","E":1,"T":1,"p":"100.0","q":"0.003","X":"MARKET","m":true}}
1723161255000000003 {"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1,"T":1,"U":23,"u":24,"pu":22,"b":[],"a":[["100.1","1"]]}}
"""
BYBIT = b"""{"topic":"orderbook.500.XRPUSDT","type":"snapshot","ts":1,"data":{"s":"XRPUSDT","b":[["1.9531","10"]],"a":[],"u":7}}
{"topic":"orderbook.500.XRPUSDT","type":"delta","ts":2,"data":{"s":"XRPUSDT","b":[["1.9531","0"]],"a":[["1.96","3"]],"u":8}}
"""
SGX = b"Bid,Bid_Quantity,Ask,Ask_Quantity\r\r\n" + b"".join(
    b"TimeStamp,2014-01-29D09:00:0%d.000000001\r\r\n672000.0,16.0,672500.0,16.0\r\r\n" % second for second in range(3)
)
MESSAGES = "34200.1,1,16,18,5853300,1\n34200.5,4,17,7,5859400,-1\n34200.5,5,0,3,5856350,1\n"
BOOKS = "5859400,200,5853300,18\n5859400,193,5853300,18\n5859400,193,5853300,18\n"


def _dbn(schema: str, layout: np.dtype, rtype: int) -> bytes:
    import datetime
    from types import SimpleNamespace

    import databento_dbn

    day = datetime.date(2023, 12, 25)
    interval = SimpleNamespace(start_date=day, end_date=day + datetime.timedelta(days=1), symbol="17077")
    metadata = databento_dbn.Metadata(
        dataset="GLBX.MDP3",
        start=1,
        stype_in=databento_dbn.SType("raw_symbol"),
        stype_out=databento_dbn.SType("instrument_id"),
        schema=databento_dbn.Schema(schema),
        symbols=["ESH4"],
        mappings=[SimpleNamespace(raw_symbol="ESH4", intervals=[interval])],
    )
    records = np.zeros(4, layout)
    records["length"], records["rtype"], records["instrument_id"] = layout.itemsize // 4, rtype, 17_077
    records["price"], records["size"], records["flags"] = 4_800 * 10**9, 3, 0x80
    records["action"], records["side"] = [b"A", b"T", b"A", b"C"], [b"B", b"A", b"A", b"B"]
    records["ts_event"] = records["ts_recv"] = range(1, 5)
    return bytes(metadata) + records.tobytes()


def _pcap() -> bytes:
    levels = [(f"{side}", level, 100 + (level if side else 1 - level)) for side in (0, 1) for level in range(1, 11)]
    entries = [struct.pack("<qiIIiBBc5x", ticks * 25 * 10**9, 5, 7, 1, 1, level, 0, side.encode()) for side, level, ticks in levels]
    body = struct.pack("<QBxx", 1, 0x80) + struct.pack("<HB", 32, len(entries)) + b"".join(entries)
    frames = b""
    for sequence in (1, 2, 3):
        payload = struct.pack("<IQ", sequence, 1) + struct.pack("<HHHHH", 10 + len(body), 11, 46, 1, 9) + body
        udp = struct.pack(">HHHH", 1, 14_310, 8 + len(payload), 0) + payload
        frame = b"\0" * 12 + b"\x08\x00" + struct.pack(">BBHHHBBH8x", 0x45, 0, 20 + len(udp), 0, 0, 1, 17, 0) + udp
        frames += struct.pack("<IIII", sequence, 0, len(frame), len(frame)) + frame
    return b"\x4d\x3c\xb2\xa1" + struct.pack("<HHiIII", 2, 4, 0, 0, 65_535, 1) + frames


def _zip(folder: Path, **members: str) -> bytes:
    path = folder / "pair.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for kind, text in members.items():
            archive.writestr(f"XYZ_2012-06-21_34200000_57600000_{kind}_1.csv", text)
    return path.read_bytes()


def samples(folder: Path) -> dict[str, bytes]:
    """Return one small sound file of each format, by name."""
    (folder / "mapped.csv.yaml").write_text(MAPPING)
    return {
        "tardis.csv": TARDIS.encode(),
        "tardis.csv.gz": gzip.compress(TARDIS.encode(), mtime=0),
        "ESH15_5m.csv": BARS.encode(),
        "mapped.csv": MAPPED.encode(),
        "binance.txt": BINANCE,
        "bybit.txt": BYBIT,
        "sgx.csv": SGX,
        "lobster.zip": _zip(folder, message=MESSAGES, orderbook=BOOKS),
        "mbo.dbn": _dbn("mbo", MBO, 160),
        "mbp.dbn": _dbn("mbp-1", MBP_1, 1),
        "feed.pcap": _pcap(),
    }


def _flip(content: bytearray, draw: random.Random) -> bytearray:
    for _ in range(draw.randint(1, 4)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    return content


def _cut(content: bytearray, draw: random.Random) -> bytearray:
    return content[: draw.randrange(len(content))]


def _hole(content: bytearray, draw: random.Random) -> bytearray:
    at = draw.randrange(len(content))
    return content[:at] + content[at + draw.randint(1, 80) :]


def _twice(content: bytearray, draw: random.Random) -> bytearray:
    at = draw.randrange(len(content))
    return content[: at + draw.randint(1, 80)] + content[at:]


def _junk(content: bytearray, draw: random.Random) -> bytearray:
    at = draw.randrange(len(content))
    return (
        content[:at]
        + draw.choice([draw.randbytes(9), b"\n", b",", b"-", b"9" * 30, b"nan", b"1e999", b"\xff" * 8, b"\0" * 8])
        + content[at:]
    )


def _lines(content: bytearray, draw: random.Random) -> bytearray:
    lines = content.splitlines(keepends=True)
    draw.shuffle(lines)
    return bytearray(b"".join(lines[: draw.randint(1, len(lines))]))


BREAKS: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (_flip, _cut, _hole, _twice, _junk, _lines)


def run(folder: Path, cases: int, seed: int) -> Iterator[tuple[str, str]]:
    """Yield the format and the outcome of each case. Raises whatever a format should not have raised."""
    draw = random.Random(seed)
    sound = list(samples(folder).items())
    for name, content in sound:
        (folder / name).write_bytes(content)
        assert list(open_source(folder / name).events(0)), f"{name} is not sound"
    for _ in range(cases):
        name, content = draw.choice(sound)
        path = folder / name
        path.write_bytes(draw.choice(BREAKS)(bytearray(content), draw))
        yield name, _outcome(path)


def _outcome(path: Path) -> str:
    refusal: TidebookError | None = None
    try:
        for number, _ in enumerate(open_source(path).events(0)):
            assert number < MAX_EVENTS, "events without end"
    except TidebookError as exc:
        refusal = exc
    except Exception as exc:
        exc.add_note(f"{path.name}: {path.read_bytes()!r}")
        raise
    if refusal is None:
        return "events"
    assert str(path) in str(refusal), f"names no file: {refusal}"
    assert len(str(refusal)) < 1_500, f"too long: {refusal}"
    return type(refusal).__name__


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = Counter(run(Path(folder), options.cases, options.seed))
    for (name, outcome), count in sorted(outcomes.items()):
        print(f"{name:16} {outcome:16} {count:8,}")


if __name__ == "__main__":
    main()
