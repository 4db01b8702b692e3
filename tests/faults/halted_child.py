"""A trading core in a process of its own, which sends as fast as it can: what `halted_processes` closes the gate of.

    python -m tests.faults.halted_child STATE_DIR PEER HANG_AFTER

PEER is a file: the venue's end of the line, which gets the time (monotonic, ns) and the id of each order that leaves. After HANG_AFTER
orders the strategy never gives the loop its turn again, says so, and goes on sending (0: it does).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from framework.messages import ExecutionReport, ReportKind, SubmitOrder
from framework.model import TradingState
from framework.operations import control, kills
from framework.operations.state_dir import StateDir
from framework.parent_death import die_with_parent
from framework.trading.journal import Journal
from tests.trading.conftest import NOW, book, submit
from tests.trading.room import Room, ScriptedVenue


class Peer(ScriptedVenue):
    """A venue that writes down what arrives, when, and ends each order at once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.ended: list[str] = []

    def submit(self, order: SubmitOrder) -> None:
        os.write(self._descriptor, f"{time.monotonic_ns()} {order.client_order_id}\n".encode())
        self.ended.append(order.client_order_id)

    def cancel(self, client_order_id: str) -> None:
        self.ended.append(client_order_id)


class Desk:
    """The room, the strategy in it, and the operator's door."""

    def __init__(self, journal: Journal, peer: Peer, is_killed: Callable[[], bool]) -> None:
        self._peer = peer
        self._room = Room(journal, peer)
        self._room.execution.sight._is_killed = is_killed
        self._start_ns = time.monotonic_ns()
        self.number = 0

    def trade(self) -> None:
        """Show a book, send an order, and hear what became of it."""
        self.number += 1
        room, now_ns = self._room, NOW + time.monotonic_ns() - self._start_ns
        room.clock.advance_to(now_ns)
        room.show(book(ts=now_ns, sequence=self.number + 1))
        room.tell(submit(f"o-{self.number}", ts_event=now_ns))
        for name in self._peer.ended:
            room.tell(ExecutionReport(client_order_id=name, kind=ReportKind.CANCELED, ts_event=now_ns))
        self._peer.ended.clear()

    async def handle(self, command: control.AnyCommand) -> Any:
        """Halt or resume."""
        state = TradingState.HALTED if isinstance(command, control.Halt) else TradingState.ACTIVE
        self._room.execution.set_state(state, "a test asked")
        self._room.bus.drain()
        return {"trading_state": state}


async def main(state: StateDir, peer: Path, hang_after: int) -> None:
    """Trade until somebody ends it."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)  # heard by a loop that has its turn
    desk = Desk(Journal(state.journal), Peer(peer), kills.reader(state.path))
    server = control.ControlServer(state.path, desk.handle)
    await server.start()
    print("up", flush=True)
    while True:
        desk.trade()
        if desk.number == hang_after:
            print("hangs", flush=True)
        if not hang_after or desk.number < hang_after:
            await asyncio.sleep(0)


if __name__ == "__main__":
    die_with_parent()
    logging.disable(logging.CRITICAL)
    with StateDir(Path(sys.argv[1])) as owned:
        asyncio.run(main(owned, Path(sys.argv[2]), int(sys.argv[3])))
