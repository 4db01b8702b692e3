"""Search for settings from the trading side: read recordings, let a child process propose and score, write what it chose.

Every try is a look at the recordings: they are counted in the log of tries, so that a later evaluation on the same recordings
is deflated by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.dataset.parts import replace_file
from framework.errors import ConfigError
from framework.evaluation_job import TRAIN, MemberSettings
from framework.progress import Progress
from framework.research.evaluating import read_all, told
from framework.research.evaluating.options import EvaluationOptions, check_paths
from framework.research.evaluating.scratch import scratch_directory
from framework.research.evaluating.trials import TrialLog
from framework.research.learning_child import run_job
from framework.search_job import SearchJob

PROCESS: Final = "ml_actor.search"
MAX_SETTINGS_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """What `search` is asked for: recordings, horizons, label and where it runs are those of `reading`; `out` takes the settings."""

    reading: EvaluationOptions
    member: str
    tries: int
    out: Path | None = None


def search(options: SearchOptions, on_progress: Progress, *, now_ns: int) -> dict[str, Any]:
    """Search and return the report. Blocks for as long as it takes.

    Raises `ConfigError` for what cannot be searched, `StorageError` (disk, output path, state directory), `IntegrityError`.
    """
    reading = options.reading
    check_paths(reading)
    trials = TrialLog(reading.state_dir)
    with scratch_directory() as scratch:
        read = read_all(reading, scratch, on_progress)
        digests = sorted({one.digest for one in read})
        looks = trials.begin(digests, label=reading.label, model=f"search {options.member}", now_ns=now_ns, looks=options.tries)
        job = SearchJob(
            files=[msgspec.structs.replace(one.file(), role=TRAIN) for one in read],
            horizons=list(reading.horizons),
            member=options.member,
            label=reading.label,
            tries=options.tries,
            seed=reading.seed,
            backend=reading.backend,
            address=reading.address,
            workers=reading.workers,
        )
        try:
            result = run_job(PROCESS, job, scratch, told(on_progress))
        except ConfigError:
            trials.void(looks)
            raise
    if options.out is not None:
        replace_file(options.out, msgspec.json.format(msgspec.json.encode(result["settings"]), indent=1) + b"\n")
    return {"settings": result["settings"], **result["report"]}


def read_settings(path: Path) -> MemberSettings:
    """Return what `search --out` wrote. Raises `ConfigError`."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_SETTINGS_BYTES), type=MemberSettings)
    except (OSError, msgspec.DecodeError) as exc:
        raise ConfigError(f"--settings: {path} holds no settings ({exc}); allowed a file that `search --out` wrote") from exc
