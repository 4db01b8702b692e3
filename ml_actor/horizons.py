"""Models of several horizons at once, fitted on recordings: what `evaluate` scores, one calibrated pool a horizon.

Horizons count rows. A row is predicted once 100 earlier rows of its segment are there; labels never cross a joint of
segments. Everything that is chosen (scales, thresholds, rounds, weights, calibration) is chosen on `train` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from framework.window import Float64Array, Int64Array, Rows
from ml_actor.calls import CallRule
from ml_actor.fitting import FitRefused
from ml_actor.inputs import EARLIER_ROWS, all_rows, begin_of
from ml_actor.known_models import find_members
from ml_actor.labels import CLASSES, classify, label_rows, positions
from ml_actor.members import Fitted, Member, Shown
from ml_actor.preparation import UNKNOWN, Recording
from ml_actor.search.space import Values, with_settings
from ml_actor.stacking import APART, Pool, fit_pool, out_of_fold

__all__ = ["EARLIER_ROWS", "LABELS", "HorizonModels", "fit_horizons", "has_history", "threshold_of"]

Report = Callable[[str, float], None]

LABELS: Final = ("sign", "tercile")
TEACHING_HORIZONS: Final = (1, 2, 5, 10, 20, 50, 100, 200)
"""Horizons that a model of all horizons learns beside those that are asked for: near ones teach far ones."""
MIN_ROWS: Final = 2_000


class HorizonModels:
    """One calibrated pool a horizon. `thresholds` are in half ticks: a move beyond it is up or down, else flat."""

    def __init__(
        self,
        *,
        members: Sequence[Member],
        fitted: Sequence[Fitted | None],
        pools: Mapping[int, Pool],
        thresholds: Mapping[int, float],
        begin: Float64Array,
        origin: Mapping[str, Any],
    ) -> None:
        self.horizons = tuple(pools)
        self.thresholds = dict(thresholds)
        self._members = tuple(members)
        self._fitted = tuple(fitted)
        self._pools = dict(pools)
        self._begin = begin
        self._origin = dict(origin)

    def predict_rows(self, recording: Recording) -> dict[int, Float64Array]:
        """Return per horizon (n, 3) calibrated p_down, p_flat, p_up; NaN where fewer than 100 earlier rows are in the segment."""
        is_known = has_history(recording.rows)
        values = all_rows(recording, self._begin)[is_known]
        return {horizon: _spread_out(self._probabilities(values, horizon), is_known) for horizon in self.horizons}

    def _probabilities(self, values: Float64Array, horizon: int) -> Float64Array:
        pool = self._pools[horizon]
        logs = [
            fitted.log_probabilities(values, horizon) if fitted is not None and weight > 0 else None
            for fitted, weight in zip(self._fitted, pool.weights, strict=True)
        ]
        return pool.probabilities(logs)

    def call_rules(self) -> dict[int, CallRule]:
        """Return per horizon the rule for naming one class."""
        return {horizon: pool.rule for horizon, pool in self._pools.items()}

    def facts(self) -> dict[str, Any]:
        """Return what was chosen and fitted: per horizon weights, what each member gained, calibration, rule, threshold, rows."""
        heads = {str(horizon): self._head(horizon) for horizon in self.horizons}
        importance = {
            member.name: dict(fitted.importance())
            for member, fitted in zip(self._members, self._fitted, strict=True)
            if fitted is not None and fitted.importance()
        }
        return {**self._origin, "heads": heads, "importance": importance}

    def _head(self, horizon: int) -> dict[str, Any]:
        pool, names = self._pools[horizon], [member.name for member in self._members]
        return {
            "weights": dict(zip(names, pool.weights, strict=True)),
            "gains": dict(zip(names, pool.gains, strict=True)),
            "calibration": pool.calibration.kind.value,
            "flat_weight": pool.rule.flat_weight,
            "out_of_fold_log_loss": pool.log_loss,
            "threshold_half_ticks": self.thresholds[horizon],
        }


def has_history(rows: Rows) -> npt.NDArray[np.bool_]:
    """Return bool (n,): whether a row has 100 earlier rows in its segment."""
    return np.asarray(positions(rows.segment) >= EARLIER_ROWS)


def fit_horizons(
    train: Sequence[Recording],
    *,
    horizons: Sequence[int],
    label: str,
    seed: int,
    report: Report,
    model: str = "ensemble",
    settings: Mapping[str, Values] = MappingProxyType({}),
) -> HorizonModels | str:
    """Fit a calibrated model for each horizon on `train` alone; or say why that cannot be done.

    `label` "sign": the sign of the mid's change; "tercile": changes beyond the 1/3 quantile of absolute changes of `train`.
    `model` is a name that `known_models.find_members` knows, `settings` are for its members by name (`search.space`).
    """
    members = find_members(model)
    if isinstance(members, str):
        return f"--model: {members}"
    if label not in LABELS:
        return f"unknown label {label!r}, known are {', '.join(LABELS)}"
    report("features", 0.0)
    begin = begin_of(train)
    shown, thresholds = _shown(train, horizons, label, begin)
    objection = _objection(shown, horizons)
    if objection:
        return objection
    try:
        asked = {horizon: thresholds[horizon] for horizon in horizons}
        return _fit(with_settings(members, settings), shown, thresholds=asked, begin=begin, seed=seed, report=report)
    except FitRefused as exc:
        return str(exc)


def threshold_of(moves: Int64Array, label: str) -> float:
    """Return the half ticks beyond which a move counts: 0 for "sign", the 1/3 quantile of absolute moves for "tercile"."""
    return float(np.quantile(np.abs(moves), 1 / 3)) if label == "tercile" and len(moves) else 0.0


def _fit(
    members: Sequence[Member],
    shown: Shown,
    *,
    thresholds: Mapping[int, float],
    begin: Float64Array,
    seed: int,
    report: Report,
) -> HorizonModels:
    horizons = tuple(thresholds)
    embargo = max(shown.horizons) + EARLIER_ROWS
    chosen, said = [], []
    for number, member in enumerate(members):
        report(f"{member.name} on parts", 0.1 + 0.5 * number / len(members))
        found, logs = out_of_fold(member, shown, horizons, seed, embargo)
        chosen.append(found)
        said.append(logs)
    pools = {
        horizon: fit_pool([logs[horizon] for logs in said], shown.classes[:, shown.horizons.index(horizon)], horizon, seed)
        for horizon in horizons
    }
    fitted: list[Fitted | None] = []
    for number, member in enumerate(chosen):
        report(f"{member.name} on all", 0.65 + 0.35 * number / len(members))
        used = [horizon for horizon in horizons if pools[horizon].weights[number] > 0]
        fitted.append(member.fit(shown, used, seed) if used else None)
    origin = {"seed": seed, "rows": len(shown.positions)}
    return HorizonModels(members=chosen, fitted=fitted, pools=pools, thresholds=thresholds, begin=begin, origin=origin)


def shown_for(train: Sequence[Recording], horizons: Sequence[int], label: str) -> Shown | str:
    """Return the rows of `train` that a member learns from, with the classes of every horizon; or say why there are too few."""
    shown, _ = _shown(train, horizons, label, begin_of(train))
    return _objection(shown, horizons) or shown


def _shown(train: Sequence[Recording], horizons: Sequence[int], label: str, begin: Float64Array) -> tuple[Shown, dict[int, float]]:
    """Return the rows to learn from: 100 earlier rows in the segment, the last row of its time, the class of each horizon."""
    learned = tuple(sorted({*horizons, *TEACHING_HORIZONS}))
    wheres = [np.flatnonzero(has_history(part.rows) & _is_last_of_time(part.rows)) for part in train]
    labels = {horizon: [label_rows(part.rows, horizon_rows=horizon, min_history=EARLIER_ROWS + 1) for part in train] for horizon in learned}
    thresholds, columns = {}, []
    for horizon in learned:
        known = [found.moves[found.is_valid] for found in labels[horizon]]
        thresholds[horizon] = threshold_of(np.concatenate([*known, np.zeros(0, np.int64)]), label)
        classes = [np.where(found.is_valid, classify(found.moves, thresholds[horizon]), UNKNOWN) for found in labels[horizon]]
        columns.append(np.concatenate([part[where] for part, where in zip(classes, wheres, strict=True)]))
    values = np.concatenate([all_rows(part, begin)[where] for part, where in zip(train, wheres, strict=True)])
    return Shown(
        horizons=learned,
        values=values,
        classes=np.column_stack(columns),
        weights=np.ones(len(values)),
        positions=np.concatenate([where + number * APART for number, where in enumerate(wheres)]),
    ), thresholds


def _is_last_of_time(rows: Rows) -> npt.NDArray[np.bool_]:
    return np.append(np.diff(rows.ts_event) != 0, True) if len(rows) else np.zeros(0, np.bool_)


def _objection(shown: Shown, horizons: Sequence[int]) -> str:
    for horizon in horizons:
        classes = shown.classes[:, shown.horizons.index(horizon)]
        counts = np.bincount(classes[classes != UNKNOWN], minlength=3)
        if counts.sum() < MIN_ROWS:
            return f"horizon {horizon}: {counts.sum()} usable rows, at least {MIN_ROWS} needed"
        missing = [CLASSES[number] for number in range(3) if not counts[number]]
        if missing:
            return f"horizon {horizon}: no row is labelled {' or '.join(missing)}"
    return ""


def _spread_out(probabilities: Float64Array, is_known: npt.NDArray[np.bool_]) -> Float64Array:
    out = np.full((len(is_known), 3), np.nan)
    out[is_known] = probabilities
    return out
