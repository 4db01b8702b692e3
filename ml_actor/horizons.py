"""Models of several horizons at once, fitted on recordings: what `evaluate` scores, one calibrated head a horizon.

Horizons count rows. A row is predicted once 100 earlier rows of its segment are there; labels never cross a joint of
segments. Everything that is chosen (scales, thresholds, rounds, weights, calibration) is chosen on `train` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from framework.window import Float64Array, Int64Array, Rows
from ml_actor.calibration import Calibration
from ml_actor.features.engine import AdvancedMLFeatureEngine, mirror
from ml_actor.fitting import Examples, FitRefused, calibrate, choose_tree_weight, fit_linear, fit_trees
from ml_actor.labels import CLASSES, classify, label_rows, positions
from ml_actor.models import LinearModel, TreeModel, pool
from ml_actor.preparation import Recording

Report = Callable[[str, float], None]

EARLIER_ROWS: Final = 100
"""How many rows of its segment a row needs before it, to be predicted."""
LABELS: Final = ("sign", "tercile")
FIT_SHARE: Final = 0.75
"""Share of the training rows, in time order, that models are fitted on; the rest chooses rounds, weight and calibration."""
MIN_ROWS: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The models of one horizon: a linear one and trees, pooled and calibrated."""

    linear: LinearModel
    trees: TreeModel
    tree_weight: float
    calibration: Calibration
    fitted_rows: int

    def probabilities(self, features: Float64Array) -> Float64Array:
        """Return calibrated (n, 3) probabilities (down, flat, up)."""
        return self.calibration.apply(pool(self.linear.scores(features), self.trees.scores(features), self.tree_weight))


class HorizonModels:
    """One calibrated model a horizon. `thresholds` are in half ticks: a move beyond it is up or down, else flat."""

    def __init__(self, *, heads: Mapping[int, Head], thresholds: Mapping[int, float], seed: int) -> None:
        self.horizons = tuple(heads)
        self.thresholds = dict(thresholds)
        self._heads = dict(heads)
        self._seed = seed

    def predict_rows(self, recording: Recording) -> dict[int, Float64Array]:
        """Return per horizon (n, 3) calibrated p_down, p_flat, p_up; NaN where fewer than 100 earlier rows are in the segment."""
        engine = AdvancedMLFeatureEngine(window_rows=EARLIER_ROWS)
        features = engine.transform_rows(recording.rows, has_trades=recording.has_trades)
        is_known = has_history(recording.rows)
        return {horizon: _spread_out(head.probabilities(features[is_known]), is_known) for horizon, head in self._heads.items()}

    def facts(self) -> dict[str, Any]:
        """Return what was chosen and fitted, by horizon."""
        heads = {
            str(horizon): {
                "weights": {"linear": 1 - head.tree_weight, "trees": head.tree_weight},
                "calibration": head.calibration.kind.value,
                "rows": head.fitted_rows,
                "threshold_half_ticks": self.thresholds[horizon],
            }
            for horizon, head in self._heads.items()
        }
        return {"seed": self._seed, "heads": heads}


def has_history(rows: Rows) -> Any:
    """Return bool (n,): whether a row has 100 earlier rows in its segment."""
    return positions(rows.segment) >= EARLIER_ROWS


def fit_horizons(train: Sequence[Recording], *, horizons: Sequence[int], label: str, seed: int, report: Report) -> HorizonModels | str:
    """Fit a calibrated model for each horizon on `train` alone; or say why that cannot be done.

    `label` "sign": the sign of the mid's change; "tercile": changes beyond the 1/3 quantile of absolute changes of `train`.
    """
    if label not in LABELS:
        return f"unknown label {label!r}, known are {', '.join(LABELS)}"
    heads, thresholds = {}, {}
    report("features", 0.0)
    engine = AdvancedMLFeatureEngine(window_rows=EARLIER_ROWS)
    plain = [engine.transform_rows(part.rows, has_trades=part.has_trades) for part in train]
    mirrored = [engine.transform_rows(mirror(part.rows), has_trades=part.has_trades) for part in train]
    for number, horizon in enumerate(horizons):
        report(f"horizon {horizon}", (number + 0.2) / len(horizons))
        moves, where = _labelled(train, horizon)
        total = sum(len(rows) for rows in where)
        if total < MIN_ROWS:
            return f"horizon {horizon}: {total} usable rows, at least {MIN_ROWS} needed"
        known = np.concatenate([part[rows] for part, rows in zip(moves, where, strict=True)])
        thresholds[horizon] = threshold_of(known, label)
        classes = classify(known, thresholds[horizon])
        missing = [CLASSES[number] for number in range(3) if not (classes == number).any()]
        if missing:
            return f"horizon {horizon}: no row is labelled {' or '.join(missing)}"
        features = np.concatenate([part[rows] for part, rows in zip(plain, where, strict=True)])
        mirrors = np.concatenate([part[rows] for part, rows in zip(mirrored, where, strict=True)])
        try:
            heads[horizon] = _fit_head(features, mirrors, classes, horizon, seed)
        except FitRefused as exc:
            return f"horizon {horizon}: {exc}"
    return HorizonModels(heads=heads, thresholds=thresholds, seed=seed)


def threshold_of(moves: Int64Array, label: str) -> float:
    """Return the half ticks beyond which a move counts: 0 for "sign", the 1/3 quantile of absolute moves for "tercile"."""
    return float(np.quantile(np.abs(moves), 1 / 3)) if label == "tercile" else 0.0


def _labelled(train: Sequence[Recording], horizon: int) -> tuple[list[Int64Array], list[Int64Array]]:
    found = [label_rows(part.rows, horizon_rows=horizon, min_history=EARLIER_ROWS + 1) for part in train]
    return [labels.moves for labels in found], [np.flatnonzero(labels.is_valid) for labels in found]


def _fit_head(features: Float64Array, mirrors: Float64Array, classes: Int64Array, horizon: int, seed: int) -> Head:
    cut = int(len(classes) * FIT_SHARE)
    early, late = slice(0, cut - horizon), slice(cut + EARLIER_ROWS, len(classes))
    shown = Examples(
        features=np.concatenate([features[early], mirrors[early]]),
        classes=np.concatenate([classes[early], 2 - classes[early]]),
        weights=np.ones(2 * (cut - horizon)),
    )
    later = Examples(features=features[late], classes=classes[late], weights=np.ones(len(classes[late])))
    linear = fit_linear(shown)
    trees, _ = fit_trees(shown, later, seed=seed)
    weight = choose_tree_weight(linear.scores(later.features), trees.scores(later.features), later.classes)
    raw = pool(linear.scores(later.features), trees.scores(later.features), weight)
    calibration = calibrate(raw, later.classes, gap_rows=horizon)
    return Head(linear=linear, trees=trees, tree_weight=weight, calibration=calibration, fitted_rows=len(classes))


def _spread_out(probabilities: Float64Array, is_known: Any) -> Float64Array:
    out = np.full((len(is_known), 3), np.nan)
    out[is_known] = probabilities
    return out
