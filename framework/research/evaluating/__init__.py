"""Evaluation from the trading side: read recordings, let a child process fit and score, keep count of the tries.

The scratch directory with the rows is removed however it ends. Every run counts as a try at its test recordings, from the moment
that it starts; only one that is refused, and so has shown nothing, does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from framework.errors import ConfigError
from framework.evaluation_job import TEST, TRAIN, WALK, EvaluatedFile, EvaluationJob
from framework.market.formats import open_source
from framework.progress import Progress
from framework.remote_files import fetched
from framework.research.evaluating.options import EvaluationOptions, check_paths
from framework.research.evaluating.reading import Opened, ReadFile, in_order, read_recording
from framework.research.evaluating.scratch import scratch_directory
from framework.research.evaluating.trials import TrialLog
from framework.research.learning_child import run_job

PROCESS: Final = "ml_actor.evaluate"


def evaluate(options: EvaluationOptions, on_progress: Progress, *, now_ns: int) -> dict[str, object]:
    """Evaluate and return the report. Blocks for as long as it takes; `on_progress` hears stage and share done, 0 to 1.

    Raises `ConfigError` for input that cannot be scored, `StorageError` (disk, output paths, state directory), `IntegrityError` (a
    damaged recording).
    """
    check_paths(options)
    trials = TrialLog(options.state_dir)
    with scratch_directory() as scratch:
        read = read_all(options, scratch, on_progress)
        tried = sorted({one.digest for one in read if one.role != TRAIN})
        files = _with_split(read, options.split)
        number = trials.begin(tried, label=options.label, model=options.model, now_ns=now_ns)
        job = _job(options, files, trials, number)
        on_progress("start", 0.2)
        try:
            report: dict[str, object] = run_job(PROCESS, job, scratch, told(on_progress))["report"]
        except ConfigError:
            trials.void(number)
            raise
        trials.end(number, report)
    return report


def told(on_progress: Progress) -> Callable[[dict[str, Any]], None]:
    """Return what hears a child's lines and tells how far it is, behind the reading."""
    return lambda line: on_progress(str(line.get("stage", "")), 0.2 + 0.8 * float(line.get("fraction", 0.0)))


def read_all(options: EvaluationOptions, scratch: Path, on_progress: Progress) -> list[ReadFile]:
    """Read every recording that is named into row files in `scratch`. Raises `ConfigError` for two of the same rows."""
    named = [(path, role) for role, paths in ((TRAIN, options.train), (TEST, options.test), (WALK, options.data)) for path in paths]
    opened = [Opened(path=path, role=role, source=open_source(fetched(path, scratch, number))) for number, (path, role) in enumerate(named)]
    read: dict[Path, ReadFile] = {}
    for number, (one, before) in enumerate(in_order(opened)):
        target = scratch / f"rows-{number}.parquet"

        def say(share: float, number: int = number, name: str = one.path.name) -> None:
            on_progress(f"reading {name}", 0.2 * (number + share) / len(opened))

        say(0.0)
        read[one.path] = read_recording(one, before, target, options, say)
    found = [read[one.path] for one in opened]
    _refuse_twins(found)
    return found


def _refuse_twins(read: Sequence[ReadFile]) -> None:
    by_digest: dict[str, ReadFile] = {}
    for one in read:
        twin = by_digest.setdefault(one.digest, one)
        if twin is not one:
            raise ConfigError(
                f"{one.name}: holds the same rows as {twin.name}; name each recording once, and never train on what is tested"
            )


def _with_split(read: Sequence[ReadFile], split: float | None) -> list[EvaluatedFile]:
    """Return the files of the job; with `split`, that share of the rows, in time order, trains and the rest is tested."""
    if split is None:
        return [one.file() for one in read]
    ordered = sorted(read, key=lambda one: one.start_ns)
    for before, after in pairwise(ordered):
        if after.start_ns <= before.end_ns:
            raise ConfigError(f"--split: {after.name} begins before {before.name} ends; allowed recordings one after the other")
    left = round(split * sum(one.rows for one in ordered))
    files = []
    for one in ordered:
        cut = min(left, one.rows)
        left -= cut
        whole = one.file()
        parts = (
            msgspec.structs.replace(whole, role=TRAIN, rows=cut),
            msgspec.structs.replace(whole, role=TEST, rows=one.rows - cut, first_row=cut),
        )
        files += [part for part in parts if part.rows]
    return files


def _job(options: EvaluationOptions, files: list[EvaluatedFile], trials: TrialLog, number: int) -> EvaluationJob:
    return EvaluationJob(
        files=files,
        horizons=list(options.horizons),
        label=options.label,
        model=options.model,
        seed=options.seed,
        folds=options.folds,
        backend=options.backend,
        address=options.address,
        workers=options.workers,
        predictions_file=str(options.predictions) if options.predictions else None,
        report_file=str(options.report) if options.report else None,
        trials=trials.before(number),
        settings=options.settings,
        command=options.command,
    )
