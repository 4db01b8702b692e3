"""What a check for leaks is asked and what it finds: plain values that both processes share.

The parent writes `LeakJob` as JSON, spawns `python -m ml_actor.leaks --job FILE` and reads stdout: progress lines
`{"stage": ..., "fraction": ...}`, one line `{"finding": {...}}` a check, last line `{"result": {...}}` (`JobResult`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

SHIPPED: Final = "shipped"
CHAMPION: Final = "champion"


class Verdict(StrEnum):
    """What a check came to: nothing found, a leak, a duty not fulfilled (no leak, but not what it must be), or not done."""

    OK = "ok"
    LEAK = "leak"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check of one subject. `names` are the columns, orders or labels that leak; `numbers` is what was measured."""

    subject: str
    check: str
    verdict: Verdict
    detail: str
    names: tuple[str, ...] = ()
    numbers: dict[str, float] = {}


class LeakJob(msgspec.Struct, frozen=True, kw_only=True):
    """One run of checks in the learning process; an empty name leaves that subject out.

    `features`, `label` and `model` are `shipped`, or `module:name` of the user's; a `model` may also be `champion`, a version of
    `models_dir`, or a name that `evaluate --model` knows. `dataset_dir` holds the rows to cut and
    permute (empty: a generated book); what is about chance is always measured on `seeds` generated books of `rows` rows.
    """

    features: str = ""
    label: str = ""
    model: str = ""
    models_dir: str = ""
    dataset_dir: str = ""
    seeds: int = 3
    rows: int = 12_000
    max_rows: int = 6_000
    horizon_rows: int = 20
    window_rows: int = 100
    seed: int = 7


class JobResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a job ended. A refusal (`ok` False) names its reason and the exit code of the command line."""

    ok: bool
    reason: str = ""
    exit_code: int = 1
