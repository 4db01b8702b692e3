"""What a training is asked and what it answers: plain values, so that the serving process need not import a learning library.

The parent writes `TrainingJob` as JSON, spawns `python -m ml_actor.training --job FILE` with `CHILD_ENVIRONMENT` (thread
pools read it when numpy is imported, so it must be in the environment of the child from the start) and reads stdout:
progress lines `{"stage": ..., "fraction": ...}`, last line `{"result": {...}}` (`TrainingResult`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

FULL: Final = "full"
WARM: Final = "warm"
REFITS: Final = (FULL, WARM)
CHILD_ENVIRONMENT: Final = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")
}
"""One thread: training must not take the cores that trade."""


class TrainingJob(msgspec.Struct, frozen=True, kw_only=True):
    """One training. `feedback_file` is JSON lines of `framework.wire.FeedbackItem`; `requested_ns` is kept with the version.

    `memory_limit_mb` 0 sets no limit on the child's address space. `half_life_rows`: in how many rows into the past a row's weight
    halves; 0 is no decay. `further_horizons_rows`: horizons that the version is to know beside the one that is traded. `refit` is
    "full", "warm" or "": then `full_every` says which (`refit`).
    """

    job_id: str
    dataset_dir: str
    models_dir: str
    reason: str
    feedback_file: str | None = None
    horizon_rows: int = 20
    further_horizons_rows: tuple[int, ...] = ()
    window_rows: int = 100
    min_rows: int = 3_000
    max_rows: int = 200_000
    half_life_rows: float = 0.0
    refit: str = ""
    full_every: int = 1
    seed: int = 7
    memory_limit_mb: int = 0
    requested_ns: int = 0


class TrainingResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of it. A refusal (`ok` False) names its reason.

    `promote` says whether the offline gate would make the version the champion (`is_first`: there is none to compare it with),
    `challenge` whether it may be tried against the champion, and `promote_reason` why; either is the caller's act.
    """

    ok: bool
    version: str = ""
    reason: str = ""
    metrics: dict[str, Any] = {}
    promote: bool = False
    is_first: bool = False
    challenge: bool = False
    promote_reason: str = ""
