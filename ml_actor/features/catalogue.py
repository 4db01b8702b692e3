"""The feature catalogue: names, places, the hash of the whole set, and the mirror as an exchange of columns.

Everything is scale-free (ratios, depths, spreads, logarithms), so that one model serves instruments of any price, tick and
lot size. A number that the feed or the history cannot give is NaN, never 0: a missing level, no trades in the feed, fewer
rows than the weights need, a side that is empty.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import astuple
from typing import Final

import numpy as np

from framework.window import ROW_SCHEMA_HASH, Float64Array
from ml_actor.features.table import CONTEXT_FEATURES, FITTED_FEATURES, NEGATED, REGIMES, ROW_FEATURES, Feature

__all__ = [
    "ALL_NAMES",
    "CONTEXT_FEATURES",
    "CONTEXT_NAMES",
    "FEATURES",
    "FEATURE_NAMES",
    "FITTED_FEATURES",
    "INDEX",
    "REGIMES",
    "SCHEMA_HASH",
    "SHOCK_INPUTS",
    "mirrored",
]

CATALOGUE_VERSION: Final = 2
"""Raise it when a formula changes under an unchanged name and description."""

FEATURES: Final = ROW_FEATURES
"""What is computed without fitted models."""

SHOCK_INPUTS: Final = ("spread", "depth_ratio_5", "shock_ofi", "shock_depth", "cancel_share", "event_burst", "variance_ratio", "row_gap")
"""Inputs of the IsolationForest: all of them are the same when bid and ask change places."""

FEATURE_NAMES: Final = tuple(feature.name for feature in FEATURES)
ALL_NAMES: Final = FEATURE_NAMES + tuple(feature.name for feature in FITTED_FEATURES)
CONTEXT_NAMES: Final = tuple(feature.name for feature in CONTEXT_FEATURES)
EVERY_FEATURE: Final = (*FEATURES, *FITTED_FEATURES, *CONTEXT_FEATURES)
INDEX: Final = {name: position for position, name in enumerate(ALL_NAMES)}

SCHEMA_HASH: Final = hashlib.sha256(
    repr((CATALOGUE_VERSION, ROW_SCHEMA_HASH, SHOCK_INPUTS, [astuple(feature) for feature in EVERY_FEATURE])).encode()
).hexdigest()[:16]
"""Names what a model was trained on; a model of another hash is refused."""

_SIGNS: Final = np.array([-1.0 if feature.mirror == NEGATED else 1.0 for feature in EVERY_FEATURE])
_PLACES: Final = {feature.name: place for place, feature in enumerate(EVERY_FEATURE)}
_PARTNERS: Final = np.array([_PLACES.get(feature.mirror, _PLACES[feature.name]) for feature in EVERY_FEATURE])


def mirrored(features: Float64Array, names: Sequence[str] = ALL_NAMES) -> Float64Array:
    """Return the features of the same rows with bid and ask exchanged (`engine.mirror`), bit for bit.

    `names` are those of the columns (`engine.names`); fewer columns are the first of them.
    """
    wanted = [_PLACES[name] for name in names[: features.shape[1]]]
    where = {place: column for column, place in enumerate(wanted)}
    return np.asarray(features[:, [where[place] for place in _PARTNERS[wanted]]] * _SIGNS[wanted])


def columns_of(*groups: str) -> list[int]:
    """Return the places among `ALL_NAMES` of the features of these groups. Raises `KeyError` for a group that is not there."""
    known = {feature.group for feature in (*FEATURES, *FITTED_FEATURES)}
    if missing := set(groups) - known:
        raise KeyError(f"no feature group {sorted(missing)}, known are {sorted(known)}")
    return [INDEX[feature.name] for feature in (*FEATURES, *FITTED_FEATURES) if feature.group in groups]


GROUPS: Final = {
    "book": "The book: sizes and prices of the row, relative to the look-back",
    "queue": "The queues at the best prices",
    "flow": "Order flow: imbalances, trades, additions, cancellations",
    "intensity": "Intensities in time",
    "price": "The path of the mid",
    "volatility": "Volatility",
    "impact": "Impact, trading costs, resilience",
    "clock": "Staleness",
    "shock": "Liquidity shocks, deterministic",
    "fitted": "Of fitted models: liquidity shocks and regimes",
    "session": "With context: the session clock",
    "bars": "With context: bars",
}

_PREFACE: Final = f"""# Features

Made by `python -m ml_actor.features.catalogue > docs/features.md`; a test holds it in step with the code.

{len(FEATURES)} numbers of rows, {len(FITTED_FEATURES)} of fitted models, and {len(CONTEXT_FEATURES)} of context on request.
Schema `{SCHEMA_HASH}`. A model says which schema it was trained on and is refused by another one. The hash covers everything in
the tables below and the version of the formulas.

