"""Rows per second through feed, gate and DOM, beside the most that a plain loop over the same events reaches in the same run.

python tests/benchmarks/bench_dom.py [--rows N] [--recording PATH ...]      prints one JSON line
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from time import perf_counter_ns

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from framework.clock import EventClock
from framework.kernel.bus import EventBus
from framework.market.dom import DomBuffer, DomBufferActor
from framework.market.feed import ReplayFeed
from framework.market.formats import open_source
from framework.market.market_data import MarketData
from framework.messages import BookSnapshot, MarketEvent, TradeTick
from framework.model import Instrument, Side

MAX_ROWS = 100
REPEATS = 5


def make_events(rows: int, seed: int = 7) -> list[MarketEvent]:
    """Return a book of ten levels every 100 ms, a trade with every third, and a mid that moves every tenth time."""
    draw = random.Random(seed)
    events: list[MarketEvent] = []
    mid = 20_000
    for number in range(rows):
        at_ns = 1_700_000_000_000_000_000 + number * 100_000_000
        stamps = {"instrument_id": "BENCH.SIM", "ts_event": at_ns, "ts_recv": at_ns, "sequence": number}
        if number % 3 == 0:
            side = draw.choice((Side.BUY, Side.SELL))
            events.append(TradeTick(price_ticks=mid, size=draw.randint(1, 9), aggressor=side, **stamps))
        mid += draw.choice((-1, 1)) if draw.random() < 0.1 else 0
        events.append(
            BookSnapshot(
                bid_ticks=tuple(range(mid, mid - 10, -1)),
                bid_sizes=tuple(draw.choices(range(1, 500), k=10)),
                ask_ticks=tuple(range(mid + 1, mid + 11)),
                ask_sizes=tuple(draw.choices(range(1, 500), k=10)),
                **stamps,
            )
        )
    return events


def iterate(events: list[MarketEvent]) -> int:
    """Touch every event once: no design that handles events one by one in Python can be faster."""
    seen = 0
    for event in events:
        if event.ts_event:
            seen += 1
    return seen


def replay(events: list[MarketEvent], instrument: Instrument) -> DomBuffer:
    """Run the whole path; return the buffer."""
    clock, bus = EventClock(), EventBus()
    market_data = MarketData(bus, clock, [instrument])
    actor = DomBufferActor(bus, DomBuffer(instrument, MAX_ROWS))
    bus.register(actor)
    actor.on_start()
    ReplayFeed(events, [instrument]).start(clock, market_data.accept, market_data.stop)
    while (due_ns := clock.next_timer_ns()) is not None:
        clock.advance_to(due_ns)
        bus.drain()
    return actor.buffer


def seconds(run: Callable[[], object]) -> float:
    """Return the median time of `REPEATS` runs."""
    times = []
    for _ in range(REPEATS):
        begin_ns = perf_counter_ns()
        run()
        times.append(perf_counter_ns() - begin_ns)
    return statistics.median(times) / 1e9


def measure(events: list[MarketEvent], instrument: Instrument) -> dict[str, float]:
    """Return the numbers of one set of events."""
    books = [event for event in events if isinstance(event, BookSnapshot)]
    buffer = replay(events, instrument)
    if buffer.total_rows < 0.9 * len(books):
        raise SystemExit(f"only {buffer.total_rows} of {len(books)} books became rows")
    path_s, limit_s = seconds(lambda: replay(events, instrument)), seconds(lambda: iterate(events))
    own = DomBuffer(instrument, MAX_ROWS)
    append_s = seconds(lambda: [own.append(book) for book in books])
    window_s = seconds(lambda: [own.window(MAX_ROWS) for _ in range(1_000)]) / 1_000
    return {
        "rows": len(books),
        "events": len(events),
        "rows_per_s": round(len(books) / path_s),
        "us_per_event": round(path_s / len(events) * 1e6, 2),
        "limit_rows_per_s": round(len(books) / limit_s),
        "append_us": round(append_s / len(books) * 1e6, 2),
        "window_us": round(window_s * 1e6, 2),
        "memory_bytes_per_symbol": buffer.memory_bytes,
    }


def main() -> None:
    """Measure the synthetic market, and each recording that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--recording", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    result = {"synthetic": measure(make_events(arguments.rows), Instrument(instrument_id="BENCH.SIM", tick_size=Decimal("0.25")))}
    for path in arguments.recording:
        source = open_source(path)
        read_s = seconds(lambda source=source: sum(1 for _ in source.events(0)))
        numbers = measure(list(source.events(0)), source.instruments[0])
        result[path.name] = numbers | {"read_us_per_event": round(read_s / numbers["events"] * 1e6, 2)}
    print(json.dumps({"bench": "dom", "max_rows": MAX_ROWS, "repeats": REPEATS, "results": result}))


if __name__ == "__main__":
    main()
