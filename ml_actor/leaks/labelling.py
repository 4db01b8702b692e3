"""Checks of labels: a label may know nothing but the book that it is anchored at and the rows of its horizon."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from framework.leak_job import Finding, LeakJob, Verdict
from framework.window import Float64Array, Rows
from ml_actor.labels import label_rows
from ml_actor.leaks import book, chance
from ml_actor.leaks.causality import scramble
from ml_actor.leaks.columns import CannotCompute, Subject, as_table, guarded
from ml_actor.leaks.skill import judged, seeds
from ml_actor.preparation import Recording

CUTS: Final = 6
LabelOf = Callable[[Rows], Float64Array]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Labelling:
    """A label to check: (n,) numbers, positive for up and negative for down, NaN where a row has none."""

    title: str
    of: LabelOf
    horizon_rows: int


def shipped_label(horizon_rows: int) -> Labelling:
    """Return the label that the models of Tidebook are fitted on."""

    def of(rows: Rows) -> Float64Array:
        found = label_rows(rows, horizon_rows=horizon_rows, min_history=1)
        return np.where(found.is_valid, found.moves.astype(np.float64), np.nan)

    return Labelling(title="label of the models", of=of, horizon_rows=horizon_rows)


def users_label(target: str, found: Any, horizon_rows: int) -> Labelling:
    """Return a function `label(rows, horizon_rows)` as a label."""
    title = f"label {target}"

    def of(rows: Rows) -> Float64Array:
        made = guarded(title, lambda: found(rows, horizon_rows))
        return np.asarray(as_table(made, len(rows), title).values[:, 0])

    return Labelling(title=title, of=of, horizon_rows=horizon_rows)


def check_reach(labelling: Labelling, recording: Recording, *, seed: int) -> list[Finding]:
    """Change what lies before the row of a label, and what lies behind its horizon: the label must stay."""
    rng, rows, horizon = np.random.default_rng((seed, 103)), recording.rows, labelling.horizon_rows
    full = labelling.of(rows)
    n = len(rows)
    cuts = [int(cut) for cut in np.sort(rng.choice(np.arange(n // 5, n - horizon - 2), size=CUTS, replace=False))]
    back = ahead = 0
    for cut in cuts:
        try:
            past = labelling.of(scramble(rows, np.arange(0, cut), rng))
            future = labelling.of(scramble(rows, np.arange(cut + horizon + 1, n), rng))
        except CannotCompute as exc:
            return [Finding(subject=labelling.title, check="label and window", verdict=Verdict.LEAK, detail=str(exc))]
        later = np.flatnonzero(_differ(full[cut:], past[cut:]))
        earlier = np.flatnonzero(_differ(full[: cut + 1], future[: cut + 1]))
        back = max(back, int(later[-1]) + 1 if len(later) else 0)
        ahead = max(ahead, cut - int(earlier[0]) + 1 if len(earlier) else 0)
    return [
        _reach(labelling, "label and window", back, f"looks {back} rows back: it overlaps the window that features are made of", "past"),
        _reach(
            labelling, "label and horizon", ahead, f"looks at least {ahead} rows beyond its horizon of {horizon}", "rows after its horizon"
        ),
    ]


def _differ(before: Float64Array, after: Float64Array) -> Any:
    return ~((before == after) | (np.isnan(before) & np.isnan(after)))


def _reach(labelling: Labelling, check: str, rows: int, words: str, what: str) -> Finding:
    numbers = {"rows": float(rows)}
    if rows:
        names = (labelling.title.removeprefix("label "),)
        return Finding(subject=labelling.title, check=check, verdict=Verdict.LEAK, detail=words, names=names, numbers=numbers)
    detail = f"stays as it is when the {what} is changed".replace("rows after its horizon is", "rows after its horizon are")
    return Finding(subject=labelling.title, check=check, verdict=Verdict.OK, detail=detail, numbers=numbers)


def check_unpredictable(labelling: Labelling, subject: Subject, job: LeakJob) -> Finding:
    """On a martingale no feature of the window may tell the label's direction; one that does is in the label."""
    estimates: list[chance.Estimate] = []
    names: tuple[str, ...] = ()
    for seed in seeds(job):
        made = book.generate(job.rows, seed=seed, strength=0.0)
        table, label = subject.compute(made.recording), labelling.of(made.recording.rows)
        names = table.names
        signs = np.sign(np.where(np.isnan(label), 0.0, label)).astype(np.int64)
        estimates.append(chance.direction_auc(table.values, signs, ~np.isnan(label), seed=seed))
    return judged(labelling.title, "no feature tells it on a martingale", names, chance.pool(estimates), job.seeds)
