"""Which rows are scored, and their labels: against a second computation that shares no line with ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from framework.dataset.schema import from_table
from framework.market.formats import open_source
from framework.research.evaluating.options import EvaluationOptions, Fee
from framework.research.evaluating.reading import Opened, read_recording
from framework.window import Rows
from ml_actor.evaluate.targets import targets, training_threshold
from ml_actor.preparation import Recording


def scored_by_polars(path: Path, horizon: int) -> pl.DataFrame:
    """Return row and move in half ticks of every scored row of an SHFE file, from the contract's words alone."""
    return (
        pl.read_parquet(path, columns=["epochTime", "bid1", "ask1"])
        .with_row_index("row")
        .with_columns(session=(pl.col("epochTime").diff().fill_null(0) > 5_000_000).cum_sum(), mid=pl.col("bid1") + pl.col("ask1"))
        .with_columns(
            earlier=pl.int_range(pl.len()).over("session"),
            later_mid=pl.col("mid").shift(-horizon).over("session"),
            has_twin=(pl.col("epochTime").shift(-1) == pl.col("epochTime")).fill_null(value=False),
        )
        .filter((pl.col("earlier") >= 100) & pl.col("later_mid").is_not_null() & ~pl.col("has_twin"))
        .select("row", move=(pl.col("later_mid") - pl.col("mid")).cast(pl.Int64))
    )


@pytest.mark.recordings
@pytest.mark.parametrize("horizon", [10, 100])
def test_rows_and_labels_of_a_real_day_are_those_of_the_contract(recordings: Path, tmp_path: Path, horizon: int) -> None:
    path = recordings / "shfe_rb_l2" / "rb_20250609.parquet"
    options = EvaluationOptions(horizons=(horizon,), state_dir=tmp_path, default_fee=Fee(amount=Decimal(0)))

    opened = Opened(path=path, role="test", source=open_source(path))
    read = read_recording(opened, None, tmp_path / "rows.parquet", options, lambda share: None)
    found = targets(from_table(pq.read_table(read.rows_file)), horizon)

    expected = scored_by_polars(path, horizon)
    assert len(expected) > 40_000
    assert found.rows.tolist() == expected["row"].to_list()
    assert found.moves.tolist() == expected["move"].to_list()


def test_of_several_rows_with_one_time_stamp_the_last_is_scored_and_all_count(make_market: Callable[..., Rows]) -> None:
    rows = make_market(1_000, segments=1)
    times = rows.ts_event.copy()
    times[500:503] = times[500]

    found = targets(replace(rows, ts_event=times), 10)

    assert set(range(100, 990)) - set(found.rows.tolist()) == {500, 501}
    at = found.rows.tolist().index(502)
    mids = rows.bid_ticks[:, 0].astype(int) + rows.ask_ticks[:, 0]
    assert found.moves[at] == mids[512] - mids[502]


def test_neither_history_nor_horizon_crosses_a_session(make_market: Callable[..., Rows]) -> None:
    rows = make_market(1_000, segments=2)

    assert targets(rows, 20).rows.tolist() == [*range(100, 480), *range(600, 980)]


def test_the_tercile_threshold_is_that_of_the_training_part(make_market: Callable[..., Rows]) -> None:
    rows = make_market(3_000, segments=1)
    recording = Recording(instrument_id="A.SIM", tick_size=1.0, has_trades=True, rows=rows)

    moves = np.abs(targets(rows, 50).moves)

    assert training_threshold([recording], 50, "sign") == 0
    assert training_threshold([recording], 50, "tercile") == np.quantile(moves, 1 / 3)
