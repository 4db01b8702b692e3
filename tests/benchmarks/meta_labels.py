"""Does a second model that says which trades of a strategy to take add anything? Meta-labels, walk-forward. Prints one JSON object.

    python -m tests.benchmarks.meta_labels --data rb_20250605.parquet rb_20250606.parquet --instrument rb2510.SHFE

The strategy runs over each recording as in a backtest (whole, without predictions, 5 ms); its closed trades become meta-labels
(`ml_actor.labelling.meta_labels`; Lopez de Prado 2018, chapter 3): given the side, did it pay after spread and fees? What a model sees
is the catalogue's features at the decision, mirrored for sells, so that all of them are seen from the side that was taken.

Trades come in blocks of equal number, in time order. Each block from the third on is judged by models fitted on those trades alone
that were closed before its first decision. Nothing is chosen on what is judged: both models, their settings, and both rules for
taking a trade are fixed here. Intervals are 95 %, from resampling stretches of `STRETCH` trades. A trade that is not taken would
have changed what the strategy does next; that is not replayed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import lightgbm
import msgspec
import numpy as np
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression

from framework.backtest.engine import OFF, Source, execute, in_a_loop
from framework.backtest.latency import Constant
from framework.backtest.research import plan_for
from framework.backtest.rows import write_rows
from framework.config import MainConfig
from framework.dataset.schema import from_table
from framework.inference.outbox import to_item
from framework.messages import DecisionClosed, DecisionMade, Feedback
from framework.model import Instrument
from framework.operations.state_dir import StateDir
from framework.trading.journal_view import view_journal
from framework.window import Float64Array, Int64Array
from framework.wire import FeedbackItem
from ml_actor.evaluation import auc
from ml_actor.features.engine import AdvancedMLFeatureEngine, mirror
from ml_actor.fitting import moments
from ml_actor.labelling import BoolArray, meta_labels
from ml_actor.scaling import standardised

BLOCKS: Final = 10
FITTED_FIRST: Final = 2
STRETCH: Final = 20
RESAMPLINGS: Final = 2_000
MAX_DECISIONS: Final = 1_000_000
TREES: Final[dict[str, Any]] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 4,
    "min_data_in_leaf": 40,
    "lambda_l2": 10.0,
    "feature_fraction": 0.3,
    "num_threads": 1,
    "deterministic": True,
    "verbosity": -1,
    "seed": 7,
}
ROUNDS: Final = 40
Model = Callable[[Float64Array, BoolArray, Float64Array], tuple[Float64Array, Float64Array]]
"""(features, has won, features to judge) to the probabilities of winning: of the trades that it was fitted on, and of those to judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trades:
    """Closed trades in time order: features from the side taken (n, F), outcome, PnL net of fees, time decided and closed, ns."""

    features: Float64Array
    has_won: BoolArray
    pnl: Float64Array
    decided_ns: Int64Array
    closed_ns: Int64Array

    def __len__(self) -> int:
        return len(self.pnl)


def trades_of(config: Path, data: Path, instrument_id: str | None) -> Trades:
    """Run the strategy over one recording and return its closed trades. Blocks."""
    with tempfile.TemporaryDirectory(prefix="meta-labels-") as name:
        keep, rows_dir = Path(name) / "run", Path(name) / "rows"
        rows_dir.mkdir()
        plan = plan_for(config, [data], ml=OFF, latency=None, settings=MainConfig(), instrument_id=instrument_id, state_dir=keep, seed=7)
        run = execute(replace(plan, keep=keep, latency=Constant(5.0)), Source(kind=OFF), lambda _stage, _share: None)
        instrument = run.instruments[plan.deployment.file.instrument_id]
        feedback, closed_ns = _feedback(StateDir(keep).journal, instrument)
        parts = in_a_loop(lambda: write_rows([data], rows_dir, lambda _share: None))
        part = next(one for one in parts if one.instrument_id == instrument.instrument_id)
        rows = from_table(pq.read_table(part.rows_file))
    labels = meta_labels(rows, instrument.instrument_id, feedback)
    engine = AdvancedMLFeatureEngine(window_rows=100)
    plain, mirrored = (engine.transform_rows(one, has_trades=part.has_trades)[labels.rows] for one in (rows, mirror(rows)))
    return Trades(
        features=np.where(labels.sides[:, None] > 0, plain, mirrored),
        has_won=labels.has_won,
        pnl=labels.pnl,
        decided_ns=rows.ts_event[labels.rows],
        closed_ns=np.array([closed_ns[sequence] for sequence in rows.sequence[labels.rows].tolist()], np.int64),
    )


def _feedback(journal: Path, instrument: Instrument) -> tuple[list[FeedbackItem], dict[int, int]]:
    """Return the executed decisions with their outcome, each on the book that it was made on, and when it was closed by that book."""
    with view_journal(journal) as view:
        closed = {one.decision_id: one for one in view.newest(DecisionClosed, MAX_DECISIONS) if one.trade_outcome is not None}
        made = [one for one in view.newest(DecisionMade, MAX_DECISIONS) if one.decision_id in closed]
    items = [to_item(_told(one, closed[one.decision_id]), instrument) for one in made]
    return items, {one.book.sequence: closed[one.decision_id].ts_event for one in made}


