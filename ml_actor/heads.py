"""Fit what a version knows about one horizon: its regression and trees, their weights beside the nets, calibration, rule, and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from framework.window import Float64Array
from ml_actor import splits
from ml_actor.calibration import Calibration, CalibrationKind, FlowRule, softmax
from ml_actor.evaluation import acting, direction_losses, is_better, scores
from ml_actor.features.catalogue import INDEX
from ml_actor.fitting import (
    Examples,
    calibrate,
    choose_net_weight,
    choose_rule,
    choose_tree_weight,
    fit_linear,
    fit_trees,
)
from ml_actor.models import Head, pool
from ml_actor.neural import NeuralModel
from ml_actor.preparation import Slice
from ml_actor.refit import warm_linear, warm_trees

_BASELINES: Final = {"imbalance": ("imbalance_1",), "persistence": ("last_move", "return_5", "rows_since_move")}


def draft_head(horizon_rows: int, slices: Sequence[Slice], shown: Examples, seed: int, *, parent: Head | None) -> tuple[Head, float]:
    """Fit regression and trees on the mirrored rows `shown`, from `parent` or anew; return them, and how far the served trees are off."""
    validation = slices[splits.VALIDATION].examples
    linear = warm_linear(parent, shown) if parent else fit_linear(shown)
    trees, parity = warm_trees(parent, shown, validation, seed) if parent else fit_trees(shown, validation, seed=seed)
    head = Head(
        horizon_rows=horizon_rows,
        linear=linear,
        trees=trees,
        tree_weight=choose_tree_weight(linear.scores(validation.features), trees.scores(validation.features), validation.classes),
        neural_weight=0.0,
        calibration=Calibration(kind=CalibrationKind.NONE, parameters=np.zeros(0)),
        rule=FlowRule(neutral_cut=1.0),
    )
    return head, parity


def calibrated_head(draft: Head, slices: Sequence[Slice], neural: NeuralModel, place: int) -> Head:
    """Choose the weight of the nets, calibration and rule of a draft; the nets know its horizon at `place`."""
    validation, later = slices[splits.VALIDATION].examples, slices[splits.CALIBRATION].examples
    asked = neural.scores(validation.features)[:, place]
    weight = choose_net_weight(draft.raw(validation.features, None), asked, validation.classes, block_rows=draft.horizon_rows)
    pooled = replace(draft, neural_weight=weight)
    raw = pooled.raw(later.features, neural.scores(later.features)[:, place] if weight else None)
    calibration = calibrate(raw, later.classes, gap_rows=draft.horizon_rows)
    return replace(pooled, calibration=calibration, rule=choose_rule(calibration.apply(raw), slices[splits.CALIBRATION].moves))


def evaluated(head: Head, neural: NeuralModel, place: int, test: Slice, train_rows: Examples) -> dict[str, Any]:
    """Return the metrics of a horizon on the test slice, beside those of its parts and of the baselines."""
    features, classes = test.examples.features, test.examples.classes
    net = neural.scores(features)[:, place]
    probabilities = head.calibration.apply(head.raw(features, net))
    shares = np.tile(prior(train_rows), (len(classes), 1))
    linear, trees = head.linear.scores(features), head.trees.scores(features)
    table = {
        "model": scores(probabilities, classes),
        "linear": scores(pool(linear, trees, 0.0), classes),
        "trees": scores(pool(linear, trees, 1.0), classes),
        "net": scores(softmax(net), classes),
        "prior": scores(shares, classes),
    }
    for name, columns in _BASELINES.items():
        small = fit_linear(_columns(train_rows, columns), strength=1.0)
        flat = small.scores(_columns(test.examples, columns).features)
        table[name] = scores(pool(flat, flat, 0.0), classes)
    return {
        "n": len(classes),
        "share_flat": float((classes == 1).mean()),
        "scores": table,
        "acting": acting(probabilities, test.moves, head.rule),
        "beats_coin": list(is_better(direction_losses(probabilities, classes), direction_losses(shares, classes), head.horizon_rows)),
        "skill": 1 - table["model"]["log_loss"] / table["prior"]["log_loss"],
    }


def choices(head: Head) -> dict[str, Any]:
    """Return what was chosen for a horizon: calibration, weights in the pool, cut for NEUTRAL."""
    return {
        "calibration": head.calibration.kind.value,
        "tree_weight": head.tree_weight,
        "neural_weight": head.neural_weight,
        "neutral_cut": head.rule.neutral_cut,
    }


def rows_by_slice(slices: Sequence[Slice]) -> dict[str, int]:
    """Return how many rows each slice has."""
    return {name: len(slices[number].examples) for number, name in enumerate(splits.SLICES)}


def prior(examples: Examples) -> Float64Array:
    """Return the shares of the classes."""
    counts = np.bincount(examples.classes, minlength=3).astype(np.float64)
    return np.asarray(counts / counts.sum())


def _columns(examples: Examples, names: Sequence[str]) -> Examples:
    """Return the named features and their magnitudes, which is what a baseline needs to know flat from moving."""
    chosen = examples.features[:, [INDEX[name] for name in names]]
    return Examples(features=np.hstack([chosen, np.abs(chosen)]), classes=examples.classes, weights=examples.weights)
