"""The index of a catalogue: what it holds, replaced atomically and checksummed; and the lock of who writes."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from framework.dataset.parts import replace_file
from framework.errors import ConfigError, IntegrityError, StartRefused, StorageError
from framework.model import Instrument

INDEX: Final = "_catalogue.json"
STAGING: Final = ".importing-"
DEFAULT_ROOT: Final = Path("catalogue")
VERSION: Final = 1
_LOCK: Final = ".lock"


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is known of the market from `begin_ns` to `end_ns`, or it was closed; `reason` says why."""

    begin_ns: int
    end_ns: int
    reason: str


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """A file that an entry was made from."""

    name: str
    bytes: int
    sha256: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One session of one instrument. `kind` is `events`, or `bars-<seconds>s`."""

    instrument_id: str
    session: str
    kind: str
    directory: str
    events: int
    books: int
    trades: int
    bars: int
    start_ns: int
    end_ns: int
    bytes: int
    gaps: tuple[Gap, ...] = ()
    gaps_not_listed: int = 0
    origins: tuple[Origin, ...] = ()
    notes: dict[str, int] = {}

    @property
    def key(self) -> str:
        """Return what people call it: `ESH4.GLBX/2023-12-26`, `ESH15.CME/bars-300s/2015`."""
        middle = "" if self.kind == "events" else f"{self.kind}/"
        return f"{self.instrument_id}/{middle}{self.session}"


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """An instrument, with what its definition says beyond trading: when it expires, and where and when its trading day begins."""

    instrument: Instrument
    expires_ns: int | None = None
    timezone: str = "UTC"
    session_begins_hour: int = 0


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that counts."""

    version: int = VERSION
    instruments: dict[str, Listed] = {}
    entries: dict[str, Entry] = {}


class _Sealed(msgspec.Struct, frozen=True, kw_only=True):
    index: msgspec.Raw
    sha256: str


class Catalogue:
    """A folder of entries. Reading needs no lock: the index is replaced whole, and what it names is never changed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self) -> Index:
        """Return the index, empty where there is none yet. Raises `IntegrityError` for a damaged one, `StorageError`."""
        path = self.root / INDEX
        try:
            sealed = msgspec.json.decode(path.read_bytes(), type=_Sealed)
            index = msgspec.json.decode(sealed.index, type=Index)
        except FileNotFoundError:
            return Index()
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise IntegrityError(f"{path}: no catalogue's index ({exc}); restore it, or import again into another folder") from exc
        except OSError as exc:
            raise StorageError(f"{path}: cannot be read: {exc.strerror}") from exc
        if hashlib.sha256(sealed.index).hexdigest() != sealed.sha256:
            raise IntegrityError(f"{path}: does not match its own checksum; restore it, or import again into another folder")
        if index.version != VERSION:
            raise ConfigError(f"{path}: is of version {index.version}, this release reads {VERSION}")
        return index

    def write(self, index: Index) -> None:
        """Replace the index. Raises `StorageError`."""
        raw = msgspec.json.encode(index)
        replace_file(self.root / INDEX, msgspec.json.encode(_Sealed(index=msgspec.Raw(raw), sha256=hashlib.sha256(raw).hexdigest())))

    def path_of(self, entry: Entry) -> Path:
        """Return the directory of an entry."""
        return self.root / entry.directory

    def find(self, name: str) -> list[Entry]:
        """Return the entries called `name`: one entry, or all of an instrument (and kind), oldest first. Raises `ConfigError` for none."""
        entries = self.read().entries
        found = [entry for key, entry in entries.items() if key == name or key.startswith(f"{name}/")]
        if not found:
            known = sorted({entry.instrument_id for entry in entries.values()})
            raise ConfigError(f"{name}: not in the catalogue {self.root}; it holds {', '.join(known)[:300] or 'nothing yet'}")
        return sorted(found, key=lambda entry: (entry.start_ns, entry.key))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock of the only writer, and remove what dead imports left. Raises `StartRefused` or `StorageError`."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / _LOCK).open("w")
        except OSError as exc:
            raise StorageError(f"{self.root}: cannot be written: {exc.strerror}; choose another folder with --catalogue") from exc
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                raise StartRefused(f"{self.root}: another import is writing there; wait for it") from exc
            for left in self.root.glob(f"{STAGING}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield
