"""Import: recordings of any format into the catalogue, all of them or nothing.

Entries are written to a staging folder, each with its parts on disk, then moved to their places, then the index is replaced: what the
index does not name is not there for anybody. A failure, a full disk or a killed process leaves the catalogue as it was.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain as joined
from itertools import count
from pathlib import Path
from typing import Final, Literal

import msgspec

from framework.dataset.parts import sync_directory
from framework.errors import ConfigError, StorageError
from framework.market.catalogue.index import STAGING, Catalogue, Entry, Index, Listed, Origin
from framework.market.catalogue.row_checks import (
    CROSSED,
    RowChecks,
    places_of,
    refusal_of_backwards,
    refusal_of_crossed,
    rows_of,
    together_in_rows,
)
from framework.market.catalogue.row_merging import merged_in_time
from framework.market.catalogue.sessions import Sessions, year_of
from framework.market.catalogue.writing import EntryWriter, Place
from framework.market.feed import arrival_ns, merge_in_time
from framework.market.formats import read_all
from framework.market.formats.databento import Definition
from framework.market.formats.rows import Rows
from framework.market.formats.source import Chain, Source, groups_of, holds, instruments_of, one_after_the_other
from framework.messages import Bar, BookSnapshot, MarketEvent
from framework.model import Instrument

OnShare = Callable[[float, str], None]
_SHARE_EVENTS: Final = 5_000
_HASH_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What to do where an import could do more than one thing."""

    mapping: Path | None = None
    on_crossed: Literal["refuse", "skip"] = "refuse"
    is_replacing: bool = False


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did."""

    imported: tuple[Entry, ...]
    unchanged: tuple[str, ...]
    definitions: tuple[str, ...]
    notes: dict[str, int]


def import_files(catalogue: Catalogue, paths: Sequence[Path], options: ImportOptions, on_share: OnShare = lambda *_: None) -> ImportReport:
    """Import `paths` into `catalogue`; `on_share` hears how much was read (0 to 1) and of which file.

    Sessions that are there already, made from the same files, stay as they are. Raises `ConfigError` (a file that cannot be read, a
    session that is there from other files), `IntegrityError` (cut or damaged), `StorageError` (disk full), `StartRefused` (locked).
    """
    sources, definitions = read_all(paths, mapping=options.mapping)
    if not paths:
        raise ConfigError("data import: name at least one file")
    with catalogue.writing():
        staging = _Staging(catalogue, sources, options, on_share)
        try:
            for group in groups_of(sources):
                staging.stage(group)
            return staging.commit(definitions)
        finally:
            shutil.rmtree(staging.folder, ignore_errors=True)


class _Staging:
    """An import that is under way."""

    def __init__(self, catalogue: Catalogue, sources: Sequence[Source], options: ImportOptions, on_share: OnShare) -> None:
        self._catalogue = catalogue
        self._index = catalogue.read()
        self._instruments = {one.instrument_id: one for one in instruments_of(sources)}
        self._sessions = {name: Sessions(one.venue) for name, one in self._instruments.items()}
        self._origins = {id(source): _origins_of(source) for source in sources}
        self._sources = sources
        self._options = options
        self._on_share = on_share
        self._known = {(one.instrument_id, one.kind, one.session): one for one in self._index.entries.values()}
        self._writers: dict[tuple[str, str], EntryWriter | Place] = {}
        self._staged: list[tuple[Entry, Path]] = []
        self._written: set[Place] = set()
        self._unchanged: list[str] = []
        self._notes: Counter[str] = Counter()
        self.folder = catalogue.root / f"{STAGING}{len(self._index.entries)}"

    def stage(self, group: list[Chain]) -> None:
        """Write the events of one group of instruments. Raises what `import_files` does."""
        together = together_in_rows(group)
        if together:
            for chains in together:
                self._stage_rows(chains)
        else:
            for event in merge_in_time([self._checked(chain) for chain in group]):
                writer = self._writer_at(self._place_of(event))
                if isinstance(writer, EntryWriter):
                    writer.append(event)
        for open_writer in self._writers.values():
            self._finish(open_writer)
        self._writers.clear()
        for chain in group:
            for source in chain:
                self._notes.update(getattr(source, "notes", {}))

    def _stage_rows(self, chains: list[Chain]) -> None:
        for rows in merged_in_time([self._sound_rows(chain) for chain in chains]) if len(chains) > 1 else self._sound_rows(chains[0]):
            for place, part in places_of(rows, self._sessions[rows.instrument_id]):
                writer = self._writer_at(place)
                if isinstance(writer, EntryWriter):
                    writer.append_rows(part)

    def _sound_rows(self, chain: Chain) -> Iterator[Rows]:
        checks = RowChecks(self._instruments, is_skipping=self._options.on_crossed == "skip")
        for source, found in rows_of(chain):
            self._on_share(sum(one.read_share for one in self._sources) / len(self._sources), source.path.name)
            yield checks.sound(source.path, found)
        self._notes.update({CROSSED: checks.crossed})

    def _writer_at(self, place: Place) -> EntryWriter | Place:
        """Return who writes the events of a place, or the place itself where they are in the catalogue already."""
        writer = self._writers.get((place.instrument_id, place.kind))
        if writer is None or (writer if isinstance(writer, Place) else writer.place) != place:
            self._finish(writer)
            writer = self._writers[place.instrument_id, place.kind] = self._begin(place)
        return writer

    def commit(self, definitions: Sequence[Definition]) -> ImportReport:
        """Move what was staged into place and let the index name it. Raises `StorageError`."""
        entries = dict(self._index.entries)
        old = []
        moved = []
        for entry, staged in self._staged:
            known = entries.get(entry.key)
            directory = _free_directory(self._catalogue.root, entry.key)
            _move(staged, self._catalogue.root / directory)
            moved.append(msgspec.structs.replace(entry, directory=directory))
            entries[entry.key] = moved[-1]
            old += [known] if known is not None else []
        listed = self._listed(definitions)
        self._catalogue.write(Index(instruments=self._index.instruments | listed, entries=dict(sorted(entries.items()))))
        for entry in old:
            shutil.rmtree(self._catalogue.path_of(entry), ignore_errors=True)
        names = tuple(one.instrument.instrument_id for one in definitions)
        return ImportReport(imported=tuple(moved), unchanged=tuple(self._unchanged), definitions=names, notes=dict(+self._notes))

    def _listed(self, definitions: Sequence[Definition]) -> dict[str, Listed]:
        known = self._index.instruments
        found = {name: _listed(one, known[name].expires_ns if name in known else None) for name, one in self._instruments.items()}
        return found | {one.instrument.instrument_id: _listed(one.instrument, one.expires_ns) for one in definitions}

    def _checked(self, chain: Chain) -> Iterator[MarketEvent]:
        """Yield the events that may be kept. Raises `ConfigError` for one that goes back in time, or a crossed book."""
        last_ns = 0
        for number, (source, event) in enumerate(_with_source(chain)):
            at_ns = arrival_ns(event)
            if at_ns < last_ns:
                raise refusal_of_backwards(source.path, _where(source))
            last_ns = at_ns
            if number % _SHARE_EVENTS == 0:
                self._on_share(sum(one.read_share for one in self._sources) / len(self._sources), source.path.name)
            if type(event) is BookSnapshot and event.bid_ticks and event.ask_ticks and event.bid_ticks[0] >= event.ask_ticks[0]:
                self._on_crossed(source, event)
                continue
            yield event

    def _on_crossed(self, source: Source, book: BookSnapshot) -> None:
        if self._options.on_crossed == "refuse":
            raise refusal_of_crossed(
                source.path, _where(source), self._instruments[book.instrument_id], book.bid_ticks[0], book.ask_ticks[0]
            )
        self._notes[CROSSED] += 1

    def _place_of(self, event: MarketEvent) -> Place:
        name = event.instrument_id
        if type(event) is Bar:
            return Place(name, f"bars-{event.interval_s:g}s", year_of(event.ts_event))
        return Place(name, "events", self._sessions[name].session_of(arrival_ns(event)))

    def _begin(self, place: Place) -> EntryWriter | Place:
        known = self._known.get((place.instrument_id, place.kind, place.session))
        if known is not None and not self._options.is_replacing:
            own = {origin.sha256 for origins in self._origins.values() for origin in origins}
            if {origin.sha256 for origin in known.origins} <= own:
                self._unchanged.append(known.key)
                return place
            names = ", ".join(origin.name for origin in known.origins)
            raise ConfigError(f"{known.key}: is in the catalogue already, from {names[:200]}; --replace replaces it")
        if place in self._written:
            raise ConfigError(f"{place.instrument_id}: session {place.session} goes on after a later one began; sort the files by time")
        self._written.add(place)
        folder = self.folder / str(len(self._written)) / place.session
        return EntryWriter(folder, self._instruments[place.instrument_id], place)

    def _finish(self, writer: EntryWriter | Place | None) -> None:
        if not isinstance(writer, EntryWriter):
            return
        entry = writer.finish()
        origins = tuple(
            origin
            for source in self._sources
            if source.start_ns <= entry.end_ns and source.end_ns >= entry.start_ns and _may_hold(source, entry)
            for origin in self._origins[id(source)]
        )
        self._staged.append((msgspec.structs.replace(entry, origins=origins), writer.directory))


def _listed(instrument: Instrument, expires_ns: int | None) -> Listed:
    calendar = Sessions(instrument.venue).calendar
    return Listed(instrument=instrument, expires_ns=expires_ns, timezone=calendar.timezone, session_begins_hour=calendar.begins_hour)


def _with_source(chain: Chain) -> Iterator[tuple[Source, MarketEvent]]:
    following = iter(chain)
    source = next(following)
    for event in one_after_the_other(chain):
        while source is not chain[-1] and arrival_ns(event) > source.end_ns:
            source = next(following)
        yield source, event


def _where(source: Source) -> str:
    where = getattr(source, "where", None)
    return str(where()) if where is not None else "an event"


def _may_hold(source: Source, entry: Entry) -> bool:
    is_named = any(one.instrument_id == entry.instrument_id for one in source.instruments)
    return is_named and (holds(source) == "bars") == (entry.kind != "events")


def _origins_of(source: Source) -> tuple[Origin, ...]:
    path = source.path
    files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else getattr(source, "paths", (path,))
    return tuple(Origin(name=one.name, bytes=one.stat().st_size, sha256=_sha256_of(one)) for one in files)


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_HASH_BYTES):
                digest.update(block)
    except OSError as exc:
        raise StorageError(f"{path}: cannot be read: {exc.strerror}") from exc
    return digest.hexdigest()


def _free_directory(root: Path, key: str) -> str:
    """Return where an entry goes: under its name, or with `~2`, `~3` behind while an older one still lies there."""
    names = joined([key], (f"{key}~{number}" for number in count(2)))
    return next(name for name in names if not (root / name).exists())


def _move(staged: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(target)
        sync_directory(target.parent)
    except OSError as exc:
        raise StorageError(f"{target}: cannot be written: {exc.strerror}; free space or choose another catalogue") from exc
