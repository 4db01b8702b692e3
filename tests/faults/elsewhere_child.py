"""A trading core in a process of its own, whose venue lives in another one: what `elsewhere` stops, hangs and kills.

    python -m tests.faults.elsewhere_child STATE_DIR SEED ORDERS WAY

It starts as `start` does (fold, reconcile), sends so many orders, resting ones and ones that trade, and says so. Then it goes on
answering, or hangs.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from framework.config import PaperConfig
from framework.messages import BookSnapshot
from framework.model import IN_FLIGHT, NS_PER_S, OrderType, Side, TimeInForce, TradingState
from framework.operations import control, kills
from framework.operations.state_dir import StateDir
from framework.parent_death import die_with_parent
from framework.trading.journal import Journal
from framework.venues.elsewhere.venue import VenueElsewhere
from tests.trading.conftest import INSTRUMENT, book, submit
from tests.trading.room import Room

STRATEGIES = ("s", "t")


def deep_book(ts_event: int, sequence: int) -> BookSnapshot:
    """Return a book that has enough for everything: the last one before the process died is all that the venue has to trade with."""
    return msgspec.structs.replace(book(ts=ts_event, sequence=sequence), bid_sizes=(500, 500), ask_sizes=(500, 500))


class Desk:
    """The room at its end of the line, in market time that goes with the machine's."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self._start_ns = time.monotonic_ns()
        self._base_ns = room.clock.now_ns()
        self.number = 0

    @staticmethod
    async def open(state_dir: Path, journal: Journal) -> Desk:
        """Connect, fold, and ask the venue about the run before."""
        venue = VenueElsewhere(PaperConfig(own_process=True), (INSTRUMENT,), speed=1.0)
        await venue.connect(state_dir)
        room = Room(journal, venue)
        room.execution.sight._is_killed = kills.reader(state_dir)
        room.execution.recover()
        room.execution.reconcile()
        room.bus.drain()
        return Desk(room)

    async def turn(self, seconds: float = 0.02) -> None:
        """Let the line speak, and time pass."""
        await asyncio.sleep(seconds)
        now_ns = self._base_ns + time.monotonic_ns() - self._start_ns
        self.room.wait((now_ns - self.room.clock.now_ns()) / NS_PER_S)
        self.room.bus.drain()

    async def trade(self, rng: random.Random) -> None:
        """Show a book, and send an order that rests or one that trades."""
        self.number += 1
        await self.turn()
        now_ns = self.room.clock.now_ns()
        self.room.show(deep_book(now_ns, self.number + 1))
        side, rests = rng.choice(tuple(Side)), rng.random() < 0.5
        strategy_id = rng.choice(STRATEGIES)
        terms: dict[str, Any] = {"ts_event": now_ns, "strategy_id": strategy_id, "quantity": rng.randint(1, 5)}
        if rests:
            terms["limit_ticks"] = 100 - side.sign * rng.randint(3, 20)
        else:
            terms |= {"order_type": OrderType.MARKET, "limit_ticks": None, "time_in_force": TimeInForce.IOC}
        self.room.tell(submit(f"{strategy_id}-{self.number}", side, **terms))

    async def handle(self, command: control.AnyCommand) -> Any:
        """Halt, as the running process does."""
        assert isinstance(command, control.Halt)
        self.room.execution.set_state(TradingState.HALTED, "a test asked")
        if command.flatten:
            self.room.execution.flatten("a test asked")
        self.room.bus.drain()
        return {}


async def main(state: StateDir, seed: int, orders: int, way: str) -> None:
    """Trade, then hang or answer until somebody ends it."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
    desk = await Desk.open(state.path, Journal(state.journal))
    server = control.ControlServer(state.path, desk.handle)
    await server.start()
    rng = random.Random(seed)
    for _ in range(orders):
        await desk.trade(rng)
    while any(order.status in IN_FLIGHT for order in desk.room.execution.open_orders()):
        await desk.turn()
    sys.stdout.write("standing\n")
    sys.stdout.flush()
    while way != "hangs":
        await desk.turn()
        desk.room.show(deep_book(desk.room.clock.now_ns(), desk.number + 2))
        desk.number += 1
    while True:
        time.sleep(1)


async def second_life(state_dir: Path) -> tuple[list[str], dict[tuple[str, str], int]]:
    """Start again, let the venue say what became of everything, and return what is open and held by our own books."""
    with StateDir(state_dir) as state:
        journal = Journal(state.journal)
        desk = await Desk.open(state_dir, journal)
        end_s = time.monotonic() + 10
        while any(order.status in IN_FLIGHT for order in desk.room.execution.open_orders()) and time.monotonic() < end_s:
            await desk.turn()
        await desk.turn(0.2)
        positions = {key: one.quantity for key, one in desk.room.execution.portfolio.positions().items() if one.quantity}
        opened = [order.client_order_id for order in desk.room.execution.open_orders()]
        journal.verify()
        desk.room.venue.stop()
        journal.close()
    return opened, positions


if __name__ == "__main__":
    die_with_parent()
    logging.disable(logging.CRITICAL)
    with StateDir(Path(sys.argv[1])) as owned:
        asyncio.run(main(owned, int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
