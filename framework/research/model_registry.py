"""Model versions, asked of whoever serves them, or of their directory while nobody does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from framework.models_job import ModelsJob
from framework.operations import control
from framework.operations.state_dir import StateDir
from framework.research.learning_child import run_job

MODULE = "ml_actor.model_verbs"


def ask(state_dir: Path, command: control.Models) -> dict[str, Any]:
    """Carry out `command` and return champion, versions and facts. Blocks.

    Raises what the running process answers; without one `ConfigError` for a version that is not there, `IntegrityError` for one
    that is damaged, `StartRefused` while somebody else owns the directory.
    """
    try:
        found: dict[str, Any] = control.ask(state_dir, command)
        return found
    except control.NobodyThere:
        if not StateDir(state_dir).models.is_dir():
            raise
    job = ModelsJob(
        models_dir=str(StateDir(state_dir).models),
        action=command.action,
        version_id=command.version_id or "",
        other_id=command.other_id or "",
        reason=command.reason,
    )
    with StateDir(state_dir), tempfile.TemporaryDirectory(prefix="models-") as scratch:
        return run_job(MODULE, job, Path(scratch), lambda _: None)
