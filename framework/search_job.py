"""What a search for settings is asked and what it answers: plain values that the command line writes and its child process reads.

The parent writes `SearchJob` as JSON and the rows of every file as Parquet beside it, spawns `python -m ml_actor.search --job FILE` and
reads stdout: progress lines `{"stage": ..., "fraction": ...}`, last line `{"result": {...}}` (`SearchResult`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from framework.evaluation_job import EvaluatedFile, MemberSettings


class SearchJob(msgspec.Struct, frozen=True, kw_only=True):
    """One search: `tries` settings of one `member` of the ensemble, scored on rows of `files` that it was not fitted on."""

    files: list[EvaluatedFile]
    horizons: list[int]
    member: str
    label: str = "sign"
    tries: int = 20
    seed: int = 7
    backend: str = "loky"
    address: str | None = None
    workers: int = 1


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it; `settings` are empty where nothing was better than what ships. A refusal (`ok` False) has a reason."""

    ok: bool
    reason: str = ""
    exit_code: int = 2
    settings: MemberSettings = {}
    report: dict[str, Any] = {}
