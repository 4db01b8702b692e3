"""What an import asks of events that come as rows, and which entry each belongs to. The same rules as for single events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from framework.errors import ConfigError
from framework.market.catalogue.sessions import Sessions, year_end_of, year_of
from framework.market.catalogue.writing import Place
from framework.market.formats.rows import InRows, Rows
from framework.market.formats.source import Chain, Continues, Source, holds
from framework.model import Instrument
from framework.window import Int64Array

CROSSED: Final = "crossed or locked books left out"
_NEVER: Final = 2**62


class RowChecks:
    """Refuse what must not be imported: `sound` returns the rows that may be kept; `crossed` counts the books left out."""

    def __init__(self, instruments: Mapping[str, Instrument], *, is_skipping: bool) -> None:
        self.crossed = 0
        self._instruments = instruments
        self._is_skipping = is_skipping
        self._last_ns: dict[str, int] = {}

    def sound(self, path: Path, rows: Rows) -> Rows:
        """Return `rows` without crossed books. Raises `ConfigError` for the first event that goes back in time, or a crossed book."""
        if not len(rows):
            return rows
        crossed = rows.crossed()
        steps = np.diff(rows.arrivals, prepend=self._last_ns.get(rows.instrument_id, 0))
        backwards = _first(np.flatnonzero(steps < 0))
        odd = _NEVER if self._is_skipping else _first(crossed)
        if backwards <= odd and backwards != _NEVER:
            raise refusal_of_backwards(path, rows.where(backwards))
        if odd != _NEVER:
            bid, ask = (rows.batch.column(name)[odd].as_py()[0] for name in ("bid_ticks", "ask_ticks"))
            raise refusal_of_crossed(path, rows.where(odd), self._instruments[rows.instrument_id], bid, ask)
        self._last_ns[rows.instrument_id] = int(rows.arrivals[-1])
        self.crossed += len(crossed)
        return rows.without(crossed) if len(crossed) else rows


def together_in_rows(group: Sequence[Chain]) -> list[list[Chain]]:
    """Return the chains of a group that go into one entry together, if all of them can come as rows; else none.

    Bars have entries of their own. Others are merged in time, which rows of several instruments in one file cannot be.
    """
    sources = [source for chain in group for source in chain]
    if not all(isinstance(source, InRows) for source in sources):
        return []
    bars = [chain for chain in group if holds(chain[0]) == "bars"]
    others = [chain for chain in group if holds(chain[0]) != "bars"]
    if len(others) > 1 and any(len(source.instruments) > 1 for source in sources):
        return []
    return [*([others] if others else []), *([chain] for chain in bars)]


def rows_of(chain: Chain) -> Iterator[tuple[Source, Rows]]:
    """Yield the rows of sources of one chain, all of which are `InRows`, as `source.one_after_the_other` does their events."""
    sequence = 0
    before: Source | None = None
    for source in chain:
        assert isinstance(source, InRows)
        if isinstance(source, Continues):
            source.follow(before)
        before = source
        for rows in source.rows(sequence):
            yield source, rows
        sequence = source.next_sequence


def places_of(rows: Rows, sessions: Sessions) -> Iterator[tuple[Place, Rows]]:
    """Yield the rows of each session (of bars: each year), with the place that they belong to."""
    begin = 0
    while begin < len(rows):
        at_ns = int(rows.arrivals[begin])
        end_ns = year_end_of(at_ns) if rows.is_bars else sessions.end_of(at_ns)
        end = int(np.searchsorted(rows.arrivals, end_ns))
        yield _place(rows, at_ns, sessions), rows.part(begin, end)
        begin = end


def _place(rows: Rows, at_ns: int, sessions: Sessions) -> Place:
    if rows.is_bars:
        return Place(rows.instrument_id, f"bars-{rows.batch.column('interval_s')[0].as_py():g}s", year_of(at_ns))
    return Place(rows.instrument_id, "events", sessions.session_of(at_ns))


def refusal_of_backwards(path: Path, where: str) -> ConfigError:
    """Return what is said of an event that is earlier than the one before it."""
    return ConfigError(f"{path}: {where} is earlier than the event before it; sort the file by time")


def refusal_of_crossed(path: Path, where: str, instrument: Instrument, bid_ticks: int, ask_ticks: int) -> ConfigError:
    """Return what is said of a book that is crossed or locked."""
    return ConfigError(
        f"{path}: {where}: the book is crossed or locked (bid {instrument.price(bid_ticks)}, ask {instrument.price(ask_ticks)}); "
        "fetch the file again, or leave such books out with --on-crossed skip"
    )


def _first(indices: Int64Array) -> int:
    return int(indices[0]) if len(indices) else _NEVER
