"""The work of an evaluation's process; `python -m ml_actor.evaluate` starts it with one thread a library."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from framework.evaluation_job import EvaluationJob, EvaluationResult
from ml_actor.evaluate.run import evaluate
from ml_actor.job_process import Say, leave, progress_to, run_job


def _work(job: EvaluationJob, say: Say) -> EvaluationResult:
    signal.signal(signal.SIGTERM, leave)
    return evaluate(job, progress_to(say))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job file in this process; progress and result on stdout."""
    return run_job(
        arguments, prog="ml_actor.evaluate", description="Fit, predict and score recordings.", job_type=EvaluationJob, work=_work
    )


if __name__ == "__main__":
    sys.exit(main())
