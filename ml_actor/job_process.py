"""A process that does one job of the command line: read the job's file, say how far it is, print one result, die with its parent.

Lines on stdout are JSON objects; the last one is `{"result": {...}}` with `ok`, and for a refusal `reason` and `exit_code` (that of the
command line). Only a fault of the program ends the process with another code than 0; its trace goes to stderr.
"""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeVar

import msgspec

from framework.errors import StorageError, TidebookError
from framework.parent_death import die_with_parent

Job = TypeVar("Job")
Say = Callable[[Any], None]
OUT_OF_MEMORY: Final = "out of memory: give it fewer or shorter recordings"


def run_job(arguments: Sequence[str] | None, *, prog: str, description: str, job_type: type[Job], work: Callable[[Job, Say], Any]) -> int:
    """Do the job that `--job FILE` names and return the exit code of the process. `work(job, say)` returns the result."""
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description=description)
    parser.add_argument("--job", type=Path, required=True, help=f"JSON file of a {job_type.__name__}")
    job = msgspec.json.decode(parser.parse_args(arguments).job.read_bytes(), type=job_type)
    die_with_parent()
    try:
        say({"result": work(job, say)})
    except TidebookError as exc:
        _refuse(str(exc), exc.exit_code)
    except MemoryError:
        _refuse(OUT_OF_MEMORY, StorageError.exit_code)
    # The parent waits for one result line whatever happens: a fault is told as such, with its trace on stderr.
    except Exception as exc:  # noqa: BLE001
        traceback.print_exc()
        _refuse(f"fault: {type(exc).__name__}: {exc}", 1)
        return 1
    return 0


def leave(_number: int, _frame: FrameType | None) -> None:
    """Leave on SIGTERM by an exception, not at once: workers and clusters are shut down on the way out."""
    raise SystemExit(128 + signal.SIGTERM)


def say(line: Any) -> None:
    """Print one line for the parent."""
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def progress_to(say_line: Say) -> Callable[[str, float], None]:
    """Return a function that says a stage and the share of it that is done."""
    return lambda stage, fraction: say_line({"stage": stage, "fraction": fraction})


def _refuse(reason: str, exit_code: int) -> None:
    say({"result": {"ok": False, "reason": reason, "exit_code": exit_code}})
