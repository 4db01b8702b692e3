"""Full and warm refits: a warm one goes on from the champion where a full one begins from nothing.

It keeps the champion's feature models and standard deviations, so that what its parts have learned keeps its meaning;
the regression and the nets start from their weights, trees are added to its trees. Weights of the pool, calibration and
cut are chosen anew, as in a full refit, on the newest slices. Both stand before the same gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from ml_actor import splits
from ml_actor.fitting import TREES, Examples, continue_linear, continue_trees
from ml_actor.models import Head, LinearModel, ModelBundle, TreeModel
from ml_actor.neural import NeuralModel
from ml_actor.neural_fitting import Recipe, fit_neural, signed_exchange
from ml_actor.preparation import Prepared, Slice, thinned
from ml_actor.promotion import unseen_rows
from ml_actor.registry import Registry
from ml_actor.training_job import FULL, WARM, TrainingJob

MAX_WARM_ROUNDS: Final = 30
MAX_TREES: Final = 220 * int(TREES["num_class"])
"""Trees only grow in warm refits: a champion of more is refitted in full, so that predictions keep their cost."""
SERVED_NET: Final = Recipe(input_dropout=0.3, nets=2)
"""Two nets of 64 and 32 units: what a prediction can afford (some 10 us)."""
WARM_NET: Final = replace(SERVED_NET, epochs=2, learning_rate=5e-4)
"""A quarter of the epochs, a quarter of the step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refit:
    """What a training starts from: `parent` None is a full one. `why` says what chose it, `since_full` counts warm ones in a row."""

    parent: ModelBundle | None
    why: str
    since_full: int = 0

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says about it."""
        kind = WARM if self.parent else FULL
        return {"kind": kind, "parent": self.parent.version if self.parent else "", "since_full": self.since_full, "why": self.why}


def choose_refit(job: TrainingJob, registry: Registry, champion: ModelBundle | None, prepared: Sequence[Prepared]) -> Refit:
    """Say how to refit: as the job asks, else warm until every `full_every`th; in full where there is nothing to go on from."""
    since_full = 1 + _since_full(registry)
    if job.refit == FULL:
        return Refit(parent=None, why="asked for")
    if job.refit != WARM and since_full >= job.full_every:
        return Refit(parent=None, why=f"every {job.full_every} trainings" if job.full_every > 1 else "all are (training.full_every)")
    objection = _objection(job, registry, champion, prepared)
    if objection:
        return Refit(parent=None, why=f"nothing to go on from: {objection}")
    why = "asked for" if job.refit == WARM else f"{since_full} since the last full one"
    return Refit(parent=champion, why=why, since_full=since_full)


def _since_full(registry: Registry) -> int:
    """Return how many warm refits the newest version is away from a full one."""
    return int(registry.newest_facts().get("refit", {}).get("since_full", 0))


def _objection(job: TrainingJob, registry: Registry, champion: ModelBundle | None, prepared: Sequence[Prepared]) -> str:
    if champion is None:
        return "there is no champion"
    if (champion.window_rows, champion.horizon_rows) != (job.window_rows, job.horizon_rows):
        return f"the champion has windows of {champion.window_rows} and a horizon of {champion.horizon_rows} rows"
    if champion.horizons != tuple(target.horizon_rows for target in prepared[0].targets):
        return f"the champion knows the horizons {', '.join(map(str, champion.horizons))}"
    grown = max(head.trees.forest.tree_count for head in champion.heads)
    if grown > MAX_TREES:
        return f"the champion has grown to {grown} trees"
    fitted = registry.manifest(champion.version).facts["data"].get("fitted")
    if fitted is None or not all(_is_behind(part, {"last": fitted}) for part in prepared):
        return "the champion was fitted on rows that this training would choose and calibrate on"
    return ""


def _is_behind(part: Prepared, fitted: dict[str, Any]) -> bool:
    """Return whether all rows that choices are made on are behind those that the champion's weights were fitted on."""
    chosen_on = np.flatnonzero(part.slices > splits.TRAIN)
    return bool(np.isin(chosen_on, unseen_rows(part.recording, fitted)).all())


def last_fitted(prepared: Sequence[Prepared]) -> dict[str, list[int]]:
    """Return per instrument time and sequence number of the last row that weights are fitted on."""
    return {part.recording.instrument_id: _last_fitted(part) for part in prepared}


def _last_fitted(part: Prepared) -> list[int]:
    rows, fitted = part.recording.rows, np.flatnonzero(part.slices == splits.TRAIN)
    return [int(rows.ts_event[fitted[-1]]), int(rows.sequence[fitted[-1]])] if len(fitted) else []


def warm_linear(parent: Head, shown: Examples) -> LinearModel:
    """Fit the regression on from the parent's weights."""
    return continue_linear(shown, parent.linear)


def warm_trees(parent: Head, shown: Examples, validation: Examples, seed: int) -> tuple[TreeModel, float]:
    """Add trees to the parent's, as many as help on the validation slice."""
    return continue_trees(shown, validation, parent.trees, seed=seed, rounds=MAX_WARM_ROUNDS)


def fit_served_net(parent: ModelBundle | None, train: Slice, seed: int) -> NeuralModel:
    """Fit the nets that are served, from the parent's or anew, on the plain rows and all horizons: they mirror their batches themselves."""
    thin = thinned(train)
    return fit_neural(
        train.examples.features[thin],
        train.taught[thin],
        signed_exchange(),
        weights=train.examples.weights[thin],
        seed=seed,
        recipe=WARM_NET if parent else SERVED_NET,
        start=parent.neural if parent else None,
    )
