"""The feature catalogue: name, formula, units, range, look-back and source of each number the models see.

The order is the order of `features.kernel`. Everything is scale-free (ratios, ticks, logarithms), so that one model
serves instruments of any price and lot size. A number that the feed or the history cannot give is NaN, never 0:
a missing level, no trades in the feed, fewer rows than the look-back, a side that is empty.
Bars are left out on purpose: they are built from the same prints, and the batch path could not rebuild them bit for bit.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass
from typing import Final

from framework.window import ROW_SCHEMA_HASH

CATALOGUE_VERSION: Final = 1
"""Raise it when a formula changes under an unchanged name."""

REGIMES: Final = 3


@dataclass(frozen=True, slots=True)
class Feature:
    """One number: `low` and `high` bound it, `look_back_rows` says how far back it sees (the row itself is 1)."""

    name: str
    formula: str
    unit: str
    low: float
    high: float
    look_back_rows: int
    source: str


_INF: Final = float("inf")
_GOULD: Final = "Gould & Bonart 2016, MML 2(2)"
_CAO: Final = "Cao, Hansch & Wang 2009"
_CKS: Final = "Cont, Kukanov & Stoikov 2014, JFEC 12(1)"
_XGH: Final = "Xu, Gould & Howison 2019, arXiv 1907.06230"
_TSANTEKIDIS: Final = "Tsantekidis 2020"
_OWN: Final = "own definition"

_BOOK: Final = (
    Feature("imbalance_1", "(qb1 - qa1) / (qb1 + qa1)", "1", -1, 1, 1, _GOULD),
    Feature("imbalance_3", "same on the sum of levels 1-3", "1", -1, 1, 1, _CAO),
    Feature("imbalance_5", "same on the sum of levels 1-5", "1", -1, 1, 1, _CAO),
    Feature("imbalance_10", "same on the sum of levels 1-10", "1", -1, 1, 1, _CAO),
    Feature("weighted_mid", "spread / 2 * imbalance_1: size-weighted mid minus mid", "ticks", -_INF, _INF, 1, "Gatheral & Oomen 2010"),
    Feature("up_probability", "2 / pi * arctan(qb1 / qa1) - 1/2", "probability", -0.5, 0.5, 1, "Cont & de Larrard 2012, rho to 0"),
    Feature("spread", "a1 - b1", "ticks", 1, _INF, 1, "textbook"),
    Feature("size_ratio_1", "ln(qb1 / qa1)", "log", -_INF, _INF, 1, _TSANTEKIDIS),
    Feature("size_ratio_2", "ln(qb2 / qa2)", "log", -_INF, _INF, 1, _TSANTEKIDIS),
    Feature("size_ratio_3", "ln(qb3 / qa3)", "log", -_INF, _INF, 1, _TSANTEKIDIS),
    Feature(
        "slope_difference",
        "bid slope - ask slope of ln(cumulative size) on ticks from best",
        "1/tick",
        -_INF,
        _INF,
        1,
        "Naes & Skjeltorp 2006",
    ),
    Feature("slope_mean", "mean of both slopes", "1/tick", 0, _INF, 1, "Naes & Skjeltorp 2006"),
    Feature("gap_difference", "empty ticks between levels 1 and 3, ask - bid", "ticks", -_INF, _INF, 1, "Farmer et al. 2004"),
    Feature("gap_sum", "empty ticks between levels 1 and 3, both sides", "ticks", 0, _INF, 1, "Farmer et al. 2004"),
    Feature("bid_size_change", "(qb1 - qb1 of the row before) / their sum", "1", -1, 1, 2, _OWN),
    Feature("ask_size_change", "(qa1 - qa1 of the row before) / their sum", "1", -1, 1, 2, _OWN),
    Feature("depth_ratio_1", "ln(qb1 + qa1) - ln(its mean over the window)", "log", -_INF, _INF, 100, _OWN),
    Feature("depth_ratio_5", "same on the sizes of levels 1-5", "log", -_INF, _INF, 100, _OWN),
)


def _flow(name: str, formula: str, source: str, *, bound: float = _INF, windows: tuple[int, ...] = (5, 20, 50, 100)) -> tuple[Feature, ...]:
    is_in_depths = bound == _INF  # the mean depth is that of the whole look-back
    unit, look_back = ("depths", 100) if is_in_depths else ("1", 0)
    return tuple(Feature(f"{name}_{rows}", formula, unit, -bound, bound, look_back or rows, source) for rows in windows)


_FLOW: Final = (
    *_flow("ofi_1", "sum of OFI at the best / mean level-1 depth", _CKS),
    *_flow("ofi_5", "sum of OFI over levels 1-5 / mean 5-level depth", _XGH),
    *_flow("trade_flow", "(bought - sold lots) / mean level-1 depth", _CKS),
    *_flow("event_imbalance", "(bid - ask level changes) / their sum", _OWN, bound=1, windows=(5, 20, 100)),
    Feature("print_flow_20", "(buyer - seller prints) / all prints", "1", -1, 1, 20, "Ait-Sahalia et al. 2026"),
    Feature("event_burst", "ln of level changes a row, last 5 over last 100 rows", "log", -_INF, _INF, 100, "Engle & Russell 1998"),
    Feature("volume_burst", "ln of (lots a row + 1% of depth), last 5 over last 100", "log", -_INF, _INF, 100, "Engle & Russell 1998"),
    Feature("turnover_20", "traded lots / mean level-1 depth", "depths", 0, _INF, 100, _OWN),
    Feature(
        "add_flow_20", "(bid - ask sizes added at an unmoved best) / mean level-1 depth", "depths", -_INF, _INF, 100, "Eisler et al. 2012"
    ),
    Feature("cancel_flow_20", "(ask - bid sizes gone without a trade) / mean depth", "depths", -_INF, _INF, 100, "Eisler et al. 2012"),
    Feature("cancel_share_20", "gone / (gone + added) at an unmoved best", "1", 0, 1, 20, "Hasbrouck & Saar 2009"),
)

_PRICE: Final = (
    *(Feature(f"return_{lag}", f"mid - mid {lag} rows before", "ticks", -_INF, _INF, lag + 1, "textbook") for lag in (1, 2, 5, 10, 20, 50)),
    Feature("mid_minus_mean_20", "mid - mean mid", "ticks", -_INF, _INF, 20, _OWN),
    Feature("range_position", "place of the mid in the range of the window", "1", -1, 1, 100, _OWN),
    Feature("last_move", "last change of the mid in the window", "ticks", -_INF, _INF, 100, _OWN),
    Feature("rows_since_move", "ln(1 + rows since that change)", "log", 0, _INF, 100, _OWN),
    Feature("volatility_20", "root mean square of mid changes", "ticks", 0, _INF, 20, "Andersen et al. 2001"),
    Feature("volatility_100", "root mean square of mid changes", "ticks", 0, _INF, 100, "Andersen et al. 2001"),
    Feature("variance_ratio", "mean square of mid changes, 20 over 100 rows", "1", 0, _INF, 100, "Zhang, Mykland & Ait-Sahalia 2005"),
    Feature("jump_share", "max(0, RV - bipower variation) / RV", "1", 0, 1, 100, "Barndorff-Nielsen & Shephard 2004"),
    Feature("imbalance_mean_20", "mean of imbalance_1", "1", -1, 1, 20, _OWN),
    Feature("imbalance_delta", "imbalance_1 - imbalance_mean_20", "1", -2, 2, 20, _OWN),
)

_IMPACT: Final = (
    Feature("kyle_lambda", "slope of mid changes on signed lots * mean level-1 depth", "ticks/depth", -_INF, _INF, 100, "Kyle 1985"),
    Feature("ofi_lambda", "slope of mid changes on OFI * mean level-1 depth", "ticks/depth", -_INF, _INF, 100, _CKS),
)

_CLOCK: Final = (
    Feature("row_gap", "ln(seconds since the row before + 1 ms)", "log s", -7, _INF, 2, _OWN),
    Feature("row_gap_20", "ln(mean seconds between rows + 1 ms)", "log s", -7, _INF, 20, _OWN),
    Feature("row_gap_ratio", "ln of mean seconds between rows, 5 over 100 rows", "log", -_INF, _INF, 100, "Engle & Russell 1998"),
)

_SHOCK: Final = (
    Feature("shock_spread", "robust z of the spread in the window", "z", -_INF, _INF, 100, "median and MAD, floor 1/2 tick"),
    Feature("shock_depth", "robust z of -ln(5-level depth) in the window", "z", -_INF, _INF, 100, "median and MAD, floor 0.1"),
    Feature("shock_ofi", "robust z of |OFI at the best| in the window", "z", -_INF, _INF, 100, "median and MAD, floor 0.1 depths"),
    Feature("shock", "largest of the three", "z", -_INF, _INF, 100, "deterministic reference for shock_score"),
)

FEATURES: Final = (*_BOOK, *_FLOW, *_PRICE, *_IMPACT, *_CLOCK, *_SHOCK)
"""What the kernel computes from rows alone."""

FITTED_FEATURES: Final = (
    Feature("shock_score", "2^(-E[path length] / c(n)) on SHOCK_INPUTS", "1", 0, 1, 100, "Liu, Ting & Zhou 2008 (IsolationForest)"),
    *(
        Feature(f"regime_p_{state}", "forward-filtered state probability, calm to volatile", "probability", 0, 1, 100, "Hamilton 1989")
        for state in range(REGIMES)
    ),
)
"""What the fitted feature models add behind them."""

SHOCK_INPUTS: Final = ("spread", "depth_ratio_5", "shock_ofi", "shock_depth", "cancel_share_20", "event_burst", "variance_ratio", "row_gap")
"""Inputs of the IsolationForest: all of them are the same when bid and ask change places."""

FEATURE_NAMES: Final = tuple(feature.name for feature in FEATURES)
ALL_NAMES: Final = FEATURE_NAMES + tuple(feature.name for feature in FITTED_FEATURES)
INDEX: Final = {name: position for position, name in enumerate(ALL_NAMES)}

SCHEMA_HASH: Final = hashlib.sha256(
    repr((CATALOGUE_VERSION, ROW_SCHEMA_HASH, SHOCK_INPUTS, [astuple(feature) for feature in (*FEATURES, *FITTED_FEATURES)])).encode()
).hexdigest()[:16]
"""Names what a model was trained on; a model of another hash is refused."""
