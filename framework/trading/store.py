"""The file under the journal: SQLite, synced on commit, with deployments, the feedback outbox and small facts beside the records."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

import msgspec

from framework.errors import IntegrityError, StorageError, TidebookError
from framework.messages import Feedback

SCHEMA_VERSION: Final = 2
OLDER_VERSIONS: Final = ("1",)
OF_ORDERS: Final = ("SubmitOrder", "ExecutionReport")
OF_IDS: Final = ("CancelOrder", "DecisionClosed", "DecisionMade", "OrderUpdated", "PredictionFailed", "PredictionReceived", "ReplaceOrder")
"""Kinds with an index over their keys, one index each. SQLite uses it where a question names just these, as a tuple is written."""
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, record_key TEXT NOT NULL, ts_event INTEGER NOT NULL,
    body BLOB NOT NULL, chain BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS records_by_kind ON records (kind, seq);
CREATE INDEX IF NOT EXISTS records_of_orders ON records (record_key, seq) WHERE kind IN {OF_ORDERS};
CREATE INDEX IF NOT EXISTS records_by_id ON records (record_key, seq) WHERE kind IN {OF_IDS};
CREATE TABLE IF NOT EXISTS snapshots (seq INTEGER PRIMARY KEY, chain BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS deployments (
    name TEXT PRIMARY KEY, body TEXT NOT NULL, digest TEXT NOT NULL, deployed_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS feedback (place INTEGER PRIMARY KEY, feedback_id TEXT NOT NULL UNIQUE, body BLOB NOT NULL);
"""
Params = ParamSpec("Params")
Result = TypeVar("Result")


class Deployment(NamedTuple):
    """A strategy that every start runs: its file as JSON, and the digest of file and code when it was deployed."""

    name: str
    body: str
    digest: str
    deployed_ns: int


