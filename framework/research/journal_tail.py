"""The last records of a journal, and those that come: also of a journal that a running process writes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from framework.errors import ConfigError, StorageError
from framework.logs import foreign
from framework.trading.journal import Journal, Record, is_kind

BATCH: Final = 500
MOST: Final = 1_000_000


def check_kinds(journal: Journal, kinds: tuple[str, ...]) -> None:
    """Raise `ConfigError` for a name that is no kind of record."""
    for kind in kinds:
        if not is_kind(kind) and kind not in (there := sorted(journal.kinds())):
            near = difflib.get_close_matches(kind, there, n=3, cutoff=0.3) or there
            raise ConfigError(f"--kind: found {foreign(kind, 60)}; allowed kinds of records, such as {', '.join(near) or 'SubmitOrder'}")


def tail(journal: Journal, path: Path, *, count: int, kinds: tuple[str, ...], wait: Callable[[], bool] | None = None) -> Iterator[Record]:
    """Yield the last `count` records of some kinds (none named: all), oldest first; with `wait`, those that come until it returns False.

    Holds `BATCH` records at most, and no lock of the file between two batches. `wait` may block. Raises `StorageError` when the file
    is taken away, `IntegrityError` for a record that cannot be read.
    """
    place = journal.place_of_last(count, kinds)
    inode = _inode(path)
    while True:
        batch = journal.after(place, kinds, BATCH)
        for record in batch:
            yield record
            place = record.seq
        if batch:
            continue
        if wait is None or not wait():
            return
        if _inode(path) != inode:
            raise StorageError(f"{foreign(str(path))}: the journal was moved or replaced while it was read; run the verb again")


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
