"""Training: read, label, fit, calibrate, evaluate on the last slice, save. Runs in a child process of its own.

    python -m ml_actor.training --job FILE.json

prints progress lines `{"stage": ..., "fraction": ...}` and last `{"result": {...}}` (`TrainingResult`). What cannot be
trained is refused with a reason; only a fault of the program ends with another exit code than 0. The parent sets
`training_job.CHILD_ENVIRONMENT` before the start. Importing this module imports the learning libraries; a serving process
imports `training_job` instead.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from framework.dataset import read_dataset
from framework.errors import IntegrityError
from framework.parent_death import die_with_parent
from ml_actor.outcomes import read_feedback
from ml_actor.pipeline import Report, train_on
from ml_actor.preparation import Recording
from ml_actor.training_job import TrainingJob, TrainingResult


def train(job: TrainingJob, report: Report) -> TrainingResult:
    """Train on the dataset of `job` and save a version: `pipeline.train_on` on what `read_dataset` finds.

    Returns a refusal for a damaged dataset or feedback file, and for all that `train_on` refuses.
    """
    report("read", 0.0)
    try:
        read = read_dataset(Path(job.dataset_dir), max_rows=job.max_rows)
        feedback = read_feedback(job.feedback_file) if job.feedback_file else ()
    except (IntegrityError, FileNotFoundError) as exc:
        return TrainingResult(ok=False, reason=str(exc))
    recordings = [
        Recording(instrument_id=name, tick_size=part.tick_size, has_trades=part.has_trades, rows=part.rows)
        for name, part in sorted(read.instruments.items())
    ]
    return train_on(recordings, job, feedback=feedback, refused_parts=[str(part) for part in read.refused], report=report)


def _say(line: Any) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def _restrict(memory_limit_mb: int) -> None:
    os.nice(19)
    if memory_limit_mb:
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit_mb << 20, memory_limit_mb << 20))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job file in this process: niced, within its memory limit, dying with its parent; progress and result on stdout."""
    parser = argparse.ArgumentParser(prog="python -m ml_actor.training", description="Train one model version.")
    parser.add_argument("--job", type=Path, required=True, help="JSON file of a TrainingJob")
    job = msgspec.json.decode(parser.parse_args(arguments).job.read_bytes(), type=TrainingJob)
    die_with_parent()
    _restrict(job.memory_limit_mb)
    try:
        result = train(job, lambda stage, fraction: _say({"stage": stage, "fraction": fraction}))
    except MemoryError:
        limit = f"{job.memory_limit_mb} MB" if job.memory_limit_mb else "what the machine has"
        result = TrainingResult(ok=False, reason=f"out of memory with {limit}: raise ml_service.memory_limit_mb or lower training.max_rows")
    # The parent waits for one result line whatever happens: a fault is told as such, with its trace on stderr.
    except Exception as exc:  # noqa: BLE001
        traceback.print_exc()
        _say({"result": TrainingResult(ok=False, reason=f"fault: {type(exc).__name__}: {exc}")})
        return 1
    _say({"result": result})
    return 0


if __name__ == "__main__":
    sys.exit(main())
