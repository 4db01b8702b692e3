"""A trading room that is killed while it works: five orders, each filled, on a journal on the disk. Prints what it promised."""

from __future__ import annotations

import sys
from pathlib import Path

from framework.messages import SubmitOrder
from framework.trading.journal import Journal
from tests.trading.conftest import submit
from tests.trading.room import Room, fill


def main(path: Path) -> None:
    room = Room(Journal(path))
    room.execution.recover()

    def promise(order: SubmitOrder) -> None:
        print("sent", order.client_order_id, flush=True)

    room.scripted.on_submit = promise
    for n in range(5):
        room.tell(submit(f"o{n}"))
        if f"o{n}" not in room.scripted.submitted:
            break
        room.tell(fill(1, 100, f"t{n}", f"o{n}"))
        if room.journal.is_healthy:
            print("filled", f"o{n}", flush=True)
    print("healthy" if room.journal.is_healthy else "failed", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
