"""Bars through the breakout strategy in a backtest: a year of one minute, and nine years of five minutes of the E-mini S&P 500.

    python -m tests.benchmarks.bench_bars [--es FOLDER] [--repeats N] [--days N]      prints one JSON object

The year is a random walk of 252 sessions of 23 hours: heard only (`paper.bar_fills: false`, no orders), alone with its orders filled in
the bars (`_filled`), and with a one-level book just before each bar. FOLDER holds the recorded bars, a file a contract; they are joined
into one series, and skipped where there is no such folder. Times are those of the whole backtest with its figures, on bars that lie on
the disk as a recording.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from framework.backtest.engine import OFF, Plan, execute, prepare
from framework.backtest.planning import plan_for
from framework.backtest.research import measured
from framework.config import MainConfig
from framework.market.catalogue.writing import EntryWriter, Place
from framework.market.formats import open_feed
from framework.messages import Bar, BookSnapshot
from framework.model import NS_PER_S, Instrument

INSTRUMENT = Instrument(instrument_id="BARS.SIM", tick_size=Decimal("0.25"), multiplier=Decimal(50), session_gap_s=7_200.0)
START_NS = 1_704_067_200 * NS_PER_S
SESSIONS, MINUTES = 252, 23 * 60
GOALS_S = {"year_1m": 5.0, "nine_years_5m": 10.0}
"""CPU seconds: the machine is shared."""


def walk(sessions: int) -> Iterator[Bar]:
    """Yield bars of one minute of a random walk."""
    rng = random.Random(7)
    close = 20_000
    for session in range(sessions):
        for minute in range(MINUTES):
            opened = close
            steps = [opened + rng.randrange(-4, 5) for _ in range(3)]
            close = steps[-1]
            volume = rng.randrange(1, 200)
            yield Bar(
                instrument_id=INSTRUMENT.instrument_id,
                ts_event=START_NS + (session * 1_440 + minute + 1) * 60 * NS_PER_S,
                interval_s=60.0,
                open_ticks=opened,
                high_ticks=max(opened, *steps),
                low_ticks=min(opened, *steps),
                close_ticks=close,
                volume=volume,
                buy_volume=volume // 2,
                sell_volume=volume - volume // 2,
            )


def book_before(bar: Bar, sequence: int) -> BookSnapshot:
    """Return a book of one level around the close of a bar, just before it."""
    at_ns = bar.ts_event - 1
    return BookSnapshot(
        instrument_id=bar.instrument_id,
        ts_event=at_ns,
        ts_recv=at_ns,
        sequence=sequence,
        bid_ticks=(bar.close_ticks,),
        bid_sizes=(50,),
        ask_ticks=(bar.close_ticks + 1,),
        ask_sizes=(50,),
    )


def joined(paths: Iterable[Path]) -> Iterator[Bar]:
    """Yield the bars of contracts one after the other as those of one instrument."""
    last_ns = 0
    for path in paths:
        for bar in open_feed([path]).read():
            if isinstance(bar, Bar) and bar.ts_event > last_ns:
                last_ns = bar.ts_event
                yield msgspec.structs.replace(bar, instrument_id=INSTRUMENT.instrument_id)


def recorded(events: Iterable[Bar | BookSnapshot], folder: Path, kind: str) -> Path:
    """Write events as an entry of a catalogue, and return its folder."""
    writer = EntryWriter(folder, INSTRUMENT, Place(INSTRUMENT.instrument_id, kind, "all"))
    for event in events:
        writer.append(event)
    writer.finish()
    return folder


def plan(data: list[Path], folder: Path, candle_s: float, *, is_filled: bool) -> Plan:
    file = folder / "breakout.yaml"
    file.write_text(
        "name: breakout\nstrategy: strategies.breakout:BreakoutStrategy\n"
        f"instrument_id: {INSTRUMENT.instrument_id}\nparameters:\n  candle_s: {candle_s}\n  max_holding_s: 7200.0\n"
    )
    settings = MainConfig.model_validate({"paper": {"bar_fills": is_filled}})
    return plan_for(file, data, ml=OFF, latency=None, settings=settings, instrument_id=None, state_dir=folder / "state", seed=7)


def timed(data: list[Path], folder: Path, candle_s: float, repeats: int, *, is_filled: bool = False) -> dict[str, Any]:
    """Run a backtest `repeats` times; return the medians."""
    spent, walls, found = [], [], None
    for _ in range(repeats):
        planned = plan(data, folder, candle_s, is_filled=is_filled)
        begun, begun_cpu = time.perf_counter(), time.process_time()
        found = measured(execute(planned, prepare(planned, lambda *_: None), lambda *_: None), trials=1)
        spent.append(time.process_time() - begun_cpu)
        walls.append(time.perf_counter() - begun)
    assert found is not None
    cpu_s = statistics.median(spent)
    events = found.facts["events"]
    return {
        "events": events,
        "orders": found.facts["orders"],
        "cpu_s": round(cpu_s, 2),
        "wall_s": round(statistics.median(walls), 2),
        "events_per_cpu_s": round(events / cpu_s),
    }


def measure(sessions: int, es_folder: Path | None, repeats: int) -> dict[str, Any]:
    cases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        year = recorded(walk(sessions), folder / "year", "1m")
        cases["year_1m"] = timed([year], folder, 60.0, repeats)
        cases["year_1m_filled"] = timed([year], folder, 60.0, repeats, is_filled=True)
        books = recorded((book_before(bar, number) for number, bar in enumerate(walk(sessions), 1)), folder / "books", "events")
        cases["year_1m_with_books"] = timed([year, books], folder, 60.0, repeats)
        contracts = sorted(es_folder.glob("ES*_5m.csv.zst"), key=_when) if es_folder is not None else []
        if contracts:
            series = recorded(joined(contracts), folder / "es", "5m")
            cases["nine_years_5m"] = timed([series], folder, 300.0, repeats)
            cases["nine_years_5m_filled"] = timed([series], folder, 300.0, repeats, is_filled=True)
    goals = {name: goal_s for name, goal_s in GOALS_S.items() if name in cases}
    return {
        "benchmark": "bars",
        "repeats": repeats,
        "cases": cases,
        "goals_cpu_s": goals,
        "is_met": all(cases[name]["cpu_s"] <= goal_s for name, goal_s in goals.items()),
    }


def _when(path: Path) -> tuple[str, int]:
    """Return the year and the place of the month in it, from a name like ESH15_5m.csv.zst."""
    return path.name[3:5], "HMUZ".index(path.name[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--es", type=Path, help="the folder of the recorded five-minute bars")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--days", type=int, default=SESSIONS)
    parser.add_argument("--quick", action="store_true", help="two days, once")
    chosen = parser.parse_args()
    es_folder = chosen.es if chosen.es is not None and chosen.es.is_dir() else None
    print(json.dumps(measure(2 if chosen.quick else chosen.days, es_folder, 1 if chosen.quick else chosen.repeats)))


if __name__ == "__main__":
    main()
