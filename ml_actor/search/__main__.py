"""The child process of a search for settings.

    python -m ml_actor.search --job FILE.json

Thread pools read the environment when numpy is imported, and the loader looks for LightGBM's runtime when the process begins: so
this sets the environment and goes on as `ml_actor.search.child`, in the same process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ml_actor.openmp import openmp_environment
from ml_actor.training_job import CHILD_ENVIRONMENT


def main() -> None:
    """Become the child with the environment that it needs."""
    job = Path(sys.argv[-1])
    environment = {**os.environ, **CHILD_ENVIRONMENT, **openmp_environment(job.resolve().parent / "lib")}
    os.execve(sys.executable, [sys.executable, "-m", "ml_actor.search.child", *sys.argv[1:]], environment)


if __name__ == "__main__":
    main()
