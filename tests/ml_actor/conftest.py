"""Rows for the learning tests: a synthetic market with a known signal, and real days of rebar futures where they are at hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from framework.window import FLOW_COLUMNS, Rows, Window
from ml_actor.pipeline import train_on
from ml_actor.preparation import Recording, window_at
from ml_actor.registry import Registry
from ml_actor.training_job import TrainingJob, TrainingResult

LEVELS = 10


def order_flow(bid_ticks: Any, bid_sizes: Any, ask_ticks: Any, ask_sizes: Any) -> np.ndarray[Any, Any]:
    """Order-flow imbalance per level against the row before (Cont, Kukanov & Stoikov 2014); 0 in the first row."""
    bid, ask = bid_sizes.astype(float), ask_sizes.astype(float)
    out = np.zeros(bid.shape)
    up_bid, down_bid = bid_ticks[1:] >= bid_ticks[:-1], bid_ticks[1:] <= bid_ticks[:-1]
    down_ask, up_ask = ask_ticks[1:] <= ask_ticks[:-1], ask_ticks[1:] >= ask_ticks[:-1]
    out[1:] = up_bid * bid[1:] - down_bid * bid[:-1] - down_ask * ask[1:] + up_ask * ask[:-1]
    return out


def with_flow(
    ts_event: Any,
    segment: Any,
    bid_ticks: Any,
    bid_sizes: Any,
    ask_ticks: Any,
    ask_sizes: Any,
    bought: Any,
    sold: Any,
    sequence: Any = None,
) -> Rows:
    n = len(ts_event)
    flow = np.zeros((n, len(FLOW_COLUMNS)), np.float32)
    flow[:, 0], flow[:, 1] = bought, sold
    flow[:, 3], flow[:, 4] = np.ceil(np.asarray(bought) / 3), np.ceil(np.asarray(sold) / 3)
    flow[1:, 5] = ((bid_sizes[1:] != bid_sizes[:-1]) | (bid_ticks[1:] != bid_ticks[:-1])).sum(axis=1)
    flow[1:, 6] = ((ask_sizes[1:] != ask_sizes[:-1]) | (ask_ticks[1:] != ask_ticks[:-1])).sum(axis=1)
    flow[:, 7:] = order_flow(bid_ticks, bid_sizes, ask_ticks, ask_sizes)
    return Rows(
        ts_event=np.asarray(ts_event, np.int64),
        sequence=np.arange(1, n + 1) if sequence is None else sequence,
        segment=np.asarray(segment, np.int64),
        bid_ticks=np.asarray(bid_ticks, np.int32),
        bid_sizes=np.asarray(bid_sizes, np.float32),
        ask_ticks=np.asarray(ask_ticks, np.int32),
        ask_sizes=np.asarray(ask_sizes, np.float32),
        flow=flow,
    )


def market_rows(n: int, *, seed: int = 1, signal: float = 1.0, segments: int = 2) -> Rows:
    """A large-tick book whose best sizes mean-revert and whose mid moves towards the thinner side; `signal` 0: at random."""
    rng = np.random.default_rng(seed)
    pressure = np.zeros(n)
    for i in range(1, n):
        pressure[i] = 0.93 * pressure[i - 1] + rng.normal(scale=0.37)
    chance = 0.06 / (1 + np.exp(-3.0 * signal * pressure)), 0.06 / (1 + np.exp(3.0 * signal * pressure))
    draw = rng.random(n)
    steps = np.where(draw < chance[0], 1, np.where(draw > 1 - chance[1], -1, 0))
    best_bid = 10_000 + np.cumsum(np.roll(steps, 1))
    level = np.arange(LEVELS)
    tilt = pressure[:, None] * np.exp(-0.5 * level)
    bid_sizes = np.maximum(1, np.round(50 * np.exp(0.5 * tilt + rng.normal(scale=0.3, size=(n, LEVELS)))))
    ask_sizes = np.maximum(1, np.round(50 * np.exp(-0.5 * tilt + rng.normal(scale=0.3, size=(n, LEVELS)))))
    return with_flow(
        1_700_000_000_000_000_000 + np.cumsum(rng.integers(50, 200, n)) * 1_000_000,
        np.arange(n) * segments // n,
        best_bid[:, None] - level,
        bid_sizes,
        best_bid[:, None] + 1 + level,
        ask_sizes,
        rng.poisson(3 * np.exp(0.3 * np.clip(pressure, -3, 3))),
        rng.poisson(3 * np.exp(-0.3 * np.clip(pressure, -3, 3))),
    )


def rebar_rows(path: Path) -> Rows:
    """One day of SHFE rebar: five levels (levels 6-10 missing), volumes by side as the recorder estimated them."""
    frame = pl.read_parquet(path)
    n = len(frame)

    def side(name: str, kind: Any) -> Any:
        out = np.zeros((n, LEVELS), kind)
        for level in range(5):
            out[:, level] = frame[f"{name}{level + 1}"].fill_null(0).to_numpy()
        return out

    ts_event = frame["epochTime"].to_numpy() * 1000
    segment = np.cumsum(np.append(0, np.diff(ts_event) > 5_000_000_000))
    sizes = side("bidSize", np.float32), side("askSize", np.float32)
    bought, sold = (np.maximum(0, frame[name].fill_null(0).to_numpy()) for name in ("market_hit_ask", "market_hit_bid"))
    return with_flow(ts_event, segment, side("bid", np.int32), sizes[0], side("ask", np.int32), sizes[1], bought, sold)


@pytest.fixture(scope="session")
def job_for() -> Callable[..., TrainingJob]:
    return small_job


@pytest.fixture(scope="session")
def train_rows() -> Callable[..., TrainingResult]:
    return train_in_memory


@pytest.fixture(scope="session")
def make_market() -> Callable[..., Rows]:
    return market_rows


@pytest.fixture(scope="session")
def rebar_day(recordings: Path) -> Callable[[str], Rows]:
    return lambda day: rebar_rows(recordings / "shfe_rb_l2" / f"rb_{day}.parquet")


def small_job(models_dir: Path, **changes: Any) -> TrainingJob:
    fields = {"job_id": "job-1", "dataset_dir": "", "models_dir": str(models_dir), "reason": "test", "horizon_rows": 10, "min_rows": 500}
    return TrainingJob(**(fields | changes))


def train_in_memory(rows: Rows, job: TrainingJob, **more: Any) -> TrainingResult:
    recording = Recording(instrument_id="ES.SIM", tick_size=0.25, has_trades=True, rows=rows)
    return train_on([recording], job, **({"feedback": (), "refused_parts": (), "report": lambda stage, fraction: None} | more))


@dataclass(frozen=True)
class Trained:
    registry: Registry
    result: TrainingResult
    recording: Recording
    job: TrainingJob

    def window(self, row: int) -> Window:
        return window_at(self.recording, row, self.job.window_rows)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A version trained on 8,000 rows of the synthetic market; nobody changes its directory."""
    rows = market_rows(8_000, seed=11)
    job = small_job(tmp_path_factory.mktemp("trained") / "models")
    result = train_in_memory(rows, job)
    recording = Recording(instrument_id="ES.SIM", tick_size=0.25, has_trades=True, rows=rows)
    return Trained(registry=Registry(job.models_dir), result=result, recording=recording, job=job)


@pytest.fixture
def models_copy(trained: Trained, tmp_path: Path) -> Registry:
    """A registry of one's own with that version in it, not promoted yet."""
    shutil.copytree(trained.registry.directory, tmp_path / "models")
    return Registry(tmp_path / "models")
