"""What each group of features is worth: log-loss on later data without it, and with it beside the best queues alone. Prints JSON.

    python -m tests.benchmarks.ablate_features --train DAY1 --test DAY2 [--horizons 10,50] [--label sign] [--levels 10] [--share 1.0]

Boosted trees of fixed size and seed, each row shown mirrored too; nothing is tuned, stopped early or calibrated, so that the
numbers differ by the features alone. With one file and `--share 0.6 --end 0.8` the first three
fifths train, the next fifth tests, and the rest stays unseen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

from framework.market.dom import DomBuffer
from framework.market.formats import open_source
from framework.messages import BookSnapshot, TradeTick
from framework.window import Rows
from ml_actor.evaluation import auc, log_losses
from ml_actor.features.catalogue import FEATURES, INDEX, columns_of, mirrored
from ml_actor.features.engine import AdvancedMLFeatureEngine
from ml_actor.labels import classify, label_rows

Floats = npt.NDArray[np.float64]
TREES: dict[str, Any] = {
    "objective": "multiclass",
    "num_class": 3,
    "learning_rate": 0.06,
    "num_leaves": 7,
    "min_data_in_leaf": 300,
    "lambda_l2": 10.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
    "seed": 7,
}
BASE = ("imbalance_1", "spread", "bid_size_1", "ask_size_1")


def read_rows(path: Path, levels: int) -> Rows:
    """Return the rows of a recording of one instrument, cut to its best `levels`; a long gap breaks the segment."""
    source = open_source(path)
    buffer, last_ns = DomBuffer(source.instruments[0], 400_000), None
    gap_ns = round(source.instruments[0].session_gap_s * 1e9)
    for event in source.events(0):
        if isinstance(event, TradeTick):
            buffer.add_trade(event)
        elif isinstance(event, BookSnapshot):
            if last_ns is not None and event.ts_event - last_ns > gap_ns:
                buffer.break_segment()
            last_ns = event.ts_event
            buffer.append(cut(event, levels))
    return buffer.rows_since(0)


def cut(book: BookSnapshot, levels: int) -> BookSnapshot:
    sides = {name: getattr(book, name)[:levels] for name in ("bid_ticks", "bid_sizes", "ask_ticks", "ask_sizes")}
    return BookSnapshot(instrument_id=book.instrument_id, ts_event=book.ts_event, ts_recv=book.ts_recv, sequence=book.sequence, **sides)


class Problem:
    """Features and labels of the training and the test rows."""

    def __init__(self, train: Rows, test: Rows, horizon: int, label: str, thin: int) -> None:
        moves = [label_rows(rows, horizon_rows=horizon, min_history=101) for rows in (train, test)]
        known = moves[0].moves[moves[0].is_valid]
        threshold = float(np.quantile(np.abs(known), 1 / 3)) if label == "tercile" else 0.0
        engine = AdvancedMLFeatureEngine(window_rows=100)
        (self.x, self.y), (self.x_test, self.y_test) = (
            (engine.transform_rows(rows, has_trades=True)[found.is_valid], classify(found.moves[found.is_valid], threshold))
            for rows, found in zip((train, test), moves, strict=True)
        )
        self.x, self.y = self.x[::thin], self.y[::thin]

    def score(self, columns: Sequence[int], rounds: int) -> tuple[float, float]:
        """Return log-loss and AUC of up against down on the test rows, of trees on these columns."""
        chosen = list(columns)
        shown = np.concatenate([self.x[:, chosen], mirrored(self.x)[:, chosen]])
        booster = lightgbm.train(TREES, lightgbm.Dataset(shown, np.concatenate([self.y, 2 - self.y])), rounds)
        found = np.asarray(booster.predict(self.x_test[:, chosen]))
        moved = self.y_test != 1
        return float(log_losses(found, self.y_test).mean()), auc(found[moved, 2] - found[moved, 0], self.y_test[moved] == 2)


def table(problem: Problem, rounds: int) -> dict[str, Any]:
    everything, base = list(range(len(FEATURES))), [INDEX[name] for name in BASE]
    groups = sorted({feature.group for feature in FEATURES})
    (whole, whole_auc), (least, least_auc) = problem.score(everything, rounds), problem.score(base, rounds)
    found: dict[str, Any] = {"rows": [len(problem.y), len(problem.y_test)], "all": [whole, whole_auc], "base": [least, least_auc]}
    for group in groups:
        columns = columns_of(group)
        without = problem.score([column for column in everything if column not in columns], rounds)[0]
        alone = problem.score(sorted({*base, *columns}), rounds)[0]
        found[group] = {"count": len(columns), "lost_without": round(without - whole, 5), "gained_beside_base": round(least - alone, 5)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--horizons", default="10,50")
    parser.add_argument("--label", choices=("sign", "tercile"), default="sign")
    parser.add_argument("--levels", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.75)
    parser.add_argument("--end", type=float, default=1.0, help="with one file: what comes behind this share of it is not looked at")
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--thin", type=int, default=1)
    chosen = parser.parse_args()
    train = read_rows(chosen.train, chosen.levels)
    test = read_rows(chosen.test, chosen.levels) if chosen.test else None
    if test is None:
        edge, end = int(len(train) * chosen.share), int(len(train) * chosen.end)
        parts = ({name: getattr(train, name)[where] for name in Rows.__slots__} for where in (slice(0, edge), slice(edge, end)))
        train, test = (Rows(**part) for part in parts)
    for horizon in map(int, chosen.horizons.split(",")):
        problem = Problem(train, test, horizon, chosen.label, chosen.thin)
        print(json.dumps({"ablation": chosen.train.name, "horizon": horizon} | table(problem, chosen.rounds)), flush=True)


if __name__ == "__main__":
    main()
