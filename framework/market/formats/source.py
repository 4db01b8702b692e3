"""What every format offers, and several of them made into one feed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from framework.errors import ConfigError
from framework.market.feed import ReplayFeed, merge_in_time
from framework.messages import Bar, MarketEvent
from framework.model import Instrument


class Source(Protocol):
    """One recorded file or directory, opened and checked; nothing but `events` reads its body."""

    path: Path
    instruments: tuple[Instrument, ...]
    start_ns: int
    end_ns: int
    read_share: float
    next_sequence: int

    def events(self, first_sequence: int) -> Iterator[MarketEvent]:
        """Yield the events in order of arrival, lazily; books are numbered from `first_sequence` where the file has no numbers.

        Keeps `read_share` (0 to 1) and `next_sequence` current. Raises `ConfigError` or `IntegrityError` for a bad file.
        """


@runtime_checkable
class Continues(Protocol):
    """A source that may go on with the book of the one before it."""

    def follow(self, before: object) -> None:
        """Take over from `before`, the source of the same instruments that ends earlier; None for the first."""


Chain = list[Source]
"""Sources of the same instruments and the same kinds of event, one after the other in time."""

_TOGETHER: Final = ({"books", "trades"}, {"books", "bars"}, {"trades", "bars"}, {"events", "bars"})
"""Kinds of event that files of one instrument may split among them."""
_ORDER: Final = ("trades", "books", "events", "bars")


def holds(source: Source) -> str:
    """Return which events a source has: `books`, `trades` or `bars` alone, or `events`, which are both of the first."""
    return getattr(source, "holds", "events")


def bars_alone(sources: Sequence[Source]) -> dict[str, float]:
    """Return the instruments of which there are bars and nothing else, with the interval of the first bar, s."""
    kinds: dict[str, set[str]] = {}
    for source in sources:
        for instrument in source.instruments:
            kinds.setdefault(instrument.instrument_id, set()).add(holds(source))
    wanted = {instrument_id for instrument_id, found in kinds.items() if found == {"bars"}}
    intervals: dict[str, float] = {}
    for source in sources if wanted else ():
        mine = wanted.intersection(one.instrument_id for one in source.instruments) - intervals.keys()
        for event in source.events(0) if mine else ():
            if isinstance(event, Bar) and event.instrument_id in mine:
                intervals[event.instrument_id] = event.interval_s
                mine.discard(event.instrument_id)
            if not mine:
                break
    return intervals


def make_feed(sources: Sequence[Source]) -> ReplayFeed:
    """Replay `sources` together: those of the same instruments one after the other, the others side by side.

    Raises `ConfigError` if two of the same instruments and kind overlap in time, or disagree on an instrument.
    """
    chains = [chain for group in groups_of(sources) for chain in group]

    def progress() -> float:
        return sum(source.read_share for source in sources) / len(sources)

    return ReplayFeed(merge_in_time([one_after_the_other(chain) for chain in chains]), instruments_of(sources), progress=progress)


def groups_of(sources: Sequence[Source]) -> list[list[Chain]]:
    """Return the chains, those of the same instruments together. Raises `ConfigError` as `make_feed`."""
    groups: dict[frozenset[str], dict[str, Chain]] = {}
    for source in sorted(sources, key=lambda source: source.start_ns):
        names = frozenset(one.instrument_id for one in source.instruments)
        groups.setdefault(names, {}).setdefault(holds(source), []).append(source)
    for chains in groups.values():
        for chain in chains.values():
            _refuse_overlap(chain)
        _refuse_kinds(chains)
    _refuse_splits(sources, len(groups))
    # Of one instant, trades come before the book that they left.
    return [[chains[kind] for kind in _ORDER if kind in chains] for chains in groups.values()]


def instruments_of(sources: Sequence[Source]) -> tuple[Instrument, ...]:
    """Return what the sources are about. Raises `ConfigError` if two disagree on an instrument."""
    found: dict[str, tuple[Instrument, Source]] = {}
    for source in sources:
        for instrument in source.instruments:
            known, elsewhere = found.setdefault(instrument.instrument_id, (instrument, source))
            if known != instrument:
                raise ConfigError(f"{source.path}: its facts of {known.instrument_id} differ from those in {elsewhere.path}")
    return tuple(instrument for instrument, _ in found.values())


def one_after_the_other(chain: Chain) -> Iterator[MarketEvent]:
    """Yield the events of a chain; a source that can goes on with the book of the one before it."""
    sequence = 0
    before: Source | None = None
    for source in chain:
        if isinstance(source, Continues):
            source.follow(before)
        before = source
        yield from source.events(sequence)
        sequence = source.next_sequence


def _refuse_overlap(chain: Chain) -> None:
    for before, after in pairwise(chain):
        if after.start_ns <= before.end_ns:
            names = ", ".join(one.instrument_id for one in after.instruments)
            raise ConfigError(f"{after.path}: overlaps {before.path} in time, both hold {names}; name each recording once")


def _refuse_kinds(chains: dict[str, Chain]) -> None:
    for one, other in combinations(chains, 2):
        if {one, other} not in _TOGETHER:
            raise ConfigError(
                f"{chains[other][0].path}: holds {other}, {chains[one][0].path} holds {one} of the same instrument; name one of them"
            )


def _refuse_splits(sources: Sequence[Source], group_count: int) -> None:
    found: dict[tuple[str, bool], Source] = {}
    for source in sources if group_count > 1 else ():
        for instrument in source.instruments:
            # Bars go with anything: nobody merges them into a book.
            elsewhere = found.setdefault((instrument.instrument_id, holds(source) == "bars"), source)
            if {one.instrument_id for one in elsewhere.instruments} != {one.instrument_id for one in source.instruments}:
                raise ConfigError(
                    f"{source.path}: holds {instrument.instrument_id}, which {elsewhere.path} holds among others; name one of them"
                )
