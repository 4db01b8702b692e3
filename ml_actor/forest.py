"""Trees as flat arrays, walked by one compiled function: a prediction costs some microseconds and needs no library.

`fitting` converts what LightGBM or scikit-learn fitted (through treelite) and checks the two equal; what is stored and
served are these arrays. Walking adds the leaves in the order of the trees, so that one row and many rows give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numba import njit

from framework.window import Float64Array, Int32Array

FEATURE, LEFT, RIGHT, MISSING = 0, 1, 2, 3
"""Columns of `Forest.splits`."""
LEAF: Final = -1
_LESS, _LESS_OR_EQUAL = 2, 3  # treelite's numbers of the comparisons


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """Trees over `feature_count` features that add up to as many numbers as `base` has.

    `splits` int32 (n, 4): feature (-1 in a leaf), child where the feature is <= the value, child where it is greater, child
    where it is NaN. `values` float64 (n,): threshold, or what a leaf adds. `roots` and `outputs` int32 (trees,): first node,
    and which number a tree adds to. A margin is `base` + sum of leaves / `divisor`. Raises `ValueError` for arrays that
    could not be walked: a child must come behind its parent, so that every walk ends.
    """

    splits: Int32Array
    values: Float64Array
    roots: Int32Array
    outputs: Int32Array
    base: Float64Array
    divisor: Float64Array
    feature_count: int

    def __post_init__(self) -> None:
        fault = _fault(self)
        if fault:
            raise ValueError(f"forest: {fault}")

    @property
    def tree_count(self) -> int:
        """Return how many trees are walked for a row."""
        return len(self.roots)

    def margins(self, features: Float64Array) -> Float64Array:
        """Return float64 (rows, numbers): what the trees add up to. Raises `ValueError` when a row has too few features."""
        if features.shape[1] < self.feature_count:
            raise ValueError(f"forest: rows of {features.shape[1]} features, trained on {self.feature_count}")
        out: Float64Array = _walk(features, (self.splits, self.values), (self.roots, self.outputs), (self.base, self.divisor))
        return out

    def arrays(self) -> dict[str, Any]:
        """Return plain arrays; `from_arrays` takes them back."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}


def from_arrays(arrays: dict[str, Any]) -> Forest:
    """Build a forest from what `Forest.arrays` gave. Raises `ValueError` for arrays that are no forest."""
    if set(arrays) != {field.name for field in fields(Forest)}:
        raise ValueError(f"forest: arrays {sorted(arrays)}")
    kinds = {"splits": np.int32, "roots": np.int32, "outputs": np.int32}
    exact: dict[str, Any] = {
        name: np.ascontiguousarray(array, kinds.get(name, np.float64)) for name, array in arrays.items() if name != "feature_count"
    }
    return Forest(**exact, feature_count=int(arrays["feature_count"]))


def from_treelite(model: Any) -> Forest:
    """Convert a treelite model of numerical splits and one number a leaf. Raises `ValueError` for anything else."""
    header = model.get_header_accessor()
    # Copies: treelite hands out its own memory, which goes when the model goes.
    outputs = np.array(header.get_field("class_id"), np.int32)
    base = np.array(header.get_field("base_scores"), np.float64)
    trees = [_tree(model.get_tree_accessor(number)) for number in range(model.num_tree)]
    sizes = np.array([len(values) for _, values in trees])
    roots = np.cumsum(sizes) - sizes
    is_mean = bool(header.get_field("average_tree_output")[0])
    return Forest(
        splits=np.concatenate([_moved(splits, root) for (splits, _), root in zip(trees, roots, strict=True)]),
        values=np.concatenate([values for _, values in trees]),
        roots=roots.astype(np.int32),
        outputs=outputs,
        base=base,
        divisor=np.maximum(1, np.bincount(outputs, minlength=len(base))).astype(np.float64) if is_mean else np.ones(len(base)),
        feature_count=model.num_feature,
    )


