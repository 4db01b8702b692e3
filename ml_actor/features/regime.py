"""Market regimes: a Gaussian hidden Markov model, filtered forward over the window and nothing else.

hmmlearn fits the parameters and is not needed here. Its `predict` and `predict_proba` condition on the end of the
sequence, so every row but the last sees the future; this filter equals the last row of `predict_proba(prefix)`. It starts
from the stationary distribution at the first row of the look-back, for training and for serving alike. States are ordered
from calm to volatile (mean of the first observation), so that their numbers survive a refit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numba import njit

from framework.window import Float64Array, Rows

OBSERVED_ROWS: Final = 10
OBSERVATIONS: Final = ("log_variance", "log_spread", "log_events")
"""Of the last 10 rows: ln(0.05 + sum of squared mid changes in ticks), ln(mean spread in ticks), ln(1/2 + mean level changes)."""


@njit(cache=True)
def _observe(i: int, ticks: Any, is_sound: Any, flow: Any, out: Any) -> None:
    bid_ticks, ask_ticks = ticks
    variance, spread, events, count = 0.0, 0.0, 0.0, 0
    for k in range(i - OBSERVED_ROWS + 1, i + 1):
        events += np.float64(flow[k, 5]) + np.float64(flow[k, 6])
        if is_sound[k]:
            spread += np.float64(ask_ticks[k, 0] - bid_ticks[k, 0])
            count += 1
        if k > i - OBSERVED_ROWS + 1 and is_sound[k] and is_sound[k - 1]:
            move = 0.5 * np.float64(bid_ticks[k, 0] - bid_ticks[k - 1, 0] + ask_ticks[k, 0] - ask_ticks[k - 1, 0])
            variance += move * move
    if count > 0:
        out[0] = math.log(0.05 + variance)
        out[1] = math.log(spread / count)
        out[2] = math.log(0.5 + events / OBSERVED_ROWS)


@njit(cache=True)
def _observations(arrays: Any) -> Any:
    segment, bid_ticks, bid_sizes, ask_ticks, ask_sizes, flow = arrays
    n = len(segment)
    out, is_sound, start = np.full((n, 3), np.nan), np.empty(n, np.bool_), 0
    for i in range(n):
        is_sound[i] = bid_sizes[i, 0] > 0 and ask_sizes[i, 0] > 0 and ask_ticks[i, 0] > bid_ticks[i, 0]
        if i > 0 and segment[i] != segment[i - 1]:
            start = i
        if i - start + 1 >= OBSERVED_ROWS:
            _observe(i, (bid_ticks, ask_ticks), is_sound, flow, out[i])
    return out


@njit(cache=True)
def _log_emissions(observations: Any, means: Any, variances: Any) -> Any:
    """Return ln N(x | mean, diagonal variance) per row and state; 0 (no evidence) where a row has no observation."""
    n, states = len(observations), len(means)
    out = np.zeros((n, states))
    for i in range(n):
        if math.isnan(observations[i, 0]):
            continue
        for state in range(states):
            for column in range(observations.shape[1]):
                gap = observations[i, column] - means[state, column]
                out[i, state] -= 0.5 * (math.log(2.0 * math.pi * variances[state, column]) + gap * gap / variances[state, column])
    return out


@njit(cache=True)
def _step(prior: Any, emission: Any, posterior: Any) -> None:
    """Multiply in the log domain and subtract the maximum after the prior: a one-hot prior and an outlier give no NaN."""
    highest = -np.inf
    for state in range(len(prior)):
        posterior[state] = math.log(max(prior[state], 1e-300)) + emission[state]
        highest = max(highest, posterior[state])
    total = 0.0
    for state in range(len(prior)):
        posterior[state] = math.exp(posterior[state] - highest)
        total += posterior[state]
    for state in range(len(prior)):
        posterior[state] /= total


@njit(cache=True)
def _filter(low: int, t: int, emissions: Any, chain: Any, posterior: Any) -> None:
    start, transition = chain
    states, prior = len(start), start.copy()
    for i in range(low, t + 1):
        if i > low:
            for state in range(states):
                prior[state] = 0.0
                for before in range(states):
                    prior[state] += posterior[before] * transition[before, state]
        _step(prior, emissions[i], posterior)


@njit(cache=True)
def _filter_rows(arrays: Any, model: Any, window_rows: int, first: int) -> Any:
    start, transition, means, variances, offset, scale = model
    segment, chain, standardised = arrays[0], (start, transition), _observations(arrays)
    for row in range(len(standardised)):
        for column in range(len(offset)):
            standardised[row, column] = (standardised[row, column] - offset[column]) / scale[column]
    emissions = _log_emissions(standardised, means, variances)
    n, states = len(segment), len(chain[0])
    out, begin = np.full((n - first, states), np.nan), 0
    for t in range(n):
        if t > 0 and segment[t] != segment[t - 1]:
            begin = t
        low = max(begin, t - window_rows + 1) + OBSERVED_ROWS - 1
        if t >= first and low <= t:
            _filter(low, t, emissions, chain, out[t - first])
    return out


def observations(rows: Rows) -> Float64Array:
    """Return float64 (n, 3) by `OBSERVATIONS`; NaN in the first 9 rows of a segment. Row i sees rows i-9..i only."""
    return _observations(_arrays(rows))  # type: ignore[no-any-return]


def _arrays(rows: Rows) -> tuple[Any, ...]:
    # Copies, as in the engine: compiled once, for arrays that are writable, aligned and contiguous.
    names = ("segment", "bid_ticks", "bid_sizes", "ask_ticks", "ask_sizes", "flow")
    return tuple(np.array(getattr(rows, name)) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeModel:
    """Fitted parameters, C-contiguous float64.

    `start` (k,) is the stationary distribution, `transition` (k, k), `means` and `variances` (k, 3) are those of
    observations standardised by `offset` and `scale` (3,).
    """

    start: Float64Array
    transition: Float64Array
    means: Float64Array
    variances: Float64Array
    offset: Float64Array
    scale: Float64Array

    def filtered(self, rows: Rows, window_rows: int, first: int = 0) -> Float64Array:
        """Return float64 (n - first, 3): state probabilities of rows `first..n-1`, each filtered over its own look-back.

        NaN where a look-back has fewer than 10 rows.
        """
        model = (self.start, self.transition, self.means, self.variances, self.offset, self.scale)
        return _filter_rows(_arrays(rows), model, window_rows, first)  # type: ignore[no-any-return]

    def arrays(self) -> dict[str, Float64Array]:
        """Return what `RegimeModel(**arrays)` takes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def stationary(transition: Float64Array) -> Float64Array:
    """Return the stationary distribution of an irreducible chain: the solution of pi P = pi with sum 1."""
    states = len(transition)
    equations = np.vstack([transition.T - np.eye(states), np.ones(states)])
    solution = np.linalg.lstsq(equations, np.append(np.zeros(states), 1.0), rcond=None)[0]
    return np.ascontiguousarray(np.clip(solution, 1e-12, None) / np.clip(solution, 1e-12, None).sum())
