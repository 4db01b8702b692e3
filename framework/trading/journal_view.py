"""The journal for readers: opened read-only, while its owner writes or after it has gone. Nothing here can change a record."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from framework.errors import IntegrityError, StartRefused, StorageError
from framework.messages import Feedback, Message
from framework.trading.store import OF_IDS, OF_ORDERS

Kind = TypeVar("Kind", bound=Message)
_LAST: Final = 2**62


class JournalView:
    """Records of a journal by what they say. Sees what was committed: a running process commits about each second."""

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._database = database
        self._path = path

    def mentioning(self, kind: type[Kind], text: str, *, near: int | None = None, within: int = 0) -> list[Kind]:
        """Return the records of a kind whose body holds `text`, in order: all, or those at most `within` records from number `near`."""
        first, last = (0, _LAST) if near is None else (near - within, near + within)
        query = "SELECT seq, body FROM records WHERE kind = ? AND seq BETWEEN ? AND ? AND instr(body, ?) ORDER BY seq"
        return [self._decode(kind, seq, body) for seq, body in self._rows(query, (kind.__name__, first, last, text.encode()))]

    def identified(self, kind: type[Kind], name: str) -> list[tuple[int, Kind]]:
        """Return the records of a kind under an id, with their numbers, in order. Journals from before ids were keys are read through."""
        found = self.numbered(kind, name)
        oldest = self._rows("SELECT record_key FROM records WHERE kind = ? ORDER BY seq LIMIT 1", (kind.__name__,))
        if found or not oldest or oldest[0][0]:
            return found
        query = "SELECT seq, body FROM records WHERE kind = ? AND instr(body, ?) ORDER BY seq"
        return [(seq, self._decode(kind, seq, body)) for seq, body in self._rows(query, (kind.__name__, name.encode()))]

    def keyed(self, kind: type[Kind], key: str) -> list[Kind]:
        """Return the records of a kind under a key, in order."""
        return [message for _, message in self.numbered(kind, key)]

    def numbered(self, kind: type[Kind], key: str) -> list[tuple[int, Kind]]:
        """Return the records of a kind under a key with their numbers, in order."""
        # An index over some kinds is found only where its condition is spelled out.
        spelled = next((f"kind IN {kinds} AND " for kinds in (OF_ORDERS, OF_IDS) if kind.__name__ in kinds), "")
        query = f"SELECT seq, body FROM records WHERE {spelled}kind = ? AND record_key = ? ORDER BY seq"
        return [(seq, self._decode(kind, seq, body)) for seq, body in self._rows(query, (kind.__name__, key))]

    def until(self, kind: type[Kind], last: int) -> list[tuple[int, Kind]]:
        """Return the records of a kind up to a number, with their numbers, in order; for kinds of which there are few."""
        query = "SELECT seq, body FROM records WHERE kind = ? AND seq <= ? ORDER BY seq"
        return [(seq, self._decode(kind, seq, body)) for seq, body in self._rows(query, (kind.__name__, last))]

    def newest_keys(self, kind: type[Message], count: int) -> list[str]:
        """Return the keys of the last `count` records of a kind, newest first."""
        query = "SELECT record_key FROM records WHERE kind = ? ORDER BY seq DESC LIMIT ?"
        return [key for (key,) in self._rows(query, (kind.__name__, count))]

    def has_after(self, kind: type[Message], seq: int) -> bool:
        """Return whether there is a record of a kind behind a number."""
        return bool(self._rows("SELECT 1 FROM records WHERE kind = ? AND seq > ? LIMIT 1", (kind.__name__, seq)))

    def newest(self, kind: type[Kind], count: int) -> list[Kind]:
        """Return the last `count` records of a kind, newest first."""
        query = "SELECT seq, body FROM records WHERE kind = ? ORDER BY seq DESC LIMIT ?"
        return [self._decode(kind, seq, body) for seq, body in self._rows(query, (kind.__name__, count))]

    def pending_feedback(self, feedback_id: str) -> Feedback | None:
        """Return feedback that the ML process has not acknowledged yet."""
        for (body,) in self._rows("SELECT body FROM feedback WHERE feedback_id = ?", (feedback_id,)):
            return msgspec.msgpack.decode(body, type=Feedback)
        return None

    def deployment(self, name: str) -> str | None:
        """Return the body of a deployment."""
        return next((body for (body,) in self._rows("SELECT body FROM deployments WHERE name = ?", (name,))), None)

    def deployment_digest(self, name: str) -> str | None:
        """Return the digest of a deployment."""
        return next((digest for (digest,) in self._rows("SELECT digest FROM deployments WHERE name = ?", (name,))), None)

    def _decode(self, kind: type[Kind], seq: int, body: bytes) -> Kind:
        try:
            return msgspec.msgpack.decode(body, type=kind)
        except msgspec.DecodeError as exc:
            raise IntegrityError(f"{self._path}: record {seq} ({kind.__name__}) cannot be read: {exc}") from exc

    def _rows(self, query: str, parameters: Sequence[Any]) -> list[Any]:
        try:
            return self._database.execute(query, parameters).fetchall()
        except sqlite3.Error as exc:
            raise _fault(self._path, exc) from exc


@contextmanager
def view_journal(path: Path) -> Iterator[JournalView]:
    """Open a journal to read. Raises `StartRefused` (not there), `StorageError` (locked) or `IntegrityError` (damaged, or no journal)."""
    if not path.is_file():
        raise StartRefused(f"{path}: there is no journal: nothing ever ran in this state directory; name another --state-dir")
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=2.0)
    except sqlite3.Error as exc:
        raise _fault(path, exc) from exc
    try:
        yield JournalView(database, path)
    finally:
        database.close()


def _fault(path: Path, exc: sqlite3.Error) -> StorageError | IntegrityError:
    if isinstance(exc, sqlite3.OperationalError) and "no such" not in str(exc):
        return StorageError(f"{path}: {exc}")
    return IntegrityError(f"{path}: {exc}; not a journal, or a damaged one: restore it from a backup")
