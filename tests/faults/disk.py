"""A disk that fails when it is told to: SQLite's own errors, from the connection under the journal."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from framework.trading.journal import Journal


class _Connection:
    """A connection that refuses to write once `left` writes have gone. `on_write` is called before each write and commit."""

    def __init__(self, real: sqlite3.Connection, on_write: Callable[[], None]) -> None:
        self._real = real
        self._on_write = on_write
        self.left: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, query: str, *arguments: Any) -> sqlite3.Cursor:
        if query.startswith(("INSERT", "DELETE", "UPDATE")):
            self._spend()
        return self._real.execute(query, *arguments)

    def commit(self) -> None:
        self._spend()
        self._real.commit()

    def _spend(self) -> None:
        self._on_write()
        if self.left is None:
            return
        if self.left == 0:
            raise sqlite3.OperationalError("database or disk is full")
        self.left -= 1


class BadDisk:
    """A journal whose disk can be broken, and whose power can be cut."""

    def __init__(self, journal: Journal, on_write: Callable[[], None] = lambda: None) -> None:
        self.journal = journal
        self._connection = _Connection(journal._db, on_write)
        journal._db = self._connection  # type: ignore[assignment]

    @property
    def is_broken(self) -> bool:
        """Return whether it fails, or is about to."""
        return self._connection.left is not None

    def break_after(self, writes: int) -> None:
        self._connection.left = writes

    def lose_power(self) -> None:
        """Forget what was not committed."""
        self._connection._real.rollback()
        self._connection._real.close()