def _told(made: DecisionMade, closed: DecisionClosed) -> Feedback:
    return Feedback(
        feedback_id=made.decision_id,
        decision=msgspec.structs.replace(made, as_of_sequence=made.book.sequence),
        trade_executed=True,
        trade_outcome=closed.trade_outcome,
        pnl=closed.pnl,
        markouts_ticks=closed.markouts_ticks or {},
        last_bar=None,
        closed_ns=closed.ts_event,
    )


def joined(parts: Sequence[Trades]) -> Trades:
    """Return the trades of several recordings, in time order."""
    order = np.argsort(np.concatenate([part.decided_ns for part in parts]), kind="stable")
    names = ("features", "has_won", "pnl", "decided_ns", "closed_ns")
    return Trades(**{name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names})


# --- the secondary models ----------------------------------------------------------------------------------------------


def linear(features: Float64Array, has_won: BoolArray, judged: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Logistic regression, strongly regularised, on standard deviations."""
    offset, scale = moments(features)
    model = LogisticRegression(C=1e-3, max_iter=500).fit(standardised(features, offset, scale), has_won)
    own, other = (model.predict_proba(standardised(part, offset, scale))[:, 1] for part in (features, judged))
    return own, other


def trees(features: Float64Array, has_won: BoolArray, judged: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Few small boosted trees."""
    model = lightgbm.train(TREES, lightgbm.Dataset(features, has_won.astype(np.float64)), ROUNDS)
    return np.asarray(model.predict(features)), np.asarray(model.predict(judged))


MODELS: Final[dict[str, Model]] = {"linear": linear, "trees": trees}


def walk_forward(trades: Trades, model: Model) -> dict[str, Any]:
    """Return, for the trades that were judged: their places, chance of winning, and whether each rule takes them.

    `better_half`: at least the median chance of the trades that the model was fitted on. `pays`: the expected PnL, by that chance and
    the mean gain and loss of those trades, is above 0.
    """
    blocks = np.array_split(np.arange(len(trades)), BLOCKS)
    places, chances, better, pays = [], [], [], []
    for block in blocks[FITTED_FIRST:]:
        known = np.flatnonzero(trades.closed_ns < trades.decided_ns[block[0]])
        has_won, pnl = trades.has_won[known], trades.pnl[known]
        own, said = model(trades.features[known], has_won, trades.features[block])
        places.append(block)
        chances.append(said)
        better.append(said >= np.median(own))
        pays.append(said * pnl[has_won].mean() + (1 - said) * pnl[~has_won].mean() > 0)
    rules = {"better_half": np.concatenate(better), "pays": np.concatenate(pays)}
    return {"places": np.concatenate(places), "chances": np.concatenate(chances), "rules": rules}


# --- what it is worth --------------------------------------------------------------------------------------------------


def interval(count: int, statistic: Callable[[Int64Array], float]) -> list[float]:
    """Return the 95 % interval of a statistic of rows, from resampling stretches of `STRETCH` rows with a fixed seed."""
    rng = np.random.default_rng(7)
    length = min(STRETCH, count)
    found = []
    for _ in range(RESAMPLINGS):
        starts = rng.integers(0, count - length + 1, -(-count // length))
        found.append(statistic((starts[:, None] + np.arange(length)).ravel()[:count]))
    return [round(float(value), 4) for value in np.nanquantile(found, (0.025, 0.975))]


def worth(trades: Trades, found: dict[str, Any]) -> dict[str, Any]:
    """Return AUC, and PnL a trade of what each rule takes against all, with intervals."""
    places, chances = found["places"], found["chances"]
    has_won, pnl = trades.has_won[places], trades.pnl[places]
    rules = {}
    for name, taken in found["rules"].items():
        rules[name] = {
            "taken": int(taken.sum()),
            "pnl_taken": round(float(pnl[taken].sum()), 2),
            "pnl_a_trade": round(float(pnl[taken].mean()), 4) if taken.any() else None,
            "gain_a_trade": round(_gain(pnl, taken), 4) if taken.any() else None,
            "gain_interval": interval(len(pnl), lambda rows, taken=taken: _gain(pnl[rows], taken[rows])) if taken.any() else None,
        }
    return {
        "auc": round(auc(chances, has_won), 4),
        "auc_interval": interval(len(pnl), lambda rows: auc(chances[rows], has_won[rows])),
        "rules": rules,
    }


def _gain(pnl: Float64Array, taken: BoolArray) -> float:
    """Return how much more a taken trade earns than all do on average; NaN where none is taken."""
    return float(pnl[taken].mean() - pnl.mean()) if taken.any() else float("nan")


def measure(trades: Trades) -> dict[str, Any]:
    """Judge both secondary models on the trades."""
    models = {name: walk_forward(trades, model) for name, model in MODELS.items()}
    places = models["linear"]["places"]
    return {
        "benchmark": "meta_labels",
        "trades": len(trades),
        "judged": len(places),
        "won": round(float(trades.has_won[places].mean()), 4),
        "pnl_all": round(float(trades.pnl[places].sum()), 2),
        "pnl_a_trade": round(float(trades.pnl[places].mean()), 4),
        "models": {name: worth(trades, found) for name, found in models.items()},
    }


def main() -> None:
    """Run the strategy over the recordings, judge, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--config", type=Path, default=Path("config/strategies/book_imbalance.yaml"))
    parser.add_argument("--instrument", default=None)
    chosen = parser.parse_args()
    parts = [trades_of(chosen.config, data, chosen.instrument) for data in chosen.data]
    print(json.dumps({"strategy": chosen.config.stem} | measure(joined(parts))))


if __name__ == "__main__":
    main()
