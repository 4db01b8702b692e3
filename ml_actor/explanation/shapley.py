"""Part what trees say among the features: path-dependent TreeSHAP (Lundberg et al. 2020, Nature Machine Intelligence 2, Algorithm 2).

`v(S)` is what a tree says when the features in S are known and every other split is averaged over its children, in the shares in which
background rows went through them; a feature's contribution is its Shapley value of that game. Base and contributions add up to
the margin exactly. LightGBM keeps its training counts only in its own model file; here shares are counted on the rows before the
prediction (one more in each leaf, so that none is empty).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from framework.window import Float64Array
from ml_actor.forest import FEATURE, LEFT, MISSING, RIGHT, Forest


@dataclass(slots=True)
class _Step:
    """One step of a path: a feature, the shares of paths through it when it is not known and when it is, and a weight."""

    feature: int
    zero: float
    one: float
    weight: float


def contributions(forest: Forest, features: Float64Array, background: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return what each feature of one row adds, (numbers, F), and the base (numbers,), over background rows (n, F)."""
    covers = node_covers(forest, background)
    added = np.zeros((len(forest.base), forest.feature_count))
    base = forest.base.astype(np.float64).copy()
    for root, output in zip(forest.roots.tolist(), forest.outputs.tolist(), strict=True):
        walker = _Walker(forest, features, covers)
        walker.recurse(root, [], 1.0, 1.0, -1)
        added[output] += walker.added / forest.divisor[output]
        base[output] += _expected(forest, covers, root) / forest.divisor[output]
    return added, base


def node_covers(forest: Forest, background: Float64Array) -> Float64Array:
    """Return how many background rows pass each node, plus one for each leaf below it."""
    covers = np.zeros(len(forest.values))
    for root in forest.roots.tolist():
        _count(forest, root, background, np.arange(len(background)), covers)
    return covers


def _count(forest: Forest, node: int, background: Float64Array, rows: Any, covers: Float64Array) -> float:
    feature, left, right, missing = forest.splits[node].tolist()
    if feature < 0:
        covers[node] = len(rows) + 1.0
    else:
        values = background[rows, feature]
        goes_left = np.where(np.isnan(values), missing == left, values <= forest.values[node])
        covers[node] = _count(forest, left, background, rows[goes_left], covers)
        covers[node] += _count(forest, right, background, rows[~goes_left], covers)
    return float(covers[node])


def _expected(forest: Forest, covers: Float64Array, node: int) -> float:
    if forest.splits[node, FEATURE] < 0:
        return float(forest.values[node])
    children = forest.splits[node, LEFT : RIGHT + 1].tolist()
    return sum(_expected(forest, covers, child) * float(covers[child] / covers[node]) for child in children)


@dataclass(slots=True)
class _Walker:
    """Walks one tree for one row; `added` is what each feature adds."""

    forest: Forest
    features: Float64Array
    covers: Float64Array
    added: Float64Array = field(init=False)

    def __post_init__(self) -> None:
        self.added = np.zeros(self.forest.feature_count)

    def recurse(self, node: int, path: list[_Step], zero: float, one: float, feature: int) -> None:
        path = _extended(path, zero, one, feature)
        split = int(self.forest.splits[node, FEATURE])
        if split < 0:
            self._credit(path, float(self.forest.values[node]))
            return
        hot, cold = self._children(node)
        before = next((place for place in range(1, len(path)) if path[place].feature == split), 0)
        known_zero = known_one = 1.0
        if before:
            known_zero, known_one = path[before].zero, path[before].one
            path = _unwound(path, before)
        cover = float(self.covers[node])
        self.recurse(hot, path, known_zero * float(self.covers[hot]) / cover, known_one, split)
        self.recurse(cold, path, known_zero * float(self.covers[cold]) / cover, 0.0, split)

    def _children(self, node: int) -> tuple[int, int]:
        """Return the child that the row goes to, and the other one."""
        split = self.forest.splits[node]
        value = float(self.features[split[FEATURE]])
        left, right = int(split[LEFT]), int(split[RIGHT])
        chosen = int(split[MISSING]) if np.isnan(value) else left if value <= self.forest.values[node] else right
        return chosen, right if chosen == left else left

    def _credit(self, path: list[_Step], value: float) -> None:
        for place in range(1, len(path)):
            weight = sum(step.weight for step in _unwound(path, place))
            step = path[place]
            self.added[step.feature] += weight * (step.one - step.zero) * value


def _extended(path: list[_Step], zero: float, one: float, feature: int) -> list[_Step]:
    length = len(path)
    grown = [_Step(step.feature, step.zero, step.one, step.weight) for step in path]
    grown.append(_Step(feature, zero, one, 1.0 if length == 0 else 0.0))
    for place in range(length - 1, -1, -1):
        grown[place + 1].weight += one * grown[place].weight * (place + 1) / (length + 1)
        grown[place].weight = zero * grown[place].weight * (length - place) / (length + 1)
    return grown


def _unwound(path: list[_Step], place: int) -> list[_Step]:
    last = len(path) - 1
    zero, one, carry = path[place].zero, path[place].one, path[last].weight
    weights = [step.weight for step in path]
    for number in range(last - 1, -1, -1):
        if one:
            before = weights[number]
            weights[number] = carry * (last + 1) / ((number + 1) * one)
            carry = before - weights[number] * zero * (last - number) / (last + 1)
        else:
            weights[number] = weights[number] * (last + 1) / (zero * (last - number))
    kept = [step for number, step in enumerate(path) if number != place]
    return [_Step(step.feature, step.zero, step.one, weight) for step, weight in zip(kept, weights[:last], strict=True)]
