"""The process that a paper venue of its own lives in.

    python -m framework.operations.venue_process STATE_DIR

It outlives the trading process: orders rest on while that is hung, killed or started again. A clean stop ends it, and so do ten minutes
without a line for orders.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

from framework import unix_sockets
from framework.errors import StartRefused, StorageError
from framework.venues.elsewhere.frames import SOCKET_NAME
from framework.venues.elsewhere.host import Host

ORPHAN_S: Final = 600.0
LOOK_S: Final = 1.0
log = logging.getLogger("Venue")


async def main(state_dir: Path, orphan_s: float = ORPHAN_S) -> int:
    """Serve until a clean stop, SIGTERM, or nobody has traded here for so long."""
    if unix_sockets.is_served(state_dir, SOCKET_NAME):
        log.error("a venue serves in %s already", state_dir)
        return StartRefused.exit_code
    host = Host(state_dir)
    try:
        await host.start()
    except OSError as exc:
        log.error("venue in %s: %s", state_dir, exc)
        return StorageError.exit_code
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, host.ended.set)
    sys.stdout.write(json.dumps({"pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    try:
        while not host.ended.is_set():
            if not host.has_orders_line and loop.time() - host.left_s > orphan_s:
                log.warning("nobody has traded here for %g s: the venue ends", orphan_s)
                break
            await _until(host.ended)
    finally:
        host.stop()
    return 0


async def _until(event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_S):
            await event.wait()
    except TimeoutError:
        return


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s | %(levelname)s | %(name)s | %(message)s")
    sys.exit(asyncio.run(main(Path(sys.argv[1]), *(float(one) for one in sys.argv[2:3]))))
