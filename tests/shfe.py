"""A synthetic recording in the SHFE layout, for tests that read files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl


def shfe_day(path: Path, rows: int, *, seed: int, start_s: int, symbol: str = "rb2510", move_share: float = 0.06) -> Path:
    """Write a synthetic recording in the SHFE layout, whose mid moves towards the thinner side; two sessions of equal length."""
    rng = np.random.default_rng(seed)
    pressure = np.zeros(rows)
    for i in range(1, rows):
        pressure[i] = 0.93 * pressure[i - 1] + rng.normal(scale=0.37)
    draw = rng.random(rows)
    up, down = move_share / (1 + np.exp(-3 * pressure)), move_share / (1 + np.exp(3 * pressure))
    bid = 3_000 + np.cumsum(np.roll(np.where(draw < up, 1, np.where(draw > 1 - down, -1, 0)), 1))
    times = start_s * 1_000_000 + np.arange(rows) * 500_000 + (np.arange(rows) >= rows // 2) * 900_000_000
    columns: dict[str, object] = {"epochTime": times, "volume_chg": rng.poisson(3, rows).astype(float), "avgprice": bid + 0.5}
    for level in range(5):
        columns[f"bid{level + 1}"], columns[f"ask{level + 1}"] = (bid - level).astype(float), (bid + 1 + level).astype(float)
        columns[f"bidSize{level + 1}"] = np.maximum(1, np.round(50 * np.exp(0.5 * pressure + rng.normal(scale=0.3, size=rows))))
        columns[f"askSize{level + 1}"] = np.maximum(1, np.round(50 * np.exp(-0.5 * pressure + rng.normal(scale=0.3, size=rows))))
    columns |= {"instrumentID": [symbol] * rows, "exchangeID": ["SHFE"] * rows}
    pl.DataFrame(columns).write_parquet(path)
    return path
