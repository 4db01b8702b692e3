"""An ML process with a trivial model, for tests and benchmarks: the real rim and service, nothing to compute.

python tests/inference/stub_service.py [ENDPOINT] [COMPUTE_US]

With COMPUTE_US it keeps its core busy for as long on each prediction.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from types import SimpleNamespace
from typing import Any

import uvloop

from framework.model import FlowType
from framework.parent_death import die_with_parent
from ml_actor.server import RouterServer
from ml_actor.service import MLService

SCORES = SimpleNamespace(p_down=0.2, p_flat=0.3, p_up=0.5, flow_type=FlowType.BUY, confidence=0.5, regime=0, shock_score=0.1, horizons=())


def predict_in(compute_us: float) -> Any:
    def predict(_window: Any) -> Any:
        end_s = time.perf_counter() + compute_us / 1e6
        while time.perf_counter() < end_s:
            pass
        return SCORES

    return predict if compute_us else lambda _window: SCORES


async def main(endpoint: str, compute_us: float) -> None:
    predictor: Any = SimpleNamespace(version="v1", window_rows=100, horizon_rows=20, is_calibrated=True, predict=predict_in(compute_us))
    models: Any = SimpleNamespace(champion=lambda: "v1", versions=tuple, load_champion=lambda: predictor, rollback=None)
    trainer: Any = SimpleNamespace(is_running=False, status=dict)
    store: Any = SimpleNamespace(count=0, add=lambda items, received_ns: len(items))
    service = MLService(models, trainer, store, wall_ns=time.time_ns, timer=time.perf_counter)
    service.use(predictor)
    server = RouterServer(service, endpoint)
    server.start()
    print(json.dumps({"ready": True, "endpoint": server.endpoint, "pid": os.getpid()}), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    await server.close()


if __name__ == "__main__":
    die_with_parent()
    uvloop.run(main(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:0", float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
