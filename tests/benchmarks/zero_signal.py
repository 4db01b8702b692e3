"""A market whose order flow says nothing: does a model claim to know its direction? Prints JSON.

    python -m tests.benchmarks.zero_signal [--seeds 20] [--first-seed 1] [--rows 12000] [--model ensemble] [--horizons 10,50]

Each seed makes a simulated market with `signal_strength` 0. The model is fitted on the first two thirds and scored on the
rest: 2 AUC - 1 of up against down among the rows that moved, beside the interval of chance (95 %, from the same
predictions and outcomes whose blocks of rows have their direction drawn anew). About one seed in twenty lies outside by
chance; more say that the model, its features or its split know the future. How often the mid moves can be predicted in
this market, and is not asked.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from framework.config import SimulatedMarketConfig
from framework.venues.simulated import DEFAULT_START_NS, generate_history
from framework.venues.simulated_tape import INSTRUMENT
from framework.window import Float64Array, Int64Array
from ml_actor.calibration import up_given_move
from ml_actor.evaluation import auc
from ml_actor.features.engine import select
from ml_actor.horizons import EARLIER_ROWS, fit_horizons
from ml_actor.labels import FLAT, UP, label_rows
from ml_actor.preparation import Recording
from tests.benchmarks.bench_regime_flip import rows_of

DRAWS = 1_000


def market(seed: int, rows: int) -> Recording:
    """Return `rows` rows of a market without a signal."""
    settings = SimulatedMarketConfig(signal_strength=0.0)
    seconds = int(rows * settings.book_interval_ms / 1e3 * 1.2) + 60
    found = rows_of(generate_history(settings, seed=seed, start_ns=DEFAULT_START_NS, duration_s=seconds), rows)
    return Recording(instrument_id=INSTRUMENT.instrument_id, tick_size=0.25, has_trades=True, rows=found)


def chance(up: Float64Array, went_up: Any, blocks: Int64Array, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of 2 AUC - 1 when the direction of each block of rows is drawn by a coin."""
    rng = np.random.default_rng(seed)
    flips = rng.random((DRAWS, int(blocks.max()) + 1)) < 0.5
    drawn = [2 * auc(up, went_up ^ flip[blocks]) - 1 for flip in flips]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def scores(seed: int, rows: int, horizons: Sequence[int], model: str) -> Iterator[dict[str, Any]]:
    """Yield the score of each horizon on one market. Raises `RuntimeError` when the model cannot be fitted."""
    whole = market(seed, rows)
    cut = 2 * len(whole.rows) // 3
    train, test = (
        Recording(instrument_id=whole.instrument_id, tick_size=whole.tick_size, has_trades=True, rows=select(whole.rows, part))
        for part in (slice(0, cut), slice(cut, len(whole.rows)))
    )
    fitted = fit_horizons([train], horizons=horizons, label="sign", seed=seed, report=lambda *_: None, model=model)
    if isinstance(fitted, str):
        raise RuntimeError(f"seed {seed}: {fitted}")
    for horizon, said in fitted.predict_rows(test).items():
        labels = label_rows(test.rows, horizon_rows=horizon, min_history=EARLIER_ROWS + 1)
        moved = np.flatnonzero(labels.is_valid & (labels.classes != FLAT))
        up, went_up = up_given_move(said[moved]), labels.classes[moved] == UP
        low, high = chance(up, went_up, moved // (2 * horizon), seed)
        skill = 2 * auc(up, went_up) - 1
        yield {
            "seed": seed,
            "horizon": horizon,
            "rows": len(moved),
            "skill": skill,
            "chance": [low, high],
            "is_chance": low <= skill <= high,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line a score and the summary last."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--model", default="ensemble")
    parser.add_argument("--horizons", default="10,50")
    asked = parser.parse_args(arguments)
    horizons = [int(part) for part in asked.horizons.split(",")]
    found = []
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        for score in scores(seed, asked.rows, horizons, asked.model):
            found.append(score)
            sys.stdout.write(json.dumps(score) + "\n")
            sys.stdout.flush()
    outside = sum(not score["is_chance"] for score in found)
    mean = float(np.mean([score["skill"] for score in found]))
    sys.stdout.write(json.dumps({"model": asked.model, "scores": len(found), "outside": outside, "mean_skill": mean}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
