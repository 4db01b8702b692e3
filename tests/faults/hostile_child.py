"""What hostile peers attack, each in a process of its own: it prints where it is, and ends with its stdin.

python -m tests.faults.hostile_child service DIRECTORY      # the rim of the ML process; with CURVE keys if the directory has some
python -m tests.faults.hostile_child control DIRECTORY      # the operator's socket
python -m tests.faults.hostile_child client ENDPOINT        # strategies that ask whoever listens there; says how that ended
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import uvloop

from framework.config import CurveKeys, MLServer
from framework.inference.client import ClientSettings, MLClient
from framework.inference.transport import ZmqTransport
from framework.operations import control
from framework.parent_death import die_with_parent
from ml_actor.composition import blank_window
from ml_actor.server import RouterServer
from ml_actor.service import MLService
from tests.inference.stub_service import SCORES

ASKED_EVERY_S: Final = 0.01
TIMEOUT_S: Final = 0.5
KEYS: Final = "server.key_secret"
CLIENTS: Final = "clients"


def _ready(where: str) -> None:
    print(json.dumps({"at": where}), flush=True)


async def _until_end() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def stub() -> MLService:
    """Return the real service with a model that computes nothing."""
    predictor: Any = SimpleNamespace(version="v1", window_rows=100, horizon_rows=20, is_calibrated=True, predict=lambda _: SCORES)
    models: Any = SimpleNamespace(champion=lambda: "v1", versions=tuple, load_champion=lambda: predictor, decisions=tuple)
    trainer: Any = SimpleNamespace(is_running=False, status=dict)
    store: Any = SimpleNamespace(count=0, add=lambda items, received_ns: len(items))
    service = MLService(models, trainer, store, wall_ns=time.time_ns, timer=time.perf_counter)
    service.use(predictor)
    return service


async def service(directory: str) -> None:
    """Serve on loopback."""
    secret = Path(directory) / KEYS
    keys = CurveKeys(server_secret_file=str(secret), allowed_clients_dir=str(secret.with_name(CLIENTS))) if secret.exists() else None
    router = RouterServer(stub(), "tcp://127.0.0.1:0", server=MLServer(host="127.0.0.1", port=0, curve=keys))
    router.start()
    _ready(router.endpoint)
    await _until_end()
    await router.close()


async def operator(directory: str) -> None:
    """Answer commands."""

    async def handle(_: control.AnyCommand) -> Any:
        return {"pong": True}

    server = control.ControlServer(Path(directory), handle)
    await server.start()
    _ready(directory)
    await _until_end()
    await server.stop()


async def client(endpoint: str) -> None:
    """Ask until the end, then say how many asked, ended, and ended twice."""
    one = MLClient(ZmqTransport(endpoint), settings=ClientSettings(), run_id="run", session="victim")
    one.start()
    _ready(endpoint)
    ends: Counter[str] = Counter()
    names: list[str] = []
    end = asyncio.ensure_future(_until_end())
    while not end.done():
        number = len(names)
        names.append(
            one.request_prediction(
                blank_window(), strategy_id="s", timeout_s=TIMEOUT_S, on_outcome=lambda *_, number=number: ends.update((str(number),))
            )
        )
        await asyncio.wait((end,), timeout=ASKED_EVERY_S)
    await asyncio.sleep(2 * TIMEOUT_S)
    twice = sum(count > 1 for count in ends.values())
    stats = one.stats()
    await one.close()
    print(json.dumps({"asked": len(names), "ended": len(ends), "twice": twice, "received": stats["received"]}), flush=True)


KINDS: Final[dict[str, Callable[[str], Awaitable[None]]]] = {"service": service, "control": operator, "client": client}


async def main(kind: str, where: str) -> None:
    """Be one of them."""
    await KINDS[kind](where)


if __name__ == "__main__":
    die_with_parent()
    logging.disable(logging.CRITICAL)
    uvloop.run(main(sys.argv[1], sys.argv[2]))
