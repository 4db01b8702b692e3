"""What a backtest asks the learning side: predictions of one model version for every row of its recordings, all at once.

The parent writes `BatchJob` as JSON and the rows of each instrument as Parquet beside it, spawns `python -m ml_actor.batch --job FILE`
and reads stdout: progress lines `{"stage": ..., "fraction": ...}`, last line `{"result": {...}}` (`BatchResult`). The answers are
Parquet files with one line for each row, in order: `ts_event`, `sequence`, `p_down`, `p_flat`, `p_up`, `flow_type`, `confidence`,
`regime`, `shock_score`; and of each further horizon of the version `further_column` of the first five.
"""

from __future__ import annotations

import msgspec


class BatchPart(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one instrument, and where their answers go."""

    instrument_id: str
    tick_size: float
    has_trades: bool
    rows_file: str
    answers_file: str


class BatchJob(msgspec.Struct, frozen=True, kw_only=True):
    """Predict every row of `parts` with a version of the registry in `models_dir`; "" is its champion."""

    models_dir: str
    version: str
    parts: tuple[BatchPart, ...]


class BatchResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the version is: `trained_from_ns` and `trained_to_ns` span the data that it learned from. Or why there are no answers."""

    ok: bool
    reason: str = ""
    exit_code: int = 1
    version: str = ""
    horizon_rows: int = 0
    further_horizons_rows: tuple[int, ...] = ()
    window_rows: int = 0
    is_calibrated: bool = False
    trained_from_ns: int = 0
    trained_to_ns: int = 0
    rows: int = 0
    seconds: float = 0.0


def further_column(horizon_rows: int, name: str) -> str:
    """Return the name of the column of a further horizon."""
    return f"{name}_{horizon_rows}_rows"
