"""The child process of an explanation: nothing is fitted here.

    python -m ml_actor.explanation --job FILE.json

prints `{"result": {"ok": true, "explanation": {...}}}`, or a refusal.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from framework.explanation_job import ExplanationJob
from ml_actor import openmp
from ml_actor.job_process import run_job


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job in this process; the result is the last line of stdout."""
    openmp.preload()
    # What it needs of the models imports LightGBM, which a machine without OpenMP can only load from here on.
    from ml_actor.explanation.account import explain

    return run_job(
        arguments,
        prog="ml_actor.explanation",
        description="Explain one prediction.",
        job_type=ExplanationJob,
        work=lambda job, _say: {"ok": True, "explanation": explain(job)},
    )


if __name__ == "__main__":
    sys.exit(main())
