"""What the explanation of a prediction asks of the learning process: plain values that both processes share.

The parent writes `ExplanationJob` as JSON, spawns `python -m ml_actor.explanation --job FILE` and reads stdout: progress lines, last
line `{"result": {"ok": true, "explanation": {...}}}`, or a refusal as for every job (`framework.leak_job.JobResult`).
"""

from __future__ import annotations

import msgspec

from framework.messages import HorizonPrediction


class ExplanationJob(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction as the journal has it, where rows and versions are, and when it was used (None: never).

    `window_rows` is what the strategy may show at most; `background_rows` is how many rows before the window's last stand for
    what is usual. `horizons` are the further ones that it spoke about.
    """

    dataset_dir: str
    models_dir: str
    instrument_id: str
    as_of_ns: int
    as_of_sequence: int
    model_version: str
    horizon_rows: int
    probabilities: tuple[float, float, float]
    decided_ns: int | None = None
    horizons: tuple[HorizonPrediction, ...] = ()
    window_rows: int = 100
    background_rows: int = 2_000
