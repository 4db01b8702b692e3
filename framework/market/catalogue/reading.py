"""What a name means to `start --market` and the verbs of `data`: a file, a recording's folder, or entries of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from framework.dataset.parts import MANIFEST
from framework.errors import ConfigError
from framework.market.catalogue.continuous import ContinuousSource, RollRule, is_continuous
from framework.market.catalogue.index import DEFAULT_ROOT, INDEX, Catalogue
from framework.market.feed import ReplayFeed, arrival_ns
from framework.market.formats import open_sources
from framework.market.formats.source import Continues, Source, holds, instruments_of, make_feed
from framework.messages import Bar, MarketEvent
from framework.model import Instrument

_SHARE_EVENTS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From and to, ns UTC, both included; None is open."""

    begin_ns: int | None = None
    end_ns: int | None = None

    def has(self, ts: int) -> bool:
        """Return whether `ts` lies in it."""
        return (self.begin_ns is None or ts >= self.begin_ns) and (self.end_ns is None or ts <= self.end_ns)


def is_known(name: str, catalogue: Catalogue | None = None) -> bool:
    """Return whether `name` is a file, a folder, or something in the catalogue (of the folder `catalogue`, where there is one)."""
    try:
        if not name or Path(name).exists():
            return bool(name)
    except (OSError, ValueError):  # a name that no file can have
        return False
    catalogue = catalogue or Catalogue(DEFAULT_ROOT)
    if not (catalogue.root / INDEX).is_file():
        return False
    try:
        paths_of(name, catalogue)
    except ConfigError:
        return is_continuous(name)
    return True


def paths_of(name: str, catalogue: Catalogue | None = None) -> list[Path]:
    """Return the files and folders that `name` stands for. Raises `ConfigError` for nothing.

    A path that exists is itself; the folder of a catalogue, or of an instrument in one, is all its entries; else it is looked up.
    """
    path = Path(name)
    if path.is_dir() and not (path / MANIFEST).is_file():
        return _entries_below(path)
    if path.exists():
        return [path]
    catalogue = catalogue or Catalogue(DEFAULT_ROOT)
    return [catalogue.path_of(entry) for entry in catalogue.find(name)]


def open_market(names: Sequence[str], catalogue: Catalogue | None = None) -> ReplayFeed:
    """Open files, folders and entries of the catalogue as one feed; `ES.c.0.CME` is a continuous series. Raises as `open_feed`."""
    return make_feed(sources_of(names, catalogue))


def sources_of(names: Sequence[str], catalogue: Catalogue | None = None) -> list[Source]:
    """Open what `names` stand for. Raises as `open_feed`."""
    catalogue = catalogue or Catalogue(DEFAULT_ROOT)
    series: list[Source] = [ContinuousSource(catalogue, RollRule.named(name)) for name in names if _is_series(name, catalogue)]
    paths = [path for name in names if not _is_series(name, catalogue) for path in paths_of(name, catalogue)]
    return [*series, *(open_sources(paths) if paths else [])]


class Market:
    """What one name stands for, opened to be looked at. Raises as `open_feed`."""

    def __init__(self, name: str, catalogue: Catalogue) -> None:
        self._sources = sources_of([name], catalogue)
        self.instruments = {one.instrument_id: one for one in instruments_of(self._sources)}
        self.start_ns = min(source.start_ns for source in self._sources)
        self.end_ns = max(source.end_ns for source in self._sources)

    def instrument(self, instrument_id: str | None) -> Instrument:
        """Return the one that was named, or the only one. Raises `ConfigError`."""
        known = ", ".join(self.instruments)
        if instrument_id is None and len(self.instruments) > 1:
            raise ConfigError(f"--instrument: found none; allowed one of {known}")
        found = self.instruments.get(instrument_id or next(iter(self.instruments)))
        if found is None:
            raise ConfigError(f"--instrument: found {instrument_id}; allowed {known}")
        return found

    def events(self, span: Span, on_share: Callable[[float, str], None] = lambda *_: None) -> Iterator[MarketEvent]:
        """Yield the events in `span`, in order of arrival, and say how far that is. Sources that lie outside are not read."""
        wanted = [one for one in self._sources if span.begin_ns is None or one.end_ns >= span.begin_ns or isinstance(one, Continues)]
        wanted = [one for one in wanted if span.end_ns is None or one.start_ns <= span.end_ns]
        feed = make_feed(wanted) if wanted else None
        for number, event in enumerate(feed.read() if feed is not None else ()):
            at_ns = arrival_ns(event)
            if span.end_ns is not None and at_ns > span.end_ns:
                return
            if feed is not None and number % _SHARE_EVENTS == 0:
                on_share(feed.progress, event.instrument_id)
            if span.has(at_ns):
                yield event

    def interval_s(self) -> float:
        """Return the interval of the bars, 60 where there are none."""
        bars = (event for source in self._sources if holds(source) == "bars" for event in source.events(0))
        return next((event.interval_s for event in bars if isinstance(event, Bar)), 60.0)


def _is_series(name: str, catalogue: Catalogue) -> bool:
    return is_continuous(name) and not Path(name).exists() and (catalogue.root / INDEX).is_file()


def _entries_below(folder: Path) -> list[Path]:
    for root in (folder, *folder.parents):
        if (root / INDEX).is_file():
            catalogue = Catalogue(root)
            paths = [catalogue.path_of(entry) for entry in catalogue.read().entries.values()]
            below = [path for path in paths if path.is_relative_to(folder)]
            if below:
                return below
    return [folder]
