"""The journal: one append-only, hash-chained record of everything that state is rebuilt from, on SQLite.

Two levels live in one file (`docs/architecture.md`, "What survives what"). A *durable* record is committed, with an fsync, before
`append` returns: order intents, venue reports, the kill switch. The others ride in the open transaction until `flush`, about each
second. Each record's `chain` is SHA-256 over the chain before it and its own kind, key, time and body.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

import msgspec

from framework import messages
from framework.errors import IntegrityError, StorageError, TidebookError
from framework.messages import Feedback, Message
from framework.trading import records as own_records

SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, record_key TEXT NOT NULL, ts_event INTEGER NOT NULL,
    body BLOB NOT NULL, chain BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS records_by_kind ON records (kind, seq);
CREATE INDEX IF NOT EXISTS records_of_orders ON records (record_key, seq) WHERE kind IN ('SubmitOrder', 'ExecutionReport');
CREATE TABLE IF NOT EXISTS deployments (
    name TEXT PRIMARY KEY, body TEXT NOT NULL, digest TEXT NOT NULL, deployed_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS feedback (place INTEGER PRIMARY KEY, feedback_id TEXT NOT NULL UNIQUE, body BLOB NOT NULL);
"""
_OF_ORDER: Final = "WHERE kind IN ('SubmitOrder', 'ExecutionReport') AND record_key = ?"
Params = ParamSpec("Params")
Result = TypeVar("Result")


class Record(NamedTuple):
    """One journal record; `message` is the decoded event, command or report of type `kind`."""

    seq: int
    kind: str
    key: str
    ts_event: int
    message: Message


class Deployment(NamedTuple):
    """A strategy that every start runs: its file as JSON, and the digest of file and code when it was deployed."""

    name: str
    body: str
    digest: str
    deployed_ns: int


