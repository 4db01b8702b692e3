"""The answers of a batch come out of their files with everything that the version said."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from framework.backtest.answers import of_batch
from framework.backtest_job import BatchResult, further_column
from framework.messages import HorizonPrediction
from framework.model import FlowType


def written(folder: Path, further: tuple[int, ...]) -> Path:
    """Write two rows whose numbers tell the row and the horizon."""
    columns = {"ts_event": [10, 20], "sequence": [1, 2], "p_down": [0.25, 0.5], "p_flat": [0.5, 0.25], "p_up": [0.25, 0.25]}
    columns |= {"flow_type": ["BUY", "SELL"], "confidence": [0.5, 0.75], "regime": [0, 1], "shock_score": [0.125, 0.25]}
    for horizon in further:
        told = {"p_down": [0.5, 0.25], "p_flat": [0.25, 0.5], "p_up": [0.25, 0.25], "flow_type": ["SELL", "NEUTRAL"]}
        told |= {"confidence": [horizon / 1_000, 0.5]}
        columns |= {further_column(horizon, name): values for name, values in told.items()}
    pq.write_table(pa.table(columns), folder / "answers.parquet")
    return folder / "answers.parquet"


@pytest.mark.parametrize("further", [(), (5,), (5, 200)])
def test_each_row_has_its_further_horizons_in_order(tmp_path: Path, further: tuple[int, ...]) -> None:
    about = BatchResult(ok=True, version="v1", horizon_rows=50, further_horizons_rows=further, is_calibrated=True)
    answers = of_batch({"TIDE.SIM": written(tmp_path, further)}, about)
    first, second = answers.find(("TIDE.SIM", 10, 1)), answers.find(("TIDE.SIM", 20, 2))

    assert first is not None
    assert second is not None
    assert first.horizons == tuple(HorizonPrediction(rows, 0.5, 0.25, 0.25, FlowType.SELL, rows / 1_000) for rows in further)
    assert second.horizons == tuple(HorizonPrediction(rows, 0.25, 0.5, 0.25, FlowType.NEUTRAL, 0.5) for rows in further)
    assert (first.flow_type, second.flow_type, len(answers)) == ("BUY", "SELL", 2)
