"""The work of an evaluation's process; `python -m ml_actor.evaluate` starts it with one thread a library.

It prints progress lines `{"stage": ..., "fraction": ...}` and last `{"result": {...}}` (`EvaluationResult`). What cannot be scored is
refused with a reason and the exit code for the command line; only a fault of the program ends this process with another
code than 0.
"""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from framework.errors import TidebookError
from framework.evaluation_job import EvaluationJob, EvaluationResult
from framework.parent_death import die_with_parent
from ml_actor.evaluate.run import evaluate


def _say(line: Any) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def _leave(_number: int, _frame: FrameType | None) -> None:
    # An exception, not the end at once: workers and clusters are shut down on the way out.
    raise SystemExit(128 + signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job file in this process, dying with its parent; progress and result on stdout."""
    parser = argparse.ArgumentParser(prog="python -m ml_actor.evaluate", description="Fit, predict and score recordings.")
    parser.add_argument("--job", type=Path, required=True, help="JSON file of an EvaluationJob")
    job = msgspec.json.decode(parser.parse_args(arguments).job.read_bytes(), type=EvaluationJob)
    die_with_parent()
    signal.signal(signal.SIGTERM, _leave)
    try:
        result = evaluate(job, lambda stage, fraction: _say({"stage": stage, "fraction": fraction}))
    except TidebookError as exc:
        result = EvaluationResult(ok=False, reason=str(exc), exit_code=exc.exit_code)
    except MemoryError:
        result = EvaluationResult(ok=False, reason="out of memory: name fewer or shorter recordings", exit_code=5)
    # The parent waits for one result line whatever happens: a fault is told as such, with its trace on stderr.
    except Exception as exc:  # noqa: BLE001
        traceback.print_exc()
        _say({"result": EvaluationResult(ok=False, reason=f"fault: {type(exc).__name__}: {exc}", exit_code=1)})
        return 1
    _say({"result": result})
    return 0


if __name__ == "__main__":
    sys.exit(main())