def joined(forests: Sequence[Forest]) -> Forest:
    """Return one forest whose numbers are those of `forests` side by side: one walk instead of one for each."""
    firsts = np.cumsum([0, *(len(forest.values) for forest in forests)])
    numbers = np.cumsum([0, *(len(forest.base) for forest in forests)])
    return Forest(
        splits=np.concatenate([_moved(forest.splits, first) for forest, first in zip(forests, firsts, strict=False)]),
        values=np.concatenate([forest.values for forest in forests]),
        roots=np.concatenate([forest.roots + np.int32(first) for forest, first in zip(forests, firsts, strict=False)]),
        outputs=np.concatenate([forest.outputs + np.int32(number) for forest, number in zip(forests, numbers, strict=False)]),
        base=np.concatenate([forest.base for forest in forests]),
        divisor=np.concatenate([forest.divisor for forest in forests]),
        feature_count=max(forest.feature_count for forest in forests),
    )


def extended(forest: Forest, more: Forest) -> Forest:
    """Return one forest that adds up to the sum of both. Raises `ValueError` where they have different numbers, or are means."""
    if forest.base.shape != more.base.shape or (forest.divisor != 1).any() or (more.divisor != 1).any():
        raise ValueError("forest: only sums of trees with as many numbers can be extended")
    beside = joined([forest, more])
    return replace(
        beside,
        outputs=np.concatenate([forest.outputs, more.outputs]),
        base=forest.base + more.base,
        divisor=forest.divisor,
    )


def _tree(tree: Any) -> tuple[Int32Array, Float64Array]:
    names = ("split_index", "cleft", "cright", "default_left", "threshold", "leaf_value", "cmp")
    feature, left, right, default_left, threshold, leaf, comparison = (np.asarray(tree.get_field(name)) for name in names)
    is_leaf = left < 0
    known = np.isin(comparison[~is_leaf], (_LESS, _LESS_OR_EQUAL)).all() and not tree.get_field("has_categorical_split")[0]
    if not known or len(tree.get_field("leaf_vector")):
        raise ValueError("forest: only numerical splits by < or <= and one number a leaf can be walked")
    below = np.where(comparison == _LESS, np.nextafter(threshold.astype(np.float64), -np.inf), threshold)
    missing = np.where(default_left != 0, left, right)
    splits = np.stack([np.where(is_leaf, LEAF, feature), left, right, missing], axis=1)
    return splits.astype(np.int32), np.where(is_leaf, leaf, below).astype(np.float64)


def _moved(splits: Int32Array, first: int) -> Int32Array:
    """Return the splits with children counted from the forest's first node."""
    moved = splits.copy()
    moved[splits[:, FEATURE] >= 0, LEFT:] += np.int32(first)
    return moved


def _fault(forest: Forest) -> str:
    nodes, numbers, own = len(forest.values), len(forest.base), np.arange(len(forest.values))
    if forest.splits.shape != (nodes, 4) or forest.divisor.shape != (numbers,) or forest.outputs.shape != forest.roots.shape:
        return "arrays that do not fit each other"
    inner = forest.splits[:, FEATURE] >= 0
    children = forest.splits[inner, LEFT:]
    checks = {
        "a child before its parent": (children > own[inner, None]).all(),
        "a child that is not there": (children < nodes).all(),
        "a feature that is not there": (forest.splits[:, FEATURE] < forest.feature_count).all(),
        "a root that is not there": ((forest.roots >= 0) & (forest.roots < nodes)).all(),
        "an output that is not there": ((forest.outputs >= 0) & (forest.outputs < numbers)).all(),
        "a threshold that is no number": not np.isnan(forest.values).any(),
        "a leaf that is not finite": np.isfinite(forest.values[~inner]).all()
        and np.isfinite(forest.base).all()
        and (forest.divisor > 0).all(),
    }
    return next((fault for fault, holds in checks.items() if not holds), "")


@njit(cache=True)
def _walk(features: Any, nodes: Any, trees: Any, numbers: Any) -> Any:
    (splits, values), (roots, outputs), (base, divisor) = nodes, trees, numbers
    out = np.zeros((len(features), len(base)))
    for row in range(len(features)):
        for tree in range(len(roots)):
            node = roots[tree]
            while splits[node, 0] >= 0:
                value = features[row, splits[node, 0]]
                node = splits[node, 3] if math.isnan(value) else splits[node, 1] if value <= values[node] else splits[node, 2]
            out[row, outputs[tree]] += values[node]
        for number in range(len(base)):
            out[row, number] = base[number] + out[row, number] / divisor[number]
    return out
