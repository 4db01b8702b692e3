"""What the models of `horizons` see: features of the engine, the last rows as they came, and long context.

All of it is scale-free, so that a model travels to an instrument that it never saw, and mirroring (bid and ask exchanged)
is a change of order and sign of these inputs, which costs nothing when serving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from framework.window import Float64Array, Int64Array
from ml_actor import context, sequence
from ml_actor.features.catalogue import FEATURES
from ml_actor.features.engine import AdvancedMLFeatureEngine
from ml_actor.features.table import NEGATED
from ml_actor.preparation import Recording

EARLIER_ROWS: Final = 100
"""How many rows of its segment a row needs before it, to be predicted."""
SEQUENCE: Final = "sequence"
CONTEXT: Final = "context"

NAMES: Final = (*(feature.name for feature in FEATURES), *sequence.NAMES, *context.NAMES)
_PLACES: Final = {feature.name: place for place, feature in enumerate(FEATURES)}
ORDER: Final = np.concatenate(
    [
        np.array([_PLACES.get(feature.mirror, place) for place, feature in enumerate(FEATURES)]),
        sequence.ORDER + len(FEATURES),
        context.ORDER + len(FEATURES) + len(sequence.NAMES),
    ]
)
SIGN: Final = np.concatenate([np.array([-1.0 if feature.mirror == NEGATED else 1.0 for feature in FEATURES]), sequence.SIGN, context.SIGN])
_GROUPS: Final = np.array(
    [*(feature.group for feature in FEATURES), *(SEQUENCE for _ in sequence.NAMES), *(CONTEXT for _ in context.NAMES)]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The columns that a model sees, by their places in `NAMES`, and the averages that long context begins with."""

    columns: Int64Array
    begin: Float64Array

    @property
    def names(self) -> tuple[str, ...]:
        """Return the name of each column."""
        return tuple(NAMES[column] for column in self.columns)

    @property
    def mirror(self) -> tuple[Int64Array, Float64Array]:
        """Return (order, sign): the same rows with bid and ask exchanged have the inputs `values[:, order] * sign`."""
        places = {int(column): place for place, column in enumerate(self.columns)}
        return np.array([places[int(ORDER[column])] for column in self.columns], np.int64), SIGN[self.columns]


def all_rows(recording: Recording, begin: Float64Array) -> Float64Array:
    """Return float64 (n, F) by `NAMES`: the inputs of every row, each from rows up to it and none behind it."""
    engine = AdvancedMLFeatureEngine(window_rows=EARLIER_ROWS)
    features = engine.transform_rows(recording.rows, has_trades=recording.has_trades)
    return np.ascontiguousarray(np.hstack([features, sequence.sequence_rows(recording.rows), context.context_rows(recording.rows, begin)]))


def columns_without(*groups: str) -> Int64Array:
    """Return the columns of every group but these: groups of the feature catalogue, `SEQUENCE`, `CONTEXT`."""
    return np.flatnonzero(~np.isin(_GROUPS, groups))


def columns_named(*names: str) -> Int64Array:
    """Return the columns of these names. Raises `ValueError` for a name that is not there."""
    return np.array([NAMES.index(name) for name in names], np.int64)


def begin_of(train: Sequence[Recording]) -> Float64Array:
    """Return the averages of the training rows that long context begins with."""
    return context.prior([part.rows for part in train])
