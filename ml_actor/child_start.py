"""How the child process of a job begins: with the environment that its libraries need, which cannot be set once they are there.

The loader looks for LightGBM's runtime when the process begins, and thread pools read the environment when numpy is imported: so
this sets the environment and goes on as another module, in the same process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ml_actor.openmp import openmp_environment
from ml_actor.training_job import CHILD_ENVIRONMENT


def become(module: str) -> None:
    """Go on as `python -m module` with this process's arguments, the last of which is the job's file. Does not return."""
    job = Path(sys.argv[-1])
    environment = {**os.environ, **CHILD_ENVIRONMENT, **openmp_environment(job.resolve().parent / "lib")}
    os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], environment)
