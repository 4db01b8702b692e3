"""The journal: one append-only, hash-chained record of everything that state is rebuilt from.

Two levels live in one file (`docs/journal.md`). A *durable* record is committed, with an fsync, before
`append` returns: order intents, venue reports, the kill switch. The others ride in the open transaction until `flush`, about each
second. Each record's `chain` is SHA-256 over the chain before it and its own kind, key, time and body.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from framework import messages
from framework.errors import IntegrityError, TidebookError
from framework.messages import Message
from framework.trading import records as own_records
from framework.trading.records import SnapshotTaken
from framework.trading.store import OF_IDS, OF_ORDERS, SCHEMA_VERSION, Deployment, Store, guarded

__all__ = ["SCHEMA_VERSION", "Deployment", "Journal", "Record", "Snapshot", "is_kind", "is_recordable", "link"]
_OF_ORDER: Final = f"WHERE kind IN {OF_ORDERS} AND record_key = ?"
_CHANGES: Final = f"WHERE kind IN {OF_IDS} AND kind = 'ReplaceOrder' AND record_key = ?"
_COLUMNS: Final = "seq, kind, record_key, ts_event, body"
SNAPSHOTS_KEPT: Final = 2


class Record(NamedTuple):
    """One journal record; `message` is the decoded event, command or report of type `kind`."""

    seq: int
    kind: str
    key: str
    ts_event: int
    message: Message


class Snapshot(NamedTuple):
    """The state that the records up to `seq` add up to, as bytes."""

    seq: int
    chain: bytes
    body: bytes


class Journal(Store):
    """Append-only records with a hash chain, on a `Store`. Order intents and reports can be looked up by order.

    `on_append` is called with every record that was written, for whoever follows the journal.
    """

    def __init__(self, path: Path | str, *, is_read_only: bool = False) -> None:
        self._decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {}
        self._seq = 0
        self._chain = b""
        self.on_append: Callable[[Record], None] | None = None
        super().__init__(path, is_read_only=is_read_only)

    # --- records -------------------------------------------------------------------------------------------------------

    @guarded
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
        if self.on_append is not None:
            self.on_append(Record(seq, kind, key, ts_event, message))
        return seq

    @guarded
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

    def after(self, seq: int, kinds: tuple[str, ...], count: int) -> list[Record]:
        """Return the next `count` records behind a number, of some kinds (none named: all). Sees what was committed by now."""
        where = f"kind IN ({', '.join('?' * len(kinds))}) AND " if kinds else ""
        query = f"SELECT seq, kind, record_key, ts_event, body FROM records WHERE {where}seq > ? ORDER BY seq LIMIT ?"
        rows = list(self._rows(query, (*kinds, seq, count)))
        return [Record(number, kind, key, ts_event, self._decode(number, kind, body)) for number, kind, key, ts_event, body in rows]

    def place_of_last(self, count: int, kinds: tuple[str, ...]) -> int:
        """Return the number behind which the last `count` records of some kinds are; 0 if there are fewer."""
        where = f"WHERE kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
        rows = list(self._rows(f"SELECT seq FROM records {where} ORDER BY seq DESC LIMIT 1 OFFSET ?", (*kinds, count)))
        return int(rows[0][0]) if rows else 0

    def kinds(self) -> dict[str, int]:
        """Return how many records there are of each kind."""
        return dict(self._rows("SELECT kind, count(*) FROM records GROUP BY kind"))

    def history(self, client_order_id: str, *, before: int | None = None) -> Iterator[Record]:
        """Return the intent of one order, the changes asked for and the venue's reports, of the records before a sequence number."""
        last = self._seq if before is None else before - 1
        parts = (f"SELECT {_COLUMNS} FROM records {where} AND seq <= ?" for where in (_OF_ORDER, _CHANGES))
        for seq, kind, key, ts_event, body in self._rows(f"{' UNION ALL '.join(parts)} ORDER BY seq", (client_order_id, last) * 2):
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
        for _ in self.checked((), after=0, chain=b""):
            pass
        return self._seq

    def checked(self, kinds: frozenset[str] | tuple[()], *, after: int, chain: bytes, until: int | None = None) -> Iterator[Record]:
        """Check the records behind `after` (whose chain is given) and yield those of some kinds, decoded, in one pass.

        Raises `IntegrityError` naming the first record that does not fit.
        """
        expected = after
        last = self._seq if until is None else until
        for seq, kind, key, ts_event, body, stored in self._rows(
            "SELECT seq, kind, record_key, ts_event, body, chain FROM records WHERE seq > ? AND seq <= ? ORDER BY seq", (after, last)
        ):
            expected += 1
            chain = link(chain, kind, key, ts_event, body)
            if seq != expected or chain != stored:
                raise IntegrityError(f"{self.path}: record {expected} does not fit the hash chain; restore the file from a backup")
            if kind in kinds:
                yield Record(seq, kind, key, ts_event, self._decode(seq, kind, body))

    # --- snapshots -------------------------------------------------------------------------------------------------------

    @guarded
    def take_snapshot(self, body: bytes, ts_event: int) -> int:
        """Keep the state that all records so far add up to; return the sequence number of the last of them.

        The record behind it has the digest, so that a snapshot is as safe from a changed byte as the chain is.
        """
        seq, chain = self._seq, self._chain
        self._db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", (seq, chain, body))
        self._db.execute("DELETE FROM snapshots WHERE seq NOT IN (SELECT seq FROM snapshots ORDER BY seq DESC LIMIT ?)", (SNAPSHOTS_KEPT,))
        taken = SnapshotTaken(ts_event=ts_event, seq=seq, digest=hashlib.sha256(body).hexdigest())
        self.append("SnapshotTaken", taken, durable=True)
        return seq

    def snapshots(self, *, until: int | None = None) -> Iterator[Snapshot]:
        """Return the snapshots that are what they were when they were taken, newest first."""
        last = self._seq if until is None else until
        rows = list(self._rows("SELECT seq, chain, body FROM snapshots WHERE seq <= ? ORDER BY seq DESC", (last,)))
        for snapshot in (Snapshot(*row) for row in rows):
            if self._is_sound(snapshot):
                yield snapshot

    def _is_sound(self, snapshot: Snapshot) -> bool:
        rows = list(
            self._rows(
                "SELECT seq, kind, record_key, ts_event, body, chain FROM records WHERE seq IN (?, ?) ORDER BY seq",
                (snapshot.seq, snapshot.seq + 1),
            )
        )
        if not rows or rows[-1][0] != snapshot.seq + 1 or rows[-1][1] != "SnapshotTaken":
            return False
        _, kind, key, ts_event, body, chain = rows[-1]
        is_there = snapshot.seq == 0 or (len(rows) == 2 and rows[0][5] == snapshot.chain)
        taken = self._decode(snapshot.seq + 1, kind, body)
        is_whole = isinstance(taken, SnapshotTaken) and taken.digest == hashlib.sha256(snapshot.body).hexdigest()
        return is_there and is_whole and link(snapshot.chain, kind, key, ts_event, body) == chain

    def _after_open(self) -> None:
        row = self._db.execute("SELECT seq, chain FROM records ORDER BY seq DESC LIMIT 1").fetchone()
        self._seq, self._chain = row or (0, b"")

    def _decode(self, seq: int, kind: str, body: bytes) -> Message:
        if kind not in self._decoders:
            message_type = getattr(messages, kind, None) or getattr(own_records, kind, None)
            if not (isinstance(message_type, type) and issubclass(message_type, Message)):
                raise TidebookError(f"{self.path}: record {seq} is of unknown kind {kind!r}")
            self._decoders[kind] = msgspec.msgpack.Decoder(message_type)
        try:
            message: Message = self._decoders[kind].decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
            raise IntegrityError(f"{self.path}: record {seq} ({kind}) cannot be read: {exc}") from exc
        return message


def is_kind(name: str) -> bool:
    """Return whether records may be of a kind of this name."""
    found = getattr(messages, name, None) or getattr(own_records, name, None)
    return isinstance(found, type) and issubclass(found, Message)


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
