"""Predict every row of recordings with one model version: what the service would say to each window, without sockets.

    python -m ml_actor.batch --job FILE.json

prints progress lines `{"stage": ..., "fraction": ...}` and last `{"result": {...}}` (`framework.backtest_job.BatchResult`).
Nothing is fitted here, and no learning library is loaded.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from framework.backtest_job import BatchJob, BatchPart, BatchResult
from framework.dataset.schema import from_table
from framework.errors import ConfigError, TidebookError
from framework.parent_death import die_with_parent
from framework.window import Rows
from ml_actor.features.catalogue import ALL_NAMES, REGIMES
from ml_actor.models import ModelBundle
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
    probabilities = bundle.predict_rows(rows, has_trades=has_trades)
    claims = [bundle.rule.claim(*three) for three in probabilities.tolist()]
    features = bundle.engine.transform_rows(rows, has_trades=has_trades)
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
    }


def _say(line: Any) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job in this process, dying with its parent; progress and result on stdout."""
    parser = argparse.ArgumentParser(prog="python -m ml_actor.batch", description="Predict every row of recordings.")
    parser.add_argument("--job", type=Path, required=True, help="JSON file of a BatchJob")
    job = msgspec.json.decode(parser.parse_args(arguments).job.read_bytes(), type=BatchJob)
    die_with_parent()
    try:
        result = predict_all(job, lambda stage, fraction: _say({"stage": stage, "fraction": fraction}))
    except TidebookError as exc:
        result = BatchResult(ok=False, reason=str(exc), exit_code=exc.exit_code)
    # The parent waits for one result line whatever happens: a fault is told as such, with its trace on stderr.
    except Exception as exc:  # noqa: BLE001
        traceback.print_exc()
        _say({"result": BatchResult(ok=False, reason=f"fault: {type(exc).__name__}: {exc}")})
        return 1
    _say({"result": result})
    return 0


if __name__ == "__main__":
    sys.exit(main())
