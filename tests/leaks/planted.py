"""Things that leak on purpose, each in a way of its own: what the checks have to catch, and `docs/leaks.md` shows."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from framework.messages import DomUpdated
from framework.model import Side
from framework.strategy import Strategy
from framework.window import Rows
from ml_actor.horizons import fit_horizons

HONEST = "imbalance"


def imbalance(rows: Rows) -> Any:
    bid, ask = rows.bid_sizes[:, 0].astype(float), rows.ask_sizes[:, 0].astype(float)
    return (bid - ask) / np.maximum(bid + ask, 1.0)


def mids(rows: Rows) -> Any:
    return (rows.bid_ticks[:, 0].astype(float) + rows.ask_ticks[:, 0]) / 2


def quitting(rows: Rows) -> Any:
    """Ends the process."""
    os._exit(3)


def next_row(rows: Rows) -> dict[str, Any]:
    """One column reads row t + 1."""
    mid = mids(rows)
    return {HONEST: imbalance(rows), "next_return": np.append(mid[1:], mid[-1]) - mid}


def scaled_on_all_data(rows: Rows) -> dict[str, Any]:
    """One column is scaled with mean and deviation of the whole recording."""
    raw = imbalance(rows)
    return {HONEST: raw, "scaled_size": (rows.bid_sizes[:, 0] - rows.bid_sizes[:, 0].mean()) / rows.bid_sizes[:, 0].std()}


def smoothed_regime(rows: Rows) -> dict[str, Any]:
    """One column is the Viterbi path of a hidden Markov model, which looks at all rows; the other one is filtered forward."""
    evidence = np.log(0.8 / 0.2) * np.sign(imbalance(rows))
    stay, leave = np.log(0.98), np.log(0.02)
    best, came_from = np.zeros(2), np.zeros((len(rows), 2), int)
    filtered, chance = np.empty(len(rows)), 0.5
    for row, one in enumerate(evidence):
        scores = best[:, None] + np.array([[stay, leave], [leave, stay]])
        came_from[row], best = scores.argmax(axis=0), scores.max(axis=0) + np.array([0.0, one])
        prior = 0.98 * chance + 0.02 * (1 - chance)
        chance = prior * np.exp(one) / (prior * np.exp(one) + 1 - prior)
        filtered[row] = chance
    path = np.empty(len(rows))
    state = int(best.argmax())
    for row in range(len(rows) - 1, -1, -1):
        path[row] = state
        state = came_from[row, state]
    return {"filtered_regime": filtered, "viterbi_regime": path}


def smoothed_label(rows: Rows, horizon_rows: int) -> Any:
    """Mean of the mid over the horizon against its mean over as many rows before: most of it is known already."""
    mid, out = mids(rows), np.full(len(rows), np.nan)
    sums = np.concatenate([[0.0], np.cumsum(mid)])
    here = np.arange(horizon_rows, len(rows) - horizon_rows)
    after = (sums[here + horizon_rows + 1] - sums[here + 1]) / horizon_rows
    before = (sums[here + 1] - sums[here - horizon_rows + 1]) / horizon_rows
    out[here] = np.round(after - before, 6)
    return out


_TARGETS: dict[int, float] = {}


def target_by_time(rows: Rows) -> dict[str, Any]:
    """One column is what happened next, remembered by time stamp from a first look at the whole recording."""
    mid = mids(rows)
    if not _TARGETS:
        _TARGETS.update(zip(rows.ts_event[:-20].tolist(), (mid[20:] - mid[:-20]).tolist(), strict=True))
    return {HONEST: imbalance(rows), "target_of_this_time": np.array([_TARGETS.get(time, 0.0) for time in rows.ts_event.tolist()])}


def row_number(rows: Rows) -> dict[str, Any]:
    """One column is the place of the row in the data."""
    return {HONEST: imbalance(rows), "row_number": np.arange(len(rows), dtype=float)}


def chatty_row_number(rows: Rows) -> dict[str, Any]:
    """The same, and it prints: words, JSON, and something that looks like a line of ours."""
    print("computing", len(rows), '\n{"stage": 7}\n[1, 2]\n{"nothing": "of ours"}')
    return row_number(rows)


def broken(rows: Rows) -> Any:
    """No leak: it cannot run at all."""
    return rows.bid_sizes[:, 0] * (1 // 0)


class Shrunk:
    """A classifier that standardises what it predicts by the mean of the rows that it is given together."""

    classes_ = np.array([0, 1, 2])

    def fit(self, features: Any, classes: Any) -> Shrunk:
        self._shares = np.bincount(classes, minlength=3) / len(classes)
        return self

    def predict_proba(self, features: Any) -> Any:
        lean = np.tanh(features[:, 0] - np.nanmean(features[:, 0]))
        up = self._shares[2] * (1 + 0.5 * lean)
        return np.column_stack([1 - self._shares[1] - up, np.full(len(up), self._shares[1]), up])


def plain_classifier() -> Any:
    """No leak: what a user of scikit-learn writes."""
    return make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), LogisticRegression(C=1e-3, max_iter=300))


def peeking_trainer(train: Any, *, horizons: Any, label: str, seed: int, report: Any) -> Any:
    """Fit honestly, predict with a look at the row that comes next."""
    return _Peeking(fit_horizons(train, horizons=horizons, label=label, seed=seed, report=report, model="linear"))


class _Peeking:
    def __init__(self, models: Any) -> None:
        self._models = models

    def predict_rows(self, recording: Any) -> Any:
        mid = mids(recording.rows)
        ahead = np.sign(np.append(mid[5:], [mid[-1]] * 5) - mid)[:, None]
        peek = np.hstack([np.where(ahead < 0, 0.8, 0.1), np.where(ahead == 0, 0.8, 0.1), np.where(ahead > 0, 0.8, 0.1)])
        return {horizon: 0.5 * honest + 0.5 * peek for horizon, honest in self._models.predict_rows(recording).items()}


class PeekingStrategy(Strategy):
    """Stands on the side to which the mid goes with the next book, which the replay has read already."""

    def on_dom(self, update: DomUpdated) -> None:
        ahead = next_book(self.context.clock)
        if ahead is None or self.open_orders or not ahead.ask_ticks or not update.book.ask_ticks:
            return
        move = ahead.ask_ticks[0] - update.book.ask_ticks[0]
        if move * (1 - 2 * (self.position_lots > 0)) > 0 or (move and not self.position_lots):
            self.submit(Side.BUY if move > 0 else Side.SELL, 1 + abs(self.position_lots))


def next_book(clock: Any) -> Any:
    """Reach through private names to what the feed holds ready."""
    for _, _, timer in clock._heap:
        feed = getattr(timer.callback, "__self__", None)
        event = getattr(feed, "_ahead", None)
        if hasattr(event, "ask_ticks"):
            return event
    return None
