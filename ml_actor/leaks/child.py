"""The work of the process that checks; `python -m ml_actor.leaks` starts it with one thread a library."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from framework.errors import TidebookError
from framework.leak_job import JobResult, LeakJob
from framework.parent_death import die_with_parent
from ml_actor.leaks.checks import run


def _say(line: Any) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job in this process, niced, dying with its parent; findings and result on stdout."""
    parser = argparse.ArgumentParser(prog="python -m ml_actor.leaks", description="Check features, labels and models for leaks.")
    parser.add_argument("--job", type=Path, required=True, help="JSON file of a LeakJob")
    job = msgspec.json.decode(parser.parse_args(arguments).job.read_bytes(), type=LeakJob)
    die_with_parent()
    os.nice(10)
    try:
        for finding in run(job, lambda stage, fraction: _say({"stage": stage, "fraction": fraction})):
            _say({"finding": finding})
    except TidebookError as exc:
        _say({"result": JobResult(ok=False, reason=str(exc), exit_code=exc.exit_code)})
        return 0
    # The parent waits for one result line whatever happens: a fault is told as such, with its trace on stderr.
    except Exception as exc:  # noqa: BLE001
        traceback.print_exc()
        _say({"result": JobResult(ok=False, reason=f"fault: {type(exc).__name__}: {exc}")})
        return 1
    _say({"result": JobResult(ok=True)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
