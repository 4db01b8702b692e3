"""What must not matter is changed; what changes with it leaks.

Each check computes the columns of a recording, then again of a recording that is the same up to a cut (`truncate`,
`permute`), or the same but for its dates and its beginning (`clock`). A column that gives other numbers for the rows that did not
change knew something that it must not know. Numbers count as equal within 1e-9 of a column's standard deviation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from framework.leak_job import Finding, Verdict
from framework.window import Float64Array, Int64Array, Rows
from ml_actor.features.engine import mirror, select
from ml_actor.leaks.columns import CannotCompute, Subject, Table
from ml_actor.preparation import Recording

TOLERANCE: Final = 1e-9
CUTS: Final = 24
NAMED: Final = 12
WEEKS_NS: Final = 3 * 7 * 86_400 * 1_000_000_000
"""Whole weeks: the time of day and the day of the week stay, and a feature may know those."""
SEQUENCE_SHIFT: Final = 1_000_003
FORGOTTEN: Final = 1e-3
FADES_TO: Final = 0.9


def check_future(subject: Subject, recording: Recording, full: Table, *, seed: int) -> list[Finding]:
    """Take the future away, and turn it over, behind `CUTS` rows; the rows up to each of them must keep their numbers."""
    rng = np.random.default_rng((seed, 101))
    return [_compared(subject, recording, full, variation, rng) for variation in VARIATIONS]


def cuts_of(rows: Rows, rng: np.random.Generator) -> Int64Array:
    """Return rows to cut behind: a third at random, a third where the mid moves next, a third just after the longer queue changed sides.

    A look at the next row shows where something happens there; smoothing shows where it is not clear yet what happened.
    """
    n = len(rows)
    mids = rows.bid_ticks[:, 0].astype(np.int64) + rows.ask_ticks[:, 0].astype(np.int64)
    leads = rows.bid_sizes[:, 0] > rows.ask_sizes[:, 0]
    inside = np.arange(n // 5, n - 1)
    pools = (inside, inside[mids[inside + 1] != mids[inside]], inside[leads[inside] != leads[inside - 1]])
    chosen = [rng.choice(rows_of, size=min(CUTS // 3, len(rows_of)), replace=False) for rows_of in pools]
    return np.unique(np.concatenate(chosen))


def _truncated(recording: Recording, cut: int, _: np.random.Generator) -> Recording:
    return with_rows(recording, select(recording.rows, slice(0, cut + 1)))


def _permuted(recording: Recording, cut: int, rng: np.random.Generator) -> Recording:
    return with_rows(recording, scramble(recording.rows, np.arange(cut + 1, len(recording.rows)), rng))


def scramble(rows: Rows, where: Any, rng: np.random.Generator) -> Rows:
    """Return the rows with the books at `where` in another order and with bid and ask exchanged; times stay in place."""
    turned, order = mirror(rows), rng.permutation(where)
    changed = {}
    for name in ("bid_ticks", "bid_sizes", "ask_ticks", "ask_sizes", "flow"):
        values = getattr(rows, name).copy()
        values[where] = getattr(turned, name)[order]
        changed[name] = values
    return dataclasses.replace(rows, **changed)


@dataclass(frozen=True, slots=True)
class Variation:
    """A way to change what comes after a cut: its name, what happens to the rows in words, and how."""

    check: str
    what: str
    change: Callable[[Recording, int, np.random.Generator], Recording]


VARIATIONS: Final = (
    Variation("truncate the future", "are taken away", _truncated),
    Variation("permute the future", "are permuted and change sides", _permuted),
)


def _compared(subject: Subject, recording: Recording, full: Table, variation: Variation, rng: np.random.Generator) -> Finding:
    check, what = variation.check, variation.what
    cuts = cuts_of(recording.rows, rng)
    first: dict[str, int] = {}
    for cut in cuts.tolist():
        try:
            again = subject.compute(variation.change(recording, cut, rng))
        except CannotCompute as exc:
            return Finding(subject=subject.title, check=check, verdict=Verdict.LEAK, detail=f"when the rows after {cut} {what}: {exc}")
        for column, row in _first_changes(full, again, cut + 1).items():
            first[column] = max(first.get(column, 0), cut - row + 1)
    if not first:
        return Finding(
            subject=subject.title,
            check=check,
            verdict=Verdict.OK,
            detail=f"{len(full.names)} columns keep their numbers when the rows after any of {len(cuts)} cuts {what}",
        )
    return Finding(
        subject=subject.title,
        check=check,
        verdict=Verdict.LEAK,
        names=tuple(first),
        detail=f"when the rows after a cut {what}, rows before it change: {_named(first)}",
        numbers={f"rows_back:{name}": float(rows) for name, rows in first.items()},
    )


def _named(first: dict[str, int]) -> str:
    words = [f"{name} (the last {rows} before the cut)" if rows > 1 else f"{name} (the last one)" for name, rows in first.items()]
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return ", ".join(words[:NAMED]) + more


def _first_changes(full: Table, again: Table, rows: int) -> dict[str, int]:
    """Return per column that changed within the first `rows` rows the first row that did."""
    if again.names != full.names:
        return dict.fromkeys(full.names, 0)
    differs = differences(full.values[:rows], again.values[:rows], full.values) > TOLERANCE
    return {full.names[column]: int(np.argmax(differs[:, column])) for column in np.flatnonzero(differs.any(axis=0))}


def differences(before: Float64Array, after: Float64Array, scale_of: Float64Array) -> Float64Array:
    """Return |after - before| in standard deviations of each column; infinite where one of both is NaN."""
    known = np.isfinite(scale_of)
    filled = np.where(known, scale_of, 0.0)
    count = np.maximum(known.sum(axis=0), 1)
    spread = np.sqrt(np.maximum((filled**2).sum(axis=0) / count - (filled.sum(axis=0) / count) ** 2, 0.0))
    gap = np.abs(np.where(before == after, 0.0, after - before)) / np.where(spread > 0, spread, 1.0)
    return np.where(np.isnan(before) & np.isnan(after), 0.0, np.where(np.isnan(gap), np.inf, gap))


# --- what time it is, and which row this is ---------------------------------------------------------------------------------


def check_dates(subject: Subject, recording: Recording, full: Table) -> Finding:
    """Move the dates by whole weeks, and the sequence numbers: nothing may change."""
    check, rows = "move the dates", recording.rows
    moved = dataclasses.replace(rows, ts_event=rows.ts_event + WEEKS_NS, sequence=rows.sequence + SEQUENCE_SHIFT)
    try:
        names = tuple(_first_changes(full, subject.compute(with_rows(recording, moved)), len(rows)))
    except CannotCompute as exc:
        detail = f"three weeks later and with other sequence numbers: {exc}; it knows these rows by their time"
        return Finding(subject=subject.title, check=check, verdict=Verdict.LEAK, detail=detail)
    detail = "the same books three weeks later, with other sequence numbers, "
    if names:
        detail += f"give other numbers; these know rows by their time or number: {', '.join(names[:NAMED])}"
        return Finding(subject=subject.title, check=check, verdict=Verdict.LEAK, names=names, detail=detail)
    return Finding(subject=subject.title, check=check, verdict=Verdict.OK, detail=detail + "give the same numbers")


def check_beginning(subject: Subject, recording: Recording, full: Table) -> Finding:
    """Let the data begin later: what differs then has to fade. Long memory needs a long recording to show that it does."""
    check, rows = "begin later", recording.rows
    start = _beginning(rows)
    try:
        again = subject.compute(with_rows(recording, select(rows, slice(start, len(rows)))))
    except CannotCompute as exc:
        return Finding(subject=subject.title, check=check, verdict=Verdict.LEAK, detail=f"without the first {start} rows: {exc}")
    gaps = differences(full.values[start:], again.values, full.values)
    names = tuple(full.names[column] for column in np.flatnonzero(_stays(gaps)))
    if names:
        detail = f"without the first {start} rows, numbers differ, and no less as time goes by: {', '.join(names[:NAMED])}"
        return Finding(subject=subject.title, check=check, verdict=Verdict.LEAK, names=names, detail=detail)
    late = float(np.median(gaps[len(gaps) * 3 // 4 :], axis=0).max())
    words = "come out the same" if late == 0.0 else f"differ by {late:.2g} deviations at most, and ever less"
    detail = f"without the first {start} rows the last {len(gaps) // 4} rows {words}"
    return Finding(subject=subject.title, check=check, verdict=Verdict.OK, detail=detail)


def _stays(gaps: Float64Array) -> Any:
    """Return per column whether it differs to the end and forgets nothing: memory fades, the number of a row does not.

    The last quarter of the rows is compared with the second one. A half-life of as many rows as there are fades to 0.71.
    """
    quarter = len(gaps) // 4
    early, late = np.median(gaps[quarter : 2 * quarter], axis=0), np.median(gaps[3 * quarter :], axis=0)
    return (late > FORGOTTEN) & (late > FADES_TO * early)


def _beginning(rows: Rows) -> int:
    """Return where data may begin anew: at the joint of segments nearest to a third, or there where there is none."""
    third = len(rows) // 3
    joints = np.flatnonzero(np.diff(rows.segment) != 0) + 1
    near: Sequence[int] = [int(joint) for joint in joints if len(rows) // 10 < joint < len(rows) // 2]
    return min(near, key=lambda joint: abs(joint - third)) if near else third


def with_rows(recording: Recording, rows: Rows) -> Recording:
    """Return the recording with other rows."""
    return dataclasses.replace(recording, rows=rows)
