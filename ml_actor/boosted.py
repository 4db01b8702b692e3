"""Boosted trees as a member: one forest a horizon, its number of rounds chosen on rows that it was not fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import lightgbm
import numpy as np

from framework.window import Float64Array, Int64Array
from ml_actor.evaluation import log_losses
from ml_actor.inputs import NAMES
from ml_actor.members import Fitted, Member, Shown, both_ways, normalised, turned
from ml_actor.preparation import UNKNOWN

TREES: Final[dict[str, Any]] = {
    "objective": "multiclass",
    "num_class": 3,
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 500,
    "lambda_l2": 10.0,
    "feature_fraction": 0.2,
    "bagging_fraction": 0.6,
    "bagging_freq": 1,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_col_wise": True,
    "verbosity": -1,
}
"""Few rows and columns a tree: labels overlap, so neighbours say nearly the same, and features repeat each other."""
ROUNDS: Final = (30, 45, 60, 80, 100, 120)
MAX_ROWS: Final = 40_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees:
    """LightGBM on `columns`; `rounds` by horizon, the most of `ROUNDS` where nothing is chosen yet; `parameters` over `TREES`."""

    name: str
    columns: Int64Array
    rounds: Mapping[int, int] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def fit(self, shown: Shown, horizons: Sequence[int], seed: int) -> Fitted:
        """Fit a forest a horizon."""
        boosters = {horizon: self._booster(shown, horizon, seed) for horizon in horizons}
        return FittedTrees(self, boosters)

    def _booster(self, shown: Shown, horizon: int, seed: int) -> Any:
        found = shown.examples(horizon, self.columns, MAX_ROWS)
        data = lightgbm.Dataset(found.features, found.classes, weight=found.weights, free_raw_data=True)
        return lightgbm.train({**TREES, **self.parameters, "seed": seed}, data, self.rounds.get(horizon, ROUNDS[-1]))

    def tuned(self, fits: Sequence[tuple[Fitted, Shown]], horizons: Sequence[int]) -> tuple[Member, list[Fitted]]:
        """Choose for each horizon the rounds with the least log-loss on the rows that the fits have not seen."""
        losses = {horizon: _mean_losses(fits, horizon) for horizon in horizons}
        chosen = {horizon: min(ROUNDS, key=losses[horizon].__getitem__) for horizon in horizons}
        kind = replace(self, rounds=chosen)
        return kind, [replace(fitted, kind=kind) for fitted, _ in fits if isinstance(fitted, FittedTrees)]


@dataclass(frozen=True, slots=True)
class FittedTrees:
    """Boosters by horizon, asked for the rounds of `kind`."""

    kind: Trees
    boosters: Mapping[int, Any]

    def log_probabilities(self, values: Float64Array, horizon: int) -> Float64Array:
        """Return (n, 3) log-probabilities, the mean of both directions."""
        rounds = self.kind.rounds.get(horizon, ROUNDS[-1])
        return both_ways(lambda rows: self._margins(rows, horizon, 0, rounds), values)

    def staged(self, values: Float64Array, horizon: int) -> Iterator[tuple[int, Float64Array]]:
        """Yield log-probabilities after each of `ROUNDS`, walking each tree once."""
        mirrored, before = turned(values), 0
        plain_sum, mirrored_sum = np.zeros((len(values), 3)), np.zeros((len(values), 3))
        for rounds in ROUNDS:
            plain_sum += self._margins(values, horizon, before, rounds)
            mirrored_sum += self._margins(mirrored, horizon, before, rounds)
            yield rounds, normalised((normalised(plain_sum) + normalised(mirrored_sum)[:, ::-1]) / 2)
            before = rounds

    def _margins(self, values: Float64Array, horizon: int, start: int, end: int) -> Float64Array:
        chosen = np.ascontiguousarray(values[:, self.kind.columns])
        return np.asarray(self.boosters[horizon].predict(chosen, raw_score=True, start_iteration=start, num_iteration=end - start))

    def importance(self) -> Mapping[str, float]:
        """Return the share of the gain of all splits, by input."""
        gains = np.sum([booster.feature_importance("gain") for booster in self.boosters.values()], axis=0)
        shares = gains / max(gains.sum(), 1e-12)
        return {NAMES[column]: float(share) for column, share in zip(self.kind.columns, shares, strict=True)}


def _mean_losses(fits: Sequence[tuple[Fitted, Shown]], horizon: int) -> dict[int, float]:
    losses: dict[int, list[Float64Array]] = {rounds: [] for rounds in ROUNDS}
    for fitted, unseen in fits:
        if not isinstance(fitted, FittedTrees):
            continue
        classes = unseen.classes[:, unseen.horizons.index(horizon)]
        thin = np.flatnonzero(classes != UNKNOWN)[::3]
        for rounds, logs in fitted.staged(unseen.values[thin], horizon):
            losses[rounds].append(log_losses(np.exp(logs), classes[thin]))
    return {rounds: float(np.concatenate(parts).mean()) for rounds, parts in losses.items()}