def guarded(method: Callable[Params, Result]) -> Callable[Params, Result]:
    """Return a method of a `Store` that says what is wrong with the disk, and has it noted."""

    def guard(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        try:
            return method(*args, **kwargs)
        except sqlite3.Error as exc:
            journal: Any = args[0]
            journal.fail()
            raise fault(journal.path, exc) from exc

    guard.__doc__ = method.__doc__
    guard.__name__ = method.__name__
    return guard


def fault(path: Path | str, exc: sqlite3.Error) -> TidebookError:
    """Return what to raise: a file that is damaged needs a backup, a disk that is full or locked needs room."""
    if isinstance(exc, sqlite3.DatabaseError) and not isinstance(exc, sqlite3.OperationalError | sqlite3.ProgrammingError):
        return IntegrityError(f"{path}: {exc}; restore the file from a backup, or move it away to start afresh")
    return StorageError(f"{path}: {exc}; no new orders are sent until the disk is sound and Tidebook is started again")


class Store:
    """One SQLite file (or `:memory:`), with one writer: the owner of the state directory's lock.

    Every method blocks for as long as SQLite does and raises `StorageError` when the disk fails; from then on `is_healthy` is False.
    """

    def __init__(self, path: Path | str, *, is_read_only: bool = False) -> None:
        self.path = path
        self._is_read_only = is_read_only
        self.is_healthy = True
        self._encode = msgspec.msgpack.Encoder().encode
        self._feedback = msgspec.msgpack.Decoder(Feedback)
        self._open()

    # --- deployments -----------------------------------------------------------------------------------------------------

    @guarded
    def put_deployment(self, name: str, body: str, digest: str, deployed_ns: int) -> None:
        """Record a deployment durably; one of the same name is replaced."""
        self._db.execute("INSERT OR REPLACE INTO deployments VALUES (?, ?, ?, ?)", (name, body, digest, deployed_ns))
        self._db.commit()

    def deployments(self) -> dict[str, Deployment]:
        """Return all deployments by name."""
        rows = self._rows("SELECT name, body, digest, deployed_ns FROM deployments ORDER BY deployed_ns, name")
        return {row[0]: Deployment(*row) for row in rows}

    @guarded
    def remove_deployment(self, name: str) -> bool:
        """Forget a deployment durably; return whether there was one."""
        removed = self._db.execute("DELETE FROM deployments WHERE name = ?", (name,)).rowcount > 0
        self._db.commit()
        return removed

    # --- feedback outbox -------------------------------------------------------------------------------------------------

    @guarded
    def put_feedback(self, feedback: Feedback) -> None:
        """Keep feedback until it is acknowledged; the same id again replaces it."""
        self._db.execute(
            "INSERT OR REPLACE INTO feedback (feedback_id, body) VALUES (?, ?)", (feedback.feedback_id, self._encode(feedback))
        )

    def pending_feedback(self) -> list[Feedback]:
        """Return what is not acknowledged, oldest first."""
        return [self._feedback.decode(body) for (body,) in self._rows("SELECT body FROM feedback ORDER BY place")]

    @guarded
    def acknowledge_feedback(self, feedback_ids: tuple[str, ...]) -> None:
        """Forget feedback that is stored elsewhere, or that was dropped to keep the outbox bounded."""
        self._db.executemany("DELETE FROM feedback WHERE feedback_id = ?", [(feedback_id,) for feedback_id in feedback_ids])

    # --- small facts -----------------------------------------------------------------------------------------------------

    @guarded
    def set_meta(self, name: str, value: str, *, durable: bool = True) -> None:
        """Remember a fact by name."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
        if durable:
            self._db.commit()

    def get_meta(self, name: str) -> str | None:
        """Return a fact, or None."""
        return next((value for (value,) in self._rows("SELECT value FROM meta WHERE name = ?", (name,))), None)

    def close(self) -> None:
        """Commit and close. Does not raise: a disk that failed has said so before."""
        try:
            self._db.commit()
        except sqlite3.Error:
            self.is_healthy = False
        self._db.close()

    def fail(self) -> None:
        """Note that the disk failed: drop the transaction that could not be finished and go on from what is in the file.

        Without the roll-back, a record that was refused to its caller could still be committed with a later one.
        """
        self.is_healthy = False
        try:
            self._db.rollback()
            self._db.execute("PRAGMA busy_timeout = 0")  # one wait for a lock is enough: cancels and fills come through here too
            self._after_open()
        except sqlite3.Error:
            return  # the disk is gone for good; every append says so

    # --- opening -----------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            name = f"{Path(self.path).resolve().as_uri()}?mode=ro" if self._is_read_only else self.path
            self._db = sqlite3.connect(name, isolation_level="DEFERRED", timeout=1.0, check_same_thread=False, uri=self._is_read_only)
            self._prepare()
        except sqlite3.Error as exc:
            self._abandon()
            raise fault(self.path, exc) from exc
        except StorageError:
            self._abandon()
            raise

    def _prepare(self) -> None:
        self._check_version()
        if self._is_read_only:
            self._after_open()
            return
        self._set_pragmas()
        self._db.executescript(_SCHEMA)
        if self.get_meta("schema_version") != str(SCHEMA_VERSION):
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('schema_version', ?)", (str(SCHEMA_VERSION),))
        self._after_open()
        self._db.commit()

    def _abandon(self) -> None:
        if hasattr(self, "_db"):
            self._db.close()

    def _after_open(self) -> None:
        """Read what the owner keeps in memory; called again after a roll-back."""

    def _rows(self, query: str, parameters: Sequence[str | int] = ()) -> Iterator[Any]:
        try:
            yield from self._db.execute(query, parameters)
        except sqlite3.Error as exc:
            raise fault(self.path, exc) from exc

    def _set_pragmas(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA wal_autocheckpoint = 1000")
        if self._db.execute("PRAGMA synchronous").fetchone()[0] != 2:
            raise StorageError(f"{self.path}: SQLite does not sync on commit")

    def _check_version(self) -> None:
        # Before anything is written: a file of a newer version, or of another program, is left as it is.
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return
        if "meta" not in tables:
            raise StorageError(f"{self.path}: a database of another program, with tables {', '.join(sorted(tables))}; give another path")
        stored = self.get_meta("schema_version")
        if stored in OLDER_VERSIONS and self._is_read_only:
            raise StorageError(f"{self.path}: written by version {stored} of the journal; start Tidebook on it once, which keeps a copy")
        if stored in OLDER_VERSIONS:
            self._keep_a_copy(stored)
        elif stored not in (None, str(SCHEMA_VERSION)):
            raise StorageError(f"{self.path}: written by version {stored} of the journal, this Tidebook reads {SCHEMA_VERSION}")

    def _keep_a_copy(self, version: str) -> None:
        """Copy the file as the older version left it, once: what this version adds, the older one cannot read."""
        copy = Path(f"{self.path}.v{version}")
        if copy.exists():
            return
        with sqlite3.connect(copy) as target:
            self._db.backup(target)
        target.close()
        copy.chmod(0o600)
