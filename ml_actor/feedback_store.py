"""Feedback, each id once, in one SQLite file: what the trading process may forget as soon as this has it."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from framework.errors import IntegrityError, StorageError
from framework.wire import FeedbackItem

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS feedback (
    feedback_id TEXT PRIMARY KEY,
    received_ns INTEGER NOT NULL,
    instrument_id TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
"""
_INSERT: Final = "INSERT OR IGNORE INTO feedback (feedback_id, received_ns, instrument_id, body) VALUES (?, ?, ?, ?)"
_DELETE_OLDEST: Final = "DELETE FROM feedback WHERE rowid IN (SELECT rowid FROM feedback ORDER BY rowid LIMIT ?)"
_NOT_OURS: Final = ("malformed", "not a database", "no such column", "no such table", "cannot store", "disk image")


class FeedbackStore:
    """Store of `FeedbackItem`s (WAL, synchronous=FULL: what `add` returned for survives power loss).

    At least once on the wire, exactly once here: an id that is stored already is left as it was. Beyond `max_items` the oldest
    are deleted and counted in `deleted`. Every method waits for
    the disk and may be called from any one thread at a time. Raises `IntegrityError` for a file that is damaged, `StorageError`
    for a disk that is full or a file that another process has locked.
    """

    def __init__(self, path: Path, *, max_items: int = 1_000_000) -> None:
        self.deleted = 0
        self._path = path
        self._max_items = max_items
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._count = 0

    @property
    def count(self) -> int:
        """Return how many items are stored. Does not wait."""
        return self._count

    def open(self) -> None:
        """Open the file, or make one that is readable by its owner alone, and check it."""
        descriptor = _or_storage_error(self._path)
        os.close(descriptor)
        with self._lock, _Told(self._path):
            connection = sqlite3.connect(self._path, timeout=5.0, isolation_level=None, check_same_thread=False)
            self._connection = connection
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(f"malformed: {verdict}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(_SCHEMA)
            self._count = connection.execute("SELECT COUNT(feedback_id) FROM feedback WHERE length(body) > 0").fetchone()[0]

    def close(self) -> None:
        """Close the file. Does nothing if it is closed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def add(self, items: Sequence[FeedbackItem], *, received_ns: int) -> int:
        """Store a batch in one transaction; return how many ids were new. All of it is stored, or nothing."""
        rows = [(item.feedback_id, received_ns, item.instrument_id, msgspec.json.encode(item)) for item in items]
        with self._lock, _Told(self._path):
            connection = self._open_connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                before = connection.total_changes
                connection.executemany(_INSERT, rows)
                new = connection.total_changes - before
                surplus = max(0, self._count + new - self._max_items)
                connection.execute(_DELETE_OLDEST, (surplus,))
                connection.execute("COMMIT")
            except sqlite3.Error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        self._count += new - surplus
        self.deleted += surplus
        return new

    def export_for_training(self, path: Path, *, newest: int = 100_000) -> int:
        """Write the newest items as JSON lines of `FeedbackItem`, in order of arrival; return how many. Replaces `path`."""
        query = "SELECT body FROM (SELECT rowid, body FROM feedback ORDER BY rowid DESC LIMIT ?) ORDER BY rowid"
        with self._lock, _Told(self._path):
            bodies = self._open_connection().execute(query, (newest,)).fetchall()
        temporary = path.with_name(f".new-{path.name}")
        try:
            with open(temporary, "wb", opener=_private) as file:
                file.writelines(body + b"\n" for (body,) in bodies)
            os.replace(temporary, path)
        except OSError as exc:
            raise StorageError(f"{path}: cannot be written ({exc.strerror})") from exc
        return len(bodies)

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageError(f"{self._path}: the feedback store is closed")
        return self._connection


class _Told:
    """Turns errors of SQLite into ours, which name the file and the way out."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, sqlite3.Error):
            return
        if isinstance(error, sqlite3.DatabaseError) and any(word in str(error) for word in _NOT_OURS):
            raise IntegrityError(
                f"{self._path}: damaged feedback database ({error}); move it away, a new one is made at the next start"
            ) from error
        raise StorageError(f"{self._path}: {error}") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _or_storage_error(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StorageError(f"{path}: cannot be opened ({exc.strerror})") from exc
