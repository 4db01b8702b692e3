"""Every write of a script of orders, one after the other: the process dies there, or the disk is full or broken from there on.

    python -m tests.faults.write_points --orders 200            # every point, every fault: 15 minutes or so
    python -m tests.faults.write_points --orders 40 --stride 3

Each order is sent, acknowledged and filled; the venue is elsewhere and remembers. After the fault the journal is opened again as `start`
does it, the venue is asked, and the script goes on to its end. What must hold: no order reached the venue twice, none that reached it is
unknown here, and in the end positions are equal to the venue's trades and the journal to its own chain.

The fault strikes in the connection under the journal, before or after the real call; `tests/trading/test_crash_points.py` does the same
to a real process at its system calls.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

from framework.messages import ExecutionReport, ReportKind, SubmitOrder
from framework.model import Side
from framework.trading.journal import Journal
from tests.trading.conftest import NOW, submit
from tests.trading.room import Room, ScriptedVenue

SHM: Final = Path("/dev/shm")
MESSAGES: Final = {"full": "database or disk is full", "broken": "disk I/O error"}
FAULTS: Final = ("killed before", "killed after", "full", "broken")


class Killed(BaseException):
    """The process ends here."""


class Point(NamedTuple):
    """The number of a write, and what happens there."""

    number: int
    fault: str


class Connection:
    """A connection that counts writes and strikes at one of them; from then on a bad disk stays bad."""

    def __init__(self, real: sqlite3.Connection, point: Point | None) -> None:
        self._real = real
        self._point = point
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, query: str, *arguments: Any) -> Any:
        if not query.startswith(("INSERT", "DELETE", "UPDATE")):
            return self._real.execute(query, *arguments)
        self._before()
        found = self._real.execute(query, *arguments)
        self._after()
        return found

    def commit(self) -> None:
        self._before()
        self._real.commit()
        self._after()

    def _before(self) -> None:
        self.writes += 1
        if self._point is None or self.writes < self._point.number:
            return
        if self._point.fault in MESSAGES:
            raise sqlite3.OperationalError(MESSAGES[self._point.fault])
        if self._point.fault == "killed before":
            raise Killed

    def _after(self) -> None:
        if self._point is not None and self.writes == self._point.number and self._point.fault == "killed after":
            raise Killed


@dataclass
class Venue(ScriptedVenue):
    """A venue that outlives us: it takes an order once, fills it at once, and says again what became of it when asked."""

    arrived: Counter[str] = field(default_factory=Counter)
    orders: dict[str, SubmitOrder] = field(default_factory=dict)
    waiting: list[ExecutionReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        ScriptedVenue.__init__(self)

    def submit(self, order: SubmitOrder) -> None:
        self.arrived[order.client_order_id] += 1
        self.orders[order.client_order_id] = order
        self.waiting += self.said(order)

    def reconcile(self, client_order_ids: Any, question: int = 0) -> None:
        for name in client_order_ids:
            known = self.orders.get(name)
            self.waiting += self.said(known) if known else [ExecutionReport(client_order_id=name, kind=ReportKind.CANCELED, ts_event=NOW)]

    def said(self, order: SubmitOrder) -> list[ExecutionReport]:
        name = order.client_order_id
        return [
            ExecutionReport(client_order_id=name, kind=ReportKind.ACCEPTED, ts_event=NOW),
            ExecutionReport(
                client_order_id=name,
                kind=ReportKind.FILLED,
                ts_event=NOW,
                trade_id=f"T-{name}",
                last_quantity=order.quantity,
                last_ticks=100,
                fee=Decimal("0.85"),
            ),
        ]


class Script:
    """Orders 1 to `count`, each of which leaves once; `run` goes on from where a fault stopped it."""

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        self._orders = [submit(f"o-{n}", Side.BUY if n % 3 else Side.SELL, 1 + n % 3) for n in range(1, count + 1)]
        self._next = 0
        self.venue = Venue()

    def run(self, point: Point | None) -> int:
        """Run to the end or to the fault; return how many writes there were."""
        journal = Journal(self._path)
        journal._db = connection = Connection(journal._db, point)  # type: ignore[assignment]
        try:
            room = Room(journal, self.venue)
            room.execution.recover()
            room.execution.reconcile()
            self._answer(room)
            while self._next < len(self._orders):
                order = self._orders[self._next]
                self._next += 1
                if not room.execution.blotter.is_known(order.client_order_id):
                    room.tell(order)
                self._answer(room)
                if not journal.is_healthy:
                    break
        except Killed:
            pass
        finally:
            connection._real.rollback()
            connection._real.close()
        return connection.writes

    def _answer(self, room: Room) -> None:
        while self.venue.waiting:
            room.tell(self.venue.waiting.pop(0))

    def check(self) -> str:
        """Return what does not hold after the last run, or nothing."""
        with_twice = [name for name, count in self.venue.arrived.items() if count != 1]
        if with_twice:
            return f"left twice: {with_twice}"
        journal = Journal(self._path)
        try:
            journal.verify()
            room = Room(journal)
            room.execution.recover()
            unknown = [name for name in self.venue.arrived if not room.execution.blotter.is_known(name)]
            wanted = sum(order.side.sign * order.quantity for order in self.venue.orders.values())
            found = room.execution.position("s", "A.X")
            if unknown or wanted != found or room.execution.open_orders():
                return f"unknown {unknown}, position {found} (venue {wanted}), open {len(room.execution.open_orders())}"
        finally:
            journal.close()
        return ""


def points(count: int, stride: int) -> Iterator[Point]:
    """Yield every write of a script of `count` orders with every fault."""
    with _folder() as folder:
        writes = Script(folder / "journal.sqlite", count).run(None)
    for number, fault in itertools.product(range(1, writes + 1, stride), FAULTS):
        yield Point(number, fault)


def sweep(count: int, stride: int) -> tuple[int, list[str]]:
    """Strike at every point; return how many there were, and what did not hold."""
    violations, number = [], 0
    for number, point in enumerate(points(count, stride), 1):  # noqa: B007
        with _folder() as folder:
            script = Script(folder / "journal.sqlite", count)
            script.run(point)
            script.venue.waiting.clear()  # what was on its way to a dead process is lost
            script.run(None)
            found = script.check()
        if found:
            violations.append(f"{point.fault} at write {point.number}: {found}")
    return number, violations


class _folder:
    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp(prefix="points-", dir=SHM if SHM.is_dir() else None))
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--stride", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    begin_s = time.monotonic()
    count, violations = sweep(options.orders, options.stride)
    print("\n".join(violations))
    print(f"{count:,} points, {len(violations)} violations, {time.monotonic() - begin_s:.0f} s")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
