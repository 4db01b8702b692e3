"""What the verbs of `data` show: tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from framework.logs import foreign
from framework.market.catalogue.checking import Finding
from framework.market.catalogue.importing import ImportReport
from framework.market.catalogue.index import Entry, Index
from framework.model import NS_PER_S


def import_view(report: ImportReport) -> RenderableType:
    """Return what an import did."""
    parts: list[RenderableType] = []
    if report.imported:
        parts.append(entries_table("Imported", report.imported))
    parts += [Text(f"{foreign(key)}: unchanged, made from the same files") for key in report.unchanged]
    parts += [Text(f"{foreign(name)}: definition kept") for name in report.definitions]
    parts += [Text(f"note: {count:,} {foreign(what)}") for what, count in sorted(report.notes.items()) if count]
    return Group(*parts)


def catalogue_view(entries: Sequence[Entry]) -> RenderableType:
    """Return the entries, oldest first within an instrument."""
    if not entries:
        return Text("the catalogue is empty; fill it with: main.py data import FILE...")
    return entries_table(f"{len(entries)} entries of {len({one.instrument_id for one in entries})} instruments", entries)


def entries_table(title: str, entries: Sequence[Entry]) -> Table:
    """Return one line per entry, without the kinds of event that none of them has."""
    counts = [name for name in ("books", "trades", "bars") if any(getattr(one, name) for one in entries)]
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    # In a narrow terminal everything else is cut before the name, which people copy.
    table.add_column("entry", no_wrap=True, min_width=max((len(foreign(one.key)) for one in entries), default=0))
    table.add_column("from (UTC)", no_wrap=True)
    for name in ("hours", *counts, "gaps", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in entries:
        numbers = [f"{(one.end_ns - one.start_ns) / NS_PER_S / 3_600:,.1f}", *(f"{getattr(one, name):,}" for name in counts)]
        numbers += [str(len(one.gaps) + one.gaps_not_listed), f"{one.bytes / 1e6:.1f}"]
        table.add_row(foreign(one.key), utc(one.start_ns)[:16], *numbers)
    return table


def findings_view(findings: Sequence[Finding]) -> RenderableType:
    """Return one line per entry that was checked."""
    lines = [Text(f"{foreign(one.entry)}: {foreign(one.fault, 500) if one.fault else f'sound, {one.events:,} events'}") for one in findings]
    faults = sum(bool(one.fault) for one in findings)
    return Group(*lines, Text(f"{len(findings)} entries checked, {faults} damaged"))


def facts_view(index: Index, entries: Sequence[Entry]) -> RenderableType:
    """Return what is known of one instrument and its entries: definition, gaps, origins."""
    name = entries[0].instrument_id
    listed = index.instruments[name]
    one = listed.instrument
    facts = f"{foreign(name)}: tick {one.tick_size}, lot {one.lot_size}, multiplier {one.multiplier} {one.currency}"
    expiry = f", sessions begin at {listed.session_begins_hour}:00 {listed.timezone}"
    expiry += f", expires {utc(listed.expires_ns)}" if listed.expires_ns is not None else ""
    lines: list[RenderableType] = [Text(facts + expiry), entries_table("", entries)]
    for entry in entries:
        lines += [Text(f"{entry.key}: gap {utc(gap.begin_ns)} to {utc(gap.end_ns)}: {foreign(gap.reason)}") for gap in entry.gaps[:20]]
        lines += [Text(f"{entry.key}: from {foreign(origin.name)} (sha256 {origin.sha256[:16]}...)") for origin in entry.origins[:20]]
    return Group(*lines)


def utc(ns: int) -> str:
    """Return an instant, to the second."""
    return datetime.fromtimestamp(ns // NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S")
