"""What `halt` does at a venue elsewhere, over a kill line: cancel until confirmed, and close what is held."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from framework.config import RiskLimits
from framework.messages import SubmitOrder
from framework.trading.fold import replay
from framework.trading.journal import Journal
from framework.trading.records import RunStarted
from framework.trading.watch import FLATTEN, closing_order
from framework.venues.elsewhere.frames import SOCKET_NAME
from framework.venues.elsewhere.kill_line import PaperKillLine
from framework.venues.port import Holder, KillLine

KILL_SOCKET: Final = "kill.sock"
CONFIRM_S: Final = 10.0
AGAIN_S: Final = 0.1
MOST_ROUNDS: Final = 5


class Emptied(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a venue: orders that ended, orders that it still has, lots that were closed and that are left (signed)."""

    canceled: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    closed: dict[str, int] = {}
    left: dict[str, int] = {}


@contextmanager
def kill_line(state_dir: Path) -> Iterator[PaperKillLine | None]:
    """Give the line of the kill process, or one of our own where that has died; None where the venue is not elsewhere."""
    line = _line(state_dir)
    try:
        yield line
    finally:
        if line is not None:
            line.close()


def _line(state_dir: Path) -> PaperKillLine | None:
    for name in (KILL_SOCKET, SOCKET_NAME):
        try:
            return PaperKillLine(state_dir, name)
        except OSError:
            continue
    return None


def empty(line: KillLine, *, within_s: float = CONFIRM_S, sleep: Callable[[float], None] = time.sleep) -> Emptied:
    """Cancel everything at a venue, again and again, until it says that nothing is open or the time is over."""
    standing = line.standing()
    seen, left = dict.fromkeys(standing.canceled), standing.open_orders
    for _ in range(round(within_s / AGAIN_S)):
        if not left:
            break
        seen |= dict.fromkeys(left)
        line.cancel_everything()
        sleep(AGAIN_S)
        standing = line.standing()
        seen |= dict.fromkeys(standing.canceled)
        left = standing.open_orders
    return Emptied(canceled=tuple(name for name in seen if name not in left), unconfirmed=left)


def close_positions(line: KillLine, journal: Journal) -> Emptied:
    """Close what is held at a venue with reduce-only orders inside the collar, until it is flat or nothing trades any more.

    By the rules of the running process: each intent is durable before it leaves, what the venue says is written down. The caller owns
    the journal; nothing may be open at the venue.
    """
    past = replay(journal)
    number, collar = past.ids.get(FLATTEN, 0), _collar(journal)
    before = {holder: lots for holder, lots in line.standing().positions.items() if lots}
    left = before
    for _ in range(MOST_ROUNDS):
        if not left:
            break
        for holder, lots in left.items():
            number += 1
            order = closing_order(number, holder, lots, past.last_order_ns.get(holder[1], 0))
            best = line.best(order.instrument_id, order.side.opposite)
            limit_ticks = None if best is None else best + order.side.sign * collar
            _close(line, journal, msgspec.structs.replace(order, limit_ticks=limit_ticks))
        left = {holder: lots for holder, lots in line.standing().positions.items() if lots}
    return Emptied(closed=_named(_difference(before, left)), left=_named(left))


def _close(line: KillLine, journal: Journal, order: SubmitOrder) -> None:
    journal.append("SubmitOrder", order, durable=True, key=order.client_order_id)
    for report in line.send(order):
        journal.append("ExecutionReport", report, durable=True, key=report.client_order_id)


def _collar(journal: Journal) -> int:
    """Return the price collar of the last run, ticks."""
    collar = RiskLimits().price_collar_ticks
    for record in journal.records("RunStarted"):
        if isinstance(record.message, RunStarted) and record.message.settings:
            collar = int(json.loads(record.message.settings)["risk"]["price_collar_ticks"])
    return collar


def _difference(before: dict[Holder, int], left: dict[Holder, int]) -> dict[Holder, int]:
    changes = {holder: lots - left.get(holder, 0) for holder, lots in before.items()}
    return {holder: lots for holder, lots in changes.items() if lots}


def _named(lots: dict[Holder, int]) -> dict[str, int]:
    return {f"{strategy_id} {instrument_id}": count for (strategy_id, instrument_id), count in lots.items()}
