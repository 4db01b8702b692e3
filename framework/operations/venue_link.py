"""A venue in a process of its own: found or started, connected, and the second process of `halt` beside it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from framework import unix_sockets
from framework.errors import StartRefused
from framework.kernel.spawn import SpawnedChild, finding_us, spawn
from framework.operations.state_dir import StateDir
from framework.operations.trading_process import TradingProcess
from framework.operations.venue_halt import KILL_SOCKET
from framework.venues.elsewhere.frames import SOCKET_NAME
from framework.venues.elsewhere.venue import VenueElsewhere

READY_S: Final = 30.0
log = logging.getLogger("Tidebook")


@asynccontextmanager
async def venue_beside(process: TradingProcess, state: StateDir) -> AsyncIterator[None]:
    """Keep the venue's process and the kill process for as long as the block runs; they outlive us if we die in it.

    Does nothing where the venue lives in this process. Raises `StartRefused` when one of them does not start.
    """
    venue = process.market.venue
    if not isinstance(venue, VenueElsewhere):
        yield
        return
    children = [await _started(state, "venue_process", SOCKET_NAME)]
    try:
        await venue.connect(state.path)
        children.append(await _started(state, "kill_process", KILL_SOCKET))
        venue.on_heard = process.pacer.catch_up
        venue.on_lost = lambda reason: process.escalate("venue", reason)
        yield
    finally:
        venue.stop()
        await _end(children)


async def _started(state: StateDir, module: str, socket_name: str) -> SpawnedChild | None:
    """Start a process unless one listens already (None); return when it is ready."""
    if unix_sockets.is_served(state.path, socket_name):
        log.info("%s: one of the run before is still there", module)
        return None
    argv = (sys.executable, "-m", f"framework.operations.{module}", str(state.path))
    child = await spawn(argv, env=finding_us(os.environ), log_path=state.path / f"{module}.log")
    await asyncio.wait((child.first_line, child.gone), timeout=READY_S, return_when=asyncio.FIRST_COMPLETED)
    if not child.first_line.done():
        child.kill()
        raise StartRefused(f"{module} does not start ({_how(child)}); see {state.path / f'{module}.log'}")
    log.info("%s is process %s", module, json.loads(child.first_line.result())["pid"])
    return child


def _how(child: SpawnedChild) -> str:
    return child.how_it_ended() if child.gone.done() else f"not ready within {READY_S:g} s"


async def _end(children: list[SpawnedChild | None]) -> None:
    """Wait until those that we started have ended (a clean stop ends them), and end what does not."""
    for child in filter(None, children):
        await asyncio.wait((child.gone,), timeout=2.0)
        if not child.gone.done():
            child.kill()
            await child.gone
        child.close()
