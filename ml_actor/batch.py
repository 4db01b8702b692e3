"""Predict every row of recordings with one model version: what the service would say to each window, without sockets.

    python -m ml_actor.batch --job FILE.json

prints progress lines `{"stage": ..., "fraction": ...}` and last `{"result": {...}}` (`framework.backtest_job.BatchResult`).
Nothing is fitted here, and no learning library is loaded.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from framework.backtest_job import BatchJob, BatchPart, BatchResult, further_column
from framework.dataset.schema import from_table
from framework.errors import ConfigError
from framework.messages import HorizonPrediction
from framework.window import Float64Array, Rows
from ml_actor.features.catalogue import ALL_NAMES, REGIMES
from ml_actor.job_process import progress_to, run_job
from ml_actor.models import Head, ModelBundle
from ml_actor.registry import Registry

Report = Callable[[str, float], None]


def predict_all(job: BatchJob, report: Report) -> BatchResult:
    """Do the job. Raises `UnknownVersion`, `IntegrityError` (damaged artifact or rows), `ConfigError` without a champion."""
    registry = Registry(job.models_dir)
    version = job.version or registry.champion()
    if version is None:
        raise ConfigError(f"{job.models_dir}: no model has been trained yet; train one, or backtest with --ml off")
    bundle, facts = registry.load(version), registry.manifest(version).facts
    start_s, rows = time.perf_counter(), 0
    for number, part in enumerate(job.parts):
        report(f"predicting {part.instrument_id}", number / len(job.parts))
        rows += predict_part(bundle, part)
    trained: dict[str, Any] = facts.get("data", {})
    return BatchResult(
        ok=True,
        version=version,
        horizon_rows=bundle.horizon_rows,
        window_rows=bundle.window_rows,
        is_calibrated=bundle.is_calibrated,
        trained_from_ns=int(trained.get("start_ns", 0)),
        trained_to_ns=int(trained.get("end_ns", 0)),
        further_horizons_rows=bundle.horizons[1:],
        rows=rows,
        seconds=round(time.perf_counter() - start_s, 3),
    )


def predict_part(bundle: ModelBundle, part: BatchPart) -> int:
    """Write the answers for one instrument; return how many."""
    rows = from_table(pq.read_table(part.rows_file))
    pq.write_table(pa.table(answers(bundle, rows, has_trades=part.has_trades)), part.answers_file, compression="none")
    return len(rows)


def answers(bundle: ModelBundle, rows: Rows, *, has_trades: bool) -> dict[str, Any]:
    """Return the columns of the answers to the windows that end at each row."""
    features = bundle.engine.transform_rows(rows, has_trades=has_trades)
    probabilities, *further = bundle.over_horizons(features)
    claims = [bundle.traded.rule.claim(*three) for three in probabilities.tolist()]
    regimes = features[:, len(ALL_NAMES) - REGIMES :]
    is_known = ~np.isnan(regimes[:, 0])
    return {
        "ts_event": rows.ts_event,
        "sequence": rows.sequence,
        "p_down": probabilities[:, 0],
        "p_flat": probabilities[:, 1],
        "p_up": probabilities[:, 2],
        "flow_type": [str(flow_type) for flow_type, _ in claims],
        "confidence": np.array([confidence for _, confidence in claims]),
        "regime": np.where(is_known, np.where(is_known[:, None], regimes, 0.0).argmax(axis=1), -1),
        "shock_score": features[:, len(ALL_NAMES) - REGIMES - 1],
        **{name: column for head, found in zip(bundle.heads[1:], further, strict=True) for name, column in _over(head, found).items()},
    }


def _over(head: Head, probabilities: Float64Array) -> dict[str, Any]:
    """Return the columns of a further horizon."""
    claims = [head.claim(three) for three in probabilities]
    names = HorizonPrediction.__struct_fields__[1:]
    return {further_column(head.horizon_rows, name): [_plain(getattr(claim, name)) for claim in claims] for name in names}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job in this process; progress and result on stdout."""
    return run_job(
        arguments,
        prog="ml_actor.batch",
        description="Predict every row of recordings.",
        job_type=BatchJob,
        work=lambda job, say: predict_all(job, progress_to(say)),
    )


if __name__ == "__main__":
    sys.exit(main())
