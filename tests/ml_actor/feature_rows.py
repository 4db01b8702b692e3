"""Windows, ugly rows and equality for the tests of features."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from framework.window import BAR_COLUMNS, FLOW_COLUMNS, Rows, Window
from ml_actor.features.engine import select


def window_of(rows: Rows, *, has_trades: bool = True) -> Window:
    return Window(instrument_id="ES.SIM", tick_size=0.25, has_trades=has_trades, rows=rows, bars=np.empty((0, len(BAR_COLUMNS))))


def segment_start(rows: Rows, t: int) -> int:
    joints = np.flatnonzero(np.diff(rows.segment[: t + 1]) != 0)
    return int(joints[-1]) + 1 if len(joints) else 0


def window_ending_at(rows: Rows, t: int, size: int = 100) -> Rows:
    return select(rows, slice(max(segment_start(rows, t), t - size + 1), t + 1))


@st.composite
def any_rows(draw: st.DrawFn) -> Rows:
    """Rows as ugly as the contract allows: missing levels, empty sides, joints, standing clocks, zero flow."""
    n = draw(st.integers(1, 160))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    gaps = np.cumsum(rng.integers(1, 4, (n, 10)), axis=1).astype(np.int32)
    mid = 1000 + np.cumsum(rng.integers(-1, 2, n))[:, None].astype(np.int32)
    depth_bid, depth_ask = rng.integers(draw(st.integers(0, 10)), 11, n), rng.integers(draw(st.integers(0, 10)), 11, n)
    level = np.arange(10)
    bid_sizes = (rng.integers(1, 200, (n, 10)) * (level < depth_bid[:, None])).astype(np.float32)
    ask_sizes = (rng.integers(1, 200, (n, 10)) * (level < depth_ask[:, None])).astype(np.float32)
    flow = rng.integers(-50, 50, (n, len(FLOW_COLUMNS))) * (rng.random((n, 1)) < draw(st.sampled_from([0.0, 0.3, 1.0])))
    flow[:, :7] = np.abs(flow[:, :7])
    return Rows(
        ts_event=np.cumsum(rng.integers(0, 10**9, n)),
        sequence=np.arange(n),
        segment=np.cumsum(rng.random(n) < draw(st.sampled_from([0.0, 0.02, 0.3]))),
        bid_ticks=np.where(bid_sizes > 0, mid - gaps, 0).astype(np.int32),
        bid_sizes=bid_sizes,
        ask_ticks=np.where(ask_sizes > 0, mid + gaps, 0).astype(np.int32),
        ask_sizes=ask_sizes,
        flow=flow.astype(np.float32),
    )


def equal(left: Any, right: Any) -> bool:
    return np.array_equal(left, right, equal_nan=True)
