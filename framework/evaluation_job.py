"""What an evaluation is asked and what it answers: plain values that the command line writes and its child process reads.

The parent writes `EvaluationJob` as JSON and the rows of every file as Parquet beside it, spawns
`python -m ml_actor.evaluate --job FILE` and reads stdout: progress lines `{"stage": ..., "fraction": ...}`, last line
`{"result": {...}}` (`EvaluationResult`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

DEFAULT_MODEL: Final = "ensemble"
LABELS: Final = ("sign", "tercile")
TRAIN: Final = "train"
TEST: Final = "test"
WALK: Final = "walk"
BACKENDS: Final = ("loky", "dask", "ray")
MemberSettings = dict[str, dict[str, float]]
"""Settings in place of those that ship, by member of the model and by name."""


class EvaluatedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One recording as rows. `name` is what the user wrote; row i of `rows_file` is book `first_row + i` of the recording.

    `role` is TRAIN, TEST, or WALK for a walk-forward. `fee_ticks` is what one taking fill costs, in ticks.
    """

    name: str
    role: str
    rows_file: str
    instrument_id: str
    tick_size: float
    has_trades: bool
    fee_ticks: float
    rows: int
    first_row: int = 0


class Trials(msgspec.Struct, frozen=True, kw_only=True):
    """How often somebody looked at these test rows before and with this run, and the Sharpe ratios that were found.

    `sharpes` are per block and by horizon (text, as JSON has it): of the runs before this one.
    """

    number: int = 1
    sharpes: dict[str, list[float]] = {}


class EvaluationJob(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation. `predictions_file` and `report_file` are None where nobody wants them."""

    files: list[EvaluatedFile]
    horizons: list[int]
    label: str = "sign"
    model: str = DEFAULT_MODEL
    seed: int = 7
    folds: int = 5
    backend: str = "loky"
    address: str | None = None
    workers: int = 1
    predictions_file: str | None = None
    report_file: str | None = None
    trials: Trials = Trials()
    settings: MemberSettings = {}
    command: str = ""


class EvaluationResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. A refusal (`ok` False) names its reason and the exit code that belongs to it."""

    ok: bool
    reason: str = ""
    exit_code: int = 2
    report: dict[str, Any] = {}
