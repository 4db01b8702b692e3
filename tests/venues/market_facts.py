"""What can be measured in a stream of market events: rows, signals that are visible at each, and what the mid did next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from framework.config import SimulatedMarketConfig
from framework.messages import BookSnapshot, MarketEvent, TradeTick
from framework.venues.simulated import generate_history

HORIZON_ROWS = 20
WARM_UP_ROWS = 50


class Sample(NamedTuple):
    """What was visible (one column a signal), the move of the mid after, and the spread that a round trip pays, in ticks."""

    signals: np.ndarray
    moves: np.ndarray
    spreads: np.ndarray


SIGNALS = ("imbalance", "ofi_10", "ofi_50", "flow_10", "flow_50", "past_move_10", "past_move_50")


def rows_of(events: Iterable[MarketEvent]) -> np.ndarray:
    """Return per book: 2 x mid, bid size, ask size, OFI of the best level, signed lots and lots traded since the book before, spread."""
    rows: list[tuple[int, ...]] = []
    signed = total = 0
    before: BookSnapshot | None = None
    for event in events:
        if isinstance(event, TradeTick):
            assert event.aggressor is not None
            signed, total = signed + event.size * event.aggressor.sign, total + event.size
        elif isinstance(event, BookSnapshot):
            mid = event.bid_ticks[0] + event.ask_ticks[0]
            rows.append(
                (mid, event.bid_sizes[0], event.ask_sizes[0], ofi(before, event), signed, total, event.ask_ticks[0] - event.bid_ticks[0])
            )
            before, signed, total = event, 0, 0
    return np.array(rows, float)


def ofi(before: BookSnapshot | None, book: BookSnapshot) -> int:
    """Return the order-flow imbalance of the best level (Cont, Kukanov, Stoikov 2014)."""
    if before is None:
        return 0
    bid, bid_0, ask, ask_0 = book.bid_ticks[0], before.bid_ticks[0], book.ask_ticks[0], before.ask_ticks[0]
    bids = (bid >= bid_0) * book.bid_sizes[0] - (bid <= bid_0) * before.bid_sizes[0]
    return bids - (ask <= ask_0) * book.ask_sizes[0] + (ask >= ask_0) * before.ask_sizes[0]


def sample_of(rows: np.ndarray, *, every: int = HORIZON_ROWS, horizon_rows: int = HORIZON_ROWS) -> Sample:
    """Return the signals of each `every`th row, from the past only, with the moves over the next rows."""
    mid, bid, ask, flow, signed, total, spread = rows.T
    at = np.arange(WARM_UP_ROWS, len(rows) - horizon_rows, every)

    def over(column: np.ndarray, window: int) -> np.ndarray:
        summed = np.concatenate(([0.0], np.cumsum(column)))
        return summed[at + 1] - summed[at + 1 - window]

    columns = [((bid - ask) / (bid + ask))[at]]
    columns += [over(flow, window) / over(bid + ask, window) for window in (10, 50)]
    columns += [over(signed, window) / (1.0 + over(total, window)) for window in (10, 50)]
    columns += [mid[at] - mid[at - window] for window in (10, 50)]
    later = at + horizon_rows
    return Sample(np.stack(columns, axis=1), (mid[later] - mid[at]) / 2, (spread[at] + spread[later]) / 2)


def history_sample(strength: float, seed: int, duration_s: float) -> Sample:
    settings = SimulatedMarketConfig(signal_strength=strength)
    return sample_of(rows_of(generate_history(settings, seed=seed, duration_s=duration_s)))


def pooled(samples: Iterable[Sample]) -> Sample:
    return Sample(*(np.concatenate(columns) for columns in zip(*samples, strict=True)))


def area_under_curve(values: np.ndarray, moves: np.ndarray) -> tuple[float, float]:
    """Return the AUC of up against down given moved, and its standard error if it were 0.5 (Mann-Whitney, ties at half)."""
    values, is_up = values[moves != 0], moves[moves != 0] > 0
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    ups, downs = int(is_up.sum()), int((~is_up).sum())
    area = (ranks[is_up].sum() - ups * (ups + 1) / 2) / (ups * downs)
    return float(area), float(np.sqrt((ups + downs + 1) / (12 * ups * downs)))


def fitted_weights(sample: Sample) -> np.ndarray:
    """Return the weights of a logistic regression of up against down given moved (Newton's method, a little ridge)."""
    x = sample.signals[sample.moves != 0] / sample.signals.std(axis=0)
    is_up = (sample.moves[sample.moves != 0] > 0).astype(float)
    weights = np.zeros(x.shape[1])
    for _ in range(20):
        chance = 1.0 / (1.0 + np.exp(-x @ weights))
        hessian = (x.T * (chance * (1.0 - chance))) @ x + np.eye(x.shape[1])
        weights += np.linalg.solve(hessian, x.T @ (is_up - chance) - weights)
    return weights / sample.signals.std(axis=0)
