"""Answers in a batch are the answers of the service, window by window; and what cannot be answered is refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from framework.backtest_job import BatchJob, BatchPart
from framework.dataset.schema import to_table
from framework.errors import ConfigError, TidebookError
from ml_actor.batch import answers, predict_all
from ml_actor.features.engine import select


def part_of(trained: Any, folder: Path, rows: int = 600) -> BatchPart:
    recording = trained.recording
    table = to_table(recording.instrument_id, recording.tick_size, select(recording.rows, slice(0, rows)), has_trades=True)
    pq.write_table(table, folder / "rows.parquet")
    return BatchPart(
        instrument_id=recording.instrument_id,
        tick_size=recording.tick_size,
        has_trades=True,
        rows_file=str(folder / "rows.parquet"),
        answers_file=str(folder / "answers.parquet"),
    )


def silent(_stage: str, _fraction: float) -> None:
    """Say nothing."""


def test_each_answer_is_what_the_service_says_to_the_window_that_ends_there(trained: Any) -> None:
    bundle = trained.registry.load(trained.result.version)
    found = answers(bundle, trained.recording.rows, has_trades=True)

    for row in (0, 5, 99, 100, 4_500, 7_999):
        one = bundle.predict(trained.window(row))
        assert found["p_up"][row] == pytest.approx(one.p_up, abs=1e-12)
        assert found["confidence"][row] == pytest.approx(one.confidence, abs=1e-12)
        assert (found["flow_type"][row], found["regime"][row]) == (one.flow_type, one.regime)
        np.testing.assert_allclose(found["shock_score"][row], one.shock_score, atol=1e-12)


def test_the_job_is_done_in_a_process_of_its_own(trained: Any, tmp_path: Path) -> None:
    part = part_of(trained, tmp_path)
    job = BatchJob(models_dir=trained.job.models_dir, version=trained.result.version, parts=(part,))
    (tmp_path / "job.json").write_bytes(msgspec.json.encode(job))
    command = [sys.executable, "-m", "ml_actor.batch", "--job", str(tmp_path / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=Path(__file__).resolve().parents[2])

    result = json.loads(done.stdout.splitlines()[-1])["result"]

    assert (result["ok"], result["version"], result["rows"]) == (True, trained.result.version, 600)
    assert result["trained_to_ns"] > result["trained_from_ns"] > 0
    assert pq.read_table(part.answers_file).num_rows == 600


def test_a_version_that_is_not_there_is_refused(trained: Any, tmp_path: Path) -> None:
    job = BatchJob(models_dir=trained.job.models_dir, version="v0009-deadbeef", parts=(part_of(trained, tmp_path),))

    with pytest.raises(TidebookError, match="v0009-deadbeef"):
        predict_all(job, silent)


def test_without_any_model_it_says_what_to_do(trained: Any, tmp_path: Path) -> None:
    job = BatchJob(models_dir=str(tmp_path / "none"), version="", parts=(part_of(trained, tmp_path),))

    with pytest.raises(ConfigError, match="--ml off"):
        predict_all(job, silent)