def _guarded(method: Callable[Params, Result]) -> Callable[Params, Result]:
    def guarded(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        try:
            return method(*args, **kwargs)
        except sqlite3.Error as exc:
            journal: Any = args[0]
            journal.fail()
            raise _fault(journal.path, exc) from exc

    guarded.__doc__ = method.__doc__
    guarded.__name__ = method.__name__
    return guarded


def _fault(path: Path | str, exc: sqlite3.Error) -> TidebookError:
    """Return what to raise: a file that is damaged needs a backup, a disk that is full or locked needs room."""
    if isinstance(exc, sqlite3.DatabaseError) and not isinstance(exc, sqlite3.OperationalError | sqlite3.ProgrammingError):
        return IntegrityError(f"{path}: {exc}; restore the file from a backup, or move it away to start afresh")
    return StorageError(f"{path}: {exc}; no new orders are sent until the disk is sound and Tidebook is started again")


class Journal:
    """Append-only journal, deployments, feedback outbox and small facts, in one SQLite file (or `:memory:`).

    One writer: the owner of the state directory's lock. Every method blocks for as long as SQLite does (a durable append
    is one fsync) and raises `StorageError` when the disk fails; from then on `is_healthy` is False.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self.is_healthy = True
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {}
        self._feedback = msgspec.msgpack.Decoder(Feedback)
        self._seq = 0
        self._chain = b""
        self._open()

    # --- records -------------------------------------------------------------------------------------------------------

    @_guarded
    def append(self, kind: str, message: Message, *, durable: bool = False, key: str = "") -> int:
        """Append a record and return its sequence number. Durable: it is on the disk when this returns."""
        body = self._encode(message)
        ts_event: int = getattr(message, "ts_event", 0)
        seq, chain = self._seq + 1, link(self._chain, kind, key, ts_event, body)
        self._db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", (seq, kind, key, ts_event, body, chain))
        if durable:
            self._db.commit()
        # Only now: a record that did not get into the file must not leave a gap that looks like tampering.
        self._seq, self._chain = seq, chain
        return seq

    @_guarded
    def flush(self) -> None:
        """Commit what is waiting."""
        self._db.commit()

    def records(self, *kinds: str) -> Iterator[Record]:
        """Return records of these kinds (all kinds if none is named) in order. Raises `IntegrityError` for one that cannot be decoded."""
        where = f"WHERE kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
        for seq, kind, key, ts_event, body in self._rows(
            f"SELECT seq, kind, record_key, ts_event, body FROM records {where} ORDER BY seq", kinds
        ):
            yield Record(seq, kind, key, ts_event, self._decode(seq, kind, body))

    def history(self, client_order_id: str, *, before: int | None = None) -> Iterator[Record]:
        """Return the intent and the venue's reports of one order, of the records before a sequence number."""
        last = self._seq if before is None else before - 1
        for seq, kind, key, ts_event, body in self._rows(
            f"SELECT seq, kind, record_key, ts_event, body FROM records {_OF_ORDER} AND seq <= ? ORDER BY seq", (client_order_id, last)
        ):
            yield Record(seq, kind, key, ts_event, self._decode(seq, kind, body))

    def has_order(self, client_order_id: str) -> bool:
        """Return whether an order of this id was ever sent."""
        found = self._rows(f"SELECT 1 FROM records {_OF_ORDER} AND kind = 'SubmitOrder' LIMIT 1", (client_order_id,))
        return next(found, None) is not None

    @property
    def last_seq(self) -> int:
        """Return the sequence number of the last record."""
        return self._seq

    def verify(self) -> int:
        """Check every record against the hash chain; return how many there are. Raises `IntegrityError` naming the first that fails."""
        chain, expected = b"", 0
        for seq, kind, key, ts_event, body, stored in self._rows(
            "SELECT seq, kind, record_key, ts_event, body, chain FROM records ORDER BY seq"
        ):
            expected += 1
            chain = link(chain, kind, key, ts_event, body)
            if seq != expected or chain != stored:
                raise IntegrityError(f"{self.path}: record {expected} does not fit the hash chain; restore the file from a backup")
        return expected

    # --- deployments -----------------------------------------------------------------------------------------------------

    @_guarded
    def put_deployment(self, name: str, body: str, digest: str, deployed_ns: int) -> None:
        """Record a deployment durably; one of the same name is replaced."""
        self._db.execute("INSERT OR REPLACE INTO deployments VALUES (?, ?, ?, ?)", (name, body, digest, deployed_ns))
        self._db.commit()

    def deployments(self) -> dict[str, Deployment]:
        """Return all deployments by name."""
        rows = self._rows("SELECT name, body, digest, deployed_ns FROM deployments ORDER BY deployed_ns, name")
        return {row[0]: Deployment(*row) for row in rows}

    @_guarded
    def remove_deployment(self, name: str) -> bool:
        """Forget a deployment durably; return whether there was one."""
        removed = self._db.execute("DELETE FROM deployments WHERE name = ?", (name,)).rowcount > 0
        self._db.commit()
        return removed

    # --- feedback outbox -------------------------------------------------------------------------------------------------

    @_guarded
    def put_feedback(self, feedback: Feedback) -> None:
        """Keep feedback until it is acknowledged; the same id again replaces it."""
        self._db.execute(
            "INSERT OR REPLACE INTO feedback (feedback_id, body) VALUES (?, ?)", (feedback.feedback_id, self._encode(feedback))
        )

    def pending_feedback(self) -> list[Feedback]:
        """Return what is not acknowledged, oldest first."""
        return [self._feedback.decode(body) for (body,) in self._rows("SELECT body FROM feedback ORDER BY place")]

    @_guarded
    def acknowledge_feedback(self, feedback_ids: tuple[str, ...]) -> None:
        """Forget feedback that is stored elsewhere, or that was dropped to keep the outbox bounded."""
        self._db.executemany("DELETE FROM feedback WHERE feedback_id = ?", [(feedback_id,) for feedback_id in feedback_ids])

    # --- small facts -----------------------------------------------------------------------------------------------------

    @_guarded
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
            self._read_head()
        except sqlite3.Error:
            return  # the disk is gone for good; every append says so

    # --- opening -----------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._db = sqlite3.connect(self.path, isolation_level="DEFERRED", timeout=1.0, check_same_thread=False)
            self._prepare()
        except sqlite3.Error as exc:
            self._abandon()
            raise _fault(self.path, exc) from exc
        except StorageError:
            self._abandon()
            raise

    def _prepare(self) -> None:
        self._check_version()
        self._set_pragmas()
        self._db.executescript(_SCHEMA)
        self._db.execute("INSERT OR IGNORE INTO meta VALUES ('schema_version', ?)", (str(SCHEMA_VERSION),))
        self._read_head()
        self._db.commit()

    def _abandon(self) -> None:
        if hasattr(self, "_db"):
            self._db.close()

    def _read_head(self) -> None:
        row = self._db.execute("SELECT seq, chain FROM records ORDER BY seq DESC LIMIT 1").fetchone()
        self._seq, self._chain = row or (0, b"")

    def _rows(self, query: str, parameters: Sequence[str | int] = ()) -> Iterator[Any]:
        try:
            yield from self._db.execute(query, parameters)
        except sqlite3.Error as exc:
            raise _fault(self.path, exc) from exc

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
        if stored not in (None, str(SCHEMA_VERSION)):
            raise StorageError(f"{self.path}: written by version {stored} of the journal, this Tidebook reads {SCHEMA_VERSION}")

    def _decode(self, seq: int, kind: str, body: bytes) -> Message:
        if kind not in self._decoders:
            message_type = getattr(messages, kind, None) or getattr(own_records, kind, None)
            if message_type is None:
                raise TidebookError(f"{self.path}: record {seq} is of unknown kind {kind!r}")
            self._decoders[kind] = msgspec.msgpack.Decoder(message_type)
        try:
            message: Message = self._decoders[kind].decode(body)
        except (msgspec.DecodeError, msgspec.ValidationError) as exc:
            raise IntegrityError(f"{self.path}: record {seq} ({kind}) cannot be read: {exc}") from exc
        return message


def is_recordable(message: Message) -> bool:
    """Return whether a record of this message could be written and read back: every field has its type, and integers fit 64 bits."""
    try:
        msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=type(message))
    except (msgspec.MsgspecError, OverflowError, UnicodeError, TypeError):
        return False
    return True


def link(chain: bytes, kind: str, key: str, ts_event: int, body: bytes) -> bytes:
    """Return the next link of the hash chain."""
    digest = hashlib.sha256(chain)
    digest.update(f"{kind}\0{key}\0{ts_event}\0".encode())
    digest.update(body)
    return digest.digest()
