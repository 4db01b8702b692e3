"""The table of features: one entry for each number that the models see, in the order of `kernel`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ml_actor.features.series import CLOCK_HALF_LIVES_S, HALF_LIVES

REGIMES: Final = 3

SAME: Final = "same"
NEGATED: Final = "negated"
"""What a feature becomes when bid and ask change places; or the name of the feature that it changes places with."""

ROW: Final = "the row"
"""From when a feature is known: the receipt of the row that it is computed for. Nothing in it happens later."""

BAR_END: Final = "the end of the last bar"


@dataclass(frozen=True, slots=True)
class Feature:
    """One number: what it is, what it is made from, what it costs, and what becomes of it in the mirror.

    `low` and `high` bound it; `look_back_rows` says how far back it sees (the row itself is 1); `cost` is that of one more
    row: `1` a few operations, `L` one pass over the levels, `W` one pass over the look-back, `W S` one over look-back and
    series (shared by all of them), `T` a walk of trees, `W K` a filter of K states.
    """

    name: str
    group: str
    formula: str
    unit: str
    low: float
    high: float
    look_back_rows: int
    inputs: str
    cost: str
    mirror: str
    source: str
    known_at: str = ROW


_INF: Final = float("inf")
_WINDOW: Final = 100
WEIGHTS: Final = (*(f"h{rows}" for rows in HALF_LIVES), "all")
"""Names of the weights: halving every 1, 3, 10, 30 rows; equal over the look-back."""

_GOULD: Final = "Gould & Bonart 2016, MML 2(2)"
_CAO: Final = "Cao, Hansch & Wang 2009"
_CKS: Final = "Cont, Kukanov & Stoikov 2014, JFEC 12(1)"
_XGH: Final = "Xu, Gould & Howison 2019, arXiv 1907.06230"
_CCZ: Final = "Cont, Cucuringu & Zhang 2023, QF 23(10), equal weights"
_TSANTEKIDIS: Final = "Tsantekidis et al. 2020"
_TRAN: Final = "Tran et al. 2021 (bilinear normalisation)"
_NAES: Final = "Naes & Skjeltorp 2006, JFM 9"
_FARMER: Final = "Farmer et al. 2004"
_EISLER: Final = "Eisler, Bouchaud & Kockelkoren 2012"
_HASBROUCK: Final = "Hasbrouck & Saar 2009"
_AIT: Final = "Ait-Sahalia et al. 2026"
_ENGLE: Final = "Engle & Russell 1998"
_BACRY: Final = "Hawkes 1971; Bacry & Muzy 2014"
_HUANG: Final = "Huang & Stoll 1996"
_LARGE: Final = "Large 2007"
_OWN: Final = "own definition"


_Entry = tuple[str, str, str, float, float, str, str]
"""Name, formula, unit, low, high, mirror, source."""


def _many(group: str, inputs: str, cost: str, *rows: _Entry, look_back: int = _WINDOW) -> tuple[Feature, ...]:
    return tuple(
        Feature(name, group, formula, unit, low, high, look_back, inputs, cost, mirror, source)
        for name, formula, unit, low, high, mirror, source in rows
    )


def _weighted(
    name: str, formula: str, unit: str, bound: float, source: str, *, inputs: str, weights: tuple[str, ...] = WEIGHTS
) -> tuple[Feature, ...]:
    """One feature for each weight; all change their sign in the mirror."""
    return tuple(
        Feature(f"{name}_{weight}", "flow", formula, unit, -bound, bound, _WINDOW, inputs, "W S", NEGATED, source) for weight in weights
    )


def _swapped(name: str, formula: str, unit: str, bounds: tuple[float, float], source: str) -> tuple[_Entry, ...]:
    """One feature for each side of the book; they change places in the mirror."""
    sides = ("bid", "ask"), ("ask", "bid")
    return tuple(
        (f"{side}_{name}", re.sub(r"\bq\b", f"q_{side}", formula), unit, *bounds, f"{other}_{name}", source) for side, other in sides
    )


def _drain(weight: str) -> tuple[_Entry, ...]:
    source = "Cont & de Larrard 2012, rates of depletion"
    return (
        *_swapped(f"drain_{weight}", "ln(lots a row traded at or gone from the best) - ln(q)", "log", (-_INF, _INF), source),
        (f"drain_difference_{weight}", "bid_drain - ask_drain", "log", -_INF, _INF, NEGATED, source),
        (f"refill_difference_{weight}", "ln(added / drained) at the best, bid - ask", "log", -_INF, _INF, NEGATED, "Degryse et al. 2005"),
    )


_BOOK: Final = (
    *_many(
        "book",
        "sizes",
        "L",
        *(
            (f"imbalance_{levels}", f"(q_bid - q_ask) / (q_bid + q_ask), sizes of levels 1-{levels}", "1", -1, 1, NEGATED, source)
            for levels, source in ((1, _GOULD), (2, _CAO), (3, _CAO), (5, _CAO), (10, _CAO))
        ),
        look_back=1,
    ),
    *_many(
        "book",
        "best",
        "1",
        ("weighted_mid", "spread / 2 * imbalance_1: size-weighted mid minus mid", "spreads", -_INF, _INF, NEGATED, "Gatheral & Oomen 2010"),
        ("spread", "ln(spread / mean spread)", "log", -_INF, _INF, SAME, _OWN),
        ("tick_class", "ln(mean spread in ticks)", "log ticks", -_INF, _INF, SAME, "Briola et al. 2025"),
    ),
    *_many(
        "book",
        "sizes",
        "1",
        *(
            (f"size_ratio_{level}", f"ln(q_bid / q_ask) at level {level}", "log", -_INF, _INF, NEGATED, _TSANTEKIDIS)
            for level in range(1, 6)
        ),
        look_back=1,
    ),
    *_many(
        "book",
        "sizes",
        "1",
        *(
            (
                f"{side}_size_{level}",
                f"ln(q_{side} at level {level} / mean size of a level)",
                "log",
                -_INF,
                _INF,
                f"{other}_size_{level}",
                _TSANTEKIDIS,
            )
            for side, other in (("bid", "ask"), ("ask", "bid"))
            for level in range(1, 6)
        ),
    ),
    *_many(
        "book",
        "sizes, prices",
        "L",
        ("slope_difference", "bid - ask slope of ln(cumulative size) on spreads from the best", "1/spread", -_INF, _INF, NEGATED, _NAES),
        ("slope_mean", "mean of both slopes", "1/spread", 0, _INF, SAME, _NAES),
        ("gap_difference", "distance of level 2 from the best, ask - bid", "spreads", -_INF, _INF, NEGATED, _FARMER),
        ("gap_sum", "distance of level 2 from the best, both sides", "spreads", 0, _INF, SAME, _FARMER),
        ("extent_difference", "distance of level 5 from the best, ask - bid", "spreads", -_INF, _INF, NEGATED, _FARMER),
        ("extent_sum", "distance of level 5 from the best, both sides", "spreads", 0, _INF, SAME, _FARMER),
    ),
    *_many(
        "book",
        "sizes",
        "W S",
        ("depth_ratio_1", "ln(q_bid + q_ask) - ln(its mean)", "log", -_INF, _INF, SAME, _OWN),
        ("depth_ratio_5", "same on the sizes of levels 1-5", "log", -_INF, _INF, SAME, _OWN),
    ),
    *_many("queue", "best", "1", *_swapped("size_change", "(q - q of the row before) / their sum", "1", (-1, 1), _OWN), look_back=2),
    *_many("queue", "best", "W", *_swapped("age", "ln(1 + rows that the best price stands), q > 0", "log", (0, _INF), _OWN)),
    *_many("queue", "best", "W", *_swapped("left", "q / largest q since the best price stands", "1", (0, 1), _OWN)),
    *_many(
        "queue",
        "best, trades if any",
        "W S",
        *(entry for weight in ("h3", "h10", "h30") for entry in _drain(weight)),
    ),
    *_many(
        "book",
        "sizes",
        "W S",
        ("imbalance_z", "(imbalance_1 - mean) / standard deviation in the look-back", "z", -_INF, _INF, NEGATED, _TRAN),
        ("imbalance_5_z", "same on imbalance_5", "z", -_INF, _INF, NEGATED, _TRAN),
        *((f"imbalance_mean_h{rows}", "weighted mean of imbalance_1", "1", -1, 1, NEGATED, _OWN) for rows in (3, 10, 30)),
        *((f"imbalance_delta_h{rows}", "imbalance_1 - weighted mean", "1", -2, 2, NEGATED, _OWN) for rows in (1, 3, 10, 30)),
    ),
)

_FLOW: Final = (
    *_weighted("ofi_1", "mean OFI at the best / mean depth of level 1", "depths a row", _INF, _CKS, inputs="flow"),
    *_weighted("ofi_2", "mean OFI at level 2 / mean depth of level 1", "depths a row", _INF, _XGH, inputs="flow"),
    *_weighted("ofi_3", "mean OFI at level 3 / mean depth of level 1", "depths a row", _INF, _XGH, inputs="flow"),
    *_weighted(
        "ofi_5", "integrated: mean sum of OFI over levels 1-5 / mean depth of levels 1-5", "depths a row", _INF, _CCZ, inputs="flow"
    ),
    *_weighted("add_flow", "(bid - ask lots added to an unmoved best) / mean depth", "depths a row", _INF, _EISLER, inputs="best, trades"),
    *_weighted("cancel_flow", "(ask - bid lots gone without a trade) / mean depth", "depths a row", _INF, _EISLER, inputs="best, trades"),
    *_weighted("trade_flow", "(bought - sold lots) / mean depth of level 1", "depths a row", _INF, _CKS, inputs="trades"),
    *_weighted("trade_balance", "(bought - sold) / (bought + sold)", "1", 1, _AIT, inputs="trades"),
    *_weighted("event_imbalance", "(bid - ask level changes) / their sum", "1", 1, _OWN, inputs="flow"),
    *_weighted("print_balance", "(buyer - seller prints) / their sum", "1", 1, _AIT, inputs="trades", weights=("h10", "all")),
    *_many("flow", "flow", "W S", ("event_burst", "ln of level changes a row, h3 - all", "log", -_INF, _INF, SAME, _ENGLE)),
    *_many(
        "flow",
        "trades",
        "W S",
        ("volume_burst", "ln of (lots a row + 1 % of depth), h3 - all", "log", -_INF, _INF, SAME, _ENGLE),
        ("turnover", "traded lots, h10 / mean depth of level 1", "depths a row", 0, _INF, SAME, _OWN),
        ("cancel_share", "gone / (gone + added) at an unmoved best, h10", "1", 0, 1, SAME, _HASBROUCK),
        ("trade_share", "traded / (traded + gone), h10", "1", 0, 1, SAME, _HASBROUCK),
    ),
    *_many(
        "flow", "best", "W S", ("growth", "ln((added + 1 % of depth) / (gone + 1 % of depth)), h10", "log", -_INF, _INF, SAME, _HASBROUCK)
    ),
    *_many(
        "flow",
        "trades",
        "W",
        (
            "vpin",
            "sum |bought - sold| over 10 buckets of equal volume / volume, true aggressors",
            "1",
            0,
            1,
            SAME,
            "Easley et al. 2012, RFS 25(5)",
        ),
    ),
)

_INTENSITY: Final = (
    *_many(
        "intensity",
        "trades, time",
        "W",
        *(
            (f"hawkes_trades_{s:g}s", f"(R_buy - R_sell) / (R_buy + R_sell + 1), half-life {s:g} s", "1", -1, 1, NEGATED, _BACRY)
            for s in CLOCK_HALF_LIVES_S
        ),
    ),
    *_many(
        "intensity",
        "flow, time",
        "W",
        *(
            (f"hawkes_quotes_{s:g}s", f"same on bid and ask level changes, half-life {s:g} s", "1", -1, 1, NEGATED, _BACRY)
            for s in CLOCK_HALF_LIVES_S
        ),
    ),
    *_many(
        "intensity", "trades, time", "W", ("hawkes_trade_burst", "ln of prints a second, 0.5 s - 10 s", "log", -_INF, _INF, SAME, _BACRY)
    ),
    *_many(
        "intensity",
        "flow, time",
        "W",
        ("hawkes_quote_burst", "ln of level changes a second, 0.5 s - 10 s", "log", -_INF, _INF, SAME, _BACRY),
    ),
    *_many(
        "intensity", "trades, time", "W", ("trade_rate", "ln(prints a second + 0.01), half-life 10 s", "log 1/s", -_INF, _INF, SAME, _ENGLE)
    ),
    *_many(
        "intensity",
        "flow, time",
        "W",
        ("quote_rate", "ln(level changes a second + 0.01), half-life 10 s", "log 1/s", -_INF, _INF, SAME, _ENGLE),
    ),
)

_PRICE: Final = (
    *(
        Feature(f"return_{lag}", "price", f"mid - mid {lag} rows before", "spreads", -_INF, _INF, _WINDOW, "best", "1", NEGATED, "textbook")
        for lag in (1, 2, 3, 5, 10, 20, 50)
    ),
    *_many(
        "price",
        "best",
        "W",
        *(
            (f"mid_minus_mean_{weight}", "mid - weighted mean of the mid", "spreads", -_INF, _INF, NEGATED, _OWN)
            for weight in ("h3", "h10", "h30", "all")
        ),
        *(
            (f"micro_minus_mean_{weight}", "weighted mid - its weighted mean", "spreads", -_INF, _INF, NEGATED, _OWN)
            for weight in ("h3", "h10", "h30", "all")
        ),
    ),
    *_many(
        "price",
        "best, trades",
        "W",
        *(
            (f"mid_minus_traded_{weight}", "mid - weighted mean price of trades", "spreads", -_INF, _INF, NEGATED, _OWN)
            for weight in ("h3", "h10", "h30")
        ),
    ),
    *_many(
        "price",
        "best",
        "W",
        ("range_position", "place of the mid in its range", "1", -1, 1, NEGATED, _OWN),
        ("last_move", "last change of the mid", "spreads", -_INF, _INF, NEGATED, _OWN),
        ("rows_since_move", "ln(1 + rows since)", "log", 0, _INF, SAME, _OWN),
        ("previous_move", "the change before it", "spreads", -_INF, _INF, NEGATED, _OWN),
        ("rows_between_moves", "ln(1 + rows between them)", "log", 0, _INF, SAME, _OWN),
    ),
    *_many(
        "price",
        "best",
        "W S",
        *((f"move_balance_{weight}", "(moves up - down) / moves", "1", -1, 1, NEGATED, _OWN) for weight in ("h10", "h30", "all")),
    ),
    *_many(
        "volatility",
        "best",
        "W S",
        *(
            (f"volatility_{weight}", "root weighted mean square of changes of the mid", "spreads", 0, _INF, SAME, "Andersen et al. 2001")
            for weight in ("h10", "h30", "all")
        ),
        ("variance_ratio", "mean square of changes, h10 over all", "1", 0, _INF, SAME, "Zhang, Mykland & Ait-Sahalia 2005"),
        ("jump_share", "max(0, RV - bipower variation) / RV", "1", 0, 1, SAME, "Barndorff-Nielsen & Shephard 2004"),
        ("bounce", "sum of products of neighbouring changes / RV", "1", -1, 1, SAME, "Roll 1984, JF 39"),
    ),
)

_IMPACT: Final = (
    *_many(
        "impact",
        "best, trades",
        "W S",
        ("kyle_lambda", "slope of mid changes on signed lots", "spreads/depth", -_INF, _INF, SAME, "Kyle 1985, Ecta 53"),
    ),
    *_many("impact", "best, flow", "W S", ("ofi_lambda", "slope of mid changes on OFI", "spreads/depth", -_INF, _INF, SAME, _CKS)),
    *_many(
        "impact",
        "best, trades",
        "W",
        ("effective_spread", "2 (price - mid) signed, a lot; the price is the best before the trade", "spreads", 0, _INF, SAME, _HUANG),
        ("realised_spread", "2 (price - mid 5 rows later) signed, a lot; trades at least 5 rows old", "spreads", -_INF, _INF, SAME, _HUANG),
        ("price_impact", "effective_spread - realised_spread", "spreads", -_INF, _INF, SAME, _HUANG),
    ),
    *_many(
        "impact",
        "sizes",
        "W S",
        ("resilience_depth", "1 - slope of ln(depth of levels 1-5) on its value a row before", "1/row", -_INF, _INF, SAME, _LARGE),
        ("resilience_spread", "same on the spread", "1/row", -_INF, _INF, SAME, _LARGE),
    ),
)

_CLOCK: Final = (
    *_many("clock", "time", "1", ("row_gap", "ln(seconds since the row before + 1 ms)", "log s", -7, _INF, SAME, _OWN), look_back=2),
    *_many(
        "clock",
        "time",
        "W S",
        ("row_gap_h10", "ln(mean seconds between rows + 1 ms)", "log s", -7, _INF, SAME, _OWN),
        ("row_gap_ratio", "ln of mean seconds between rows, h3 - all", "log", -_INF, _INF, SAME, _ENGLE),
    ),
    *_many("clock", "trades", "W", ("trade_age", "ln(1 + rows since the last trade)", "log", 0, _INF, SAME, _OWN)),
)

_SHOCK: Final = _many(
    "shock",
    "sizes, flow",
    "W",
    ("shock_spread", "robust z of the spread", "z", -_INF, _INF, SAME, "median and MAD, floor half the mean spread"),
    ("shock_depth", "robust z of -ln(depth of levels 1-5)", "z", -_INF, _INF, SAME, "median and MAD, floor 0.1"),
    ("shock_ofi", "robust z of |OFI at the best|", "z", -_INF, _INF, SAME, "median and MAD, floor 0.1 depths"),
    ("shock", "largest of the three", "z", -_INF, _INF, SAME, "deterministic reference of shock_score"),
)

ROW_FEATURES: Final = (*_BOOK, *_FLOW, *_INTENSITY, *_PRICE, *_IMPACT, *_CLOCK, *_SHOCK)
"""What the kernel computes from rows alone."""

FITTED_FEATURES: Final = (
    *_many(
        "fitted",
        "shock inputs",
        "T",
        ("shock_score", "2^(-E[path length] / c(n)) on SHOCK_INPUTS", "1", 0, 1, SAME, "Liu, Ting & Zhou 2008 (IsolationForest)"),
    ),
    *_many(
        "fitted",
        "best, flow",
        "W K",
        *(
            (f"regime_p_{state}", "forward-filtered state probability, calm to volatile", "probability", 0, 1, SAME, "Hamilton 1989")
            for state in range(REGIMES)
        ),
    ),
)
"""What the fitted feature models add behind them."""

CONTEXT_FEATURES: Final = (
    *_many(
        "session",
        "time",
        "1",
        ("day_sin", "sine of the time of day, UTC", "1", -1, 1, SAME, "Makinen et al. 2019"),
        ("day_cos", "cosine of the time of day, UTC", "1", -1, 1, SAME, "Makinen et al. 2019"),
        look_back=1,
    ),
    *(
        Feature(name, "bars", formula, unit, low, high, 1, "bars", "1", mirror, source, BAR_END)
        for name, formula, unit, low, high, mirror, source in (
            ("bar_return_1", "close - close 1 bar before", "ranges", -_INF, _INF, NEGATED, "textbook"),
            ("bar_return_5", "close - close 5 bars before", "ranges", -_INF, _INF, NEGATED, "textbook"),
            ("bar_return_20", "close - close 20 bars before", "ranges", -_INF, _INF, NEGATED, "textbook"),
            ("bar_body", "(close - open) / (high - low)", "1", -1, 1, NEGATED, "textbook"),
            ("bar_position", "(2 close - high - low) / (high - low)", "1", -1, 1, NEGATED, "textbook"),
            ("bar_trend", "(close - close 20 bars before) / sum of |close - close before|", "1", -1, 1, NEGATED, "Kaufman 1995"),
            ("bar_range_ratio", "ln of mean high - low, last 5 over last 20 bars", "log", -_INF, _INF, SAME, "Parkinson 1980"),
            ("bar_volume_ratio", "ln of mean volume, last 5 over last 20 bars", "log", -_INF, _INF, SAME, _ENGLE),
            ("bar_age", "ln(1 + seconds since the end of the last bar)", "log s", 0, _INF, SAME, _OWN),
        )
    ),
)
"""What an engine with context adds behind all others; a *range* is the mean high - low of the last 20 bars."""
