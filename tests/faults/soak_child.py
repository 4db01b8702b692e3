"""The trading process of a soak: `start` as users run it, which also writes down what it holds.

    python -m tests.faults.soak_child STATE_DIR SECONDS SAMPLES

SAMPLES is a file that gets a line of JSON every `SAMPLED_S` seconds.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

import framework.app as app
from framework.operations import first_training
from framework.operations.options import StartOptions
from framework.operations.trading_process import TradingProcess
from framework.parent_death import die_with_parent
from framework.strict_yaml import load_main_config
from tests.faults.held import sample

SAMPLED_S: Final = 5.0
HISTORY_S: Final = 600
CONFIG: Final = """\
ml_service:
  client: {host: 127.0.0.1, port: 0}
  server: {host: 127.0.0.1, port: 0}
  timeout: 1.0
  heartbeat_misses: 10
  max_restarts: 100000
  restart_window_s: 5
"""


async def _sample(path: Path) -> None:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    with path.open("ab") as file:
        while True:
            await asyncio.sleep(SAMPLED_S)
            held = sample(loop.time() - began_s, len(asyncio.all_tasks()), 0)  # uvloop does not say how many timers it has
            file.write(msgspec.json.encode(held._asdict()) + b"\n")
            file.flush()


def main(state_dir: Path, seconds: float, samples: Path) -> None:
    """Run so long, or until somebody ends it."""
    tasks: list[asyncio.Task[None]] = []
    build = app.build

    def build_and_sample(*arguments: Any, **options: Any) -> TradingProcess:
        tasks.append(asyncio.get_running_loop().create_task(_sample(samples)))
        return build(*arguments, **options)

    app.build = build_and_sample
    first_training.HISTORY_S = HISTORY_S  # type: ignore[misc]  # how good the model is does not matter here
    path = samples.with_name("soak.yaml")
    path.write_text(CONFIG, encoding="utf-8")
    config = load_main_config(path)
    options = StartOptions(config=config, config_path=path, state_dir=state_dir, duration_s=seconds or None, is_headless=True, is_json=True)
    print(app.run_framework(options).to_json(), flush=True)


if __name__ == "__main__":
    die_with_parent()
    main(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
