"""One evaluation from its job to its result: read rows, cut folds, fit and predict them, score, write what was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from framework.dataset.parts import DamagedPart, replace_file
from framework.dataset.schema import from_table
from framework.errors import IntegrityError
from framework.evaluation_job import EvaluatedFile, EvaluationJob, EvaluationResult
from framework.parallel import run_all
from ml_actor.evaluate.answers import Answer, FoldAnswer, answer_fold, join_answers
from ml_actor.evaluate.fitters import Question, Report
from ml_actor.evaluate.folds import Fold, Part, folds
from ml_actor.evaluate.html import report_html
from ml_actor.evaluate.predictions import predictions_bytes
from ml_actor.evaluate.scoring import alarms, score_horizon
from ml_actor.preparation import Recording


def evaluate(job: EvaluationJob, report: Report) -> EvaluationResult:
    """Do the job; a refusal for data that cannot be scored. Raises `StorageError` when a file cannot be written."""
    report("read", 0.0)
    cut = folds(job.files, [read_part(file) for file in job.files], job.horizons, job.folds)
    if isinstance(cut, str):
        return EvaluationResult(ok=False, reason=cut)
    answers = _answer_all(cut, job, report)
    if isinstance(answers, str):
        return EvaluationResult(ok=False, reason=answers)
    by_horizon = {horizon: join_answers([one.by_horizon[horizon] for one in answers]) for horizon in job.horizons}
    found = _report(job, cut, answers, by_horizon, report)
    report("write", 0.99)
    _write(job, by_horizon, found)
    return EvaluationResult(ok=True, report=found)


def read_part(file: EvaluatedFile) -> Part:
    """Read the rows of one recording. Raises `IntegrityError` if they are not what the parent wrote."""
    try:
        rows = from_table(pq.read_table(file.rows_file).slice(file.first_row, file.rows))
    except (DamagedPart, OSError, pa.ArrowException) as exc:
        raise IntegrityError(f"{file.name}: its rows cannot be read back: {exc}") from exc
    if len(rows) != file.rows:
        raise IntegrityError(f"{file.name}: {len(rows)} rows came back of {file.rows}")
    recording = Recording(instrument_id=file.instrument_id, tick_size=file.tick_size, has_trades=file.has_trades, rows=rows)
    return Part(file=file.name, first_row=file.first_row, fee_ticks=file.fee_ticks, recording=recording)


def _answer_all(cut: Sequence[Fold], job: EvaluationJob, report: Report) -> list[FoldAnswer] | str:
    """Return the answers of all folds in order, or the first refusal."""
    question = Question(horizons=tuple(job.horizons), label=job.label, model=job.model, seed=job.seed, settings=job.settings)
    answers: Iterator[FoldAnswer | str]
    if job.backend == "loky" and job.workers == 1 and job.address is None:
        answers = (answer_fold(fold, question, _within(report, fold, done, len(cut))) for done, fold in enumerate(cut))
    else:
        report(f"{len(cut)} folds on {job.backend}", 0.05)
        calls = [(answer_fold, (fold, question)) for fold in cut]
        answers = run_all(calls, backend=job.backend, address=job.address, workers=job.workers)
    good: list[FoldAnswer] = []
    for answer in answers:
        if isinstance(answer, str):
            return answer
        good.append(answer)
        report(f"{len(good)} of {len(cut)} folds", 0.05 + 0.85 * len(good) / len(cut))
    return good


def _within(report: Report, fold: Fold, done: int, count: int) -> Report:
    prefix = f"fold {fold.number} of {count}, " if count > 1 else ""
    return lambda stage, fraction: report(prefix + stage, 0.05 + 0.85 * (done + fraction) / count)


def _report(
    job: EvaluationJob, cut: Sequence[Fold], answers: Sequence[FoldAnswer], by_horizon: Mapping[int, Answer], report: Report
) -> dict[str, Any]:
    horizons, warnings = {}, []
    for number, (horizon, answer) in enumerate(by_horizon.items()):
        report(f"score horizon {horizon}", 0.9 + 0.1 * number / len(by_horizon))
        sharpes = job.trials.sharpes.get(str(horizon), [])
        scored = score_horizon(answer, horizon, seed=job.seed, trials=job.trials.number, sharpes=sharpes)
        scored["threshold_half_ticks"] = [one.thresholds[horizon] for one in answers]
        warnings += alarms(horizon, scored)
        horizons[str(horizon)] = scored
    facts = {
        "model": job.model,
        "label": job.label,
        "seed": job.seed,
        "trials": job.trials.number,
        "command": job.command,
        "settings": job.settings,
        "folds": [_fold_facts(fold) for fold in cut],
        "models": {str(one.number): dict(one.facts) for one in answers},
        "importance": _mean_importance(answers),
        "horizons": horizons,
        "alarms": warnings,
    }
    plain: dict[str, Any] = without_nan(facts)
    return plain


def _fold_facts(fold: Fold) -> dict[str, Any]:
    return {"number": fold.number, "train": [_part_facts(part) for part in fold.train], "test": [_part_facts(part) for part in fold.test]}


def _part_facts(part: Part) -> dict[str, Any]:
    recording = part.recording
    return {
        "file": part.file,
        "instrument_id": recording.instrument_id,
        "first_row": part.first_row,
        "rows": len(recording.rows),
        "fee_ticks": part.fee_ticks,
    }


def _mean_importance(answers: Sequence[FoldAnswer]) -> dict[str, dict[str, float]]:
    """Return by horizon and input the mean over the folds that could tell."""
    found: dict[str, dict[str, list[float]]] = {}
    for answer in answers:
        for horizon, lost in answer.importance.items():
            for name, value in lost.items():
                found.setdefault(str(horizon), {}).setdefault(name, []).append(value)
    return {horizon: {name: sum(values) / len(values) for name, values in lost.items()} for horizon, lost in found.items()}


def without_nan(value: Any) -> Any:
    """Return plain values with NaN and infinities as None (JSON has neither)."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _write(job: EvaluationJob, by_horizon: Mapping[int, Answer], found: Mapping[str, Any]) -> None:
    """Write what was asked for: everything is made before the first file is, and each file appears whole or not at all."""
    contents: list[tuple[str, bytes]] = []
    if job.predictions_file is not None:
        contents.append((job.predictions_file, predictions_bytes(by_horizon)))
    if job.report_file is not None:
        contents.append((job.report_file, report_html(found).encode()))
    for path, content in contents:
        replace_file(Path(path), content)
