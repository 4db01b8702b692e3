"""The predictions file: one row per scored row and horizon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ml_actor.evaluate.answers import MODEL, Answer

SCHEMA: Final = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("ts_event", pa.int64(), nullable=False),
        pa.field("horizon", pa.int64(), nullable=False),
        pa.field("p_down", pa.float64(), nullable=False),
        pa.field("p_flat", pa.float64(), nullable=False),
        pa.field("p_up", pa.float64(), nullable=False),
    ]
)


def predictions_bytes(by_horizon: Mapping[int, Answer]) -> bytes:
    """Return the Parquet file: `file` as the user named it, `row` from 0 in that file, `ts_event` ns UTC, three probabilities."""
    tables = [_table(horizon, answer) for horizon, answer in by_horizon.items()]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(tables), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _table(horizon: int, answer: Answer) -> pa.Table:
    said = answer.probabilities[MODEL]
    columns = [np.array(answer.names, object)[answer.files], answer.rows, answer.ts_event, np.full(len(answer.rows), horizon), *said.T]
    return pa.Table.from_arrays([pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
