"""What one prediction costs from window to calibrated claim, and what the fitted libraries would take. Prints one JSON object.

    python -m tests.benchmarks.bench_inference [--rows 8000] [--further 5 20 100]

Trains a version in the run, serves it, and times beside it the libraries' own one-row predictions of the same models on
the same row: the ratio is what the served forms save. `training_s` is the whole training, from rows to saved version.
`further_horizons` sets a version that knows `--further` horizons too beside it: both are asked in turns, both trained one after the other.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from hmmlearn.hmm import GaussianHMM
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression

from ml_actor.features.regime import OBSERVED_ROWS, observations
from ml_actor.fitting import TREES
from ml_actor.models import ModelBundle
from ml_actor.preparation import Recording, window_at
from ml_actor.registry import Registry
from tests.benchmarks.bench_features import quantiles_us
from tests.ml_actor.conftest import market_rows, small_job, train_in_memory

TARGET_PREDICT_US = 150.0
TARGET_PREDICT_P99_US = 500.0


def library_calls(bundle: ModelBundle, recording: Recording, row: int) -> dict[str, Any]:
    """Return one-row predictions of models like the served ones, fitted and called through their libraries."""
    features = bundle.engine.transform_rows(recording.rows, has_trades=True)[500:]
    dense = np.nan_to_num(bundle.traded.linear.standardised(features))
    classes = np.arange(len(dense)) % 3
    shock = bundle.engine.shock
    regimes = bundle.engine.regimes
    assert shock is not None
    assert regimes is not None
    forest = IsolationForest(n_estimators=50, random_state=1, n_jobs=1).fit(shock.inputs(features))
    logistic = LogisticRegression(max_iter=20, tol=1.0).fit(dense, classes)
    rounds = bundle.traded.trees.forest.tree_count // 3
    trees = lightgbm.LGBMClassifier(**{**TREES, "n_estimators": rounds, "n_jobs": 1, "num_class": None}).fit(dense, classes)
    hmm = GaussianHMM(3, covariance_type="diag")
    hmm.startprob_, hmm.transmat_, hmm.means_, hmm.covars_ = regimes.start, regimes.transition, regimes.means, regimes.variances
    observed = ((observations(recording.rows) - regimes.offset) / regimes.scale)[row - 99 + OBSERVED_ROWS - 1 : row + 1]
    one, inputs = dense[:1], shock.inputs(features[:1])
    return {
        "IsolationForest.score_samples": lambda: forest.score_samples(inputs),
        "LogisticRegression.predict_proba": lambda: logistic.predict_proba(one),
        "LGBMClassifier.predict_proba": lambda: trees.predict_proba(one),
        "GaussianHMM.predict_proba": lambda: hmm.predict_proba(observed),
    }


def served_calls(bundle: ModelBundle, recording: Recording, row: int) -> dict[str, Any]:
    window = window_at(recording, row, bundle.window_rows)
    features = bundle.engine.transform(window)[None, :]
    probabilities = bundle.raw(features)
    shock, regimes = bundle.engine.shock, bundle.engine.regimes
    assert shock is not None
    assert regimes is not None
    return {
        "predict": lambda: bundle.predict(window),
        "features_and_feature_models": lambda: bundle.engine.transform(window),
        "shock": lambda: shock.scores(features),
        "regimes": lambda: regimes.filtered(window.rows, 100, 99),
        "linear": lambda: bundle.traded.linear.scores(features),
        "trees": lambda: bundle.traded.trees.scores(features),
        "calibration": lambda: bundle.traded.calibration.apply(probabilities),
    }


def trained(recording: Recording, further: tuple[int, ...] = ()) -> tuple[ModelBundle, float]:
    """Return a version and how long its training took, s of processor time."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        result = train_in_memory(recording.rows, small_job(Path(folder), further_horizons_rows=further))
        seconds = time.process_time() - start
        return Registry(folder).load(result.version), seconds


def in_turns_us(calls: Sequence[Callable[[], Any]], repeats: int) -> list[tuple[float, float]]:
    """Return p50 and p99 of each call in us, asked one after the other, so that a busy machine is as busy for all."""
    times = np.empty((repeats, len(calls)))
    for repeat in range(-10, repeats):
        for number, call in enumerate(calls):
            start = time.perf_counter_ns()
            call()
            times[repeat, number] = time.perf_counter_ns() - start
    return [(float(np.quantile(column, 0.5)) / 1e3, float(np.quantile(column, 0.99)) / 1e3) for column in times.T]


def beside(recording: Recording, bundle: ModelBundle, training_s: float, further: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """Return what further horizons cost: predictions and a training, and as ratios to a version without them."""
    more, more_s = trained(recording, further)
    window = window_at(recording, len(recording.rows) - 1, bundle.window_rows)
    (one_p50, one_p99), (p50, p99) = in_turns_us([lambda: bundle.predict(window), lambda: more.predict(window)], repeats)
    return {
        "horizons": len(more.horizons),
        "predict_us": {"p50": round(p50, 1), "p99": round(p99, 1), "alone_p50": round(one_p50, 1), "alone_p99": round(one_p99, 1)},
        "predict_ratio": {"p50": round(p50 / one_p50, 2), "p99": round(p99 / one_p99, 2)},
        "training_s": {"value": round(more_s, 2), "alone": round(training_s, 2), "ratio": round(more_s / training_s, 2)},
    }


def measure(rows: int, repeats: int, further: tuple[int, ...]) -> dict[str, Any]:
    recording = Recording(instrument_id="ES.SIM", tick_size=0.25, has_trades=True, rows=market_rows(rows, seed=11))
    trained(recording)  # compiles
    bundle, training_s = trained(recording)
    row = rows - 1
    served = {name: quantiles_us(call, repeats) for name, call in served_calls(bundle, recording, row).items()}
    libraries = {name: quantiles_us(call, max(20, repeats // 40))[0] for name, call in library_calls(bundle, recording, row).items()}
    p50, p99 = served["predict"]
    return {
        "benchmark": "inference",
        "trees": bundle.traded.trees.forest.tree_count,
        "predict_us": {"p50": round(p50, 1), "p99": round(p99, 1), "target_p50": TARGET_PREDICT_US, "target_p99": TARGET_PREDICT_P99_US},
        "parts_us": {name: round(quantiles[0], 1) for name, quantiles in served.items() if name != "predict"},
        "libraries_us": {name: round(value, 1) for name, value in libraries.items()},
        "libraries_over_served": round(sum(libraries.values()) / p50, 1),
        "training_s": {"rows": rows, "value": round(training_s, 2)},
        "further_horizons": beside(recording, bundle, training_s, further, repeats) if further else None,
        "is_met": bool(p50 <= TARGET_PREDICT_US and p99 <= TARGET_PREDICT_P99_US),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=8_000)
    parser.add_argument("--repeats", type=int, default=2_000)
    parser.add_argument("--further", type=int, nargs="*", default=[5, 20, 100])
    chosen = parser.parse_args()
    print(json.dumps(measure(chosen.rows, chosen.repeats, tuple(chosen.further))))


if __name__ == "__main__":
    main()
