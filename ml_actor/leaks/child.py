"""The work of the process that checks; `python -m ml_actor.leaks` starts it with one thread a library."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from framework.leak_job import JobResult, LeakJob
from ml_actor.job_process import Say, progress_to, run_job
from ml_actor.leaks.checks import run


def _work(job: LeakJob, say: Say) -> JobResult:
    os.nice(10)
    for finding in run(job, progress_to(say)):
        say({"finding": finding})
    return JobResult(ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job in this process, niced; findings and result on stdout."""
    return run_job(
        arguments, prog="ml_actor.leaks", description="Check features, labels and models for leaks.", job_type=LeakJob, work=_work
    )


if __name__ == "__main__":
    sys.exit(main())
