"""What every format offers, and several of them made into one feed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol, runtime_checkable

from framework.errors import ConfigError
from framework.market.feed import ReplayFeed, merge_in_time
from framework.messages import MarketEvent
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


def make_feed(sources: Sequence[Source]) -> ReplayFeed:
    """Replay `sources` together: those of the same instruments one after the other, the others side by side.

    Raises `ConfigError` if two of the same instruments overlap in time, or disagree on an instrument.
    """
    chains: dict[frozenset[str], list[Source]] = {}
    for source in sorted(sources, key=lambda source: source.start_ns):
        chains.setdefault(frozenset(one.instrument_id for one in source.instruments), []).append(source)
    for chain in chains.values():
        _refuse_overlap(chain)
    instruments = _instruments_of(sources, len(chains))

    def progress() -> float:
        return sum(source.read_share for source in sources) / len(sources)

    return ReplayFeed(merge_in_time([_one_after_the_other(chain) for chain in chains.values()]), instruments, progress=progress)


def _refuse_overlap(chain: list[Source]) -> None:
    for before, after in pairwise(chain):
        if after.start_ns <= before.end_ns:
            names = ", ".join(one.instrument_id for one in after.instruments)
            raise ConfigError(f"{after.path}: overlaps {before.path} in time, both hold {names}; name each recording once")


def _instruments_of(sources: Sequence[Source], chain_count: int) -> tuple[Instrument, ...]:
    found: dict[str, tuple[Instrument, Source]] = {}
    for source in sources:
        for instrument in source.instruments:
            known, elsewhere = found.setdefault(instrument.instrument_id, (instrument, source))
            if known != instrument:
                raise ConfigError(f"{source.path}: its facts of {known.instrument_id} differ from those in {elsewhere.path}")
            if chain_count > 1 and elsewhere is not source and set(elsewhere.instruments) != set(source.instruments):
                raise ConfigError(
                    f"{source.path}: holds {known.instrument_id}, which {elsewhere.path} holds among others; name one of them"
                )
    return tuple(instrument for instrument, _ in found.values())


def _one_after_the_other(chain: list[Source]) -> Iterator[MarketEvent]:
    sequence = 0
    before: Source | None = None
    for source in chain:
        if isinstance(source, Continues):
            source.follow(before)
        before = source
        yield from source.events(sequence)
        sequence = source.next_sequence
