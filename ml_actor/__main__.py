"""The ML process.

    python -m ml_actor [--config FILE] [--state-dir DIR] [--port N | --ipc FILE] [--ready-line] [--lockstep]

With `--ready-line` it belongs to a parent: one JSON line on stdout says when it is ready and where, and it ends when its
stdin does. Exit codes are those of `framework.errors`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from framework.config import MainConfig
from framework.errors import TidebookError
from framework.logs import setup_logging
from framework.parent_death import die_with_parent
from framework.strict_yaml import load_main_config
from ml_actor.composition import MLProcess, make_private
from ml_actor.server import endpoint_of

log = logging.getLogger("MLService")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the ML process to its end and return the exit code."""
    options = _parser().parse_args(arguments)
    if options.ready_line:
        die_with_parent()
    setup_logging(level="INFO", stream=sys.stderr)
    try:
        config = _config(options)
        _limit_memory(config.ml_service.memory_limit_mb)
        make_private(options.state_dir)
        endpoint = f"ipc://{options.ipc}" if options.ipc else endpoint_of(config.ml_service.server)
        ml_process = MLProcess(
            config, options.state_dir, endpoint, wall_ns=time.time_ns, timer=time.perf_counter, is_lockstep=options.lockstep
        )
        ml_process.open()
        gc.collect()
        gc.freeze()  # what is loaded stays: the collector need not walk over it between two predictions
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(ml_process, ready_line=options.ready_line))
    except TidebookError as exc:
        log.error("%s", exc)
        return exc.exit_code
    return 0


async def _serve(ml_process: MLProcess, *, ready_line: bool) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        ml_process.start()
        endpoint, version = ml_process.server.endpoint, ml_process.service.model_version
        log.info("ML service listens at %s (model %s)", endpoint, version or "none yet")
        if ready_line:
            sys.stdout.write(json.dumps({"ready": True, "endpoint": endpoint, "model_version": version, "pid": os.getpid()}) + "\n")
            sys.stdout.flush()
            _watch_stdin(lambda: loop.call_soon_threadsafe(stop.set))
        await stop.wait()
        log.info("ML service stops")
    finally:
        await ml_process.close()


def _watch_stdin(on_end: Callable[[], object]) -> None:
    """Call `on_end` from a thread when stdin ends: whoever held it is gone."""

    def wait_for_end() -> None:
        while os.read(0, 4_096):
            pass
        on_end()

    # A thread, because stdin may be a file or /dev/null, which no loop can watch.
    threading.Thread(target=wait_for_end, name="stdin", daemon=True).start()


def _config(options: argparse.Namespace) -> MainConfig:
    config = load_main_config(options.config) if options.config else MainConfig()
    if options.port is None:
        return config
    server = config.ml_service.server.model_copy(update={"port": options.port})
    return config.model_copy(update={"ml_service": config.ml_service.model_copy(update={"server": server})})


def _limit_memory(limit_mb: int) -> None:
    """Let an allocation beyond the limit fail here, before the machine runs out (a child inherits the limit)."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = limit_mb << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ml_actor", description="Serve predictions and train models.")
    parser.add_argument("--config", type=Path, help="config/main.yaml (default: the defaults)")
    parser.add_argument("--state-dir", type=Path, default=Path(".tidebook"), help="models, dataset, feedback (default .tidebook)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--port", type=int, help="TCP port instead of ml_service.server.port; 0: any free one")
    where.add_argument("--ipc", type=Path, help="listen on this socket file, in a directory of mode 0700, instead of TCP")
    parser.add_argument("--ready-line", action="store_true", help="run as a child: ready line on stdout, end with stdin")
    parser.add_argument(
        "--lockstep", action="store_true", help="market time waits for every reply: decide about models before the next one"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
