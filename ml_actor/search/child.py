"""The work of a search's process; `python -m ml_actor.search` starts it with one thread a library."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from framework.search_job import SearchJob, SearchResult
from ml_actor.job_process import Say, leave, progress_to, run_job
from ml_actor.search.run import search


def _work(job: SearchJob, say: Say) -> SearchResult:
    signal.signal(signal.SIGTERM, leave)
    return search(job, progress_to(say))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job file in this process; progress and result on stdout."""
    return run_job(arguments, prog="ml_actor.search", description="Search for settings of a model.", job_type=SearchJob, work=_work)


if __name__ == "__main__":
    sys.exit(main())
