"""Check: does the catalogue hold what its index says? Every byte against its checksum, every row against the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from framework.errors import TidebookError
from framework.market.catalogue.index import Catalogue, Entry
from framework.market.feed import arrival_ns
from framework.market.formats.recording import RecordingSource
from framework.messages import Bar, BookSnapshot, MarketEvent, TradeTick


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found in one entry; `fault` is empty for a sound one."""

    entry: str
    events: int
    fault: str = ""


def check_entries(
    catalogue: Catalogue, entries: Sequence[Entry], on_share: Callable[[float, str], None] = lambda *_: None
) -> list[Finding]:
    """Read every entry from end to end and compare it with the index."""
    findings = []
    for number, entry in enumerate(entries):
        on_share(number / len(entries), entry.key)
        findings.append(_check(catalogue, entry))
    return findings


def _check(catalogue: Catalogue, entry: Entry) -> Finding:
    counts: Counter[type] = Counter()
    times = [0, 0]
    try:
        for event in RecordingSource(catalogue.path_of(entry)).events(0):
            counts[type(event)] += 1
            if fault := _fault_in(event, times[1], entry):
                return Finding(entry=entry.key, events=counts.total(), fault=f"event {counts.total() - 1}: {fault}")
            times = [times[0] or arrival_ns(event), arrival_ns(event)]
    except TidebookError as exc:
        return Finding(entry=entry.key, events=counts.total(), fault=str(exc))
    found = (counts.total(), counts[BookSnapshot], counts[TradeTick], counts[Bar], *times)
    told = (entry.events, entry.books, entry.trades, entry.bars, entry.start_ns, entry.end_ns)
    fault = "" if found == told else f"holds {found} (events, books, trades, bars, start, end), the index says {told}; import it again"
    return Finding(entry=entry.key, events=counts.total(), fault=fault)


def _fault_in(event: MarketEvent, before_ns: int, entry: Entry) -> str:
    if event.instrument_id != entry.instrument_id:
        return f"is of {event.instrument_id}; import it again"
    if arrival_ns(event) < before_ns:
        return "is earlier than the one before; import it again"
    if isinstance(event, BookSnapshot) and event.bid_ticks and event.ask_ticks and event.bid_ticks[0] >= event.ask_ticks[0]:
        return "is a crossed book; import it again"
    return ""