- The look-back is the last 100 rows (`training.window_rows`) of the segment; nothing crosses a session break or a gap.
- `h1`, `h3`, `h10`, `h30` are means whose weights halve every 1, 3, 10, 30 rows; `all` weighs the look-back equally. They are missing
  below 2, 4, 11, 31 and 20 rows.
- A *depth* is the mean size of both best queues in the look-back, a *spread* the mean spread: no feature but `tick_class` changes with
  the tick size, none with the lot size or the price.
- What a feed or the history cannot give is missing (NaN), never 0: trades, deep levels, an empty side, a young segment.
- Every number is known when its row is known: what a row says about trades and changes lies before it. What looks back at a
  trade's outcome (`realised_spread`) takes trades whose outcome is past.
- *Context* (`AdvancedMLFeatureEngine(with_context=True)`) is for models that are trained with bars and on many days. It is off by
  default: recorded rows have no bars, and what a model learns about the time of day from a few days does not hold on the next.
- *Mirror* says what becomes of a feature when bid and ask change places: the same, negated, or another feature. It holds bit for bit.
- *Cost* of one more row: `1` some operations, `L` a pass over the levels, `W` a pass over the look-back, `W S` one pass over look-back and
  series that all such features share, `T` a walk of trees, `W K` a filter of K states.
"""


_HEAD: Final = f"| name | formula | unit | range | rows | made from | cost | mirror | known at | source |\n|{'---|' * 10}"

_MEASURED: Final = """## What each group is worth

Log-loss of boosted trees of fixed size on later data: how much it rises without the group, and how much it falls when the group is
put beside imbalance, spread and the sizes of the best queues. Groups repeat each other, so single losses are small. SHFE rebar:
5 June trains (every second row), 6 June tests. GOOG: 5 levels, terciles, the first 60 % of the day train (every fourth row), the next
20 % test. One seed; differences below about 0.001 are chance. Of all groups together: 0.5122, 0.9844, 1.0072; of the four numbers
alone: 0.5471, 0.9999, 1.0798.

| group | rebar, 10 rows | rebar, 50 rows | GOOG, 10 events |
|---|---|---|---|
| `book` | 0.0025, 0.0240 | 0.0006, 0.0063 | 0.0050, 0.0185 |
| `queue` | 0.0006, 0.0320 | 0.0011, 0.0243 | 0.0005, 0.0207 |
| `flow` | 0.0001, 0.0328 | -0.0022, 0.0158 | 0.0021, 0.0480 |
| `intensity` | 0.0002, 0.0147 | 0.0002, 0.0123 | 0.0028, 0.0378 |
| `price` | -0.0010, 0.0222 | -0.0024, 0.0021 | 0.0055, 0.0501 |
| `volatility` | -0.0009, 0.0043 | -0.0003, 0.0070 | -0.0009, 0.0003 |
| `impact` | 0.0003, 0.0052 | 0.0032, 0.0119 | 0.0006, 0.0027 |
| `clock` | -0.0005, 0.0058 | 0.0011, 0.0066 | 0.0029, 0.0064 |
| `shock` | -0.0004, 0.0097 | 0.0013, 0.0053 | 0.0012, 0.0058 |

The session clock among the inputs cost 0.014 at 50 rows (one day of training, tested on the next), so it stands in the context.

    python -m tests.benchmarks.ablate_features --train rb_20250605.parquet --test rb_20250606.parquet --horizons 10,50 --rounds 60 --thin 2
    python -m tests.benchmarks.ablate_features --train LOBSTER_SampleFile_GOOG_2012-06-21_10.zip --levels 5 --label tercile \
        --share 0.6 --end 0.8 --horizons 10 --rounds 60 --thin 4
"""


def page() -> str:
    """Return the catalogue as a page."""
    parts = [_PREFACE]
    for group, title in GROUPS.items():
        rows = [feature for feature in EVERY_FEATURE if feature.group == group]
        parts.append("\n".join([f"## {title}\n", _HEAD, *(_line(feature) for feature in rows)]) + "\n")
    return "\n".join([*parts, _MEASURED])


def _line(feature: Feature) -> str:
    bounds = f"{feature.low:g} .. {feature.high:g}".replace("-inf", "").replace("inf", "").strip()
    cells = (
        f"`{feature.name}`",
        feature.formula.replace("|", "\\|"),
        feature.unit,
        "any" if bounds == ".." else bounds,
        str(feature.look_back_rows),
    )
    return "| " + " | ".join((*cells, feature.inputs, feature.cost, feature.mirror, feature.known_at, feature.source)) + " |"


if __name__ == "__main__":
    sys.stdout.write(page())
