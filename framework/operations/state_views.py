"""The journal for people: is it whole, what was the state at any record, how do two states differ, every record as a line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.errors import ConfigError, IntegrityError, StartRefused
from framework.logs import foreign
from framework.operations.state_dir import StateDir
from framework.trading.fold import Facts, is_readable, replay
from framework.trading.journal import Journal, Record
from framework.trading.records import RunStarted

_NUMBER: Final = re.compile(r"^[0-9]{1,15}$")


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What `state verify` found: all of it holds, or it would have raised."""

    records: int
    by_kind: dict[str, int]
    snapshots: tuple[int, ...]
    runs: int
    ended_in_order: bool
    state_digest: str


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One fact that differs; None where it is not there."""

    path: str
    a: Any
    b: Any


@contextmanager
def reading(state_dir: Path) -> Iterator[Journal]:
    """Open the journal of a state directory (or a journal file) to read; a running process may go on. Raises `StartRefused` without one."""
    path = StateDir(state_dir).journal if state_dir.is_dir() else state_dir
    if not path.is_file():
        raise StartRefused(f"{foreign(str(path))}: there is no journal: nothing ever ran there; name another --state-dir")
    journal = Journal(path, is_read_only=True)
    try:
        yield journal
    finally:
        journal.close()


def verify(journal: Journal) -> Verified:
    """Check every record against the chain, and that each snapshot is what the records before it add up to.

    A snapshot of another version of Tidebook is read by nobody, and left out. Raises `IntegrityError` naming what fails first.
    """
    whole = replay(journal, uses_snapshots=False)
    found = []
    for snapshot in journal.snapshots():
        if not is_readable(snapshot.body):
            continue
        if replay(journal, until=snapshot.seq, uses_snapshots=False).to_bytes() != snapshot.body:
            raise IntegrityError(f"{journal.path}: the snapshot at record {snapshot.seq} is not what the records add up to")
        found.append(snapshot.seq)
    if replay(journal).digest() != whole.digest():
        raise IntegrityError(f"{journal.path}: snapshot and records add up to different states")
    kinds = Counter(journal.kinds())
    last = {record.kind: record.seq for record in journal.records("RunStarted", "RunEnded")}
    return Verified(
        records=journal.last_seq,
        by_kind=dict(sorted(kinds.items())),
        snapshots=tuple(found),
        runs=kinds["RunStarted"],
        ended_in_order=last.get("RunEnded", 0) > last.get("RunStarted", 0),
        state_digest=whole.digest(),
    )


def state_at(journal: Journal, until: int | None) -> Facts:
    """Return the state behind a record (None: the last). Raises `ConfigError` for a record that is not there."""
    if until is not None and not 0 <= until <= journal.last_seq:
        raise ConfigError(f"--until: found {until}; allowed 0 to {journal.last_seq}, the last record")
    return replay(journal, until=until).facts()


def state_named(name: str, state_dir: Path) -> Facts:
    """Return a state by what a person calls it: a record of the journal, or another state directory or journal file."""
    if _NUMBER.match(name):
        with reading(state_dir) as journal:
            return state_at(journal, int(name))
    with reading(Path(name)) as journal:
        return state_at(journal, None)


def differences(a: Facts, b: Facts) -> Iterator[Difference]:
    """Yield what differs between two states, fact by fact."""
    yield from _differ("", _plain(a), _plain(b))


def lines(journal: Journal, *, since: int, until: int | None, kinds: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield records as JSON values, in order, checked against the chain from the first one on."""
    last = journal.last_seq if until is None else until
    for record in journal.records(*kinds):
        if since <= record.seq <= last:
            yield line_of(record)


def line_of(record: Record) -> dict[str, Any]:
    """Return a record as JSON values."""
    message = msgspec.to_builtins(record.message, builtin_types=())
    return {"seq": record.seq, "kind": record.kind, "key": record.key, "ts_event": record.ts_event, "message": message}


def runs(journal: Journal) -> list[RunStarted]:
    """Return the runs, oldest first."""
    return [record.message for record in journal.records("RunStarted") if isinstance(record.message, RunStarted)]


def _plain(facts: Facts) -> dict[str, Any]:
    """Return facts as nested names and values: lists of things with a name become mappings by it."""
    plain: dict[str, Any] = msgspec.to_builtins(facts)
    plain["orders"] = {one["intent"]["client_order_id"]: one for one in plain["orders"]}
    plain["positions"] = {f"{one['strategy_id']} {one['instrument']['instrument_id']}": one for one in plain["positions"]}
    plain["open_decisions"] = {one["decision_id"]: one["reason"] for one in plain["open_decisions"]}
    plain["sent"] = [one["client_order_id"] for one in plain["sent"]]
    return plain


def _differ(path: str, a: Any, b: Any) -> Iterator[Difference]:
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted({*a, *b}):
            yield from _differ(f"{path}.{name}" if path else name, a.get(name), b.get(name))
    elif a != b:
        yield Difference(path=path, a=a, b=b)
