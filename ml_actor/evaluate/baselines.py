"""The baselines that stand in every table: what a model has to beat before anything it says is worth reading.

majority      the class shares of the training part, for every row
persistence   multinomial logistic regression on the move of the mid over the last 1, 5 and `horizon` rows
imbalance     multinomial logistic regression on the imbalance of the best queues, (bid - ask) / (bid + ask) (Gould & Bonart 2016)

Both regressions also see the magnitudes of their inputs, for that is what tells moving from flat, and every training
row mirrored (inputs negated, up and down exchanged), so that none of them learns the drift of one day. The rule by which
one names a class is chosen on its training rows: six numbers fit nothing there that they would not fit elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from framework.window import Float64Array, Int64Array, Rows
from ml_actor.calibration import softmax
from ml_actor.calls import CallRule, choose_calls
from ml_actor.evaluate.targets import targets
from ml_actor.fitting import Examples, fit_linear
from ml_actor.labels import classify, positions
from ml_actor.models import LinearModel
from ml_actor.preparation import Recording

MAJORITY: Final = "majority"
MAX_ROWS: Final = 60_000
"""Above it the training rows are thinned evenly; a regression on six numbers learns nothing from more."""

Inputs = Callable[[Rows, int], Float64Array]


def imbalance(rows: Rows, _: int) -> Float64Array:
    """Return (n, 1): the imbalance of the best queues, -1 to 1; 0 where both are empty."""
    bid, ask = rows.bid_sizes[:, 0].astype(np.float64), rows.ask_sizes[:, 0].astype(np.float64)
    total = bid + ask
    return np.where(total > 0, (bid - ask) / np.where(total > 0, total, 1.0), 0.0)[:, None]


def past_moves(rows: Rows, horizon: int) -> Float64Array:
    """Return (n, 3): the move of the mid in half ticks over the last 1, 5 and `horizon` rows, as far as the session goes back."""
    mids = rows.bid_ticks[:, 0].astype(np.int64) + rows.ask_ticks[:, 0].astype(np.int64)
    here, earlier = np.arange(len(rows)), positions(rows.segment)
    columns = [mids - mids[here - np.minimum(earlier, back)] for back in (1, 5, horizon)]
    return np.stack(columns, axis=1).astype(np.float64)


INPUTS: Final[Mapping[str, Inputs]] = {"persistence": past_moves, "imbalance": imbalance}


class Majority:
    """The class shares of the training part."""

    def __init__(self, shares: Float64Array) -> None:
        self._shares = shares
        self.rule = CallRule()

    def predict(self, rows: Rows) -> Float64Array:
        """Return (n, 3) probabilities."""
        return np.tile(self._shares, (len(rows), 1))


class Regression:
    """Logistic regression on a few numbers of each row."""

    def __init__(self, inputs: Inputs, horizon: int, model: LinearModel, rule: CallRule) -> None:
        self.rule = rule
        self._inputs = inputs
        self._horizon = horizon
        self._model = model

    def predict(self, rows: Rows) -> Float64Array:
        """Return (n, 3) probabilities."""
        return softmax(self._model.scores(_with_magnitudes(self._inputs(rows, self._horizon))))


Baseline = Majority | Regression


def fit_baseline(name: str, train: Sequence[Recording], horizon: int, threshold: float) -> Baseline:
    """Fit one baseline on the scored rows of `train`."""
    found = [targets(part.rows, horizon) for part in train]
    classes = classify(np.concatenate([part.moves for part in found]), threshold)
    if name == MAJORITY:
        return Majority(shares(classes))
    inputs = INPUTS[name]
    values = np.concatenate([inputs(part.rows, horizon)[own.rows] for part, own in zip(train, found, strict=True)])
    model = _fit(values, classes)
    rule = choose_calls(softmax(model.scores(_with_magnitudes(values))), classes)
    return Regression(inputs, horizon, model, rule)


def fit_baselines(train: Sequence[Recording], horizon: int, threshold: float) -> dict[str, Baseline]:
    """Fit every baseline on the scored rows of `train`."""
    return {name: fit_baseline(name, train, horizon, threshold) for name in (MAJORITY, *INPUTS)}


def shares(classes: Int64Array) -> Float64Array:
    """Return (3,): the share of each class, a little above 0 for one that is absent."""
    counts = np.bincount(classes, minlength=3) + 0.5
    return np.asarray(counts / counts.sum())


def _fit(values: Float64Array, classes: Int64Array) -> LinearModel:
    thin = slice(None, None, max(1, -(-len(classes) // MAX_ROWS)))
    values, classes = values[thin], classes[thin]
    shown = np.concatenate([_with_magnitudes(values), _with_magnitudes(-values)])
    told = np.concatenate([classes, 2 - classes])
    return fit_linear(Examples(features=shown, classes=told, weights=np.ones(len(told))), strength=1.0)


def _with_magnitudes(values: Float64Array) -> Any:
    return np.hstack([values, np.abs(values)])
