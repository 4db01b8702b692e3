"""What is asked about model versions while nobody serves them: written by the command line, read by `ml_actor.model_verbs`."""

from __future__ import annotations

import msgspec


class ModelsJob(msgspec.Struct, frozen=True, kw_only=True):
    """One action on a directory of versions, as `framework.wire.ModelsRequest` has it."""

    models_dir: str
    action: str = "list"
    version_id: str = ""
    other_id: str = ""
    reason: str = ""
